//! How commands look in JSON, in events and in answers.

use fieldlog_projections::Seq;
use fieldlog_projections::command::{CommandRequest, Progress};
use serde::Serialize;

use crate::json::{Rfc3339, Val};

/// What was asked for.
#[derive(Debug, Serialize)]
pub struct RequestJson<'a> {
    /// The attribute to set, or the operation.
    pub name: &'a str,
    /// Whether it is an operation.
    pub operation: bool,
    /// The value, or the operation's argument; null for none.
    pub value: Val<'a>,
    /// Who asked.
    pub actor: &'a str,
    /// The requester's key.
    pub idempotency_key: &'a str,
    /// Why; absent if not said.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: &'a str,
    /// Time to live, in seconds.
    pub ttl_s: u32,
    /// When its time is over.
    pub expires_at: Rfc3339,
    /// Whether it may be published more than once.
    pub idempotent: bool,
    /// What becomes of it while the device is offline.
    pub on_offline: &'a str,
    /// How long evidence is waited for after it was published, in seconds.
    pub confirm_s: u32,
    /// What shows that it was carried out: `reported`, `reply` or `none`.
    pub evidence: &'static str,
    /// The source whose broker gets it.
    pub source: &'a str,
    /// The topic it is published to.
    pub topic: &'a str,
    /// The trace context that it was asked in; absent if none was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl<'a> RequestJson<'a> {
    /// Of a request. Its payload is left out: it says the same as the value, in the device's words.
    pub fn of(request: &'a CommandRequest) -> RequestJson<'a> {
        RequestJson {
            name: &request.name,
            operation: request.operation,
            value: Val(request.value.borrow()),
            actor: &request.actor,
            idempotency_key: &request.key,
            reason: &request.reason,
            ttl_s: request.ttl_s,
            expires_at: Rfc3339(request.expires),
            idempotent: request.idempotent,
            on_offline: request.on_offline.word(),
            confirm_s: request.confirm_s,
            evidence: request.evidence.word(),
            source: &request.publish.source,
            topic: &request.publish.topic,
            traceparent: request.traceparent.map(|parent| parent.to_string()),
        }
    }
}

/// A step of a command. What does not belong to its kind is absent.
#[derive(Debug, Serialize)]
pub struct StepJson<'a> {
    /// The command, by the position of its request.
    pub command: Seq,
    /// How many times it has been dispatched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Who has acknowledged it: `broker` or `device`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<&'static str>,
    /// The record of the state that shows that it was carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Seq>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// The command that took its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<Seq>,
}

impl<'a> StepJson<'a> {
    /// Of a step.
    pub fn of(command: Seq, progress: &'a Progress) -> StepJson<'a> {
        let none =
            StepJson { command, attempt: None, by: None, evidence: None, reason: None, superseded_by: None };
        match progress {
            Progress::Dispatched { attempt } => StepJson { attempt: Some(*attempt), ..none },
            Progress::Acknowledged { by } => StepJson { by: Some(by.word()), ..none },
            Progress::Applied { evidence } => StepJson { evidence: *evidence, ..none },
            Progress::Failed { reason } => StepJson { reason: Some(reason), ..none },
            Progress::Superseded { by } => StepJson { superseded_by: Some(*by), ..none },
            Progress::Unsent | Progress::Expired | Progress::Unconfirmed | Progress::Unknown => none,
        }
    }
}
