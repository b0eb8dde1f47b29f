//! `fieldlog export`: events of a log as NDJSON or CSV, from a running agent or from the data directory of a stopped one; or
//! all records of the latter as parcels.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fieldlog_projections::{Seq, Time};
use fieldlog_wire::json::parse_time;

use crate::cli::end;
use crate::client::{Failure, Reach};
use crate::http::offline::{OfflineError, OfflineEvents, Wanted};
use crate::stopped::Stopped;
use output::{Format, Output};
use progress::Progress;

mod output;
mod parcels;
mod progress;
mod running;
#[cfg(test)]
mod tests;

/// Arguments of `fieldlog export`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Without --data-dir, a running agent is asked, page by page; the export ends with the newest event at that \
                  time. An event of NDJSON is exactly as GET /api/v1/events has it. CSV has a row for each value that \
                  changed, and one with the JSON of the content for every other event. Parcels are what sinks send, with the \
                  chain, in one file: `fieldlog-hub load` brings them into the tables of a hub. They need the --data-dir of a \
                  stopped agent, or of a backup, which `fieldlog backup` makes of a running one.\n\n\
                  Exit codes: 0 done, also if the reader of the output ends early; 64 wrong usage; 65 the log is damaged, \
                  there is no such device or type, or events were deleted before they could be read; 69 fieldlog cannot be \
                  reached; 74 disk or file error; 75 not possible now; 77 not allowed."
)]
pub struct ExportArgs {
    /// Read the log of a stopped agent in this data directory. Its gateway id is taken from the configuration.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["socket", "url", "token_file"])]
    data_dir: Option<PathBuf>,
    /// Only events from this time on, such as 2026-11-23T10:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Time>,
    /// Only events before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Time>,
    /// Only events of this device, by its id.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Only events of these types, such as state_changed,action_fired.
    #[arg(long = "type", value_name = "TYPE[,TYPE]")]
    types: Option<String>,
    /// What to write.
    #[arg(long, value_enum, default_value_t = Form::Ndjson)]
    format: Form,
    #[command(flatten)]
    reach: Reach,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// The JSON of one event on each line.
    Ndjson,
    /// Comma-separated values (RFC 4180), with a head.
    Csv,
    /// All records with their chain, for `fieldlog-hub load`; not text.
    Parcels,
}

/// Reads a time with an offset.
fn time(text: &str) -> Result<Time, String> {
    parse_time(text).ok_or_else(|| "give a time with an offset, such as 2026-11-23T10:00:00Z".into())
}

/// Runs `fieldlog export`.
pub fn main(args: &ExportArgs) -> ExitCode {
    if args.format == Form::Parcels && io::stdout().is_terminal() {
        return end(Err(Failure::usage(
            "parcels are not text; write them into a file, such as > plant.parcels",
        )));
    }
    let out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    end(export(args, out).map(|()| 0))
}

/// Why an export ended early.
#[derive(Debug)]
enum Stop {
    /// The reader of the output has read enough.
    Enough,
    Failed(Failure),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Stop::Enough,
            _ => {
                let words = format!("cannot write the events: {error}; is the disk of the output full?");
                Stop::Failed(Failure::io(words))
            }
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

fn export(args: &ExportArgs, out: impl Write) -> Result<(), Failure> {
    let ExportArgs { from, to, device, types, .. } = args;
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        return Err(Failure::usage("--from must be earlier than --to, which is not included"));
    }
    let format = match args.format {
        Form::Parcels => return parcels::export(args, out),
        Form::Ndjson => Format::Ndjson,
        Form::Csv => Format::Csv,
    };
    let wanted = Wanted { device: device.clone(), types: types.clone(), from: *from, to: *to };
    let mut output = Output::new(format, out);
    let mut progress = Progress::new();
    let mut put = |seq: Seq, head: Seq, json: &str| -> Result<(), Stop> {
        output.put(json)?;
        progress.at(seq, head);
        Ok(())
    };
    let stopped = match &args.data_dir {
        Some(dir) => of_stopped(dir, &args.reach, &wanted, &mut put),
        None => running::export(&args.reach, &wanted, &mut put),
    };
    progress.end();
    // What was read before a damaged place is written, too.
    match (stopped, output.flush().map_err(Stop::from)) {
        (Err(Stop::Failed(failure)), _) | (_, Err(Stop::Failed(failure))) => Err(failure),
        _ => Ok(()),
    }
}

/// Takes an event: its position, the newest one, and its JSON.
type Put<'a> = &'a mut dyn FnMut(Seq, Seq, &str) -> Result<(), Stop>;

fn of_stopped(dir: &Path, reach: &Reach, wanted: &Wanted, put: Put<'_>) -> Result<(), Stop> {
    let stopped = Stopped::open(dir).map_err(Failure::from)?;
    let head = stopped.head();
    let view = stopped.view(head).map_err(Failure::from)?;
    let gateway = reach.gateway_id()?;
    let events =
        OfflineEvents { reader: stopped.reader(), view: &view, gateway: &gateway, epoch: stopped.epoch() };
    let ended = events.each(wanted, |seq, json| match put(seq, head, &String::from_utf8_lossy(json)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(stop) => ControlFlow::Break(stop),
    });
    match ended {
        Ok(None) => Ok(()),
        Ok(Some(stop)) => Err(stop),
        Err(OfflineError::Log(error)) => Err(Failure::from(error).into()),
        Err(OfflineError::Unknown(words) | OfflineError::Record(words)) => Err(Failure::data(words).into()),
    }
}
