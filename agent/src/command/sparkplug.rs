//! Metrics of Sparkplug edge nodes and devices: what their births declare can be written, unless they say that it is read
//! only. The evidence is the metric in a later message.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use fieldlog_projections::command::OnOffline;
use fieldlog_projections::fact::DeclaredMetric;
use fieldlog_projections::{AttrId, AttributeDescription, DataType, DeviceId, Time, Value, View};
use serde_json::Value as Json;

use super::rejected::{Code, Rejected};
use crate::config::{CommandRule, EvidenceKind};
use crate::sparkplug::command::{Called, write};
use crate::sparkplug::given::{Form, form, raw};
use crate::sparkplug::value;

/// How long a metric is waited for.
const CONFIRM: Duration = Duration::from_secs(30);

/// Longest text that is given, in bytes.
const TEXT_BYTES_MAX: usize = 65_536;

/// A metric that can be written.
#[derive(Clone, Debug)]
pub(super) struct Metric<'a> {
    /// `group/node`, or `group/node/device`.
    owner: &'a str,
    declared: DeclaredMetric,
    form: Form,
}

/// The block that stands for all metrics: an edge node hears commands with QoS 0 only (tck-id-payloads-ncmd-qos).
pub(super) fn rule() -> &'static CommandRule {
    static RULE: LazyLock<CommandRule> = LazyLock::new(|| CommandRule {
        devices: vec!["*".to_owned()],
        attribute: "*".to_owned(),
        operation: String::new(),
        of: String::new(),
        device: String::new(),
        conditions: BTreeMap::new(),
        except: Vec::new(),
        announced: false,
        data_type: DataType::Unknown,
        min: None,
        max: None,
        values: Vec::new(),
        unit: String::new(),
        topic: String::new(),
        payload: String::new(),
        words: BTreeMap::new(),
        qos: 0,
        idempotent: true,
        on_offline: OnOffline::Reject,
        confirm: CONFIRM,
        evidence: EvidenceKind::Reported,
        reports: String::new(),
        reaches: String::new(),
        tolerance: 0.0,
        reply: None,
        namespace: None,
        device_prefix: String::new(),
    });
    &RULE
}

impl<'a> Metric<'a> {
    /// The metric that an attribute is, if the newest birth declares it with a data type that can be given.
    pub(super) fn find(
        view: &'a View,
        device: DeviceId,
        owner: &'a str,
        attribute: AttrId,
    ) -> Option<Metric<'a>> {
        let session = view.sessions.get(device)?;
        let declared = session.metrics.iter().find(|metric| metric.attribute == Some(attribute))?;
        Some(Metric { owner, declared: *declared, form: form(declared.datatype)? })
    }

    /// What its values must be.
    pub(super) fn description(&self) -> AttributeDescription {
        let mut description =
            AttributeDescription { writable: Some(true), ..AttributeDescription::default() };
        description.data_type = match self.form {
            Form::Integer(..) => DataType::Integer,
            Form::Number => DataType::Number,
            Form::Boolean => DataType::Boolean,
            Form::Text | Form::Time => DataType::Text,
        };
        description
    }

    /// Topic and payload of the command, and the value that is to be reported.
    pub(super) fn command(
        &self,
        name: &str,
        given: &Json,
        at: Time,
    ) -> Result<(String, Vec<u8>, Value), Rejected> {
        let DeclaredMetric { alias, datatype, .. } = self.declared;
        let invalid = |allowed: String| {
            let reason = format!("`value` is {given}; `{name}` takes {allowed}");
            Rejected::new(Code::InvalidValue, reason)
        };
        let value = raw(datatype, given).ok_or_else(|| invalid(self.allowed()))?;
        let target = value::value(datatype, &value, TEXT_BYTES_MAX)
            .map_err(|fault| invalid(format!("no such value: {fault}")))?;
        let called = alias.map_or(Called::Name(name), Called::Alias);
        let (topic, payload) = write(self.owner, called, datatype, value, at).ok_or_else(|| {
            let reason = format!("`{}` is not the name of a Sparkplug edge node or device", self.owner);
            Rejected::new(Code::NoSuchCommand, reason)
        })?;
        Ok((topic, payload.to_vec(), target))
    }

    fn allowed(&self) -> String {
        match self.form {
            Form::Integer(min, max) => {
                format!("a whole number from {min} to {max}, because of its data type")
            }
            Form::Number => "a number of its data type".to_owned(),
            Form::Boolean => "true or false".to_owned(),
            Form::Text => "a text".to_owned(),
            Form::Time => "a time such as \"2026-11-28T12:00:00Z\", not before 1970".to_owned(),
        }
    }
}
