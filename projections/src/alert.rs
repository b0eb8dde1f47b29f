//! Alerts: what a rule of the configuration finds wrong. An alert is named by the position of its `alert_raised`.

use serde::{Deserialize, Serialize};

use crate::{AttrId, DeviceId, Value};

/// Something that a rule found wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The name of the rule.
    pub rule: String,
    /// How bad it is, as the rule says.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// What the rule asks.
    pub condition: Condition,
    /// What the value was compared with; [`Value::Null`] if with nothing.
    pub threshold: Value,
    /// The value when it was raised.
    pub value: Value,
}

/// What an alert is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Subject {
    /// An attribute of a device.
    Attribute(DeviceId, AttrId),
    /// A device.
    Device(DeviceId),
    /// A sink, by its name.
    Sink(String),
}

/// How bad an alert is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody should look at it.
    #[default]
    Warning,
    /// Somebody must look at it now.
    Critical,
}

/// What a rule asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// The value is greater than the threshold.
    Above,
    /// The value is less than the threshold.
    Below,
    /// The value is the threshold.
    Equals,
    /// The device has not been heard; value and threshold are seconds.
    Silent,
    /// The device is offline; the threshold is in seconds, and there is no value.
    Offline,
    /// The device says itself that its battery is low.
    BatteryLow,
    /// More events wait for the sink.
    BacklogEvents,
    /// The oldest event that waits for the sink is older; value and threshold are seconds.
    BacklogSeconds,
}

/// Why an alert was cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClearedBecause {
    /// What was wrong is not wrong any more.
    Ended,
    /// The rule is not in the configuration any more, or does not include this any more.
    RuleRemoved,
    /// What it is about is gone: the device was retired, or the attribute removed.
    SubjectGone,
}

/// The end of an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertCleared {
    /// Position of its `alert_raised`.
    pub raised: crate::Seq,
    /// The name of the rule.
    pub rule: String,
    /// How bad it was.
    pub severity: Severity,
    /// What it was about.
    pub subject: Subject,
    /// Why.
    pub because: ClearedBecause,
    /// The value by now; [`Value::Null`] if there is none.
    pub value: Value,
}

impl Subject {
    /// The device that it is about, or is a part of.
    pub fn device(&self) -> Option<DeviceId> {
        match self {
            Subject::Attribute(device, _) | Subject::Device(device) => Some(*device),
            Subject::Sink(_) => None,
        }
    }

    /// The attribute.
    pub fn attribute(&self) -> Option<AttrId> {
        match self {
            Subject::Attribute(_, attribute) => Some(*attribute),
            Subject::Device(_) | Subject::Sink(_) => None,
        }
    }

    /// The sink.
    pub fn sink(&self) -> Option<&str> {
        match self {
            Subject::Sink(name) => Some(name),
            Subject::Attribute(..) | Subject::Device(_) => None,
        }
    }
}

impl Severity {
    /// Both, the milder one first.
    pub const ALL: [Severity; 2] = [Severity::Warning, Severity::Critical];

    /// In text.
    pub const fn word(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

impl Condition {
    /// In text.
    pub const fn word(self) -> &'static str {
        match self {
            Condition::Above => "above",
            Condition::Below => "below",
            Condition::Equals => "equals",
            Condition::Silent => "silent",
            Condition::Offline => "offline",
            Condition::BatteryLow => "battery-low",
            Condition::BacklogEvents => "backlog-events",
            Condition::BacklogSeconds => "backlog-seconds",
        }
    }
}

impl ClearedBecause {
    /// In text.
    pub const fn word(self) -> &'static str {
        match self {
            ClearedBecause::Ended => "ended",
            ClearedBecause::RuleRemoved => "rule-removed",
            ClearedBecause::SubjectGone => "subject-gone",
        }
    }
}
