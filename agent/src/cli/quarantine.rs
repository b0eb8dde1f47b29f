//! `fieldlog quarantine`.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use fieldlog_projections::Seq;
use fieldlog_wire::api::administer::{QuarantineBody, QuarantineDone, ReasonBody};
use fieldlog_wire::api::events::EventAnswer;
use fieldlog_wire::api::quarantine::{QuarantinePage, Quarantined};
use fieldlog_wire::json::percent;
use hyper::Method;

use super::text::{plain, table, time, value as plain_value};
use super::{NOT_DONE, end, say_raw};
use crate::client::{Answer, Client, Failure, Reach};
use crate::words::say;

/// Inputs of one request.
const PAGE: u64 = 1_000;

/// Arguments of `fieldlog quarantine`.
#[derive(Clone, Debug, clap::Args)]
pub struct QuarantineArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// List the messages that could not be decoded, newest first.
    List {
        /// How many, at most.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u64,
        /// Print the answer as it is.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: Reach,
    },
    /// Show one of them with its payload.
    Show {
        /// Its sequence number.
        seq: u64,
        /// Print the bytes of the payload, and nothing else.
        #[arg(long)]
        raw: bool,
        /// Print its event as it is, which has the reason but not the payload.
        #[arg(long, conflicts_with = "raw")]
        json: bool,
        #[command(flatten)]
        reach: Reach,
    },
    /// Read them again, after a correction of the rules. What they say is recorded as history, with the time when they
    /// arrived; the current state stays.
    Requeue(These),
    /// Throw them away.
    Purge(These),
}

/// Which messages.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 all are dealt with; 1 some stay in the quarantine; 65 rejected; 69 fieldlog cannot be \
                        reached; 75 not possible now; 77 not allowed."
)]
struct These {
    /// Their sequence numbers.
    #[arg(value_name = "SEQ", conflicts_with_all = ["source", "topic"])]
    seqs: Vec<u64>,
    /// All of this source; * matches any text.
    #[arg(long, value_name = "PATTERN")]
    source: Option<String>,
    /// All of this topic; * matches any text, and * alone means all.
    #[arg(long, value_name = "PATTERN")]
    topic: Option<String>,
    /// Why, for the log.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Print the answers as they are, one on each line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Runs `fieldlog quarantine`.
pub fn main(args: &QuarantineArgs) -> ExitCode {
    end(match &args.what {
        What::List { limit, json, reach } => list(*limit, *json, reach),
        What::Show { seq, raw, json, reach } => show(*seq, *raw, *json, reach),
        What::Requeue(these) => deal(these, true),
        What::Purge(these) => deal(these, false),
    })
}

fn list(limit: u64, json: bool, reach: &Reach) -> Result<u8, Failure> {
    if !(1..=PAGE).contains(&limit) {
        return Err(Failure::usage(format!("--limit {limit}: give a number from 1 to {PAGE}")));
    }
    let answer = Client::open(reach)?.get(&format!("/api/v1/quarantine?limit={limit}"))?;
    if json {
        say_raw(&answer.body);
        return Ok(0);
    }
    let page: QuarantinePage<'_> = answer.json()?;
    let row = |one: &Quarantined<'_>| {
        let count = one.count.map_or_else(|| "1".to_owned(), |count| count.to_string());
        [
            one.seq.to_string(),
            time(&one.at),
            plain(&one.source),
            plain(&one.topic),
            count,
            one.size.to_string(),
            plain(&one.reason),
        ]
    };
    let rows: Vec<_> = page.quarantine.iter().map(row).collect();
    if rows.is_empty() {
        say("The quarantine is empty.\n");
    } else {
        say(&table(["SEQ", "AT", "SOURCE", "TOPIC", "COUNT", "BYTES", "REASON"], &rows));
    }
    if page.next.is_some() {
        say("There are older ones; --limit shows more.\n");
    }
    Ok(0)
}

