//! The account of one received log: ranges of positions, and the chain at their ends. Pure.

use std::collections::{BTreeMap, BTreeSet};

use fieldlog_projections::{Anchor, ChainHash, Epoch, Seq};
use serde::{Deserialize, Serialize};

use crate::manifest::{Lane, Manifest};

/// Maximum parcel ends within ranges at which the chain is remembered; the lowest are dropped first.
const LINKS_MAX: usize = 65_536;
/// Number of remembered event digests: the newest at each position modulo this.
const DIGESTS: usize = 16_384;
/// Maximum priority copies remembered until a parcel covers them; further ones arrive with that parcel.
const PRIORITY_MAX: usize = 65_536;
/// Maximum faults kept in full; further ones are only counted.
const FAULTS_MAX: usize = 100;

/// The content of a parcel.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// Position and digest of each event in it, in order.
    pub events: &'a [(Seq, u64)],
    /// The chain after each covered position, if the parcel has the records of all of them.
    pub chain: Option<&'a [ChainHash]>,
}

/// What is new in a parcel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Ranges of positions that had not arrived before, inclusive.
    pub fresh: Vec<(Seq, Seq)>,
    /// Positions of its priority copies that arrived for the first time, ascending.
    pub ahead: Vec<Seq>,
    /// New positions whose events had already arrived as priority copies, ascending.
    pub known: Vec<Seq>,
    /// Events that had already arrived, not counting the first arrival after a priority copy.
    pub duplicates: u64,
    /// Contradictions with what had arrived before.
    pub faults: Vec<Fault>,
}

impl Taken {
    /// Whether a position is new.
    pub fn is_fresh(&self, seq: Seq) -> bool {
        self.fresh.iter().any(|(first, last)| (*first..=*last).contains(&seq))
    }

    /// Whether the event at a position arrived for the first time.
    pub fn is_new(&self, seq: Seq) -> bool {
        let has = |list: &[Seq]| list.binary_search(&seq).is_ok();
        has(&self.ahead) || (self.is_fresh(seq) && !has(&self.known))
    }
}

/// A contradiction: two logs have the same identity, or one was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// The chain after a position differs from the known one: a restored backup, or two gateways with one identity.
    Fork {
        /// The position.
        seq: Seq,
    },
    /// An event arrived again with other content.
    Content {
        /// Its position.
        seq: Seq,
    },
    /// The records of a parcel do not give its stated chain: they were changed after they were recorded.
    Altered {
        /// First position of the parcel.
        first: Seq,
        /// Its last position.
        last: Seq,
    },
}

impl Fault {
    /// Whether this indicates a different history, rather than a record changed in transit.
    pub fn is_fork(&self) -> bool {
        self.fork_at().is_some()
    }

    /// Where two histories diverge, if this is a fork.
    fn fork_at(&self) -> Option<Seq> {
        match self {
            Fault::Fork { seq } | Fault::Content { seq } => Some(*seq),
            Fault::Altered { .. } => None,
        }
    }
}

/// A parcel that was refused because it belongs to a different history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forked {
    /// Where they diverge, as far as known.
    pub fault: Fault,
    /// Whether this has not been counted before: a sender retries many times.
    pub is_new: bool,
}

/// A range of positions that have arrived without a hole and with a matching chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Segment {
    last: u64,
    before: ChainHash,
    after: ChainHash,
    /// The chain was recomputed from the records up to here.
    recomputed: u64,
}

/// The account of one received log.
///
/// A store keeps it beside the events. One that is read back knows no links and digests within its ranges, and does not
/// remember any: whoever has the events compares those that come again himself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Account {
    pub(crate) epoch: Epoch,
    /// By first position.
    segments: BTreeMap<u64, Segment>,
    #[serde(skip)]
    links: BTreeMap<u64, ChainHash>,
    #[serde(skip)]
    digests: Vec<(Seq, u64)>,
    /// Whether it remembers links and digests within its ranges.
    #[serde(skip)]
    remembers: bool,
    /// Positions of priority copies that no parcel has covered yet.
    priority: BTreeSet<Seq>,
    pub(crate) counts: Counts,
    pub(crate) faults: Vec<Fault>,
    newest: [Seq; 2],
}

