//! Commands to devices: asking for one, and what has become of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use fieldlog_projections::command::CommandState;
use fieldlog_projections::commands::Command;
use fieldlog_projections::view::ValuesOf;
use fieldlog_projections::{Commands, Device, DeviceId, Seq, TraceParent, Value, ValueRef, View, trace};
use fieldlog_wire::api::commands::{
    CommandAnswer, CommandJson, CommandPage, CommandSetAnswer, DeclaredJson, DesiredJson, ReportedJson,
    TwinAnswer, refusal, state_named,
};
use fieldlog_wire::api::devices::AsOf;
use fieldlog_wire::json::Rfc3339;
use tokio::sync::{Semaphore, oneshot};

use super::answer::answer;
use super::body::encode;
use super::gate::Actor;
use super::params::Params;
use super::past::at_moment;
use super::position::At;
use super::problem::Problem;
use super::{App, WAITS_MAX, devices, stopped};
use crate::command::declared::{Declared, Rejected, Target, to_json};
use crate::command::{Asked, BODY_BYTES_MAX, Unreadable, read_body};
use crate::config::EvidenceKind;
use crate::recovery::past::Wanted;
use crate::sorted;
use crate::writer::Input;

mod kept;

/// What a past state needs for answers about commands.
const COMMANDS: Wanted<'static> = Wanted { folds: &[Commands::ID], values: ValuesOf::None };
/// Commands that may be on their way to the writer at a time; more get 503.
pub(super) const ASKING_MAX: usize = 512;
/// How long the writer may take to answer; it has then stopped or is stuck.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Longest `wait`, in seconds.
const WAIT_MAX_S: u64 = 60;
const LIMIT_MAX: u64 = 1_000;
const LIMIT_DEFAULT: u64 = 100;

/// How many commands are on their way to the writer.
pub(super) type Asking = Semaphore;

impl From<Rejected> for Problem {
    fn from(rejected: Rejected) -> Problem {
        let (status, title) = refusal(rejected.code.word());
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::CONFLICT);
        Problem::new(status, rejected.code.word(), title, rejected.reason).with_changed_seq(rejected.current)
    }
}

