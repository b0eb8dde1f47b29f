//! Sends again what the receiver asks for.

use fieldlog_projections::Seq;

use super::SinkDriver;
use crate::forward::parcel::Span;
use crate::forward::status::SinkStatus;
use crate::forward::{Parcel, Resent};
use crate::log::LogError;

impl<B> SinkDriver<B>
where
    B: Fn(Span) -> Result<Option<Parcel>, LogError> + Clone + Send + 'static,
{
    /// The receiver asks for these ranges.
    pub(super) fn ask_again(&mut self, ranges: &[(Seq, Seq)]) {
        let before = self.plan.again_count();
        ranges.iter().for_each(|(first, last)| self.plan.ask_again(*first, *last));
        SinkStatus::add(&self.parts.status.resend_requests, 1);
        let positions = self.plan.again_count() - before;
        if let (Some((first, _)), Some((_, last)), 1..) = (ranges.first(), ranges.last(), positions) {
            tracing::info!(
                sink = %self.service.name,
                "the receiver asks for {positions} events again, between sequence {first} and {last}; they are sent"
            );
        }
    }

    /// Where a parcel may end that begins with a position. If the log begins behind what is asked for again, the parcel has
    /// the first record that there is, which says so.
    pub(super) fn last_of(&self, first: Seq, last: Seq) -> Seq {
        if !self.plan.is_again(first) {
            return last;
        }
        self.parts.shared.reader.range().ok().flatten().map_or(last, |(begin, _)| begin.max(last))
    }

    /// Marks a parcel that is sent again from `asked` on.
    pub(super) fn mark(&self, parcel: &mut Parcel, asked: Seq) {
        if self.plan.is_again(asked) {
            parcel.resent = Some(Resent { asked, at: self.parts.clock.wall() });
        }
    }

    /// What is asked for again and cannot be read is not sent; the rest is.
    pub(super) fn leave_out(&mut self, first: Seq, last: Seq, error: LogError) -> Result<(), LogError> {
        let LogError::Chunk { at, .. } = error else { return Err(error) };
        let next = self.parts.shared.reader.chunk_after(at)?;
        let end = next.map_or(last, |next| Seq(next.0 - 1));
        tracing::warn!(
            sink = %self.service.name,
            "sequence {at} to {end} is asked for again and cannot be sent: {error}. Run `fieldlog verify`"
        );
        // Otherwise the same would be found again.
        let within = at <= last && end >= first;
        let (from, to) = if within { (at, end) } else { (first, last) };
        self.plan.not_again(from, to);
        Ok(())
    }
}
