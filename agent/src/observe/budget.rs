//! The memory budget of the state, and its use.
//!
//! It counts everything that grows with input and stays: names, values in the observer and in the view, topics, and for
//! each number the maximum size of its aggregates. Individual amounts are upper estimates: sizes of the structures, and
//! for text the blocks that an allocator hands out.

use fieldlog_projections::devices::Attribute;
use fieldlog_projections::fact::{DeclaredMetric, Identity};
use fieldlog_projections::{Aggregates, AttrId, Described, DeviceId, ValueRef, Window};

use super::registry::{Device, Slot};
use super::topics::{Known, Names, RuleMatch, Topic};

/// Share of the budget for topics: an eighth.
const TOPICS_SHARE: usize = 8;
/// Share of the budget for attribute names, which are never forgotten: a quarter.
const NAMES_SHARE: usize = 4;
/// Vectors that grow by doubling are at worst half empty.
const DOUBLING: usize = 2;
/// A map entry with a number as its value, without the key's text: pointer, length, number and unused slots.
const MAP_ENTRY_BYTES: usize = 64;
/// The view stores the source name with each device.
const SOURCE_NAME_BYTES_MAX: usize = 32;
/// The view stores the namespace with each device.
const NAMESPACE_BYTES_MAX: usize = 64;
/// Header of a shared allocation.
const SHARED_BYTES: usize = 16;

/// A forgotten device keeps its number: a slot in each list by number (observer, heard, view, aggregates).
pub(super) const FORGOTTEN_BYTES: usize = 4 * 8 * DOUBLING;
/// An attribute of a device: a slot in observer and view, and one for its series.
pub(super) const SLOT_BYTES: usize =
    (size_of::<Slot>() + size_of::<Attribute>()) * DOUBLING + 2 * MAP_ENTRY_BYTES;
/// An action of a device.
pub(super) const ACTION_BYTES: usize = 4 * DOUBLING;

/// Bytes of state, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateUse {
    /// `limits.state_bytes_max`, or the derived default.
    pub bytes_max: u64,
    /// In use.
    pub bytes: u64,
    /// Values, names and devices that were refused for lack of room, since the start.
    pub refused: u64,
    /// Retired devices that were forgotten to make room, since the start.
    pub forgotten: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Budget {
    max: usize,
    /// Names of attributes.
    pub(super) names: usize,
    /// Devices, values and series.
    pub(super) state: usize,
    /// Topics.
    pub(super) topics: usize,
    /// The maximum size of one number's series.
    series: usize,
    pub(super) refused: u64,
    pub(super) forgotten: u64,
    warned: bool,
}

impl Budget {
    pub(super) fn new(max: usize, windows: &[Window]) -> Budget {
        Budget { max, series: Aggregates::series_bytes_max(windows), ..Budget::default() }
    }

