//! What a changed configuration changes, and whether that can be done while the agent runs.

use super::{Config, SourceConfig};

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
        let mut changes = Vec::new();
        let mut note = |key: &str, reloadable, differs: bool| {
            if differs {
                changes.push(Change { key: key.to_owned(), reloadable });
            }
        };
        note("gateway_id", false, self.gateway_id != new.gateway_id);
        note("data_dir", false, self.data_dir != new.data_dir);
        let (log, new_log) = (&self.log, &new.log);
        note("log.commit_delay_ms", true, log.commit_delay != new_log.commit_delay);
        note("log.commit_bytes_max", true, log.commit_bytes_max != new_log.commit_bytes_max);
        note("log.cache_bytes", false, log.cache_bytes != new_log.cache_bytes);
        note("log.quick_repair", false, log.quick_repair != new_log.quick_repair);
        let (snapshots, new_snapshots) = (&self.snapshots, &new.snapshots);
        note("snapshots.events", true, snapshots.events != new_snapshots.events);
        note("snapshots.interval_s", true, snapshots.interval != new_snapshots.interval);
        note("snapshots.keep", true, snapshots.keep != new_snapshots.keep);
        self.retention_differs(new, &mut note);
        note("aggregates", true, self.aggregates != new.aggregates);
        let (http, new_http) = (&self.http, &new.http);
        note("http.listen", false, http.listen != new_http.listen);
        note("http.unix_socket", false, http.unix_socket != new_http.unix_socket);
        note("http.token_file", false, http.token_file != new_http.token_file);
        note("http.hosts", false, http.hosts != new_http.hosts);
        self.limits_differ(new, &mut note);
        self.sources_differ(new, &mut note);
        self.sinks_differ(new, &mut note);
        changes
    }

    fn retention_differs(&self, new: &Config, note: &mut impl FnMut(&str, bool, bool)) {
        let (a, b) = (&self.retention, &new.retention);
        note("retention.age_days", true, a.age != b.age);
        note("retention.bytes_max", true, a.bytes_max != b.bytes_max);
        note("retention.history_min_s", true, a.history_min != b.history_min);
        note("retention.free_bytes_min", true, a.free_bytes_min != b.free_bytes_min);
        note("retention.when_full", true, a.when_full != b.when_full);
        note("retention.thin_to_s", true, a.thin_to_s != b.thin_to_s);
        note("retention.thin_age_days", true, a.thin_age != b.thin_age);
    }

    fn limits_differ(&self, new: &Config, note: &mut impl FnMut(&str, bool, bool)) {
        let (a, b) = (&self.limits, &new.limits);
        let per_device = a.attributes_per_device_max != b.attributes_per_device_max;
        let payload = a.quarantine_payload_bytes_max != b.quarantine_payload_bytes_max;
        note("limits.devices_max", true, a.devices_max != b.devices_max);
        note("limits.attributes_per_device_max", true, per_device);
        note("limits.topics_max", true, a.topics_max != b.topics_max);
        note("limits.state_bytes_max", true, a.state_bytes_max != b.state_bytes_max);
        note("limits.text_bytes_max", true, a.text_bytes_max != b.text_bytes_max);
        note("limits.name_bytes_max", true, a.name_bytes_max != b.name_bytes_max);
        note("limits.quarantine_records_max", true, a.quarantine_records_max != b.quarantine_records_max);
        note("limits.quarantine_payload_bytes_max", true, payload);
    }

    fn sources_differ(&self, new: &Config, note: &mut impl FnMut(&str, bool, bool)) {
        let find = |config: &Config, name: &str| config.sources.iter().position(|source| source.name == name);
        for source in &self.sources {
            let prefix = format!("source {:?}", source.name);
            match find(new, &source.name).and_then(|index| new.sources.get(index)) {
                Some(other) => source.differ(other, &mut |key| note(&format!("{prefix} {key}"), true, true)),
                None => note(&prefix, true, true),
            }
        }
        for source in &new.sources {
            note(&format!("source {:?}", source.name), true, find(self, &source.name).is_none());
        }
    }
}

impl Config {
    fn sinks_differ(&self, new: &Config, note: &mut impl FnMut(&str, bool, bool)) {
        for sink in &self.sinks {
            let prefix = format!("sink {:?}", sink.name);
            match new.sinks.iter().find(|other| other.name == sink.name) {
                Some(other) => sink.differ(other, &mut |key| note(&format!("{prefix} {key}"), true, true)),
                None => note(&prefix, true, true),
            }
        }
        for sink in &new.sinks {
            let added = !self.sinks.iter().any(|other| other.name == sink.name);
            note(&format!("sink {:?}", sink.name), true, added);
        }
    }
}

impl SourceConfig {
    fn differ(&self, new: &SourceConfig, note: &mut impl FnMut(&str)) {
        let fields = [
            ("address", self.address != new.address),
            ("protocol", self.protocol != new.protocol),
            ("client_id", self.client_id != new.client_id),
            ("username", self.username != new.username),
            ("password_file", self.password_file != new.password_file),
            ("keep_alive_s", self.keep_alive != new.keep_alive),
            ("connect_timeout_s", self.connect_timeout != new.connect_timeout),
            ("backoff_max_s", self.backoff_max != new.backoff_max),
            ("session_expiry_s", self.session_expiry != new.session_expiry),
            ("receive_window", self.receive_window != new.receive_window),
            ("packet_bytes_max", self.packet_bytes_max != new.packet_bytes_max),
            ("tls", self.tls != new.tls),
            ("will", self.will != new.will),
            ("silence_timeout_s", self.silence_timeout != new.silence_timeout),
            ("exclude", self.exclude != new.exclude),
            ("subscription", self.rules != new.rules),
            ("policy", self.policies != new.policies),
            ("describe", self.describe != new.describe),
        ];
        fields.iter().filter(|(_, differs)| *differs).for_each(|(key, _)| note(key));
    }

    /// Whether the connection to the broker can stay as it is under the new configuration. New rules may still need
    /// other subscriptions; the session takes those without a new connection.
    pub fn same_connection(&self, new: &SourceConfig) -> bool {
        let ingest_only = SourceConfig {
            silence_timeout: self.silence_timeout,
            exclude: self.exclude.clone(),
            rules: self.rules.clone(),
            policies: self.policies.clone(),
            describe: self.describe.clone(),
            ..new.clone()
        };
        *self == ingest_only
    }
}
