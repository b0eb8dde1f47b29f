//! `fieldlog command` and `fieldlog commands`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use fieldlog_projections::Seq;
use fieldlog_projections::command::CommandState;
use fieldlog_wire::api::commands::{
    CommandAnswer, CommandBody, CommandJson, CommandPage, Expected, state_named,
};
use fieldlog_wire::json::percent;
use hyper::Method;
use serde_json::Value as Json;

use super::text::{plain, table, time};
use super::{NOT_DONE, end, say_raw};
use crate::client::{Client, EX_TEMPFAIL, Failure, Reach};
use crate::words::say;

/// Longest wait of one request, in seconds; a longer one is asked again with the same key.
const WAIT_MAX_S: u64 = 60;
/// Commands of one page.
const PAGE: usize = 1_000;

/// Arguments of `fieldlog command`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 accepted, or carried out as far as the device shows it; 1 failed, expired or \
                        superseded; 65 rejected; 69 fieldlog cannot be reached; 75 not known yet, ask again with the \
                        same --key; 77 not allowed; 64 and 78 unusable arguments or configuration."
)]
pub struct CommandArgs {
    /// The device, by its id.
    device: String,
    /// The attribute and its value, or the operation and its argument. A value that is JSON is sent as that: 20, true,
    /// "20"; anything else as text.
    #[arg(value_name = "NAME[=VALUE]")]
    what: String,
    /// It is not sent later than this many seconds from now, 1 to 604800.
    #[arg(long, value_name = "S")]
    ttl: u32,
    /// The key under which it is carried out once, however often it is asked for [default: a new one, which is printed].
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Wait until it is known what came of it, so many seconds at most.
    #[arg(long, value_name = "S", default_value_t = 0, hide_default_value = true)]
    wait: u64,
    /// Refuse it unless the attribute has this value, or, with seq=N, unless N is still the device's newest record; may be
    /// given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    expect: Vec<String>,
    /// Why, for the log.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// NAME is an operation, not an attribute.
    #[arg(long)]
    operation: bool,
    /// The value is text, whatever it looks like.
    #[arg(long)]
    text: bool,
    /// Print the answer as it is.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Arguments of `fieldlog commands`.
#[derive(Clone, Debug, clap::Args)]
pub struct CommandsArgs {
    /// Only those of this device.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Only those in this state, such as requested, applied or failed; several are separated by commas.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only those of this actor, such as uid:1000 or token:admin.
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    /// Only those that can still change.
    #[arg(long)]
    open: bool,
    /// How many, at most, newest first; 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Print the answer as it is.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Runs `fieldlog command`.
pub fn main(args: &CommandArgs) -> ExitCode {
    end(ask(args))
}

/// Runs `fieldlog commands`.
pub fn list(args: &CommandsArgs) -> ExitCode {
    end(listed(args))
}

fn ask(args: &CommandArgs) -> Result<u8, Failure> {
    let client = Client::open(&args.reach)?;
    let body = body(args)?;
    let device = percent(&args.device);
    let end = Instant::now() + Duration::from_secs(args.wait);
    let announce = |key: &str| {
        if args.key.is_none() && !args.json {
            say(&format!(
                "Key {key}; with --key {key} the same command is asked for again, and not carried out twice.\n"
            ));
        }
    };
    // Before the answer: if none comes, the key is what is needed.
    announce(&body.idempotency_key);
    loop {
        let left = end.saturating_duration_since(Instant::now()).as_secs_f64().ceil() as u64;
        let wait = left.min(WAIT_MAX_S);
        let path = format!("/api/v1/devices/{device}/commands?wait={wait}");
        let answer = client.ask(Method::POST, &path, Some(&body), Duration::from_secs(wait))?;
        let CommandAnswer { command, .. } = answer.json()?;
        if Instant::now() < end && !command.closed && is_driven(&command) {
            continue;
        }
        match args.json {
            true => say_raw(&answer.body),
            false => say(&sentences(&command)),
        }
        return Ok(exit_code(&command, args.wait > 0));
    }
}

fn state(command: &CommandJson<'_>) -> Option<CommandState> {
    state_named(&command.state)
}

fn is_driven(command: &CommandJson<'_>) -> bool {
    state(command).is_some_and(CommandState::is_driven)
}

fn exit_code(command: &CommandJson<'_>, waited: bool) -> u8 {
    match state(command) {
        Some(CommandState::Applied) => 0,
        Some(CommandState::Failed | CommandState::Expired | CommandState::Superseded) => NOT_DONE,
        _ if command.closed || !waited => 0,
        _ => EX_TEMPFAIL,
    }
}

fn body(args: &CommandArgs) -> Result<CommandBody, Failure> {
    let (name, value) = match args.what.split_once('=') {
        Some((name, value)) => (name, if args.text { Json::from(value) } else { json_or_text(value) }),
        None => (args.what.as_str(), Json::Null),
    };
    let (attribute, operation) = match args.operation {
        true => (None, Some(name.to_owned())),
        false => (Some(name.to_owned()), None),
    };
    let key = match &args.key {
        Some(key) => key.clone(),
        None => random_key()?,
    };
    Ok(CommandBody {
        attribute,
        operation,
        value,
        idempotency_key: key,
        ttl_s: args.ttl,
        expected: expected(&args.expect)?,
        reason: args.reason.clone(),
    })
}

fn json_or_text(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn expected(texts: &[String]) -> Result<Option<Expected>, Failure> {
    let mut expected = Expected::default();
    for text in texts {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Failure::usage(format!(
                "--expect {text}: give NAME=VALUE, or seq=N for the device's newest record"
            ))
        })?;
        if name == "seq" {
            let seq = value.parse().map_err(|_| {
                Failure::usage(format!(
                    "--expect {text}: N in seq=N is a sequence number, `changed_seq` of the device"
                ))
            })?;
            expected.changed_seq = Some(Seq(seq));
        } else {
            expected.attributes.insert(name.to_owned(), json_or_text(value));
        }
    }
    Ok((expected != Expected::default()).then_some(expected))
}

/// A key that nobody else uses, in the form of a UUID of version 4.
fn random_key() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::internal(format!("cannot get random numbers for a key: {error}; give --key"))
    })?;
    let bits = u128::from_be_bytes(bytes);
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// What is asked for, in short.
fn what(command: &CommandJson<'_>) -> String {
    let name = plain(&command.name);
    match &command.value {
        Json::Null => name,
        value => format!("{name} = {}", plain(&value.to_string())),
    }
}

