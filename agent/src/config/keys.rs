//! Names of the keys outside of `[[source]]` and `[[sink]]`, for environment variables and for hints.

/// Keys of the tables, which an environment variable can set; `""` is the top level.
pub(super) const TABLES: [(&str, &[&str]); 6] = [
    ("", &["gateway_id", "data_dir"]),
    ("log", &["commit_delay_ms", "commit_bytes_max", "cache_bytes", "quick_repair"]),
    ("snapshots", &["events", "interval_s", "keep"]),
    (
        "retention",
        &[
            "age_days",
            "bytes_max",
            "history_min_s",
            "free_bytes_min",
            "when_full",
            "thin_to_s",
            "thin_age_days",
        ],
    ),
    ("http", &["listen", "unix_socket", "token_file", "hosts"]),
    (
        "limits",
        &[
            "devices_max",
            "attributes_per_device_max",
            "topics_max",
            "text_bytes_max",
            "name_bytes_max",
            "quarantine_records_max",
            "quarantine_payload_bytes_max",
            "quarantine_per_topic_max",
        ],
    ),
];

/// The table that a key belongs to, for one that was written elsewhere.
pub(super) fn home(key: &str) -> Option<&'static str> {
    let found = TABLES.iter().find(|(table, keys)| !table.is_empty() && keys.contains(&key));
    found.map(|(table, _)| *table)
}
