//! A command as an answer shows it: whole, or as far as it is still known.

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::StatusCode;
use fieldlog_projections::command::{CommandRequest, Progress};
use fieldlog_projections::commands::{ActorKey, Command, Ended};
use fieldlog_projections::{Fact, Seq, View};
use fieldlog_wire::api::commands::{CommandBody, CommandJson};
use fieldlog_wire::json::Rfc3339;

use super::super::events;
use super::super::past::ready;
use super::super::position::At;
use super::super::problem::Problem;
use super::{App, COMMANDS};
use crate::command::declared::to_json;

/// What was asked for.
#[derive(Debug)]
struct Wanted {
    actor: String,
    key: String,
    name: String,
    operation: bool,
    value: serde_json::Value,
    reason: String,
    ttl_s: u32,
    idempotent: Option<bool>,
    evidence: Option<&'static str>,
    traceparent: Option<String>,
}

/// The command with this id. If it ended so long ago that only its outcome is kept, the log knows what was asked for, or
/// else `body`, for which its key stands.
pub(super) async fn find(
    app: &Arc<App>,
    command: Seq,
    body: Option<CommandBody>,
) -> Result<(At, CommandJson<'static>), Problem> {
    let (at, found) = app.with_view(|view, at| {
        ready(view, COMMANDS.folds)?;
        match view.commands.get(command) {
            Some(command) => Ok((at, Ok(whole(view, command)))),
            None => {
                let (names, ended) = view.commands.remembered(command).ok_or_else(|| missing(command))?;
                Ok((at, Err((names.clone(), ended.clone()))))
            }
        }
    })?;
    let (names, ended) = match found {
        Ok(json) => return Ok((at, json)),
        Err(remembered) => remembered,
    };
    let side = app.side.clone();
    let read = app.reads.short(move |cancel| events::find(&side, at, command, cancel)).await;
    let wanted = wanted(command, read.map(|entry| entry.fact), &names, body)?;
    app.with_view(|view, _| Ok((at, json(view, command, true, &ended, wanted))))
}

fn wanted(
    command: Seq,
    read: Result<Fact, Problem>,
    (actor, key): &ActorKey,
    body: Option<CommandBody>,
) -> Result<Wanted, Problem> {
    match (read, body) {
        (Ok(Fact::CommandRequested { request, .. }), _) => Ok(Wanted::of(&request)),
        (_, Some(body)) => Ok(Wanted::asked(actor.to_string(), key.to_string(), body)),
        (Err(problem), None) if problem.status != StatusCode::NOT_FOUND => Err(problem),
        (_, None) => Err(missing(command)),
    }
}

pub(super) fn missing(command: Seq) -> Problem {
    let detail = format!(
        "the state of a command {command} is not kept: there is none, or it ended long ago. If the log still has it, \
         it is at /api/v1/events/{command}"
    );
    Problem::not_found("no-such-command", "No such command", detail)
}

/// A command that is kept whole.
pub(super) fn whole(view: &View, command: &Command) -> CommandJson<'static> {
    json(view, command.seq, command.is_closed(), &Ended::of(command), Wanted::of(&command.request))
}

impl Wanted {
    fn of(request: &CommandRequest) -> Wanted {
        Wanted {
            actor: request.actor.clone(),
            key: request.key.clone(),
            name: request.name.clone(),
            operation: request.operation,
            value: to_json(request.value.borrow()),
            reason: request.reason.clone(),
            ttl_s: request.ttl_s,
            idempotent: Some(request.idempotent),
            evidence: Some(request.evidence.word()),
            traceparent: request.traceparent.map(|parent| parent.to_string()),
        }
    }

    /// The same as far as the body says it.
    fn asked(actor: String, key: String, body: CommandBody) -> Wanted {
        Wanted {
            actor,
            key,
            operation: body.operation.is_some(),
            name: body.attribute.or(body.operation).unwrap_or_default(),
            value: body.value,
            reason: body.reason,
            ttl_s: body.ttl_s,
            idempotent: None,
            evidence: None,
            traceparent: None,
        }
    }
}

fn json(view: &View, command: Seq, closed: bool, kept: &Ended, wanted: Wanted) -> CommandJson<'static> {
    let (mut failure, mut superseded_by, mut evidence_seq) = (None, None, None);
    match &kept.progress {
        Some(Progress::Failed { reason }) => failure = Some(Cow::Owned(reason.clone())),
        Some(Progress::Superseded { by }) => superseded_by = Some(*by),
        Some(Progress::Applied { evidence }) => evidence_seq = *evidence,
        _ => {}
    }
    let device =
        view.devices.get(kept.device).map_or_else(|| format!("#{}", kept.device.0), |d| d.name.to_string());
    CommandJson {
        id: command,
        url: format!("/api/v1/commands/{command}"),
        device: device.into(),
        name: wanted.name.into(),
        operation: wanted.operation,
        value: wanted.value,
        state: kept.state.word().into(),
        closed,
        failure,
        superseded_by,
        actor: wanted.actor.into(),
        idempotency_key: wanted.key.into(),
        reason: wanted.reason.into(),
        requested_at: Rfc3339(kept.requested),
        expires_at: Rfc3339(kept.expires),
        ttl_s: wanted.ttl_s,
        idempotent: wanted.idempotent,
        evidence: wanted.evidence.map(Cow::from),
        traceparent: wanted.traceparent.map(Cow::from),
        attempts: kept.attempts,
        dispatched_seq: kept.dispatched,
        acknowledged_seq: kept.acknowledged,
        evidence_seq,
        changed_seq: kept.changed.0,
        changed_at: Rfc3339(kept.changed.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_its_request_a_command_is_what_the_body_asks_for_again_or_not_known() {
        let body: CommandBody = serde_json::from_value(serde_json::json!({
            "attribute": "level", "value": 5, "ttl_s": 30, "idempotency_key": "k", "reason": "why"
        }))
        .unwrap();
        let names = (Arc::from("uid:1"), Arc::from("k"));
        let gone = || Problem::not_found("no-such-event", "No such event", "trimmed");
        let told = wanted(Seq(7), Err(gone()), &names, Some(body.clone())).unwrap();
        assert_eq!(
            (told.actor.as_str(), told.key.as_str(), told.name.as_str(), told.operation),
            ("uid:1", "k", "level", false)
        );
        assert_eq!((told.value, told.reason.as_str(), told.ttl_s), (serde_json::json!(5), "why", 30));
        assert_eq!((told.idempotent, told.evidence), (None, None));
        // A log that cannot be read now keeps nobody from being answered who asks again.
        assert!(wanted(Seq(7), Err(Problem::busy("later")), &names, Some(body)).is_ok());
        assert_eq!(wanted(Seq(7), Err(gone()), &names, None).unwrap_err().code, "no-such-command");
        assert_eq!(wanted(Seq(7), Err(Problem::busy("later")), &names, None).unwrap_err().code, "busy");
    }
}
