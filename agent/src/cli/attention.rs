//! What in `/status` needs the operator's attention, and what to do about it. Pure.

use fieldlog_wire::api::status::{Sink, Source, Status};

use super::text::{bytes, count, number, plain, span, waiting};

/// Below this many years, the storage wears out soon.
const ENDURANCE_YEARS_MIN: f64 = 3.0;
/// Seconds after the start from which on the rate of writing says something.
pub(crate) const RATE_MIN_S: f64 = 3_600.0;

/// Something that needs attention: what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attention {
    pub(crate) what: String,
    /// Empty if `what` says it.
    pub(crate) todo: String,
}

impl Attention {
    fn new(what: impl Into<String>, todo: impl Into<String>) -> Attention {
        Attention { what: what.into(), todo: todo.into() }
    }
}

/// The worst first; nothing if all is well.
pub(crate) fn attention(status: &Status) -> Vec<Attention> {
    let mut found = Vec::new();
    if let Some(why) = &status.blocked {
        found.push(Attention::new(format!("nothing is being recorded: {}", plain(why)), ""));
    }
    status.sources.iter().for_each(|source| of_source(source, &mut found));
    status.sinks.iter().for_each(|sink| of_sink(sink, &mut found));
    of_alerts(status, &mut found);
    let log = &status.log;
    if let Some(free) = log.disk_free_bytes.filter(|free| *free < log.disk_free_bytes_min) {
        let what = format!("the disk has only {} free", bytes(free));
        found.push(Attention::new(what, "make room there, or lower retention.bytes_max"));
    }
    if let Some(advice) = &status.clock_advice {
        found.push(Attention::new("log time is far ahead of the clock", plain(advice)));
    }
    if status.state.refused > 0 {
        let what = format!(
            "the limit of memory for devices and values was reached, and {} of them were not taken",
            count(status.state.refused)
        );
        found.push(Attention::new(
            what,
            "retire and forget devices that are gone, or raise limits.state_bytes_max",
        ));
    }
    if status.snapshot.errors > 0 {
        let what = format!("{} could not be written", number(status.snapshot.errors, "snapshot"));
        found.push(Attention::new(what, "look into the agent's log; `fieldlog doctor` checks the disk"));
    }
    if let Some(years) = status.log.endurance_years.filter(|years| *years < ENDURANCE_YEARS_MIN)
        && status.uptime_s >= RATE_MIN_S
    {
        let what = format!("at the present rate the storage is worn out in {years:.1} years");
        found.push(Attention::new(
            what,
            "raise log.commit_delay_ms, or record fewer values with [[source.policy]]",
        ));
    }
    found
}

fn of_source(source: &Source, found: &mut Vec<Attention>) {
    let name = format!("source {:?} ({})", source.name, plain(&source.address));
    if !source.connected {
        let why = source.last_error.as_deref().filter(|_| source.state != "connected");
        let words = why.map_or_else(|| plain(&source.state_text), plain);
        let advice =
            source.advice.as_deref().filter(|advice| Some(*advice) != why).map_or(String::new(), plain);
        found.push(Attention::new(format!("{name} is not connected: {words}"), advice));
        return;
    }
    for refused in &source.refused_filters {
        let what =
            format!("{name}: the broker refuses {}: {}", plain(&refused.filter), plain(&refused.reason));
        found.push(Attention::new(what, "allow it in the broker's access rules, or remove the subscription"));
    }
    for warning in &source.warnings {
        found.push(Attention::new(format!("{name}: {}", plain(warning)), ""));
    }
}

fn of_sink(sink: &Sink, found: &mut Vec<Attention>) {
    let name = format!("sink {:?} ({})", sink.name, plain(&sink.address));
    let waits = match sink.backlog_events {
        0 => String::new(),
        events => format!("; {}", waiting(events)),
    };
    match &*sink.state {
        "connected" => {}
        "connecting" if sink.last_error.is_none() => {}
        _ => {
            let words =
                sink.waiting_why.as_deref().or(sink.last_error.as_deref()).unwrap_or(&sink.state_text);
            let state = match &*sink.state {
                "held" => "takes nothing now",
                "forked" => "has another history of this log",
                _ => "is not connected",
            };
            found.push(Attention::new(format!("{name} {state}: {}{waits}", plain(words)), ""));
        }
    }
    if let Some(warning) = &sink.warning {
        found.push(Attention::new(format!("{name}: {}", plain(warning)), ""));
    }
    if sink.refused_events > 0 {
        let are = if sink.refused_events == 1 { "is" } else { "are" };
        let what = format!("{name} has refused {}, which {are} kept", number(sink.refused_events, "event"));
        let todo = "`fieldlog events --type dead_lettered` says why; correct the receiver, or set refused = \"release\"";
        found.push(Attention::new(what, todo));
    }
}

fn of_alerts(status: &Status, found: &mut Vec<Attention>) {
    if let Some(open) = status.alerts.open.filter(|open| *open > 0) {
        let are = if open == 1 { "alert is" } else { "alerts are" };
        let what = match status.alerts.critical {
            Some(critical) if critical > 0 => format!("{open} {are} open, of which {critical} critical"),
            _ => format!("{open} {are} open"),
        };
        found.push(Attention::new(what, "`fieldlog alerts` lists what is wrong"));
    }
    if status.alerts.beyond > 0 {
        let were = if status.alerts.beyond == 1 { "was" } else { "were" };
        let alerts = number(status.alerts.beyond, "alert");
        let what = format!("{alerts} {were} not raised, as too many are open");
        found.push(Attention::new(what, "change the rules that raise so many, or raise limits.alerts_max"));
    }
    for notify in &status.notify {
        if let Some(why) = &notify.last_error {
            let what = format!(
                "notify {:?} ({}) does not get alerts: {}",
                notify.name,
                plain(&notify.target),
                plain(why)
            );
            let todo = format!("check {} and [[notify]]; it is tried again by itself", plain(&notify.target));
            found.push(Attention::new(what, todo));
        }
    }
}

/// How long the backlog of a sink reaches back.
pub(crate) fn behind(sink: &Sink, now: fieldlog_projections::Time) -> Option<String> {
    let oldest = sink.backlog_oldest.as_ref()?;
    Some(span(now.micros_since(oldest.0) as f64 / 1e6))
}
