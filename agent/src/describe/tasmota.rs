//! Tasmota's discovery: `tasmota/discovery/MAC/config` describes the device, `…/sensors` has a sample of its readings.
//! <https://tasmota.github.io/docs/Home-Assistant/>; the names of readings determine their units.

use fieldlog_projections::{AttributeDescription, DataType, DeviceDescription};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Address, Announced, Announcement, Announcements, DescribeError, Parts, join, lenient};

/// Readings, in objects of any name: unit and device class.
const READINGS: [(&str, &str, &str); 22] = [
    ("Humidity", "%", "humidity"),
    ("Illuminance", "lx", "illuminance"),
    ("CarbonDioxide", "ppm", "carbon_dioxide"),
    ("eCO2", "ppm", ""),
    ("TVOC", "ppb", ""),
    ("PM1", "µg/m³", "pm1"),
    ("PM2.5", "µg/m³", "pm25"),
    ("PM10", "µg/m³", "pm10"),
    ("Moisture", "%", "moisture"),
    ("BatteryPercentage", "%", "battery"),
    ("Voltage", "V", "voltage"),
    ("Current", "A", "current"),
    ("Power", "W", "power"),
    ("ApparentPower", "VA", "apparent_power"),
    ("ReactivePower", "var", "reactive_power"),
    ("Factor", "", "power_factor"),
    ("Frequency", "Hz", "frequency"),
    ("Total", "kWh", "energy"),
    ("Today", "kWh", "energy"),
    ("Yesterday", "kWh", "energy"),
    ("ExportActive", "kWh", "energy"),
    ("ImportActive", "kWh", "energy"),
];
/// Readings that have this meaning only in the object of an energy meter.
const OF_ENERGY: [&str; 13] = [
    "Voltage",
    "Current",
    "Power",
    "ApparentPower",
    "ReactivePower",
    "Factor",
    "Frequency",
    "Total",
    "Today",
    "Yesterday",
    "ExportActive",
    "ImportActive",
    "Period",
];
/// Maximum nesting of objects.
const DEPTH_MAX: usize = 4;

#[derive(Deserialize)]
struct Config {
    #[serde(default, deserialize_with = "lenient")]
    mac: Option<String>,
    /// Device name.
    #[serde(default, deserialize_with = "lenient")]
    dn: Option<String>,
    /// Module.
    #[serde(default, deserialize_with = "lenient")]
    md: Option<String>,
    /// Names of the outputs.
    #[serde(default, rename = "fn", deserialize_with = "lenient")]
    names: Option<Vec<Option<String>>>,
    /// Topic.
    #[serde(default, deserialize_with = "lenient")]
    t: Option<String>,
    /// Full topic.
    #[serde(default, deserialize_with = "lenient")]
    ft: Option<String>,
    /// Prefixes of commands, answers and telemetry.
    #[serde(default, deserialize_with = "lenient")]
    tp: Option<Vec<String>>,
    /// Outputs: 0 none, 1 relay, 2 light, 3 shutter.
    #[serde(default, deserialize_with = "lenient")]
    rl: Option<Vec<u8>>,
    /// Words for off, on, toggle and hold.
    #[serde(default, deserialize_with = "lenient")]
    state: Option<Vec<String>>,
    /// Options by number.
    #[serde(default, deserialize_with = "lenient")]
    so: Option<Map<String, Value>>,
}

/// Either of the two messages.
pub(super) fn discovery(topic: &str, text: &str) -> Result<Announcements, DescribeError> {
    if text.is_empty() {
        return Ok(Announcements::default());
    }
    let device = match topic.rsplit_once('/') {
        Some((_, "config")) => config(serde_json::from_str(text)?),
        Some((before, "sensors")) => {
            let mac = before.rsplit('/').next().unwrap_or_default();
            sensors(mac, &serde_json::from_str(text)?)
        }
        _ => None,
    };
    Ok(Announcements { devices: device.into_iter().collect(), complete: false })
}

fn config(config: Config) -> Option<Announcement> {
    let (topic, full) = (config.t?, config.ft?);
    let telemetry = config.tp?.into_iter().nth(2)?;
    let full = full.replace("%prefix%", &telemetry).replace("%topic%", &topic);
    let base = full.trim_end_matches('/').to_owned();
    let outputs = config.rl.unwrap_or_default();
    let names = config.names.unwrap_or_default();
    let words = config.state.filter(|words| words.len() >= 2);
    // SetOption26: the first output has a number even if it is the only one.
    let numbered = outputs.iter().filter(|kind| **kind != 0).count() > 1
        || config.so.is_some_and(|options| options.get("26").and_then(Value::as_u64) == Some(1));
    let output = |(index, kind): (usize, &u8)| {
        // A light has one switch and further attributes; a shutter uses several outputs.
        (*kind == 1).then(|| Announced {
            topic: format!("{base}/STATE"),
            path: if numbered { format!("POWER{}", index + 1) } else { "POWER".to_owned() },
            description: AttributeDescription {
                name: names.get(index).cloned().flatten().unwrap_or_default(),
                data_type: if words.is_some() { DataType::Enum } else { DataType::Unknown },
                values: words.as_ref().map(|words| words[..2].to_vec()).unwrap_or_default(),
                writable: Some(true),
                ..AttributeDescription::default()
            },
            parts: Parts::Whole,
        })
    };
    Some(Announcement {
        introduces: config.mac.clone().map(|mac| (mac, format!("{base}/SENSOR"))),
        device: Address::Availability(vec![format!("{base}/LWT")]),
        joined: true,
        description: DeviceDescription {
            stable_id: config.mac.unwrap_or_default(),
            name: config.dn.unwrap_or_default(),
            model: config.md.unwrap_or_default(),
            ..DeviceDescription::default()
        },
        parts: Parts::Whole,
        attributes: outputs.iter().enumerate().filter_map(output).collect(),
        complete: false,
    })
}

fn sensors(mac: &str, document: &Map<String, Value>) -> Option<Announcement> {
    let readings = document.get("sn")?.as_object()?;
    let unit = |key: &str| readings.get(key).and_then(Value::as_str);
    let temperature = match unit("TempUnit") {
        Some("F") => "°F",
        Some("C") => "°C",
        _ => "",
    };
    let pressure = unit("PressureUnit").unwrap_or_default();
    let mut attributes = Vec::new();
    walk(readings, "", 0, &mut |path, key, in_energy| {
        let (unit, class) = match key {
            "Temperature" | "DewPoint" => (temperature, "temperature"),
            "Pressure" | "SeaPressure" => (pressure, "pressure"),
            _ if OF_ENERGY.contains(&key) && !in_energy => return,
            _ => match READINGS.iter().find(|(name, _, _)| *name == key) {
                Some((_, unit, class)) => (*unit, *class),
                None => return,
            },
        };
        attributes.push(Announced {
            topic: String::new(),
            path,
            description: AttributeDescription {
                unit: unit.into(),
                device_class: class.into(),
                data_type: DataType::Number,
                writable: Some(false),
                ..AttributeDescription::default()
            },
            parts: Parts::Whole,
        });
    });
    Some(Announcement { device: Address::Introduced(mac.to_owned()), attributes, ..Announcement::default() })
}

fn walk(object: &Map<String, Value>, path: &str, depth: usize, visit: &mut impl FnMut(String, &str, bool)) {
    if depth >= DEPTH_MAX {
        return;
    }
    for (key, value) in object {
        let below = join(path, key);
        match value {
            Value::Object(inner) => walk(inner, &below, depth + 1, visit),
            Value::Number(_) => visit(below, key, path == "ENERGY"),
            _ => {}
        }
    }
}
