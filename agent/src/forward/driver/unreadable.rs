//! Skips damaged parts of the log, unless the sink needs strict order.

use fieldlog_projections::Seq;

use super::SinkDriver;
use crate::config::Order;
use crate::forward::Parcel;
use crate::forward::parcel::Span;
use crate::log::LogError;

/// Maximum damaged chunks to skip. A log with more should be restored first.
const UNREADABLE_MAX: usize = 16;

impl<B> SinkDriver<B>
where
    B: Fn(Span) -> Result<Option<Parcel>, LogError> + Clone + Send + 'static,
{
    /// Skips a damaged chunk found between two positions, so that the rest can be sent.
    pub(super) fn set_aside(&mut self, first: Seq, last: Seq, error: LogError) -> Result<(), LogError> {
        let LogError::Chunk { at, .. } = error else { return Err(error) };
        let next = self.parts.shared.reader.chunk_after(at)?;
        // The last chunk has no end; the writer finds out whether the log can continue.
        let Some(next) = next.filter(|next| self.may_set_aside(at, *next, first, last)) else {
            return Err(error);
        };
        let end = Seq(next.0 - 1);
        tracing::error!(sink = %self.service.name, "{}", words(at, end, &error.to_string()));
        self.note(words(at, end, &error.to_string()));
        self.plan.unreadable(at, end);
        Ok(())
    }

    /// Not if the same chunk would be found again.
    fn may_set_aside(&self, at: Seq, next: Seq, first: Seq, last: Seq) -> bool {
        let known = self.plan.unreadable_ranges();
        self.service.order == Order::LiveFirst
            && at <= last
            && next > first
            && known.len() < UNREADABLE_MAX
            && !known.iter().any(|range| range.0 == at)
    }

    /// A warning for the operator about unreadable parts.
    pub(super) fn unreadable_words(&self) -> Option<String> {
        let ranges = self.plan.unreadable_ranges();
        let list: Vec<String> = ranges.iter().map(|(first, last)| format!("{first} to {last}")).collect();
        (!list.is_empty()).then(|| {
            format!(
                "sequence {} is damaged in the log and not delivered; everything else is sent. Run `fieldlog verify`, and restore \
                 the log from a backup",
                list.join(", ")
            )
        })
    }
}

fn words(first: Seq, last: Seq, error: &str) -> String {
    format!(
        "sequence {first} to {last} cannot be sent; everything else is sent: {error}. Run `fieldlog verify` to see \
         what else is damaged"
    )
}