/// `POST /api/v1/devices/{id}/commands`
pub(super) async fn ask(
    State(app): State<Arc<App>>,
    Path(device): Path<String>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<Response, Problem> {
    let params = Params::of(request.uri(), &["wait"])?;
    let wait = params.number("wait", 0..=WAIT_MAX_S)?.map(Duration::from_secs);
    let actor = actor.0.to_string();
    let given = request.headers().get_all(trace::NAME).iter();
    let traceparent = TraceParent::only(given.map(HeaderValue::as_bytes));
    let body = match read_body(&read(request).await?) {
        Ok(body) => body,
        Err(rejected) => return Err(unreadable(&app, actor, device, rejected).await),
    };
    let (reply, answered) = oneshot::channel();
    let asked = Asked {
        actor,
        device,
        only: Arc::default(),
        body: body.clone(),
        ttl_max_s: None,
        traceparent,
        patient: false,
        reply,
    };
    let accepted = {
        let _asking = app.asking.try_acquire().map_err(|_| {
            Problem::busy(format!(
                "{ASKING_MAX} commands are being recorded, which is the most at a time; try again"
            ))
        })?;
        app.side.inputs.send(Input::Command(Box::new(asked))).map_err(|_| Problem::stopping())?;
        let answered = tokio::time::timeout(ANSWER_MAX, answered).await;
        let answered = answered.map_err(|_| {
            Problem::busy("the log did not record the command in time; ask again with the same key to learn what became of it")
        })?;
        // Whoever was to answer is gone.
        answered.map_err(|_| Problem::stopping())??
    };
    if let Some(wait) = wait {
        closed(&app, accepted.command, wait).await?;
    }
    let (at, json) = kept::find(&app, accepted.command, Some(body)).await?;
    let status = if json.closed { StatusCode::OK } else { StatusCode::ACCEPTED };
    let url = HeaderValue::from_str(&json.url);
    let body = encode(&app.budget, &CommandAnswer { position: at.into(), as_of: None, command: json })?;
    let mut response = answer(body, at);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Ok(url) = url {
        headers.insert(header::LOCATION, url);
    }
    if accepted.repeated {
        headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The body. Only JSON is taken: a page elsewhere cannot have a browser send that without asking first.
async fn read(request: Request) -> Result<Bytes, Problem> {
    if !is_json(request.headers()) {
        let detail = "send the command as JSON, with `Content-Type: application/json`";
        let title = "Not JSON";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", title, detail));
    }
    to_bytes(request.into_body(), BODY_BYTES_MAX).await.map_err(|_| {
        let detail = format!("the body cannot be read, or has more than {BODY_BYTES_MAX} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The command is too large", detail)
    })
}

/// Has the writer note what cannot be a command.
async fn unreadable(app: &App, actor: String, device: String, rejected: Rejected) -> Problem {
    let Ok(_asking) = app.asking.try_acquire() else {
        app.side.shared.stats.commands.rejected(rejected.code);
        return rejected.into();
    };
    let (noted, was_noted) = oneshot::channel();
    let input = Unreadable { actor, device, rejected: rejected.clone(), noted };
    if app.side.inputs.send(Input::Unreadable(Box::new(input))).is_ok() {
        // The answer does not depend on it, only how many can be on their way.
        let _ = tokio::time::timeout(ANSWER_MAX, was_noted).await;
    }
    rejected.into()
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Waits until nothing more is to be expected of a command soon, for so long at most.
async fn closed(app: &App, command: Seq, wait: Duration) -> Result<(), Problem> {
    let _waiting = app.waits.try_acquire().map_err(|_| {
        Problem::busy(format!(
            "{WAITS_MAX} requests wait, which is the most at a time; ask again without `wait`"
        ))
    })?;
    let mut position = app.side.shared.position.subscribe();
    let mut stop = app.stop.clone();
    let settled = async {
        loop {
            let driven = app.with_view(|view, _| {
                Ok(view
                    .commands
                    .get(command)
                    .is_some_and(|command| !command.is_closed() && command.state.is_driven()))
            })?;
            if !driven || position.changed().await.is_err() {
                return Ok(());
            }
        }
    };
    tokio::select! {
        settled = tokio::time::timeout(wait, settled) => settled.unwrap_or(Ok(())),
        () = stopped(&mut stop) => Ok(()),
    }
}

fn find_in(view: &View, command: Seq) -> Result<CommandJson<'static>, Problem> {
    let missing = || match command > view.seq {
        true => {
            let detail = format!(
                "a command {command} was not asked for by then: that state is the one at sequence {}",
                view.seq
            );
            Problem::not_found("no-such-command", "No such command", detail)
        }
        false => kept::missing(command),
    };
    Ok(kept::whole(view, view.commands.get(command).ok_or_else(missing)?))
}

/// `GET /api/v1/commands/{id}`
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["at"])?;
    let command = Seq(id.parse().map_err(|_| {
        Problem::not_found(
            "no-such-command",
            "No such command",
            "the id of a command is a number, as in its answer",
        )
    })?);
    if params.text("at").is_none() {
        let (at, command) = kept::find(&app, command, None).await?;
        let body = encode(&app.budget, &CommandAnswer { position: at.into(), as_of: None, command })?;
        return Ok(answer(body, at));
    }
    at_moment(&app, &params, COMMANDS, move |view, position, as_of, budget| {
        let command = find_in(view, command)?;
        encode(budget, &CommandAnswer { position: position.into(), as_of, command })
    })
    .await
}

/// `GET /api/v1/commands`
pub(super) async fn list(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["device", "state", "actor", "open", "limit", "before", "at"])?;
    page(&app, &params, params.text("device")).await
}

/// `GET /api/v1/devices/{id}/commands`
pub(super) async fn of_device(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["state", "actor", "open", "limit", "before", "at"])?;
    page(&app, &params, Some(&id)).await
}

