//! Decodes a received message for the ledger and the output file.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher};

use fieldlog_projections::{ChainHash, Seq};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::account::Arrival;
use crate::cloudevent::CloudEvents;
use crate::compact::{self, Compact, CompactError};
use crate::event::Naming;
use crate::manifest::{Manifest, ManifestError};

/// A parcel that has been read and checked.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its events as CloudEvents, one per line.
    pub lines: Vec<u8>,
    /// Position and digest of each.
    pub events: Vec<(Seq, u64)>,
    /// End of each in `lines`.
    ends: Vec<usize>,
    chain: Option<Vec<ChainHash>>,
}

impl Received {
    /// Decodes a message. If the manifest is not part of it, `field` finds its fields by their names without prefix.
    ///
    /// # Errors
    /// [`Malformed`] if it is not a parcel, or its events do not match its manifest.
    pub fn read<'a>(body: &[u8], field: impl Fn(&str) -> Option<&'a str>) -> Result<Received, Malformed> {
        if body.starts_with(compact::MAGIC) {
            return Received::compact(&Compact::decode(body)?);
        }
        match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => {
                let events: Vec<&RawValue> = serde_json::from_slice(body)?;
                Received::json(Manifest::read(field)?, &events)
            }
            Some(b'{') => {
                let Wrapped { fieldlog, events } = serde_json::from_slice(body)?;
                Received::json(fieldlog, &events)
            }
            _ => Err(Malformed::Unknown),
        }
    }

    /// The arrival for the ledger.
    pub fn arrival(&self) -> Arrival<'_> {
        Arrival { manifest: &self.manifest, events: &self.events, chain: self.chain.as_deref() }
    }

    /// Whether the chain could be recomputed from its records.
    pub fn has_chain(&self) -> bool {
        self.chain.is_some()
    }

    /// Position and line of each event, in order.
    pub fn texts(&self) -> impl Iterator<Item = (Seq, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let lines = starts.zip(&self.ends).map(|(start, &end)| &self.lines[start..end]);
        self.events.iter().map(|(seq, _)| *seq).zip(lines)
    }

    /// The lines of the events at the positions that `wanted` accepts, in runs.
    pub fn runs(&self, wanted: impl Fn(Seq) -> bool) -> Vec<&[u8]> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        let mut start = 0;
        for ((seq, _), &end) in self.events.iter().zip(&self.ends) {
            if wanted(*seq) {
                match runs.last_mut() {
                    Some(run) if run.1 == start => run.1 = end,
                    _ => runs.push((start, end)),
                }
            }
            start = end;
        }
        runs.into_iter().map(|(start, end)| &self.lines[start..end]).collect()
    }

    fn empty(manifest: Manifest) -> Received {
        let events = manifest.events as usize;
        Received {
            manifest,
            lines: Vec::new(),
            // The number is the sender's claim; allocate only for what is present.
            events: Vec::with_capacity(events.min(65_536)),
            ends: Vec::with_capacity(events.min(65_536)),
            chain: None,
        }
    }

    fn push(&mut self, seq: Seq, start: usize) {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.lines[start..]);
        self.lines.push(b'\n');
        self.events.push((seq, hasher.finish()));
        self.ends.push(self.lines.len());
    }

    fn compact(parcel: &Compact) -> Result<Received, Malformed> {
        let mut received = Received::empty(parcel.manifest.clone());
        let manifest = &parcel.manifest;
        let mut json = CloudEvents::new(&manifest.gateway, manifest.epoch);
        let mut link = manifest.before;
        let mut chain = manifest.unfiltered().then(Vec::new);
        let mut records = parcel.records();
        while let Some(record) = records.next_record()? {
            let start = received.lines.len();
            // The device of a record of a newer version is unknown.
            let device = record.subject().unwrap_or_default().map(|id| parcel.device(id));
            json.write(&record, device, parcel, &mut received.lines)
                .map_err(|_| CompactError::Record(record.seq))?;
            received.push(record.seq, start);
            if let Some(chain) = &mut chain {
                link = link.after(record.raw);
                chain.push(link);
            }
        }
        received.chain = chain;
        Ok(received)
    }

    fn json(manifest: Manifest, events: &[&RawValue]) -> Result<Received, Malformed> {
        if events.len() != manifest.events as usize {
            return Err(Malformed::Count { said: manifest.events, found: events.len() });
        }
        let prefix = format!("{}/{}/", manifest.gateway, manifest.epoch);
        let range = manifest.first..=manifest.last;
        let mut received = Received::empty(manifest);
        for raw in events {
            let event: Event<'_> = serde_json::from_str(raw.get())?;
            let seq = event.id.strip_prefix(&prefix).and_then(|seq| seq.parse().ok()).map(Seq);
            let in_place = |seq: &Seq| {
                range.contains(seq) && received.events.last().is_none_or(|(before, _)| before < seq)
            };
            let Some(seq) = seq.filter(in_place) else {
                return Err(Malformed::Id { id: event.id.chars().take(200).collect() });
            };
            let start = received.lines.len();
            // Line breaks can only be between tokens.
            received
                .lines
                .extend(raw.get().bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }));
            received.push(seq, start);
        }
        Ok(received)
    }
}

/// JSON with its manifest inside.
#[derive(Deserialize)]
struct Wrapped<'a> {
    fieldlog: Manifest,
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

/// The fields of an event that are checked.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// Why a message is not a parcel.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// No known format.
    #[error("it is neither a compact parcel nor JSON of CloudEvents")]
    Unknown,
    /// Not JSON of that form.
    #[error("it cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The compact form.
    #[error(transparent)]
    Compact(#[from] CompactError),
    /// The number of events differs.
    #[error("it has {found} events and says {said}")]
    Count {
        /// In the manifest.
        said: u32,
        /// In the message.
        found: usize,
    },
    /// An event that does not belong to the parcel.
    #[error("the event `{id}` is not one of this parcel, or not in order")]
    Id {
        /// Its id.
        id: String,
    },
}
