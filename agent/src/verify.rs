//! `fieldlog verify`: checks the whole log and reports what is intact, and how far this can be proved.
//!
//! Checksums and the chain reveal damage. They do not reveal a log that was rewritten with its chain; only a link kept
//! elsewhere, an anchor, does.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;

use fieldlog_projections::chunk::Chunk;
use fieldlog_projections::stored::type_id::{CLOCK_CORRECTED, GAP, TRIMMED};
use fieldlog_projections::view::FoldError;
use fieldlog_projections::{Anchor, ChainHash, Epoch, Fact, Record, Seq, Time, View};

use crate::log::acked::AckedRanges;
use crate::log::{LogError, LogReader};
use crate::stopped::Stopped;

mod print;
mod rollups;
mod store;
#[cfg(test)]
mod tests;

pub use print::{as_json, exit_code, print};
pub use rollups::RollupsReport;

/// The findings of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The epoch of the log.
    pub epoch: Epoch,
    /// Oldest and newest position; `None` for an empty log.
    pub range: Option<(Seq, Seq)>,
    /// Chunks read.
    pub chunks: u64,
    /// The chain after the last intact record.
    pub link: ChainHash,
    /// The last intact position.
    pub intact: Seq,
    /// Commits that only the journal has; their records count as those of the log.
    pub in_journal: u64,
    /// The findings in the archive.
    pub rollups: RollupsReport,
    /// The fault: after the last intact record, in the archive, in the store around them, or beside it.
    pub fault: Option<String>,
    /// The given anchors, by position.
    pub anchors: Vec<(Anchor, Agreement)>,
    /// What each sink has acknowledged without a gap, by name, with the chain there if it could be read.
    pub sinks: Vec<(String, Seq, Option<ChainHash>)>,
}

/// The result of comparing a log with an anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// It has exactly the records that led to the anchor.
    Agrees,
    /// It has other records; this is its own link there.
    Differs(ChainHash),
    /// It has no intact record there: it ends before, or is damaged before.
    Ends,
    /// Its records begin after the anchor; earlier ones were trimmed.
    Trimmed,
}

impl Report {
    /// Whether nothing is damaged, and every anchor agrees.
    pub fn is_good(&self) -> bool {
        self.fault.is_none() && self.anchors.iter().all(|(_, agreement)| *agreement == Agreement::Agrees)
    }
}

/// Exit code for a log that is damaged, lost, or not of this program (`EX_DATAERR`).
pub const EX_DATAERR: u8 = 65;

/// Checks a log that no agent has open. Changes nothing in the directory: repairs after a crash are made in memory.
///
/// # Errors
/// [`LogError`] if it cannot be opened or read; damage is not an error but a finding.
pub fn verify(data_dir: &Path) -> Result<Report, LogError> {
    verify_against(data_dir, &[])
}

/// As [`verify`], and compares the log with the given anchors.
///
/// # Errors
/// As [`verify`].
pub fn verify_against(data_dir: &Path, anchors: &[Anchor]) -> Result<Report, LogError> {
    let (mut stopped, journal_fault) = Stopped::inspect(data_dir)?;
    let reader = stopped.reader();
    let (mut walk, sinks) = survey(stopped.epoch(), &reader, anchors)?;
    let mut rollups = RollupsReport::default();
    let mut faults = vec![journal_fault.map(|fault| fault.to_string()), finding(walk.all(&reader))?];
    let damaged = reader.cursors_damaged()?.into_iter().next();
    faults.push(damaged.map(|name| LogError::Cursor { name }.to_string()));
    faults.push(finding(rollups::walk(&reader, &mut rollups))?);
    faults.push(finding(reader.check_index())?);
    drop(reader);
    faults.push(finding(store::check(stopped.log()))?);
    faults.push(store::snapshots_ahead(data_dir, stopped.epoch(), stopped.head())?);
    let in_journal = stopped.log().disk().journal_found.load(Ordering::Relaxed);
    Ok(Report { rollups, in_journal, ..walk.report(faults, sinks, anchors) })
}

/// What the sinks have acknowledged without a gap, by name.
type Acknowledged = Vec<(String, Seq)>;

/// Where the log begins and ends, and what to check on the way.
fn survey(epoch: Epoch, reader: &LogReader, anchors: &[Anchor]) -> Result<(Walk, Acknowledged), LogError> {
    let sinks: Acknowledged = reader
        .cursors()?
        .into_iter()
        .filter_map(|(name, cursor)| Some((name, AckedRanges::decode(&cursor)?.contiguous())))
        .collect();
    let positions = sinks.iter().map(|(_, seq)| *seq).chain(anchors.iter().map(|anchor| anchor.seq));
    Ok((Walk::new(epoch, reader.range()?, positions), sinks))
}

/// Turns an error into a finding if it is about the log; an unreadable disk, for example, is not.
fn finding(found: Result<Option<String>, LogError>) -> Result<Option<String>, LogError> {
    match found {
        Err(LogError::Chunk { at, source }) => Ok(Some(format!("the chunk at sequence {at}: {source}"))),
        Err(LogError::Rollup { at, source }) => {
            Ok(Some(format!("the archive's row of sequence {at}: {source}")))
        }
        Err(LogError::Damaged { op, why }) => Ok(Some(format!("cannot {op}: {why}"))),
        Err(error @ LogError::Missing { .. }) => Ok(Some(error.to_string())),
        other => other,
    }
}

