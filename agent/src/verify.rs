//! `fieldlog verify`: walks the whole log and says what is intact, and up to where somebody else could tell.
//!
//! Checksums and the chain show damage. They do not show a log that was written anew, chain and all: only a link that was
//! kept elsewhere does. Those are the anchors.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use fieldlog_projections::chunk::Chunk;
use fieldlog_projections::stored::type_id::CLOCK_CORRECTED;
use fieldlog_projections::view::FoldError;
use fieldlog_projections::{Anchor, Epoch, Link, Seq, Time, View};

use crate::forward::acked::Acked;
use crate::log::{FILE_NAME, Log, LogError, LogOptions};

mod archive;
mod print;
#[cfg(test)]
mod tests;

pub use archive::ArchiveReport;
pub use print::print;

/// What a walk over the log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Incarnation of the log.
    pub epoch: Epoch,
    /// Oldest and newest position; `None` for an empty log.
    pub range: Option<(Seq, Seq)>,
    /// Chunks read.
    pub chunks: u64,
    /// The chain after the last intact record.
    pub link: Link,
    /// The last intact position.
    pub intact: Seq,
    /// What the archive has.
    pub archive: ArchiveReport,
    /// What is wrong after the last intact record, or with the archive.
    pub fault: Option<String>,
    /// The anchors that were given, by position.
    pub anchors: Vec<(Anchor, Agreement)>,
    /// What each sink has acknowledged without a gap, by name, with the chain there if it could be read.
    pub sinks: Vec<(String, Seq, Option<Link>)>,
}

/// What a log says to an anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// It has exactly the records that led to the anchor.
    Agrees,
    /// It has other ones; this is its own link there.
    Differs(Link),
    /// It has no intact record there: it ends before, or is damaged before.
    Ends,
    /// Its records begin after the anchor; what was there has been trimmed.
    Trimmed,
}

impl Report {
    /// Whether nothing is damaged, and every anchor agrees.
    pub fn is_good(&self) -> bool {
        self.fault.is_none() && self.anchors.iter().all(|(_, agreement)| *agreement == Agreement::Agrees)
    }
}

/// Walks a log that no agent has open.
///
/// # Errors
/// [`LogError`] if it cannot be opened or read; a damaged chunk is not an error but a finding.
pub fn verify(data_dir: &Path) -> Result<Report, LogError> {
    verify_against(data_dir, &[])
}

/// As [`verify`], and compares the log with links that were kept elsewhere.
///
/// # Errors
/// As [`verify`].
pub fn verify_against(data_dir: &Path, anchors: &[Anchor]) -> Result<Report, LogError> {
    let path = data_dir.join(FILE_NAME);
    if !path.exists() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        return Err(LogError::File { path, source });
    }
    let options = LogOptions { cache_bytes: 8 << 20, quick_repair: false, quarantine_records_max: u64::MAX };
    // A log that exists keeps its epoch; this one would only be given to a new one.
    let log = Log::open(data_dir, options, Epoch(0))?;
    let reader = log.reader();
    let range = reader.range()?;
    let sinks: Vec<(String, Seq)> = reader
        .cursors()?
        .into_iter()
        .filter_map(|(name, cursor)| Some((name, Acked::decode(&cursor)?.contiguous())))
        .collect();
    let positions = sinks.iter().map(|(_, seq)| *seq).chain(anchors.iter().map(|anchor| anchor.seq));
    let mut walk = Walk::new(log.epoch(), range, positions);
    let walked = reader.scan(walk.first, |chunk| match walk.step(chunk) {
        None => ControlFlow::Continue(()),
        Some(fault) => ControlFlow::Break(fault),
    });
    let fault = match walked {
        Ok(fault) => fault,
        Err(LogError::Chunk { at, source }) => Some(format!("the chunk at sequence {at}: {source}")),
        Err(error @ LogError::Missing { .. }) => Some(error.to_string()),
        Err(error) => return Err(error),
    };
    let damaged = reader.cursors_damaged()?.into_iter().next();
    let fault = fault.or_else(|| damaged.map(|name| LogError::Cursor { name }.to_string()));
    let (archive, of_archive) = archive::walk(&reader)?;
    drop(reader);
    log.close()?;
    Ok(Report { archive, ..walk.report(fault.or(of_archive), sinks, anchors) })
}

/// A walk from the first record on.
struct Walk {
    epoch: Epoch,
    range: Option<(Seq, Seq)>,
    first: Seq,
    chunks: u64,
    link: Link,
    intact: Seq,
    /// The links that are asked for, once they are known.
    links: BTreeMap<Seq, Option<Link>>,
    /// Log time of the last intact record.
    time: Time,
    /// Folds what it meets, if it can from the beginning.
    view: Option<View>,
}

impl Walk {
    fn new(epoch: Epoch, range: Option<(Seq, Seq)>, positions: impl Iterator<Item = Seq>) -> Walk {
        let first = range.map_or(Seq(1), |(first, _)| first);
        let mut walk = Walk {
            epoch,
            range,
            first,
            chunks: 0,
            link: Link::origin(epoch),
            intact: Seq(first.0 - 1),
            links: positions.map(|seq| (seq, None)).collect(),
            time: Time(i64::MIN),
            view: (first == Seq(1)).then(|| View::new(Vec::new())),
        };
        if first == Seq(1) {
            walk.note();
        }
        walk
    }

    /// Takes in a chunk, or says what is wrong with it.
    fn step(&mut self, chunk: &Chunk<'_>) -> Option<String> {
        let header = &chunk.header;
        if header.first != self.intact.next() {
            return Some(format!(
                "records are missing: after sequence {} comes {}",
                self.intact, header.first
            ));
        }
        if header.first == self.first && self.first > Seq(1) {
            // What was before is trimmed; its last link is all that is left of it.
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
                    self.note();
                }
                Err(error) => return Some(error.to_string()),
            }
        }
        self.chunks += 1;
        let folded: Result<(), FoldError> = self.view.as_mut().map_or(Ok(()), |view| view.apply_chunk(chunk));
        folded.err().map(|error| error.to_string())
    }

    /// Keeps the link here if it is asked for.
    fn note(&mut self) {
        if let Some(link) = self.links.get_mut(&self.intact) {
            *link = Some(self.link);
        }
    }

    fn report(self, fault: Option<String>, sinks: Vec<(String, Seq)>, anchors: &[Anchor]) -> Report {
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
        let mut anchors: Vec<_> = anchors.iter().map(|anchor| (*anchor, agreement(anchor))).collect();
        anchors.sort_by_key(|(anchor, _)| anchor.seq);
        Report {
            epoch: self.epoch,
            range: self.range,
            chunks: self.chunks,
            link: self.link,
            intact: self.intact,
            archive: ArchiveReport::default(),
            fault: fault.or(ahead),
            anchors,
            sinks: sinks.into_iter().map(|(name, seq)| (name, seq, link_at(seq))).collect(),
        }
    }
}
