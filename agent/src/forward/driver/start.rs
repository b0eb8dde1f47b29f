//! The position from which a sink continues.

use fieldlog_projections::Seq;

use super::{Parts, Service};
use crate::config::RefusedPolicy;
use crate::log::LogError;
use crate::log::acked::AckedRanges;
use crate::shared::CursorCut;

/// Starts from the known or the stored cursor; for a new sink from the beginning of the log. Also returns a warning for
/// the operator if the cursor is damaged or ahead of the log.
pub(super) fn start(service: &Service, parts: &Parts) -> (AckedRanges, Option<String>) {
    let stored = || AckedRanges::decode(&parts.shared.reader.cursor(&service.name).ok().flatten()?);
    let range = parts.shared.reader.range().ok();
    let mut acked = parts.known.clone().or_else(stored).unwrap_or_default();
    // If the log cannot be read, its end is unknown.
    if let Some(range) = range {
        acked.cut(range.map_or(Seq(0), |(_, head)| head));
    }
    // The writer noted this when it opened the log.
    let cut = parts.shared.stats.cursors_cut.get().and_then(|cut| cut.get(&service.name));
    let lost_end = cut.map(|cut| lost_end(&service.name, *cut)).or_else(|| lost_cursor(service, parts));
    if service.refused == RefusedPolicy::Release {
        release(service, &mut acked);
    }
    // Records trimmed before this sink existed do not count as missing.
    let first = range.flatten().map_or(Seq(1), |(first, _)| first);
    acked.add(Seq(1), Seq(first.0 - 1));
    (acked, lost_end)
}

/// Sending again is harmless, but keeping a damaged cursor could mean never sending; the writer has logged it.
fn lost_cursor(service: &Service, parts: &Parts) -> Option<String> {
    let damaged = parts.shared.stats.cursors_damaged.get()?;
    let name = service.name.clone();
    damaged.contains(&name).then(|| LogError::Cursor { name }.to_string())
}

/// New events get positions that the sink has acknowledged. If the cursor were kept, they would never be sent.
fn lost_end(sink: &str, CursorCut { newest, head }: CursorCut) -> String {
    let why = format!(
        "this sink has acknowledged up to sequence {newest}, but the log ends at {head}: the log was restored from a \
         backup or has lost its end. New events after {head} are sent. The receiver may have other events at these \
         positions: look for FORK in its report, and run `fieldlog verify`"
    );
    tracing::error!(sink, "{why}");
    why
}

fn release(service: &Service, acked: &mut AckedRanges) {
    let count = acked.refused_count();
    if count > 0 {
        tracing::warn!(
            sink = %service.name,
            "{count} events that the sink refused will not be offered again, because `refused = \"release\"` is set; \
             the dead_lettered records list them"
        );
        acked.release();
    }
}
