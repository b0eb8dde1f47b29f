//! `[sink.commands]`: commands that come from where events are sent.

use std::time::Duration;

use serde::Serialize;

use super::super::raw::Table;
use super::super::written;
use super::place::{expand, is_subject};
use super::{SinkConfig, SinkTarget};
use fieldlog_rules::topic;
use fieldlog_wire::Lane;

const DAY_S: u64 = 86_400;

/// `[sink.commands]` of an MQTT sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MqttCommands {
    /// `topic` (default `fieldlog/{gateway}/commands/#`): the filter; the device id is what stands in place of `#`.
    /// `{gateway}` is replaced.
    pub topic: String,
    /// `session_expiry_s` (60–31,536,000; default 86,400; at most `limits.command_key_s`): how long the broker keeps
    /// commands while the gateway is away. MQTT 5 only.
    #[serde(rename = "session_expiry_s", serialize_with = "written::seconds")]
    pub session_expiry: Duration,
}

/// `[sink.commands]` of a NATS sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NatsCommands {
    /// `subject` (default `fieldlog.commands.{gateway}.>`): the device id is what stands in place of `>`. `{gateway}`
    /// (its dots as underscores) is replaced.
    pub subject: String,
}

impl MqttCommands {
    /// What stands in place of `#`; empty if nothing does.
    pub fn device<'t>(&self, topic: &'t str) -> &'t str {
        let rest = topic.strip_prefix(self.topic.trim_end_matches("/#"));
        rest.and_then(|rest| rest.strip_prefix('/')).unwrap_or_default()
    }
}

impl NatsCommands {
    /// What stands in place of `>`; empty if nothing does.
    pub fn device<'t>(&self, subject: &'t str) -> &'t str {
        subject.strip_prefix(self.subject.trim_end_matches('>')).unwrap_or_default()
    }
}

/// `events` is the topic of the events as configured; no parcel may come back as a command.
pub(super) fn mqtt(table: &mut Table<'_>, gateway_id: &str, events: &str) -> Option<MqttCommands> {
    let mut table = table.table_if_present("commands")?;
    let filter = template(&mut table, "topic", "fieldlog/{gateway}/commands/#", gateway_id);
    let session_expiry =
        Duration::from_secs(table.integer("session_expiry_s", 60..=31_536_000, "seconds", DAY_S));
    match filter.strip_suffix("/#").map(topic::check_name) {
        Some(Ok(())) if !filter.starts_with('$') => {
            let lanes = [Lane::Live, Lane::Backlog, Lane::Priority];
            let mut events = lanes.iter().map(|lane| expand(events, gateway_id, *lane));
            if let Some(topic) = events.find(|topic| topic::filter_matches(&filter, topic)) {
                let what = format!("{filter:?} takes {topic:?}, on which this sink sends events");
                table.fault("topic", what, "use topics of their own: events are no commands");
            }
        }
        _ => {
            let what = format!("{filter:?} has no place for the device id");
            table.fault(
                "topic",
                what,
                "use a topic that ends with /#, such as \"fieldlog/{gateway}/commands/#\"",
            );
        }
    }
    table.finish();
    Some(MqttCommands { topic: filter, session_expiry })
}

/// The same for NATS; `events` is the subject of the events as configured.
pub(super) fn nats(table: &mut Table<'_>, gateway_id: &str, events: &str) -> Option<NatsCommands> {
    let mut table = table.table_if_present("commands")?;
    let gateway = gateway_id.replace('.', "_");
    let subject = template(&mut table, "subject", "fieldlog.commands.{gateway}.>", &gateway);
    match subject.strip_suffix(".>") {
        Some(prefix) if is_subject(prefix) => {
            let dotted = format!("{prefix}.");
            let mut events =
                [Lane::Live, Lane::Backlog].map(|lane| expand(events, &gateway, lane)).into_iter();
            if let Some(events) = events.find(|events| events.starts_with(&dotted)) {
                let what = format!("{subject:?} takes {events:?}, on which this sink sends events");
                table.fault("subject", what, "use subjects of their own: events are no commands");
            }
        }
        _ => {
            let what = format!("{subject:?} has no place for the device id");
            table.fault(
                "subject",
                what,
                "use one that ends with .>, such as \"fieldlog.commands.{gateway}.>\"",
            );
        }
    }
    table.finish();
    Some(NatsCommands { subject })
}

fn template(table: &mut Table<'_>, key: &'static str, default: &str, gateway_id: &str) -> String {
    let Some(found) = table.filled(key) else { return default.replace("{gateway}", gateway_id) };
    let filled = found.value.replace("{gateway}", gateway_id);
    if filled.contains(['{', '}']) {
        let what = format!("{:?} has a brace that belongs to no placeholder", found.value);
        table.fault_at(key, found.origin.as_deref(), what, "use {gateway}");
        return default.replace("{gateway}", gateway_id);
    }
    filled
}

/// A broker may send a command again as long as it keeps the session, and the key is what shows that it is the same.
pub(super) fn check_keys(table: &Table<'_>, sink: &SinkConfig, command_key: Duration) {
    let SinkTarget::Mqtt(mqtt) = &sink.target else { return };
    let Some(commands) = mqtt.commands.as_ref().filter(|commands| commands.session_expiry > command_key)
    else {
        return;
    };
    let what = format!(
        "it is {} seconds, but the key of a command is remembered for {} (limits.command_key_s)",
        commands.session_expiry.as_secs(),
        command_key.as_secs()
    );
    let hint = "make limits.command_key_s as long, or a command that the broker sends again could be carried out twice";
    table.fault("commands.session_expiry_s", what, hint);
}
