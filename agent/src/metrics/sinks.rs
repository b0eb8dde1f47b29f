//! Metrics of the sinks.

use std::fmt;
use std::sync::atomic::AtomicU64;

use super::{Out, get, seconds};
use crate::forward::sinks::SinkView;
use crate::forward::status::{SinkDetails, SinkState, SinkStatus};

type Counter = (&'static str, &'static str, fn(&SinkStatus) -> &AtomicU64);
const COUNTERS: [Counter; 7] = [
    ("forward_events_acked", "Events the sink has acknowledged.", |s| &s.events_acked),
    ("forward_early_copies_acked", "Copies sent ahead of their turn and acknowledged.", |s| &s.early_acked),
    ("forward_parcels_acked", "Parcels the sink has acknowledged.", |s| &s.parcels_acked),
    ("forward_acked_bytes", "Payload bytes of these, before transport compression.", |s| &s.bytes_acked),
    ("forward_parcels_retried", "Parcels that had to be sent again.", |s| &s.parcels_retried),
    ("forward_dead_letters", "Ranges given up because the sink refuses them.", |s| &s.dead_letters),
    ("forward_connections", "Connections made.", |s| &s.connections),
];

fn label(sink: &SinkView) -> [(&'static str, String); 1] {
    [("sink", sink.name.clone())]
}

pub(super) fn encode(sinks: &[SinkView], out: &mut Out<'_, '_>) -> fmt::Result {
    let details: Vec<(&SinkView, SinkDetails)> = sinks.iter().map(|s| (s, s.status.details())).collect();
    let up = |d: &SinkDetails| u32::from(matches!(d.state, SinkState::Connected { .. }));
    out.gauges("sink_up", "1 while the sink is connected.", details.iter().map(|(s, d)| (label(s), up(d))))?;
    let backlog = details.iter().map(|(s, d)| (label(s), d.backlog_events));
    out.gauges("forward_backlog_events", "Positions that the sink has not acknowledged.", backlog)?;
    let oldest = details.iter().filter_map(|(s, d)| Some((label(s), seconds(d.backlog_oldest?))));
    out.gauges("forward_backlog_oldest_timestamp_seconds", "Log time of the oldest of them.", oldest)?;
    let acked = details.iter().map(|(s, d)| (label(s), d.contiguous.0));
    out.gauges("forward_acked_sequence", "Position before which the sink has everything.", acked)?;
    for (name, help, counter) in COUNTERS {
        out.counters(name, help, sinks.iter().map(|s| (label(s), get(counter(&s.status)))))?;
    }
    Ok(())
}
