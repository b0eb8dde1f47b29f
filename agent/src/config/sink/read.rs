//! The checked stage of `[[sink]]`: the keys that all sinks have.

use std::time::Duration;

use fieldlog_projections::stored;

use super::super::raw::Table;
use super::super::source::{name, narrow, seconds};
use super::super::{Address, Decoder, SourceConfig, hints, rule};
use super::commands;
use super::place::expand;
use super::target;
use super::{MqttSink, SinkConfig, SinkFilter, SinkFormat, SinkTarget};
use crate::config::Order;
use crate::config::When;
use crate::config::rules::Rules;
use fieldlog_wire::Lane;

const BACKLOG_SHARE: f64 = 0.5;

/// `sources` are those of the same configuration: a sink must not conflict with them. `command_key` is
/// `limits.command_key_s`.
pub(in super::super) fn read_all(
    table: &mut Table<'_>,
    gateway_id: &str,
    sources: &[SourceConfig],
    command_key: Duration,
) -> Vec<SinkConfig> {
    let mut sinks: Vec<SinkConfig> = Vec::new();
    for mut entry in table.tables("sink").unwrap_or_default() {
        if let Some(sink) = read(&mut entry, gateway_id) {
            check_unique(&entry, &sink, &sinks);
            commands::check_keys(&entry, &sink, command_key);
            if let SinkTarget::Mqtt(mqtt) = &sink.target {
                check_session(&entry, mqtt, &sinks, sources);
                check_loop(&entry, &sink, mqtt, gateway_id, sources);
            }
            sinks.push(sink);
        }
        entry.finish();
    }
    sinks
}

fn read(table: &mut Table<'_>, gateway_id: &str) -> Option<SinkConfig> {
    let name = name(table, "give the sink a short name, such as \"cloud\"");
    let target = target::read(table, gateway_id, name.as_deref().unwrap_or_default());
    let format = table.choice("format").unwrap_or(SinkFormat::Json);
    let order = order(table, target.as_ref());
    if let Some(target) = &target {
        check_format(table, target, format);
    }
    let filter = filter(table);
    Some(SinkConfig {
        format,
        order,
        priority: priority(table, target.as_ref(), order, &filter),
        backlog_share: backlog_share(table, order),
        bandwidth_bytes_per_s: table.integer_or_none(
            "bandwidth_bytes_per_s",
            100..=10_000_000_000,
            "bytes per second",
            None,
        ),
        parcel_events_max: narrow(table.integer("parcel_events_max", 1..=10_000, "events", 500)),
        parcel_bytes_max: table.size("parcel_bytes_max", 1_024..=16_777_216, "bytes", 262_144),
        parcel_delay: Duration::from_millis(table.integer("parcel_delay_ms", 0..=60_000, "milliseconds", 10)),
        in_flight_max: narrow(table.integer("in_flight_max", 1..=64, "parcels", 4)),
        required: table.flag("required", true),
        refused: table.choice("refused").unwrap_or_default(),
        filter,
        connect_timeout: seconds(table, "connect_timeout_s", 1, 300, 20),
        answer_timeout: seconds(table, "answer_timeout_s", 1, 600, 30),
        backoff_max: seconds(table, "backoff_max_s", 1, 3_600, 60),
        // Without them there is no sink, but all other faults of the table were reported.
        name: name?,
        target: target?,
    })
}

/// A JetStream subject numbers its messages, which is how duplicates are prevented; this needs one order.
fn order(table: &mut Table<'_>, target: Option<&SinkTarget>) -> Order {
    let default = match target {
        Some(SinkTarget::Nats(_)) => Order::Strict,
        _ => Order::LiveFirst,
    };
    table.choice("order").unwrap_or(default)
}

fn backlog_share(table: &mut Table<'_>, order: Order) -> f64 {
    let share = table.number_in("backlog_share", 0.05..=0.95, "0.05 to 0.95", BACKLOG_SHARE);
    if order == Order::Strict && table.was_written("backlog_share") {
        table.fault(
            "backlog_share",
            "it has no effect when order is \"strict\"",
            "remove it, or set order = \"live-first\"",
        );
    }
    share
}

fn check_format(table: &Table<'_>, target: &SinkTarget, format: SinkFormat) {
    match (target, format) {
        (SinkTarget::Kafka(_), SinkFormat::Compact) => table.fault(
            "format",
            "kafka:// takes one record per event, and so only \"json\"",
            "remove it, or use another address",
        ),
        (SinkTarget::Http(_), SinkFormat::Compact) if table.was_written("gzip") => table.fault(
            "gzip",
            "it has no effect when format is \"compact\", which is compressed already",
            "remove it",
        ),
        _ => {}
    }
}

