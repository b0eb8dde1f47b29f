//! Builds a parcel from the log: a range of positions, its events, and the chain before and after.
//!
//! Blocking: reads the disk. The view is locked only while new names are copied.

use std::ops::ControlFlow;
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use fieldlog_projections::record::RecordsError;
use fieldlog_projections::stored::StoredError;
use fieldlog_projections::{ChainHash, Chunk, DeviceId, Epoch, Record, Seq, Time, View};

use super::filter::Filter;
use super::names::Names;
use super::{Item, Parcel};
use crate::log::{LogError, LogReader};
use fieldlog_wire::cloudevent::{self, CloudEvents};
use fieldlog_wire::compact::Encoder;
use fieldlog_wire::{Lane, Manifest};

/// Maximum positions covered by one parcel, so that a filter with few matches does not occupy a thread for long.
const POSITIONS_MAX: u64 = 1 << 20;

/// The format of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Each as a CloudEvent.
    Json,
    /// All of them in one compact parcel.
    Compact,
}

/// Size limits of a parcel. It always has room for one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events.
    pub events_max: usize,
    /// Maximum bytes of its events: of JSON, or of records before compression.
    pub bytes_max: usize,
}

/// The requested parcel.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Which stream it is for.
    pub lane: Lane,
    /// Where it begins.
    pub first: Seq,
    /// The last position, at most.
    pub last_max: Seq,
    /// Newest position of the log.
    pub head: Seq,
    /// Its size limits.
    pub limits: Limits,
}

/// Builds the parcels of one sink. Remembers names and the end of the last parcel.
#[derive(Debug)]
pub struct Builder {
    gateway: Arc<str>,
    epoch: Epoch,
    filter: Filter,
    format: Format,
    names: Names,
    /// Whether events about a device pass; cached.
    passes: Vec<Option<bool>>,
    json: CloudEvents,
    compact: Encoder,
    /// The end of the last parcel, and the chain there.
    known: Option<(Seq, ChainHash)>,
    bytes_hint: usize,
}

impl Builder {
    /// For one sink.
    pub fn new(gateway: Arc<str>, epoch: Epoch, filter: Filter, format: Format) -> Builder {
        Builder {
            json: CloudEvents::new(&gateway, epoch),
            gateway,
            epoch,
            filter,
            format,
            names: Names::default(),
            passes: Vec::new(),
            compact: Encoder::default(),
            known: None,
            bytes_hint: 0,
        }
    }

    /// Builds a parcel. It covers at least one position, and begins after `first` only if the log does. `None` if there
    /// is no such position: trimmed, not yet recorded, or not yet in the view.
    ///
    /// # Errors
    /// [`LogError`] if the log cannot be read.
    pub fn build(
        &mut self,
        reader: &LogReader,
        view: &RwLock<View>,
        span: &Span,
    ) -> Result<Option<Parcel>, LogError> {
        let applied = self.names.refresh(view);
        let last_max = span.last_max.min(applied).min(Seq(span.first.0.saturating_add(POSITIONS_MAX - 1)));
        if span.first > last_max {
            return Ok(None);
        }
        self.compact.begin();
        let mut work = Work {
            builder: self,
            limits: span.limits,
            first: span.first,
            last_max,
            before: None,
            items: Vec::new(),
            ends: Vec::new(),
            bytes: Vec::new(),
            oldest: None,
        };
        work.bytes.reserve(work.builder.bytes_hint);
        let covered = reader.scan(span.first, |chunk| work.chunk(chunk))?.transpose()?.flatten();
        let Some((last, after)) = covered else { return Ok(None) };
        Ok(work.finish(span, last, after))
    }

    /// Whether a record passes the filter, and the device it is about.
    fn wants(&mut self, record: &Record<'_>) -> Result<Option<Option<DeviceId>>, StoredError> {
        if !self.filter.wants_type(record.kind.type_id) {
            return Ok(None);
        }
        let device = match record.subject() {
            Err(StoredError::Newer { .. }) => None,
            other => other?,
        };
        if self.filter.devices.is_empty() {
            return Ok(Some(device));
        }
        let Some(id) = device else { return Ok(None) };
        let at = id.0 as usize;
        if at >= self.passes.len() {
            self.passes.resize(at + 1, None);
        }
        let (names, filter) = (&self.names, &self.filter);
        let passes =
            *self.passes[at].get_or_insert_with(|| filter.wants_device(names.device_arc(id).as_deref()));
        Ok(passes.then_some(device))
    }
}

/// The end of the scan: the last position and the chain there; `None` if there was nothing to cover.
type Covered = Result<Option<(Seq, ChainHash)>, LogError>;

/// A parcel being built.
struct Work<'b> {
    builder: &'b mut Builder,
    limits: Limits,
    first: Seq,
    last_max: Seq,
    /// The chain before `first`, once the chunk with `first` was read.
    before: Option<ChainHash>,
    items: Vec<Item>,
    /// End of each item in `bytes`.
    ends: Vec<usize>,
    bytes: Vec<u8>,
    oldest: Option<Time>,
}

