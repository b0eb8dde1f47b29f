//! Metrics of the sources.

use std::fmt;

use super::{Out, get};
use crate::ingest::status::State;
use crate::observe::{Outcomes, SparkplugCounts};
use crate::sources::SourceView;

/// Outcomes of messages that record no state.
type Outcome = (&'static str, fn(&Outcomes) -> &std::sync::atomic::AtomicU64);
const OUTCOMES: [Outcome; 5] = [
    ("unchanged", |o| &o.unchanged),
    ("retained_repeat", |o| &o.retained_repeats),
    ("suppressed", |o| &o.suppressed),
    ("quarantined", |o| &o.quarantined),
    ("ignored", |o| &o.ignored),
];

/// One label.
type Label = [(&'static str, String); 1];
/// Two.
type Labels = [(&'static str, String); 2];

fn one(source: &SourceView) -> Label {
    [("source", source.name.clone())]
}

fn two(source: &SourceView, name: &'static str, value: &str) -> Labels {
    [("source", source.name.clone()), (name, value.to_owned())]
}

pub(super) fn encode(sources: &[SourceView], out: &mut Out<'_, '_>) -> fmt::Result {
    connections(sources, out)?;
    traffic(sources, out)?;
    outcomes(sources, out)?;
    sparkplug(sources, out)
}

/// Metrics of sources that are Sparkplug host applications.
fn sparkplug(sources: &[SourceView], out: &mut Out<'_, '_>) -> fmt::Result {
    let hosts: Vec<_> = sources.iter().filter(|source| source.host_id.is_some()).collect();
    if hosts.is_empty() {
        return Ok(());
    }
    type Counter = (&'static str, &'static str, fn(&SparkplugCounts) -> &std::sync::atomic::AtomicU64);
    const COUNTERS: [Counter; 10] = [
        ("sparkplug_births", "Birth certificates from edge nodes and devices.", |s| &s.births),
        ("sparkplug_deaths", "Death certificates that ended a session.", |s| &s.deaths),
        ("sparkplug_stale_deaths", "Death certificates of sessions that had already ended.", |s| {
            &s.stale_deaths
        }),
        ("sparkplug_reordered", "Messages that arrived before their turn and waited.", |s| &s.reordered),
        (
            "sparkplug_gaps",
            "Gaps in the order of messages that were not filled within the reorder timeout.",
            |s| &s.gaps,
        ),
        ("sparkplug_dropped", "Messages dropped because their edge node or device had no birth.", |s| {
            &s.dropped
        }),
        ("sparkplug_unresolved_metrics", "Metrics that no known birth certificate lists.", |s| &s.unresolved),
        ("sparkplug_historical_values", "Values marked as historical.", |s| &s.historical),
        ("sparkplug_transient_values", "Values marked as transient, which are not stored.", |s| &s.transient),
        ("sparkplug_bad_quality_values", "Values whose quality is not good.", |s| &s.bad_quality),
    ];
    let nodes = hosts.iter().flat_map(|source| {
        let counts = &source.outcomes.sparkplug;
        [
            (two(source, "state", "online"), get(&counts.nodes_online)),
            (two(source, "state", "stale"), get(&counts.nodes_stale)),
            (two(source, "state", "offline"), get(&counts.nodes_offline)),
        ]
    });
    let help = "Edge nodes, by state. Stale: online, but some of its messages may have been missed.";
    out.gauges("sparkplug_nodes", help, nodes)?;
    for (name, help, count) in COUNTERS {
        let values = hosts.iter().map(|source| (one(source), get(count(&source.outcomes.sparkplug))));
        out.counters(name, help, values)?;
    }
    let asked = hosts.iter().flat_map(|source| {
        source.outcomes.sparkplug.rebirths().map(|(reason, count)| (two(source, "reason", reason), count))
    });
    out.counters("sparkplug_rebirth_requests", "Requests for birth certificates, by reason.", asked)
}

fn connections(sources: &[SourceView], out: &mut Out<'_, '_>) -> fmt::Result {
    let details: Vec<_> = sources.iter().map(|source| (source, source.status.details())).collect();
    let connected = |state: &State| u32::from(matches!(state, State::Connected { .. }));
    let values = details.iter().map(|(source, details)| (one(source), connected(&details.state)));
    out.gauges("mqtt_connected", "1 while connected to the broker.", values)?;
    let refused = details.iter().map(|(source, details)| (one(source), details.refused.len() as u64));
    out.gauges("mqtt_refused_filters", "Subscriptions that the broker has refused.", refused)?;
    let reasons = details.iter().flat_map(|(source, details)| {
        details.failures.iter().map(|(reason, count)| (two(source, "reason", reason), *count))
    });
    out.counters("mqtt_failures", "Failed connections and connection attempts, by reason.", reasons)?;
    let accepted = sources.iter().map(|source| (one(source), source.status.connections.get()));
    out.counters("mqtt_connections", "Connections that the broker has accepted.", accepted)
}

fn traffic(sources: &[SourceView], out: &mut Out<'_, '_>) -> fmt::Result {
    let received = sources.iter().flat_map(|source| {
        [
            (two(source, "qos", "0"), source.status.received_qos0.get()),
            (two(source, "qos", "1"), source.status.received_qos1.get()),
        ]
    });
    out.counters("mqtt_messages_received", "Messages received, by QoS.", received)?;
    let bytes = sources.iter().map(|source| (one(source), source.status.received_bytes.get()));
    out.counters("mqtt_received_bytes", "Bytes received from the broker.", bytes)?;
    let dup = sources.iter().map(|source| (one(source), source.status.dup.get()));
    out.counters("mqtt_messages_redelivered", "Messages received with the DUP flag.", dup)?;
    let pubacks = sources.iter().map(|source| (one(source), source.status.pubacks.get()));
    out.counters("mqtt_pubacks", "PUBACKs sent, each after its commit.", pubacks)?;
    let unacked = sources.iter().map(|source| (one(source), source.status.unacked.get()));
    out.gauges("mqtt_unacked_messages", "Messages not acknowledged yet.", unacked)
}

fn outcomes(sources: &[SourceView], out: &mut Out<'_, '_>) -> fmt::Result {
    let messages = sources.iter().map(|source| (one(source), get(&source.outcomes.messages)));
    out.counters("ingest_messages", "Messages processed by the writer.", messages)?;
    let events = sources.iter().map(|source| (one(source), get(&source.outcomes.events)));
    out.counters("ingest_events", "Records made from messages.", events)?;
    let outcomes = sources.iter().flat_map(|source| {
        OUTCOMES.map(|(outcome, count)| (two(source, "outcome", outcome), get(count(&source.outcomes))))
    });
    let summarised = sources.iter().map(|source| (one(source), get(&source.outcomes.summarised)));
    out.counters(
        "ingest_quarantine_summarised",
        "Quarantined messages that are recorded only in a summary.",
        summarised,
    )?;
    let clashes = sources.iter().map(|source| (one(source), get(&source.outcomes.clashes)));
    out.counters(
        "ingest_name_clashes",
        "Devices whose id differs from their name because another device has or had that id, plus refused renames.",
        clashes,
    )?;
    let times = sources.iter().map(|source| (one(source), get(&source.outcomes.times_unread)));
    out.counters("ingest_times_unread", "Device times in payloads that could not be parsed.", times)?;
    let late = sources.iter().map(|source| (one(source), get(&source.outcomes.late)));
    out.counters("ingest_late", "Messages that arrived after newer ones and were not recorded.", late)?;
    out.counters("ingest_outcomes", "Messages and values that recorded no state, by outcome.", outcomes)
}
