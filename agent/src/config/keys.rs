//! Names of the keys outside arrays of tables, for environment variables and hints.

use toml::Value;

use super::Config;
use super::show::is_array_of_tables;

/// Each table with its keys, which an environment variable can set; `""` is the top level.
pub(super) fn tables() -> Vec<(String, Vec<String>)> {
    let (tables, rest): (Vec<_>, Vec<_>) =
        Config::default().table().into_iter().partition(|(_, value)| value.is_table());
    let top = rest.into_iter().filter(|(_, value)| !is_array_of_tables(value)).map(|(key, _)| key);
    let mut all = vec![(String::new(), top.collect())];
    for (name, value) in tables {
        if let Value::Table(table) = value {
            all.push((name, table.into_iter().map(|(key, _)| key).collect()));
        }
    }
    all
}

/// The table that a misplaced key belongs to.
pub(super) fn home(key: &str) -> Option<String> {
    let mut tables = tables().into_iter().filter(|(table, _)| !table.is_empty());
    tables.find(|(_, keys)| keys.iter().any(|known| known == key)).map(|(table, _)| table)
}
