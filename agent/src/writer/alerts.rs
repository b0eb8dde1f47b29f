//! Alerts: the rules see what was committed and the time, and what they find is recorded.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use fieldlog_projections::chunk::Envelope;
use fieldlog_projections::{Alerts, DeviceId, Fact, Seq, Time};

use super::Writer;
use super::cursors::Cursors;
use crate::alert::{Now, World};
use crate::log::LogReader;
use crate::observe::Observer;

/// What the rules look at beside the view.
struct Around<'a> {
    observer: &'a Observer,
    cursors: &'a Cursors,
    reader: &'a LogReader,
    head: Seq,
}

impl Around<'_> {
    /// The first position that a sink lacks.
    fn first_missing(&self, sink: &str) -> Option<Seq> {
        let missing = match self.cursors.acked().get(sink) {
            Some(acked) => acked.missing(Seq(1), self.head),
            None => Some((Seq(1), self.head)).filter(|_| self.head > Seq(0)),
        };
        missing.map(|(first, _)| first)
    }
}

impl World for Around<'_> {
    fn heard(&self, device: DeviceId) -> Option<Time> {
        self.observer.heard(device)
    }

    fn was_heard(&self, device: DeviceId) -> bool {
        self.observer.was_heard(device)
    }

    fn backlog_events(&self, sink: &str) -> u64 {
        self.cursors.acked().get(sink).map_or(self.head.0, |acked| acked.missing_count(self.head))
    }

    /// `None` also if the log cannot be read there; whoever reads it says so.
    fn backlog_oldest(&self, sink: &str) -> Option<Time> {
        self.reader.time_of(self.first_missing(sink)?).ok().flatten()
    }
}

impl Writer {
    fn alerts_now(&self) -> Now {
        Now { at: self.clock.now(), wall: self.clock.wall() }
    }

    /// Shows the rules the batch, which has just been committed from `first` on and is in the view.
    pub(super) fn alerts_committed(&mut self, first: Seq) {
        if std::mem::take(&mut self.alerts_recorded) {
            self.shared.alerts.send_replace(self.log.log().head());
        }
        if self.alerting.is_idle() {
            return;
        }
        let now = self.alerts_now();
        let view = self.shared.view.read().unwrap_or_else(PoisonError::into_inner);
        self.alerting.committed(self.batch.records.records(first), &view, now);
    }

    /// What time alone does to alerts, once the fold that has the open ones is there.
    pub(super) fn tick_alerts(&mut self) {
        if self.alerting.is_idle() || self.draining {
            return;
        }
        let now = self.alerts_now();
        let view = self.shared.view.read().unwrap_or_else(PoisonError::into_inner);
        if !self.alerting.is_restored() {
            if view.is_stale(Alerts::ID) {
                return;
            }
            self.alerting.restore(&view);
        }
        let around = Around {
            observer: &self.observer,
            cursors: &self.cursors,
            reader: &self.shared.reader,
            head: self.log.log().head(),
        };
        self.alerting.tick(&around, &view, now);
    }

    /// Records what the rules have found. While the agent stops, nothing is: the next start finds it again.
    pub(super) fn record_alerts(&mut self) {
        if !self.alerting.has_steps() || self.draining {
            return;
        }
        let (wall, first) = (self.clock.wall(), self.next_position());
        let (records, stats) = (&mut self.batch.records, &self.shared.stats.alerts);
        let mut at = first;
        self.alerting.drain(|fact, cause| {
            if let Fact::AlertRaised(alert) = fact {
                stats.raised[alert.severity as usize].fetch_add(1, Ordering::Relaxed);
                let view = self.shared.view.read().unwrap_or_else(PoisonError::into_inner);
                let device = alert.subject.device().and_then(|id| view.devices.get(id));
                tracing::warn!(
                    rule = %alert.rule,
                    severity = alert.severity.word(),
                    device = device.map(|device| &*device.name),
                    attribute = alert.subject.attribute().and_then(|id| view.devices.attribute_name(id)),
                    sink = alert.subject.sink(),
                    "an alert is raised"
                );
            }
            records.push_fact(Envelope { wall, cause, ..Envelope::default() }, fact);
            let recorded = at;
            at = at.next();
            recorded
        });
        stats.beyond.store(self.alerting.beyond(), Ordering::Relaxed);
        self.alerts_recorded = true;
    }
}
