//! Puts parcels together from the records of their events, which lie in any of the partitions. Pure.
//!
//! A parcel may never be whole: after a lost answer a gateway sends its events again, perhaps divided otherwise, and may
//! have put only some of the records of the first attempt into the topic.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use fieldlog_projections::Seq;
use fieldlog_wire::Manifest;
use tokio::time::Instant;

/// What every header of the manifest begins with.
const PREFIX: &str = "fieldlog-";

/// The records of a topic on their way to parcels.
#[derive(Debug)]
pub(super) struct Assembler {
    incomplete: HashMap<Arc<str>, Parts>,
    /// What is not stored of each partition.
    partitions: Vec<Unstored>,
    /// Bytes of all incomplete parcels.
    bytes: usize,
    /// The next number of a parcel.
    number: u64,
}

/// What is known of a partition.
#[derive(Debug)]
struct Unstored {
    /// Offset of the next record that is read.
    next: i64,
    /// Offsets of the first record here of each parcel that is not stored, with its number.
    firsts: BTreeSet<(i64, u64)>,
    /// Bytes of incomplete parcels from here.
    bytes: usize,
}

/// A parcel of which records have arrived.
#[derive(Debug)]
struct Parts {
    manifest: Manifest,
    number: u64,
    /// Its events by position.
    events: BTreeMap<u64, Vec<u8>>,
    /// Its first offset in each partition that has records of it, and the bytes of these.
    places: BTreeMap<usize, (i64, usize)>,
    since: Instant,
}

/// A whole parcel.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    /// As JSON.
    pub(super) body: Arc<[u8]>,
    pub(super) manifest: Manifest,
    number: u64,
    firsts: Vec<(usize, i64)>,
}

/// A parcel that is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Incomplete {
    key: Arc<str>,
    pub(super) manifest: Manifest,
    /// Events of it that have arrived.
    pub(super) found: usize,
    since: Instant,
}

impl Incomplete {
    /// For how long it has been.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.since)
    }
}

/// Where a record was, and its headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    /// Number of its partition, from 0.
    pub(super) partition: usize,
    pub(super) offset: i64,
    pub(super) headers: &'a BTreeMap<String, Vec<u8>>,
}

impl Assembler {
    /// Begins at these offsets, one for each partition.
    pub(super) fn new(offsets: impl Iterator<Item = i64>) -> Assembler {
        let unstored = |next| Unstored { next, firsts: BTreeSet::new(), bytes: 0 };
        Assembler {
            incomplete: HashMap::new(),
            partitions: offsets.map(unstored).collect(),
            bytes: 0,
            number: 0,
        }
    }

    /// Enters a record; returns the parcel if it is whole now.
    ///
    /// # Errors
    /// Why the record is none of a parcel.
    pub(super) fn add(
        &mut self,
        record: Record<'_>,
        value: Vec<u8>,
        now: Instant,
    ) -> Result<Option<Whole>, String> {
        let Record { partition, offset, headers } = record;
        self.partitions[partition].next = offset + 1;
        let field = |name: &str| header(headers, &format!("{PREFIX}{name}"));
        let manifest = Manifest::read(field).map_err(|error| error.to_string())?;
        let seq = match header(headers, "ce_id") {
            Some(id) => Some(position(id, &manifest).ok_or("its `ce_id` is none of its parcel")?),
            None if manifest.events == 0 => None,
            None => return Err("it has no header `ce_id`".into()),
        };
        let key = key(&manifest);
        let parts = self.incomplete.entry(key.clone()).or_insert_with(|| {
            self.number += 1;
            Parts {
                manifest: manifest.clone(),
                number: self.number,
                events: BTreeMap::new(),
                places: BTreeMap::new(),
                since: now,
            }
        });
        parts.manifest.head = parts.manifest.head.max(manifest.head);
        let place = parts.places.entry(partition).or_insert_with(|| {
            self.partitions[partition].firsts.insert((offset, parts.number));
            (offset, 0)
        });
        if let Some(seq) = seq
            && !parts.events.contains_key(&seq)
        {
            place.1 += value.len();
            self.partitions[partition].bytes += value.len();
            self.bytes += value.len();
            parts.events.insert(seq, value);
        }
        if parts.events.len() < manifest.events as usize {
            return Ok(None);
        }
        let parts = self.take(&key).ok_or("its parcel is gone")?;
        Ok(Some(whole(parts)))
    }

