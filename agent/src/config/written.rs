//! How the checked configuration is written down again: as tables, see [`fieldlog_rules::written`] for the values.

use serde::Serialize;

pub(super) use fieldlog_rules::written::{days, milliseconds, or_empty, or_zero, seconds};
pub(super) use toml::Table;

/// The table of one part of the configuration, its keys in the order of the fields.
pub(super) fn table_of(part: &impl Serialize) -> Result<Table, toml::ser::Error> {
    Table::try_from(part)
}
