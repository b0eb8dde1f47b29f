//! Commands to devices: what was asked for, and how far it has come.
//!
//! A request holds everything that is needed to carry it out and to recognise its outcome, so that neither depends on a
//! configuration that may have changed meanwhile. A command is named by the position of its request.

use serde::{Deserialize, Serialize};

use crate::{Seq, Time, TraceParent, Value};

/// What was asked of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandRequest {
    /// Who asked, such as `uid:1000` or `token:admin`.
    pub actor: String,
    /// The requester's key: the same key with the same digest is the same command.
    pub key: String,
    /// Hash of what was asked, without the key.
    pub digest: [u8; 16],
    /// Why, in the requester's words; empty: not said.
    pub reason: String,
    /// The attribute to set, or the operation.
    pub name: String,
    /// Whether `name` is an operation instead of an attribute.
    pub operation: bool,
    /// The value to set, or the operation's argument; [`Value::Null`]: none.
    pub value: Value,
    /// It must not be sent later than this, by the wall clock.
    pub expires: Time,
    /// Time to live, in seconds.
    pub ttl_s: u32,
    /// When it was asked for, in microseconds since the kernel booted.
    pub booted_for: u64,
    /// The key is remembered until this log time.
    pub remember_until: Time,
    /// What is published for it.
    pub publish: Publish,
    /// Whether it may be published more than once.
    pub idempotent: bool,
    /// What becomes of it while the device is offline.
    pub on_offline: OnOffline,
    /// How long to wait for evidence after it was published, in seconds.
    pub confirm_s: u32,
    /// What shows that it was carried out.
    pub evidence: Evidence,
    /// The trace that the requester asked in. A snapshot has it in a place of its own.
    #[serde(skip)]
    pub traceparent: Option<TraceParent>,
}

/// What is published for a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Name of the source whose broker gets it.
    pub source: String,
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Quality of service, 0 or 1.
    pub qos: u8,
}

/// What becomes of a command while its device is offline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnOffline {
    /// It is refused.
    #[default]
    Reject,
    /// It waits, behind those before it.
    Hold,
    /// It waits, and takes the place of one that waits.
    LatestWins,
}

/// What shows that a command was carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Evidence {
    /// Nothing: that the broker has it is the most that can be known.
    None,
    /// The device reports an attribute with this value.
    Reported {
        /// The attribute.
        attribute: String,
        /// The value it must reach.
        target: Value,
        /// How far a number may be from it.
        tolerance: f64,
    },
    /// The device answers.
    Reply {
        /// Topic of the answer.
        topic: String,
        /// JSON pointer (RFC 6901) to the number in the answer that is the command's.
        id: String,
        /// JSON pointer to what is there, and not null, if the device refused.
        error: String,
    },
    /// The device answers, which acknowledges or refuses the command, and reports an attribute with this value, which
    /// shows that it was carried out.
    Both {
        /// See [`Evidence::Reported`].
        attribute: String,
        /// See [`Evidence::Reported`].
        target: Value,
        /// See [`Evidence::Reported`].
        tolerance: f64,
        /// See [`Evidence::Reply`].
        topic: String,
        /// See [`Evidence::Reply`].
        id: String,
        /// See [`Evidence::Reply`].
        error: String,
    },
}

impl Evidence {
    /// The attribute, the value that it must reach, and how far a number may be from it.
    pub fn reported(&self) -> Option<(&str, &Value, f64)> {
        match self {
            Evidence::Reported { attribute, target, tolerance }
            | Evidence::Both { attribute, target, tolerance, .. } => Some((attribute, target, *tolerance)),
            Evidence::None | Evidence::Reply { .. } => None,
        }
    }

    /// The topic of an answer, and the JSON pointers to its number and to an error.
    pub fn reply(&self) -> Option<(&str, &str, &str)> {
        match self {
            Evidence::Reply { topic, id, error } | Evidence::Both { topic, id, error, .. } => {
                Some((topic, id, error))
            }
            Evidence::None | Evidence::Reported { .. } => None,
        }
    }

    /// What shows that a command was carried out, as it is written.
    pub fn word(&self) -> &'static str {
        match self {
            Evidence::None => "none",
            Evidence::Reported { .. } | Evidence::Both { .. } => "reported",
            Evidence::Reply { .. } => "reply",
        }
    }
}

