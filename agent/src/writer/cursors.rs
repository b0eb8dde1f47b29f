//! The acknowledged ranges of each sink, and those still to be stored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fieldlog_projections::Seq;

use crate::log::acked::AckedRanges;
use crate::log::{Log, LogError};
use crate::shared::{CursorCut, WriterStats};

/// The cursors of the sinks.
pub(super) struct Cursors {
    /// The known ranges of each sink.
    acked: BTreeMap<String, AckedRanges>,
    /// Sinks whose cursor has moved since it was last stored, and since when.
    moved: BTreeSet<String>,
    moved_since: Option<Instant>,
}

impl Cursors {
    /// The stored cursors. Parts after the end of the log are removed, and noted in `stats`. Such cursors must be
    /// stored again before the log grows past them, or new records would count as acknowledged.
    pub(super) fn stored(log: &Log, stats: &WriterStats, now: Instant) -> Cursors {
        let (mut cursors, mut cut) = (BTreeMap::new(), BTreeMap::new());
        let reader = log.reader();
        let stored = reader.cursors().unwrap_or_else(|error| {
            tracing::error!(
                "cannot read the cursors of the sinks, so everything in the log is sent again: {error}"
            );
            Vec::new()
        });
        // Each sink reports this too; this also covers sinks that are no longer configured.
        let damaged = reader.cursors_damaged().unwrap_or_default();
        damaged.iter().for_each(|name| tracing::error!("{}", LogError::Cursor { name: name.clone() }));
        let _ = stats.cursors_damaged.set(damaged.into_iter().collect());
        for (name, stored) in stored {
            let Some(mut acked) = AckedRanges::decode(&stored) else { continue };
            let (newest, head) = (acked.newest(), log.head());
            if acked.cut(head) {
                cut.insert(name.clone(), CursorCut { newest, head });
            }
            cursors.insert(name, acked);
        }
        let moved: BTreeSet<String> = cut.keys().cloned().collect();
        // This is the first writer of this process.
        let _ = stats.cursors_cut.set(cut);
        Cursors { acked: cursors, moved_since: (!moved.is_empty()).then_some(now), moved }
    }

    /// The acknowledged ranges of each sink.
    pub(super) fn acked(&self) -> &BTreeMap<String, AckedRanges> {
        &self.acked
    }

    /// Updates what a sink has acknowledged.
    pub(super) fn advance(&mut self, name: String, acked: AckedRanges, now: Instant) {
        if self.acked.get(&name) != Some(&acked) {
            self.acked.insert(name.clone(), acked);
            self.moved.insert(name);
            self.moved_since.get_or_insert(now);
        }
    }

    /// The last record that all of these sinks have; `Seq(u64::MAX)` if there are none.
    pub(super) fn acked_by_all<'a>(&self, sinks: impl Iterator<Item = &'a str>) -> Seq {
        let acked = sinks.map(|name| self.acked.get(name).map_or(Seq(0), AckedRanges::contiguous));
        acked.min().unwrap_or(Seq(u64::MAX))
    }

    /// Whether a moved cursor has waited this long.
    pub(super) fn waiting_for(&self, patience: Duration, now: Instant) -> bool {
        self.moved_since.is_some_and(|since| now.saturating_duration_since(since) >= patience)
    }

    /// The encoded cursors that have moved; they count as stored from now on. A crash before the commit only means that
    /// some parcels are sent again, with the same identity.
    pub(super) fn drain_moved(&mut self) -> Vec<(String, Vec<u8>)> {
        self.moved_since = None;
        let moved = std::mem::take(&mut self.moved);
        moved.into_iter().filter_map(|name| Some((name.clone(), self.acked.get(&name)?.encode()))).collect()
    }
}