    /// Sets new bounds; everything must then be counted again.
    pub(super) fn configure(&mut self, max: usize, windows: &[Window]) {
        let (refused, forgotten) = (self.refused, self.forgotten);
        *self = Budget { refused, forgotten, ..Budget::new(max, windows) };
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn used(&self) -> usize {
        self.names + self.state + self.topics
    }

    /// Whether this many more bytes of names and state fit. Topics have a separate share.
    pub(super) fn fits(&self, more: usize) -> bool {
        self.names + self.state + more <= self.max - self.max / TOPICS_SHARE
    }

    /// The maximum for names including a new one. Action names, of which a device can invent one per message, may use
    /// only half of it.
    pub(super) fn names_max(&self, action: bool) -> usize {
        self.max / NAMES_SHARE / if action { 2 } else { 1 }
    }

    pub(super) fn topics_fit(&self, more: usize) -> bool {
        self.topics + more <= self.max / TOPICS_SHARE
    }

    /// Counts a refusal; `true` the first time, when the operator is told.
    pub(super) fn refuse(&mut self) -> bool {
        self.refused += 1;
        !std::mem::replace(&mut self.warned, true)
    }

    pub(super) fn report(&self) -> StateUse {
        StateUse {
            bytes_max: self.max as u64,
            bytes: self.used() as u64,
            refused: self.refused,
            forgotten: self.forgotten,
        }
    }

    /// All memory of a device.
    pub(super) fn device(&self, device: &Device) -> usize {
        let slots: usize = device.slots.iter().map(|slot| self.slot(slot)).sum();
        let former: usize = device.former.iter().map(|name| former_bytes(name)).sum();
        let described = described_bytes(device.described.as_deref());
        device_bytes(&device.name, &device.called)
            + former
            + slots
            + device.actions.len() * ACTION_BYTES
            + described
    }

    fn slot(&self, slot: &Slot) -> usize {
        let series = if slot.series { self.series } else { 0 };
        SLOT_BYTES + slot_value_bytes(slot) + series
    }

    /// How many bytes the slot would gain and lose with `value`.
    #[inline]
    pub(super) fn change(&self, slot: &Slot, value: ValueRef<'_>) -> (usize, usize) {
        let series = if !slot.series && value.as_number().is_some() { self.series } else { 0 };
        (value_bytes(value) + series, value_bytes(slot.value.borrow()))
    }

    /// Books a change.
    #[inline]
    pub(super) fn book(&mut self, (more, less): (usize, usize)) {
        self.state = (self.state + more).saturating_sub(less);
    }
}

/// The block size that an allocator hands out for this many bytes.
const fn block(bytes: usize) -> usize {
    if bytes == 0 {
        return 0;
    }
    let block = (bytes + 8).next_multiple_of(16);
    if block < 32 { 32 } else { block }
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

/// An attribute name: its text in observer and view, in a list and a map each, and in the lists of sinks.
pub(super) fn attribute_bytes(name: &str) -> usize {
    2 * (block(SHARED_BYTES + name.len()) + MAP_ENTRY_BYTES + 16 * DOUBLING)
}

/// The descriptions of a device and its attributes, in observer and view.
pub(super) fn described_bytes(described: Option<&Described>) -> usize {
    let Some(described) = described.filter(|described| !described.is_empty()) else { return 0 };
    let texts: usize =
        described.lengths().map(|bytes| block(bytes) + size_of::<(AttrId, Box<[u8]>)>() * DOUBLING).sum();
    2 * (block(SHARED_BYTES + size_of::<Described>()) + texts + MAP_ENTRY_BYTES)
}

/// The topic of a device that an announcement introduces.
pub(super) fn introduced_bytes(id: &str, topic: &str) -> usize {
    block(id.len()) + block(topic.len()) + MAP_ENTRY_BYTES * DOUBLING
}

/// The attributes described by a topic of discovery, and the reverse index.
pub(super) fn announcing_bytes(topic: &str, attributes: usize) -> usize {
    block(SHARED_BYTES + topic.len())
        + MAP_ENTRY_BYTES * DOUBLING
        + attributes * (16 + MAP_ENTRY_BYTES) * DOUBLING
}

/// A value without its slot, in observer and view.
#[inline]
pub(super) fn value_bytes(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(text) | ValueRef::Json(text) => 2 * block(text.len()),
        _ => 0,
    }
}

/// A held-back value, counted as if recorded.
pub(super) fn deferred_bytes(value: ValueRef<'_>) -> usize {
    value_bytes(value) + MAP_ENTRY_BYTES
}

/// A Sparkplug edge node without metrics.
pub(super) fn edge_node_bytes(name: &str) -> usize {
    block(name.len()) + (16 + size_of::<super::sparkplug::EdgeNode>()) * DOUBLING
}

/// The metrics of an edge node or a device, in observer and view.
pub(super) fn declared_bytes(metrics: usize) -> usize {
    2 * (MAP_ENTRY_BYTES + size_of::<DeclaredMetric>() * metrics) + block(SHARED_BYTES)
}

/// Entries of the map of aliases.
pub(super) fn aliases_bytes(aliases: usize) -> usize {
    aliases * (size_of::<(u64, (DeviceId, u32))>() + 1) * DOUBLING
}

fn slot_value_bytes(slot: &Slot) -> usize {
    let deferred = slot.deferred.as_ref().map_or(0, |(_, value)| deferred_bytes(value.borrow()));
    value_bytes(slot.value.borrow()) + deferred
}

/// The memory of a topic.
pub(super) fn topic_bytes(name: &[u8], topic: &Topic) -> usize {
    let matches: usize = topic.matches.iter().map(match_bytes).sum();
    block(name.len()) + (16 + size_of::<Topic>()) * DOUBLING + matches
}

fn match_bytes(matched: &RuleMatch) -> usize {
    let parent = matched.parent.as_ref().map_or(0, |parent| block(parent.len()));
    let texts = block(matched.device_name.len()) + block(matched.attribute.len()) + parent;
    let shape: usize = matched.shape.iter().map(|known| shape_bytes(&known.path)).sum();
    let names = matched.names.as_ref().map_or(0, |names| {
        names
            .devices
            .iter()
            .chain([&names.attribute])
            .map(|name| block(name.bytes()) * DOUBLING)
            .sum::<usize>()
            + block(size_of::<Names>())
    });
    size_of::<RuleMatch>() * DOUBLING + texts + shape + names
}

/// An attribute path of a topic.
pub(super) fn shape_bytes(path: &str) -> usize {
    block(path.len()) + size_of::<Known>() * DOUBLING
}
