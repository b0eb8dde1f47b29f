//! `fieldlog status`.

use std::process::ExitCode;

use fieldlog_wire::api::quarantine::QuarantinePage;
use fieldlog_wire::api::status::Status;

use super::attention::{Attention, RATE_MIN_S, attention};
use super::text::{bytes, number, plain, span, waiting, wrap};
use super::{NOT_DONE, end, say_raw};
use crate::client::{Client, Failure, Reach};
use crate::words::say;

/// Arguments of `fieldlog status`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 all is well; 1 something needs attention; others as in `fieldlog --help`."
)]
pub struct StatusArgs {
    /// Print the answer of /status as it is.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Runs `fieldlog status`.
pub fn main(args: &StatusArgs) -> ExitCode {
    end(asked(args))
}

fn asked(args: &StatusArgs) -> Result<u8, Failure> {
    let client = Client::open(&args.reach)?;
    let answer = client.get("/status")?;
    let status: Status = answer.json()?;
    let found = attention(&status);
    if args.json {
        say_raw(&answer.body);
    } else {
        let inputs: QuarantinePage<'_> = client.get("/api/v1/quarantine?limit=1000")?.json()?;
        say(&sentences(&status, &found, (inputs.quarantine.len(), inputs.next.is_some())));
    }
    Ok(if found.is_empty() { 0 } else { NOT_DONE })
}

fn sentences(status: &Status, found: &[Attention], (inputs, more): (usize, bool)) -> String {
    let mut text = match found.len() {
        0 => "The agent is well.\n".to_owned(),
        1 => "One thing needs attention:\n".to_owned(),
        many => format!("{many} things need attention:\n"),
    };
    for Attention { what, todo } in found {
        text.push_str(&wrap(&format!("- {what}"), "  "));
        if !todo.is_empty() {
            text.push_str(&wrap(&format!("  What to do: {todo}"), "  "));
        }
    }
    text.push('\n');
    let mut row =
        |name: &str, words: String| text.push_str(&wrap(&format!("{name:<12}{words}"), &" ".repeat(12)));
    let log = &status.log;
    row(
        "fieldlog",
        format!(
            "{}, gateway {}, running for {}",
            status.version,
            plain(&status.gateway_id),
            span(status.uptime_s)
        ),
    );
    let connected = status.sources.iter().filter(|source| source.connected).count();
    let messages = status.sources.iter().map(|source| source.messages).sum();
    row(
        "sources",
        format!("{connected} of {} connected, {}", status.sources.len(), number(messages, "message")),
    );
    let devices = status.devices;
    let states = [(devices.online, "online"), (devices.offline, "offline"), (devices.unknown, "unknown")];
    let states = states.into_iter().filter(|(number, _)| *number > 0);
    let states: Vec<String> = states.map(|(number, state)| format!("{number} {state}")).collect();
    let all = if states.is_empty() { String::new() } else { format!(": {}", states.join(", ")) };
    let which = match devices.offline {
        0 => "",
        _ => "; `fieldlog devices --availability offline` lists those that are",
    };
    row("devices", format!("{}{all}{which}", devices.total));
    let size = log.file_bytes.map_or_else(|| "of unknown size".to_owned(), bytes);
    row(
        "log",
        format!("{size}, events {} to {}", log.first_seq.map_or(0, |seq| seq.0), status.position.head.0),
    );
    if let Some(free) = log.disk_free_bytes {
        row("disk", format!("{} are free", bytes(free)));
    }
    if let Some(per_day) = log.bytes_written_per_day.filter(|_| status.uptime_s >= RATE_MIN_S) {
        let years = log.endurance_years.map(|years| format!(", so the storage lasts {years:.0} years"));
        let years = years.filter(|_| log.endurance_years < Some(1_000.0)).unwrap_or_default();
        row("storage", format!("{} are written a day{years}", bytes(per_day as u64)));
    }
    if let Some(why) = &log.journal.unused_because {
        row("journal", format!("not used: {}", plain(why)));
    }
    if !status.sinks.is_empty() {
        let connected = status.sinks.iter().filter(|sink| sink.connected).count();
        let events = status.sinks.iter().map(|sink| sink.backlog_events).sum();
        row("sinks", format!("{connected} of {} connected, {}", status.sinks.len(), waiting(events)));
    }
    let open = status.commands.open.map_or_else(|| "being rebuilt".to_owned(), |open| format!("{open} open"));
    row("commands", open);
    if inputs > 0 {
        let many = if more { "more than " } else { "" };
        let (inputs, them) = (number(inputs as u64, "input"), if inputs == 1 { "it" } else { "them" });
        row(
            "quarantine",
            format!("{many}{inputs} could not be decoded; `fieldlog quarantine list` shows {them}"),
        );
    }
    if status.rebuild.running {
        let folds: Vec<&str> = status.rebuild.folds.iter().map(|fold| &**fold).collect();
        row("rebuilding", folds.join(", "));
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    /// The status of an agent with which all is well, changed.
    pub(in crate::cli) fn status(change: impl FnOnce(&mut Json)) -> Status {
        let mut status = json!({
            "position": {"epoch": "000000000000feed", "applied": 4711, "head": 4711, "lag": 0},
            "version": "0.1.0", "gateway_id": "gw", "started_at": "2025-11-23T10:00:00Z", "uptime_s": 7300.5,
            "log": {"first_seq": 12, "file_bytes": 2_500_000, "journal": {"used": true, "unused_because": null,
                "commits": 5}, "bytes_written": 1, "bytes_per_event": 1.0, "bytes_written_per_day": 1_100_000_000.0,
                "endurance_years": 24.9, "syncs": 1, "commits": {"delay": 1, "bytes": 0, "window": 0, "internal": 0},
                "commit_ms_mean": 1.0, "commit_ms_max": 2.0, "events": 4700, "archive": null},
            "devices": {"total": 33, "online": 30, "offline": 3, "unknown": 0, "retired": 1},
            "state": {"bytes": 1, "bytes_max": 2, "refused": 0, "devices_forgotten": 0},
            "commands": {"open": 0, "admin_token": false, "by_state": {}, "rejected": {}},
            "snapshot": {"seq": 4000, "at": null, "bytes": 0, "written": 0, "errors": 0},
            "rebuild": {"running": false, "applied": 0, "folds": []},
            "sources": [{"name": "home", "address": "127.0.0.1:1883", "state": "connected", "state_text": "connected",
                "connected": true, "connected_at": "2025-11-23T10:00:00Z", "session_present": true, "reconnects": 0,
                "last_error": null, "advice": null, "warnings": [], "messages": 12345, "qos0": 0, "events": 4000,
                "unchanged": 0, "retained_repeats": 0, "suppressed": 0, "quarantined": 0, "summarised": 0,
                "name_clashes": 0, "ignored": 0, "unacked": 0, "refused_filters": [], "sparkplug": null}],
            "sinks": [{"name": "cloud", "address": "http://cloud:80", "required": true, "state": "connected",
                "state_text": "connected", "connected": true, "connected_at": "2025-11-23T10:00:00Z",
                "waiting_until": null, "waiting_why": null, "acked_upto": 4711, "backlog_events": 0,
                "backlog_bytes": 0, "backlog_oldest": null, "events_per_s": 1.5, "events_acked": 4000,
                "priority_acked": 0, "parcels_acked": 400, "bytes_acked": 1000, "parcels_retried": 0,
                "dead_letters": 0, "refused_events": 0, "connections": 1, "warning": null, "last_error": null,
                "last_error_at": null}],
            "blocked": null, "clock_advice": null,
            "process": {"resident_bytes": 1, "cpu_s": 1.0, "threads": 5, "open_fds": 20}
        });
        change(&mut status);
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn all_is_well() {
        let status = status(|_| {});
        assert_eq!(attention(&status), []);
        assert_eq!(
            sentences(&status, &[], (0, false)),
            "The agent is well.\n\n\
             fieldlog    0.1.0, gateway gw, running for 2 h\n\
             sources     1 of 1 connected, 12,345 messages\n\
             devices     33: 30 online, 3 offline; `fieldlog devices --availability offline` lists those that are\n\
             log         2.5 MB, events 12 to 4711\n\
             storage     1.1 GB are written a day, so the storage lasts 25 years\n\
             sinks       1 of 1 connected, 0 events wait\n\
             commands    0 open\n"
        );
    }

    #[test]
    fn everything_that_needs_attention_is_said_with_what_to_do() {
        let status = status(|status| {
            status["blocked"] = json!("the disk is full");
            let source = &mut status["sources"][0];
            source["connected"] = json!(false);
            source["state"] = json!("backing_off");
            source["last_error"] = json!("the broker refused the connection\u{1b}");
            source["advice"] = json!("check `username`");
            let sink = &mut status["sinks"][0];
            sink["state"] = json!("held");
            sink["waiting_why"] = json!("503");
            sink["backlog_events"] = json!(1500);
            sink["refused_events"] = json!(2);
            sink["warning"] = json!("nobody listens");
            status["clock_advice"] = json!("run fieldlog correct-clock");
            status["state"]["refused"] = json!(7);
            status["snapshot"]["errors"] = json!(1);
            status["log"]["endurance_years"] = json!(0.5);
            status["log"]["disk_free_bytes"] = json!(10_000_000);
            status["log"]["disk_free_bytes_min"] = json!(64_000_000);
        });
        let found = attention(&status);
        let text = sentences(&status, &found, (3, false));
        assert!(
            text.starts_with("10 things need attention:\n- nothing is being recorded: the disk is full\n"),
            "{text}"
        );
        for part in [
            "- source \"home\" (127.0.0.1:1883) is not connected: the broker refused the connection\u{fffd}\n  \
             What to do: check `username`\n",
            "- sink \"cloud\" (http://cloud:80) takes nothing now: 503; 1,500 events wait\n",
            "- sink \"cloud\" (http://cloud:80): nobody listens\n",
            "has refused 2 events, which are kept\n  What to do: `fieldlog events --type dead_lettered` says why",
            "- the disk has only 10.0 MB free\n  What to do: make room there",
            "\ndisk        10.0 MB are free\n",
            "- log time is far ahead of the clock\n  What to do: run fieldlog correct-clock\n",
            "and 7 of them were not taken\n",
            "- 1 snapshot could not be written\n",
            "is worn out in 0.5 years\n",
            "quarantine  3 inputs could not be decoded; `fieldlog quarantine list` shows them\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
    }

    #[test]
    fn what_the_broker_does_not_give_is_said_of_a_source_that_is_connected() {
        let status = status(|status| {
            let source = &mut status["sources"][0];
            source["refused_filters"] = json!([{"filter": "home/#", "reason": "not authorized"}]);
            source["warnings"] = json!(["the broker offers QoS 0 only"]);
        });
        let words: Vec<String> = attention(&status).into_iter().map(|found| found.what).collect();
        assert_eq!(
            words,
            [
                "source \"home\" (127.0.0.1:1883): the broker refuses home/#: not authorized",
                "source \"home\" (127.0.0.1:1883): the broker offers QoS 0 only",
            ]
        );
    }
}
