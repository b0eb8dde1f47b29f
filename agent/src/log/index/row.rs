//! The rows of the index: which devices and types have records in which units of the log. Pure; `FORMAT.md` has the
//! bytes.

use std::collections::BTreeMap;

use fieldlog_projections::stored::type_name;
use fieldlog_projections::{DeviceId, Record, Seq, varint};

use super::super::checked::{unwrap, wrap};

/// First byte of a row.
const VERSION: u8 = 1;
/// Units of a row at most: each is a bit of a set.
const UNITS: usize = 64;
/// A unit ends with the chunk that gives it this many stored bytes.
const UNIT_BYTES: usize = 3 * 4096;
/// A row is made coarser until it is no larger than this part of the chunks that it covers; the store may round its size
/// up to the double.
const PART: usize = 40;
/// The number in the sets of devices for records whose device this version cannot tell, and in both for chunks that cannot
/// be read. No type has it, and device `n` is `n + 1`.
const ANY: u64 = 0;

/// What to look for: records of the device, if one is given, that also have one of the types, unless there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The device.
    pub device: Option<DeviceId>,
    /// The types; empty: all.
    pub types: Vec<u16>,
}

/// Sets of units, by number; the numbers are dense, so they are kept in blocks.
#[derive(Clone, Debug, Default)]
struct Sets(BTreeMap<u64, [u64; 64]>);

impl Sets {
    #[inline]
    fn mark(&mut self, number: u64, unit: usize) {
        let block = self.0.entry(number >> 6).or_insert([0; 64]);
        if let Some(set) = block.get_mut(number as usize & 63) {
            *set |= 1 << unit;
        }
    }

    /// Appends all sets; of `units` units, each bit stands for `1 << coarse`.
    fn put(&self, units: usize, coarse: u32, out: &mut Vec<u8>) {
        let sets = self.0.iter().flat_map(|(block, sets)| (block << 6..).zip(sets));
        let sets = || sets.clone().filter(|(_, set)| **set != 0);
        varint::put(out, sets().count() as u64);
        let whole = all(units, coarse);
        let mut next = 0;
        for (number, set) in sets() {
            let set = bits(*set).fold(0, |set, unit| set | 1_u64 << (unit >> coarse));
            varint::put(out, (number - next) << 1 | u64::from(set == whole));
            next = number + 1;
            if set == whole {
                continue;
            }
            out.push(set.count_ones() as u8);
            match map_bytes(whole) {
                size if (set.count_ones() as usize) < size => out.extend(bits(set).map(|unit| unit as u8)),
                size => out.extend(set.to_le_bytes().iter().take(size)),
            }
        }
    }
}

/// The numbers of the bits that are set.
fn bits(mut set: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}

/// The set with all units.
fn all(units: usize, coarse: u32) -> u64 {
    u64::MAX >> (64 - units.div_ceil(1 << coarse).clamp(1, 64))
}

/// Bytes of a bitmap, as a set with at least as many units is stored; one with fewer lists them.
fn map_bytes(all: u64) -> usize {
    all.count_ones().div_ceil(8) as usize
}

/// A row in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    /// The position of its first record; meaningless while there is none.
    first: Seq,
    /// Records of each unit.
    units: Vec<u64>,
    /// Stored bytes of the last unit, and of all.
    unit_bytes: usize,
    bytes: usize,
    devices: Sets,
    types: Sets,
}

impl Group {
    /// The position of its first record; `None` while it is empty.
    pub(crate) fn first(&self) -> Option<Seq> {
        (!self.units.is_empty()).then_some(self.first)
    }

    /// Whether it takes no more chunks.
    pub(crate) fn is_full(&self) -> bool {
        self.units.len() == UNITS && self.unit_bytes >= UNIT_BYTES
    }

    /// Begins a chunk of `records` records in `bytes` stored bytes; the records follow.
    pub(crate) fn chunk(&mut self, first: Seq, records: u64, bytes: usize) {
        if self.units.is_empty() {
            self.first = first;
        }
        if self.units.is_empty() || self.unit_bytes >= UNIT_BYTES {
            self.units.push(0);
            self.unit_bytes = 0;
        }
        if let Some(unit) = self.units.last_mut() {
            *unit += records;
        }
        self.unit_bytes += bytes;
        self.bytes += bytes;
    }

    /// The last chunk cannot be read, or not to its end: it may have anything.
    pub(crate) fn unreadable(&mut self) {
        let unit = self.units.len().saturating_sub(1);
        self.types.mark(ANY, unit);
        self.devices.mark(ANY, unit);
    }

    /// Adds a record of the last chunk.
    #[inline]
    pub(crate) fn record(&mut self, record: &Record<'_>) {
        let unit = self.units.len().saturating_sub(1);
        let type_id = record.kind.type_id;
        self.types.mark(type_id.into(), unit);
        match record.subject() {
            Ok(Some(device)) => self.devices.mark(u64::from(device.0) + 1, unit),
            Ok(None) if type_name(type_id).is_some() => {}
            // A later version may know its device.
            Ok(None) | Err(_) => self.devices.mark(ANY, unit),
        }
    }

