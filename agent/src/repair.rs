//! `fieldlog repair`: makes a log of a new epoch out of what is intact in a damaged one.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::fact::Identity;
use fieldlog_projections::{AttrId, DeviceId, Epoch, Fact, Seq, Time, View};
use serde_json::json;

use crate::cli::end;
use crate::client::Failure;
use crate::clock::Clock;
use crate::copy;
use crate::daemon;
use crate::log::{FILE_NAME, JOURNAL_FILE_NAME, Log, LogError, Salvage};
use crate::snapshots::{self, Candidate, SnapshotStore};
use crate::stopped;
use crate::successor::{self, Ending, Successor, of_file};
use crate::verify;
use crate::words::{say, say_json};
pub use beside::Beside;
use plan::{Gap, Known, Plan};
pub use report::Repaired;

mod beside;
mod plan;
mod report;

/// Where the new log is made, in the data directory.
const UNFINISHED: &str = "repair.unfinished";

/// Arguments of `fieldlog repair`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "The damaged log is kept as log.redb.damaged-EPOCH. If there is a recent backup, restoring it (fieldlog restore) \
                  may lose less. Sinks get the repaired log from its beginning, as one of a new epoch.\n\n\
                  Exit codes: 0 repaired, or nothing to repair; 65 the log is lost, or nothing of it can be saved; 74 disk \
                  or file error, or an agent is using the log."
)]
pub struct RepairArgs {
    /// The data directory; the agent must be stopped.
    #[arg(long, default_value = "/var/lib/fieldlog", value_name = "DIR")]
    data_dir: PathBuf,
    /// Print what was saved and what is lost as one JSON object; `repaired` is false if there was nothing to repair.
    #[arg(long)]
    json: bool,
}

/// Runs `fieldlog repair`.
pub fn main(args: &RepairArgs) -> ExitCode {
    let repaired = repair(&args.data_dir, Clock::system().wall(), &daemon::actor());
    end(repaired.map(|repaired| {
        if args.json {
            say_json(&repaired.map_or(json!({"repaired": false}), |repaired| repaired.as_json()));
            return 0;
        }
        let intact = "the log is intact: there is nothing to repair, and nothing was changed\n".to_owned();
        say(&repaired.map_or(intact, |repaired| repaired.to_string()));
        0
    }))
}

/// Repairs the log in a data directory; `None` if it is intact. `wall` is the wall clock, `actor` who does it. The daemon
/// never does this by itself.
///
/// # Errors
/// [`Failure`]; the data directory then has what it had.
pub fn repair(data_dir: &Path, wall: Time, actor: &str) -> Result<Option<Repaired>, Failure> {
    Log::refuse_if_in_use(data_dir)?;
    match verify::verify(data_dir) {
        Ok(report) if report.fault.is_none() => return Ok(None),
        Err(
            error @ (LogError::Lost { .. }
            | LogError::Absent { .. }
            | LogError::File { .. }
            | LogError::InUse { .. }
            | LogError::Format { .. }),
        ) => return Err(error.into()),
        _ => {}
    }
    let salvage = Salvage::of(data_dir, stopped::OPTIONS)?;
    if salvage.pieces.is_empty() {
        return Err(Failure::data(format!(
            "nothing of the log {} can be saved: no record in it is intact. Restore it from a backup with `fieldlog restore`, \
             or move it away and start with `fieldlog run --new-epoch`",
            data_dir.join(FILE_NAME).display()
        )));
    }
    let old = Old::of(data_dir, salvage)?;
    let unfinished = data_dir.join(UNFINISHED);
    if unfinished.exists() {
        // Of a repair that was interrupted.
        fs::remove_dir_all(&unfinished).map_err(of_file(&unfinished))?;
    }
    let made = old.made_anew(&unfinished, wall, actor);
    let repaired = made.inspect_err(|_| {
        let _ = fs::remove_dir_all(&unfinished);
    })?;
    let (log, kept) = (data_dir.join(FILE_NAME), data_dir.join(&repaired.kept));
    fs::hard_link(&log, &kept).map_err(of_file(&kept))?;
    copy::settle(&unfinished, data_dir)?;
    let dir = data_dir.join(snapshots::DIR_NAME);
    snapshots::keep_as_old(&dir, &old.snapshots).map_err(of_file(&dir))?;
    let journal = data_dir.join(JOURNAL_FILE_NAME);
    if journal.exists() {
        let kept = data_dir.join(format!("{JOURNAL_FILE_NAME}.damaged-{}", repaired.epoch));
        fs::rename(&journal, &kept).map_err(of_file(&journal))?;
    }
    Ok(Some(repaired))
}

