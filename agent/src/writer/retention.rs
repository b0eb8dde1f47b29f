//! Keeps the log within its limits.

use std::sync::PoisonError;
use std::time::Duration;

use fieldlog_projections::chunk::RecordBuffer;
use fieldlog_projections::{Fact, Seq, Time};

use super::{Writer, WriterError};
use crate::log::Commit;
use crate::retention::keeper::Orders;
use crate::retention::rollup::Job;

impl Writer {
    /// Keeps the log within its limits: scans now and then, trims a slice, and blocks or unblocks ingest.
    pub(super) fn keep(&mut self) -> Result<(), WriterError> {
        self.store_rollups()?;
        if self.keeper.is_due(self.clock.now()) {
            self.look()?;
        }
        if self.orders.trim_before.is_some() && self.batch.records.is_empty() {
            let empty = RecordBuffer::after(self.log.log().last_time());
            let trim = Commit { trim_before: self.orders.trim_before, ..Commit::of(&empty) };
            if self.log.commit(&trim, None)?.trimmed.is_none() {
                self.orders.trim_before = None;
            }
        }
        while self.orders.blocked.is_none()
            && let Some(delivery) = self.parked.pop_front()
        {
            delivery.acks.unpark(delivery.pubacks());
            self.accept(&delivery)?;
            self.commit_if_due()?;
        }
        Ok(())
    }

    /// Scans log, disk and cursors, and notes the orders.
    pub(super) fn look(&mut self) -> Result<(), WriterError> {
        let shared = &self.shared;
        let at = (self.clock.now(), self.aged());
        let cursors = self.cursors.acked();
        let mut orders = self.keeper.look(&shared.reader, shared.epoch, &shared.snapshots, cursors, at)?;
        self.roll_up_first(&mut orders)?;
        self.announce(&orders);
        self.record_trimming(&orders)?;
        self.orders = orders;
        self.snapshots.short_of_space(self.orders.short_of_space);
        self.snapshots.outlived(self.orders.snapshot_outlived);
        if self.orders.snapshot_due {
            self.log.move_journal(Duration::ZERO)?;
            self.snapshots.begin_for(self.orders.one_snapshot);
        }
        Ok(())
    }

    /// Delays a trim until the archive has the records to be deleted.
    fn roll_up_first(&mut self, orders: &mut Orders) -> Result<(), WriterError> {
        let (Some(length_s), Some(before)) = (self.config.retention.thin_to_s, orders.trim_before) else {
            return Ok(());
        };
        let rolled_up = self.shared.reader.rollups_end()?.map_or(Seq(0), |end| end.period.last);
        if rolled_up.next() < before {
            orders.trim_before = None;
            let head = (self.log.log().head(), self.log.log().last_time());
            self.rollup_thread.start(self.shared.reader.clone(), Job { length_s, before, head });
        }
        Ok(())
    }

    /// Stores the folded periods in the archive, and deletes old ones from its front.
    fn store_rollups(&mut self) -> Result<(), WriterError> {
        let periods = self.rollup_thread.finished()?.unwrap_or_default();
        let too_old = match self.config.retention.thin_age {
            Some(age) if self.keeper.is_due(self.clock.now()) => {
                let before = Time(self.aged().0.saturating_sub(age.as_micros() as i64));
                self.shared.reader.rollups_older(before)?
            }
            _ => None,
        };
        let empty = RecordBuffer::after(self.log.log().last_time());
        let store = Commit { rollups: &periods, trim_rollups_before: too_old, ..Commit::of(&empty) };
        self.log.commit(&store, None)?;
        if !periods.is_empty() {
            self.keeper.look_again();
        }
        Ok(())
    }

    /// The reference time for ages: based on the wall clock at the last tick, which distinguishes a step from elapsed
    /// time.
    fn aged(&self) -> Time {
        let (at, now) = self.expected;
        self.ages.now(now, at)
    }

    fn announce(&self, orders: &Orders) {
        if orders.blocked != self.orders.blocked {
            match &orders.blocked {
                Some(why) => tracing::error!("fieldlog no longer accepts messages: {why}"),
                None => tracing::info!("fieldlog accepts messages again"),
            }
            let mut blocked = self.shared.stats.blocked.lock().unwrap_or_else(PoisonError::into_inner);
            blocked.clone_from(&orders.blocked);
        }
    }

    /// A deletion is recorded before it begins, so a crash in between leaves a record of more than was deleted, never
    /// of less.
    fn record_trimming(&mut self, orders: &Orders) -> Result<(), WriterError> {
        let (Some(before), Some((first, _))) = (orders.trim_before, self.shared.reader.range()?) else {
            return Ok(());
        };
        let last = Seq(before.0 - 1);
        // Needed records may be in a chunk that stays.
        if orders.lost_by.is_empty() || orders.lost_from > last {
            return self.record(&Fact::Trimmed { first, last });
        }
        let lost_by = orders.lost_by.clone();
        if orders.lost_from > first {
            self.record(&Fact::Trimmed { first, last: Seq(orders.lost_from.0 - 1) })?;
        }
        let first = first.max(orders.lost_from);
        tracing::warn!(
            "the log is full: dropping records {first} to {last}, which {} had not received",
            lost_by.join(", ")
        );
        self.record(&Fact::Gap { first, last, lost_by })
    }

    /// The last record that every required sink has; `Seq(u64::MAX)` if there is none.
    pub(super) fn acked_by_required(&self) -> Seq {
        let required = self.config.sinks.iter().filter(|sink| sink.required);
        self.cursors.acked_by_all(required.map(|sink| sink.name.as_str()))
    }
}