fn show(seq: u64, raw: bool, json: bool, reach: &Reach) -> Result<u8, Failure> {
    let client = Client::open(reach)?;
    let payload = client.get(&format!("/api/v1/quarantine/{seq}"))?.body;
    if raw {
        // A reader that closes its end has read enough.
        let _ = std::io::stdout().lock().write_all(&payload);
        return Ok(0);
    }
    let answer = client.get(&format!("/api/v1/events/{seq}"))?;
    if json {
        say_raw(&answer.body);
        return Ok(0);
    }
    let answer: EventAnswer<'_> = answer.json()?;
    let mut text = format!("sequence  {seq}\nat        {}\n", time(&answer.event.time));
    for (name, value) in &answer.event.data {
        let value = plain_value(value);
        text.push_str(&format!("{name:<10}{value}\n"));
    }
    text.push('\n');
    match std::str::from_utf8(&payload) {
        Ok(words) => words.lines().for_each(|line| text.push_str(&format!("{}\n", plain(line)))),
        Err(_) => payload.chunks(16).for_each(|bytes| {
            let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("{}\n", digits.join(" ")));
        }),
    }
    say(&text);
    Ok(0)
}

fn deal(these: &These, requeue: bool) -> Result<u8, Failure> {
    if these.seqs.is_empty() && these.source.is_none() && these.topic.is_none() {
        return Err(Failure::usage(
            "say which messages: by their sequence numbers, which `fieldlog quarantine list` shows, or all that --topic and \
             --source name; --topic '*' means all",
        ));
    }
    let client = Client::open(&these.reach)?;
    let mut told = Told { requeue, json: these.json, resolved: 0, kept: 0 };
    if these.seqs.is_empty() {
        let verb = if requeue { "requeue" } else { "purge" };
        let mut after = None;
        loop {
            let body = QuarantineBody {
                source: these.source.clone(),
                topic: these.topic.clone(),
                after,
                limit: Some(PAGE),
                reason: these.reason.clone(),
            };
            let answer = client.post(&format!("/api/v1/quarantine/{verb}"), &body)?;
            after = told.tell(&answer)?;
            if after.is_none() {
                break;
            }
        }
    }
    let mut failed = None;
    for seq in &these.seqs {
        let answer = match requeue {
            true => client.post(
                &format!("/api/v1/quarantine/{seq}/requeue"),
                &ReasonBody { reason: these.reason.clone() },
            ),
            false => {
                let path = format!("/api/v1/quarantine/{seq}?reason={}", percent(&these.reason));
                client.ask(Method::DELETE, &path, None::<&()>, Duration::ZERO)
            }
        };
        match answer {
            Ok(answer) => {
                told.tell(&answer)?;
            }
            // The others are dealt with all the same.
            Err(failure) if failure.code == 65 => {
                crate::words::complain(&format!("{seq}: {}", failure.words));
                failed = Some(failure.code);
            }
            Err(failure) => return Err(failure),
        }
    }
    if !these.json && these.seqs.is_empty() && told.resolved + told.kept == 0 {
        say("The quarantine has none of these.\n");
    }
    Ok(match failed {
        Some(code) if told.resolved == 0 => code,
        Some(_) => NOT_DONE,
        None if told.kept > 0 => NOT_DONE,
        None => 0,
    })
}

/// What was done so far.
struct Told {
    requeue: bool,
    json: bool,
    resolved: usize,
    kept: usize,
}

impl Told {
    /// Prints an answer; returns where to continue.
    fn tell(&mut self, answer: &Answer) -> Result<Option<Seq>, Failure> {
        let done: QuarantineDone<'_> = answer.json()?;
        self.resolved += done.resolved.len();
        self.kept += done.kept.len();
        if self.json {
            say_raw(&answer.body);
            return Ok(done.next);
        }
        let mut text = String::new();
        for one in &done.resolved {
            let what = match (self.requeue, one.records) {
                (false, _) => "purged".to_owned(),
                (true, 1) => "requeued: 1 record of its values".to_owned(),
                (true, records) => format!("requeued: {records} records of its values"),
            };
            text.push_str(&format!("{}: {what}\n", one.input));
        }
        for one in &done.kept {
            text.push_str(&format!("{}: stays; {}\n", one.input, plain(&one.reason)));
        }
        say(&text);
        Ok(done.next)
    }
}
