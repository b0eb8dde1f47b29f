//! Compares two configurations, and tells which changes can be applied while the agent runs.

use toml::{Table, Value};

use super::{Config, SourceConfig};

/// The keys that are read only at the start.
const RESTART: [&str; 13] = [
    "gateway_id",
    "data_dir",
    "log.cache_bytes",
    "log.quick_repair",
    "log.journal",
    "http.listen",
    "http.unix_socket",
    "http.token_file",
    "http.command_token_file",
    "http.admin_token_file",
    "http.cert_file",
    "http.key_file",
    "http.hosts",
];

/// One key that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key: `log.commit_delay_ms`, `source "home" receive_window`, or `source "home"` when it was added or removed.
    pub key: String,
    /// Whether a reload applies it; otherwise it needs a restart.
    pub reloadable: bool,
}

impl Config {
    /// The keys in which `new` differs, in the order of the documentation.
    pub fn diff(&self, new: &Config) -> Vec<Change> {
        let (old, new) = (self.table(), new.table());
        let mut keys = Vec::new();
        let declared = ["derived_attribute", "named_aggregate", "alert", "notify"];
        let sections = ["source", "sink"];
        let by_name = |key: &str| declared.contains(&key) || sections.contains(&key);
        for (key, value) in old.iter().filter(|(key, _)| !by_name(key)) {
            match (value, new.get(key)) {
                (Value::Table(old), Some(Value::Table(new))) => {
                    compare(&format!("{key}."), old, new, &mut keys)
                }
                (old, new) if Some(old) != new => keys.push(key.clone()),
                _ => {}
            }
        }
        // A table that is absent by default.
        keys.extend(new.keys().filter(|key| !by_name(key) && !old.contains_key(*key)).cloned());
        for section in declared {
            compare_blocks(section, &named(&old, section), &named(&new, section), &mut keys);
        }
        for section in sections {
            compare_by_name(section, &named(&old, section), &named(&new, section), &mut keys);
        }
        let change = |key: String| Change { reloadable: !RESTART.contains(&key.as_str()), key };
        keys.into_iter().map(change).collect()
    }
}

/// The blocks of an array of tables, by name.
fn named<'t>(config: &'t Table, section: &str) -> Vec<(&'t str, &'t Table)> {
    let blocks = config.get(section).and_then(Value::as_array).into_iter().flatten();
    blocks
        .filter_map(Value::as_table)
        .filter_map(|block| Some((block.get("name")?.as_str()?, block)))
        .collect()
}

/// Collects the blocks that differ in anything.
fn compare_blocks(section: &str, old: &[(&str, &Table)], new: &[(&str, &Table)], keys: &mut Vec<String>) {
    let changed = old.iter().filter(|block| !new.contains(block)).map(|(name, _)| name);
    let added =
        new.iter().filter(|(name, _)| !old.iter().any(|(other, _)| other == name)).map(|(name, _)| name);
    keys.extend(changed.chain(added).map(|name| format!("{section} {name:?}")));
}

fn compare_by_name(section: &str, old: &[(&str, &Table)], new: &[(&str, &Table)], keys: &mut Vec<String>) {
    for (name, block) in old {
        match new.iter().find(|(other, _)| other == name) {
            Some((_, other)) => compare(&format!("{section} {name:?} "), block, other, keys),
            None => keys.push(format!("{section} {name:?}")),
        }
    }
    let added = new.iter().filter(|(name, _)| !old.iter().any(|(other, _)| other == name));
    keys.extend(added.map(|(name, _)| format!("{section} {name:?}")));
}

/// Collects the keys in which two tables differ. Plain keys that only one of them has are skipped: they belong to
/// another kind of block, like `topic` to an MQTT sink, and another key shows that change. Tables and lists of tables
/// may be absent.
fn compare(prefix: &str, old: &Table, new: &Table, keys: &mut Vec<String>) {
    let optional = |value: &Value| value.is_table() || super::show::is_array_of_tables(value);
    for (key, value) in old {
        let differs = new.get(key).map_or(optional(value), |other| other != value);
        if differs {
            keys.push(format!("{prefix}{key}"));
        }
    }
    let added = new.iter().filter(|(key, value)| !old.contains_key(*key) && optional(value));
    keys.extend(added.map(|(key, _)| format!("{prefix}{key}")));
}

impl SourceConfig {
    /// Whether the connection to the broker can be kept under the new configuration. New rules may still need other
    /// subscriptions; the session changes those without reconnecting.
    pub fn same_connection(&self, new: &SourceConfig) -> bool {
        let ingest_only = SourceConfig {
            silence_timeout: self.silence_timeout,
            exclude: self.exclude.clone(),
            rules: self.rules.clone(),
            policies: self.policies.clone(),
            commands: self.commands.clone(),
            describe: self.describe.clone(),
            ..new.clone()
        };
        *self == ingest_only
    }
}
