//! The output lines, and the journal of accepted parcels.
//!
//! Lines are written first, then the journal entry, and only then is the gateway answered. So lines without a journal
//! entry were not acknowledged: the next start cuts them off, and they are sent again.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fieldlog_projections::Seq;
use serde::{Deserialize, Serialize};

use fieldlog_wire::Manifest;
use fieldlog_wire::account::Taken;
use fieldlog_wire::ledger::{Fault, Ledger};
use fieldlog_wire::received::Received;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
    /// Nowhere: only the account is kept.
    Nowhere,
}

/// The output files, in the order of writing.
#[derive(Debug)]
pub(super) struct Store {
    out: Sink,
    journal: Option<(File, PathBuf)>,
    fsync: bool,
    written: u64,
}

#[derive(Debug)]
enum Sink {
    Stdout(io::Stdout),
    File(File, PathBuf),
    Nowhere,
}

/// A journal entry: a parcel with something new, or a contradiction.
#[derive(Serialize, Deserialize)]
struct Entry {
    manifest: Manifest,
    recomputed: bool,
    fresh: Vec<(u64, u64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ahead: Vec<u64>,
    events: u64,
    duplicates: u64,
    faults: Vec<Fault>,
    /// The parcel was refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    refused: bool,
    /// Length of the output file after it.
    written: u64,
}

impl Store {
    /// Opens both files; the journal's entries go into the ledger.
    pub(super) fn open(
        out: &Out,
        state: Option<&Path>,
        fsync: bool,
        ledger: &mut Ledger,
    ) -> Result<Store, StoreError> {
        let mut known = None;
        let journal = match state {
            Some(path) => {
                let fault = |source| StoreError::Io { path: path.to_owned(), source };
                let mut file = open(path).map_err(fault)?;
                known = replay(&mut file, path, ledger)?;
                Some((file, path.to_owned()))
            }
            None => None,
        };
        let mut store = Store { out: Sink::Nowhere, journal, fsync, written: 0 };
        store.out = match out {
            Out::Stdout => Sink::Stdout(io::stdout()),
            Out::Nowhere => Sink::Nowhere,
            Out::File(path) => {
                let fault = |source| StoreError::Io { path: path.clone(), source };
                let mut file = open(path).map_err(fault)?;
                store.written = match (known, state) {
                    (Some(known), Some(state)) => cut(&file, path, state, known)?,
                    _ => file.metadata().map_err(fault)?.len(),
                };
                file.seek(SeekFrom::Start(store.written)).map_err(fault)?;
                Sink::File(file, path.clone())
            }
        };
        Ok(store)
    }

    /// Writes the new events of a parcel. After it returns, the gateway may be answered.
    pub(super) fn write(&mut self, received: &Received, taken: &Taken) -> Result<(), StoreError> {
        if taken.fresh.is_empty() && taken.ahead.is_empty() && taken.faults.is_empty() {
            return Ok(());
        }
        for run in received.runs(|seq| taken.is_new(seq)) {
            self.out.write(run)?;
            self.written += run.len() as u64;
        }
        self.out.flush(self.fsync)?;
        self.note(&Entry {
            manifest: received.manifest.clone(),
            recomputed: received.has_chain() && taken.faults.is_empty(),
            fresh: taken.fresh.iter().map(|(first, last)| (first.0, last.0)).collect(),
            ahead: taken.ahead.iter().map(|seq| seq.0).collect(),
            events: received.events.iter().filter(|(seq, _)| taken.is_new(*seq)).count() as u64,
            duplicates: taken.duplicates,
            faults: taken.faults.clone(),
            refused: false,
            written: self.written,
        })
    }

    /// Records why a parcel was refused.
    pub(super) fn write_refused(&mut self, received: &Received, fault: Fault) -> Result<(), StoreError> {
        self.note(&Entry {
            manifest: received.manifest.clone(),
            recomputed: false,
            fresh: Vec::new(),
            ahead: Vec::new(),
            events: 0,
            duplicates: 0,
            faults: vec![fault],
            refused: true,
            written: self.written,
        })
    }