    /// Takes a parcel out of the incomplete ones; it counts as not stored.
    fn take(&mut self, key: &str) -> Option<Parts> {
        let parts = self.incomplete.remove(key)?;
        for (partition, (_, bytes)) in &parts.places {
            self.partitions[*partition].bytes -= bytes;
            self.bytes -= bytes;
        }
        Some(parts)
    }

    /// Notes that a parcel is stored, or never will be.
    pub(super) fn done(&mut self, parcel: &Whole) {
        for (partition, first) in &parcel.firsts {
            self.partitions[*partition].firsts.remove(&(*first, parcel.number));
        }
    }

    /// Gives up a parcel that is not whole.
    pub(super) fn give_up(&mut self, incomplete: &Incomplete) {
        if let Some(parts) = self.take(&incomplete.key) {
            for (partition, (first, _)) in parts.places {
                self.partitions[partition].firsts.remove(&(first, parts.number));
            }
        }
    }

    /// Where reading goes on.
    pub(super) fn next(&self, partition: usize) -> i64 {
        self.partitions[partition].next
    }

    /// Goes on elsewhere, because there is nothing at the next offset.
    pub(super) fn skip_to(&mut self, partition: usize, offset: i64) {
        self.partitions[partition].next = offset;
    }

    /// Everything before this offset is stored.
    pub(super) fn stored(&self, partition: usize) -> i64 {
        let partition = &self.partitions[partition];
        partition.firsts.first().map_or(partition.next, |(first, _)| partition.next.min(*first))
    }

    /// Bytes of incomplete parcels.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a partition has no more than its share of them: where the records that are missing are likely to be.
    pub(super) fn is_behind(&self, partition: usize) -> bool {
        self.partitions[partition].bytes * self.partitions.len() <= self.bytes
    }

    /// How many parcels are incomplete.
    pub(super) fn incomplete(&self) -> usize {
        self.incomplete.len()
    }

    /// Those that have been for so long, the oldest first.
    pub(super) fn older_than(&self, age: Duration, now: Instant) -> Vec<Incomplete> {
        let old = self.incomplete.iter().filter(|(_, parts)| now.duration_since(parts.since) >= age);
        let mut old: Vec<Incomplete> = old
            .map(|(key, parts)| Incomplete {
                key: key.clone(),
                manifest: parts.manifest.clone(),
                found: parts.events.len(),
                since: parts.since,
            })
            .collect();
        old.sort_by_key(|incomplete| incomplete.since);
        old
    }
}

fn header<'a>(headers: &'a BTreeMap<String, Vec<u8>>, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| std::str::from_utf8(value).ok())
}

/// The position of an event, if it is one of this parcel.
fn position(id: &str, manifest: &Manifest) -> Option<u64> {
    let seq: u64 = id.rsplit('/').next()?.parse().ok()?;
    (manifest.first..=manifest.last).contains(&Seq(seq)).then_some(seq)
}

/// What the records of a parcel have in common: its manifest without the head.
fn key(manifest: &Manifest) -> Arc<str> {
    let mut key = String::with_capacity(256);
    for (name, value) in manifest.fields() {
        if name != "head" {
            // Writing to a String does not fail.
            let _ = write!(key, "{value} ");
        }
    }
    key.into()
}

fn whole(parts: Parts) -> Whole {
    let bytes: usize = parts.events.values().map(|event| event.len() + 1).sum();
    let mut body = Vec::with_capacity(bytes + 2);
    body.push(b'[');
    for event in parts.events.into_values() {
        if body.len() > 1 {
            body.push(b',');
        }
        body.extend_from_slice(&event);
    }
    body.push(b']');
    let firsts = parts.places.into_iter().map(|(partition, (first, _))| (partition, first));
    Whole { body: body.into(), manifest: parts.manifest, number: parts.number, firsts: firsts.collect() }
}

#[cfg(test)]
mod tests;
