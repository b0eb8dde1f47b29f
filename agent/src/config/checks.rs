//! The checked stage, top level: every table except `[[source]]` and `[[sink]]`.

use std::net::SocketAddr;
use std::time::Duration;

use super::raw::Table;
use super::{
    Config, HttpConfig, Limits, LogConfig, SnapshotConfig, WindowConfig, alert, declared, home_assistant,
    notify, retention, sink, source,
};

pub(super) fn read(mut table: Table<'_>) -> Config {
    let defaults = Config::default();
    let gateway_id = gateway_id(&mut table, defaults.gateway_id);
    let mut config = Config {
        data_dir: table.path("data_dir").unwrap_or(defaults.data_dir),
        log: log(table.table("log")),
        snapshots: snapshots(table.table("snapshots")),
        retention: retention::read(table.table("retention")),
        aggregates: aggregates(&mut table).unwrap_or(defaults.aggregates),
        derived: declared::derived_attributes(&mut table),
        named: declared::named_aggregates(&mut table),
        http: http(table.table("http")),
        limits: limits(table.table("limits")),
        sources: source::read_all(&mut table, &gateway_id),
        sinks: Vec::new(),
        alerts: Vec::new(),
        notify: Vec::new(),
        home_assistant: None,
        gateway_id,
    };
    config.sinks = sink::read_all(&mut table, &config.gateway_id, &config.sources, config.limits.command_key);
    config.alerts = alert::read_all(&mut table, &config.sinks);
    config.notify = notify::read_all(&mut table, &config.gateway_id, &config.sources);
    config.home_assistant = home_assistant::read(&mut table, &config.gateway_id, &mut config.sources);
    table.finish();
    config
}

fn gateway_id(table: &mut Table<'_>, default: String) -> String {
    let Some(found) = table.filled("gateway_id") else { return default };
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if found.value.len() <= 64 && found.value.chars().all(allowed) {
        return found.value;
    }
    let what = format!("{:?} cannot be a gateway id", found.value);
    let hint = "use 1 to 64 letters, digits, dots, hyphens and underscores";
    table.fault_at("gateway_id", found.origin.as_deref(), what, hint);
    default
}

fn log(mut table: Table<'_>) -> LogConfig {
    let defaults = LogConfig::default();
    let log = LogConfig {
        commit_delay: Duration::from_millis(table.integer(
            "commit_delay_ms",
            1..=10_000,
            "milliseconds",
            defaults.commit_delay.as_millis() as u64,
        )),
        commit_bytes_max: table.size(
            "commit_bytes_max",
            4_096..=16_777_216,
            "bytes",
            defaults.commit_bytes_max,
        ),
        cache_bytes: table.size("cache_bytes", 1_048_576..=1_073_741_824, "bytes", defaults.cache_bytes),
        quick_repair: table.flag("quick_repair", defaults.quick_repair),
        journal: table.flag("journal", defaults.journal),
        journal_move_bytes: table.size(
            "journal_move_bytes",
            32_768..=1_048_576,
            "bytes",
            defaults.journal_move_bytes,
        ),
        journal_move: Duration::from_secs(table.integer(
            "journal_move_s",
            1..=3_600,
            "seconds",
            defaults.journal_move.as_secs(),
        )),
        endurance_tb: table.integer("endurance_tb", 1..=100_000, "terabytes", defaults.endurance_tb),
    };
    table.finish();
    log
}

fn snapshots(mut table: Table<'_>) -> SnapshotConfig {
    let defaults = SnapshotConfig::default();
    let snapshots = SnapshotConfig {
        events: table.integer("events", 1_000..=1_000_000_000, "events", defaults.events),
        interval: Duration::from_secs(table.integer("interval_s", 10..=604_800, "seconds", 900)),
        keep: table.size("keep", 1..=100, "snapshots", defaults.keep),
        past_bytes_max: table.integer(
            "past_bytes_max",
            0..=1_000_000_000_000,
            "bytes",
            defaults.past_bytes_max,
        ),
    };
    table.finish();
    snapshots
}

fn aggregates(table: &mut Table<'_>) -> Option<Vec<WindowConfig>> {
    let mut windows: Vec<WindowConfig> = Vec::new();
    for mut entry in table.tables("aggregates")? {
        let window_s = entry.integer_required("window_s", 10..=31_536_000, "seconds");
        let keep = entry.integer_required("keep", 1..=100_000, "windows");
        if let (Some(window_s), Some(keep)) = (window_s.and_then(narrow), keep.and_then(narrow)) {
            if let Some(before) = windows.last() {
                check_window(&entry, before.window_s, window_s);
            }
            windows.push(WindowConfig { window_s, keep });
        }
        entry.finish();
    }
    Some(windows)
}