/// Counters of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Parcels.
    pub parcels: u64,
    /// Events, each once.
    pub events: u64,
    /// Parcels without new positions.
    pub duplicate_parcels: u64,
    /// Events that arrived again.
    pub duplicate_events: u64,
    /// Events that arrived first as priority copies.
    pub priority_events: u64,
    /// Parcels that arrived after a later one of their lane, except duplicates.
    pub out_of_order: u64,
    /// Contradictions; one that causes repeated refusals counts once.
    pub faults: u64,
    /// Parcels that were refused because they belong to a different history.
    pub refused_parcels: u64,
    /// Newest position that the gateway has mentioned.
    pub head: Seq,
}

impl Account {
    /// An account of which nothing has arrived.
    pub fn new(epoch: Epoch) -> Account {
        Account {
            epoch,
            segments: BTreeMap::new(),
            links: BTreeMap::new(),
            digests: Vec::new(),
            remembers: true,
            priority: BTreeSet::new(),
            counts: Counts::default(),
            faults: Vec::new(),
            newest: [Seq(0); 2],
        }
    }

    pub(crate) fn record(&mut self, arrival: &Arrival<'_>) -> Taken {
        let faults = self.contradictions(arrival);
        self.enter(arrival, faults)
    }

    /// Takes a parcel unless it belongs to a different history.
    ///
    /// # Errors
    /// [`Forked`]: nothing of the parcel is entered, but it is counted.
    pub fn take_unless_forked(&mut self, arrival: &Arrival<'_>) -> Result<Taken, Forked> {
        let faults = self.contradictions(arrival);
        match faults.iter().find(|fault| fault.is_fork()) {
            Some(fork) => Err(self.refuse(arrival.manifest, *fork)),
            None => Ok(self.enter(arrival, faults)),
        }
    }

    /// Counts a refused parcel. Its positions stay unknown.
    pub fn refuse(&mut self, manifest: &Manifest, fault: Fault) -> Forked {
        let known = self.faults.iter().any(|other| other.fork_at() == fault.fork_at());
        let is_new = self.faults.len() < FAULTS_MAX && !known;
        self.counts.refused_parcels += 1;
        self.counts.head = self.counts.head.max(manifest.head);
        if is_new {
            self.counts.faults += 1;
            self.faults.push(fault);
        }
        Forked { fault, is_new }
    }

    fn enter(&mut self, arrival: &Arrival<'_>, faults: Vec<Fault>) -> Taken {
        let manifest = arrival.manifest;
        if manifest.lane == Lane::Priority {
            return self.take_ahead(arrival, faults);
        }
        let mut taken = Taken { faults, ..Taken::default() };
        taken.fresh = self.holes(manifest.first, manifest.last);
        let mut fresh_events = 0;
        for &(seq, digest) in arrival.events {
            if !taken.is_fresh(seq) {
                taken.duplicates += 1;
            } else if self.priority.contains(&seq) {
                taken.known.push(seq);
            } else {
                fresh_events += 1;
                self.remember(seq, digest);
            }
        }
        self.admit(manifest, arrival.chain, &taken, fresh_events);
        taken
    }

    /// Enters priority copies. They cover nothing, so they change neither the holes nor the known links.
    fn take_ahead(&mut self, arrival: &Arrival<'_>, faults: Vec<Fault>) -> Taken {
        let mut taken = Taken { faults, ..Taken::default() };
        let room = PRIORITY_MAX.saturating_sub(self.priority.len());
        for &(seq, digest) in arrival.events {
            if self.priority.contains(&seq) || self.holes(seq, seq).is_empty() {
                taken.duplicates += 1;
            } else if taken.ahead.len() < room {
                taken.ahead.push(seq);
                self.remember(seq, digest);
            }
        }
        self.admit(arrival.manifest, None, &taken, taken.ahead.len() as u64);
        taken
    }

