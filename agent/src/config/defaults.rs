//! The default configuration.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{Config, HttpConfig, Limits, LogConfig, RetentionConfig, SnapshotConfig, WindowConfig};
use crate::config::WhenFull;

impl Default for Config {
    /// No sources and no sinks; the gateway id is the host name.
    fn default() -> Config {
        Config {
            gateway_id: host_name(),
            data_dir: PathBuf::from("/var/lib/fieldlog"),
            log: LogConfig::default(),
            snapshots: SnapshotConfig::default(),
            retention: RetentionConfig::default(),
            aggregates: WindowConfig::defaults(),
            derived: Vec::new(),
            named: Vec::new(),
            http: HttpConfig::default(),
            limits: Limits::default(),
            sources: Vec::new(),
            sinks: Vec::new(),
            alerts: Vec::new(),
            notify: Vec::new(),
            home_assistant: None,
        }
    }
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            commit_delay: Duration::from_millis(320),
            commit_bytes_max: 262_144,
            cache_bytes: 1_048_576,
            quick_repair: false,
            journal: true,
            journal_move_bytes: 262_144,
            journal_move: Duration::from_secs(60),
            endurance_tb: 10,
        }
    }
}

impl Default for SnapshotConfig {
    fn default() -> SnapshotConfig {
        SnapshotConfig {
            events: 500_000,
            interval: Duration::from_secs(900),
            keep: 3,
            past_bytes_max: 33_554_432,
        }
    }
}

impl Default for RetentionConfig {
    fn default() -> RetentionConfig {
        RetentionConfig {
            age: None,
            bytes_max: Some(268_435_456),
            history_min: Duration::ZERO,
            free_bytes_min: 67_108_864,
            when_full: WhenFull::Block,
            thin_to_s: None,
            thin_age: Some(Duration::from_secs(3_650 * 86_400)),
        }
    }
}

impl WindowConfig {
    /// A minute, an hour and a day.
    pub fn defaults() -> Vec<WindowConfig> {
        let windows = [(60, 60), (3_600, 48), (86_400, 35)];
        windows.map(|(window_s, keep)| WindowConfig { window_s, keep }).to_vec()
    }
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8687))),
            unix_socket: None,
            token_file: None,
            command_token_file: None,
            admin_token_file: None,
            cert_file: None,
            key_file: None,
            hosts: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            devices_max: 10_000,
            attributes_per_device_max: 256,
            topics_max: 50_000,
            state_bytes_max: None,
            text_bytes_max: 4_096,
            name_bytes_max: 256,
            commands_max: 20_000,
            command_key: Duration::from_secs(86_400),
            alerts_max: 1_000,
            quarantine_records_max: 1_000,
            quarantine_payload_bytes_max: 4_096,
            quarantine_per_topic_max: 3,
        }
    }
}

/// The machine's host name, reduced to a valid gateway id.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let id: String = name.trim().chars().take(64).map(|c| if allowed(c) { c } else { '-' }).collect();
    if id.is_empty() { "gateway".to_owned() } else { id }
}
