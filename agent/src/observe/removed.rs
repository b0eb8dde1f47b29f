//! Attributes that a document removes implicitly.

use fieldlog_projections::{AttrId, DeviceId, Time, Value, ValueRef};

use super::Observer;
use super::device::Slot;
use super::topics::{Known, RuleMatch};

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
