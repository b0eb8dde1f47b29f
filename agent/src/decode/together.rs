//! Actions that are fired as one, with their fields in one object.

use serde_json::{Map, Value};

use crate::config::Rule;
use crate::pattern::{PatternError, Patterns};

/// Which fields go into the action.
#[derive(Clone, Debug)]
pub(super) struct Together {
    wanted: Patterns,
    /// Ignored ones, and those that must not be kept.
    unwanted: Patterns,
}

impl Together {
    pub(super) fn new(rule: &Rule) -> Result<Together, PatternError> {
        let unwanted: Vec<&String> = rule.ignore.iter().chain(&rule.redact).collect();
        Ok(Together { wanted: Patterns::parse(&rule.actions)?, unwanted: Patterns::parse(&unwanted)? })
    }

    /// The action's value; nothing if no field of the document is one of an action.
    pub(super) fn value(&self, document: &Value) -> Option<Value> {
        self.part(document, &mut String::new())
    }

    /// What of a part of the document belongs to the action. The depth is that of a document that was read before.
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
