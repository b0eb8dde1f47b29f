//! Handles the answers to parcels.

use std::sync::Arc;
use std::time::Duration;

use fieldlog_wire::Lane;
use tokio::task::{JoinError, JoinSet};

use super::SinkDriver;
use crate::forward::pace::{Pace, Pause};
use crate::forward::parcel::Span;
use crate::forward::status::SinkStatus;
use crate::forward::{Outcome, Parcel};
use crate::log::LogError;

impl<B> SinkDriver<B>
where
    B: Fn(Span) -> Result<Option<Parcel>, LogError> + Clone + Send + 'static,
{
    /// Handles the answers to parcels in flight, until there are none left or the connection is lost.
    pub(super) async fn last_answers(
        &mut self,
        under_way: &mut JoinSet<(Arc<Parcel>, Outcome)>,
        pace: &mut Pace,
    ) {
        while let Some(done) = under_way.join_next().await {
            self.finished(done, pace);
        }
    }

    /// Handles one finished task.
    pub(super) fn finished(
        &mut self,
        done: Result<(Arc<Parcel>, Outcome), JoinError>,
        pace: &mut Pace,
    ) -> Option<String> {
        match done {
            Ok((parcel, outcome)) => self.answer(&parcel, outcome, &mut pace.pause),
            // Its range would stay in flight for ever; a new connection clears that.
            Err(error) => Some(format!("sending ended badly: {error}")),
        }
    }

    /// Handles an answer; returns the reason if the connection is lost.
    pub(super) fn answer(&mut self, parcel: &Parcel, outcome: Outcome, pause: &mut Pause) -> Option<String> {
        let priority = parcel.manifest.lane == Lane::Priority;
        let status = self.parts.status.clone();
        match outcome {
            Outcome::Acked => {
                self.accepted(parcel, pause);
                return None;
            }
            Outcome::Lost { why } => {
                self.size.lost();
                return Some(why);
            }
            Outcome::Busy { after, why } => {
                self.failed(parcel);
                self.hold(after, why, pause);
            }
            Outcome::Forked { why } => {
                self.failed(parcel);
                self.forked(&why, pause);
            }
            Outcome::TooLarge { why } if parcel.manifest.events > 1 => {
                self.failed(parcel);
                self.size.too_large(parcel.size, self.parts.clock.now());
                self.note(why);
            }
            Outcome::Refused { why } if parcel.manifest.events > 1 => {
                self.failed(parcel);
                self.size.refused(parcel.manifest.events);
                self.note(why);
            }
            // The event is dealt with when its turn comes.
            Outcome::TooLarge { .. } | Outcome::Refused { .. } if priority => self.answered(parcel),
            Outcome::TooLarge { why } | Outcome::Refused { why } => self.refused(parcel, why, pause),
        }
        SinkStatus::add(&status.parcels_retried, 1);
        None
    }

    pub(super) fn accepted(&mut self, parcel: &Parcel, pause: &mut Pause) {
        if parcel.manifest.events > 0 {
            self.taken(parcel);
        }
        self.answered(parcel);
        self.parts.status.acked(parcel);
        self.size.accepted(self.parts.clock.now());
        if !self.refusals.held() {
            *pause = Pause::default();
        }
    }

    /// The sink has said "not now", or should be left alone for a while.
    pub(super) fn hold(&self, after: Option<Duration>, why: String, pause: &mut Pause) {
        let now = self.parts.clock.now();
        pause.busy(after, self.service.backoff_max, now);
        self.parts.status.held(self.parts.clock.wall(), self.moment_after(pause.left(now)), why);
    }

    /// The sink has another history: nothing counts as delivered until an operator has found out which one is right.
    pub(super) fn forked(&mut self, why: &str, pause: &mut Pause) {
        let now = self.parts.clock.now();
        pause.busy(Some(self.service.backoff_max), self.service.backoff_max, now);
        let why = format!(
            "{why}. Either this log was restored from a backup, or another gateway uses this `gateway_id` with a copy of it. \
             Nothing is counted as delivered meanwhile. Give each gateway a `gateway_id` of its own, or stop this agent, move its \
             log away and start it once with --new-epoch; if the receiver's state is what is wrong, mend that"
        );
        if self.repeats.is_news(&why) {
            tracing::error!(sink = %self.service.name, "{why}");
        }
        self.parts.status.forked(self.parts.clock.wall(), self.moment_after(pause.left(now)), why);
    }

    pub(super) fn answered(&mut self, Parcel { manifest, .. }: &Parcel) {
        match manifest.lane {
            Lane::Priority => self.plan.looked_through(manifest.first, manifest.last),
            Lane::Live | Lane::Backlog => self.plan.acknowledged(manifest.first, manifest.last),
        }
    }

    pub(super) fn failed(&mut self, Parcel { manifest, .. }: &Parcel) {
        match manifest.lane {
            Lane::Priority => self.plan.failed_priority(),
            Lane::Live | Lane::Backlog => self.plan.failed(manifest.first, manifest.last),
        }
    }
}
