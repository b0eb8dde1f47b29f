//! Rules of `[[alert]]` that name what they cannot read.

use fieldlog_projections::pattern::Pattern;

use super::files::{Finding, Verdict, place_of};
use crate::config::Config;

/// A warning for each pattern of a rule that includes a derived attribute; `*` means everything that is recorded.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    for rule in &config.alerts {
        for text in rule.attributes.iter().filter(|text| *text != "*") {
            let Ok(pattern) = Pattern::parse(text) else { continue };
            let Some(derived) = config.derived.iter().find(|derived| pattern.matches(&derived.name)) else {
                continue;
            };
            let words = format!(
                "`attribute` {text:?} includes the derived attribute {:?}, which alerts do not read, as it is not \
                 recorded; name what it is computed from: {}",
                derived.name,
                derived.of.join(", ")
            );
            found.push(Finding::new(Verdict::Unknown, &place_of("alert", &rule.name), words));
        }
    }
    found
}
