//! Parcels by POST, as a gateway's HTTP sink sends them. The answer is the acknowledgement: 204 after the commit, or 200
//! if something is missing that the gateway is to send again.

use std::io::Read;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use fieldlog_wire::api::problem;
use fieldlog_wire::resend;

use super::App;
use crate::intake::Refusal;
use crate::parcel::Parcel;
use crate::token::{Admission, Scope, admit};

/// The status and the words of an answer to a request that is not taken.
type Refused = (StatusCode, String);

/// Takes one parcel.
pub(super) async fn parcel(State(app): State<App>, request: axum::extract::Request) -> Response {
    let (head, body) = request.into_parts();
    match admit(&app.tokens, &head.headers, Scope::Ingest) {
        Admission::Admitted => {}
        Admission::Unknown => {
            let mut response =
                answer((StatusCode::UNAUTHORIZED, "a token is needed: set `token_file` of the sink".into()));
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"fieldlog\""));
            return response;
        }
        Admission::Forbidden => {
            let words = "this token does not allow to send: it needs the scope \"ingest\"";
            return answer((StatusCode::FORBIDDEN, words.into()));
        }
    }
    let length = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(app.parcel_bytes_max);
    if length > app.parcel_bytes_max {
        return answer(too_large(app.parcel_bytes_max));
    }
    let Some(_room) = app.intake.room(length).await else { return busy("the hub is being stopped") };
    let bytes = match read(body, app.parcel_bytes_max).await {
        Ok(bytes) => bytes,
        Err(refused) => return answer(refused),
    };
    let bytes_max = app.parcel_bytes_max;
    let decoded = tokio::task::spawn_blocking(move || decode(&head.headers, &bytes, bytes_max)).await;
    let parcel = match decoded {
        Ok(Ok(parcel)) => parcel,
        Ok(Err(refused)) => {
            app.counters.malformed.fetch_add(1, Ordering::Relaxed);
            return answer(refused);
        }
        Err(_) => {
            return answer((StatusCode::INTERNAL_SERVER_ERROR, "the parcel could not be worked on".into()));
        }
    };
    let (gateway, epoch) = (parcel.manifest().gateway.clone(), parcel.manifest().epoch.to_string());
    match app.intake.take(parcel).await {
        Ok(()) => match app.intake.wanted.take(&gateway, &epoch) {
            Some(resend) => {
                let headers = [(CONTENT_TYPE, resend::CONTENT_TYPE)];
                (headers, Json(resend::Request { resend })).into_response()
            }
            None => StatusCode::NO_CONTENT.into_response(),
        },
        Err(Refusal::Forked(why)) => forked(&format!("gateway {gateway} epoch {epoch}: {why}")),
        Err(Refusal::Busy(why)) => busy(&why),
    }
}

async fn read(body: Body, bytes_max: usize) -> Result<Bytes, Refused> {
    to_bytes(body, bytes_max).await.map_err(|error| {
        // The size limit is the only cause other than a broken connection, where nobody reads the answer.
        tracing::debug!("a body was not read: {error}");
        too_large(bytes_max)
    })
}

/// Reads a body. Blocking.
fn decode(headers: &HeaderMap, bytes: &[u8], bytes_max: usize) -> Result<Parcel, Refused> {
    let mut plain = Vec::new();
    let body = match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => bytes,
        Some(b"gzip") => {
            let limit = bytes_max as u64 + 1;
            let read = flate2::read::GzDecoder::new(bytes).take(limit).read_to_end(&mut plain);
            if read.is_err() {
                return Err((StatusCode::BAD_REQUEST, "the body is not gzip".into()));
            }
            if plain.len() > bytes_max {
                return Err(too_large(bytes_max));
            }
            &plain[..]
        }
        Some(_) => return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "send it plain or as gzip".into())),
    };
    let field = |name: &str| headers.get(format!("fieldlog-{name}")).and_then(|value| value.to_str().ok());
    Parcel::read(body, field).map_err(|error| {
        tracing::warn!("a request was not a parcel: {error}");
        (StatusCode::BAD_REQUEST, error.to_string())
    })
}

fn too_large(bytes_max: usize) -> Refused {
    (StatusCode::PAYLOAD_TOO_LARGE, format!("at most {bytes_max} bytes, compressed or not"))
}

fn busy(words: &str) -> Response {
    let mut response = answer((StatusCode::SERVICE_UNAVAILABLE, words.into()));
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// As problem details (RFC 9457) with a type that the gateway knows.
fn forked(words: &str) -> Response {
    (StatusCode::CONFLICT, [(CONTENT_TYPE, problem::CONTENT_TYPE)], problem::fork(words)).into_response()
}

fn answer((status, words): Refused) -> Response {
    (status, format!("{words}\n")).into_response()
}
