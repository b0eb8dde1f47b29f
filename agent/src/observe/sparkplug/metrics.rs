//! The metrics of edge nodes and devices: those listed in births, and their values in messages.

use std::sync::atomic::Ordering;

use fieldlog_projections::chunk::Envelope;
use fieldlog_projections::fact::{Availability, AvailabilityCause, DeclaredMetric, Fact};
use fieldlog_projections::{AttrId, DeviceId, Time, Value};

use super::properties::Told;
use super::{EdgeNode, Sparkplug};
use crate::observe::outcomes::{Refusal, Verdict};
use crate::observe::{Observer, RecordBatch, at, budget};
use crate::sparkplug::command::REBIRTH;
use crate::sparkplug::payload::{BDSEQ, Certificate, Metric};
use crate::sparkplug::property::{Properties, PropertyFault};
use crate::sparkplug::session::{Reason, Trust};
use crate::sparkplug::value::{self, ValueFault};
use fieldlog_rules::decode;

/// Metrics that are not state: the session number, and commands.
const NOT_RECORDED: [&str; 4] = [BDSEQ, REBIRTH, "Node Control/Reboot", "Node Control/Next Server"];

/// One value of a metric.
struct Report {
    slot: u32,
    attr: AttrId,
    value: Value,
    at: Option<Time>,
    historical: bool,
}

/// How a metric is recorded.
enum Resolved {
    As {
        attr: AttrId,
        datatype: u32,
    },
    NotRecorded,
    /// No birth lists it.
    Unknown,
    /// Its alias may mean something else by now.
    Doubtful,
}

impl Observer {
    /// NBIRTH or DBIRTH: all metrics, with their current values.
    pub(super) fn certified(
        &mut self,
        node: &mut EdgeNode,
        taken: &Sparkplug<'_>,
        name: &str,
        payload: Certificate,
        batch: &mut RecordBatch,
    ) -> Result<Verdict, Refusal> {
        let before = batch.records.len();
        let received = taken.received;
        let bytes = budget::declared_bytes(payload.metrics.len());
        self.room_for_metrics(bytes, name)?;
        let device = self.member(taken, name, batch)?;
        self.sources[taken.source].outcomes.sparkplug.births.fetch_add(1, Ordering::Relaxed);
        self.sign_of_life(device, received, batch);
        self.set_availability(device, Availability::Online, AvailabilityCause::Topic, received, batch);
        let birth = payload.birth();
        if taken.topic.device.is_none() {
            node.table.forget_session();
            if node.noted != birth || birth.is_none() {
                node.noted = birth;
                let fact = Fact::SessionNoted { device, birth, seq: None };
                batch.records.push_fact(at(received), &fact);
            }
        }
        let sent = self.own_time(taken.source, device, payload.timestamp, node.table.told(device));
        let mut refusal = Refusals::default();
        let (mut declared, mut reports) = (Vec::with_capacity(payload.metrics.len()), Vec::new());
        let mut described = Vec::new();
        for metric in payload.metrics {
            let Some(text) = metric.name.as_deref().filter(|text| !text.is_empty()) else {
                refusal.say("a metric of a birth certificate has no name");
                continue;
            };
            let datatype = metric.datatype.unwrap_or(0);
            let recorded = !NOT_RECORDED.contains(&text);
            let slot = if recorded { self.metric_slot(device, text, received, batch) } else { Ok(None) };
            let (slot, attribute) = match slot {
                Ok(slot) => slot.unzip(),
                Err(Refusal(reason)) => {
                    refusal.say(&reason);
                    (None, None)
                }
            };
            declared.push(DeclaredMetric { attribute, alias: metric.alias, datatype });
            let (Some(slot), Some(attr)) = (slot, attribute) else { continue };
            let historical = metric.is_historical == Some(true);
            let told = node.table.told(device);
            let at = match metric.timestamp.filter(|_| historical) {
                Some(millis) => self.own_time(taken.source, device, Some(millis), told),
                None => sent,
            };
            match self.metric_value(taken.source, device, text, &metric, datatype, told) {
                Ok((value, properties)) => {
                    described.push((attr, properties));
                    reports.extend(value.map(|value| Report { slot, attr, value, at, historical }));
                }
                Err(fault) => refusal.fault(node, device, text, &fault),
            }
        }
        let record = declared.clone();
        if node.table.declare(device, declared) {
            let fact = Fact::MetricsDeclared { device, metrics: record };
            batch.records.push_fact(at(received), &fact);
        }
        let complete = refusal.first.is_none();
        if let Err(Refusal(reason)) = self.describe_metrics(device, &described, complete, received, batch) {
            refusal.say(&reason);
        }
        self.record_reports(device, taken.source, reports, received, batch, &mut refusal);
        refusal.verdict(batch.records.len() > before)
    }

