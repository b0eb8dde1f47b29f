//! Metrics of alerts.

use std::fmt;

use fieldlog_projections::alert::Severity;

use super::{Out, get};
use crate::read_side::ReadSide;

pub(super) fn encode(side: &ReadSide, out: &mut Out<'_, '_>) -> fmt::Result {
    let stats = &side.shared.stats.alerts;
    // No value while the alerts are being rebuilt from the log.
    if let Some(open) = side.open_alerts() {
        let open = Severity::ALL.map(|severity| ([("severity", severity.word())], open[severity as usize]));
        out.gauges("alerts_open", "Alerts that are open, by severity.", open)?;
    }
    let raised = Severity::ALL
        .map(|severity| ([("severity", severity.word())], get(&stats.raised[severity as usize])));
    out.counters("alerts_raised", "Alerts that were raised, by severity.", raised)?;
    let help = "Alerts that were not raised because limits.alerts_max of them were open.";
    out.counter("alerts_beyond", help, get(&stats.beyond))?;
    let all = side.notifiers.views();
    let told = all.iter().map(|one| ([("notify", one.name.as_str())], get(&one.status.told)));
    out.counters("notifications", "Events of alerts that were passed on.", told)?;
    let failures = all.iter().map(|one| ([("notify", one.name.as_str())], get(&one.status.failures)));
    out.counters("notification_failures", "Attempts to pass on events of alerts that failed.", failures)
}
