//! `fieldlog verify`: walks the whole log and says what is intact.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use fieldlog_projections::chunk::Chunk;
use fieldlog_projections::view::FoldError;
use fieldlog_projections::{Epoch, Link, Seq, View};

use crate::log::{FILE_NAME, Log, LogError, LogOptions};

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
    /// What is wrong after it.
    pub fault: Option<String>,
}

/// Walks a log that no agent has open.
///
/// # Errors
/// [`LogError`] if it cannot be opened or read; a damaged chunk is not an error but a finding.
pub fn verify(data_dir: &Path) -> Result<Report, LogError> {
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
    let mut report = Report {
        epoch: log.epoch(),
        range,
        chunks: 0,
        link: Link::origin(log.epoch()),
        intact: Seq(range.map_or(0, |(first, _)| first.0 - 1)),
        fault: None,
    };
    let first = range.map_or(Seq(1), |(first, _)| first);
    let mut view = (first == Seq(1)).then(|| View::new(Vec::new()));
    let walked = reader.scan(first, |chunk| match step(&mut report, view.as_mut(), chunk, first) {
        None => ControlFlow::Continue(()),
        Some(fault) => ControlFlow::Break(fault),
    });
    match walked {
        Ok(fault) => report.fault = fault,
        Err(LogError::Chunk { at, source }) => {
            report.fault = Some(format!("the chunk at sequence {at}: {source}"))
        }
        Err(error) => return Err(error),
    }
    drop(reader);
    log.close()?;
    Ok(report)
}

/// Takes in a chunk, or says what is wrong with it.
fn step(report: &mut Report, view: Option<&mut View>, chunk: &Chunk<'_>, first: Seq) -> Option<String> {
    let header = &chunk.header;
    if header.first != report.intact.next() {
        return Some(format!("records are missing: after sequence {} comes {}", report.intact, header.first));
    }
    if header.first == first && first > Seq(1) {
        // What was before is trimmed; its last link is all that is left of it.
        report.link = header.place.link;
    }
    if header.place.link != report.link {
        return Some(format!("the chain does not continue at sequence {}", header.first));
    }
    for record in chunk.records() {
        match record {
            Ok(record) => {
                report.link = report.link.after(record.raw);
                report.intact = record.seq;
            }
            Err(error) => return Some(error.to_string()),
        }
    }
    report.chunks += 1;
    let folded: Result<(), FoldError> = view.map_or(Ok(()), |view| view.apply_chunk(chunk));
    folded.err().map(|error| error.to_string())
}

/// Prints a report; the exit code is 0 if everything is intact, else 1.
///
/// # Errors
/// Of the output.
pub fn print(report: &Report, out: &mut impl Write) -> io::Result<u8> {
    writeln!(out, "epoch   {}", report.epoch)?;
    match report.range {
        None => writeln!(out, "records none")?,
        Some((first, last)) => {
            writeln!(out, "records {first} to {last} in {} chunks", report.chunks)?;
            writeln!(out, "intact  up to {}", report.intact)?;
            writeln!(out, "chain   {} after sequence {}", report.link, report.intact)?;
        }
    }
    match &report.fault {
        None => {
            writeln!(
                out,
                "result  intact: every checksum, every record and the chain are as they were written"
            )?;
            Ok(0)
        }
        Some(fault) => {
            writeln!(out, "result  DAMAGED: {fault}")?;
            writeln!(out, "        Restore the file from a backup, or move it away to begin a new epoch.")?;
            Ok(1)
        }
    }
}