    /// Enters a parcel without looking for contradictions; `taken` has them.
    pub(crate) fn admit(
        &mut self,
        manifest: &Manifest,
        chain: Option<&[ChainHash]>,
        taken: &Taken,
        fresh_events: u64,
    ) {
        let sound = taken.faults.is_empty();
        self.priority.extend(&taken.ahead);
        for &(first, last) in &taken.fresh {
            self.insert(manifest, chain.filter(|_| sound), sound, first, last);
            while let Some(&seq) = self.priority.range(first..=last).next() {
                self.priority.remove(&seq);
            }
        }
        if self.remembers && sound && manifest.lane != Lane::Priority {
            self.links.insert(manifest.first.0 - 1, manifest.before);
            self.links.insert(manifest.last.0, manifest.after);
            while self.links.len() > LINKS_MAX {
                self.links.pop_first();
            }
        }
        self.count(manifest, taken, fresh_events);
    }

    fn count(&mut self, manifest: &Manifest, taken: &Taken, fresh_events: u64) {
        let priority = manifest.lane == Lane::Priority;
        let duplicate = taken.fresh.is_empty() && !priority;
        let counts = &mut self.counts;
        counts.parcels += 1;
        counts.events += fresh_events;
        counts.duplicate_events += taken.duplicates;
        counts.duplicate_parcels += u64::from(duplicate);
        counts.priority_events += taken.ahead.len() as u64;
        counts.faults += taken.faults.len() as u64;
        counts.head = counts.head.max(manifest.head);
        if !priority {
            let newest = &mut self.newest[usize::from(manifest.lane == Lane::Backlog)];
            counts.out_of_order += u64::from(!duplicate && manifest.last < *newest);
            *newest = (*newest).max(manifest.last);
        }
        let room = FAULTS_MAX.saturating_sub(self.faults.len());
        self.faults.extend(taken.faults.iter().take(room));
    }

    fn contradictions(&self, arrival: &Arrival<'_>) -> Vec<Fault> {
        let manifest = arrival.manifest;
        if manifest.lane == Lane::Priority {
            return self.other_content(arrival).into_iter().collect();
        }
        let (first, last) = (manifest.first.0, manifest.last.0);
        let mut faults = Vec::new();
        if arrival.chain.is_some_and(|chain| chain.last() != Some(&manifest.after)) {
            faults.push(Fault::Altered { first: manifest.first, last: manifest.last });
        }
        let fits = |seq: u64, link: ChainHash| self.link_at(seq).is_none_or(|known| known == link);
        let mut fork = None;
        if !fits(first - 1, manifest.before) {
            fork = Some(first - 1);
        } else if let Some(chain) = arrival.chain {
            fork = self.ends_within(first, last).find(|seq| !fits(*seq, chain[(seq - first) as usize]));
        }
        if fork.is_none() && !fits(last, manifest.after) {
            fork = Some(last);
        }
        faults.extend(fork.map(|seq| Fault::Fork { seq: Seq(seq) }));
        faults.extend(self.other_content(arrival));
        faults
    }

    /// The first event that had arrived before with other content.
    fn other_content(&self, arrival: &Arrival<'_>) -> Option<Fault> {
        let other = arrival.events.iter().find(|(seq, digest)| {
            self.digests
                .get(seq.0 as usize % DIGESTS)
                .is_some_and(|known| known.0 == *seq && known.1 != *digest)
        });
        other.map(|(seq, _)| Fault::Content { seq: *seq })
    }

    /// Priority copies whose positions no parcel has covered yet.
    pub fn uncovered(&self) -> usize {
        self.priority.len()
    }

    /// The chain after a position, if it is known.
    fn link_at(&self, seq: u64) -> Option<ChainHash> {
        if seq == 0 {
            return Some(ChainHash::origin(self.epoch));
        }
        let below = self.segments.range(..=seq).next_back();
        let end = below.filter(|(_, segment)| segment.last == seq).map(|(_, segment)| segment.after);
        let start = || self.segments.get(&(seq + 1)).map(|segment| segment.before);
        end.or_else(start).or_else(|| self.links.get(&seq).copied())
    }

    /// Positions in a range at which the chain is known.
    fn ends_within(&self, first: u64, last: u64) -> impl Iterator<Item = u64> {
        let edges = self.segments.range(..=last).rev().take_while(move |(_, segment)| segment.last >= first);
        let edges = edges.flat_map(|(start, segment)| [start - 1, segment.last]);
        let mut ends: Vec<u64> = self.links.range(first..=last).map(|(seq, _)| *seq).chain(edges).collect();
        ends.retain(|seq| (first..=last).contains(seq));
        ends.sort_unstable();
        ends.into_iter()
    }

