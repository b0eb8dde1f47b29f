//! The events of a running agent, in pages.

use std::time::Duration;

use fieldlog_projections::Seq;
use fieldlog_wire::api::position::Position;
use fieldlog_wire::api::status::Status;
use fieldlog_wire::json::{Rfc3339, percent};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Put, Stop};
use crate::client::{Answer, Client, EX_TEMPFAIL, Failure, Reach};
use crate::http::offline::Wanted;

/// Events of a page, at most.
const LIMIT: usize = 10_000;
/// An agent that has too much to do is asked again this often, after this long.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// A page, with its events as they are.
#[derive(Deserialize)]
struct Page {
    position: Position,
    events: Vec<Box<RawValue>>,
    next: Option<Seq>,
}

#[derive(Deserialize)]
struct Numbered {
    seq: Seq,
}

/// Passes all events that are wanted to `put`.
pub(super) fn export(reach: &Reach, wanted: &Wanted, put: Put<'_>) -> Result<(), Stop> {
    let client = Client::open(reach)?;
    let begin = oldest(&client)?;
    let mut after = Seq(0);
    loop {
        let answer = ask(&client, &path(wanted, after))?;
        let page: Page = answer.json()?;
        // The page began here, or earlier; with `from`, nobody knows where the first one begins.
        let read_from = if after == Seq(0) { begin } else { after.next() };
        let oldest = oldest(&client)?;
        if oldest > read_from && (after > Seq(0) || wanted.from.is_none()) {
            return Err(deleted(oldest).into());
        }
        for event in page.events {
            let Numbered { seq } = serde_json::from_str(event.get())
                .map_err(|error| Failure::internal(format!("an event has no position: {error}")))?;
            put(seq, page.position.head, event.get())?;
        }
        match page.next {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

fn deleted(oldest: Seq) -> Failure {
    Failure::data(format!(
        "the agent has deleted the events before sequence {oldest} meanwhile, and some of them may not have been exported. \
         Run this again for what is left; to keep events longer, raise retention.age_days or retention.bytes_max"
    ))
}

/// The oldest position in the log.
fn oldest(client: &Client) -> Result<Seq, Failure> {
    let status: Status = ask(client, "/status")?.json()?;
    Ok(status.log.first_seq.unwrap_or(Seq(1)))
}

fn path(wanted: &Wanted, after: Seq) -> String {
    let mut path = format!("/api/v1/events?limit={LIMIT}&after={after}");
    let times = [("from", wanted.from), ("to", wanted.to)];
    let times = times.into_iter().filter_map(|(name, time)| Some((name, Rfc3339(time?).to_string())));
    let names = [("device", &wanted.device), ("type", &wanted.types)];
    let names = names.into_iter().filter_map(|(name, text)| Some((name, text.clone()?)));
    for (name, text) in times.chain(names) {
        path.push_str(&format!("&{name}={}", percent(&text)));
    }
    path
}

/// Asks again while the agent has too much to do.
fn ask(client: &Client, path: &str) -> Result<Answer, Failure> {
    let mut tried = 1;
    loop {
        match client.get(path) {
            Err(failure) if failure.code == EX_TEMPFAIL && tried < TRIES => {
                tried += 1;
                std::thread::sleep(PAUSE);
            }
            answer => return answer,
        }
    }
}
