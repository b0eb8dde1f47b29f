//! Checks that several tables of a rule share.

use super::super::raw::Table;
use fieldlog_projections::pattern::Pattern;
use fieldlog_rules::topic;

/// A JSON pointer, if there is one.
pub(super) fn pointer(table: &mut Table<'_>, key: &'static str) -> Option<String> {
    let found = table.text(key)?;
    if topic::is_pointer(&found.value) {
        return Some(found.value);
    }
    let what = format!("{:?} is not a JSON pointer", found.value);
    let hint = "write it as \"/params/ts\"; ~1 stands for / and ~0 for ~ in a name";
    table.fault_at(key, found.origin.as_deref(), what, hint);
    None
}

/// Checks a list of patterns of names.
pub(in super::super) fn check_patterns(table: &Table<'_>, key: &str, patterns: &[String]) {
    for (index, text) in patterns.iter().enumerate() {
        if let Err(error) = Pattern::parse(text) {
            table.fault(&format!("{key}[{index}]"), error.to_string(), "");
        }
    }
}
