//! What each sink has acknowledged, and which of it is still to be stored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fieldlog_projections::Seq;

use crate::log::acked::AckedRanges;
use crate::log::{Log, LogError};
use crate::shared::{CursorCut, WriterStats};

/// The cursors of the sinks.
pub(super) struct Cursors {
    /// What each sink has, as far as it is known.
    acked: BTreeMap<String, AckedRanges>,
    /// Sinks whose cursor has moved since it was last stored, and since when.
    moved: BTreeSet<String>,
    moved_since: Option<Instant>,
}

impl Cursors {
    /// As the log has them. What they say beyond its end is forgotten, and noted in `stats`. Those must be stored anew before
    /// the log grows past them, or what it then gets would count as acknowledged.
    pub(super) fn stored(log: &Log, stats: &WriterStats, now: Instant) -> Cursors {
        let (mut cursors, mut cut) = (BTreeMap::new(), BTreeMap::new());
        let reader = log.reader();
        let stored = reader.cursors().unwrap_or_else(|error| {
            tracing::error!(
                "cannot read the cursors of the sinks, so everything in the log is sent again: {error}"
            );
            Vec::new()
        });
        // Each sink says so, too; here also those that are not configured any more.
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
        // It is the first writer of this process that opens the log.
        let _ = stats.cursors_cut.set(cut);
        Cursors { acked: cursors, moved_since: (!moved.is_empty()).then_some(now), moved }
    }

    /// What each sink has.
    pub(super) fn acked(&self) -> &BTreeMap<String, AckedRanges> {
        &self.acked
    }

    /// Takes over what a sink has.
    pub(super) fn advance(&mut self, name: String, acked: AckedRanges, now: Instant) {
        if self.acked.get(&name) != Some(&acked) {
            self.acked.insert(name.clone(), acked);
            self.moved.insert(name);
            self.moved_since.get_or_insert(now);
        }
    }

    /// The last record that all of these sinks have; any there will be if there are none.
    pub(super) fn acked_by_all<'a>(&self, sinks: impl Iterator<Item = &'a str>) -> Seq {
        let acked = sinks.map(|name| self.acked.get(name).map_or(Seq(0), AckedRanges::contiguous));
        acked.min().unwrap_or(Seq(u64::MAX))
    }

    /// Whether one has waited so long to be stored.
    pub(super) fn waiting_for(&self, patience: Duration, now: Instant) -> bool {
        self.moved_since.is_some_and(|since| now.saturating_duration_since(since) >= patience)
    }

    /// The cursors that have moved, as they are stored; from now on they count as stored. A crash before the commit only means
    /// that some parcels are sent again, with the same identity.
    pub(super) fn drain_moved(&mut self) -> Vec<(String, Vec<u8>)> {
        self.moved_since = None;
        let moved = std::mem::take(&mut self.moved);
        moved.into_iter().filter_map(|name| Some((name.clone(), self.acked.get(&name)?.encode()))).collect()
    }
}
