//! The state of one device.

use fieldlog_wire::api::devices::{AvailabilityCause, Device, DeviceAnswer};
use fieldlog_wire::json::percent;

use super::super::devices::{derived, moment_words, state};
use super::super::moment::Moment;
use super::super::text::{number, plain, span, table, time, value, wrap};
use super::super::{query, say_raw};
use crate::client::{Client, Failure, Reach};
use crate::words::say;

/// Shows a device, as it is now or was at a moment.
pub(in crate::cli) fn show(
    device: &str,
    at: Option<&Moment>,
    json: bool,
    reach: &Reach,
) -> Result<u8, Failure> {
    let path =
        query(&format!("/api/v1/devices/{}", percent(device)), &[("at", at.map(|moment| moment.0.as_str()))]);
    let answer = Client::open(reach)?.get(&path)?;
    match json {
        true => say_raw(&answer.body),
        false => say(&described(&answer.json()?)),
    }
    Ok(0)
}

fn described(answer: &DeviceAnswer<'_>) -> String {
    let device = &answer.device;
    let mut text = answer.as_of.as_ref().map_or_else(String::new, |as_of| wrap(&moment_words(as_of), ""));
    text.push_str(&wrap(&title(device), "  "));
    let cause = match device.availability_cause {
        AvailabilityCause::Topic => "as it was reported",
        AvailabilityCause::Silence => "by its silence",
    };
    let since = match device.retired {
        true => String::new(),
        false => format!(" since {}, {cause}", time(&device.availability_at)),
    };
    let heard = match answer.as_of {
        Some(_) => String::new(),
        None => format!("; heard {} ago", span(device.data_age_s)),
    };
    text.push_str(&wrap(&format!("{}{since}{heard}", state(device)), "  "));
    let records = format!(
        "{}, the newest at sequence {}; source {}",
        number(device.events, "record"),
        device.changed_seq,
        plain(&device.source)
    );
    text.push_str(&wrap(&records, "  "));
    if !device.former_ids.is_empty() {
        let ids: Vec<String> = device.former_ids.iter().map(|id| plain(id)).collect();
        text.push_str(&wrap(&format!("formerly {}", ids.join(", ")), "  "));
    }
    let rows: Vec<_> = device
        .attributes
        .iter()
        .map(|(name, attribute)| {
            [
                plain(name),
                value(&attribute.value),
                plain(&attribute.description.unit),
                attribute.at.as_ref().map_or_else(|| "-".to_owned(), time),
                attribute.seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string()),
            ]
        })
        .chain(device.derived.iter().map(|(name, found)| {
            let at = time(&found.at);
            [
                format!("{} (derived)", plain(name)),
                derived(&found.value),
                plain(&found.unit),
                at,
                found.seq.to_string(),
            ]
        }))
        .collect();
    match rows.is_empty() {
        true => text.push_str("\nNo values.\n"),
        false => {
            text.push('\n');
            text.push_str(&table(["ATTRIBUTE", "VALUE", "UNIT", "CHANGED", "SEQUENCE"], &rows));
        }
    }
    text
}

/// Its id, with what is known of it.
fn title<A>(device: &Device<'_, A>) -> String {
    let mut words = vec![plain(&device.id)];
    if let Some(known) = &device.description {
        let said = [("", &known.name), ("in ", &known.area), ("", &known.manufacturer), ("", &known.model)];
        let said = said.into_iter().filter(|(_, text)| !text.is_empty() && **text != device.id);
        words.extend(said.map(|(before, text)| format!("{before}{}", plain(text))));
    }
    if let Some(parent) = &device.parent {
        words.push(format!("reached through {}", plain(parent)));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_device_is_described() {
        let mut answer = json!({
            "position": {"epoch": "000000000000feed", "applied": 20, "head": 20, "lag": 0},
            "device": {
                "id": "lamp", "namespace": null, "called": "lamp", "former_ids": ["old\u{1b}"], "source": "home",
                "parent": "hub", "availability": "online", "availability_cause": "silence",
                "availability_at": "2025-11-23T10:00:00Z", "offline_because": null, "retired": false,
                "description": {"name": "Kitchen lamp", "area": "kitchen", "model": "TRADFRI"},
                "discovered_at": "2025-11-23T10:00:00Z", "changed_seq": 5, "changed_at": "2025-11-23T10:00:00Z",
                "device_time": null, "heard_at": null, "data_age_s": 61.0, "events": 1300,
                "attributes": {
                    "state": {"value": "ON", "seq": 5, "at": "2025-11-23T10:00:00Z"},
                    "temperature": {"value": 21.5, "seq": 4, "at": "2025-11-23T09:00:00Z", "unit": "°C"},
                    "later": {"value": null, "seq": null, "at": null}
                }
            }
        });
        let text = described(&serde_json::from_value(answer.clone()).unwrap());
        assert_eq!(
            text,
            "lamp, Kitchen lamp, in kitchen, TRADFRI, reached through hub\n\
             online since 2025-11-23T10:00:00Z, by its silence; heard 1 min ago\n\
             1,300 records, the newest at sequence 5; source home\n\
             formerly old\u{fffd}\n\n\
             ATTRIBUTE    VALUE  UNIT  CHANGED               SEQUENCE\n\
             later        none         -                     -\n\
             state        ON           2025-11-23T10:00:00Z  5\n\
             temperature  21.5   °C    2025-11-23T09:00:00Z  4\n"
        );
        answer["device"]["derived"] = json!({"hot": {"value": true, "seq": 4, "at": "2025-11-23T09:00:00Z"}});
        let text = described(&serde_json::from_value(answer.clone()).unwrap());
        assert!(text.ends_with("\nhot (derived)  true         2025-11-23T09:00:00Z  4\n"), "{text}");
        answer["device"]["derived"] = json!({});
        answer["as_of"] = json!({"seq": 5, "time": "2025-11-23T10:30:00Z", "exact": true, "replayed": 0});
        answer["device"]["attributes"] = json!({});
        let text = described(&serde_json::from_value(answer).unwrap());
        assert!(
            text.starts_with("The state at 2025-11-23T10:30:00Z, after the record at sequence 5:\n"),
            "{text}"
        );
        assert!(!text.contains("heard") && text.ends_with("\nNo values.\n"), "{text}");
    }
}
