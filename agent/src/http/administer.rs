//! Calls that change something, other than commands: devices and the quarantine. The writer carries them out.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::to_bytes;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use fieldlog_projections::Seq;
use fieldlog_wire::api::administer::{
    DeviceDone, KeptJson, QuarantineBody, QuarantineDone, ReasonBody, RenameBody, ResolvedJson,
};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::App;
use super::answer::answer;
use super::body::encode;
use super::commands::is_json;
use super::gate::Actor;
use super::params::Params;
use super::problem::Problem;
use crate::writer::{Call, Code, Done, Filter, Input, Order, Refused};

/// Largest body of a call, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Longest reason, in bytes.
const REASON_BYTES_MAX: usize = 512;
/// How long the writer may take to answer; it has then stopped or is stuck.
const ANSWER_MAX: Duration = Duration::from_secs(30);
const LIMIT_MAX: u64 = 1_000;
const LIMIT_DEFAULT: u64 = 100;

const RETIRED: &str = "the device is retired: its state and history stay, and it comes back as soon as it is heard again. A \
                       message of it that the broker has retained brings it back, too; delete that at the broker";
const FORGOTTEN: &str = "the state and the names of the device are dropped. Its records stay in the log until retention \
                         deletes them, and whoever received them upstream keeps them. If it is heard again, it is a new \
                         device";
const RENAMED: &str = "number and history of the device stay, and its former id still finds it. At its source it is called as \
                       before";

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        let (status, code, title) = match refused.code {
            Code::NoSuchDevice => (StatusCode::NOT_FOUND, "no-such-device", "No such device"),
            Code::NoSuchInput => (StatusCode::NOT_FOUND, "no-such-payload", "No such payload"),
            Code::Invalid => (StatusCode::BAD_REQUEST, "bad-call", "The call cannot be carried out"),
            Code::Conflict => (StatusCode::CONFLICT, "conflict", "It does not fit what is there"),
            Code::RefusedAgain => {
                (StatusCode::UNPROCESSABLE_ENTITY, "refused-again", "The input stays in the quarantine")
            }
            Code::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not possible now"),
        };
        Problem::new(status, code, title, refused.reason)
    }
}

