//! `fieldlog backup` and `fieldlog restore`.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use fieldlog_projections::{Epoch, Seq, Time};
use fieldlog_wire::api::administer::{BackupBody, BackupDone};
use hyper::Method;
use serde_json::json;

use crate::cli::end;
use crate::client::{Client, Failure, Reach};
use crate::clock::Clock;
use crate::copy::{self, Copied};
use crate::daemon;
use crate::log::LogError;
use crate::snapshots::SnapshotStore;
use crate::stopped::Stopped;
use crate::successor::{self, Ending, Successor};
use crate::verify;
use crate::words::{say, say_json};

/// How long a running agent may take.
const PATIENCE: Duration = Duration::from_secs(12 * 3_600);
/// Where a restored log is made, in its data directory.
const UNFINISHED: &str = "restore.unfinished";

/// Arguments of `fieldlog backup`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Without --data-dir, a running agent makes the backup, over its Unix socket and with its own rights, and \
                  goes on recording meanwhile. The backup has everything up to one moment: records, cursors, quarantine, \
                  archive, and the snapshots that belong to them. `fieldlog verify --data-dir DIR` checks it. No agent \
                  continues it; `fieldlog restore` makes a data directory of it.\n\n\
                  Exit codes: 0 done; 64 the directory is not empty; 65 rejected by the agent, also for that \
                  reason, or the log is damaged; 69 fieldlog cannot be reached; 74 disk or file error; 75 not possible now; \
                  77 not allowed."
)]
pub struct BackupArgs {
    /// The directory of the backup, which must be empty or missing.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Copy the log of a stopped agent in this data directory.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "socket", "url", "token_file", "reason"])]
    data_dir: Option<PathBuf>,
    /// Why, for the log.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Print directory, positions and size as one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Arguments of `fieldlog restore`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "The records keep their positions, in a new epoch: what the gateway has recorded after the backup has \
                  been sent under the old one, and is not contradicted. Sinks get the restored log from its beginning. \
                  Commands that were under way are closed as unknown.\n\n\
                  Exit codes: 0 done; 64 the directory is not empty; 65 the backup is damaged or is none; 74 disk or file \
                  error."
)]
pub struct RestoreArgs {
    /// The directory of the backup. The data directory of a stopped agent will do, too.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The new data directory, which must be empty or missing.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Print epochs and positions as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `fieldlog backup`.
pub fn main(args: &BackupArgs) -> ExitCode {
    end(backup(args))
}

/// Runs `fieldlog restore`.
pub fn restore_main(args: &RestoreArgs) -> ExitCode {
    let restored = restore(&args.from, &args.data_dir, Clock::system().wall(), &daemon::actor());
    end(restored.map(|restored| {
        match args.json {
            true => say_json(&restored.as_json()),
            false => say(&restored.to_string()),
        }
        0
    }))
}

fn backup(args: &BackupArgs) -> Result<u8, Failure> {
    let to = std::path::absolute(&args.to)
        .map_err(|error| Failure::usage(format!("--to {}: {error}", args.to.display())))?;
    let done = |first: Seq, last: Seq, bytes: u64| {
        let place = to.display().to_string();
        match args.json {
            true => say_json(&json!({"to": place, "first": first, "last": last, "bytes": bytes})),
            false => say(&format!(
                "backup in {place}: records {first} to {last}, {bytes} bytes\nNo agent continues it; `fieldlog restore` makes \
                 a data directory of it.\n"
            )),
        }
        Ok(0)
    };
    if let Some(data_dir) = &args.data_dir {
        let stopped = Stopped::open(data_dir)?;
        let snapshots = SnapshotStore::of(data_dir);
        let copied = copy::copy(&stopped.reader(), stopped.epoch(), &snapshots, &to, &|| false)?;
        let Some(Copied { range, bytes, .. }) = copied else {
            return Err(Failure::internal("it was given up"));
        };
        let (first, last) = range.unwrap_or((Seq(1), Seq(0)));
        return done(first, last, bytes);
    }
    let Some(text) = to.to_str() else {
        return Err(Failure::usage(format!("--to {}: the path is not UTF-8", to.display())));
    };
    let body = BackupBody { to: text.to_owned(), reason: args.reason.clone() };
    let client = Client::open(&args.reach)?;
    let answer = client.ask(Method::POST, "/api/v1/backup", Some(&body), PATIENCE)?;
    let BackupDone { first, last, bytes, .. } = answer.json()?;
    done(first, last, bytes)
}

/// A restored log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The new epoch.
    pub epoch: Epoch,
    /// That of the backup.
    pub previous: Epoch,
    /// First and last position of the records that were taken over.
    pub range: (Seq, Seq),
    /// Position of the record that begins the epoch.
    pub begun: Seq,
}

