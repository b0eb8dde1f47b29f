//! Chooses the next range to send and its time, and sends it.

use std::sync::Arc;
use std::time::Instant;

use fieldlog_projections::Seq;
use fieldlog_wire::Lane;
use tokio::task::JoinSet;

use super::{Due, NOT_YET, SinkDriver};
use crate::forward::pace::Pace;
use crate::forward::parcel::{Limits, Span};
use crate::forward::{Outcome, Parcel, Transport};
use crate::log::LogError;

impl<B> SinkDriver<B>
where
    B: Fn(Span) -> Result<Option<Parcel>, LogError> + Clone + Send + 'static,
{
    /// The next range, and its wait.
    pub(super) fn next_due(&self, head: Seq, pace: &mut Pace) -> Option<Due> {
        let now = self.parts.clock.now();
        let covering = self.sooner(self.offer_due(pace, now), self.covering_due(head, pace, now));
        let held = !pace.bucket.left(now).is_zero();
        let Some((first, last)) =
            self.service.priority.then(|| self.plan.next_priority(head, held)).flatten()
        else {
            return covering;
        };
        let priority = pace.pause.left(now).max(pace.priority.left(now));
        let others_first = |due: &Due| due.0 < priority || (due.0.is_zero() && self.plan.turn_of_others());
        Some(covering.filter(others_first).unwrap_or((priority, (Lane::Priority, first, last))))
    }

    /// The next range to cover: it waits for the sink and for bandwidth; fresh events also wait for others.
    pub(super) fn covering_due(&self, head: Seq, pace: &mut Pace, now: Instant) -> Option<Due> {
        let Some(range) = self.plan.next(head) else {
            pace.fresh_since = None;
            return None;
        };
        let (lane, first, last) = range;
        let free = pace.pause.left(now).max(pace.bucket.left(now));
        let mut wait = pace.held(lane, now);
        if lane == Lane::Live && last.0 - first.0 + 1 < u64::from(self.size.events()) {
            let since = *pace.fresh_since.get_or_insert(now);
            let waited = now.saturating_duration_since(since);
            wait = wait.max(self.service.delay.saturating_sub(waited));
        }
        // A backlog does not wait for what fresh events wait for.
        let held = pace.held(Lane::Backlog, now);
        if lane == Lane::Live
            && held < wait
            && let Some((first, last)) = self.plan.backlog()
        {
            return Some((free.max(held), (Lane::Backlog, first, last)));
        }
        Some((free.max(wait), range))
    }

    /// Sends the next parcel.
    pub(super) async fn dispatch<T: Transport>(
        &mut self,
        (lane, first, last): (Lane, Seq, Seq),
        head: Seq,
        transport: &mut T,
        under_way: &mut JoinSet<(Arc<Parcel>, Outcome)>,
        pace: &mut Pace,
    ) -> Result<(), LogError> {
        let priority = lane == Lane::Priority;
        if lane == Lane::Live {
            pace.fresh_since = None;
        }
        let last = self.last_of(first, last);
        let limits = Limits { events_max: self.size.events() as usize, bytes_max: self.size.bytes() };
        let span = Span { lane, first, last_max: last, head, limits };
        let build = self.build.clone();
        let built = match tokio::task::spawn_blocking(move || build(span)).await {
            Ok(Err(error)) if self.plan.is_again(first) => return self.leave_out(first, last, error),
            Ok(Err(error)) => return self.set_aside(first, last, error),
            Ok(Ok(built)) => built,
            Err(error) => {
                tracing::error!(
                    sink = %self.service.name,
                    "cannot build the parcel that begins at sequence {first}: {error}"
                );
                None
            }
        };
        let Some(mut parcel) = built else {
            if priority {
                self.plan.looked_through(first, last);
                return Ok(());
            }
            if self.is_trimmed(last) {
                self.plan.acknowledged(first, last);
                return Ok(());
            }
            // Not in the view yet.
            pace.hold_for(lane, self.service.delay.max(NOT_YET), self.parts.clock.now());
            return Ok(());
        };
        self.mark(&mut parcel, first);
        if parcel.manifest.first > first {
            // Earlier records were trimmed; a record in the log says so and is forwarded like any other.
            self.plan.acknowledged(first, Seq(parcel.manifest.first.0 - 1));
        }
        if priority {
            self.dispatch_priority(parcel, transport, under_way, pace);
            return Ok(());
        }
        if self.plan.acked().is_refused(parcel.manifest.first) {
            self.offer(parcel, transport, under_way, pace);
            return Ok(());
        }
        if parcel.manifest.events == 0
            && parcel.resent.is_none()
            && parcel.manifest.last >= last
            && pace.hold(lane, self.parts.clock.now())
        {
            return Ok(());
        }
        pace.release(lane);
        let (first, last) = (parcel.manifest.first, parcel.manifest.last);
        self.plan.sent(lane, first, last, parcel.bytes() as u64, head);
        launch(parcel, transport, under_way, pace, self.parts.clock.now());
        Ok(())
    }

    /// Sends the priority copies that were found.
    pub(super) fn dispatch_priority<T: Transport>(
        &mut self,
        parcel: Parcel,
        transport: &mut T,
        under_way: &mut JoinSet<(Arc<Parcel>, Outcome)>,
        pace: &mut Pace,
    ) {
        self.plan.looking();
        if parcel.manifest.events == 0 {
            return self.plan.looked_through(parcel.manifest.first, parcel.manifest.last);
        }
        let now = self.parts.clock.now();
        pace.priority.consume(parcel.bytes() as u64, now);
        launch(parcel, transport, under_way, pace, now);
    }
}

/// Passes a parcel to the transport.
pub(super) fn launch<T: Transport>(
    parcel: Parcel,
    transport: &mut T,
    under_way: &mut JoinSet<(Arc<Parcel>, Outcome)>,
    pace: &mut Pace,
    now: Instant,
) {
    pace.bucket.consume(parcel.bytes() as u64, now);
    let parcel = Arc::new(parcel);
    let sending = transport.send(parcel.clone());
    under_way.spawn(async move { (parcel, sending.await) });
}
