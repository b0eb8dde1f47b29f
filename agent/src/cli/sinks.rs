//! `fieldlog sinks`.

use std::process::ExitCode;

use fieldlog_projections::Time;
use fieldlog_wire::api::status::Status;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::attention::{attention, behind};
use super::text::{count, plain, table, wrap};
use super::{end, say_raw};
use crate::client::{Client, Failure, Reach};
use crate::words::say;

/// Arguments of `fieldlog sinks`.
#[derive(Clone, Debug, clap::Args)]
pub struct SinksArgs {
    /// Print them as /status has them.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// The part of `/status` about sinks, as it is.
#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    sinks: &'a RawValue,
}

/// Runs `fieldlog sinks`.
pub fn main(args: &SinksArgs) -> ExitCode {
    end(asked(args))
}

fn asked(args: &SinksArgs) -> Result<u8, Failure> {
    let answer = Client::open(&args.reach)?.get("/status")?;
    if args.json {
        say_raw(answer.json::<Part<'_>>()?.sinks.get().as_bytes());
    } else {
        let now = jiff::Timestamp::now().as_microsecond();
        say(&listed(&answer.json()?, Time(now)));
    }
    Ok(0)
}

fn listed(status: &Status, now: Time) -> String {
    if status.sinks.is_empty() {
        return "No sinks: nothing is forwarded. A [[sink]] in the configuration adds one.\n".to_owned();
    }
    let rows: Vec<_> = status
        .sinks
        .iter()
        .map(|sink| {
            [
                plain(&sink.name),
                plain(&sink.state),
                count(sink.backlog_events),
                behind(sink, now).unwrap_or_else(|| "-".to_owned()),
                format!("{:.1}", sink.events_per_s),
                plain(&sink.address),
            ]
        })
        .collect();
    let mut text = table(["SINK", "STATE", "WAITING", "OLDEST", "EVENTS/S", "ADDRESS"], &rows);
    for found in attention(status).iter().filter(|found| found.what.starts_with("sink ")) {
        text.push_str(&wrap(&format!("\n- {}", found.what), "  "));
        if !found.todo.is_empty() {
            text.push_str(&wrap(&format!("  What to do: {}", found.todo), "  "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::status::tests::status;
    use super::*;

    #[test]
    fn sinks_are_listed_with_what_is_wrong() {
        let now = Time::from_secs(1_763_892_000);
        let text = listed(&status(|_| {}), now);
        assert_eq!(
            text,
            "SINK   STATE      WAITING  OLDEST  EVENTS/S  ADDRESS\n\
             cloud  connected  0        -       1.5       http://cloud:80\n"
        );
        let text = listed(
            &status(|status| {
                let sink = &mut status["sinks"][0];
                sink["state"] = json!("backing_off");
                sink["last_error"] = json!("refused");
                sink["backlog_events"] = json!(12000);
                sink["backlog_oldest"] = json!("2025-11-23T09:50:00Z");
            }),
            now,
        );
        assert!(text.contains("cloud  backing_off  12,000   10 min  1.5       http://cloud:80\n"), "{text}");
        assert!(text.contains("\n- sink \"cloud\" (http://cloud:80) is not connected: refused"), "{text}");
        assert!(listed(&status(|status| status["sinks"] = json!([])), now).starts_with("No sinks: "));
    }
}
