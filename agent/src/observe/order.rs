//! Messages that come after a newer one: a rule's `order_by` tells them by a number that the payload counts up.
//!
//! The numbers are in memory only. To keep them would make a record of each message that says nothing new.

use std::collections::HashMap;

use fieldlog_projections::Time;

use super::Observer;
use super::namespaces::Namespace;
use super::topics::RuleMatch;

/// Devices, each with one name before its attributes, whose last number is known; beyond that all are forgotten.
const KNOWN_MAX: usize = 4_096;
/// A lower number so long after the last one is of a count that began anew, in microseconds. Nothing is under way for longer.
const LATE_MAX: i64 = 3_600_000_000;

/// What counts by itself: a device by its namespace and name, and what is before its attributes.
type Counted = (Namespace, Box<str>, Box<str>);

/// The last numbers.
#[derive(Debug, Default)]
pub(super) struct Orders(HashMap<Counted, (i64, Time)>);

impl Orders {
    /// The wall clock was set: an hour is an hour all the same.
    pub(super) fn stepped(&mut self, by: i64) {
        self.0.values_mut().for_each(|(_, at)| at.0 = at.0.saturating_add(by));
    }
}

impl Observer {
    /// Whether the message at hand, with this number, is older than one that has come before. If not, its number is the last one
    /// from now on.
    pub(super) fn is_late(
        &mut self,
        source: usize,
        matched: &RuleMatch,
        number: Option<i64>,
        received: Time,
    ) -> bool {
        let Some(number) = number else { return false };
        let namespace = self.namespace(source, matched.rule);
        let counted = (namespace, matched.device_name.clone(), matched.attribute.clone());
        let last = self.orders.0.get(&counted).copied();
        let soon = |at: Time| received.micros_since(at) < LATE_MAX;
        if last.is_some_and(|(last, at)| number < last && soon(at)) {
            return true;
        }
        if last.is_none() && self.orders.0.len() >= KNOWN_MAX {
            self.orders = Orders::default();
        }
        self.orders.0.insert(counted, (number, received));
        false
    }
}
