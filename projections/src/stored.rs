//! The stored form of facts: `(type, version)` selects a frozen struct; older versions are converted when read.
//!
//! Each kind is an entry in the table below and a struct in `stored/frozen.rs`, or a file beside it. A released struct never changes. A new
//! layout is a new version: one more `read` line in its kind, golden bytes in the tests, and a line in `FORMAT.md`.

use crate::command::Progress;
use crate::description::{AttributeDescription, DeviceDescription};
use crate::fact::{DeclaredMetric, Identity};
use crate::{AttrId, DeviceId, Epoch, Fact, Kind, Seq, Time, ValueRef};

mod alerts;
mod changes;
mod frozen;
mod payload;
mod value;

pub use changes::{Changes, encode_changes, encode_state_changed_v1};
pub use payload::StoredError;

use alerts::*;
use changes::Changed;
use frozen::*;
use payload::{Append, Parse};

/// Generates the encoder and decoder of facts from the table. `write` has a version and the facts that it is written
/// from, mostly the newest one, `read` each version and its conversion. The compiler rejects a fact without an entry and
/// warns of a number used twice.
macro_rules! kinds {
    ($(
        $(#[$doc:meta])* $id:ident = $number:literal, $name:literal {
            $(write $written:literal: $fact:pat $(if $when:expr)? => $stored:expr;)+
            $(read $version:literal: $read:ident = $layout:ty => $lifted:expr;)+
        }
    )*) => {
        /// Type ids. Never reused.
        pub mod type_id {
            $($(#[$doc])* pub const $id: u16 = $number;)*
        }

        /// `(type, version, name)` of everything this version writes or reads, the newest version of a type last.
        pub const KINDS: &[(u16, u8, &str)] = &[$($((type_id::$id, $version, $name),)+)*];

        /// Appends the payload of a fact, in the version that its type is written in, and returns its kind.
        pub fn encode(fact: &Fact, out: &mut Vec<u8>) -> Kind {
            match fact {
                $($($fact $(if $when)? => {
                    $stored.append(out);
                    Kind { type_id: type_id::$id, version: $written }
                })+)*
                Fact::Unknown { kind, payload } => {
                    out.extend_from_slice(payload);
                    *kind
                }
            }
        }

        /// Decodes a payload of any known version into the current fact.
        ///
        /// # Errors
        /// [`StoredError::Newer`] for an unknown version of a known type; [`StoredError::Payload`] for bytes that are
        /// not that struct, or have more bytes after it. An unknown type gives [`Fact::Unknown`].
        pub fn decode(kind: Kind, payload: &[u8]) -> Result<Fact, StoredError> {
            match (kind.type_id, kind.version) {
                $($((type_id::$id, $version) => {
                    let $read = <$layout>::parse(kind, payload)?;
                    Ok($lifted)
                })+)*
                ($(type_id::$id)|*, _) => Err(StoredError::newer(kind)),
                _ => Ok(Fact::Unknown { kind, payload: payload.to_vec() }),
            }
        }
    };
}

kinds! {
    /// [`crate::Fact::StateChanged`]
    STATE_CHANGED = 1, "state_changed" {
        write 2: Fact::StateChanged { device, changes } => Changed { device: *device, changes };
        read 1: v = Changes<'_> => v.fact()?;
        read 2: v = Changes<'_> => v.fact()?;
    }
    /// [`crate::Fact::AvailabilityChanged`]
    AVAILABILITY_CHANGED = 2, "availability_changed" {
        write 1: Fact::AvailabilityChanged { device, availability, cause } =>
            AvailabilityChangedV1 { device: device.0, availability: *availability, cause: *cause };
        read 1: v = AvailabilityChangedV1 => Fact::AvailabilityChanged {
            device: DeviceId(v.device),
            availability: v.availability,
            cause: v.cause,
        };
    }
    /// [`crate::Fact::DeviceDiscovered`]
    DEVICE_DISCOVERED = 3, "device_discovered" {
        write 2: Fact::DeviceDiscovered { device, name, source, parent, identity } => DeviceDiscoveredV2 {
            device: device.0,
            id: name,
            source,
            parent: parent.map(|parent| parent.0),
            identity: identity.as_ref().map(|identity| {
                let other = Some(identity.name.as_str()).filter(|called| called != name);
                (identity.namespace.as_str(), other)
            }),
        };
        read 1: v = DeviceDiscoveredV1<'_> => Fact::DeviceDiscovered {
            device: DeviceId(v.device),
            name: v.name.into(),
            source: v.source.into(),
            parent: v.parent.map(DeviceId),
            identity: None,
        };
        read 2: v = DeviceDiscoveredV2<'_> => Fact::DeviceDiscovered {
            device: DeviceId(v.device),
            name: v.id.into(),
            source: v.source.into(),
            parent: v.parent.map(DeviceId),
            identity: v.identity.map(|(namespace, called)| Identity {
                namespace: namespace.into(),
                name: called.unwrap_or(v.id).into(),
            }),
        };
    }
    /// [`crate::Fact::AttributeNamed`]
    ATTRIBUTE_NAMED = 4, "attribute_named" {
        write 1: Fact::AttributeNamed { attribute, name } => AttributeNamedV1 { attribute: attribute.0, name };
        read 1: v = AttributeNamedV1<'_> =>
            Fact::AttributeNamed { attribute: AttrId(v.attribute), name: v.name.into() };
    }
    /// [`crate::Fact::DeviceRetired`]
    DEVICE_RETIRED = 5, "device_retired" {
        write 1: Fact::DeviceRetired { device } => DeviceRetiredV1 { device: device.0 };
        read 1: v = DeviceRetiredV1 => Fact::DeviceRetired { device: DeviceId(v.device) };
    }
    /// [`crate::Fact::ActionFired`]
    ACTION_FIRED = 6, "action_fired" {
        write 1: Fact::ActionFired { device, attribute, value } =>
            ActionFiredV1 { device: device.0, attribute: attribute.0, value: value.borrow().into() };
        read 1: v = ActionFiredV1<'_> => Fact::ActionFired {
            device: DeviceId(v.device),
            attribute: AttrId(v.attribute),
            value: ValueRef::from(v.value).to_owned(),
        };
    }
    /// [`crate::Fact::InputQuarantined`]
    INPUT_QUARANTINED = 7, "input_quarantined" {
        write 1: Fact::InputQuarantined { source, topic, reason, size } =>
            InputQuarantinedV1 { source, topic, reason, size: *size };
        read 1: v = InputQuarantinedV1<'_> => Fact::InputQuarantined {
            source: v.source.into(),
            topic: v.topic.into(),
            reason: v.reason.into(),
            size: v.size,
        };
    }
    /// [`crate::Fact::Booted`]
    BOOTED = 8, "booted" {
        write 1: Fact::Booted { boot_id, version, clock } =>
            BootedV1 { boot_id: *boot_id, version, clock: *clock };
        read 1: v = BootedV1<'_> =>
            Fact::Booted { boot_id: v.boot_id, version: v.version.into(), clock: v.clock };
    }
    /// [`crate::Fact::ClockStepped`]
    CLOCK_STEPPED = 9, "clock_stepped" {
        write 1: Fact::ClockStepped { expected, found } =>
            ClockSteppedV1 { expected: expected.0, found: found.0 };
        read 1: v = ClockSteppedV1 =>
            Fact::ClockStepped { expected: Time(v.expected), found: Time(v.found) };
    }
    /// [`crate::Fact::ConfigChanged`]
    CONFIG_CHANGED = 10, "config_changed" {
        write 1: Fact::ConfigChanged { keys } =>
            ConfigChangedV1 { keys: keys.iter().map(String::as_str).collect() };
        read 1: v = ConfigChangedV1<'_> =>
            Fact::ConfigChanged { keys: v.keys.into_iter().map(String::from).collect() };
    }
    /// [`crate::Fact::DeadLettered`]
    DEAD_LETTERED = 11, "dead_lettered" {
        write 1: Fact::DeadLettered { sink, first, last, reason } =>
            DeadLetteredV1 { sink, first: first.0, last: last.0, reason };
        read 1: v = DeadLetteredV1<'_> => Fact::DeadLettered {
            sink: v.sink.into(),
            first: Seq(v.first),
            last: Seq(v.last),
            reason: v.reason.into(),
        };
    }
    /// [`crate::Fact::Trimmed`]
    TRIMMED = 12, "trimmed" {
        write 1: Fact::Trimmed { first, last } => TrimmedV1 { first: first.0, last: last.0 };
        read 1: v = TrimmedV1 => Fact::Trimmed { first: Seq(v.first), last: Seq(v.last) };
    }
    /// [`crate::Fact::Gap`]
    GAP = 13, "gap" {
        write 1: Fact::Gap { first, last, lost_by } => GapV1 {
            first: first.0,
            last: last.0,
            lost_by: lost_by.iter().map(String::as_str).collect(),
        };
        read 1: v = GapV1<'_> => Fact::Gap {
            first: Seq(v.first),
            last: Seq(v.last),
            lost_by: v.lost_by.into_iter().map(String::from).collect(),
        };
    }
    /// [`crate::Fact::EpochBegun`]
    EPOCH_BEGUN = 14, "epoch_begun" {
        write 1: Fact::EpochBegun { previous, reason } =>
            EpochBegunV1 { previous: previous.map(|epoch| epoch.0), reason };
        read 1: v = EpochBegunV1<'_> =>
            Fact::EpochBegun { previous: v.previous.map(Epoch), reason: v.reason.into() };
    }
    /// [`crate::Fact::RecordsLost`]
    RECORDS_LOST = 15, "records_lost" {
        write 1: Fact::RecordsLost { first, last, reason } =>
            RecordsLostV1 { first: first.0, last: last.0, reason };
        read 1: v = RecordsLostV1<'_> =>
            Fact::RecordsLost { first: Seq(v.first), last: Seq(v.last), reason: v.reason.into() };
    }
    /// [`crate::Fact::ClockCorrected`]
    CLOCK_CORRECTED = 16, "clock_corrected" {
        write 1: Fact::ClockCorrected { before, after } =>
            ClockCorrectedV1 { before: before.0, after: after.0 };
        read 1: v = ClockCorrectedV1 =>
            Fact::ClockCorrected { before: Time(v.before), after: Time(v.after) };
    }
    /// [`crate::Fact::DeviceForgotten`]
    DEVICE_FORGOTTEN = 18, "device_forgotten" {
        write 1: Fact::DeviceForgotten { device } => DeviceForgottenV1 { device: device.0 };
        read 1: v = DeviceForgottenV1 => Fact::DeviceForgotten { device: DeviceId(v.device) };
    }
    /// [`crate::Fact::DeviceDescribed`]
    DEVICE_DESCRIBED = 21, "device_described" {
        write 1: Fact::DeviceDescribed { device, by, description } => DeviceDescribedV1 {
            device: device.0,
            by: *by,
            stable_id: &description.stable_id,
            name: &description.name,
            model: &description.model,
            manufacturer: &description.manufacturer,
            area: &description.area,
        };
        read 1: v = DeviceDescribedV1<'_> => Fact::DeviceDescribed {
            device: DeviceId(v.device),
            by: v.by,
            description: DeviceDescription {
                stable_id: v.stable_id.into(),
                name: v.name.into(),
                model: v.model.into(),
                manufacturer: v.manufacturer.into(),
                area: v.area.into(),
            },
        };
    }
    /// [`crate::Fact::AttributeDescribed`]
    ATTRIBUTE_DESCRIBED = 22, "attribute_described" {
        write 1: Fact::AttributeDescribed { device, attribute, by, description } => AttributeDescribedV1 {
            device: device.0,
            attribute: attribute.0,
            by: *by,
            name: &description.name,
            unit: &description.unit,
            device_class: &description.device_class,
            data_type: description.data_type,
            min: description.min,
            max: description.max,
            step: description.step,
            values: description.values.iter().map(String::as_str).collect(),
            writable: description.writable,
        };
        read 1: v = AttributeDescribedV1<'_> => Fact::AttributeDescribed {
            device: DeviceId(v.device),
            attribute: AttrId(v.attribute),
            by: v.by,
            description: AttributeDescription {
                name: v.name.into(),
                unit: v.unit.into(),
                device_class: v.device_class.into(),
                data_type: v.data_type,
                min: v.min,
                max: v.max,
                step: v.step,
                values: v.values.into_iter().map(String::from).collect(),
                writable: v.writable,
            },
        };
    }
    /// [`crate::Fact::DeviceRenamed`]
    DEVICE_RENAMED = 19, "device_renamed" {
        write 1: Fact::DeviceRenamed { device, name, called } =>
            DeviceRenamedV1 { device: device.0, id: name, called };
        read 1: v = DeviceRenamedV1<'_> => Fact::DeviceRenamed {
            device: DeviceId(v.device),
            name: v.id.into(),
            called: v.called.into(),
        };
    }
    /// [`crate::Fact::QuarantineSummarised`]
    QUARANTINE_SUMMARISED = 20, "quarantine_summarised" {
        write 1: Fact::QuarantineSummarised { source, topic, reason, size, count, first, last } =>
            QuarantineSummarisedV1 {
                source,
                topic,
                reason,
                size: *size,
                count: *count,
                first: first.0,
                last: last.0,
            };
        read 1: v = QuarantineSummarisedV1<'_> => Fact::QuarantineSummarised {
            source: v.source.into(),
            topic: v.topic.into(),
            reason: v.reason.into(),
            size: v.size,
            count: v.count,
            first: Time(v.first),
            last: Time(v.last),
        };
    }
    /// [`crate::Fact::HistoryReported`]
    HISTORY_REPORTED = 40, "history_reported" {
        write 1: Fact::HistoryReported { device, changes } => HistoryReportedV1 {
            device: device.0,
            changes: changes.iter().map(|(attr, value)| (attr.0, value.borrow().into())).collect(),
        };
        read 1: v = HistoryReportedV1<'_> => Fact::HistoryReported {
            device: DeviceId(v.device),
            changes: v
                .changes
                .into_iter()
                .map(|(attr, value)| (AttrId(attr), ValueRef::from(value).to_owned()))
                .collect(),
        };
    }
    /// [`crate::Fact::MetricsDeclared`]
    METRICS_DECLARED = 41, "metrics_declared" {
        write 1: Fact::MetricsDeclared { device, metrics } => MetricsDeclaredV1 {
            device: device.0,
            metrics: metrics
                .iter()
                .map(|metric| (metric.attribute.map(|attr| attr.0), metric.alias, metric.datatype))
                .collect(),
        };
        read 1: v = MetricsDeclaredV1 => Fact::MetricsDeclared {
            device: DeviceId(v.device),
            metrics: v
                .metrics
                .into_iter()
                .map(|(attr, alias, datatype)| DeclaredMetric { attribute: attr.map(AttrId), alias, datatype })
                .collect(),
        };
    }
    /// [`crate::Fact::SessionNoted`]
    SESSION_NOTED = 42, "session_noted" {
        write 1: Fact::SessionNoted { device, birth, seq } =>
            SessionNotedV1 { device: device.0, birth: *birth, seq: *seq };
        read 1: v = SessionNotedV1 =>
            Fact::SessionNoted { device: DeviceId(v.device), birth: v.birth, seq: v.seq };
    }
    /// [`crate::Fact::CommandRequested`]
    COMMAND_REQUESTED = 50, "command_requested" {
        write 2: Fact::CommandRequested { device, request } if request.traceparent.is_some() =>
            CommandRequestedV2::of(device.0, request);
        write 1: Fact::CommandRequested { device, request } => CommandRequestedV1::of(device.0, request);
        read 1: v = CommandRequestedV1<'_> =>
            Fact::CommandRequested { device: DeviceId(v.device), request: Box::new(v.lift()) };
        read 2: v = CommandRequestedV2<'_> =>
            Fact::CommandRequested { device: DeviceId(v.request.device), request: Box::new(v.lift()) };
    }
    /// [`crate::Fact::CommandRejected`]
    COMMAND_REJECTED = 51, "command_rejected" {
        write 1: Fact::CommandRejected { device, rejection } =>
            CommandRejectedV1::of(device.map(|id| id.0), rejection);
        read 1: v = CommandRejectedV1<'_> =>
            Fact::CommandRejected { device: v.device.map(DeviceId), rejection: Box::new(v.lift()) };
    }
    /// [`crate::command::Progress::Dispatched`]
    COMMAND_DISPATCHED = 52, "command_dispatched" {
        write 1: Fact::CommandProgressed { device, command, progress: Progress::Dispatched { attempt } } =>
            CommandDispatchedV1 { device: device.0, command: command.0, attempt: *attempt };
        read 1: v = CommandDispatchedV1 => step(v.device, v.command, Progress::Dispatched { attempt: v.attempt });
    }
    /// [`crate::command::Progress::Acknowledged`]
    COMMAND_ACKNOWLEDGED = 53, "command_acknowledged" {
        write 1: Fact::CommandProgressed { device, command, progress: Progress::Acknowledged { by } } =>
            CommandAcknowledgedV1 { device: device.0, command: command.0, by: *by };
        read 1: v = CommandAcknowledgedV1 => step(v.device, v.command, Progress::Acknowledged { by: v.by });
    }
    /// [`crate::command::Progress::Applied`]
    COMMAND_APPLIED = 54, "command_applied" {
        write 1: Fact::CommandProgressed { device, command, progress: Progress::Applied { evidence } } =>
            CommandAppliedV1 { device: device.0, command: command.0, evidence: evidence.map(|seq| seq.0) };
        read 1: v = CommandAppliedV1 => step(v.device, v.command, Progress::Applied { evidence: v.evidence.map(Seq) });
    }
    /// [`crate::command::Progress::Failed`]
    COMMAND_FAILED = 55, "command_failed" {
        write 1: Fact::CommandProgressed { device, command, progress: Progress::Failed { reason } } =>
            CommandFailedV1 { device: device.0, command: command.0, reason };
        read 1: v = CommandFailedV1<'_> => step(v.device, v.command, Progress::Failed { reason: v.reason.into() });
    }
    /// [`crate::command::Progress::Expired`]
    COMMAND_EXPIRED = 56, "command_expired" {
        write 1: Fact::CommandProgressed { device, command, progress: Progress::Expired } =>
            CommandStepV1 { device: device.0, command: command.0 };
        read 1: v = CommandStepV1 => step(v.device, v.command, Progress::Expired);
    }
    /// [`crate::command::Progress::Superseded`]
    COMMAND_SUPERSEDED = 57, "command_superseded" {
        write 1: Fact::CommandProgressed { device, command, progress: Progress::Superseded { by } } =>
            CommandSupersededV1 { device: device.0, command: command.0, by: by.0 };
        read 1: v = CommandSupersededV1 => step(v.device, v.command, Progress::Superseded { by: Seq(v.by) });
    }
    /// [`crate::command::Progress::Unconfirmed`]
    COMMAND_UNCONFIRMED = 58, "command_unconfirmed" {
        write 1: Fact::CommandProgressed { device, command, progress: Progress::Unconfirmed } =>
            CommandStepV1 { device: device.0, command: command.0 };
        read 1: v = CommandStepV1 => step(v.device, v.command, Progress::Unconfirmed);
    }
    /// [`crate::command::Progress::Unknown`]
    COMMAND_UNKNOWN = 59, "command_unknown" {
        write 1: Fact::CommandProgressed { device, command, progress: Progress::Unknown } =>
            CommandStepV1 { device: device.0, command: command.0 };
        read 1: v = CommandStepV1 => step(v.device, v.command, Progress::Unknown);
    }
    /// [`crate::Fact::Administered`]
    ADMINISTERED = 60, "administered" {
        write 1: Fact::Administered { actor, call, target, reason } =>
            AdministeredV1 { actor, call, target, reason };
        read 1: v = AdministeredV1<'_> => Fact::Administered {
            actor: v.actor.into(),
            call: v.call.into(),
            target: v.target.into(),
            reason: v.reason.into(),
        };
    }
    /// [`crate::Fact::QuarantineResolved`]
    QUARANTINE_RESOLVED = 61, "quarantine_resolved" {
        write 1: Fact::QuarantineResolved { input, resolution } =>
            QuarantineResolvedV1 { input: input.0, resolution: *resolution };
        read 1: v = QuarantineResolvedV1 =>
            Fact::QuarantineResolved { input: Seq(v.input), resolution: v.resolution };
    }
    /// [`crate::command::Progress::Unsent`]
    COMMAND_UNSENT = 62, "command_unsent" {
        write 1: Fact::CommandProgressed { device, command, progress: Progress::Unsent } =>
            CommandStepV1 { device: device.0, command: command.0 };
        read 1: v = CommandStepV1 => step(v.device, v.command, Progress::Unsent);
    }
    /// [`crate::Fact::AlertRaised`]
    ALERT_RAISED = 70, "alert_raised" {
        write 1: Fact::AlertRaised(alert) => AlertRaisedV1::of(alert);
        read 1: v = AlertRaisedV1<'_> => Fact::AlertRaised(Box::new(v.lift()));
    }
    /// [`crate::Fact::AlertCleared`]
    ALERT_CLEARED = 71, "alert_cleared" {
        write 1: Fact::AlertCleared(cleared) => AlertClearedV1::of(cleared);
        read 1: v = AlertClearedV1<'_> => Fact::AlertCleared(Box::new(v.lift()));
    }
}

