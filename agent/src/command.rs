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
mod sparkplug;
mod target;
mod template;
mod value;

use fieldlog_projections::Seq;
use fieldlog_wire::api::commands::CommandBody;
use tokio::sync::oneshot;

use declared::Rejected;

/// A command that somebody asks for.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub actor: String,
    /// Id of the device.
    pub device: String,
    /// What is asked for.
    pub body: CommandBody,
    /// Told what came of it, once that is durable.
    pub reply: oneshot::Sender<Result<Accepted, Rejected>>,
}

/// A command that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The command, by the position of its request.
    pub command: Seq,
    /// Whether it had been accepted before, under the same key.
    pub repeated: bool,
}