    /// The parts of a range that have not arrived.
    pub fn holes(&self, first: Seq, last: Seq) -> Vec<(Seq, Seq)> {
        let mut holes = Vec::new();
        let mut from = first.0;
        let start = self.segments.range(..=first.0).next_back().map_or(first.0, |(start, _)| *start);
        for (&start, segment) in self.segments.range(start..=last.0) {
            if from < start {
                holes.push((Seq(from), Seq(start - 1)));
            }
            from = from.max(segment.last + 1);
        }
        if from <= last.0 {
            holes.push((Seq(from), last));
        }
        holes
    }

    /// Enters the new part of a parcel and joins it with its neighbours where the chain matches.
    fn insert(
        &mut self,
        manifest: &Manifest,
        chain: Option<&[ChainHash]>,
        sound: bool,
        first: Seq,
        last: Seq,
    ) {
        let inside = |seq: u64| match chain {
            Some(chain) => chain.get((seq - manifest.first.0) as usize).copied(),
            // The known range ends here. After a contradiction its chain says nothing about this parcel; no chain is
            // zero, so nothing is joined.
            None if sound => self.link_at(seq),
            None => None,
        };
        let before = if first == manifest.first { Some(manifest.before) } else { inside(first.0 - 1) };
        let after = if last == manifest.last { Some(manifest.after) } else { inside(last.0) };
        let mut segment = Segment {
            last: last.0,
            before: before.unwrap_or_default(),
            after: after.unwrap_or_default(),
            recomputed: if chain.is_some() { last.0 } else { first.0 - 1 },
        };
        let mut start = first.0;
        if let Some((&at, below)) = self.segments.range(..start).next_back()
            && below.last + 1 == start
            && below.after == segment.before
        {
            let reaches = below.recomputed == below.last;
            segment.recomputed = if reaches { segment.recomputed } else { below.recomputed };
            segment.before = below.before;
            start = at;
        }
        if let Some(&above) = self.segments.get(&(segment.last + 1))
            && above.before == segment.after
        {
            self.segments.remove(&(segment.last + 1));
            if segment.recomputed == segment.last {
                segment.recomputed = above.recomputed;
            }
            (segment.last, segment.after) = (above.last, above.after);
        }
        self.segments.insert(start, segment);
    }

    /// Notes that the chain was recomputed over the new part of a parcel.
    pub(crate) fn recomputed(&mut self, taken: &Taken) {
        for &(first, last) in &taken.fresh {
            if let Some((_, segment)) = self.segments.range_mut(..=first.0).next_back()
                && segment.recomputed + 1 >= first.0
            {
                segment.recomputed = segment.recomputed.max(last.0);
            }
        }
    }

    fn remember(&mut self, seq: Seq, digest: u64) {
        if !self.remembers {
            return;
        }
        if self.digests.is_empty() {
            self.digests = vec![(Seq(0), 0); DIGESTS];
        }
        self.digests[seq.0 as usize % DIGESTS] = (seq, digest);
    }

    /// First and last position that have arrived.
    pub(crate) fn range(&self) -> Option<(Seq, Seq)> {
        let (first, _) = self.segments.first_key_value()?;
        let (_, last) = self.segments.last_key_value()?;
        Some((Seq(*first), Seq(last.last)))
    }

    /// The missing ranges from `from` on, below the newest position that has arrived.
    pub(crate) fn missing(&self, from: Seq) -> Vec<(Seq, Seq)> {
        self.range().map_or_else(Vec::new, |(_, last)| self.holes(from, last))
    }

    /// How far the chain matches without a break from `from` on, and how far it was recomputed.
    pub(crate) fn chained(&self, from: Seq) -> (Seq, Seq) {
        let segment = self.segments.get(&from.0);
        segment.map_or((Seq(from.0 - 1), Seq(from.0 - 1)), |s| (Seq(s.last), Seq(s.recomputed)))
    }

    /// The end of the matching chain from `from` on, with its link.
    pub(crate) fn anchor(&self, from: Seq) -> Option<Anchor> {
        let segment = self.segments.get(&from.0)?;
        Some(Anchor { seq: Seq(segment.last), link: segment.after })
            .filter(|a| a.link != ChainHash::default())
    }
}
