//! What stands where records were lost. Pure, apart from reading the intact ones.
//!
//! Each lost position gets a record that says so, since positions have no holes. Devices and attributes that lost records
//! introduced must be introduced again before they are used: their numbers follow from those that are used after the gap.

use fieldlog_projections::stored::{Changes, StoredError, type_id};
use fieldlog_projections::{AttrId, Fact, Record, Seq, Time};

use crate::client::Failure;
use crate::log::Salvage;

/// How many devices and attributes are known, which are also the numbers of the next ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) devices: u32,
    pub(super) attributes: u32,
}

/// Positions whose records were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// Log time of the last lost record.
    pub(super) time: Time,
    /// How many introductions it must have had.
    pub(super) lost: Known,
    /// Positions in it from which the state is folded.
    room: u64,
}

impl Gap {
    /// Lets it introduce some of `missing`, as many as it has room for, and takes them off.
    fn take(&mut self, missing: &mut Known) {
        for (missing, lost) in [
            (&mut missing.devices, &mut self.lost.devices),
            (&mut missing.attributes, &mut self.lost.attributes),
        ] {
            let taken = u64::from(*missing).min(self.room) as u32;
            (*missing, *lost, self.room) = (*missing - taken, *lost + taken, self.room - u64::from(taken));
        }
    }
}

/// The plan of a repaired log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Between intact records.
    pub(super) gaps: Vec<Gap>,
    /// What must be known before the first record, where no snapshot says it.
    pub(super) before: Known,
    /// The last record that was deleted from the front on purpose.
    pub(super) deleted: Seq,
}

impl Known {
    /// Notes what a record introduces, and returns what should have been introduced before it. With `used`, what it uses
    /// must have been, too.
    pub(super) fn meet(&mut self, record: &Record<'_>, used: bool) -> Result<Known, StoredError> {
        let (device, attribute, introduces) = needs(record)?;
        if !introduces && !used {
            return Ok(Known::default());
        }
        let step = |known: &mut u32, number: Option<u32>| {
            let Some(number) = number.filter(|number| number >= known) else { return 0 };
            let missing = number - *known + u32::from(!introduces);
            *known = number.saturating_add(1);
            missing
        };
        Ok(Known {
            devices: step(&mut self.devices, device),
            attributes: step(&mut self.attributes, attribute),
        })
    }
}

/// The highest numbers of a device and an attribute in a record, and whether it introduces them.
fn needs(record: &Record<'_>) -> Result<(Option<u32>, Option<u32>, bool), StoredError> {
    match record.kind.type_id {
        type_id::STATE_CHANGED => {
            let mut changes = Changes::parse(record.kind, record.payload)?;
            let mut most = None;
            while let Some((AttrId(attribute), _)) = changes.next()? {
                most = most.max(Some(attribute));
            }
            return Ok((Some(changes.device.0), most, false));
        }
        type_id::INPUT_QUARANTINED => return Ok((None, None, false)),
        _ => {}
    }
    let fact = record.fact()?;
    let device = fact.device().map(|device| device.0);
    Ok(match &fact {
        Fact::DeviceDiscovered { .. } => (device, None, true),
        Fact::AttributeNamed { attribute, .. } => (None, Some(attribute.0), true),
        Fact::ActionFired { attribute, .. } | Fact::AttributeDescribed { attribute, .. } => {
            (device, Some(attribute.0), false)
        }
        Fact::HistoryReported { changes, .. } => {
            (device, changes.iter().map(|(attribute, _)| attribute.0).max(), false)
        }
        Fact::MetricsDeclared { metrics, .. } => {
            let attributes = metrics.iter().filter_map(|metric| metric.attribute);
            (device, attributes.map(|attribute| attribute.0).max(), false)
        }
        Fact::AlertRaised(alert) => (device, alert.subject.attribute().map(|attr| attr.0), false),
        Fact::AlertCleared(cleared) => (device, cleared.subject.attribute().map(|attr| attr.0), false),
        _ => (device, None, false),
    })
}

impl Plan {
    /// For the intact chunks of a log, whose state is folded from a snapshot at `base` (0: from its first record) that
    /// knows `known`.
    ///
    /// # Errors
    /// [`Failure`] if the chunks cannot be read, or use what no lost record can have introduced.
    pub(super) fn of(salvage: &Salvage, base: Seq, mut known: Known) -> Result<Plan, Failure> {
        let mut plan = Plan::default();
        let first = salvage.pieces.first().map_or(Seq(1), |piece| piece.header.first);
        let without_base = base == Seq(0) && first > Seq(1);
        let mut next = first;
        for piece in &salvage.pieces {
            let header = &piece.header;
            if header.first > next {
                let last = Seq(header.first.0 - 1);
                let room = last.0 - next.0.max(base.0 + 1).min(header.first.0) + 1;
                let (lost, time) = (Known::default(), header.base_time);
                plan.gaps.push(Gap { first: next, last, time, lost, room });
            }
            next = header.last().next();
            salvage.read(piece, |chunk| {
                for record in chunk.records() {
                    let record = record.map_err(|error| unusable(header.first, &error))?;
                    plan.note_deleted(&record);
                    if record.seq <= base {
                        continue;
                    }
                    let used = without_base || plan.gaps.last().is_some_and(|gap| gap.last > base);
                    // One that a newer version wrote stays as it is.
                    if let Ok(missing) = known.meet(&record, used) {
                        plan.find_room(missing, without_base, record.seq)?;
                    }
                }
                Ok::<(), Failure>(())
            })??;
        }
        Ok(plan)
    }

    fn note_deleted(&mut self, record: &Record<'_>) {
        if matches!(record.kind.type_id, type_id::TRIMMED | type_id::GAP)
            && let Ok(fact) = record.fact()
        {
            self.deleted = self.deleted.max(match fact {
                Fact::Trimmed { last, .. } => last,
                Fact::Gap { last, lost_by, .. } if !lost_by.is_empty() => last,
                _ => Seq(0),
            });
        }
    }

    /// The latest gap must have introduced what is missing; what it has no room for was introduced before.
    fn find_room(&mut self, mut missing: Known, without_base: bool, at: Seq) -> Result<(), Failure> {
        for gap in self.gaps.iter_mut().rev() {
            gap.take(&mut missing);
        }
        if without_base {
            self.before.devices += missing.devices;
            self.before.attributes += missing.attributes;
        } else if missing != Known::default() {
            return Err(unusable(at, &"it uses a device or an attribute that no record introduces"));
        }
        Ok(())
    }
}

fn unusable(at: Seq, why: &dyn std::fmt::Display) -> Failure {
    Failure::data(format!(
        "the log cannot be repaired: the record at sequence {at} is intact, but {why}. Nothing was changed; restore the log \
         from a backup with `fieldlog restore`"
    ))
}

impl From<&Gap> for (Seq, Seq) {
    fn from(gap: &Gap) -> (Seq, Seq) {
        (gap.first, gap.last)
    }
}