fn sentences(command: &CommandJson<'_>) -> String {
    let state = match state(command) {
        Some(CommandState::Requested) => "is recorded, and not sent yet.".to_owned(),
        Some(CommandState::Dispatched) => "was sent; nothing is known of it yet.".to_owned(),
        Some(CommandState::Acknowledged) if command.closed => {
            "was sent, and the broker has it. Nothing shows whether the device carries it out.".to_owned()
        }
        Some(CommandState::Acknowledged) => {
            "was sent and acknowledged; that the device has carried it out is not known yet.".to_owned()
        }
        Some(CommandState::Applied) => match command.evidence_seq {
            Some(seq) => format!("was carried out; the record at sequence {seq} shows it."),
            None => "was carried out.".to_owned(),
        },
        Some(CommandState::Failed) => {
            format!("failed: {}.", plain(command.failure.as_deref().unwrap_or("no reason is known")))
        }
        Some(CommandState::Expired) => {
            format!("expired: it could not be sent before {}, and will not be.", time(&command.expires_at))
        }
        Some(CommandState::Superseded) => match command.superseded_by {
            Some(seq) => format!("was not sent: command {seq}, which is newer, took its place."),
            None => "was not sent: a newer one took its place.".to_owned(),
        },
        Some(CommandState::Unconfirmed) => {
            "was sent, and nothing has shown in time that it was carried out. If the device still shows it, that is recorded."
                .to_owned()
        }
        Some(CommandState::Unknown) => {
            "may have been sent before fieldlog ended, and is not sent again. If the device shows it, that is recorded."
                .to_owned()
        }
        None => format!("is in the state `{}`, which this version does not know.", plain(&command.state)),
    };
    let (id, device) = (command.id, plain(&command.device));
    let mut text = format!("Command {id} ({device}: {}) {state}\n", what(command));
    if !command.closed {
        text.push_str(&format!("`fieldlog commands --device {device}` shows what becomes of it.\n"));
    }
    text
}

fn listed(args: &CommandsArgs) -> Result<u8, Failure> {
    if !(1..=PAGE).contains(&args.limit) {
        return Err(Failure::usage(format!("--limit {}: give a number from 1 to {PAGE}", args.limit)));
    }
    let client = Client::open(&args.reach)?;
    let mut path = format!("/api/v1/commands?limit={}", args.limit);
    for (name, value) in [("device", &args.device), ("state", &args.state), ("actor", &args.actor)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", percent(value)));
        }
    }
    if args.open {
        path.push_str("&open=true");
    }
    let answer = client.get(&path)?;
    if args.json {
        say_raw(&answer.body);
        return Ok(0);
    }
    let page: CommandPage<'_> = answer.json()?;
    let row = |command: &CommandJson<'_>| {
        let words = command.failure.as_deref().or(Some(&command.reason)).unwrap_or_default();
        [
            command.id.to_string(),
            time(&command.requested_at),
            plain(&command.device),
            what(command),
            plain(&command.state),
            plain(&command.actor),
            plain(words),
        ]
    };
    let rows: Vec<_> = page.commands.iter().map(row).collect();
    if rows.is_empty() {
        say("No such commands.\n");
    } else {
        say(&table(["ID", "REQUESTED", "DEVICE", "COMMAND", "STATE", "ACTOR", "REASON"], &rows));
    }
    if page.next.is_some() {
        say("There are older ones; --limit shows more.\n");
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_json_or_text() {
        for (text, value) in [
            ("ON", json!("ON")),
            ("20", json!(20)),
            ("\"20\"", json!("20")),
            ("true", json!(true)),
            ("", json!("")),
            ("{\"a\":1}", json!({"a": 1})),
            ("1.50", json!(1.5)),
        ] {
            assert_eq!(json_or_text(text), value, "{text}");
        }
    }

    #[test]
    fn expectations_are_values_or_a_position() {
        let given = ["state=ON".to_owned(), "seq=12".to_owned(), "level=3".to_owned()];
        let expected = expected(&given).unwrap().unwrap();
        assert_eq!(expected.changed_seq, Some(Seq(12)));
        assert_eq!(json!(expected.attributes), json!({"state": "ON", "level": 3}));
        assert_eq!(super::expected(&[]).unwrap(), None);
        for wrong in ["state", "seq=new"] {
            assert!(super::expected(&[wrong.to_owned()]).unwrap_err().words.contains("--expect"), "{wrong}");
        }
    }

    #[test]
    fn keys_are_new_and_look_like_a_uuid() {
        let (one, other) = (random_key().unwrap(), random_key().unwrap());
        assert_ne!(one, other);
        for key in [one, other] {
            let parts: Vec<usize> = key.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{key}");
            assert!(key[14..].starts_with('4') && matches!(&key[19..20], "8" | "9" | "a" | "b"), "{key}");
        }
    }
}