/// What there is of a damaged log.
struct Old {
    data_dir: PathBuf,
    salvage: Salvage,
    epoch: Option<Epoch>,
    /// Its snapshots, newest first.
    snapshots: Vec<Candidate>,
    /// The newest state in a snapshot that can be read: it has names.
    names: Option<View>,
    /// The snapshot from which the state is folded, where the log does not begin at 1.
    base: Option<(PathBuf, Seq)>,
    plan: Plan,
    /// What a snapshot knows at the base.
    known: Known,
}

impl Old {
    fn of(data_dir: &Path, salvage: Salvage) -> Result<Old, Failure> {
        let dir = data_dir.join(snapshots::DIR_NAME);
        let snapshots = snapshots::traces(&dir).map_err(of_file(&dir))?;
        let headers =
            |candidate: &Candidate| candidate.header.as_ref().ok().map(|header| (header.epoch, header.seq));
        let epoch = salvage.epoch.or_else(|| snapshots.iter().find_map(headers).map(|(epoch, _)| epoch));
        let (first, head) = range(&salvage);
        let store = SnapshotStore::of(data_dir);
        let (mut names, mut base, mut known) = (None, None, Known::default());
        for candidate in &snapshots {
            let Some((_, seq)) = headers(candidate).filter(|(of, _)| Some(*of) == epoch) else { continue };
            let Ok(view) = store.load(&candidate.path, &[]) else { continue };
            if base.is_none() && first > Seq(1) && (Seq(first.0 - 1)..=head).contains(&seq) {
                base = Some((candidate.path.clone(), seq));
                known = Known {
                    devices: view.devices.len() as u32,
                    attributes: view.devices.attribute_names().len() as u32,
                };
            }
            names.get_or_insert(view);
        }
        let plan = Plan::of(&salvage, base.as_ref().map_or(Seq(0), |(_, seq)| *seq), known)?;
        Ok(Old { data_dir: data_dir.to_owned(), salvage, epoch, snapshots, names, base, plan, known })
    }

    fn made_anew(&self, dir: &Path, wall: Time, actor: &str) -> Result<Repaired, Failure> {
        let Old { salvage, plan, .. } = self;
        let (first, head) = range(salvage);
        let before = Seq(first.0 - 1);
        let time = salvage.pieces.first().map_or(Time(0), |piece| piece.header.base_time);
        let mut log = Successor::create(dir, successor::new_epoch()?, before, time)?;
        let (mut known, mut unnamed) = self.begin(&mut log, before, time)?;
        let mut gaps = plan.gaps.iter().peekable();
        let mut saved = 0;
        for piece in &salvage.pieces {
            while let Some(gap) = gaps.next_if(|gap| gap.first < piece.header.first) {
                unnamed += self.fill(&mut log, gap, &mut known)?;
            }
            salvage.read(piece, |chunk| {
                chunk.records().try_for_each(|record| -> Result<(), Failure> {
                    let record = record.map_err(|error| Failure::data(error.to_string()))?;
                    if self.base.as_ref().is_none_or(|(_, base)| record.seq > *base) {
                        let _ = known.meet(&record, false);
                    }
                    saved += 1;
                    Ok(log.push(&record)?)
                })
            })??;
        }
        let (in_journal, journal_lost) = self.take_journal(&mut log)?;
        let (saved, head) = (saved + in_journal, Seq(head.0 + in_journal));
        let beside = self.beside(&mut log)?;
        let mut lost: Vec<(Seq, Seq)> = plan.gaps.iter().map(Into::into).collect();
        // What was deleted from the front on purpose is not lost.
        if plan.deleted < before {
            lost.insert(0, (plan.deleted.next(), before));
        }
        let lost_end = self.lost_end(head);
        let epoch = log.epoch();
        let begun = log.end(&Ending {
            previous: self.epoch,
            reason:
                "fieldlog repair: the log was damaged; this one has what was intact, at the same positions"
                    .into(),
            actor,
            call: "repair",
            target: String::new(),
            wall,
            gaps: &lost,
            lost_end,
        })?;
        Ok(Repaired {
            epoch,
            previous: self.epoch,
            saved,
            range: (first, head),
            lost,
            lost_end,
            unnamed,
            in_journal,
            journal_lost,
            beside,
            kept: format!("{FILE_NAME}.damaged-{epoch}"),
            begun,
        })
    }

