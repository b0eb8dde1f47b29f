//! Deals with refused events, and offers them again.

use std::sync::Arc;
use std::time::Instant;

use fieldlog_projections::stored;
use tokio::task::JoinSet;

use super::send::launch;
use super::{Due, SinkDriver};
use crate::config::RefusedPolicy;
use crate::forward::pace::{Pace, Pause};
use crate::forward::parcel::Span;
use crate::forward::refusals::Verdict;
use crate::forward::status::SinkStatus;
use crate::forward::{Outcome, Parcel, Transport};
use crate::log::LogError;
use crate::writer::Input;
use fieldlog_wire::Lane;

impl<B> SinkDriver<B>
where
    B: Fn(Span) -> Result<Option<Parcel>, LogError> + Clone + Send + 'static,
{
    /// The sink refuses a single event, or a range without events.
    pub(super) fn refused(&mut self, parcel: &Parcel, why: String, pause: &mut Pause) {
        let (first, last) = (parcel.manifest.first, parcel.manifest.last);
        if parcel.resent.is_some() {
            // It was delivered once, so nothing is given up.
            self.plan.not_again(first, last);
            return self.note(why);
        }
        if self.plan.acked().is_refused(first) {
            // It was refused again. It gets another turn.
            self.plan.failed(first, last);
            return self.note(why);
        }
        let room = self.plan.acked().has_room();
        match self.refusals.refused(first, is_dead_letter(parcel), room, self.parts.clock.now()) {
            Verdict::Record => {
                self.pass(parcel, &why);
                self.dead_letter(parcel, why);
            }
            Verdict::Pass => {
                self.pass(parcel, &why);
                self.note(why);
            }
            Verdict::Hold(words) => {
                self.plan.failed(first, last);
                let why = format!(
                    "{why}: {words}. Sequence {first} and everything after it waits. Find out why the receiver gives \
                     this answer; it is asked again at least every {} s",
                    self.service.backoff_max.as_secs()
                );
                if self.repeats.is_news(&why) {
                    tracing::error!(sink = %self.service.name, "{why}");
                }
                self.hold(None, why, pause);
            }
        }
    }

    /// Later events can be sent.
    fn pass(&mut self, parcel: &Parcel, why: &str) {
        let (first, last) = (parcel.manifest.first, parcel.manifest.last);
        tracing::error!(
            sink = %self.service.name,
            "the sink refused sequence {first} to {last}, and the events after it are sent: {why}"
        );
        SinkStatus::add(&self.parts.status.dead_letters, 1);
        match self.service.refused {
            RefusedPolicy::Keep => self.plan.refused(first, last),
            RefusedPolicy::Release => self.plan.acknowledged(first, last),
        }
        self.refusals.offer_after(self.service.backoff_max, self.parts.clock.now());
    }

    fn dead_letter(&self, parcel: &Parcel, why: String) {
        self.note(why.clone());
        let _ = self.parts.writer.send(Input::DeadLetter {
            sink: self.service.name.clone(),
            first: parcel.manifest.first,
            last: parcel.manifest.last,
            reason: why,
        });
    }

    /// The sink has accepted the events of a parcel.
    pub(super) fn taken(&mut self, parcel: &Parcel) {
        let (first, last) = (parcel.manifest.first, parcel.manifest.last);
        self.refusals.accepted(first, last);
        if parcel.manifest.lane != Lane::Priority && self.plan.acked().is_refused(first) {
            tracing::info!(
                sink = %self.service.name,
                "the sink has accepted sequence {first} to {last}, which it had refused before"
            );
            // Then it may accept the refused ones too.
            self.refusals.offer_after(std::time::Duration::ZERO, self.parts.clock.now());
        }
    }

    /// The next refused range to offer again.
    pub(super) fn offer_due(&self, pace: &Pace, now: Instant) -> Option<Due> {
        let (first, last) = self.plan.next_refused()?;
        let wait = self.refusals.offer_in(now)?.max(pace.pause.left(now)).max(pace.bucket.left(now));
        Some((wait, (Lane::Backlog, first, last)))
    }

    /// The earlier of the two; a due offer goes first, or it would never get a turn.
    pub(super) fn sooner(&self, offer: Option<Due>, covering: Option<Due>) -> Option<Due> {
        match (offer, covering) {
            (Some(offer), Some(covering)) => Some(if offer.0 <= covering.0 { offer } else { covering }),
            (offer, covering) => offer.or(covering),
        }
    }

    /// Sends a refused range again.
    pub(super) fn offer<T: Transport>(
        &mut self,
        parcel: Parcel,
        transport: &mut T,
        under_way: &mut JoinSet<(Arc<Parcel>, Outcome)>,
        pace: &mut Pace,
    ) {
        let now = self.parts.clock.now();
        self.plan.offered(parcel.manifest.first, parcel.manifest.last);
        self.refusals.offer_after(self.service.backoff_max, now);
        launch(parcel, transport, under_way, pace, now);
    }

    /// A warning for the operator about refused events.
    pub(super) fn refused_words(&self) -> Option<String> {
        let count = self.plan.acked().refused_count();
        (count > 0).then(|| {
            format!(
                "{count} refused events are not delivered; one of them is offered again every {} s. See why the receiver refuses \
                 them (dead_lettered records name them), or set refused = \"release\" for this sink to give them up",
                self.service.backoff_max.as_secs()
            )
        })
    }
}

/// A refused dead letter gets no dead letter of its own, since that would be refused as well.
fn is_dead_letter(parcel: &Parcel) -> bool {
    let name =
        stored::KINDS.iter().find(|(id, _, _)| *id == stored::type_id::DEAD_LETTERED).map(|kind| kind.2);
    parcel.items.first().is_some_and(|item| Some(item.kind) == name)
}
