//! Named aggregates, as declared, by log time: a fold.
//!
//! It holds the declarations that it was folded with, also in a snapshot. So after these were changed it goes on with the
//! earlier ones, until it was rebuilt with the new ones. What did not change is then kept, since the rebuild may lack
//! deleted records that it includes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::declared::{Declared, NamedAggregate};
use crate::fact::Fact;
use crate::fold::{Change, Fold, FoldError, FoldId, Section, Unreadable, whole};
use crate::record::Record;
use crate::stored::type_id;
use crate::{AttrId, DeviceId, Time, Value};

mod plan;
mod row;

use plan::Plan;
use row::Row;
pub use row::{Origin, Series};

/// Version of this fold; see [`super::devices::VERSION`].
pub const VERSION: u16 = 1;

/// The named aggregates of all devices. A clone shares them with the original; a device's series are copied on the first
/// change by either.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Named {
    declared: Declared,
    /// By aggregate.
    missing_until: Vec<Option<Time>>,
    /// By device number.
    rows: Vec<Option<Arc<Row>>>,
    #[serde(skip)]
    plan: Plan,
    /// Derived attributes that the current record changes.
    #[serde(skip)]
    due: Vec<u16>,
}

impl Named {
    /// This fold.
    pub const ID: FoldId = FoldId { number: 7, name: "named aggregates" };

    /// Empty, with these declarations.
    pub fn new(declared: Declared) -> Named {
        let (missing_until, plan) = (vec![None; declared.aggregates.len()], Plan::new(&declared));
        Named { declared, missing_until, plan, ..Named::default() }
    }

    /// The declarations that it is folded with.
    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    /// Records up to this log time may be missing in an aggregate: they were deleted before it was folded.
    pub fn missing_until(&self, aggregate: usize) -> Option<Time> {
        self.missing_until.get(aggregate).copied().flatten()
    }

    /// The series of a device in an aggregate, by place in [`Declared::aggregates`]: recorded attributes by number, then
    /// derived ones.
    pub fn series(&self, device: DeviceId, aggregate: usize) -> impl Iterator<Item = &Series> {
        let row = self.rows.get(device.0 as usize).and_then(Option::as_deref);
        row.into_iter().flat_map(Row::all).filter(move |series| series.aggregate() == aggregate)
    }

    /// Whether there are windows of a recorded attribute of a device.
    pub fn has(&self, device: DeviceId, attr: AttrId) -> bool {
        let row = self.rows.get(device.0 as usize).and_then(Option::as_deref);
        row.is_some_and(|row| row.all().any(|series| series.origin() == Origin::Recorded(attr)))
    }

    /// Maximum memory, in bytes, that the numbers of an attribute with this name use for one device.
    pub fn bytes_max(declared: &Declared, name: &str) -> usize {
        let series = |name: &str| -> usize {
            let including = declared.aggregates.iter().filter(|aggregate| aggregate.includes(name));
            including.map(Series::bytes_max).sum()
        };
        // Each derived attribute is counted with the first attribute that it is computed from.
        let first = |of: &[String]| of.first().is_some_and(|first| first == name);
        let derived = declared.derived.iter().filter(|derived| first(&derived.of));
        series(name)
            + derived.map(|derived| Row::inputs_bytes_max(derived) + series(&derived.name)).sum::<usize>()
    }

    fn row(rows: &mut Vec<Option<Arc<Row>>>, device: DeviceId) -> &mut Row {
        let at = device.0 as usize;
        if at >= rows.len() {
            rows.resize(at + 1, None);
        }
        Arc::make_mut(rows[at].get_or_insert_default())
    }

    /// Starts again when log time is set back to `time`: windows already held would be later than those to come.
    fn begin_anew(&mut self, time: Time) {
        for row in self.rows.iter_mut().flatten() {
            Arc::make_mut(row).forget_series();
        }
        self.missing_until.fill(Some(time));
    }

    fn forget(&mut self, device: DeviceId) {
        if let Some(row) = self.rows.get_mut(device.0 as usize) {
            *row = None;
        }
        // Leave no trace of it, so that the state equals that of a fold that never had it.
        while self.rows.pop_if(|row| row.is_none()).is_some() {}
    }

