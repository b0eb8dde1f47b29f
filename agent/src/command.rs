//! Commands to devices: what can be asked of them, and what becomes of what was asked.
//!
//! `declared` checks a command against what the configuration and the device say, and makes the request that is recorded;
//! `target` knows what a device can be told, and `sparkplug` which metrics can be written.
//! `desk` is the life of the commands that are not closed; it decides and does nothing: the writer records each step, and
//! publishes only what is recorded.

pub mod declared;
pub mod desk;
mod evidence;
mod rejected;
pub mod remote;
mod sparkplug;
mod target;
mod template;
mod value;

use std::sync::Arc;

use fieldlog_projections::{Seq, TraceParent};
pub use fieldlog_wire::api::commands::BODY_BYTES_MAX;
use fieldlog_wire::api::commands::CommandBody;
use tokio::sync::oneshot;

use declared::{Code, Rejected};
use fieldlog_projections::pattern::Patterns;

/// A command that somebody asks for.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub actor: String,
    /// Id of the device.
    pub device: String,
    /// Patterns on the ids of the devices that may be asked; without any, all may be.
    pub only: Arc<Patterns>,
    /// What is asked for.
    pub body: CommandBody,
    /// Its time to live is no longer than this, in seconds, whatever the body says; 0: it is over.
    pub ttl_max_s: Option<u32>,
    /// The trace context that it is asked in.
    pub traceparent: Option<TraceParent>,
    /// If it cannot be taken yet, it is asked again soon, so that this is neither recorded nor counted.
    pub patient: bool,
    /// Told what came of it, once that is durable.
    pub reply: oneshot::Sender<Result<Accepted, Rejected>>,
}

/// Something that asks for a command and cannot be one, whatever the writer knows.
#[derive(Debug)]
pub struct Unreadable {
    /// Who asks.
    pub actor: String,
    /// Id of the device; empty if it was not said.
    pub device: String,
    /// Why it is refused.
    pub rejected: Rejected,
    /// Told once it is counted and, if not too many were lately, on its way into the log.
    pub noted: oneshot::Sender<()>,
}

/// A command that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The command, by the position of its request.
    pub command: Seq,
    /// Whether it had been accepted before, under the same key.
    pub repeated: bool,
}

/// Reads the body of a command.
///
/// # Errors
/// [`Code::BadRequest`]
pub fn read_body(bytes: &[u8]) -> Result<CommandBody, Rejected> {
    serde_json::from_slice(bytes).map_err(|error| {
        let reason = format!(
            "{error}; a command looks like {{\"attribute\": \"state\", \"value\": \"ON\", \"ttl_s\": 30, \
             \"idempotency_key\": \"<a new UUID>\"}}"
        );
        Rejected::new(Code::BadRequest, reason)
    })
}
