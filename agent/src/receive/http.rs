//! Parcels over HTTP: a POST to any path; GET `/report` returns the report. A parcel with a different history gets 409,
//! so that the gateway does not count it as delivered.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use fieldlog_wire::api::problem;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{AcceptError, ReceiveError, Receiver};

/// How long a stop waits for running requests.
const STOP_GRACE: Duration = Duration::from_secs(5);

pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, ReceiveError> {
    TcpListener::bind(address).await.map_err(|source| ReceiveError::Listen { address, source })
}

#[derive(Clone)]
struct App {
    receiver: Arc<Receiver>,
    bytes_max: usize,
}

pub(super) async fn serve(
    listener: TcpListener,
    receiver: Arc<Receiver>,
    bytes_max: usize,
    mut stopped: watch::Receiver<bool>,
) {
    let app = App { receiver, bytes_max };
    let router = Router::new().route("/report", get(report)).fallback(parcel).with_state(app);
    let mut late = stopped.clone();
    let stop = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop);
    let too_late = async move {
        let _ = late.wait_for(|stop| *stop).await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::select! {
        result = serving => {
            if let Err(error) = result {
                tracing::error!("the HTTP server stopped: {error}");
            }
        }
        () = too_late => tracing::warn!("some HTTP requests were still in progress and were not acknowledged"),
    }
}

async fn report(State(app): State<App>) -> Response {
    Json(app.receiver.report()).into_response()
}

async fn parcel(State(app): State<App>, request: axum::extract::Request) -> Response {
    let (head, body) = request.into_parts();
    if head.method != axum::http::Method::POST {
        return answer(
            StatusCode::METHOD_NOT_ALLOWED,
            "send parcels by POST; GET /report shows what has arrived",
        );
    }
    let bytes = match read(&head.headers, body, app.bytes_max).await {
        Ok(bytes) => bytes,
        Err(response) => return response,
    };
    let done = tokio::task::spawn_blocking(move || app.accept(&head.headers, &bytes)).await;
    done.unwrap_or_else(|_| answer(StatusCode::INTERNAL_SERVER_ERROR, "the parcel could not be worked on"))
}

async fn read(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, Response> {
    let length =
        headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if length.is_some_and(|length| length > bytes_max) {
        return Err(too_large(bytes_max));
    }
    to_bytes(body, bytes_max).await.map_err(|error| {
        // The size limit is the only cause other than a broken connection, where nobody reads the answer.
        tracing::debug!("a body was not read: {error}");
        too_large(bytes_max)
    })
}

impl App {
    fn accept(&self, headers: &HeaderMap, bytes: &[u8]) -> Response {
        let mut plain = Vec::new();
        let body = match headers.get(CONTENT_ENCODING).map(hyper::http::HeaderValue::as_bytes) {
            None | Some(b"identity") => bytes,
            Some(b"gzip") => {
                let limit = self.bytes_max as u64 + 1;
                let read = flate2::read::GzDecoder::new(bytes).take(limit).read_to_end(&mut plain);
                if read.is_err() {
                    return answer(StatusCode::BAD_REQUEST, "the body is not gzip");
                }
                if plain.len() > self.bytes_max {
                    return too_large(self.bytes_max);
                }
                &plain[..]
            }
            Some(_) => return answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send it plain or as gzip"),
        };
        let field =
            |name: &str| headers.get(format!("fieldlog-{name}")).and_then(|value| value.to_str().ok());
        match self.receiver.take_unless_forked(body, field) {
            Ok(()) => StatusCode::NO_CONTENT.into_response(),
            Err(error @ AcceptError::Malformed(_)) => {
                tracing::warn!("a request was not a valid parcel: {error}");
                answer(StatusCode::BAD_REQUEST, &error.to_string())
            }
            Err(error @ AcceptError::Forked { .. }) => forked(&error.to_string()),
            Err(error @ AcceptError::Store) => answer(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        }
    }
}

fn too_large(bytes_max: usize) -> Response {
    answer(StatusCode::PAYLOAD_TOO_LARGE, &format!("at most {bytes_max} bytes, compressed or not"))
}

/// As problem details (RFC 9457) with a type that the gateway knows.
fn forked(words: &str) -> Response {
    (StatusCode::CONFLICT, [(CONTENT_TYPE, problem::CONTENT_TYPE)], problem::fork(words)).into_response()
}

fn answer(status: StatusCode, words: &str) -> Response {
    (status, format!("{words}\n")).into_response()
}