impl Restored {
    /// For programs.
    pub fn as_json(&self) -> serde_json::Value {
        let Restored { epoch, previous, range: (first, last), begun } = self;
        let (epoch, previous) = (epoch.to_string(), previous.to_string());
        json!({"epoch": epoch, "previous_epoch": previous, "first": first, "last": last, "begun": begun})
    }
}

impl std::fmt::Display for Restored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Restored { epoch, previous, range: (first, last), begun } = self;
        writeln!(f, "epoch    {epoch}, after {previous}")?;
        writeln!(f, "records  {first} to {last}, at the same positions")?;
        writeln!(
            f,
            "result   restored: the record at sequence {begun} says so. Sinks get the whole log again, as one of a new epoch. \
             Start fieldlog with this data_dir."
        )
    }
}

/// Makes a data directory with a new epoch from a backup. `wall` is the wall clock, `actor` who does it.
///
/// # Errors
/// [`Failure`]; nothing is left in the data directory then.
pub fn restore(from: &Path, data_dir: &Path, wall: Time, actor: &str) -> Result<Restored, Failure> {
    let report = verify::verify(from)?;
    if let Some(fault) = report.fault {
        return Err(Failure::data(format!(
            "the backup in {} is damaged: {fault}. Take another one; if there is none, `fieldlog repair` saves what is \
             intact in a copy of it",
            from.display()
        )));
    }
    let Some(range) = report.range else {
        return Err(Failure::data(format!("the backup in {} has no records", from.display())));
    };
    let unfinished = copy::prepare(data_dir, UNFINISHED)?;
    let made = restore_into(from, &unfinished, range, wall, actor);
    let settled = made.and_then(|restored| {
        copy::settle(&unfinished, data_dir)?;
        Ok(restored)
    });
    settled.inspect_err(|_| {
        let _ = fs::remove_dir_all(&unfinished);
    })
}

fn restore_into(
    from: &Path,
    to: &Path,
    (first, last): (Seq, Seq),
    wall: Time,
    actor: &str,
) -> Result<Restored, Failure> {
    let stopped = Stopped::open(from)?;
    let (reader, previous) = (stopped.reader(), stopped.epoch());
    let mut log: Option<Successor> = None;
    let epoch = successor::new_epoch()?;
    let failed = reader.scan(first, |chunk| {
        let taken = (|| {
            let (before, time) = (Seq(chunk.header.first.0 - 1), chunk.header.base_time);
            let log = match &mut log {
                Some(log) => log,
                none => none.insert(Successor::create(to, epoch, before, time)?),
            };
            for record in chunk.records() {
                let at = chunk.header.first;
                log.push(&record.map_err(|source| LogError::Chunk { at, source: source.into() })?)?;
            }
            Ok::<(), Failure>(())
        })();
        taken.map_or_else(ControlFlow::Break, ControlFlow::Continue)
    })?;
    let mut log = match (failed, log) {
        (Some(failure), _) => return Err(failure),
        (None, Some(log)) => log,
        (None, None) => return Err(Failure::data("the backup has no records")),
    };
    // The corrections of the clock come with their records.
    copy::each_rows(&reader, false, &mut |rows| log.adopt(rows))?;
    let snapshots = log.snapshots()?;
    for candidate in SnapshotStore::of(from).candidates().map_err(successor::of_file(from))? {
        let fits = |seq: Seq| seq <= last && seq.next() >= first;
        if candidate.header.as_ref().is_ok_and(|header| header.epoch == previous && fits(header.seq)) {
            let taken = snapshots.take_over(&candidate.path, epoch);
            taken.map_err(|error| {
                Failure::io(format!("cannot copy the snapshot {}: {error}", candidate.path.display()))
            })?;
        }
    }
    let begun = log.end(&Ending {
        previous: Some(previous),
        reason: "fieldlog restore: this log goes on from a backup of the previous one".into(),
        actor,
        call: "restore",
        target: from.display().to_string(),
        wall,
        gaps: &[],
        lost_end: None,
    })?;
    Ok(Restored { epoch, previous, range: (first, last), begun })
}
