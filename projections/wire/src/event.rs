//! Records as JSON: one schema per type, the same over HTTP, in CloudEvents and in the stream.

use fieldlog_projections::alert::Subject;
use fieldlog_projections::fact::DeclaredMetric;
use fieldlog_projections::{AttrId, DeviceId, Fact, Seq, Value};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::command::{RequestJson, StepJson};
use crate::describe::{AttributeJson, DeviceJson};
use crate::json::{self, Rfc3339, Val};

/// Resolves numbers to names.
pub trait Naming {
    /// A device's name.
    fn device(&self, id: DeviceId) -> &str;
    /// An attribute's name.
    fn attribute(&self, id: AttrId) -> &str;
    /// Unit and display name of a device's attribute, where known and wanted; otherwise empty texts.
    fn described(&self, _device: DeviceId, _attribute: AttrId) -> (&str, &str) {
        ("", "")
    }
}

/// Changes as an object; removed attributes are null.
pub struct ChangesJson<'a>(pub &'a dyn Naming, pub &'a [(AttrId, Value)]);

impl Serialize for ChangesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.1.len()))?;
        for (attr, value) in self.1 {
            map.serialize_entry(self.0.attribute(*attr), &Val(value.borrow()))?;
        }
        map.end()
    }
}

/// A metric of a Sparkplug birth certificate.
#[derive(Serialize)]
struct MetricJson<'a> {
    attribute: Option<&'a str>,
    alias: Option<u64>,
    datatype: u32,
}

/// Units and display names of attributes; attributes without either are left out.
struct DescribedJson<'a>(&'a dyn Naming, DeviceId, Vec<AttrId>);

#[derive(Serialize)]
struct InBrief<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    unit: &'a str,
}

impl<'a> DescribedJson<'a> {
    fn of(names: &'a dyn Naming, device: DeviceId, attributes: impl Iterator<Item = AttrId>) -> Option<Self> {
        let known = attributes.filter(|attr| names.described(device, *attr) != ("", ""));
        Some(DescribedJson(names, device, known.collect())).filter(|described| !described.2.is_empty())
    }
}

impl Serialize for DescribedJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let DescribedJson(names, device, attributes) = self;
        let mut map = serializer.serialize_map(Some(attributes.len()))?;
        for attr in attributes {
            let (unit, name) = names.described(*device, *attr);
            map.serialize_entry(names.attribute(*attr), &InBrief { name, unit })?;
        }
        map.end()
    }
}

/// What an alert is about, beside the device.
#[derive(Serialize)]
struct AboutJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    attribute: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sink: Option<&'a str>,
}

impl<'a> AboutJson<'a> {
    fn of(subject: &'a Subject, names: &'a dyn Naming) -> AboutJson<'a> {
        AboutJson { attribute: subject.attribute().map(|id| names.attribute(id)), sink: subject.sink() }
    }
}

/// The content of a record, as the `data` of an event; its form depends on the record's type.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Data<'a>(Schema<'a>);

