//! Attributes that a document removes implicitly.

use std::collections::HashMap;

use fieldlog_projections::{AttrId, DeviceId, Time, Value, ValueRef};

use super::Observer;
use super::device::Slot;
use super::topics::{Known, RuleMatch};
use fieldlog_rules::decode::Values;

impl Observer {
    /// A value or null is where an object may have been, whose attributes are removed with it (RFC 7396).
    pub(super) fn remove_below(
        &mut self,
        source: usize,
        matched: &RuleMatch,
        device: DeviceId,
        path: &str,
        received: Time,
    ) {
        // The whole document is not an attribute of itself.
        if !path.is_empty() {
            let rule = &self.sources[source].compiled[matched.rule];
            let name = rule.attribute(&matched.attribute, path).into_owned();
            self.remove_unmentioned(device, &name, received);
        }
    }

    /// Removes what the topic sent before, where a value became an object or an object a value.
    pub(super) fn replace_kind(
        &mut self,
        source: usize,
        matched: &RuleMatch,
        device: DeviceId,
        path: &str,
        before: Before,
        received: Time,
    ) {
        if before.below {
            self.remove_below(source, matched, device, path, received);
        }
        if let Some(end) = before.above {
            let rule = &self.sources[source].compiled[matched.rule];
            let known = self.attribute_ids.get(&*rule.attribute(&matched.attribute, &path[..end])).copied();
            self.remove_where(device, received, |attr, _| Some(attr) == known);
        }
    }

    /// Removes what lists had beyond their end, and what stood where a list is now: a list is replaced as a whole (RFC 7396).
    pub(super) fn remove_beyond(
        &mut self,
        source: usize,
        matched: &RuleMatch,
        values: &Values,
        device: DeviceId,
        received: Time,
    ) {
        let rule = &self.sources[source].compiled[matched.rule];
        let lists: HashMap<&str, usize> = values.lists().collect();
        let is_beyond = |path: &str| {
            let places = path.match_indices('.').map(|(dot, _)| (&path[..dot], &path[dot + 1..]));
            lists.contains_key(path) || {
                places.into_iter().any(|(list, rest)| {
                    let index = rest.split('.').next().unwrap_or_default();
                    lists
                        .get(list)
                        .is_some_and(|elements| index.parse().is_ok_and(|at: usize| at >= *elements))
                })
            }
        };
        // What the rule does not keep may be another one's.
        let names =
            self.devices[device].slots.iter().map(|slot| (slot.attr, &self.attributes[slot.attr.0 as usize]));
        let path =
            |name| rule.path(&matched.attribute, name).filter(|path| rule.keeps(path) && is_beyond(path));
        let gone: Vec<AttrId> =
            names.filter(|(_, name)| path(name).is_some()).map(|(attr, _)| attr).collect();
        if !gone.is_empty() {
            self.remove_where(device, received, |attr, _| gone.contains(&attr));
        }
    }

    /// Removes the attributes below a name that the current message does not contain; with an empty name, of the whole
    /// document.
    pub(super) fn remove_unmentioned(&mut self, device: DeviceId, prefix: &str, received: Time) {
        self.remove_where(device, received, |_, name| {
            prefix.is_empty() || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
        });
    }

    /// Removes attributes that the current message does not contain.
    fn remove_where(&mut self, device: DeviceId, received: Time, is_gone: impl Fn(AttrId, &str) -> bool) {
        let stamp = self.stamp;
        let names = &self.attributes;
        for (index, slot) in self.devices[device].slots.iter_mut().enumerate() {
            let gone = |slot: &Slot| is_gone(slot.attr, &names[slot.attr.0 as usize]);
            if slot.stamp != stamp && slot.value != Value::Null && gone(slot) {
                slot.undefer(&mut self.budget);
                self.budget.book(slot.change(&self.budget, ValueRef::Null));
                (slot.value, slot.recorded) = (Value::Null, received);
                self.changes.push((index as u32, 0));
            }
        }
    }
}

/// What a topic sent before that is incompatible with a path.
#[derive(Clone, Copy)]
pub(super) struct Before {
    /// A value where the path has an object, which is named by this many bytes of the path.
    above: Option<usize>,
    /// Values below it.
    below: bool,
}

pub(super) fn was_there(shape: &[Known], path: &str) -> Before {
    let was_below = |known: &Known| known.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    Before {
        above: path
            .match_indices('.')
            .map(|(end, _)| end)
            .find(|end| shape.iter().any(|known| *known.path == path[..*end])),
        below: !path.is_empty() && shape.iter().any(was_below),
    }
}