fn check_window(entry: &Table<'_>, before: u32, window_s: u32) {
    if window_s <= before {
        let what = format!("{window_s} seconds come after {before} seconds");
        entry.fault("window_s", what, "put the windows in order, the shortest first");
    } else if !window_s.is_multiple_of(before) {
        let what = format!("{window_s} seconds are not a multiple of the window before, {before} seconds");
        let nearest = u64::from(before) * u64::from(window_s / before + 1);
        entry.fault("window_s", what, format!("use {nearest}, for example"));
    }
}

fn narrow(number: u64) -> Option<u32> {
    u32::try_from(number).ok()
}

fn http(mut table: Table<'_>) -> HttpConfig {
    let http = HttpConfig {
        listen: listen(&mut table),
        unix_socket: table.path("unix_socket"),
        token_file: table.path("token_file"),
        command_token_file: table.path("command_token_file"),
        admin_token_file: table.path("admin_token_file"),
        cert_file: table.path("cert_file"),
        key_file: table.path("key_file"),
        hosts: hosts(&mut table),
    };
    if let Some(address) = http.listen.filter(|address| !address.ip().is_loopback())
        && http.token_file.is_none()
    {
        let what = format!("{address} can be reached from other machines, and there is no token_file");
        table.fault("listen", what, "set token_file, or listen on 127.0.0.1");
    }
    source::check_pair(&table, http.cert_file.is_some(), http.key_file.is_some());
    table.finish();
    http
}

fn listen(table: &mut Table<'_>) -> Option<SocketAddr> {
    let default = HttpConfig::default().listen;
    let Some(found) = table.text("listen") else { return default };
    if found.value.is_empty() {
        return None;
    }
    let parsed = found.value.parse();
    if parsed.is_err() {
        let what = format!("{:?} is not an IP address with a port", found.value);
        let hint = "write it as \"127.0.0.1:8687\" or \"[::1]:8687\", or \"\" for none";
        table.fault_at("listen", found.origin.as_deref(), what, hint);
    }
    parsed.ok().or(default)
}

fn hosts(table: &mut Table<'_>) -> Vec<String> {
    let hosts = table.texts("hosts").unwrap_or_default();
    for host in &hosts {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if host.is_empty() || !host.chars().all(allowed) {
            table.fault(
                "hosts",
                format!("{host:?} is not a host name"),
                "give names without scheme and port",
            );
        }
    }
    hosts
}

fn limits(mut table: Table<'_>) -> Limits {
    let d = Limits::default();
    let state = table.integer_or_none("state_bytes_max", 1_048_576..=1_000_000_000_000, "bytes", None);
    let command_key = Duration::from_secs(table.integer("command_key_s", 60..=31_536_000, "seconds", 86_400));
    let mut size = |key, range, unit, default| table.size(key, range, unit, default);
    let limits = Limits {
        devices_max: size("devices_max", 1..=1_000_000, "devices", d.devices_max),
        attributes_per_device_max: size(
            "attributes_per_device_max",
            1..=10_000,
            "attributes",
            d.attributes_per_device_max,
        ),
        topics_max: size("topics_max", 1..=10_000_000, "topics", d.topics_max),
        state_bytes_max: state.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        text_bytes_max: size("text_bytes_max", 16..=1_048_576, "bytes", d.text_bytes_max),
        name_bytes_max: size("name_bytes_max", 16..=4_096, "bytes", d.name_bytes_max),
        commands_max: size("commands_max", 1..=1_000_000, "commands", d.commands_max),
        command_key,
        alerts_max: size("alerts_max", 1..=100_000, "alerts", d.alerts_max),
        quarantine_records_max: size(
            "quarantine_records_max",
            0..=1_000_000,
            "records",
            d.quarantine_records_max,
        ),
        quarantine_payload_bytes_max: size(
            "quarantine_payload_bytes_max",
            0..=1_048_576,
            "bytes",
            d.quarantine_payload_bytes_max,
        ),
        quarantine_per_topic_max: size(
            "quarantine_per_topic_max",
            0..=1_000_000,
            "records",
            d.quarantine_per_topic_max,
        ),
    };
    table.finish();
    limits
}