    /// The aggregates with the same results as in an earlier fold, and their places there.
    fn unchanged(&self, earlier: &Named) -> Vec<(u16, u16)> {
        let same = |(at, aggregate): (u16, &NamedAggregate)| {
            let name = &aggregate.name;
            let before = place(&earlier.declared.aggregates, |other| other.name == *name)?;
            self.declared.same_results(name, &earlier.declared).then_some((at, before))
        };
        (0..).zip(&self.declared.aggregates).filter_map(same).collect()
    }
}

impl Fold for Named {
    #[inline]
    fn change(&mut self, change: &Change<'_>) {
        if self.declared.aggregates.is_empty() {
            return;
        }
        let Named { declared, rows, plan, due, .. } = self;
        let Some(uses) = plan.uses(declared, change.attr, change.names) else { return };
        let row = Named::row(rows, change.device);
        let number = change.value.as_number().filter(|number| number.is_finite());
        for at in number.iter().flat_map(|_| &uses.aggregates) {
            let aggregate = &declared.aggregates[usize::from(*at)];
            row.add(Origin::Recorded(change.attr), *at, aggregate, change.time, number.unwrap_or_default());
        }
        for (derived, input) in &uses.inputs {
            row.input(*derived, &declared.derived[usize::from(*derived)], *input, number);
            if !due.contains(derived) {
                due.push(*derived);
            }
        }
    }

    #[inline]
    fn changed(&mut self, device: DeviceId, time: Time) {
        if self.due.is_empty() {
            return;
        }
        let Named { declared, rows, plan, due, .. } = self;
        let row = Named::row(rows, device);
        for derived in due.drain(..) {
            let number = match row.derived(derived, &declared.derived[usize::from(derived)]) {
                Some(Value::Bool(on)) => f64::from(u8::from(on)),
                Some(Value::Float(number)) => number,
                _ => continue,
            };
            for at in plan.including(derived) {
                let aggregate = &declared.aggregates[usize::from(*at)];
                row.add(Origin::Derived(derived), *at, aggregate, time, number);
            }
        }
    }

    fn other(&mut self, record: &Record<'_>) -> Result<(), FoldError> {
        match record.kind.type_id {
            type_id::CLOCK_CORRECTED => self.begin_anew(record.time),
            type_id::DEVICE_FORGOTTEN => {
                if let Fact::DeviceForgotten { device } = record.fact()? {
                    self.forget(device);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn miss(&mut self, until: Time) {
        for missing in &mut self.missing_until {
            *missing = (*missing).max(Some(until));
        }
    }

    /// Keeps of the earlier fold what is declared as before.
    fn replace(&mut self, earlier: Named) {
        let aggregates = self.unchanged(&earlier);
        for (at, before) in &aggregates {
            self.missing_until[usize::from(*at)] = earlier.missing_until[usize::from(*before)];
        }
        let derived: Vec<(u16, u16)> = (0..)
            .zip(&self.declared.derived)
            .filter_map(|(at, one)| Some((at, place(&earlier.declared.derived, |other| other == one)?)))
            .collect();
        for (device, row) in earlier.rows.iter().enumerate() {
            let kept = row.as_ref().map(|row| row.moved(&aggregates, &derived)).unwrap_or_default();
            if kept != Row::default() {
                Named::row(&mut self.rows, DeviceId(device as u32)).put(kept);
            }
        }
    }
}

fn place<T>(all: &[T], is: impl Fn(&T) -> bool) -> Option<u16> {
    all.iter().position(is).map(|at| at as u16)
}

impl Section for Named {
    fn id(&self) -> FoldId {
        Named::ID
    }

    fn version(&self) -> u16 {
        VERSION
    }

    fn is_optional(&self) -> bool {
        self.declared.is_empty()
    }

    /// With the declarations that it was folded with, whatever is declared now.
    fn restore(&mut self, version: u16, bytes: &[u8]) -> Result<bool, Unreadable> {
        if version != VERSION {
            return Ok(false);
        }
        let stored: Named = whole(bytes)?;
        let aggregates = &stored.declared.aggregates;
        if stored.missing_until.len() != aggregates.len() || aggregates.iter().any(|one| one.window_s == 0) {
            return Err(Unreadable);
        }
        *self = Named { plan: Plan::new(&stored.declared), ..stored };
        Ok(true)
    }
}
