//! `fieldlog verify`: walks the whole log and says what is intact.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use fieldlog_projections::archive::Period;
use fieldlog_projections::chunk::Chunk;
use fieldlog_projections::view::FoldError;
use fieldlog_projections::{Epoch, Link, Seq, View};

use crate::log::{FILE_NAME, Log, LogError, LogOptions, LogReader};

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
}

/// What a walk over the archive found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveReport {
    /// Intact rows.
    pub rows: u64,
    /// The first and the last record that they were folded from.
    pub range: Option<(Seq, Seq)>,
    /// Stretches of records between them that were deleted without: thinning was off then.
    pub gaps: u64,
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
        archive: ArchiveReport::default(),
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
    match walk_archive(&reader, &mut report.archive) {
        Ok(fault) => report.fault = report.fault.or(fault),
        Err(LogError::Archive { at, source }) => {
            let fault = format!("the archive's row of sequence {at}: {source}");
            report.fault = report.fault.or(Some(fault));
        }
        Err(error) => return Err(error),
    }
    drop(reader);
    log.close()?;
    Ok(report)
}

/// Reads all of the archive, or says what is wrong with it.
fn walk_archive(reader: &LogReader, report: &mut ArchiveReport) -> Result<Option<String>, LogError> {
    reader.scan_archive(Seq(0), |row| {
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
    if let ArchiveReport { rows, range: Some((first, last)), gaps } = report.archive {
        let without = if gaps == 0 { String::new() } else { format!(", without {gaps} stretches between") };
        writeln!(out, "archive aggregates of {first} to {last}{without} in {rows} rows")?;
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
