//! `fieldlog import`: makes a data directory of the events of an export, in a new epoch and with their provenance.
//!
//! What devices said can be imported: the rest of a log is about that log and its gateway. Events are refused rather than
//! bent, with their line, and then nothing is made.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fieldlog_projections::chunk::Envelope;
use fieldlog_projections::{AttrId, DeviceId, Epoch, Fact, Seq, Time};
use serde_json::json;

use crate::cli::end;
use crate::client::Failure;
use crate::clock::Clock;
use crate::copy;
use crate::daemon;
use crate::successor::{self, Ending, Successor, of_file};
use crate::words::{number, say, say_json};
use event::{Imported, Said};

mod event;
#[cfg(test)]
mod tests;

/// Where the log is made, in its data directory.
const UNFINISHED: &str = "import.unfinished";
/// A longer line is not an event of an export.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// Events between two records of where they come from, at most.
const BLOCK_EVENTS: usize = 1_000;

/// Arguments of `fieldlog import`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "The file is an export of one log with `--type state_changed,action_fired,history_reported,\
                  availability_changed`. Each event is recorded with its times and values, under the names that devices and \
                  attributes have in the export. Where it comes from (gateway, epoch, sequence) is in `administered` records \
                  with the call `import`, which are the causes of the events. Units and descriptions are not imported.\n\n\
                  Exit codes: 0 done; 64 the directory is not empty; 65 the file has something that cannot be imported, and \
                  nothing was made; 74 disk or file error."
)]
pub struct ImportArgs {
    /// The export, as NDJSON.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The new data directory, which must be empty or missing.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Print what was imported as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The new epoch.
    pub epoch: Epoch,
    /// Events of devices.
    pub events: u64,
    /// Devices that they are of.
    pub devices: u64,
    /// The gateway and the epoch that they come from.
    pub origin: (String, Epoch),
    /// Position of the record that begins the epoch.
    pub begun: Seq,
}

impl Done {
    /// For programs.
    pub fn as_json(&self) -> serde_json::Value {
        let Done { epoch, events, devices, origin: (gateway, previous), begun } = self;
        let (epoch, previous) = (epoch.to_string(), previous.to_string());
        json!({
            "epoch": epoch, "events": events, "devices": devices, "gateway": gateway, "previous_epoch": previous, "begun": begun,
        })
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { epoch, events, devices, origin: (gateway, previous), begun } = self;
        let devices = number(*devices, "device");
        writeln!(f, "epoch   {epoch}\nevents  {events} of {devices}, from {gateway}/{previous}")?;
        writeln!(
            f,
            "result  imported: the records before {begun} with the call \"import\" say where each event comes from"
        )
    }
}

/// Runs `fieldlog import`.
pub fn main(args: &ImportArgs) -> ExitCode {
    let imported = import(&args.file, &args.data_dir, Clock::system().wall(), &daemon::actor());
    end(imported.map(|done| {
        match args.json {
            true => say_json(&done.as_json()),
            false => say(&done.to_string()),
        }
        0
    }))
}

/// Imports a file into a new data directory; `wall` is the wall clock, `actor` who does it. Returns what was done.
///
/// # Errors
/// [`Failure`]; nothing is left in the data directory then.
pub fn import(file: &Path, data_dir: &Path, wall: Time, actor: &str) -> Result<Done, Failure> {
    let input = File::open(file).map_err(of_file(file))?;
    let unfinished = copy::prepare(data_dir, UNFINISHED)?;
    let made = Importer::run(file, input, &unfinished, wall, actor).and_then(|done| {
        copy::settle(&unfinished, data_dir)?;
        Ok(done)
    });
    made.inspect_err(|_| {
        let _ = fs::remove_dir_all(&unfinished);
    })
}

struct Importer<'a> {
    file: &'a Path,
    log: Successor,
    actor: &'a str,
    /// The gateway and the epoch that all events are of.
    origin: (String, Epoch),
    devices: HashMap<String, DeviceId>,
    attributes: HashMap<String, AttrId>,
    /// Events that wait for the record of where they come from.
    block: Vec<(Imported, Fact)>,
    /// The position of the last event in its own log, and its log time.
    last: (Seq, Time),
    events: u64,
}

impl Importer<'_> {
    fn run(file: &Path, input: impl Read, dir: &Path, wall: Time, actor: &str) -> Result<Done, Failure> {
        let mut input = BufReader::new(input);
        let mut importer: Option<Importer<'_>> = None;
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read =
                input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(of_file(file))?;
            if read == 0 {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let refused = |why: &str| {
                Failure::data(format!("{}, line {number}: {why}. Nothing was imported", file.display()))
            };
            if read as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
                return Err(refused("the line is too long for an event"));
            }
            let event = Imported::parse(&line).map_err(|why| refused(&why))?;
            let importer = match &mut importer {
                Some(importer) => importer,
                none => none.insert(Importer::begin(file, dir, &event, actor)?),
            };
            importer.take(event, &refused)?;
        }
        match importer {
            Some(importer) => importer.end(wall),
            None => Err(Failure::data(format!("{} has no events", file.display()))),
        }
    }

    fn begin<'a>(
        file: &'a Path,
        dir: &Path,
        event: &Imported,
        actor: &'a str,
    ) -> Result<Importer<'a>, Failure> {
        Ok(Importer {
            file,
            log: Successor::create(dir, successor::new_epoch()?, Seq(0), event.time)?,
            actor,
            origin: (event.gateway.clone(), event.epoch),
            devices: HashMap::new(),
            attributes: HashMap::new(),
            block: Vec::new(),
            last: (Seq(0), event.time),
            events: 0,
        })
    }

    fn take(&mut self, event: Imported, refused: &dyn Fn(&str) -> Failure) -> Result<(), Failure> {
        let (gateway, epoch) = &self.origin;
        if (gateway, epoch) != (&event.gateway, &event.epoch) {
            return Err(refused(&format!(
                "the event is of {}/{}, and those before of {gateway}/{epoch}; import each log into a directory of its own",
                event.gateway, event.epoch
            )));
        }
        if event.seq <= self.last.0 {
            return Err(refused(&format!(
                "the event is at sequence {}, and the one before at {}; an export has each event once, in order",
                event.seq, self.last.0
            )));
        }
        if event.time < self.last.1 {
            // The clock of the gateway was corrected between them.
            self.flush()?;
            self.log.set_back(event.time);
        }
        self.last = (event.seq, event.time);
        let fact = self.fact(&event)?;
        self.block.push((event, fact));
        self.events += 1;
        if self.block.len() >= BLOCK_EVENTS { self.flush() } else { Ok(()) }
    }

    /// The event in the numbers of this log, whose names are introduced as they come.
    fn fact(&mut self, event: &Imported) -> Result<Fact, Failure> {
        let device = self.device(event)?;
        let mut changes = Vec::new();
        for (name, value) in event.said.values() {
            changes.push((self.attribute(name, event.time)?, value.clone()));
        }
        Ok(match &event.said {
            Said::Changed(_) => Fact::StateChanged { device, changes },
            Said::Reported(_) => Fact::HistoryReported { device, changes },
            Said::Fired(..) => {
                let (attribute, value) = changes.swap_remove(0);
                Fact::ActionFired { device, attribute, value }
            }
            Said::Available(availability, cause) => {
                Fact::AvailabilityChanged { device, availability: *availability, cause: *cause }
            }
        })
    }

    fn device(&mut self, event: &Imported) -> Result<DeviceId, Failure> {
        if let Some(device) = self.devices.get(&event.device) {
            return Ok(*device);
        }
        // What waits is before it.
        self.flush()?;
        let (device, name) = (DeviceId(self.devices.len() as u32), event.device.clone());
        self.devices.insert(name.clone(), device);
        let fact =
            Fact::DeviceDiscovered { device, name, source: "import".into(), parent: None, identity: None };
        self.introduce(&fact, event.time)?;
        Ok(device)
    }

    fn attribute(&mut self, name: &str, time: Time) -> Result<AttrId, Failure> {
        if let Some(attribute) = self.attributes.get(name) {
            return Ok(*attribute);
        }
        self.flush()?;
        let attribute = AttrId(self.attributes.len() as u32);
        self.attributes.insert(name.to_owned(), attribute);
        self.introduce(&Fact::AttributeNamed { attribute, name: name.to_owned() }, time)?;
        Ok(attribute)
    }

    fn introduce(&mut self, fact: &Fact, time: Time) -> Result<(), Failure> {
        Ok(self.log.push_fact(Envelope { wall: time, ..Envelope::default() }, fact)?)
    }

    /// Records the events that wait, behind a record of where they come from, which is the cause of each.
    fn flush(&mut self) -> Result<(), Failure> {
        let Some((first, _)) = self.block.first() else { return Ok(()) };
        let seqs = ranges(self.block.iter().map(|(event, _)| event.seq));
        let (gateway, epoch) = &self.origin;
        let from = Fact::Administered {
            actor: self.actor.to_owned(),
            call: "import".into(),
            target: format!("{gateway}/{epoch}"),
            reason: seqs,
        };
        let cause = Some(self.log.next());
        self.log.push_fact(Envelope { wall: first.time, ..Envelope::default() }, &from)?;
        for (event, fact) in self.block.drain(..) {
            let envelope = Envelope { wall: event.wall, device_time: event.device_time, cause };
            self.log.push_fact_at(event.time, envelope, &fact)?;
        }
        Ok(())
    }

    fn end(mut self, wall: Time) -> Result<Done, Failure> {
        self.flush()?;
        let (gateway, previous) = (self.origin.0, self.origin.1);
        let (epoch, events, devices) = (self.log.epoch(), self.events, self.devices.len() as u64);
        let begun = self.log.end(&Ending {
            previous: Some(previous),
            reason: format!("fieldlog import: events of {gateway}/{previous}"),
            actor: self.actor,
            call: "import",
            target: self.file.display().to_string(),
            wall,
            gaps: &[],
            lost_end: None,
        })?;
        Ok(Done { epoch, events, devices, origin: (gateway, previous), begun })
    }
}

/// Positions as text: ranges and single ones, in order, such as `3-7,9`.
fn ranges(seqs: impl Iterator<Item = Seq>) -> String {
    let mut found: Vec<(Seq, Seq)> = Vec::new();
    for seq in seqs {
        match found.last_mut() {
            Some((_, last)) if last.next() == seq => *last = seq,
            _ => found.push((seq, seq)),
        }
    }
    let text = |(first, last): &(Seq, Seq)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    found.iter().map(text).collect::<Vec<_>>().join(",")
}