async fn page(app: &App, params: &Params, device: Option<&str>) -> Result<Response, Problem> {
    let (limit, before) = (params.limit(LIMIT_MAX, LIMIT_DEFAULT)?, params.seq("before")?);
    let states = params.text("state").map(states).transpose()?;
    let (actor, open) = (params.text("actor").map(str::to_owned), params.flag("open")?);
    let device: Option<DeviceId> =
        device.map(|name| app.with_view(|view, _| Ok(devices::find(&view.devices, name)?.0))).transpose()?;
    at_moment(app, params, COMMANDS, move |view, position, as_of, budget| {
        let wanted = |command: &&Command| {
            before.is_none_or(|before| command.seq < before)
                && device.is_none_or(|device| command.device == device)
                && states.as_ref().is_none_or(|states| states.contains(&command.state))
                && actor.as_ref().is_none_or(|actor| command.request.actor == *actor)
                && (!open || !command.is_closed())
        };
        let mut found: Vec<&Command> =
            view.commands.open().chain(view.commands.ended()).filter(wanted).collect();
        found.sort_unstable_by_key(|command| std::cmp::Reverse(command.seq));
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|command| command.seq);
        let commands = found.into_iter().map(|command| kept::whole(view, command)).collect();
        encode(budget, &CommandPage { position: position.into(), as_of, commands, next })
    })
    .await
}

fn states(text: &str) -> Result<Vec<CommandState>, Problem> {
    let parse = |name: &str| {
        state_named(name).ok_or_else(|| {
            let names = CommandState::ALL.map(CommandState::word).join(", ");
            Problem::bad_parameter(format!("no command state is called `{name}`; the states are {names}"))
        })
    };
    text.split(',').map(parse).collect()
}

/// `GET /api/v1/devices/{id}/command-set`
pub(super) async fn set(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    Params::of(&uri, &[])?;
    let config = app.side.config.borrow().clone();
    let (at, body) = app.with_view(|view, at| {
        let (_, device) = devices::find(&view.devices, &id)?;
        let target = Target::find(&config, view, &device.name)?;
        let declared = target.declared();
        let commands = declared.iter().map(declared_json).collect();
        let answer = CommandSetAnswer { position: at.into(), device: target.name().into(), commands };
        Ok((at, encode(&app.budget, &answer)?))
    })?;
    Ok(answer(body, at))
}

fn declared_json<'a>(declared: &'a Declared<'_>) -> DeclaredJson<'a> {
    let value = &declared.value;
    DeclaredJson {
        name: declared.name.as_str().into(),
        operation: declared.rule.is_operation(),
        data_type: value.data_type.word().into(),
        min: value.min,
        max: value.max,
        step: value.step,
        values: value.values.clone(),
        unit: value.unit.as_str().into(),
        idempotent: declared.rule.idempotent,
        on_offline: declared.rule.on_offline.word().into(),
        evidence: match declared.rule.evidence {
            EvidenceKind::Reported => "reported",
            EvidenceKind::Reply => "reply",
            EvidenceKind::None => "none",
        }
        .into(),
    }
}

/// `GET /api/v1/devices/{id}/twin`
pub(super) async fn twin(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["at"])?;
    let known = app.with_view(|view, _| devices::Known::find(&view.devices, &id))?;
    let wanted = Wanted { values: ValuesOf::Device(known.id), ..COMMANDS };
    at_moment(&app, &params, wanted, move |view, position, as_of, budget| {
        let device = view.devices.get(known.id).ok_or_else(|| known.not_yet())?;
        encode(budget, &twin_of(view, (known.id, device), position, as_of))
    })
    .await
}

fn twin_of<'a>(
    view: &'a View,
    (id, device): (DeviceId, &'a Device),
    position: At,
    as_of: Option<AsOf>,
) -> TwinAnswer<'a> {
    let desired = view.commands.desired(id).map(|(name, desired)| {
        let value = to_json(desired.value.borrow());
        (name.into(), DesiredJson { value, command: desired.command, at: Rfc3339(desired.time) })
    });
    let reported = device.attributes.iter().filter(|slot| slot.value != Value::Null).filter_map(|slot| {
        let name = view.devices.attribute_name(slot.id)?;
        let value = to_json(slot.value.borrow());
        Some((name.into(), ReportedJson { value, seq: slot.seq, at: Rfc3339(slot.time) }))
    });
    let delta = view.commands.desired(id).filter_map(|(name, desired)| {
        let slot = view.devices.attribute_named(name).and_then(|attr| device.value(attr));
        let reported = slot.map_or(ValueRef::Null, |slot| slot.value.borrow());
        let same = reported.same(desired.value.borrow());
        (!same).then(|| (name.into(), to_json(desired.value.borrow())))
    });
    TwinAnswer {
        position: position.into(),
        as_of,
        device: (&*device.name).into(),
        desired: sorted::map(desired),
        reported: sorted::map(reported),
        delta: sorted::map(delta),
    }
}
