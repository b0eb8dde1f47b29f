//! An event as a line.

use fieldlog_wire::api::Members;
use fieldlog_wire::json::Rfc3339;
use serde::Deserialize;
use serde_json::Value as Json;

use super::super::text::{line, plain, time, value};
use super::pages::Stop;
use crate::client::Failure;
use crate::words::try_say;

/// An event, or an item of a history.
#[derive(Deserialize)]
struct Item {
    seq: u64,
    #[serde(alias = "at")]
    time: Rfc3339,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    changes: Option<Members>,
    #[serde(default)]
    data: Option<Members>,
}

/// Prints an event: as it is, or as a line for people.
pub(super) fn put(json: &str, as_json: bool) -> Result<(), Stop> {
    if as_json {
        return Ok(try_say(&format!("{json}\n"))?);
    }
    let item: Item = serde_json::from_str(json)
        .map_err(|error| Failure::internal(format!("the answer is not what fieldlog answers: {error}")))?;
    Ok(try_say(&format!("{}\n", line(&words(&item))))?)
}

fn words(item: &Item) -> String {
    let device = item.device.as_deref().map(|device| format!("  {}", plain(device))).unwrap_or_default();
    let data = item.changes.as_ref().or(item.data.as_ref());
    let changes = data.and_then(|data| data.get("changes")).and_then(Json::as_object);
    // What has changed says by itself that something has.
    let what = match (&*item.kind, changes, data) {
        ("state_changed", Some(changes), _) => members(changes.iter()),
        ("state_changed", None, Some(changes)) => members(changes.iter()),
        (kind, _, Some(data)) => format!("{}: {}", plain(kind), members(data.iter())),
        (kind, _, None) => plain(kind),
    };
    let what = what.strip_suffix(": ").unwrap_or(&what);
    format!("{}  {:>7}{device}  {what}", time(&item.time), item.seq)
}

fn members<'a>(members: impl Iterator<Item = (&'a String, &'a Json)>) -> String {
    let words = members.map(|(name, found)| format!("{} {}", plain(name), value(found)));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(json: &str) -> String {
        words(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn events_and_history_are_lines() {
        let event = r#"{"id":"g/1/12","seq":12,"type":"state_changed","time":"2025-11-23T10:00:00.5Z","device":"lamp",
            "data":{"changes":{"state":"ON\u001b","level":3}}}"#;
        assert_eq!(said(event), "2025-11-23T10:00:00Z       12  lamp  level 3, state ON\u{fffd}");
        let item =
            r#"{"seq":12,"at":"2025-11-23T10:00:00Z","type":"state_changed","changes":{"state":null}}"#;
        assert_eq!(said(item), "2025-11-23T10:00:00Z       12  state none");
        let other = r#"{"seq":13,"at":"2025-11-23T10:00:00Z","type":"availability_changed",
            "data":{"availability":"offline","cause":"silence"}}"#;
        assert_eq!(
            said(other),
            "2025-11-23T10:00:00Z       13  availability_changed: availability offline, cause silence"
        );
        let bare = r#"{"seq":14,"time":"2025-11-23T10:00:00Z","type":"booted","data":{}}"#;
        assert_eq!(said(bare), "2025-11-23T10:00:00Z       14  booted");
    }
}