/// A scan from the first record on.
struct Walk {
    epoch: Epoch,
    range: Option<(Seq, Seq)>,
    first: Seq,
    chunks: u64,
    link: ChainHash,
    intact: Seq,
    /// The requested links, once they are known.
    links: BTreeMap<Seq, Option<ChainHash>>,
    /// Log time of the last intact record.
    time: Time,
    /// Folds the records, if the log begins at 1.
    view: Option<View>,
    /// Whether a record explains that earlier ones were deleted.
    explained: bool,
}

impl Walk {
    fn new(epoch: Epoch, range: Option<(Seq, Seq)>, positions: impl Iterator<Item = Seq>) -> Walk {
        let first = range.map_or(Seq(1), |(first, _)| first);
        let mut walk = Walk {
            epoch,
            range,
            first,
            chunks: 0,
            link: ChainHash::origin(epoch),
            intact: Seq(first.0 - 1),
            links: positions.map(|seq| (seq, None)).collect(),
            time: Time(i64::MIN),
            view: (first == Seq(1)).then(|| View::new(Vec::new())),
            explained: first == Seq(1),
        };
        if first == Seq(1) {
            walk.note();
        }
        walk
    }

    /// Scans up to the end, or to the first fault.
    fn all(&mut self, reader: &LogReader) -> Result<Option<String>, LogError> {
        let fault = reader.scan(self.first, |chunk| match self.step(chunk) {
            None => ControlFlow::Continue(()),
            Some(fault) => ControlFlow::Break(fault),
        })?;
        Ok(fault.or_else(|| {
            (!self.explained).then(|| {
                format!(
                    "the log begins at sequence {}, and no record in it says that those before were deleted",
                    self.first
                )
            })
        }))
    }

    /// A deletion is recorded before it happens, so the record is after the deleted ones and still exists.
    fn explain(&mut self, record: &Record<'_>) {
        if self.explained || !matches!(record.kind.type_id, TRIMMED | GAP) {
            return;
        }
        if let Ok(Fact::Trimmed { first, last } | Fact::Gap { first, last, .. }) = record.fact() {
            self.explained = (first..=last).contains(&Seq(self.first.0 - 1));
        }
    }

    /// Checks a chunk, or returns what is wrong with it.
    fn step(&mut self, chunk: &Chunk<'_>) -> Option<String> {
        let header = &chunk.header;
        if header.first != self.intact.next() {
            return Some(format!(
                "records are missing: after sequence {} comes {}",
                self.intact, header.first
            ));
        }
        if header.first == self.first && self.first > Seq(1) {
            // Earlier records were trimmed; their last link is in this header.
            self.link = header.place.link;
            self.note();
        }
        if header.place.link != self.link {
            return Some(format!("the chain does not continue at sequence {}", header.first));
        }
        for record in chunk.records() {
            match record {
                Ok(record) if record.time < self.time && record.kind.type_id != CLOCK_CORRECTED => {
                    return Some(format!(
                        "log time goes back at sequence {}, without a correction",
                        record.seq
                    ));
                }
                Ok(record) => {
                    self.time = record.time;
                    self.link = self.link.after(record.raw);
                    self.intact = record.seq;
                    self.explain(&record);
                    self.note();
                }
                Err(error) => return Some(error.to_string()),
            }
        }
        self.chunks += 1;
        let folded: Result<(), FoldError> = self.view.as_mut().map_or(Ok(()), |view| view.apply_chunk(chunk));
        folded.err().map(|error| error.to_string())
    }

    /// Stores the link here if it was requested.
    fn note(&mut self) {
        if let Some(link) = self.links.get_mut(&self.intact) {
            *link = Some(self.link);
        }
    }

    fn report(self, mut faults: Vec<Option<String>>, sinks: Acknowledged, anchors: &[Anchor]) -> Report {
        let link_at = |seq: Seq| self.links.get(&seq).copied().flatten();
        let agreement = |anchor: &Anchor| match link_at(anchor.seq) {
            Some(link) if link == anchor.link => Agreement::Agrees,
            Some(link) => Agreement::Differs(link),
            None if anchor.seq < self.first => Agreement::Trimmed,
            None => Agreement::Ends,
        };
        let head = self.range.map_or(Seq(0), |(_, last)| last);
        let ahead = sinks.iter().find(|(_, seq)| *seq > head).map(|(name, seq)| {
            format!(
                "sink \"{name}\" has acknowledged up to {seq}, and the log ends at {head}: its newest records are gone"
            )
        });
        faults.push(ahead);
        let faults: Vec<String> = faults.into_iter().flatten().collect();
        let mut anchors: Vec<_> = anchors.iter().map(|anchor| (*anchor, agreement(anchor))).collect();
        anchors.sort_by_key(|(anchor, _)| anchor.seq);
        Report {
            epoch: self.epoch,
            range: self.range,
            chunks: self.chunks,
            link: self.link,
            intact: self.intact,
            rollups: RollupsReport::default(),
            in_journal: 0,
            fault: (!faults.is_empty()).then(|| faults.join("; ")),
            anchors,
            sinks: sinks.into_iter().map(|(name, seq)| (name, seq, link_at(seq))).collect(),
        }
    }
}
