//! `fieldlog why`.

use std::process::ExitCode;

use fieldlog_wire::api::why::{WhyAnswer, WhyCommand};
use fieldlog_wire::json::percent;

use super::moment::{self, Moment};
use super::text::{plain, table, time};
use super::{end, say_raw};
use crate::client::{Client, Failure, Reach};
use crate::words::say;

/// Arguments of `fieldlog why`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 answered; 65 there is no such device, attribute or change; 69 fieldlog cannot be \
                        reached; 77 not allowed; 64 and 78 unusable arguments or configuration."
)]
pub struct WhyArgs {
    /// The device, by its id.
    device: String,
    /// The attribute.
    attribute: String,
    /// Of the value at this time, such as 2026-11-23T10:00:00Z or 2h (ago), or at this sequence [default: the present one].
    #[arg(long, value_name = "TIME|SEQUENCE", value_parser = moment::time_or_seq)]
    at: Option<Moment>,
    /// How many earlier changes to show, 1 to 100.
    #[arg(long, value_name = "N", default_value_t = 5)]
    limit: u64,
    /// Print the answer as it is.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Runs `fieldlog why`.
pub fn main(args: &WhyArgs) -> ExitCode {
    end(asked(args))
}

fn asked(args: &WhyArgs) -> Result<u8, Failure> {
    let (device, attribute) = (percent(&args.device), percent(&args.attribute));
    let mut path = format!("/api/v1/devices/{device}/attributes/{attribute}/why?limit={}", args.limit);
    if let Some(Moment(at)) = &args.at {
        path.push_str(&format!("&at={}", percent(at)));
    }
    let answer = Client::open(&args.reach)?.get(&path)?;
    match args.json {
        true => say_raw(&answer.body),
        false => say(&sentences(&answer.json()?)),
    }
    Ok(0)
}

fn sentences(why: &WhyAnswer<'_>) -> String {
    let (event, source) = (&why.event, plain(&why.source));
    let of_device = event.device_time.as_ref().map(|at| format!(" (device time {})", time(at)));
    let mut text = format!(
        "{} {} = {}\nSet by the record at sequence {} at {}{}, from source {source}.\n",
        plain(&why.device),
        plain(&why.attribute),
        plain(&why.value.to_string()),
        event.seq,
        time(&event.time),
        of_device.unwrap_or_default(),
    );
    text.push_str(
        &why.command.as_ref().map_or("No command is known to have caused it.\n".to_owned(), command),
    );
    if why.before.is_empty() {
        text.push_str(&format!(
            "No earlier change is in the log from sequence {} on.\n",
            why.complete_from_seq
        ));
        return text;
    }
    let rows: Vec<_> = why
        .before
        .iter()
        .map(|before| [before.seq.to_string(), time(&before.at), plain(&before.value.to_string())])
        .collect();
    text.push_str("\nBefore that:\n");
    text.push_str(&table(["SEQUENCE", "TIME", "VALUE"], &rows));
    text
}

fn command(command: &WhyCommand<'_>) -> String {
    let WhyCommand { id, applied_seq, request, .. } = command;
    let Some(request) = request else {
        return format!(
            "The device carried out command {id} with it, as the record at sequence {applied_seq} says. The request \
             was deleted from the log.\n"
        );
    };
    let value = if request.value.is_null() {
        String::new()
    } else {
        format!(" = {}", plain(&request.value.to_string()))
    };
    let reason = match &*request.reason {
        "" => "without a reason".to_owned(),
        reason => format!("because: {}", plain(reason)),
    };
    format!(
        "The device carried out command {id} with it ({}{value}), as the record at sequence {applied_seq} says.\n\
         Asked for by {} at {}, {reason}\n",
        plain(&request.name),
        plain(&request.actor),
        time(&request.requested_at),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(change: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut answer = json!({
            "position": {"epoch": "000000000000feed", "applied": 20, "head": 20, "lag": 0},
            "device": "lamp", "attribute": "on", "value": true, "source": "z2m",
            "event": {"id": "gw/000000000000feed/14", "seq": 14, "type": "state_changed",
                "time": "2025-11-23T10:01:42.000000Z", "device": "lamp", "data": {}},
            "command": {"id": 10, "applied_seq": 15, "applied_at": "2025-11-23T10:01:42.000000Z", "request": {
                "actor": "uid:1000", "reason": "it is dark\u{1b}[31m", "requested_at": "2025-11-23T10:01:40.000000Z",
                "name": "on", "operation": false, "value": true, "source": "z2m", "topic": "lamp/set"}},
            "before": [{"seq": 5, "at": "2025-11-23T10:00:01.000000Z", "value": false}],
            "complete_from_seq": 1,
        });
        change(&mut answer);
        sentences(&serde_json::from_value(answer).unwrap())
    }

    #[test]
    fn the_answer_is_said_in_sentences() {
        let text = "lamp on = true\n\
            Set by the record at sequence 14 at 2025-11-23T10:01:42Z, from source z2m.\n\
            The device carried out command 10 with it (on = true), as the record at sequence 15 says.\n\
            Asked for by uid:1000 at 2025-11-23T10:01:40Z, because: it is dark\u{fffd}[31m\n\
            \n\
            Before that:\n\
            SEQUENCE  TIME                  VALUE\n\
            5         2025-11-23T10:00:01Z  false\n";
        assert_eq!(said(|_| {}), text);
    }

    #[test]
    fn what_is_not_known_is_said_too() {
        let text = said(|answer| {
            answer["command"] = json!(null);
            answer["before"] = json!([]);
            answer["complete_from_seq"] = json!(7);
            answer["event"]["device_time"] = json!("2025-11-23T09:00:00.000000Z");
        });
        for part in [
            "10:01:42Z (device time 2025-11-23T09:00:00Z), from",
            "No command is known to have caused it.\n",
            "No earlier change is in the log from sequence 7 on.\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
        let text = said(|answer| answer["command"]["request"] = json!(null));
        assert!(
            text.contains("command 10 with it, as the record at sequence 15 says. The request was deleted"),
            "{text}"
        );
        let text = said(|answer| {
            answer["command"]["request"]["reason"] = json!("");
            answer["command"]["request"]["value"] = json!(null);
        });
        assert!(
            text.contains("command 10 with it (on), as") && text.contains("Z, without a reason\n"),
            "{text}"
        );
    }
}
