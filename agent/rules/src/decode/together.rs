//! Actions that are fired as one, with their fields in one object.

use serde_json::{Map, Value};

use crate::rule::Rule;
use fieldlog_projections::pattern::{PatternError, Patterns};

/// The fields of the action.
#[derive(Clone, Debug)]
pub(super) struct Together {
    wanted: Patterns,
    /// Ignored fields, and redacted ones.
    unwanted: Patterns,
}

impl Together {
    pub(super) fn new(rule: &Rule) -> Result<Together, PatternError> {
        let unwanted: Vec<&String> = rule.ignore.iter().chain(&rule.redact).collect();
        Ok(Together { wanted: Patterns::parse(&rule.actions)?, unwanted: Patterns::parse(&unwanted)? })
    }

    /// The action's value; `None` if the document has no field of an action.
    pub(super) fn value(&self, document: &Value) -> Option<Value> {
        self.part(document, &mut String::new())
    }

    /// The part of a value that belongs to the action. Its depth is bounded, since the document was read before.
    fn part(&self, value: &Value, path: &mut String) -> Option<Value> {
        let Value::Object(members) = value else {
            let wanted = self.wanted.matches(path) && !self.unwanted.matches(path);
            return wanted.then(|| value.clone());
        };
        let before = path.len();
        let mut fields = Map::new();
        for (key, member) in members {
            if before > 0 {
                path.push('.');
            }
            path.push_str(key);
            if let Some(part) = self.part(member, path) {
                fields.insert(key.clone(), part);
            }
            path.truncate(before);
        }
        (!fields.is_empty()).then_some(Value::Object(fields))
    }
}
