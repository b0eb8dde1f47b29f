//! Facts: what happened, typed, without a position.

use crate::command::{CommandRejection, CommandRequest, Progress};
use crate::description::{AttributeDescription, DescribedBy, DeviceDescription};
use crate::{AttrId, DeviceId, Seq, Time, Value};

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// Attributes of a device took new values; [`Value::Null`] means removed.
    StateChanged {
        /// The device.
        device: DeviceId,
        /// The attributes that changed, each once.
        changes: Vec<(AttrId, Value)>,
    },
    /// A device came or went.
    AvailabilityChanged {
        /// The device.
        device: DeviceId,
        /// What it is now.
        availability: Availability,
        /// How that is known.
        cause: AvailabilityCause,
    },
    /// A device was seen for the first time, or again after it was retired, or its identity was recorded. Interns its id.
    DeviceDiscovered {
        /// Its number from now on.
        device: DeviceId,
        /// Its id: its name, if no device of another namespace had that before.
        name: String,
        /// The source it was seen on.
        source: String,
        /// The device it is reached through, such as a bridge.
        parent: Option<DeviceId>,
        /// What makes it this device and no other; `None` in records of versions that did not know namespaces.
        identity: Option<Identity>,
    },
    /// A device has another name from now on. Its history continues, and its former id still finds it.
    DeviceRenamed {
        /// The device.
        device: DeviceId,
        /// Its id from now on.
        name: String,
        /// What its source calls it from now on.
        called: String,
    },
    /// An attribute name was seen for the first time. Interns it.
    AttributeNamed {
        /// Its number from now on.
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
    /// What is said about a device is new. It replaces all that the same one said before.
    DeviceDescribed {
        /// The device.
        device: DeviceId,
        /// Who says so.
        by: DescribedBy,
        /// What is said; an empty description takes back what was said before.
        description: DeviceDescription,
    },
    /// What is said about an attribute of a device is new. It replaces all that the same one said before.
    AttributeDescribed {
        /// The device.
        device: DeviceId,
        /// The attribute; the device need not have sent it yet.
        attribute: AttrId,
        /// Who says so.
        by: DescribedBy,
        /// What is said; an empty description takes back what was said before.
        description: AttributeDescription,
    },
    /// Something momentary happened, such as a button push.
    ActionFired {
        /// The device.
        device: DeviceId,
        /// The attribute that carried the action.
        attribute: AttrId,
        /// Which action.
        value: Value,
    },
    /// Values that a device reports late: they were its state at the record's device time, and are not now. They change no
    /// state and go into no aggregate.
    HistoryReported {
        /// The device.
        device: DeviceId,
        /// The attributes and what they were.
        changes: Vec<(AttrId, Value)>,
    },
    /// The metrics that a Sparkplug birth certificate lists for an edge node or device. It replaces the list before.
    MetricsDeclared {
        /// The edge node or device.
        device: DeviceId,
        /// The metrics, in the order of the certificate.
        metrics: Vec<DeclaredMetric>,
    },
    /// Where the session of a Sparkplug edge node is.
    SessionNoted {
        /// The edge node.
        device: DeviceId,
        /// Number of its birth certificate (`bdSeq`), if it had one.
        birth: Option<u64>,
        /// Number of the last message (`seq`) that is in the log, written at a clean stop: a message with the number after
        /// it continues the session. `None` while the agent runs.
        seq: Option<u8>,
    },
    /// An input could not be decoded. Its bytes are kept in the quarantine under this record's position.
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
    /// Further inputs of a topic that could not be decoded, after the first ones were recorded one by one. Of these the
    /// number is kept, and the bytes of the newest in the quarantine under this record's position.
    QuarantineSummarised {
        /// The source they came from.
        source: String,
        /// Their topic, with invalid UTF-8 replaced; empty for those of many topics.
        topic: String,
        /// Why the newest could not be decoded.
        reason: String,
        /// Size of its payload, in bytes.
        size: u64,
        /// How many they are.
        count: u64,
        /// When the first of them came, by the gateway's clock.
        first: Time,
        /// When the newest of them came.
        last: Time,
    },
    /// The agent started. The records that follow were made under this boot.
    Booted {
        /// The kernel's boot id; zero where there is none.
        boot_id: [u8; 16],
        /// Version of the agent.
        version: String,
        /// What is known about the wall clock.
        clock: ClockQuality,
    },
    /// The wall clock jumped; log time does not go back.
    ClockStepped {
        /// Where the clock was expected to be.
        expected: Time,
        /// Where it was.
        found: Time,
    },
    /// The operator set log time back to the wall clock, after a clock that was ahead. The only record whose log time may
    /// be earlier than that of the record before.
    ClockCorrected {
        /// Log time of the record before.
        before: Time,
        /// Log time of this record.
        after: Time,
    },
    /// The configuration changed while running.
    ConfigChanged {
        /// The keys that changed.
        keys: Vec<String>,
    },
    /// A sink refuses these records for good; they were passed over for it.
    DeadLettered {
        /// The sink.
        sink: String,
        /// First position.
        first: Seq,
        /// Last position.
        last: Seq,
        /// Why, in the sink's words.
        reason: String,
    },
    /// Records were deleted from the front of the log as the operator's retention wants it; nobody needed them any more.
    Trimmed {
        /// First position.
        first: Seq,
        /// Last position.
        last: Seq,
    },
    /// Records were deleted although they were still needed, because the log was full and the operator chose so.
    Gap {
        /// First position.
        first: Seq,
        /// Last position.
        last: Seq,
        /// Who needed them.
        lost_by: Vec<String>,
    },
    /// The operator began a new log where another one had been; the first record of the new one.
    EpochBegun {
        /// Epoch of the log that was there, as its snapshots say; `None` if none of them could be read.
        previous: Option<crate::Epoch>,
        /// Why there is a new one.
        reason: String,
    },
    /// Records that had been acknowledged are no longer in the log, which ended before them. Their positions are given
    /// again, to other records.
    RecordsLost {
        /// First position.
        first: Seq,
        /// The last position that is known to have been there.
        last: Seq,
        /// How that is known.
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
    /// A record of a type that this version does not know; kept as it is.
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

/// What makes a device itself: the same name in another namespace is another device.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The namespace, as the configuration declares it.
    pub namespace: String,
    /// The name in it, as the operator's templates make it.
    pub name: String,
}

/// A metric as a Sparkplug birth certificate lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeclaredMetric {
    /// The attribute it is recorded as; `None` for one that is not recorded.
    pub attribute: Option<AttrId>,
    /// The number that stands for its name in later messages.
    pub alias: Option<u64>,
    /// Its data type, as section 6.4.16 of the Sparkplug 3.0 specification numbers them.
    pub datatype: u32,
}

/// Whether a device can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Availability {
    /// Nothing has said so far.
    #[default]
    Unknown,
    /// It is there.
    Online,
    /// It is not.
    Offline,
}

/// How an availability is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum AvailabilityCause {
    /// A message on its availability topic, which is also where its last will arrives.
    #[default]
    Topic,
    /// Nothing was heard from it for its silence timeout, or something was heard again.
    Silence,
}

/// What is known about the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ClockQuality {
    /// The kernel does not say that it is synchronised.
    #[default]
    Unsynchronised,
    /// The kernel says that it is synchronised.
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

    /// The device it is about. Each kind of fact says so here: one that is left out would be missing from the history of
    /// its device, and from what a sink sends of it.
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