    /// The row, which is stored under the first position.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::new();
        for coarse in 0..=UNITS.ilog2() {
            row.clear();
            row.push(self.units.len() as u8);
            self.units.iter().for_each(|records| varint::put(&mut row, *records));
            row.push(coarse as u8);
            self.types.put(self.units.len(), coarse, &mut row);
            self.devices.put(self.units.len(), coarse, &mut row);
            if row.len() <= self.bytes / PART {
                break;
            }
        }
        wrap(VERSION, &self.first.0.to_le_bytes(), &row)
    }
}

/// A stored row.
#[derive(Clone, Debug)]
pub(crate) struct Row<'a> {
    /// The first position of each unit, and the position after the last.
    bounds: Vec<Seq>,
    coarse: u32,
    /// The sets of the types, then those of the devices.
    sets: &'a [u8],
}

impl<'a> Row<'a> {
    /// Reads the row that is stored under `first`; `None` if it is damaged.
    pub(crate) fn parse(first: Seq, stored: &'a [u8]) -> Option<Row<'a>> {
        let (&units, mut rest) = unwrap(VERSION, &first.0.to_le_bytes(), stored)?.split_first()?;
        let mut bounds = vec![first];
        let mut end = first.0;
        for _ in 0..units {
            end = end.checked_add(varint::read(&mut rest)?)?;
            bounds.push(Seq(end));
        }
        let (&coarse, sets) = rest.split_first()?;
        let fits = (1..=UNITS).contains(&usize::from(units)) && u32::from(coarse) <= UNITS.ilog2();
        fits.then_some(Row { bounds, coarse: coarse.into(), sets })
    }

    /// The position after the last record.
    pub(crate) fn end(&self) -> Seq {
        self.bounds.last().copied().unwrap_or_default()
    }

    /// The ranges, first position and the one after the last, that may hold what is wanted; `None` if the row is damaged.
    pub(crate) fn runs(&self, wanted: &Wanted) -> Option<Vec<(Seq, Seq)>> {
        let mut runs: Vec<(Seq, Seq)> = Vec::new();
        for bit in bits(self.find(wanted)?) {
            let unit = (bit as usize) << self.coarse;
            let end = (unit + (1 << self.coarse)).min(self.bounds.len() - 1);
            let (&first, &end) = (self.bounds.get(unit)?, self.bounds.get(end)?);
            match runs.last_mut() {
                Some((_, before)) if *before == first => *before = end,
                _ => runs.push((first, end)),
            }
        }
        Some(runs)
    }

    /// Whether it has records whose device the version that wrote it could not tell.
    pub(crate) fn has_unknown(&self) -> bool {
        let (mut rest, mut has) = (self.sets, false);
        let types = each(&mut rest, u64::MAX, |_, _| true);
        let devices = types.and_then(|()| {
            each(&mut rest, u64::MAX, |number, _| {
                has = number == ANY;
                false
            })
        });
        devices.is_none() || has
    }

    /// The set of what is wanted.
    fn find(&self, wanted: &Wanted) -> Option<u64> {
        let all = all(self.bounds.len() - 1, self.coarse);
        let mut rest = self.sets;
        let (mut of_types, mut of_device) = (0, 0);
        each(&mut rest, all, |number, set| {
            let has = number == ANY || wanted.types.iter().any(|type_id| u64::from(*type_id) == number);
            of_types |= if has { set } else { 0 };
            true
        })?;
        if let Some(device) = wanted.device {
            let device = u64::from(device.0) + 1;
            each(&mut rest, all, |number, set| {
                of_device |= if number == ANY || number == device { set } else { 0 };
                number < device
            })?;
        }
        let of_types = if wanted.types.is_empty() { all } else { of_types };
        Some(of_types & if wanted.device.is_none() { all } else { of_device })
    }
}

/// Calls `visit` with each number and its set, until it returns `false`; `None` if they cannot be read.
fn each(rest: &mut &[u8], all: u64, mut visit: impl FnMut(u64, u64) -> bool) -> Option<()> {
    let mut next = 0_u64;
    for _ in 0..varint::read(rest)? {
        let head = varint::read(rest)?;
        let number = next.checked_add(head >> 1)?;
        next = number.checked_add(1)?;
        let set = if head & 1 == 1 { all } else { read_set(rest, all)? };
        if !visit(number, set & all) {
            return Some(());
        }
    }
    Some(())
}

fn read_set(rest: &mut &[u8], all: u64) -> Option<u64> {
    let (&count, after) = rest.split_first()?;
    let listed = usize::from(count) < map_bytes(all);
    let (stored, after) = after.split_at_checked(if listed { count.into() } else { map_bytes(all) })?;
    *rest = after;
    Some(if listed {
        stored.iter().fold(0, |set, unit| set | 1_u64 << (unit & 63))
    } else {
        stored.iter().rev().fold(0, |set, byte| set << 8 | u64::from(*byte))
    })
}

#[cfg(test)]
mod tests;
