//! Facts: typed events, without a position.

use crate::alert::{Alert, AlertCleared};
use crate::command::{CommandRejection, CommandRequest, Progress};
use crate::description::{AttributeDescription, DescribedBy, DeviceDescription};
use crate::{AttrId, DeviceId, Seq, Time, Value};

/// The typed content of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// Attributes of a device have new values; [`Value::Null`] means removed.
    StateChanged {
        /// The device.
        device: DeviceId,
        /// The attributes that changed, each once.
        changes: Vec<(AttrId, Value)>,
    },
    /// A device went online or offline.
    AvailabilityChanged {
        /// The device.
        device: DeviceId,
        /// Its new availability.
        availability: Availability,
        /// How it was determined.
        cause: AvailabilityCause,
    },
    /// A device was discovered, came back after it was retired, or got its identity recorded. Assigns its number.
    DeviceDiscovered {
        /// Its number.
        device: DeviceId,
        /// Its id: its name, unless a device of another namespace has had that id.
        name: String,
        /// The source it was discovered on.
        source: String,
        /// The device it is reached through, such as a bridge.
        parent: Option<DeviceId>,
        /// Its identity; `None` in records of version 1, which has no namespaces.
        identity: Option<Identity>,
    },
    /// A device was renamed. Its history continues, and its former id still finds it.
    DeviceRenamed {
        /// The device.
        device: DeviceId,
        /// Its id from now on.
        name: String,
        /// Its new name at the source.
        called: String,
    },
    /// An attribute name was seen for the first time. Assigns its number.
    AttributeNamed {
        /// Its number.
        attribute: AttrId,
        /// The attribute path, levels joined by dots.
        name: String,
    },
    /// A device was removed at its source.
    DeviceRetired {
        /// The device.
        device: DeviceId,
    },
    /// A retired device's state and name were dropped to make room. If it comes back, it gets a new number.
    DeviceForgotten {
        /// The device.
        device: DeviceId,
    },
    /// A device was described. Replaces the previous description by the same author.
    DeviceDescribed {
        /// The device.
        device: DeviceId,
        /// The author.
        by: DescribedBy,
        /// The description; an empty one withdraws the previous one.
        description: DeviceDescription,
    },
    /// An attribute of a device was described. Replaces the previous description by the same author.
    AttributeDescribed {
        /// The device.
        device: DeviceId,
        /// The attribute; the device need not have sent it yet.
        attribute: AttrId,
        /// The author.
        by: DescribedBy,
        /// The description; an empty one withdraws the previous one.
        description: AttributeDescription,
    },
    /// A momentary event, such as a button press.
    ActionFired {
        /// The device.
        device: DeviceId,
        /// The attribute that carried the action.
        attribute: AttrId,
        /// Which action.
        value: Value,
    },
    /// Values that a device reports late. They were its state at the record's device time. They change no state and
    /// enter no aggregate.
    HistoryReported {
        /// The device.
        device: DeviceId,
        /// The attributes with their values at that time.
        changes: Vec<(AttrId, Value)>,
    },
    /// The metrics in the Sparkplug birth certificate of an edge node or device. Replaces the previous list.
    MetricsDeclared {
        /// The edge node or device.
        device: DeviceId,
        /// The metrics, in the order of the certificate.
        metrics: Vec<DeclaredMetric>,
    },
    /// The state of a Sparkplug edge node's session.
    SessionNoted {
        /// The edge node.
        device: DeviceId,
        /// Number of its birth certificate (`bdSeq`), if it had one.
        birth: Option<u64>,
        /// Number of the last recorded message (`seq`), written at a clean stop: a message with the next number
        /// continues the session. `None` while the agent runs.
        seq: Option<u8>,
    },
    /// An input could not be decoded. The quarantine has its bytes under this record's position.
    InputQuarantined {
        /// The source it came from.
        source: String,
        /// Its topic, with invalid UTF-8 replaced.
        topic: String,
        /// Why.
        reason: String,
        /// Size of the payload, in bytes.
        size: u64,
    },
    /// Further inputs of a topic that could not be decoded, beyond those recorded individually. Only their count is
    /// kept, and the bytes of the newest in the quarantine under this record's position.
    QuarantineSummarised {
        /// The source they came from.
        source: String,
        /// Their topic, with invalid UTF-8 replaced; empty if they are of many topics.
        topic: String,
        /// Why the newest could not be decoded.
        reason: String,
        /// Size of its payload, in bytes.
        size: u64,
        /// Number of inputs.
        count: u64,
        /// Arrival of the first, by the gateway's clock.
        first: Time,
        /// Arrival of the newest.
        last: Time,
    },
    /// The agent started. The records that follow belong to this boot.
    Booted {
        /// The kernel's boot id; zero if unknown.
        boot_id: [u8; 16],
        /// Version of the agent.
        version: String,
        /// Whether the wall clock is synchronised.
        clock: ClockQuality,
    },
    /// The wall clock was stepped; log time does not go back.
    ClockStepped {
        /// The expected time.
        expected: Time,
        /// The time found.
        found: Time,
    },
    /// The operator set log time back to the wall clock, after a clock that was ahead. Only this record may have an
    /// earlier log time than the previous one.
    ClockCorrected {
        /// Log time of the previous record.
        before: Time,
        /// Log time of this record.
        after: Time,
    },
    /// The configuration changed while running.
    ConfigChanged {
        /// The keys that changed.
        keys: Vec<String>,
    },
    /// A sink refuses these records permanently; they were skipped for it.
    DeadLettered {
        /// The sink.
        sink: String,
        /// First position.
        first: Seq,
        /// Last position.
        last: Seq,
        /// The sink's reason.
        reason: String,
    },
    /// Records were deleted from the front of the log by the retention settings; nobody needed them.
    Trimmed {
        /// First position.
        first: Seq,
        /// Last position.
        last: Seq,
    },
    /// Needed records were deleted, because the log was full and the operator chose `drop-oldest`. If nobody is named who
    /// needed them, they were lost, and stand in a repaired log.
    Gap {
        /// First position.
        first: Seq,
        /// Last position.
        last: Seq,
        /// Who needed them.
        lost_by: Vec<String>,
    },
    /// The operator began a new log in place of another. It is the first record of the new one, or follows those that it has
    /// taken over.
    EpochBegun {
        /// Epoch of the previous log; `None` if it could not be read.
        previous: Option<crate::Epoch>,
        /// Why a new log was begun.
        reason: String,
    },
    /// Acknowledged records are missing at the end of the log. Their positions are assigned again, to other records.
    RecordsLost {
        /// First position.
        first: Seq,
        /// The last position known to have existed.
        last: Seq,
        /// How the loss was detected.
        reason: String,
    },
    /// A command to a device was accepted. Its position names it from now on.
    CommandRequested {
        /// The device.
        device: DeviceId,
        /// What is asked for.
        request: Box<CommandRequest>,
    },
    /// A command was not accepted.
    CommandRejected {
        /// The device, if there is one of that name.
        device: Option<DeviceId>,
        /// What was asked for, and why not.
        rejection: Box<CommandRejection>,
    },
    /// A command took a step. Its cause is the step before.
    CommandProgressed {
        /// The device.
        device: DeviceId,
        /// The command.
        command: Seq,
        /// The step.
        progress: Progress,
    },
    /// Somebody told the agent to do something other than a command. The records that follow from it have this one as
    /// their cause.
    Administered {
        /// Who.
        actor: String,
        /// What they asked for, as a word.
        call: String,
        /// What it is about, such as a device; empty: the agent itself.
        target: String,
        /// Why, in their words; empty: not said.
        reason: String,
    },
    /// A quarantined input was dealt with, and is no longer in the quarantine.
    QuarantineResolved {
        /// Position of its record.
        input: Seq,
        /// How.
        resolution: Resolution,
    },
    /// A rule of the configuration found something wrong. Its position names the alert from now on.
    AlertRaised(Box<Alert>),
    /// An alert is over.
    AlertCleared(Box<AlertCleared>),
    /// A record of an unknown type; kept unchanged.
    Unknown {
        /// Type and version.
        kind: crate::Kind,
        /// Its bytes.
        payload: Vec<u8>,
    },
}