/// A step of a command after its request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// It is about to be published.
    Dispatched {
        /// How many times it has been dispatched, this time included.
        attempt: u32,
    },
    /// The broker or the device has it.
    Acknowledged {
        /// Who says so.
        by: AcknowledgedBy,
    },
    /// It was carried out.
    Applied {
        /// The record of the state that shows it, if that was recorded.
        evidence: Option<Seq>,
    },
    /// It was not published after all, and waits again.
    Unsent,
    /// It was not carried out, and will not be.
    Failed {
        /// Why.
        reason: String,
    },
    /// Its time was over before it could be published.
    Expired,
    /// A later command took its place before it was published.
    Superseded {
        /// That command.
        by: Seq,
    },
    /// It was published, and nothing has shown in time that it was carried out. Late evidence still counts.
    Unconfirmed,
    /// Whether it was published is not known: the agent ended in between. It is not published again.
    Unknown,
}

/// Who has acknowledged a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AcknowledgedBy {
    /// The broker, with a PUBACK.
    Broker,
    /// The device, with an answer.
    Device,
}

/// A command that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRejection {
    /// Who asked.
    pub actor: String,
    /// The requester's key; empty: none was given.
    pub key: String,
    /// The device it was for, as the requester named it.
    pub device: String,
    /// The attribute or operation.
    pub name: String,
    /// Which rule it breaks, as a word.
    pub code: String,
    /// Why, in words.
    pub reason: String,
    /// Rejections since the last recorded one that were counted instead of recorded.
    pub unrecorded: u64,
}

/// Where a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CommandState {
    /// Accepted; waits to be published.
    Requested,
    /// See [`Progress::Dispatched`].
    Dispatched,
    /// See [`Progress::Acknowledged`].
    Acknowledged,
    /// See [`Progress::Applied`].
    Applied,
    /// See [`Progress::Failed`].
    Failed,
    /// See [`Progress::Expired`].
    Expired,
    /// See [`Progress::Superseded`].
    Superseded,
    /// See [`Progress::Unconfirmed`].
    Unconfirmed,
    /// See [`Progress::Unknown`].
    Unknown,
}

/// A hash of what was asked: another body under the same key is another command.
pub fn digest(body: &[u8]) -> [u8; 16] {
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(body).as_bytes()[..16]);
    digest
}

impl CommandState {
    /// All of them, in the order of a command's life.
    pub const ALL: [CommandState; 9] = [
        CommandState::Requested,
        CommandState::Dispatched,
        CommandState::Acknowledged,
        CommandState::Applied,
        CommandState::Failed,
        CommandState::Expired,
        CommandState::Superseded,
        CommandState::Unconfirmed,
        CommandState::Unknown,
    ];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            CommandState::Requested => "requested",
            CommandState::Dispatched => "dispatched",
            CommandState::Acknowledged => "acknowledged",
            CommandState::Applied => "applied",
            CommandState::Failed => "failed",
            CommandState::Expired => "expired",
            CommandState::Superseded => "superseded",
            CommandState::Unconfirmed => "unconfirmed",
            CommandState::Unknown => "unknown",
        }
    }

    /// Whether nothing more can come of it.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            CommandState::Applied | CommandState::Failed | CommandState::Expired | CommandState::Superseded
        )
    }

    /// Whether the agent still does something about it. One that is neither this nor final can only be closed by late
    /// evidence.
    pub fn is_driven(self) -> bool {
        matches!(self, CommandState::Requested | CommandState::Dispatched | CommandState::Acknowledged)
    }
}

impl Progress {
    /// The state after it.
    pub fn state(&self) -> CommandState {
        match self {
            Progress::Dispatched { .. } => CommandState::Dispatched,
            Progress::Unsent => CommandState::Requested,
            Progress::Acknowledged { .. } => CommandState::Acknowledged,
            Progress::Applied { .. } => CommandState::Applied,
            Progress::Failed { .. } => CommandState::Failed,
            Progress::Expired => CommandState::Expired,
            Progress::Superseded { .. } => CommandState::Superseded,
            Progress::Unconfirmed => CommandState::Unconfirmed,
            Progress::Unknown => CommandState::Unknown,
        }
    }
}

impl OnOffline {
    /// As it is written.
    pub const fn word(self) -> &'static str {
        match self {
            OnOffline::Reject => "reject",
            OnOffline::Hold => "hold",
            OnOffline::LatestWins => "latest_wins",
        }
    }
}

impl AcknowledgedBy {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            AcknowledgedBy::Broker => "broker",
            AcknowledgedBy::Device => "device",
        }
    }
}