    fn note(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let Some((journal, path)) = &mut self.journal else { return Ok(()) };
        let fault = |source| StoreError::Io { path: path.clone(), source };
        let mut line = serde_json::to_vec(entry).map_err(|e| fault(e.into()))?;
        line.push(b'\n');
        journal.write_all(&line).map_err(fault)?;
        if self.fsync { journal.sync_data().map_err(fault) } else { Ok(()) }
    }
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match self {
            Sink::Stdout(out) => out.write_all(bytes).map_err(StoreError::Stdout),
            Sink::File(file, path) => {
                file.write_all(bytes).map_err(|source| StoreError::Io { path: path.clone(), source })
            }
            Sink::Nowhere => Ok(()),
        }
    }

    fn flush(&mut self, fsync: bool) -> Result<(), StoreError> {
        match self {
            Sink::Stdout(out) => out.flush().map_err(StoreError::Stdout),
            Sink::File(file, path) if fsync => {
                file.sync_data().map_err(|source| StoreError::Io { path: path.clone(), source })
            }
            _ => Ok(()),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Cuts off lines without a journal entry; returns the file's new length.
fn cut(file: &File, path: &Path, state: &Path, known: u64) -> Result<u64, StoreError> {
    let fault = |source| StoreError::Io { path: path.to_owned(), source };
    let found = file.metadata().map_err(fault)?.len();
    if found < known {
        return Err(StoreError::Shorter { path: path.to_owned(), state: state.to_owned(), found, known });
    }
    file.set_len(known).map_err(fault)?;
    Ok(known)
}

/// Enters every journal entry, and positions the file for the next one. A truncated last entry is overwritten.
fn replay(file: &mut File, path: &Path, ledger: &mut Ledger) -> Result<Option<u64>, StoreError> {
    let fault = |source| StoreError::Io { path: path.to_owned(), source };
    let mut reader = BufReader::new(&mut *file);
    let (mut line, mut number, mut end, mut written) = (Vec::new(), 0, 0, None);
    loop {
        line.clear();
        let size = reader.by_ref().read_until(b'\n', &mut line).map_err(fault)?;
        if line.last() != Some(&b'\n') {
            break;
        }
        number += 1;
        let entry: Entry = serde_json::from_slice(&line).map_err(|source| StoreError::Journal {
            path: path.to_owned(),
            line: number,
            source,
        })?;
        end += size as u64;
        written = Some(entry.written);
        if entry.refused {
            ledger.refused_again(&entry.manifest, &entry.faults);
            continue;
        }
        let fresh = entry.fresh.iter().map(|(first, last)| (Seq(*first), Seq(*last))).collect();
        let ahead = entry.ahead.into_iter().map(Seq).collect();
        let (duplicates, faults) = (entry.duplicates, entry.faults);
        let taken = Taken { fresh, ahead, known: Vec::new(), duplicates, faults };
        ledger.again(&entry.manifest, entry.recomputed, &taken, entry.events);
    }
    file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(fault)?;
    Ok(written.or(Some(0)))
}

/// Why received events cannot be stored. The receiver stops; the gateways keep what was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file.
    #[error("cannot use {}: {source}; fix this and start the receiver again: every unacknowledged parcel is sent again", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Standard output.
    #[error(
        "cannot write to standard output: {0}; fix this and start the receiver again: every unacknowledged parcel is \
         sent again"
    )]
    Stdout(io::Error),
    /// The state file.
    #[error("{} line {line} is not a receiver state: {source}; name another file with --state, or move this one away \
             to start over", path.display())]
    Journal {
        /// Which.
        path: PathBuf,
        /// Where.
        line: u64,
        /// Why.
        source: serde_json::Error,
    },
    /// Acknowledged lines are missing.
    #[error(
        "{} has {found} bytes, and {} says that {known} were written; put the file back, or move both away to start \
         over",
        path.display(), state.display()
    )]
    Shorter {
        /// The lines.
        path: PathBuf,
        /// The journal.
        state: PathBuf,
        /// Bytes found.
        found: u64,
        /// Bytes that were written.
        known: u64,
    },
}
