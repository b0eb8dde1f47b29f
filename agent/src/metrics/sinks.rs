//! Metrics of the sinks.

use std::fmt;
use std::sync::atomic::AtomicU64;

use super::{Out, get, seconds};
use crate::forward::backlog::Backlog;
use crate::forward::sinks::SinkView;
use crate::forward::status::{SinkDetails, SinkState, SinkStatus};
use crate::log::LogReader;

type Counter = (&'static str, &'static str, fn(&SinkStatus) -> &AtomicU64);
const COUNTERS: [Counter; 9] = [
    ("forward_events_acked", "Events the sink has acknowledged.", |s| &s.events_acked),
    ("forward_priority_copies_acked", "Priority copies the sink has acknowledged.", |s| &s.priority_acked),
    ("forward_parcels_acked", "Parcels the sink has acknowledged.", |s| &s.parcels_acked),
    ("forward_acked_bytes", "Payload bytes of acknowledged parcels, before transport compression.", |s| {
        &s.bytes_acked
    }),
    ("forward_parcels_retried", "Parcels sent again.", |s| &s.parcels_retried),
    ("forward_dead_letters", "Refused events that were skipped.", |s| &s.dead_letters),
    ("forward_resend_requests", "Requests of the receiver to send something again.", |s| &s.resend_requests),
    ("forward_events_resent", "Events the sink has acknowledged after such a request.", |s| &s.events_resent),
    ("forward_connections", "Connections to the sink.", |s| &s.connections),
];

fn label(sink: &SinkView) -> [(&'static str, String); 1] {
    [("sink", sink.name.clone())]
}

pub(super) fn encode(sinks: &[SinkView], reader: &LogReader, out: &mut Out<'_, '_>) -> fmt::Result {
    let details: Vec<(&SinkView, SinkDetails)> = sinks.iter().map(|s| (s, s.status.details())).collect();
    states(&details, out)?;
    backlogs(&details, reader, out)?;
    let acked = details.iter().map(|(s, d)| (label(s), d.acked.contiguous().0));
    out.gauges(
        "forward_acked_sequence",
        "Position up to which the sink has acknowledged everything.",
        acked,
    )?;
    let refused = details.iter().map(|(s, d)| (label(s), d.acked.refused_count()));
    out.gauges("forward_refused_events", "Refused events that are kept and will be offered again.", refused)?;
    let again = details.iter().map(|(s, d)| (label(s), d.resend_events));
    out.gauges(
        "forward_resend_events",
        "Positions the receiver has asked for again and that are still to be sent.",
        again,
    )?;
    let rates = sinks.iter().map(|s| (label(s), s.status.events_per_s()));
    out.gauges(
        "forward_events_per_second",
        "Acknowledged events per second, over the last ten seconds.",
        rates,
    )?;
    for (name, help, counter) in COUNTERS {
        out.counters(name, help, sinks.iter().map(|s| (label(s), get(counter(&s.status)))))?;
    }
    Ok(())
}

fn states(details: &[(&SinkView, SinkDetails)], out: &mut Out<'_, '_>) -> fmt::Result {
    let up = |d: &SinkDetails| u32::from(d.state.connected_since().is_some());
    out.gauges("sink_up", "1 while the sink is connected.", details.iter().map(|(s, d)| (label(s), up(d))))?;
    let states = details.iter().flat_map(|(s, d)| {
        SinkState::LABELS.map(|state| {
            ([("sink", s.name.clone()), ("state", state.to_owned())], u32::from(d.state.label() == state))
        })
    });
    out.gauges("sink_state", "1 for the current state of the sink.", states)?;
    let until = details.iter().filter_map(|(s, d)| Some((label(s), seconds(d.state.waiting()?.0))));
    out.gauges(
        "sink_waiting_until_timestamp_seconds",
        "Unix time of the next attempt; only while the sink waits.",
        until,
    )?;
    let failed = details.iter().filter_map(|(s, d)| Some((label(s), seconds(d.last_error.as_ref()?.at))));
    let help = "Unix time of the sink's last failure; /status has the reason.";
    out.gauges("sink_last_error_timestamp_seconds", help, failed)
}

fn backlogs(details: &[(&SinkView, SinkDetails)], reader: &LogReader, out: &mut Out<'_, '_>) -> fmt::Result {
    // A log that cannot be read stops the agent; a scrape does not report it.
    let backlogs: Vec<_> =
        details.iter().filter_map(|(s, d)| Some((label(s), Backlog::of(&d.acked, reader).ok()?))).collect();
    let events = backlogs.iter().map(|(label, backlog)| (label.clone(), backlog.events));
    out.gauges("forward_backlog_events", "Positions the sink has not acknowledged.", events)?;
    let bytes = backlogs.iter().map(|(label, backlog)| (label.clone(), backlog.bytes));
    out.gauges(
        "forward_backlog_bytes",
        "Bytes in the log of the records the sink has not acknowledged.",
        bytes,
    )?;
    let oldest = backlogs.iter().filter_map(|(label, b)| Some((label.clone(), seconds(b.oldest?))));
    out.gauges(
        "forward_backlog_oldest_timestamp_seconds",
        "Log time of the oldest record the sink has not acknowledged.",
        oldest,
    )
}
