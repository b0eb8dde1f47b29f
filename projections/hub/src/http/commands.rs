//! Commands to devices of gateways, over NATS or MQTT.
//!
//! The gateway checks, records and carries them out; what becomes of them comes back with its events. The hub keeps nothing of
//! a command, so it carries out none twice: whoever has no answer asks again with the same key.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fieldlog_projections::{TraceParent, trace};
use fieldlog_wire::api::commands::{BODY_BYTES_MAX, RemoteAnswer};
use fieldlog_wire::api::hub::CommandTaken;
use fieldlog_wire::resend;
use serde::Deserialize;

use super::App;
use super::problem::Problem;
use super::reading::{Part, Reading, allow, position};
use crate::request::{self, Silence};
use crate::token::Scope;

/// What the hub reads of a command; the gateway reads the rest.
#[derive(Deserialize)]
struct Ttl {
    ttl_s: u32,
}

/// How long a gateway may take to record a command.
const ANSWER: Duration = Duration::from_secs(5);

/// `POST /api/v1/gateways/{gateway}/devices/{device}/commands`
pub(super) async fn ask(
    State(app): State<App>,
    Part { gateway, device, .. }: Part,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    if app.tokens.is_empty() {
        let detail = "commands need a [[token]] with the scope \"command\" in the configuration of the hub";
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "Commands are switched off", detail));
    }
    allow(&head, &app, Scope::Command)?;
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        let detail = "send the command as JSON, with `Content-Type: application/json`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", "Not JSON", detail));
    }
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        let detail = format!("the body cannot be read, or has more than {BODY_BYTES_MAX} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The command is too large", detail)
    })?;
    known(&app, &gateway).await?;
    if device == resend::SUBJECT {
        return Err(unsaid(&format!("`{device}` stands for no device")));
    }
    let traceparent = TraceParent::only(head.headers.get_all(trace::NAME).iter().map(HeaderValue::as_bytes));
    let counters = &app.counters.commands;
    // What a broker would keep for longer, the gateway would not carry out any more.
    let expiry =
        serde_json::from_slice(&body).map_or(ANSWER, |Ttl { ttl_s }| Duration::from_secs(ttl_s.into()));
    let call = request::Request { body, wait: ANSWER, expiry, traceparent };
    let answer = app.calls.ask(&gateway, &device, &call).await.map_err(|silence| {
        counters.unanswered.fetch_add(1, Ordering::Relaxed);
        silent(&app, &gateway, &silence)
    })?;
    let answer: RemoteAnswer<'_> = serde_json::from_slice(&answer).map_err(|error| {
        let detail = format!(
            "what answers in place of `{gateway}` is no gateway ({error}); does a stream take the subject?"
        );
        Problem::new(StatusCode::BAD_GATEWAY, "bad-answer", "The answer cannot be read", detail)
    })?;
    let Some(command) = answer.command else {
        counters.refused.fetch_add(1, Ordering::Relaxed);
        return Err(Problem::refused(&answer));
    };
    counters.taken.fetch_add(1, Ordering::Relaxed);
    let url = format!("/api/v1/gateways/{gateway}/commands/{command}");
    let status = if answer.closed { StatusCode::OK } else { StatusCode::ACCEPTED };
    let headers = [(header::LOCATION, &*url), (header::CACHE_CONTROL, "no-store")];
    let is_repeated = answer.repeated;
    let taken = axum::Json(CommandTaken { url: url.as_str().into(), answer });
    let mut response = (status, headers, taken).into_response();
    if is_repeated {
        response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// That there is such a gateway, and no other one has its subject.
async fn known(app: &App, gateway: &str) -> Result<(), Problem> {
    let same = "SELECT gateway FROM gateways WHERE translate(gateway, '.', '_') = translate($1, '.', '_')";
    let rows = app.readers.query(same, &[&gateway]).await.map_err(|why| Problem::database(&why))?;
    let (this, others): (Vec<String>, Vec<String>) =
        rows.iter().map(|row| row.get(0)).partition(|name: &String| name == gateway);
    if this.is_empty() {
        let detail =
            format!("no gateway `{gateway}` has sent anything; /api/v1/gateways lists those that have");
        return Err(Problem::new(StatusCode::NOT_FOUND, "no-such-gateway", "No such gateway", detail));
    }
    if let Some(other) = others.first() {
        let detail = format!(
            "`{gateway}` and `{other}` have the same subject, where dots are underscores: give one of them another `gateway_id`"
        );
        return Err(Problem::new(StatusCode::CONFLICT, "ambiguous", "Two gateways have one subject", detail));
    }
    Ok(())
}

fn unsaid(detail: &str) -> Problem {
    let detail = format!("{detail}; command the device at its gateway");
    Problem::new(StatusCode::CONFLICT, "no-such-subject", "The device cannot be named from here", detail)
}

/// Why a gateway has not answered.
fn silent(app: &App, gateway: &str, silence: &Silence) -> Problem {
    let new = Problem::new;
    let words = silence.to_string();
    match silence {
        Silence::Unsaid(_) => unsaid(&words),
        Silence::Late(..) => {
            let detail = format!(
                "{words}: whether `{gateway}` has recorded the command is unknown. Ask again with the same `idempotency_key`: \
                 it is carried out once at most"
            );
            new(StatusCode::GATEWAY_TIMEOUT, "no-answer", "The gateway does not answer", detail)
        }
        Silence::Refused(..) | Silence::Away(..) => {
            let detail = format!("{words}. Nothing was sent");
            new(StatusCode::BAD_GATEWAY, "no-way", "The gateway cannot be asked", detail)
        }
        Silence::Nobody(_) | Silence::Unconnected if app.intake.wanted.posts(gateway) => {
            let detail = format!(
                "`{gateway}` sends its events over HTTP, and no command gets to it that way: give it a sink of NATS or MQTT with \
                 [sink.commands], or command the device at the gateway. Nothing was sent"
            );
            new(StatusCode::CONFLICT, "no-command-channel", "The gateway takes no commands from here", detail)
        }
        Silence::Nobody(_) | Silence::Unconnected => {
            let detail = format!("{words}. Nothing was sent, so the command will not be carried out later");
            new(StatusCode::SERVICE_UNAVAILABLE, "gateway-away", "The gateway cannot be reached", detail)
        }
    }
}

/// `GET /api/v1/gateways/{gateway}/commands/{command}`: where it is, and every step of it that has arrived.
pub(super) async fn one(
    State(app): State<App>,
    Part { gateway, command, .. }: Part,
    _: Reading,
) -> Result<Response, Problem> {
    let command = position("command", &command).map_err(|_| {
        Problem::bad_parameter(format!("`{command}` is no command: its id is the position of its request"))
    })?;
    let select = "SELECT row_to_json(t)::text FROM (
        SELECT c.command, c.device, c.request, c.requested, c.state, c.step, c.seq, c.changed,
            (SELECT coalesce(json_agg(json_build_object('seq', e.seq, 'recorded', e.recorded, 'type', e.type, 'data', e.data)
                ORDER BY e.seq), '[]')
             FROM events e WHERE e.log = c.log AND e.device = c.device AND e.seq BETWEEN c.command AND c.seq
                AND (e.seq = c.command OR e.type LIKE 'command%' AND e.data ->> 'command' = c.command::text)) AS steps
        FROM gateways g JOIN commands c USING (log) WHERE g.gateway = $1 AND c.command = $2) t";
    let rows = app.readers.query(select, &[&gateway, &command]).await;
    let rows = rows.map_err(|why| Problem::database(&why))?;
    let Some(row) = rows.first() else {
        let detail = format!(
            "nothing has arrived of a command {command} in the newest log of `{gateway}`; it comes with the gateway's events"
        );
        return Err(Problem::new(StatusCode::NOT_FOUND, "no-such-command", "No such command", detail));
    };
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, row.get::<_, String>(0)).into_response())
}