/// How a quarantined input was dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Resolution {
    /// It was taken again; what it says is in the records with its position as their cause.
    Requeued,
    /// It was thrown away.
    Purged,
}

/// The identity of a device: the same name in another namespace is another device.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The namespace, from the configuration.
    pub namespace: String,
    /// The name within it, from the configured templates.
    pub name: String,
}

/// A metric from a Sparkplug birth certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeclaredMetric {
    /// The attribute it is recorded as; `None` if it is not recorded.
    pub attribute: Option<AttrId>,
    /// The number that replaces its name in later messages.
    pub alias: Option<u64>,
    /// Its data type, numbered as in section 6.4.16 of the Sparkplug 3.0 specification.
    pub datatype: u32,
}

/// Whether a device is reachable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Availability {
    /// Not reported yet.
    #[default]
    Unknown,
    /// It is reachable.
    Online,
    /// It is not reachable.
    Offline,
}

/// How an availability was determined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum AvailabilityCause {
    /// A message on its availability topic, which also gets its last will.
    #[default]
    Topic,
    /// The device was silent for its silence timeout, or was heard again after that.
    Silence,
}

/// Whether the wall clock is synchronised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ClockQuality {
    /// The kernel does not report it as synchronised.
    #[default]
    Unsynchronised,
    /// The kernel reports it as synchronised.
    Synchronised,
}

