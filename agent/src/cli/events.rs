//! `fieldlog events` and `fieldlog history`.

use std::process::ExitCode;

use fieldlog_wire::json::percent;

use super::end;
use super::moment::{self, Moment};
use crate::client::{Client, Failure, Reach};
use pages::{Pages, Stop};

mod follow;
mod line;
mod pages;

/// Events that are shown if nothing says how many.
const NEWEST: usize = 30;
/// The same before those that follow.
const BEFORE: usize = 10;

/// Which part of the log.
#[derive(Clone, Debug, clap::Args)]
struct Part {
    /// From this time on, such as 15m, 2h or 3d (ago), 2026-11-23T10:00:00Z or "2026-11-23 10:00" (local).
    #[arg(long, value_name = "TIME", value_parser = moment::time)]
    since: Option<Moment>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = moment::time)]
    until: Option<Moment>,
    /// After this sequence number.
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<u64>,
    /// How many, at most: the newest, or the first ones with --since or --after [default: 30 of the newest, all of the others].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Print each as it is, as a line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Arguments of `fieldlog events`.
#[derive(Clone, Debug, clap::Args)]
pub struct EventsArgs {
    /// Go on with those that come, until this is interrupted. If the connection breaks, it goes on where it was.
    #[arg(long, short = 'f', conflicts_with = "until")]
    follow: bool,
    /// Only those of this device, by its id.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Only those of these types, such as state_changed,availability_changed.
    #[arg(long = "type", value_name = "TYPE[,TYPE]")]
    types: Option<String>,
    /// Only those of this command, by its id.
    #[arg(long, value_name = "ID")]
    command: Option<String>,
    /// Only those that this actor has asked for, such as uid:1000.
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    #[command(flatten)]
    part: Part,
}

/// Arguments of `fieldlog history`.
#[derive(Clone, Debug, clap::Args)]
pub struct HistoryArgs {
    /// The device, by its id.
    device: String,
    /// Only this attribute.
    attribute: Option<String>,
    #[command(flatten)]
    part: Part,
}

/// Runs `fieldlog events`.
pub fn main(args: &EventsArgs) -> ExitCode {
    end(events(args))
}

/// Runs `fieldlog history`.
pub fn history(args: &HistoryArgs) -> ExitCode {
    end(of_device(args))
}

fn events(args: &EventsArgs) -> Result<u8, Failure> {
    let filter = [
        ("device", args.device.as_deref()),
        ("type", args.types.as_deref()),
        ("command", args.command.as_deref()),
        ("actor", args.actor.as_deref()),
    ];
    let client = Client::open(&args.part.reach)?;
    let pages = Pages { client: &client, path: "/api/v1/events", filter: &filter };
    let unlimited = if args.follow { BEFORE } else { NEWEST };
    match show(&pages, &args.part, unlimited) {
        Ok(last) if args.follow => follow::follow(&client, &filter, last, args.part.json),
        other => done(other),
    }
}

fn of_device(args: &HistoryArgs) -> Result<u8, Failure> {
    let path = format!("/api/v1/devices/{}/history", percent(&args.device));
    let filter = [("attribute", args.attribute.as_deref())];
    let client = Client::open(&args.part.reach)?;
    done(show(&Pages { client: &client, path: &path, filter: &filter }, &args.part, NEWEST))
}

fn done<T>(shown: Result<T, Stop>) -> Result<u8, Failure> {
    match shown {
        Ok(_) | Err(Stop::Enough) => Ok(0),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

/// Prints this part; returns up to which position that was.
fn show(pages: &Pages<'_>, part: &Part, newest: usize) -> Result<u64, Stop> {
    let limit = part.limit.map(|limit| limit as usize);
    let time = |moment: &Option<Moment>| moment.as_ref().map(|moment| moment.0.clone());
    let (since, until) = (time(&part.since), time(&part.until));
    let span = [("from", since.as_deref()), ("to", until.as_deref())];
    let mut put = |item: &str| line::put(item, part.json);
    if part.since.is_some() || part.after.is_some() {
        return pages.each(&span, part.after.unwrap_or(0), limit.unwrap_or(usize::MAX), &mut put);
    }
    let (items, last) = pages.newest(&span, limit.unwrap_or(newest))?;
    if items.is_empty() && !part.json {
        crate::words::complain("There are none.");
    }
    items.iter().try_for_each(|item| put(item.get()))?;
    Ok(last)
}
