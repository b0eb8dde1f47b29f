//! One rule: reads and checks it. Used in `[[source.subscription]]` and in presets.

use serde::ser::Error;
use serde::{Serialize, Serializer};

use super::written::{Table, table_of};

mod checks;
mod keys;
mod read;
mod types;
mod when;

pub(super) use checks::check_patterns;
pub use fieldlog_rules::rule::{
    ActionFields, Announcer, Arrays, Decoder, Each, KeepAlive, Kind, PayloadTime, Rename, Rule, Shape,
    Subject, Test, TimeFormat, Update, ValueType, When,
};
pub(super) use keys::keys;
pub(super) use read::{namespace, read};

/// Serialises rules as tables, without the keys that their decoder does not read: those would be faults when read back.
pub(super) fn written<S: Serializer>(rules: &[Rule], serializer: S) -> Result<S::Ok, S::Error> {
    let table = |rule: &Rule| -> Result<Table, S::Error> {
        let mut table = table_of(rule).map_err(S::Error::custom)?;
        table.retain(|key, _| keys::reads(rule.decoder, key));
        Ok(table)
    };
    rules.iter().map(table).collect::<Result<Vec<_>, _>>()?.serialize(serializer)
}