/// One variant per form.
#[derive(Serialize)]
#[serde(untagged)]
enum Schema<'a> {
    Changes {
        changes: ChangesJson<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        described: Option<DescribedJson<'a>>,
    },
    Availability {
        availability: &'a str,
        cause: &'a str,
    },
    Discovered {
        name: &'a str,
        source: &'a str,
        parent: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        /// Its name at the source.
        #[serde(skip_serializing_if = "Option::is_none")]
        called: Option<&'a str>,
    },
    Renamed {
        name: &'a str,
        called: &'a str,
    },
    Named {
        attribute: u32,
        name: &'a str,
    },
    Retired {},
    Forgotten {
        number: u32,
    },
    DeviceDescribed {
        by: &'a str,
        description: DeviceJson<'a>,
    },
    AttributeDescribed {
        attribute: &'a str,
        by: &'a str,
        description: AttributeJson<'a>,
    },
    Action {
        attribute: &'a str,
        value: Val<'a>,
    },
    Metrics {
        metrics: Vec<MetricJson<'a>>,
    },
    Session {
        birth: Option<u64>,
        seq: Option<u8>,
    },
    Quarantined {
        source: &'a str,
        topic: &'a str,
        reason: &'a str,
        size: u64,
    },
    Summarised {
        source: &'a str,
        topic: &'a str,
        reason: &'a str,
        size: u64,
        count: u64,
        first_at: Rfc3339,
        last_at: Rfc3339,
    },
    Booted {
        version: &'a str,
        boot_id: String,
        clock: &'a str,
    },
    Stepped {
        expected: Rfc3339,
        found: Rfc3339,
    },
    Corrected {
        before: Rfc3339,
        after: Rfc3339,
    },
    Config {
        keys: &'a [String],
    },
    DeadLettered {
        sink: &'a str,
        first: Seq,
        last: Seq,
        reason: &'a str,
    },
    Trimmed {
        first: Seq,
        last: Seq,
    },
    Gap {
        first: Seq,
        last: Seq,
        lost_by: &'a [String],
    },
    EpochBegun {
        previous_epoch: Option<String>,
        reason: &'a str,
    },
    RecordsLost {
        first: Seq,
        last: Seq,
        reason: &'a str,
    },
    CommandRequested(RequestJson<'a>),
    CommandRejected {
        device: &'a str,
        name: &'a str,
        actor: &'a str,
        key: &'a str,
        code: &'a str,
        reason: &'a str,
        unrecorded: u64,
    },
    CommandProgressed(StepJson<'a>),
    Administered {
        actor: &'a str,
        call: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        target: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        reason: &'a str,
    },
    QuarantineResolved {
        input: Seq,
        resolution: &'a str,
    },
    AlertRaised {
        rule: &'a str,
        severity: &'a str,
        #[serde(flatten)]
        about: AboutJson<'a>,
        condition: &'a str,
        threshold: Val<'a>,
        value: Val<'a>,
    },
    AlertCleared {
        /// Position of its `alert_raised`.
        raised: Seq,
        rule: &'a str,
        severity: &'a str,
        #[serde(flatten)]
        about: AboutJson<'a>,
        because: &'a str,
        value: Val<'a>,
    },
    Unknown {
        type_id: u16,
        version: u8,
        payload_base16: String,
    },
}

impl<'a> Data<'a> {
    /// From a fact, with names in place of numbers.
    pub fn of(fact: &'a Fact, names: &'a dyn Naming) -> Data<'a> {
        Data(Schema::of(fact, names))
    }
}

