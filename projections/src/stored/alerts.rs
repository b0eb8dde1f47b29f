//! The payloads of alerts. A released struct never changes.

use serde::{Deserialize, Serialize};

use super::value::ValueV2;
use crate::alert::{Alert, AlertCleared, ClearedBecause, Condition, Severity, Subject};
use crate::{AttrId, DeviceId, Seq, ValueRef};

#[derive(Serialize, Deserialize)]
pub(super) enum SubjectV1<'a> {
    Attribute(u32, u32),
    Device(u32),
    Sink(&'a str),
}

impl<'a> SubjectV1<'a> {
    fn of(subject: &'a Subject) -> SubjectV1<'a> {
        match subject {
            Subject::Attribute(device, attribute) => SubjectV1::Attribute(device.0, attribute.0),
            Subject::Device(device) => SubjectV1::Device(device.0),
            Subject::Sink(name) => SubjectV1::Sink(name),
        }
    }

    fn lift(&self) -> Subject {
        match *self {
            SubjectV1::Attribute(device, attribute) => {
                Subject::Attribute(DeviceId(device), AttrId(attribute))
            }
            SubjectV1::Device(device) => Subject::Device(DeviceId(device)),
            SubjectV1::Sink(name) => Subject::Sink(name.into()),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct AlertRaisedV1<'a> {
    pub rule: &'a str,
    pub severity: Severity,
    #[serde(borrow)]
    pub subject: SubjectV1<'a>,
    pub condition: Condition,
    pub threshold: ValueV2<'a>,
    pub value: ValueV2<'a>,
}

impl<'a> AlertRaisedV1<'a> {
    pub(super) fn of(alert: &'a Alert) -> AlertRaisedV1<'a> {
        let Alert { rule, severity, subject, condition, threshold, value } = alert;
        AlertRaisedV1 {
            rule,
            severity: *severity,
            subject: SubjectV1::of(subject),
            condition: *condition,
            threshold: threshold.borrow().into(),
            value: value.borrow().into(),
        }
    }

    pub(super) fn lift(self) -> Alert {
        Alert {
            rule: self.rule.into(),
            severity: self.severity,
            subject: self.subject.lift(),
            condition: self.condition,
            threshold: ValueRef::from(self.threshold).to_owned(),
            value: ValueRef::from(self.value).to_owned(),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct AlertClearedV1<'a> {
    pub raised: u64,
    pub rule: &'a str,
    pub severity: Severity,
    #[serde(borrow)]
    pub subject: SubjectV1<'a>,
    pub because: ClearedBecause,
    pub value: ValueV2<'a>,
}

impl<'a> AlertClearedV1<'a> {
    pub(super) fn of(cleared: &'a AlertCleared) -> AlertClearedV1<'a> {
        let AlertCleared { raised, rule, severity, subject, because, value } = cleared;
        AlertClearedV1 {
            raised: raised.0,
            rule,
            severity: *severity,
            subject: SubjectV1::of(subject),
            because: *because,
            value: value.borrow().into(),
        }
    }

    pub(super) fn lift(self) -> AlertCleared {
        AlertCleared {
            raised: Seq(self.raised),
            rule: self.rule.into(),
            severity: self.severity,
            subject: self.subject.lift(),
            because: self.because,
            value: ValueRef::from(self.value).to_owned(),
        }
    }
}
