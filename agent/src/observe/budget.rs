//! The memory budget of the state, and its use.
//!
//! It counts everything that grows with input and stays: names, values in the observer and in the view, topics, and for
//! each number the maximum size of its aggregates. Individual amounts are upper estimates: sizes of the structures, and
//! for text the blocks that an allocator hands out.

use std::sync::Arc;

use fieldlog_projections::fact::DeclaredMetric;
use fieldlog_projections::{Aggregates, AttrId, Declared, Described, DeviceId, Named, Settings, ValueRef};

/// Share of the budget for topics: an eighth.
const TOPICS_SHARE: usize = 8;
/// Share of the budget for attribute names, which are never forgotten: a quarter.
const NAMES_SHARE: usize = 4;
/// Vectors that grow by doubling are at worst half empty.
pub(super) const DOUBLING: usize = 2;
/// A map entry with a number as its value, without the key's text: pointer, length, number and unused slots.
pub(super) const MAP_ENTRY_BYTES: usize = 64;
/// Header of a shared allocation.
pub(super) const SHARED_BYTES: usize = 16;

/// A forgotten device keeps its number: a slot in each list by number (observer, heard, view, aggregates).
pub(super) const FORGOTTEN_BYTES: usize = 4 * 8 * DOUBLING;

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
    /// The maximum size of one number's series in the aggregates of all attributes.
    series: usize,
    declared: Declared,
    /// By attribute: the maximum size of what one number has a part in beside that.
    named: Vec<usize>,
    pub(super) refused: u64,
    pub(super) forgotten: u64,
    warned: bool,
}

impl Budget {
    pub(super) fn new(max: usize, settings: Settings) -> Budget {
        let series = Aggregates::series_bytes_max(&settings.windows);
        Budget { max, series, declared: settings.declared, ..Budget::default() }
    }

    /// Sets new bounds; everything must then be counted again.
    pub(super) fn configure(&mut self, max: usize, settings: Settings) {
        let (refused, forgotten) = (self.refused, self.forgotten);
        *self = Budget { refused, forgotten, ..Budget::new(max, settings) };
    }

    /// Counts the names of all attributes.
    pub(super) fn count_names(&mut self, names: &[Arc<str>]) {
        self.names = 0;
        self.named.clear();
        names.iter().for_each(|name| self.name(name));
    }

    /// Counts the name of the next attribute.
    pub(super) fn name(&mut self, name: &str) {
        self.names += attribute_bytes(name);
        self.named.push(Named::bytes_max(&self.declared, name));
    }

    /// The maximum size of the aggregates of one number of an attribute.
    #[inline]
    pub(super) fn series(&self, attr: AttrId) -> usize {
        self.series + self.named.get(attr.0 as usize).copied().unwrap_or(0)
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

    /// Books a change.
    #[inline]
    pub(super) fn book(&mut self, (more, less): (usize, usize)) {
        self.state = (self.state + more).saturating_sub(less);
    }
}

/// The block size that an allocator hands out for this many bytes.
pub(super) const fn block(bytes: usize) -> usize {
    if bytes == 0 {
        return 0;
    }
    let block = (bytes + 8).next_multiple_of(16);
    if block < 32 { 32 } else { block }
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

/// The metrics of an edge node or a device, in observer and view.
pub(super) fn declared_bytes(metrics: usize) -> usize {
    2 * (MAP_ENTRY_BYTES + size_of::<DeclaredMetric>() * metrics) + block(SHARED_BYTES)
}

/// Entries of the map of aliases.
pub(super) fn aliases_bytes(aliases: usize) -> usize {
    aliases * (size_of::<(u64, (DeviceId, u32))>() + 1) * DOUBLING
}
