//! `fieldlog alerts`.

use std::process::ExitCode;

use fieldlog_wire::api::alerts::{AlertJson, AlertPage};
use serde_json::Value as Json;

use super::moment::{Moment, time_or_seq};
use super::text::{plain, table, time, value};
use super::{NOT_DONE, end, query, say_raw};
use crate::client::{Client, Failure, Reach};
use crate::words::say;

/// Alerts of one page.
const PAGE: usize = 1_000;

/// Arguments of `fieldlog alerts`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 no alert is open; 1 at least one is.")]
pub struct AlertsArgs {
    /// Only those about this device.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Only those of this rule.
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// Only those of this severity: warning or critical.
    #[arg(long, value_name = "SEVERITY")]
    severity: Option<String>,
    /// Those that were open at this time, such as 2026-11-23T10:00:00Z or 2h (ago), or at this sequence.
    #[arg(long, value_name = "TIME|SEQUENCE", value_parser = time_or_seq)]
    at: Option<Moment>,
    /// How many, at most, newest first; 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Print the answer as it is.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Runs `fieldlog alerts`.
pub fn main(args: &AlertsArgs) -> ExitCode {
    end(asked(args))
}

fn asked(args: &AlertsArgs) -> Result<u8, Failure> {
    if !(1..=PAGE).contains(&args.limit) {
        return Err(Failure::usage(format!("--limit {}: give a number from 1 to {PAGE}", args.limit)));
    }
    let limit = args.limit.to_string();
    let parameters = [
        ("limit", Some(limit.as_str())),
        ("device", args.device.as_deref()),
        ("rule", args.rule.as_deref()),
        ("severity", args.severity.as_deref()),
        ("at", args.at.as_ref().map(|Moment(at)| at.as_str())),
    ];
    let answer = Client::open(&args.reach)?.get(&query("/api/v1/alerts", &parameters))?;
    let page: AlertPage<'_> = answer.json()?;
    match args.json {
        true => say_raw(&answer.body),
        false => say(&listed(&page)),
    }
    Ok(if page.alerts.is_empty() { 0 } else { NOT_DONE })
}

fn listed(page: &AlertPage<'_>) -> String {
    if page.alerts.is_empty() {
        return "No alert is open.\n".to_owned();
    }
    let rows: Vec<_> = page.alerts.iter().map(row).collect();
    let mut text = table(["ID", "RAISED", "SEVERITY", "RULE", "WHERE", "WHAT"], &rows);
    if page.next.is_some() {
        text.push_str("There are older ones; --limit shows more.\n");
    }
    text
}

fn row(alert: &AlertJson<'_>) -> [String; 6] {
    [
        alert.id.to_string(),
        time(&alert.raised_at),
        alert.severity.word().to_owned(),
        plain(&alert.rule),
        place(alert),
        what(alert),
    ]
}

fn place(alert: &AlertJson<'_>) -> String {
    match (&alert.device, &alert.attribute, &alert.sink) {
        (Some(device), Some(attribute), _) => format!("{} {}", plain(device), plain(attribute)),
        (Some(device), None, _) => plain(device),
        (None, _, Some(sink)) => format!("sink {}", plain(sink)),
        (None, ..) => "-".to_owned(),
    }
}

/// What is wrong, in short.
pub(crate) fn what(alert: &AlertJson<'_>) -> String {
    let said = |json: &Json| plain(&value(json));
    let (found, threshold) = (said(&alert.value), said(&alert.threshold));
    match &*alert.condition {
        "above" => format!("{found} > {threshold}"),
        "below" => format!("{found} < {threshold}"),
        "equals" => format!("is {found}"),
        "silent" => format!("nothing heard for {found} s"),
        "offline" => "offline".to_owned(),
        "battery-low" => "battery low".to_owned(),
        "backlog-events" if found == "1" => "1 event waits".to_owned(),
        "backlog-events" => format!("{found} events wait"),
        "backlog-seconds" => format!("{found} s behind"),
        other => format!("{}: {found}", plain(other)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(alerts: &Json) -> String {
        let json = json!({"position": {"epoch": "000000000000feed", "applied": 9, "head": 9, "lag": 0}, "alerts": alerts, "next": null});
        listed(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn a_moment_is_given_as_everywhere() {
        let command = <AlertsArgs as clap::Args>::augment_args(clap::Command::new("alerts"));
        for (at, is_one) in [("2h", true), ("17", true), ("2026-11-23T10:00:00Z", true), ("yesterday", false)]
        {
            assert_eq!(command.clone().try_get_matches_from(["alerts", "--at", at]).is_ok(), is_one, "{at}");
        }
    }

    #[test]
    fn alerts_say_where_and_what() {
        let at = "2026-11-23T10:00:00Z";
        let text = page(&json!([
            {"id": 7, "rule": "warm", "severity": "critical", "device": "freezer", "attribute": "temperature",
             "condition": "above", "threshold": -10.0, "value": -8.5, "raised_at": at},
            {"id": 5, "rule": "late", "severity": "warning", "sink": "cloud", "condition": "backlog-events",
             "threshold": 100, "value": 101, "raised_at": at},
        ]));
        assert!(text.contains("critical  warm  freezer temperature  -8.5 > -10.0\n"), "{text}");
        assert!(text.contains("warning   late  sink cloud           101 events wait\n"), "{text}");
        assert_eq!(page(&json!([])), "No alert is open.\n");
    }
}