/// Whether a type is that of a step of a command.
pub const fn is_command_step(type_id: u16) -> bool {
    matches!(type_id, type_id::COMMAND_DISPATCHED..=type_id::COMMAND_UNKNOWN | type_id::COMMAND_UNSENT)
}

/// Type id of a step of a command.
pub fn step_type(progress: &Progress) -> u16 {
    match progress {
        Progress::Dispatched { .. } => type_id::COMMAND_DISPATCHED,
        Progress::Acknowledged { .. } => type_id::COMMAND_ACKNOWLEDGED,
        Progress::Applied { .. } => type_id::COMMAND_APPLIED,
        Progress::Failed { .. } => type_id::COMMAND_FAILED,
        Progress::Expired => type_id::COMMAND_EXPIRED,
        Progress::Superseded { .. } => type_id::COMMAND_SUPERSEDED,
        Progress::Unconfirmed => type_id::COMMAND_UNCONFIRMED,
        Progress::Unknown => type_id::COMMAND_UNKNOWN,
        Progress::Unsent => type_id::COMMAND_UNSENT,
    }
}

fn step(device: u32, command: u64, progress: Progress) -> Fact {
    Fact::CommandProgressed { device: DeviceId(device), command: Seq(command), progress }
}

/// Name of a type, as answers and filters use it.
pub fn type_name(type_id: u16) -> Option<&'static str> {
    KINDS.iter().find(|(id, _, _)| *id == type_id).map(|(_, _, name)| *name)
}

/// Type id of a name.
pub fn type_named(name: &str) -> Option<u16> {
    KINDS.iter().find(|(_, _, n)| *n == name).map(|(id, _, _)| *id)
}