    /// Takes over the records that only the journal has; returns how many, and whether there may be others.
    fn take_journal(&self, log: &mut Successor) -> Result<(u64, bool), Failure> {
        if !self.data_dir.join(JOURNAL_FILE_NAME).exists() {
            return Ok((0, false));
        }
        // It is only understood together with the end of the log.
        let Ok((old, fault)) = Log::inspect(&self.data_dir, stopped::OPTIONS) else { return Ok((0, true)) };
        let (first, mut taken, mut torn) = (log.next(), 0, fault.is_some());
        let scanned = old.reader().scan(first, |chunk| {
            for record in chunk.records() {
                match record {
                    Ok(record) if record.seq == log.next() => match log.push(&record) {
                        Ok(()) => taken += 1,
                        Err(error) => return ControlFlow::Break(Some(error)),
                    },
                    Ok(record) if record.seq < first => {}
                    _ => {
                        torn = true;
                        return ControlFlow::Break(None);
                    }
                }
            }
            ControlFlow::Continue(())
        });
        match scanned {
            Ok(Some(Some(error))) => Err(error.into()),
            Ok(_) => Ok((taken, torn)),
            Err(_) => Ok((taken, true)),
        }
    }

    /// Gives the new log the state before its first record, or that at its base; returns what is known there, and
    /// how many of these have no name.
    fn begin(&self, log: &mut Successor, before: Seq, time: Time) -> Result<(Known, u64), Failure> {
        let store = log.snapshots()?;
        if let Some((path, _)) = &self.base {
            let taken = store.take_over(path, log.epoch());
            taken.map_err(|error| {
                Failure::io(format!("cannot copy the snapshot {}: {error}", path.display()))
            })?;
            return Ok((self.known, 0));
        }
        let (known, mut unnamed) = (self.plan.before, 0);
        if before > Seq(0) {
            let mut body = RecordBuffer::after(time);
            let envelope = Envelope { wall: time, ..Envelope::default() };
            for (fact, named) in self.introductions(Known::default(), known) {
                body.push_fact(envelope, &fact);
                unnamed += u64::from(!named);
            }
            let mut view = View::new(Vec::new());
            (view.seq, view.time) = (Seq(before.0 - body.len() as u64), time);
            let folded = view.apply_records(body.records(view.seq.next()), before);
            folded.map_err(|error| Failure::internal(error.to_string()))?;
            store.save(&view, log.epoch(), 1).map_err(of_file(store.dir()))?;
        }
        Ok((known, unnamed))
    }

    /// Puts a record at each lost position. The last ones introduce what the lost ones introduced; returns how
    /// many of these have no name.
    fn fill(&self, log: &mut Successor, gap: &Gap, known: &mut Known) -> Result<u64, Failure> {
        if gap.time < log.last_time() {
            // A lost record has set log time back.
            log.set_back(gap.time);
        }
        let envelope = Envelope { wall: gap.time, ..Envelope::default() };
        let introduced = u64::from(gap.lost.devices) + u64::from(gap.lost.attributes);
        let (first, last) = gap.into();
        while log.next().0 + introduced <= last.0 {
            log.push_fact(envelope, &Fact::Gap { first, last, lost_by: Vec::new() })?;
        }
        let mut unnamed = 0;
        for (fact, named) in self.introductions(*known, gap.lost) {
            log.push_fact(envelope, &fact)?;
            unnamed += u64::from(!named);
        }
        known.devices += gap.lost.devices;
        known.attributes += gap.lost.attributes;
        Ok(unnamed)
    }

    /// Introduces devices and attributes beyond those that are known, by the names that a snapshot has for them, and
    /// says whether it has one.
    fn introductions(&self, known: Known, lost: Known) -> impl Iterator<Item = (Fact, bool)> + '_ {
        let placeholder = move |number: u32| format!("lost-{number}");
        let devices = self.names.as_ref().map(|view| &view.devices);
        let device = move |number: u32| {
            let found = devices.and_then(|devices| devices.get(DeviceId(number)));
            let identity: Option<Identity> = found.and_then(|device| device.identity.as_deref().cloned());
            let fact = Fact::DeviceDiscovered {
                device: DeviceId(number),
                name: found.map_or_else(|| placeholder(number), |device| device.name.to_string()),
                source: found.map_or_else(String::new, |device| device.source.to_string()),
                parent: found.and_then(|device| device.parent),
                identity,
            };
            (fact, found.is_some())
        };
        let attribute = move |number: u32| {
            let found = devices.and_then(|devices| devices.attribute_name(AttrId(number)));
            let name = found.map_or_else(|| placeholder(number), str::to_owned);
            (Fact::AttributeNamed { attribute: AttrId(number), name }, found.is_some())
        };
        let devices = (known.devices..known.devices + lost.devices).map(device);
        devices.chain((known.attributes..known.attributes + lost.attributes).map(attribute))
    }
}

/// First and last position of the intact records.
fn range(salvage: &Salvage) -> (Seq, Seq) {
    let first = salvage.pieces.first().map_or(Seq(1), |piece| piece.header.first);
    (first, salvage.pieces.last().map_or(Seq(0), |piece| piece.header.last()))
}