impl Fact {
    /// Who asked for it: a command, or an administrative call.
    pub fn actor(&self) -> Option<&str> {
        match self {
            Fact::CommandRequested { request, .. } => Some(&request.actor),
            Fact::CommandRejected { rejection, .. } => Some(&rejection.actor),
            Fact::Administered { actor, .. } => Some(actor),
            _ => None,
        }
    }

    /// The device it is about. Every kind of fact must be listed here: a missing one would be missing from the device's
    /// history and from its events at the sinks.
    pub fn device(&self) -> Option<DeviceId> {
        match self {
            Fact::StateChanged { device, .. }
            | Fact::AvailabilityChanged { device, .. }
            | Fact::DeviceDiscovered { device, .. }
            | Fact::DeviceRenamed { device, .. }
            | Fact::DeviceRetired { device }
            | Fact::DeviceForgotten { device }
            | Fact::DeviceDescribed { device, .. }
            | Fact::AttributeDescribed { device, .. }
            | Fact::ActionFired { device, .. }
            | Fact::HistoryReported { device, .. }
            | Fact::MetricsDeclared { device, .. }
            | Fact::SessionNoted { device, .. }
            | Fact::CommandRequested { device, .. }
            | Fact::CommandProgressed { device, .. } => Some(*device),
            Fact::CommandRejected { device, .. } => *device,
            Fact::AlertRaised(alert) => alert.subject.device(),
            Fact::AlertCleared(cleared) => cleared.subject.device(),
            Fact::AttributeNamed { .. }
            | Fact::InputQuarantined { .. }
            | Fact::QuarantineSummarised { .. }
            | Fact::Booted { .. }
            | Fact::ClockStepped { .. }
            | Fact::ClockCorrected { .. }
            | Fact::ConfigChanged { .. }
            | Fact::DeadLettered { .. }
            | Fact::Trimmed { .. }
            | Fact::Gap { .. }
            | Fact::EpochBegun { .. }
            | Fact::RecordsLost { .. }
            | Fact::Administered { .. }
            | Fact::QuarantineResolved { .. }
            | Fact::Unknown { .. } => None,
        }
    }
}