impl<'a> Schema<'a> {
    fn of(fact: &'a Fact, names: &'a dyn Naming) -> Schema<'a> {
        match fact {
            Fact::StateChanged { device, changes } => Schema::Changes {
                changes: ChangesJson(names, changes),
                described: DescribedJson::of(names, *device, changes.iter().map(|(attr, _)| *attr)),
            },
            Fact::AvailabilityChanged { availability, cause, .. } => Schema::Availability {
                availability: json::availability(*availability),
                cause: json::cause(*cause),
            },
            Fact::DeviceDiscovered { name, source, parent, identity, .. } => Schema::Discovered {
                name,
                source,
                parent: parent.map(|id| names.device(id)),
                namespace: identity.as_ref().map(|identity| identity.namespace.as_str()),
                called: identity.as_ref().map(|identity| identity.name.as_str()),
            },
            Fact::DeviceRenamed { name, called, .. } => Schema::Renamed { name, called },
            Fact::AttributeNamed { attribute, name } => Schema::Named { attribute: attribute.0, name },
            Fact::DeviceRetired { .. } => Schema::Retired {},
            Fact::DeviceForgotten { device } => Schema::Forgotten { number: device.0 },
            Fact::DeviceDescribed { by, description, .. } => Schema::DeviceDescribed {
                by: json::described_by(*by),
                description: DeviceJson::of(description),
            },
            Fact::AttributeDescribed { attribute, by, description, .. } => Schema::AttributeDescribed {
                attribute: names.attribute(*attribute),
                by: json::described_by(*by),
                description: AttributeJson::of(description),
            },
            Fact::ActionFired { attribute, value, .. } => {
                Schema::Action { attribute: names.attribute(*attribute), value: Val(value.borrow()) }
            }
            Fact::HistoryReported { changes, .. } => {
                Schema::Changes { changes: ChangesJson(names, changes), described: None }
            }
            Fact::MetricsDeclared { metrics, .. } => {
                let metric = |metric: &DeclaredMetric| MetricJson {
                    attribute: metric.attribute.map(|attr| names.attribute(attr)),
                    alias: metric.alias,
                    datatype: metric.datatype,
                };
                Schema::Metrics { metrics: metrics.iter().map(metric).collect() }
            }
            Fact::SessionNoted { birth, seq, .. } => Schema::Session { birth: *birth, seq: *seq },
            Fact::InputQuarantined { source, topic, reason, size } => {
                Schema::Quarantined { source, topic, reason, size: *size }
            }
            Fact::QuarantineSummarised { source, topic, reason, size, count, first, last } => {
                Schema::Summarised {
                    source,
                    topic,
                    reason,
                    size: *size,
                    count: *count,
                    first_at: Rfc3339(*first),
                    last_at: Rfc3339(*last),
                }
            }
            Fact::Booted { boot_id, version, clock } => {
                Schema::Booted { version, boot_id: json::base16(boot_id), clock: json::clock(*clock) }
            }
            Fact::ClockStepped { expected, found } => {
                Schema::Stepped { expected: Rfc3339(*expected), found: Rfc3339(*found) }
            }
            Fact::ClockCorrected { before, after } => {
                Schema::Corrected { before: Rfc3339(*before), after: Rfc3339(*after) }
            }
            Fact::ConfigChanged { keys } => Schema::Config { keys },
            Fact::DeadLettered { sink, first, last, reason } => {
                Schema::DeadLettered { sink, first: *first, last: *last, reason }
            }
            Fact::Trimmed { first, last } => Schema::Trimmed { first: *first, last: *last },
            Fact::Gap { first, last, lost_by } => Schema::Gap { first: *first, last: *last, lost_by },
            Fact::EpochBegun { previous, reason } => {
                Schema::EpochBegun { previous_epoch: previous.map(|epoch| epoch.to_string()), reason }
            }
            Fact::RecordsLost { first, last, reason } => {
                Schema::RecordsLost { first: *first, last: *last, reason }
            }
            Fact::CommandRequested { request, .. } => Schema::CommandRequested(RequestJson::of(request)),
            Fact::CommandRejected { rejection, .. } => Schema::CommandRejected {
                device: &rejection.device,
                name: &rejection.name,
                actor: &rejection.actor,
                key: &rejection.key,
                code: &rejection.code,
                reason: &rejection.reason,
                unrecorded: rejection.unrecorded,
            },
            Fact::CommandProgressed { command, progress, .. } => {
                Schema::CommandProgressed(StepJson::of(*command, progress))
            }
            Fact::Administered { actor, call, target, reason } => {
                Schema::Administered { actor, call, target, reason }
            }
            Fact::QuarantineResolved { input, resolution } => {
                Schema::QuarantineResolved { input: *input, resolution: json::resolution(*resolution) }
            }
            Fact::AlertRaised(alert) => Schema::AlertRaised {
                rule: &alert.rule,
                severity: alert.severity.word(),
                about: AboutJson::of(&alert.subject, names),
                condition: alert.condition.word(),
                threshold: Val(alert.threshold.borrow()),
                value: Val(alert.value.borrow()),
            },
            Fact::AlertCleared(cleared) => Schema::AlertCleared {
                raised: cleared.raised,
                rule: &cleared.rule,
                severity: cleared.severity.word(),
                about: AboutJson::of(&cleared.subject, names),
                because: cleared.because.word(),
                value: Val(cleared.value.borrow()),
            },
            Fact::Unknown { kind, payload } => Schema::Unknown {
                type_id: kind.type_id,
                version: kind.version,
                payload_base16: json::base16(payload),
            },
        }
    }
}
