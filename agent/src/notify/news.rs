//! What there is to tell, from the log. Blocking.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use fieldlog_projections::alert::Subject;
use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::stored::type_id;
use fieldlog_projections::{Alerts, Fact, Record, Seq, Time, View};
use fieldlog_wire::cloudevent::CloudEvents;
use fieldlog_wire::event::Naming;

use crate::forward::names::Names;
use crate::log::Wanted;
use crate::shared::Shared;

/// Events that are read at a time.
const PAGE: usize = 64;
/// How far back retained messages are published again after a start.
const AGAIN_MICROS: i64 = 86_400_000_000;

/// An event to be passed on.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    /// The event's id, the same each time.
    pub(super) id: String,
    /// The rule, and what the alert is about, as parts of a topic.
    pub(super) rule: String,
    pub(super) subject: String,
    /// It as a CloudEvent.
    pub(super) body: Bytes,
}

/// Reads the events of alerts.
#[derive(Debug)]
pub(super) struct News {
    shared: Arc<Shared>,
    gateway: Arc<str>,
    events: CloudEvents,
    names: Names,
    /// The next position to be read.
    next: Seq,
}

impl News {
    pub(super) fn new(shared: Arc<Shared>, gateway: &Arc<str>) -> News {
        let events = CloudEvents::new(gateway, shared.epoch);
        News { shared, gateway: gateway.clone(), events, names: Names::default(), next: Seq(1) }
    }

    /// For another thread, which gives it back.
    pub(super) fn take(&mut self) -> News {
        let empty = News::new(self.shared.clone(), &self.gateway);
        std::mem::replace(self, empty)
    }

    /// What is told first: the alerts that are open. With `again` what happened in the last day comes after them.
    pub(super) fn begin(&mut self, again: bool, now: Time) -> Vec<Notice> {
        let applied = self.names.refresh(&self.shared.view);
        self.next = applied.next();
        if again {
            let since = self.shared.reader.seek_time(Time(now.0 - AGAIN_MICROS));
            self.next = since.unwrap_or(self.next).min(self.next);
        }
        let open: Vec<(Seq, Time, Fact)> = {
            let view = self.shared.view.read().unwrap_or_else(PoisonError::into_inner);
            open(&view, self.next)
        };
        let mut notices = Vec::new();
        for (seq, time, fact) in open {
            let mut body = RecordBuffer::after(time);
            body.push_fact(Envelope { wall: time, ..Envelope::default() }, &fact);
            let records = body.records(seq).filter_map(Result::ok);
            notices.extend(records.filter_map(|record| self.notice(&record)));
        }
        notices
    }

    /// What comes next; nothing if there is no more yet. What cannot be read is passed over: whoever reads the log for
    /// other purposes says so.
    pub(super) fn next(&mut self) -> Vec<Notice> {
        let until = self.names.refresh(&self.shared.view);
        let wanted = Wanted { device: None, types: vec![type_id::ALERT_RAISED, type_id::ALERT_CLEARED] };
        let (from, mut after, mut notices) = (self.next, until.next(), Vec::new());
        if from > until {
            return notices;
        }
        let reader = self.shared.reader.clone();
        let read = reader.scan_for(from, &wanted, |chunk| {
            for record in chunk.records().map_while(Result::ok) {
                if record.seq > until {
                    return ControlFlow::Break(());
                }
                if record.seq >= from && wanted.types.contains(&record.kind.type_id) {
                    notices.extend(self.notice(&record));
                    if notices.len() >= PAGE {
                        after = record.seq.next();
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        });
        if let Err(error) = read {
            tracing::error!("alerts cannot be read from the log, so nobody is told of them: {error}");
        }
        self.next = after;
        notices
    }

    fn notice(&mut self, record: &Record<'_>) -> Option<Notice> {
        let (rule, subject) = match record.fact().ok()? {
            Fact::AlertRaised(alert) => (alert.rule, alert.subject),
            Fact::AlertCleared(cleared) => (cleared.rule, cleared.subject),
            _ => return None,
        };
        let device = subject.device().and_then(|id| self.names.device_arc(id));
        let mut body = Vec::new();
        self.events.write(record, device.as_deref(), &self.names, &mut body).ok()?;
        Some(Notice {
            id: format!("{}/{}/{}", self.gateway, self.shared.epoch, record.seq),
            subject: as_topic(&subject, device.as_deref(), &self.names),
            rule,
            body: body.into(),
        })
    }
}

/// The open alerts that were raised before a position.
fn open(view: &View, before: Seq) -> Vec<(Seq, Time, Fact)> {
    if view.is_stale(Alerts::ID) {
        return Vec::new();
    }
    let open = view.alerts.iter().filter(|(seq, _)| *seq < before);
    open.map(|(seq, open)| (seq, open.raised, Fact::AlertRaised(Box::new(open.alert.clone())))).collect()
}

/// What an alert is about, as a part of a topic, in which some characters would be wildcards.
fn as_topic(subject: &Subject, device: Option<&str>, names: &Names) -> String {
    let text = match subject {
        Subject::Sink(name) => format!("sink/{name}"),
        Subject::Device(id) => device.map_or_else(|| format!("device-{}", id.0), str::to_owned),
        Subject::Attribute(id, attribute) => {
            let device = device.map_or_else(|| format!("device-{}", id.0), str::to_owned);
            format!("{device}/{}", names.attribute(*attribute))
        }
    };
    text.replace(['+', '#', '\0'], "_")
}
