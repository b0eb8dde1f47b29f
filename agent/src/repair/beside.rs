//! What a damaged log has beside its records, as far as it can be read.

use fieldlog_projections::Seq;

use super::Old;
use crate::client::Failure;
use crate::log::acked::AckedRanges;
use crate::log::{LogReader, Rows};
use crate::stopped::COMMIT_BYTES;
use crate::successor::Successor;

/// What was taken over beside the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Payloads in the quarantine.
    pub quarantine: u64,
    /// Whether payloads were lost, or may have been.
    pub quarantine_lost: bool,
    /// Rows of the archive.
    pub rollups: u64,
    /// Whether rows were lost, or may have been.
    pub rollups_lost: bool,
}

impl Old {
    /// Takes over quarantine and archive.
    pub(super) fn beside(&self, log: &mut Successor) -> Result<Beside, Failure> {
        let Some(reader) = self.salvage.log.as_ref().map(crate::log::Log::reader) else {
            return Ok(Beside { quarantine_lost: true, rollups_lost: true, ..Beside::default() });
        };
        let doubted = reader.clock_doubted().ok().filter(|micros| *micros > 0);
        log.adopt(&Rows { doubted, ..Rows::default() })?;
        let (quarantine, quarantine_lost) = self.quarantine(&reader, log)?;
        let (rollups, rollups_lost) = rollups(&reader, log)?;
        Ok(Beside { quarantine, quarantine_lost, rollups, rollups_lost })
    }

    fn quarantine(&self, reader: &LogReader, log: &mut Successor) -> Result<(u64, bool), Failure> {
        let Ok(listed) = reader.quarantine(usize::MAX) else { return Ok((0, true)) };
        let (mut kept, mut lost, mut rows, mut bytes) = (0, false, Rows::default(), 0);
        for seq in listed.into_iter().rev() {
            // A payload without its record says nothing.
            let of_lost = self.plan.gaps.iter().any(|gap| (gap.first..=gap.last).contains(&seq));
            match reader.quarantined(seq) {
                Ok(Some(payload)) if !of_lost => {
                    bytes += payload.len();
                    rows.quarantine.push((seq, payload));
                    kept += 1;
                }
                _ => lost = true,
            }
            if bytes >= COMMIT_BYTES {
                log.adopt(&std::mem::take(&mut rows))?;
                bytes = 0;
            }
        }
        log.adopt(&rows)?;
        Ok((kept, lost))
    }

    /// Positions after the intact records that a snapshot or a sink is known to have had.
    pub(super) fn lost_end(&self, head: Seq) -> Option<(Seq, Seq)> {
        let snapshots = self.snapshots.iter().filter(|snapshot| !snapshot.is_aside());
        let headers = snapshots.filter_map(|snapshot| snapshot.header.as_ref().ok());
        let snapshot =
            headers.filter(|header| Some(header.epoch) == self.epoch).map(|header| header.seq).max();
        let cursors =
            self.salvage.log.as_ref().and_then(|log| log.reader().cursors().ok()).unwrap_or_default();
        let acked =
            cursors.iter().filter_map(|(_, cursor)| Some(AckedRanges::decode(cursor)?.newest())).max();
        let last = snapshot.max(acked).filter(|last| *last > head)?;
        Some((head.next(), last))
    }
}

/// Copies the archive up to the first row that is damaged.
fn rollups(reader: &LogReader, log: &mut Successor) -> Result<(u64, bool), Failure> {
    let (mut kept, mut last) = (0, None);
    loop {
        match reader.rollup_rows(last.as_ref()) {
            Ok(rows) if rows.is_empty() => return Ok((kept, false)),
            Ok(rows) => {
                kept += rows.len() as u64;
                last = rows.last().cloned();
                log.adopt(&Rows { rollups: rows, ..Rows::default() })?;
            }
            Err(_) => return Ok((kept, true)),
        }
    }
}
