//! The announcement and the state of the gateway.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::document::{Announcer, texts, written};

/// The state of the gateway. What is unknown is null.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct GatewayState {
    /// The position of the view.
    pub(super) seq: u64,
    /// Records per minute since the last state.
    pub(super) events_per_minute: Option<f64>,
    /// Free MiB of the log's file system.
    pub(super) disk_free_mib: Option<u64>,
    /// MiB written per day, at the rate since the start.
    pub(super) written_mib_per_day: Option<u64>,
    /// Open alerts.
    pub(super) alerts_open: Option<u64>,
    /// Messages in the quarantine.
    pub(super) quarantined: Option<u64>,
    /// Devices that are offline.
    pub(super) devices_offline: u64,
    /// The sinks, by name.
    pub(super) sinks: BTreeMap<String, SinkState>,
}

/// The state of a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct SinkState {
    pub(super) connected: bool,
    /// Records that it lacks.
    pub(super) backlog_events: Option<u64>,
}

/// Key, name, unit, device class and state class of the gateway's numbers.
const NUMBERS: [[&str; 5]; 7] = [
    ["seq", "Log position", "", "", "total_increasing"],
    ["events_per_minute", "Events per minute", "events/min", "", "measurement"],
    ["disk_free_mib", "Free disk", "MiB", "data_size", "measurement"],
    ["written_mib_per_day", "Flash written per day", "MiB/d", "", "measurement"],
    ["alerts_open", "Open alerts", "", "", "measurement"],
    ["quarantined", "Quarantine", "messages", "", "measurement"],
    ["devices_offline", "Devices offline", "devices", "", "measurement"],
];

impl Announcer {
    /// The announcement of the gateway with these sinks.
    pub(super) fn gateway_config(&self, sinks: &[String]) -> Vec<u8> {
        let id = self.topics.id();
        let device = texts(&[
            ("ids", &id),
            ("name", &format!("fieldlog {}", self.gateway)),
            ("mf", "fieldlog"),
            ("mdl", "MQTT gateway"),
            ("sw", env!("CARGO_PKG_VERSION")),
        ]);
        let mut components = Map::new();
        components.insert("running".into(), self.running().into());
        for [key, name, unit, class, state_class] in NUMBERS {
            let entity = number(name, unit, class, state_class, &format!("value_json.{key}"));
            components.insert(key.into(), self.own(key, entity).into());
        }
        for sink in sinks {
            let place = format!("value_json.sinks['{sink}']");
            let name = format!("Sink {sink} backlog");
            let place_of = |key: &str| format!("{place}.{key}");
            let entity = number(&name, "events", "", "measurement", &place_of("backlog_events"));
            let id = format!("sink_{sink}_backlog");
            components.insert(id.clone(), self.own(&id, entity).into());
            let id = format!("sink_{sink}_connected");
            let entity = connectivity(&format!("Sink {sink} connected"), &place_of("connected"));
            components.insert(id.clone(), self.own(&id, entity).into());
        }
        written(self.announcement(device, self.topics.status(), components))
    }

    /// Whether the gateway is there. It must be off when the gateway is not, and not unavailable like the others.
    fn running(&self) -> Map<String, Value> {
        let entity = |more: &[(&str, &str)]| {
            let common = [("p", "binary_sensor"), ("name", "Running"), ("dev_cla", "connectivity")];
            texts(&[&common, more].concat())
        };
        let Some(will) = &self.will else {
            return self.own("running", entity(&[("val_tpl", "ON")]));
        };
        let mut entity =
            entity(&[("stat_t", &will.topic), ("pl_on", &will.online), ("pl_off", &will.offline)]);
        entity.insert("uniq_id".into(), format!("{}.running", self.topics.id()).into());
        entity.insert("ent_cat".into(), "diagnostic".into());
        entity
    }
}

fn number(name: &str, unit: &str, class: &str, state_class: &str, place: &str) -> Map<String, Value> {
    texts(&[
        ("p", "sensor"),
        ("name", name),
        ("unit_of_meas", unit),
        ("dev_cla", class),
        ("stat_cla", state_class),
        ("val_tpl", &format!("{{{{ {place} }}}}")),
    ])
}

fn connectivity(name: &str, place: &str) -> Map<String, Value> {
    texts(&[
        ("p", "binary_sensor"),
        ("name", name),
        ("dev_cla", "connectivity"),
        ("pl_on", "True"),
        ("pl_off", "False"),
        ("val_tpl", &format!("{{{{ {place} }}}}")),
    ])
}
