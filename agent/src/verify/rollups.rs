//! Checks the archive.

use std::ops::ControlFlow;

use fieldlog_projections::Seq;
use fieldlog_projections::rollup::Period;

use crate::log::{LogError, LogReader};

/// The findings in the archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RollupsReport {
    /// Intact rows.
    pub rows: u64,
    /// The first and the last archived record.
    pub range: Option<(Seq, Seq)>,
    /// Number of ranges between them that were deleted without being archived, because thinning was off.
    pub gaps: u64,
}

/// Reads all of it, up to the first fault.
pub(super) fn walk(reader: &LogReader, report: &mut RollupsReport) -> Result<Option<String>, LogError> {
    reader.scan_rollups(Seq(0), |row| {
        row.series()?;
        let Period { first, last, .. } = row.period;
        let (begin, end) = report.range.unwrap_or((first, Seq(first.0.saturating_sub(1))));
        if row.part == 0 {
            if first <= end {
                return Ok(ControlFlow::Break(format!(
                    "the archive has the record at sequence {first} twice"
                )));
            }
            report.gaps += u64::from(first > end.next());
            report.range = Some((begin, last));
        }
        report.rows += 1;
        Ok(ControlFlow::Continue(()))
    })
}
