//! The payloads of all kinds except `StateChanged` and those of alerts. A released struct never changes.

use serde::{Deserialize, Serialize};

use super::value::ValueV2;
use crate::command::{AcknowledgedBy, CommandRejection, CommandRequest, Evidence, OnOffline, Publish};
use crate::description::{DataType, DescribedBy};
use crate::fact::{Availability, AvailabilityCause, ClockQuality, Resolution};
use crate::{Time, TraceParent, ValueRef};

#[derive(Serialize, Deserialize)]
pub(super) struct AvailabilityChangedV1 {
    pub device: u32,
    pub availability: Availability,
    pub cause: AvailabilityCause,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeviceDiscoveredV1<'a> {
    pub device: u32,
    pub name: &'a str,
    pub source: &'a str,
    pub parent: Option<u32>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeviceDiscoveredV2<'a> {
    pub device: u32,
    pub id: &'a str,
    pub source: &'a str,
    pub parent: Option<u32>,
    /// The namespace, and the name in it if it differs from the id.
    #[serde(borrow)]
    pub identity: Option<(&'a str, Option<&'a str>)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeviceRenamedV1<'a> {
    pub device: u32,
    pub id: &'a str,
    pub called: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct QuarantineSummarisedV1<'a> {
    pub source: &'a str,
    pub topic: &'a str,
    pub reason: &'a str,
    pub size: u64,
    pub count: u64,
    pub first: i64,
    pub last: i64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AttributeNamedV1<'a> {
    pub attribute: u32,
    pub name: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeviceRetiredV1 {
    pub device: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeviceForgottenV1 {
    pub device: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ActionFiredV1<'a> {
    pub device: u32,
    pub attribute: u32,
    #[serde(borrow)]
    pub value: ValueV2<'a>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct InputQuarantinedV1<'a> {
    pub source: &'a str,
    pub topic: &'a str,
    pub reason: &'a str,
    pub size: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct BootedV1<'a> {
    pub boot_id: [u8; 16],
    pub version: &'a str,
    pub clock: ClockQuality,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ClockSteppedV1 {
    pub expected: i64,
    pub found: i64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ClockCorrectedV1 {
    pub before: i64,
    pub after: i64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ConfigChangedV1<'a> {
    #[serde(borrow)]
    pub keys: Vec<&'a str>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeadLetteredV1<'a> {
    pub sink: &'a str,
    pub first: u64,
    pub last: u64,
    pub reason: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct TrimmedV1 {
    pub first: u64,
    pub last: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct GapV1<'a> {
    pub first: u64,
    pub last: u64,
    #[serde(borrow)]
    pub lost_by: Vec<&'a str>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct EpochBegunV1<'a> {
    pub previous: Option<u64>,
    pub reason: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RecordsLostV1<'a> {
    pub first: u64,
    pub last: u64,
    pub reason: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeviceDescribedV1<'a> {
    pub device: u32,
    pub by: DescribedBy,
    pub stable_id: &'a str,
    pub name: &'a str,
    pub model: &'a str,
    pub manufacturer: &'a str,
    pub area: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AttributeDescribedV1<'a> {
    pub device: u32,
    pub attribute: u32,
    pub by: DescribedBy,
    pub name: &'a str,
    pub unit: &'a str,
    pub device_class: &'a str,
    pub data_type: DataType,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub step: Option<f64>,
    #[serde(borrow)]
    pub values: Vec<&'a str>,
    pub writable: Option<bool>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct HistoryReportedV1<'a> {
    pub device: u32,
    #[serde(borrow)]
    pub changes: Vec<(u32, ValueV2<'a>)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct MetricsDeclaredV1 {
    pub device: u32,
    /// Attribute, alias and data type of each.
    pub metrics: Vec<(Option<u32>, Option<u64>, u32)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SessionNotedV1 {
    pub device: u32,
    pub birth: Option<u64>,
    pub seq: Option<u8>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct CommandRequestedV1<'a> {
    pub device: u32,
    pub actor: &'a str,
    pub key: &'a str,
    pub digest: [u8; 16],
    pub reason: &'a str,
    pub name: &'a str,
    pub operation: bool,
    #[serde(borrow)]
    pub value: ValueV2<'a>,
    pub expires: i64,
    pub ttl_s: u32,
    pub booted_for: u64,
    pub remember_until: i64,
    pub source: &'a str,
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: u8,
    pub idempotent: bool,
    pub on_offline: OnOffline,
    pub confirm_s: u32,
    #[serde(borrow)]
    pub evidence: EvidenceV1<'a>,
}

#[derive(Serialize, Deserialize)]
pub(super) enum EvidenceV1<'a> {
    None,
    Reported {
        attribute: &'a str,
        #[serde(borrow)]
        target: ValueV2<'a>,
        tolerance: f64,
    },
    Reply {
        topic: &'a str,
        id: &'a str,
        error: &'a str,
    },
    Both {
        attribute: &'a str,
        #[serde(borrow)]
        target: ValueV2<'a>,
        tolerance: f64,
        topic: &'a str,
        id: &'a str,
        error: &'a str,
    },
}

impl<'a> CommandRequestedV1<'a> {
    pub(super) fn of(device: u32, request: &'a CommandRequest) -> CommandRequestedV1<'a> {
        let Publish { source, topic, payload, qos } = &request.publish;
        CommandRequestedV1 {
            device,
            actor: &request.actor,
            key: &request.key,
            digest: request.digest,
            reason: &request.reason,
            name: &request.name,
            operation: request.operation,
            value: request.value.borrow().into(),
            expires: request.expires.0,
            ttl_s: request.ttl_s,
            booted_for: request.booted_for,
            remember_until: request.remember_until.0,
            source,
            topic,
            payload,
            qos: *qos,
            idempotent: request.idempotent,
            on_offline: request.on_offline,
            confirm_s: request.confirm_s,
            evidence: match &request.evidence {
                Evidence::None => EvidenceV1::None,
                Evidence::Reported { attribute, target, tolerance } => {
                    EvidenceV1::Reported { attribute, target: target.borrow().into(), tolerance: *tolerance }
                }
                Evidence::Reply { topic, id, error } => EvidenceV1::Reply { topic, id, error },
                Evidence::Both { attribute, target, tolerance, topic, id, error } => EvidenceV1::Both {
                    attribute,
                    target: target.borrow().into(),
                    tolerance: *tolerance,
                    topic,
                    id,
                    error,
                },
            },
        }
    }

    pub(super) fn lift(self) -> CommandRequest {
        CommandRequest {
            actor: self.actor.into(),
            key: self.key.into(),
            digest: self.digest,
            reason: self.reason.into(),
            name: self.name.into(),
            operation: self.operation,
            value: ValueRef::from(self.value).to_owned(),
            expires: Time(self.expires),
            ttl_s: self.ttl_s,
            booted_for: self.booted_for,
            remember_until: Time(self.remember_until),
            publish: Publish {
                source: self.source.into(),
                topic: self.topic.into(),
                payload: self.payload.into(),
                qos: self.qos,
            },
            idempotent: self.idempotent,
            on_offline: self.on_offline,
            confirm_s: self.confirm_s,
            evidence: match self.evidence {
                EvidenceV1::None => Evidence::None,
                EvidenceV1::Reported { attribute, target, tolerance } => Evidence::Reported {
                    attribute: attribute.into(),
                    target: ValueRef::from(target).to_owned(),
                    tolerance,
                },
                EvidenceV1::Reply { topic, id, error } => {
                    Evidence::Reply { topic: topic.into(), id: id.into(), error: error.into() }
                }
                EvidenceV1::Both { attribute, target, tolerance, topic, id, error } => Evidence::Both {
                    attribute: attribute.into(),
                    target: ValueRef::from(target).to_owned(),
                    tolerance,
                    topic: topic.into(),
                    id: id.into(),
                    error: error.into(),
                },
            },
            traceparent: None,
        }
    }
}

/// Version 1 and what is only written where it is given.
#[derive(Serialize, Deserialize)]
pub(super) struct CommandRequestedV2<'a> {
    #[serde(borrow)]
    pub request: CommandRequestedV1<'a>,
    pub traceparent: Option<TraceParent>,
}

impl<'a> CommandRequestedV2<'a> {
    pub(super) fn of(device: u32, request: &'a CommandRequest) -> CommandRequestedV2<'a> {
        CommandRequestedV2 {
            request: CommandRequestedV1::of(device, request),
            traceparent: request.traceparent,
        }
    }

    pub(super) fn lift(self) -> CommandRequest {
        CommandRequest { traceparent: self.traceparent, ..self.request.lift() }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct CommandRejectedV1<'a> {
    pub device: Option<u32>,
    pub actor: &'a str,
    pub key: &'a str,
    pub named: &'a str,
    pub name: &'a str,
    pub code: &'a str,
    pub reason: &'a str,
    pub unrecorded: u64,
}

impl<'a> CommandRejectedV1<'a> {
    pub(super) fn of(device: Option<u32>, rejection: &'a CommandRejection) -> CommandRejectedV1<'a> {
        let CommandRejection { actor, key, device: named, name, code, reason, unrecorded } = rejection;
        CommandRejectedV1 { device, actor, key, named, name, code, reason, unrecorded: *unrecorded }
    }

    pub(super) fn lift(self) -> CommandRejection {
        CommandRejection {
            actor: self.actor.into(),
            key: self.key.into(),
            device: self.named.into(),
            name: self.name.into(),
            code: self.code.into(),
            reason: self.reason.into(),
            unrecorded: self.unrecorded,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct CommandDispatchedV1 {
    pub device: u32,
    pub command: u64,
    pub attempt: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct CommandAcknowledgedV1 {
    pub device: u32,
    pub command: u64,
    pub by: AcknowledgedBy,
}

#[derive(Serialize, Deserialize)]
pub(super) struct CommandAppliedV1 {
    pub device: u32,
    pub command: u64,
    pub evidence: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct CommandFailedV1<'a> {
    pub device: u32,
    pub command: u64,
    pub reason: &'a str,
}

/// Expired, unconfirmed, unknown, unsent: there is no more to say.
#[derive(Serialize, Deserialize)]
pub(super) struct CommandStepV1 {
    pub device: u32,
    pub command: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct CommandSupersededV1 {
    pub device: u32,
    pub command: u64,
    pub by: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AdministeredV1<'a> {
    pub actor: &'a str,
    pub call: &'a str,
    pub target: &'a str,
    pub reason: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct QuarantineResolvedV1 {
    pub input: u64,
    pub resolution: Resolution,
}