    /// NDATA or DDATA.
    pub(super) fn reported(
        &mut self,
        node: &mut EdgeNode,
        taken: &Sparkplug<'_>,
        device: DeviceId,
        payload: Certificate,
        trust: Trust,
        batch: &mut RecordBatch,
    ) -> Result<Verdict, Refusal> {
        let (before, received) = (batch.records.len(), taken.received);
        let sent = self.own_time(taken.source, device, payload.timestamp, node.table.told(device));
        let (mut refusal, mut described) = (Refusals::default(), Vec::new());
        let mut reports = Vec::with_capacity(payload.metrics.len());
        for metric in payload.metrics {
            let resolved = match self.resolve_metric(node, device, &metric, trust, received, batch) {
                Ok(resolved) => resolved,
                Err(Refusal(reason)) => {
                    refusal.say(&reason);
                    continue;
                }
            };
            let (attr, datatype) = match resolved {
                Resolved::As { attr, datatype } => (attr, datatype),
                Resolved::NotRecorded => continue,
                resolved => {
                    match resolved {
                        Resolved::Doubtful => node.session.miss(Reason::Away),
                        _ => node.session.doubt(Reason::UnknownMetric),
                    }
                    let counts = &self.sources[taken.source].outcomes.sparkplug;
                    counts.unresolved.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            let name = self.attributes[attr.0 as usize].clone();
            let historical = metric.is_historical == Some(true);
            let told = node.table.told(device);
            let at = match metric.timestamp {
                Some(millis) => self.own_time(taken.source, device, Some(millis), told),
                None => sent,
            };
            match self.metric_value(taken.source, device, &name, &metric, datatype, told) {
                Ok((value, properties)) => {
                    described.push((attr, properties));
                    let Some(value) = value else { continue };
                    match self.slot(device, &name, received, batch) {
                        Ok(slot) => reports.push(Report { slot, attr, value, at, historical }),
                        Err(Refusal(reason)) => refusal.say(&reason),
                    }
                }
                Err(fault) => refusal.fault(node, device, &name, &fault),
            }
        }
        if let Err(Refusal(reason)) = self.describe_metrics(device, &described, false, received, batch) {
            refusal.say(&reason);
        }
        self.record_reports(device, taken.source, reports, received, batch, &mut refusal);
        refusal.verdict(batch.records.len() > before)
    }

    /// How a metric of a message is recorded. A name with a data type is sufficient; an alias is valid only while every
    /// message since the birth is known.
    fn resolve_metric(
        &mut self,
        node: &EdgeNode,
        device: DeviceId,
        metric: &Metric,
        trust: Trust,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<Resolved, Refusal> {
        let declared = match (metric.name.as_deref().filter(|name| !name.is_empty()), metric.alias) {
            (Some(name), _) if NOT_RECORDED.contains(&name) => return Ok(Resolved::NotRecorded),
            (Some(name), _) => {
                let known = self.attribute_ids.get(name).copied();
                let declared = known.and_then(|attr| node.table.by_attribute(device, attr));
                match (declared, metric.datatype) {
                    (None, Some(datatype)) => {
                        let found = self.metric_slot(device, name, received, batch)?;
                        return Ok(
                            found.map_or(Resolved::NotRecorded, |(_, attr)| Resolved::As { attr, datatype })
                        );
                    }
                    (declared, _) => declared,
                }
            }
            (None, Some(_)) if trust == Trust::NamesOnly => return Ok(Resolved::Doubtful),
            (None, alias) => alias.and_then(|alias| node.table.by_alias(device, alias)),
        };
        Ok(match declared {
            None => Resolved::Unknown,
            Some(DeclaredMetric { attribute: None, .. }) => Resolved::NotRecorded,
            Some(DeclaredMetric { attribute: Some(attr), datatype, .. }) => {
                Resolved::As { attr, datatype: metric.datatype.unwrap_or(datatype) }
            }
        })
    }

    /// The value of a metric, `None` if there is none to be stored; and what is said beside it. A value that is not to be
    /// relied on is no value of now, and nothing of the past (section 6.4.9.1).
    fn metric_value(
        &self,
        source: usize,
        device: DeviceId,
        name: &str,
        metric: &Metric,
        datatype: u32,
        told: &mut Told,
    ) -> Result<(Option<Value>, Properties), MetricFault> {
        let properties = Properties::read(metric)?;
        let counts = &self.sources[source].outcomes.sparkplug;
        if metric.is_transient == Some(true) {
            counts.transient.fetch_add(1, Ordering::Relaxed);
            return Ok((None, properties));
        }
        if let Some(quality) = properties.bad_quality {
            self.note_bad_quality(source, device, name, quality, told);
            return Ok((Some(Value::Null).filter(|_| metric.is_historical != Some(true)), properties));
        }
        if metric.is_null == Some(true) {
            return Ok((Some(Value::Null), properties));
        }
        let raw = metric.value.as_ref().ok_or(ValueFault::Missing)?;
        Ok((Some(value::value(datatype, raw, self.limits.text_bytes)?), properties))
    }

    /// Records values in order. Values of the same time form one record; a repeated metric begins the next one.
    fn record_reports(
        &mut self,
        device: DeviceId,
        source: usize,
        reports: Vec<Report>,
        received: Time,
        batch: &mut RecordBatch,
        refusal: &mut Refusals,
    ) {
        let (past, present): (Vec<_>, Vec<_>) = reports.into_iter().partition(|report| report.historical);
        self.record_past(device, source, past, received, batch);
        self.stamp += 1;
        self.changes.clear();
        let mut time = None;
        for report in present {
            let again = self.devices[device].slots[report.slot as usize].stamp == self.stamp;
            if again || time != report.at {
                self.append(device, received, time, batch);
                self.stamp += 1;
                self.changes.clear();
            }
            time = report.at;
            match self.accept(device, report.slot, report.value.borrow(), received, batch) {
                Ok(true) => self.changes.push((report.slot, 0)),
                Ok(false) => {}
                Err(Refusal(reason)) => refusal.say(&reason),
            }
        }
        self.append(device, received, time, batch);
    }

    fn record_past(
        &mut self,
        device: DeviceId,
        source: usize,
        reports: Vec<Report>,
        received: Time,
        batch: &mut RecordBatch,
    ) {
        let counts = &self.sources[source].outcomes.sparkplug;
        counts.historical.fetch_add(reports.len() as u64, Ordering::Relaxed);
        let mut reports = reports.into_iter().peekable();
        while let Some(first) = reports.next() {
            let time = first.at;
            let mut changes = vec![(first.attr, first.value)];
            while let Some(next) =
                reports.next_if(|next| next.at == time && changes.iter().all(|(attr, _)| *attr != next.attr))
            {
                changes.push((next.attr, next.value));
            }
            let envelope = Envelope { device_time: time, ..at(received) };
            batch.records.push_fact(envelope, &Fact::HistoryReported { device, changes });
        }
    }

    /// The device of a certificate, discovered if necessary.
    fn member(
        &mut self,
        taken: &Sparkplug<'_>,
        name: &str,
        batch: &mut RecordBatch,
    ) -> Result<DeviceId, Refusal> {
        let (source, received) = (taken.source, taken.received);
        let namespace = self.own_namespace(source);
        let parent = match taken.topic.device {
            None => None,
            Some(_) => {
                let node = format!("{}/{}", taken.topic.group, taken.topic.node);
                Some(self.discover(source, namespace, &node, None, received, batch)?)
            }
        };
        let id = self.discover(source, namespace, name, parent, received, batch)?;
        if self.devices[id].retired.is_some() {
            self.bring_back(source, namespace, id, parent, received, batch);
        }
        Ok(id)
    }

    /// The slot and the number of a recorded metric.
    fn metric_slot(
        &mut self,
        device: DeviceId,
        name: &str,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<Option<(u32, AttrId)>, Refusal> {
        decode::check_name(name, self.limits.name_bytes)?;
        let slot = self.slot(device, name, received, batch)?;
        Ok(Some((slot, self.devices[device].slots[slot as usize].attr)))
    }

    /// Whether there is room for the declarations of this many metrics.
    pub(super) fn room_for_metrics(&mut self, bytes: usize, name: &str) -> Result<(), Refusal> {
        if self.budget.fits(bytes) {
            return Ok(());
        }
        self.budget.refuse();
        Err(Refusal(format!(
            "what is to be kept of the session of {name} needs {bytes} bytes of state; limits.state_bytes_max is {}, of \
             which {} are in use and an eighth is kept for topics",
            self.budget.max(),
            self.budget.used()
        )))
    }
}

/// Why a metric is not taken.
#[derive(Debug, PartialEq, thiserror::Error)]
enum MetricFault {
    #[error(transparent)]
    Value(#[from] ValueFault),
    #[error(transparent)]
    Property(#[from] PropertyFault),
}

/// The rejected parts of a message: the first reason is reported.
#[derive(Default)]
struct Refusals {
    first: Option<String>,
    more: usize,
}

impl Refusals {
    fn say(&mut self, reason: &str) {
        if self.first.is_none() {
            self.first = Some(reason.to_owned());
        } else {
            self.more += 1;
        }
    }

    fn fault(&mut self, node: &mut EdgeNode, device: DeviceId, name: &str, fault: &MetricFault) {
        if *fault == MetricFault::Value(ValueFault::Template) {
            if std::mem::replace(&mut node.table.told(device).template, true) {
                return;
            }
            return self.say(&format!("metric {name}: {fault} (said once for each device)"));
        }
        self.say(&format!("metric {name}: {fault}"));
    }

    fn verdict(self, recorded: bool) -> Result<Verdict, Refusal> {
        match (self.first, self.more) {
            (None, _) if recorded => Ok(Verdict::Recorded),
            (None, _) => Ok(Verdict::Unchanged),
            (Some(reason), 0) => Err(Refusal(format!("{reason}; the other metrics were taken"))),
            (Some(reason), more) => {
                Err(Refusal(format!("{reason}; {more} more were not taken, the others were")))
            }
        }
    }
}