/// `POST /api/v1/devices/{id}/retire`
pub(super) async fn retire(
    State(app): State<Arc<App>>,
    Path(device): Path<String>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<Response, Problem> {
    let ReasonBody { reason } = read(request, "{\"reason\": \"taken down\"}").await?;
    let done = order(&app, actor, Call::Retire(device), reason).await?;
    of_device(&app, &done, RETIRED)
}

/// `POST /api/v1/devices/{id}/forget`
pub(super) async fn forget(
    State(app): State<Arc<App>>,
    Path(device): Path<String>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<Response, Problem> {
    let ReasonBody { reason } = read(request, "{\"reason\": \"sold\"}").await?;
    let done = order(&app, actor, Call::Forget(device), reason).await?;
    of_device(&app, &done, FORGOTTEN)
}

/// `POST /api/v1/devices/{id}/rename`
pub(super) async fn rename(
    State(app): State<Arc<App>>,
    Path(device): Path<String>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<Response, Problem> {
    let RenameBody { id: to, reason } = read(request, "{\"id\": \"the new id\"}").await?;
    let done = order(&app, actor, Call::Rename { device, to }, reason).await?;
    of_device(&app, &done, RENAMED)
}

/// `POST /api/v1/quarantine/{seq}/requeue`
pub(super) async fn requeue_one(
    State(app): State<Arc<App>>,
    Path(seq): Path<String>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<Response, Problem> {
    let ReasonBody { reason } = read(request, "{\"reason\": \"the rule is corrected\"}").await?;
    let done = order(&app, actor, Call::Requeue(input(&seq)?), reason).await?;
    of_quarantine(&app, &done)
}

/// `DELETE /api/v1/quarantine/{seq}`
pub(super) async fn purge_one(
    State(app): State<Arc<App>>,
    Path(seq): Path<String>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["reason"])?;
    let reason = params.text("reason").unwrap_or_default().to_owned();
    let done = order(&app, actor, Call::Purge(input(&seq)?), reason).await?;
    of_quarantine(&app, &done)
}

/// `POST /api/v1/quarantine/requeue`
pub(super) async fn requeue(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<Response, Problem> {
    let body: QuarantineBody = read(request, "{\"topic\": \"plant/*\"}").await?;
    let call = Call::RequeueAll(filter(&body)?);
    let done = order(&app, actor, call, body.reason).await?;
    of_quarantine(&app, &done)
}

/// `POST /api/v1/quarantine/purge`
pub(super) async fn purge(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<Response, Problem> {
    let body: QuarantineBody = read(request, "{\"topic\": \"plant/*\"}").await?;
    let call = Call::PurgeAll(filter(&body)?);
    let done = order(&app, actor, call, body.reason).await?;
    of_quarantine(&app, &done)
}

fn input(seq: &str) -> Result<Seq, Problem> {
    seq.parse().map(Seq).map_err(|_| {
        let detail =
            format!("`{seq}` is not a sequence number; /api/v1/quarantine lists the inputs that are kept");
        Problem::not_found("no-such-payload", "No such payload", detail)
    })
}

fn filter(body: &QuarantineBody) -> Result<Filter, Problem> {
    if body.source.is_none() && body.topic.is_none() {
        let detail = "give `source` or `topic`, so that nothing is dealt with by mistake; {\"topic\": \"*\"} means all";
        return Err(bad(detail));
    }
    let limit = body.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(bad(format!("`limit` is {limit}; it must be a whole number from 1 to {LIMIT_MAX}")));
    }
    let all = || "*".to_owned();
    Ok(Filter {
        source: body.source.clone().unwrap_or_else(all),
        topic: body.topic.clone().unwrap_or_else(all),
        after: body.after.unwrap_or(Seq(0)),
        limit: limit as usize,
    })
}

pub(super) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-call", "The call cannot be read", detail)
}

/// The body; one that is left out is `{}`.
pub(super) async fn read<T: DeserializeOwned>(request: Request, example: &str) -> Result<T, Problem> {
    Params::of(request.uri(), &[])?;
    let json = is_json(request.headers());
    let bytes = to_bytes(request.into_body(), BODY_BYTES_MAX).await.map_err(|_| {
        let detail = format!("the body cannot be read, or has more than {BODY_BYTES_MAX} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail)
    })?;
    if !bytes.is_empty() && !json {
        let detail = "send the body as JSON, with `Content-Type: application/json`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", "Not JSON", detail));
    }
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| bad(format!("{error}; a body looks like {example}")))
}

/// Has the writer carry out a call.
pub(super) async fn order(
    app: &App,
    Actor(actor): Actor,
    call: Call,
    reason: String,
) -> Result<Done, Problem> {
    if reason.len() > REASON_BYTES_MAX {
        return Err(bad(format!("`reason` has {} bytes; {REASON_BYTES_MAX} are the most", reason.len())));
    }
    let _asking = app.asking.try_acquire().map_err(|_| {
        Problem::busy("the writer is busy with as many calls as it takes at a time; try again")
    })?;
    let (reply, answered) = oneshot::channel();
    let order = Order { actor: actor.to_string(), call, reason, reply };
    app.side.inputs.send(Input::Administer(Box::new(order))).map_err(|_| Problem::stopping())?;
    let answered = tokio::time::timeout(ANSWER_MAX, answered).await.map_err(|_| {
        Problem::busy(
            "the log did not record the call in time, and may still do so; /api/v1/events?type=administered shows whether it \
             has",
        )
    })?;
    // Whoever was to answer is gone.
    Ok(answered.map_err(|_| Problem::stopping())??)
}

fn of_device(app: &App, done: &Done, note: &'static str) -> Result<Response, Problem> {
    let at = app.with_view(|_, at| Ok(at))?;
    let json = DeviceDone {
        position: at.into(),
        seq: done.seq.unwrap_or_default(),
        device: done.device.as_str().into(),
        commands_given_up: done.commands as u64,
        note: note.into(),
    };
    Ok(answer(encode(&app.budget, &json)?, at))
}

fn of_quarantine(app: &App, done: &Done) -> Result<Response, Problem> {
    let at = app.with_view(|_, at| Ok(at))?;
    let resolved =
        done.inputs.iter().map(|(input, records)| ResolvedJson { input: *input, records: *records as u64 });
    let kept = done.kept.iter().map(|(input, reason)| KeptJson { input: *input, reason: reason.into() });
    let json = QuarantineDone {
        position: at.into(),
        seq: done.seq,
        resolved: resolved.collect(),
        kept: kept.collect(),
        next: done.next,
    };
    Ok(answer(encode(&app.budget, &json)?, at))
}
