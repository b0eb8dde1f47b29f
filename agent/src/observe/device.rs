//! What is known of a device and its attributes, and the memory that it takes.

use std::num::NonZeroU32;
use std::sync::Arc;

use fieldlog_projections::devices::Attribute;
use fieldlog_projections::fact::{Availability, AvailabilityCause, Identity};
use fieldlog_projections::{AttrId, Described, DeviceId, Seq, Time, Value, ValueRef};

use super::budget::{
    Budget, DOUBLING, FORGOTTEN_BYTES, MAP_ENTRY_BYTES, SHARED_BYTES, block, deferred_bytes, described_bytes,
    value_bytes,
};
use super::namespaces::Namespace;
use crate::message::SourceId;

/// Placeholder for the time of the last event if there was none.
const NEVER: Time = Time(i64::MIN);
/// The view stores the source name with each device.
const SOURCE_NAME_BYTES_MAX: usize = 32;
/// The view stores the namespace with each device.
const NAMESPACE_BYTES_MAX: usize = 64;

/// An attribute of a device: a slot in observer and view, and one for its series.
pub(super) const SLOT_BYTES: usize =
    (size_of::<Slot>() + size_of::<Attribute>()) * DOUBLING + 2 * MAP_ENTRY_BYTES;
/// An action of a device.
pub(super) const ACTION_BYTES: usize = 4 * DOUBLING;

#[derive(Debug)]
pub(super) struct Device {
    /// Its id.
    pub(super) name: Arc<str>,
    /// Its name at the source.
    pub(super) called: Arc<str>,
    /// `None` if no record has it.
    pub(super) namespace: Option<Namespace>,
    /// Its former ids, oldest first.
    pub(super) former: Vec<Arc<str>>,
    pub(super) source: SourceId,
    pub(super) parent: Option<DeviceId>,
    /// Devices that have this one as their parent.
    pub(super) children: u32,
    /// Position of the record of its retirement.
    pub(super) retired: Option<Seq>,
    pub(super) availability: Availability,
    pub(super) cause: AvailabilityCause,
    pub(super) heard: Time,
    pub(super) slots: Vec<Slot>,
    /// Its actions since the start; their names are attribute names too.
    pub(super) actions: Vec<AttrId>,
    /// The descriptions of it and its attributes.
    pub(super) described: Option<Box<Described>>,
    /// What it reports may be evidence for a command.
    pub(super) watched: bool,
}

impl Device {
    /// All memory of a device.
    pub(super) fn bytes(&self, budget: &Budget) -> usize {
        let slots: usize = self.slots.iter().map(|slot| slot.bytes(budget)).sum();
        let former: usize = self.former.iter().map(|name| former_bytes(name)).sum();
        let described = described_bytes(self.described.as_deref());
        device_bytes(&self.name, &self.called)
            + former
            + slots
            + self.actions.len() * ACTION_BYTES
            + described
    }
}

/// An attribute of a device.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) attr: AttrId,
    pub(super) value: Value,
    /// Time of its last event.
    pub(super) recorded: Time,
    /// Number of the last message that mentioned it.
    pub(super) stamp: u32,
    /// Index among the policies of the device's source.
    pub(super) policy: Option<u16>,
    /// A value held back, and when its interval ends.
    pub(super) deferred: Option<(Time, Value)>,
    /// It was a number, so it has aggregates.
    pub(super) series: bool,
    /// Its values must not be stored.
    pub(super) redact: bool,
    /// Distinguishes the values of a redacted attribute.
    pub(super) secret: Option<NonZeroU32>,
}

impl Slot {
    pub(super) fn new(attr: AttrId, policy: Option<u16>) -> Slot {
        Slot {
            attr,
            value: Value::Null,
            recorded: NEVER,
            stamp: 0,
            policy,
            deferred: None,
            series: false,
            redact: false,
            secret: None,
        }
    }

    /// Whether an event of it has been recorded.
    #[inline]
    pub(super) fn was_recorded(&self) -> bool {
        self.recorded != NEVER
    }

    fn bytes(&self, budget: &Budget) -> usize {
        let series = if self.series { budget.series(self.attr) } else { 0 };
        let deferred = self.deferred.as_ref().map_or(0, |(_, value)| deferred_bytes(value.borrow()));
        SLOT_BYTES + value_bytes(self.value.borrow()) + deferred + series
    }

    /// How many bytes the slot would gain and lose with `value`.
    #[inline]
    pub(super) fn change(&self, budget: &Budget, value: ValueRef<'_>) -> (usize, usize) {
        let more = !self.series && value.as_number().is_some();
        let series = if more { budget.series(self.attr) } else { 0 };
        (value_bytes(value) + series, value_bytes(self.value.borrow()))
    }
}

/// A device without attributes, in observer and view; both have the texts of its id and its name.
pub(super) fn device_bytes(name: &str, called: &str) -> usize {
    let names = 2 * block(SHARED_BYTES + name.len()) + 2 * MAP_ENTRY_BYTES + block(SOURCE_NAME_BYTES_MAX);
    let called = block(SHARED_BYTES + called.len()) + block(called.len()) + MAP_ENTRY_BYTES + block(8);
    let identity = block(size_of::<Identity>()) + block(NAMESPACE_BYTES_MAX);
    let structures =
        block(size_of::<Device>()) + block(SHARED_BYTES + size_of::<fieldlog_projections::Device>());
    names + called + identity + structures + FORGOTTEN_BYTES + MAP_ENTRY_BYTES
}

/// A former id of a device, in observer and view, by device and by id.
pub(super) fn former_bytes(name: &str) -> usize {
    2 * (block(SHARED_BYTES + name.len()) + MAP_ENTRY_BYTES + size_of::<usize>() * 2 * DOUBLING)
}

/// Maximum additional bytes of a device that gets a new id and a new name.
pub(super) fn renamed_bytes(before: &str, name: &str, called: &str) -> usize {
    former_bytes(before) + device_bytes(name, called)
}
