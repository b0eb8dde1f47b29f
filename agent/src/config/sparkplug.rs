//! The checked stage of `[source.sparkplug]`.

use std::time::Duration;

use super::SparkplugConfig;
use super::raw::Table;

const WEEK_S: u64 = 604_800;

/// `session_expiry_s`; a Sparkplug host application keeps no session.
pub(super) fn session_expiry(table: &mut Table<'_>) -> Duration {
    let host = table.has("sparkplug");
    let default = if host { 0 } else { WEEK_S };
    let expiry =
        Duration::from_secs(table.integer("session_expiry_s", 0..=4_294_967_295, "seconds", default));
    if host && !expiry.is_zero() {
        let what = "a Sparkplug host application begins each connection with a clean session";
        table.fault(
            "session_expiry_s",
            what,
            "remove it, or give what must not be lost a [[source]] of its own",
        );
    }
    expiry
}

/// `[source.sparkplug]`; read after the will, which it replaces.
pub(super) fn read(table: &mut Table<'_>, gateway_id: &str) -> Option<SparkplugConfig> {
    let mut inner = table.table_if_present("sparkplug")?;
    if table.was_written("will") {
        let what = "a connection has one will, and that of a Sparkplug host application is its STATE";
        table.fault("will", what, "remove [source.will]");
    }
    let host_id = inner.filled("host_id").map_or_else(|| gateway_id.to_owned(), |found| found.value);
    let hint = "give the host application a name of its own, such as \"gateway-1\"";
    if let Some(what) = not_a_level(&host_id) {
        inner.fault("host_id", format!("{host_id:?} {what}"), hint);
    }
    let groups = inner.texts("groups").unwrap_or_else(|| vec!["+".to_owned()]);
    if groups.is_empty() {
        inner.fault("groups", "it is empty", "name at least one group, or remove it for all");
    }
    for (index, group) in groups.iter().enumerate().filter(|(_, group)| *group != "+") {
        if let Some(what) = not_a_level(group) {
            let hint = "write the group as it stands in topics, or \"+\" for all";
            inner.fault(&format!("groups[{index}]"), format!("{group:?} {what}"), hint);
        }
    }
    let reorder_timeout =
        Duration::from_millis(inner.integer("reorder_timeout_ms", 0..=60_000, "milliseconds", 2_000));
    let commands = inner.flag("commands", true);
    inner.finish();
    Some(SparkplugConfig { host_id, groups, reorder_timeout, commands })
}

/// Why a text is not valid as one level of a topic.
fn not_a_level(text: &str) -> Option<&'static str> {
    match text {
        "" => Some("is empty"),
        _ if text.len() > 256 => Some("is longer than 256 bytes"),
        _ if text.contains(['/', '+', '#', '\0']) => Some("has one of the characters /, + and #"),
        _ => None,
    }
}