fn filter(table: &mut Table<'_>) -> SinkFilter {
    let filter = SinkFilter {
        devices: table.texts("devices").unwrap_or_default(),
        types: table.texts("types").unwrap_or_default(),
    };
    rule::check_patterns(table, "devices", &filter.devices);
    check_types(table, "types", &filter.types);
    filter
}

fn check_types(table: &Table<'_>, key: &str, names: &[String]) {
    for (index, name) in names.iter().enumerate() {
        if stored::type_named(name).is_none() {
            let what = format!("there is no event type {name:?}");
            table.fault(&format!("{key}[{index}]"), what, type_hint(name));
        }
    }
}

fn priority(
    table: &mut Table<'_>,
    target: Option<&SinkTarget>,
    order: Order,
    filter: &SinkFilter,
) -> Vec<String> {
    let names = table.texts("priority").unwrap_or_default();
    check_types(table, "priority", &names);
    let nats = matches!(target, Some(SinkTarget::Nats(_)));
    match order {
        _ if names.is_empty() => {}
        _ if nats => table.fault(
            "priority",
            "a JetStream takes the parcels of a subject in one order, in which nothing can go ahead",
            "remove it, or use another address",
        ),
        Order::Strict => table.fault(
            "priority",
            "nothing can go ahead of its turn when order is \"strict\"",
            "remove it, or set order = \"live-first\"",
        ),
        Order::LiveFirst => {}
    }
    for (index, name) in names.iter().enumerate() {
        if !filter.types.is_empty() && !filter.types.contains(name) && stored::type_named(name).is_some() {
            let what = format!("{name} is not among the types that are sent");
            table.fault(&format!("priority[{index}]"), what, "add it to types, or remove it here");
        }
    }
    names
}

fn type_hint(name: &str) -> String {
    let mut known: Vec<&str> = stored::KINDS.iter().map(|(_, _, name)| *name).collect();
    known.dedup();
    let hint = hints::did_you_mean(name, &known);
    hint.unwrap_or_else(|| format!("it must be {}", hints::one_of(&known)))
}

fn check_unique(table: &Table<'_>, sink: &SinkConfig, others: &[SinkConfig]) {
    if others.iter().any(|other| other.name == sink.name) {
        table.fault("name", format!("{:?} is used by another sink", sink.name), "give each its own name");
    }
}

fn check_session(table: &Table<'_>, mqtt: &MqttSink, sinks: &[SinkConfig], sources: &[SourceConfig]) {
    let same = |client_id: &str, address| client_id == mqtt.client_id && same_broker(address, &mqtt.address);
    let source = sources.iter().find(|source| same(&source.client_id, &source.address));
    let sink = sinks.iter().find(
        |sink| matches!(&sink.target, SinkTarget::Mqtt(other) if same(&other.client_id, &other.address)),
    );
    let other = match (source, sink) {
        (Some(source), _) => format!("source {:?}", source.name),
        (None, Some(sink)) => format!("sink {:?}", sink.name),
        (None, None) => return,
    };
    let what = format!("{other} has the same client id at the same broker");
    table.fault("client_id", what, "they would disconnect each other; give each its own");
}

/// What a sink sends must not come back as events: they would be sent as well, in an endless loop.
fn check_loop(
    table: &Table<'_>,
    sink: &SinkConfig,
    mqtt: &MqttSink,
    gateway_id: &str,
    sources: &[SourceConfig],
) {
    let lanes: &[Lane] = if sink.priority.is_empty() {
        &[Lane::Live, Lane::Backlog]
    } else {
        &[Lane::Live, Lane::Backlog, Lane::Priority]
    };
    let topics: Vec<String> = lanes.iter().map(|lane| expand(&mqtt.topic, gateway_id, *lane)).collect();
    for source in sources.iter().filter(|source| same_broker(&source.address, &mqtt.address)) {
        if let Some(topic) = topics.iter().find(|topic| takes(source, topic, false)) {
            let what = format!("source {:?} takes {topic:?} from the same broker", source.name);
            table.fault("topic", what, "events would go round for ever; exclude the topic from the source");
            return;
        }
    }
}

/// Whether a source records what is published on a topic; `any`: also if that depends on the payload.
pub(in super::super) fn takes(source: &SourceConfig, topic: &str, any: bool) -> bool {
    let Ok(rules) = Rules::compile(source) else { return false };
    for rule in rules.find(topic).filter_map(|found| source.rules.get(found.rule)) {
        match rule.decoder {
            _ if !any && !rule.when.iter().all(When::is_of_topic) => {}
            Decoder::Ignore => return false,
            _ => return true,
        }
    }
    false
}

fn same_broker(a: &Address, b: &Address) -> bool {
    (&a.host, a.port) == (&b.host, b.port)
}
