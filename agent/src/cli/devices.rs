//! `fieldlog devices`.

use std::process::ExitCode;

use fieldlog_wire::api::devices::{AsOf, Availability, DerivedValue, Device, DevicePage, Inexact};

use super::moment::Moment;
use super::text::{plain, span, table, time, value, wrap};
use super::{end, query, say_raw};
use crate::client::{Client, Failure, Reach};
use crate::words::say;

/// Devices of one request, at most.
const PAGE: &str = "1000";

/// Which devices.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Filter {
    /// Only those of this source.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only those that are online, offline or unknown.
    #[arg(long, value_name = "STATE", value_parser = ["online", "offline", "unknown"])]
    availability: Option<String>,
    /// Retired ones, too.
    #[arg(long)]
    retired: bool,
    /// Print the answers as they are, one on each line.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

/// Arguments of `fieldlog devices`.
#[derive(Clone, Debug, clap::Args)]
pub struct DevicesArgs {
    #[command(flatten)]
    filter: Filter,
}

/// Runs `fieldlog devices`.
pub fn main(args: &DevicesArgs) -> ExitCode {
    end(listed(&args.filter, None))
}

/// Lists the devices, as they are or were at a moment.
pub(super) fn listed(filter: &Filter, moment: Option<&Moment>) -> Result<u8, Failure> {
    let client = Client::open(&filter.reach)?;
    let mut at = moment.map(|moment| moment.0.clone());
    let (mut after, mut rows, mut as_of) = (None, Vec::new(), None);
    loop {
        let path = query(
            "/api/v1/devices",
            &[
                ("limit", Some(PAGE)),
                ("source", filter.source.as_deref()),
                ("availability", filter.availability.as_deref()),
                ("retired", filter.retired.then_some("true")),
                ("at", at.as_deref()),
                ("after", after.as_deref()),
            ],
        );
        let answer = client.get(&path)?;
        let page: DevicePage<'_> = answer.json()?;
        if filter.json {
            say_raw(&answer.body);
        }
        rows.extend(page.devices.iter().map(row));
        if let Some(found) = page.as_of {
            // The next pages are of the same moment, even if that is not over yet.
            at = Some(found.seq.to_string());
            as_of.get_or_insert(found);
        }
        match page.next {
            Some(next) => after = Some(next.into_owned()),
            None => break,
        }
    }
    if filter.json {
        return Ok(0);
    }
    if let Some(as_of) = &as_of {
        say(&wrap(&moment_words(as_of), "  "));
    }
    if rows.is_empty() {
        say("No such devices.\n");
    } else {
        say(&table(["DEVICE", "STATE", "HEARD", "VALUES"], &rows));
    }
    Ok(0)
}

fn row(device: &Device<'_>) -> [String; 4] {
    let unit = |name: &String| device.units.as_ref().and_then(|units| units.get(name.as_str()));
    let values = device.attributes.iter().map(|(name, found)| {
        let unit = unit(name).map(|unit| format!(" {}", plain(unit))).unwrap_or_default();
        format!("{} {}{unit}", plain(name), value(found))
    });
    let computed = device.derived.iter().map(|(name, found)| {
        let unit = if found.unit.is_empty() { String::new() } else { format!(" {}", plain(&found.unit)) };
        format!("{} {}{unit}", plain(name), derived(&found.value))
    });
    let values: Vec<String> = values.chain(computed).collect();
    [plain(&device.id), state(device), span(device.data_age_s), values.join(", ")]
}

/// A value that was computed.
pub(super) fn derived(value: &DerivedValue) -> String {
    match value {
        DerivedValue::Bool(flag) => flag.to_string(),
        DerivedValue::Number(number) => number.to_string(),
    }
}

/// Whether it is reachable, in few words.
pub(super) fn state<A>(device: &Device<'_, A>) -> String {
    let availability = match device.availability {
        Availability::Unknown => "unknown",
        Availability::Online => "online",
        Availability::Offline => "offline",
    };
    match (device.retired, &device.offline_because) {
        (true, _) => "retired".to_owned(),
        (false, Some(parent)) => format!("offline (by {})", plain(parent)),
        (false, None) => availability.to_owned(),
    }
}

/// What a past state is, in a sentence.
pub(super) fn moment_words(as_of: &AsOf) -> String {
    let mut text = format!("The state at {}, after the record at sequence {}", time(&as_of.time), as_of.seq);
    match as_of.inexact_because {
        Some(Inexact::Unsettled) => text.push_str("; the moment is so recent that it may still change"),
        Some(Inexact::BeforeLog) => text.push_str("; the log begins later"),
        None => {}
    }
    text + ":"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_device_is_a_line() {
        let mut device = json!({
            "id": "lamp\u{202e}", "namespace": null, "called": "lamp", "former_ids": [], "source": "home",
            "parent": null, "availability": "online", "availability_cause": "topic",
            "availability_at": "2025-11-23T10:00:00Z", "offline_because": null, "retired": false,
            "discovered_at": "2025-11-23T10:00:00Z", "changed_seq": 5, "changed_at": "2025-11-23T10:00:00Z",
            "device_time": null, "heard_at": null, "data_age_s": 61.0, "events": 3,
            "attributes": {"state": "ON", "temperature": 21.5}, "units": {"temperature": "°C"}
        });
        let line = |device: &serde_json::Value| row(&serde_json::from_value(device.clone()).unwrap());
        device["derived"] =
            json!({"load": {"value": 2.5, "unit": "kW", "seq": 5, "at": "2025-11-23T10:00:00Z"}});
        assert_eq!(line(&device)[3], "state ON, temperature 21.5 °C, load 2.5 kW");
        device.as_object_mut().unwrap().remove("derived");
        assert_eq!(line(&device), ["lamp\u{fffd}", "online", "1 min", "state ON, temperature 21.5 °C"]);
        device["offline_because"] = json!("hub");
        assert_eq!(line(&device)[1], "offline (by hub)");
        device["retired"] = json!(true);
        assert_eq!(line(&device)[1], "retired");
    }

    #[test]
    fn a_past_state_says_how_exact_it_is() {
        let words = |because| {
            let mut as_of = json!({"seq": 5, "time": "2025-11-23T10:00:00Z", "exact": true, "replayed": 0});
            as_of["inexact_because"] = because;
            moment_words(&serde_json::from_value(as_of).unwrap())
        };
        assert_eq!(words(json!(null)), "The state at 2025-11-23T10:00:00Z, after the record at sequence 5:");
        assert!(words(json!("unsettled")).ends_with("; the moment is so recent that it may still change:"));
        assert!(words(json!("before-log")).ends_with("; the log begins later:"));
    }
}