impl Work<'_> {
    /// Takes the matching records of a chunk; breaks at the end of the parcel.
    fn chunk(&mut self, chunk: &Chunk<'_>) -> ControlFlow<Covered> {
        match self.add(chunk) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(last)) => ControlFlow::Break(Ok(Some((last, chain_at(chunk, last))))),
            Err(error) => ControlFlow::Break(Err(error)),
        }
    }

    /// The last position, if it is in this chunk or at the end of the previous one.
    fn add(&mut self, chunk: &Chunk<'_>) -> Result<Option<Seq>, LogError> {
        let damaged =
            |source: RecordsError| LogError::Chunk { at: chunk.header.first, source: source.into() };
        if self.before.is_none() {
            // Earlier records were trimmed.
            self.first = self.first.max(chunk.header.first);
            if self.first > self.last_max {
                return Ok(Some(self.last_max));
            }
            self.before = Some(match self.builder.known {
                Some((last, link)) if last.next() == self.first => link,
                _ => chain_at(chunk, Seq(self.first.0 - 1)),
            });
        }
        let mut records = chunk.records();
        while let Some(record) = records.next_record().map_err(damaged)? {
            if record.seq < self.first {
                continue;
            }
            let full = !self.record(&record).map_err(|_| damaged(RecordsError::Record(record.seq)))?;
            if full {
                return Ok(Some(Seq(record.seq.0 - 1)));
            }
            if record.seq == self.last_max {
                return Ok(Some(record.seq));
            }
        }
        Ok(None)
    }

    /// Takes or skips a record; `false` if there is no room for it.
    fn record(&mut self, record: &Record<'_>) -> Result<bool, StoredError> {
        let Some(device) = self.builder.wants(record)? else { return Ok(true) };
        if !self.items.is_empty() && self.items.len() >= self.limits.events_max {
            return Ok(false);
        }
        let name = device.and_then(|id| self.builder.names.device_arc(id));
        let fits = match self.builder.format {
            Format::Json => self.json(record, name.as_deref())?,
            Format::Compact => self.compact(record)?,
        };
        if fits {
            let kind = cloudevent::kind_name(record);
            self.items.push(Item { seq: record.seq, device: name, kind, json: Bytes::new() });
            self.oldest.get_or_insert(record.time);
        }
        Ok(fits)
    }

    fn json(&mut self, record: &Record<'_>, subject: Option<&str>) -> Result<bool, StoredError> {
        let start = self.bytes.len();
        let Builder { json, names, .. } = &mut *self.builder;
        json.write(record, subject, names, &mut self.bytes)?;
        let fits = start == 0 || self.bytes.len() <= self.limits.bytes_max;
        if fits {
            self.ends.push(self.bytes.len());
        } else {
            self.bytes.truncate(start);
        }
        Ok(fits)
    }

    fn compact(&mut self, record: &Record<'_>) -> Result<bool, StoredError> {
        let bytes = self.builder.compact.bytes();
        if bytes > 0 && bytes + record.raw.len() > self.limits.bytes_max {
            return Ok(false);
        }
        self.builder.compact.push(record, self.first)?;
        Ok(true)
    }

    fn finish(mut self, span: &Span, last: Seq, after: ChainHash) -> Option<Parcel> {
        let before = self.before?;
        let builder = self.builder;
        builder.known = Some((last, after));
        builder.bytes_hint = self.bytes.len();
        let manifest = Manifest {
            gateway: builder.gateway.clone(),
            epoch: builder.epoch,
            first: self.first,
            last,
            lane: span.lane,
            before,
            after,
            head: span.head.max(last),
            events: self.items.len() as u32,
        };
        let bytes = Bytes::from(self.bytes);
        let mut start = 0;
        for (item, &end) in self.items.iter_mut().zip(&self.ends) {
            item.json = bytes.slice(start..end);
            start = end;
        }
        let (size, compact) = match builder.format {
            Format::Compact => (builder.compact.bytes(), builder.compact.finish(&manifest, &builder.names)),
            Format::Json => (bytes.len(), Bytes::new()),
        };
        let oldest = self.oldest.unwrap_or_default();
        Some(Parcel { manifest, items: self.items, compact, oldest, size, resent: None })
    }
}

/// The chain after the record at `seq`; `None` if it is not in the log.
///
/// # Errors
/// [`LogError`] if the log cannot be read.
pub(super) fn link_at(reader: &LogReader, seq: Seq) -> Result<Option<ChainHash>, LogError> {
    let found = reader.scan(seq, |chunk| {
        let has = chunk.header.first <= seq && seq <= chunk.header.last();
        ControlFlow::Break(has.then(|| chain_at(chunk, seq)))
    })?;
    Ok(found.flatten())
}

/// The chain after the record at `seq`, which is in the chunk or right before it. The log has checked the chunk's
/// records when reading them, so unreadable ones are not expected.
fn chain_at(chunk: &Chunk<'_>, seq: Seq) -> ChainHash {
    let records = chunk.records().map_while(Result::ok).take_while(|record| record.seq <= seq);
    records.fold(chunk.header.place.link, |link, record| link.after(record.raw))
}
