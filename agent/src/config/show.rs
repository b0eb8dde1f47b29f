//! The effective configuration as TOML. Reading it gives the same configuration again. It holds no secrets, because
//! the configuration holds only the names of the files that they are in.

use std::fmt::{Display, Write};
use std::path::Path;
use std::time::Duration;

use super::{
    Address, Config, Policy, Protocol, RecordMode, SourceConfig, TlsConfig, WillConfig, describe, rule,
};

/// TOML under construction. Writing to a string cannot fail.
#[derive(Default)]
pub(super) struct Doc(String);

impl Doc {
    pub(super) fn header(&mut self, header: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.0, "{gap}{header}");
    }

    pub(super) fn raw(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.raw(key, quoted(value));
    }

    pub(super) fn path(&mut self, key: &str, value: Option<&Path>) {
        self.text(key, &value.map(|path| path.display().to_string()).unwrap_or_default());
    }

    pub(super) fn texts(&mut self, key: &str, values: &[String]) {
        let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
        self.raw(key, format_args!("[{}]", values.join(", ")));
    }
}

/// A TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

impl Config {
    /// The whole configuration, presets expanded into their rules.
    pub fn to_toml(&self) -> String {
        let mut doc = Doc::default();
        doc.text("gateway_id", &self.gateway_id);
        doc.path("data_dir", Some(&self.data_dir));
        if self.aggregates.is_empty() {
            doc.raw("aggregates", "[]");
        }
        self.tables(&mut doc);
        for window in &self.aggregates {
            doc.header("[[aggregates]]");
            doc.raw("window_s", window.window_s);
            doc.raw("keep", window.keep);
        }
        for source in &self.sources {
            show_source(&mut doc, source);
        }
        for sink in &self.sinks {
            sink.show(&mut doc);
        }
        doc.0
    }

    fn tables(&self, doc: &mut Doc) {
        doc.header("[log]");
        doc.raw("commit_delay_ms", self.log.commit_delay.as_millis());
        doc.raw("commit_bytes_max", self.log.commit_bytes_max);
        doc.raw("cache_bytes", self.log.cache_bytes);
        doc.raw("quick_repair", self.log.quick_repair);
        doc.header("[snapshots]");
        doc.raw("events", self.snapshots.events);
        doc.raw("interval_s", self.snapshots.interval.as_secs());
        doc.raw("keep", self.snapshots.keep);
        self.retention.show(doc);
        doc.header("[http]");
        doc.text("listen", &self.http.listen.map(|address| address.to_string()).unwrap_or_default());
        doc.path("unix_socket", self.http.unix_socket.as_deref());
        doc.path("token_file", self.http.token_file.as_deref());
        doc.texts("hosts", &self.http.hosts);
        doc.header("[limits]");
        let limits = &self.limits;
        doc.raw("devices_max", limits.devices_max);
        doc.raw("attributes_per_device_max", limits.attributes_per_device_max);
        doc.raw("topics_max", limits.topics_max);
        doc.raw("state_bytes_max", limits.state_bytes_max.unwrap_or(0));
        doc.raw("text_bytes_max", limits.text_bytes_max);
        doc.raw("name_bytes_max", limits.name_bytes_max);
        doc.raw("quarantine_records_max", limits.quarantine_records_max);
        doc.raw("quarantine_payload_bytes_max", limits.quarantine_payload_bytes_max);
    }
}

fn show_source(doc: &mut Doc, source: &SourceConfig) {
    doc.header("[[source]]");
    doc.text("name", &source.name);
    let scheme = if source.address.tls { "mqtts" } else { "mqtt" };
    doc.text("address", &format!("{scheme}://{}", host_and_port(&source.address)));
    doc.raw("protocol", if source.protocol == Protocol::V4 { 4 } else { 5 });
    doc.text("client_id", &source.client_id);
    doc.text("username", source.username.as_deref().unwrap_or_default());
    doc.path("password_file", source.password_file.as_deref());
    doc.raw("keep_alive_s", source.keep_alive.as_secs());
    doc.raw("connect_timeout_s", source.connect_timeout.as_secs());
    doc.raw("backoff_max_s", source.backoff_max.as_secs());
    doc.raw("session_expiry_s", source.session_expiry.as_secs());
    doc.raw("receive_window", source.receive_window);
    doc.raw("packet_bytes_max", source.packet_bytes_max);
    doc.raw("silence_timeout_s", source.silence_timeout.map_or(0, |timeout: Duration| timeout.as_secs()));
    doc.texts("exclude", &source.exclude);
    show_tls(doc, "[source.tls]", &source.tls);
    show_will(doc, "[source.will]", source.will.as_ref());
    source.rules.iter().for_each(|rule| rule::show(doc, rule));
    source.policies.iter().for_each(|policy| show_policy(doc, policy));
    source.describe.iter().for_each(|block| describe::show(doc, block));
}

pub(super) fn show_tls(doc: &mut Doc, header: &str, tls: &TlsConfig) {
    if *tls == TlsConfig::default() {
        return;
    }
    doc.header(header);
    doc.path("ca_file", tls.ca_file.as_deref());
    doc.path("cert_file", tls.cert_file.as_deref());
    doc.path("key_file", tls.key_file.as_deref());
    doc.text("server_name", tls.server_name.as_deref().unwrap_or_default());
}

pub(super) fn show_will(doc: &mut Doc, header: &str, will: Option<&WillConfig>) {
    let Some(will) = will else { return };
    doc.header(header);
    doc.text("topic", &will.topic);
    doc.text("offline", &will.offline);
    doc.text("online", &will.online);
}

pub(super) fn host_and_port(address: &Address) -> String {
    let host = &address.host;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    format!("{host}:{}", address.port)
}

fn show_policy(doc: &mut Doc, policy: &Policy) {
    doc.header("[[source.policy]]");
    doc.texts("attributes", &policy.attributes);
    doc.texts("devices", &policy.devices);
    doc.raw("deadband", format_args!("{:?}", policy.deadband));
    doc.raw("min_interval_ms", policy.min_interval.as_millis());
    doc.text(
        "record",
        match policy.record {
            RecordMode::Change => "change",
            RecordMode::Every => "every",
            RecordMode::Never => "never",
        },
    );
}
