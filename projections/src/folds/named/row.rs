//! What is folded of one device.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::declared::{DerivedAttribute, NamedAggregate, Point};
use crate::folds::aggregates::{push_bounded, start_s};
use crate::{AttrId, Time, Value};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    /// By derived attribute: the newest numbers of what it is computed from. Empty before the first.
    inputs: Vec<Vec<Option<f64>>>,
    /// By origin and aggregate.
    series: Vec<Series>,
}

/// What the values of a series are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Origin {
    /// A recorded attribute.
    Recorded(AttrId),
    /// A derived attribute, by its place in [`crate::Declared::derived`].
    Derived(u16),
}

/// The windows of one attribute in one aggregate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    origin: Origin,
    aggregate: u16,
    /// The last value.
    last: f64,
    open: Point,
    closed: VecDeque<Point>,
}

impl Series {
    /// What its values are.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The place of its aggregate in [`crate::Declared::aggregates`].
    pub fn aggregate(&self) -> usize {
        usize::from(self.aggregate)
    }

    /// The windows that have values, oldest first; values may still be added to the last one.
    pub fn points(&self) -> impl Iterator<Item = &Point> {
        self.closed.iter().chain([&self.open])
    }

    /// Maximum memory of one, in bytes. A list that grows by doubling is at worst half empty.
    pub(super) fn bytes_max(aggregate: &NamedAggregate) -> usize {
        2 * size_of::<Series>() + 16 + aggregate.keep.max(4) as usize * size_of::<Point>()
    }

    fn key(&self) -> (Origin, u16) {
        (self.origin, self.aggregate)
    }

    #[inline]
    fn add(&mut self, declared: &NamedAggregate, time: Time, value: f64) {
        let start_s = start_s(time, declared.window_s);
        if self.open.start_s == start_s {
            declared.add(&mut self.open, self.last, value);
        } else {
            let next = declared.begin(start_s, Some(self.last), value);
            let ended = std::mem::replace(&mut self.open, next);
            push_bounded(&mut self.closed, declared.keep as usize, ended);
        }
        self.last = value;
    }
}

impl Row {
    pub(super) fn all(&self) -> impl Iterator<Item = &Series> {
        self.series.iter()
    }

    /// Maximum memory, in bytes, of what a derived attribute is computed from.
    pub(super) fn inputs_bytes_max(derived: &DerivedAttribute) -> usize {
        2 * size_of::<Vec<Option<f64>>>() + 16 + derived.of.len() * size_of::<Option<f64>>()
    }

    /// Adds a value to a series.
    #[inline]
    pub(super) fn add(
        &mut self,
        origin: Origin,
        at: u16,
        aggregate: &NamedAggregate,
        time: Time,
        value: f64,
    ) {
        match self.series.binary_search_by_key(&(origin, at), Series::key) {
            Ok(place) => self.series[place].add(aggregate, time, value),
            Err(place) => {
                let open = aggregate.begin(start_s(time, aggregate.window_s), None, value);
                let series = Series { origin, aggregate: at, last: value, open, closed: VecDeque::new() };
                self.series.insert(place, series);
            }
        }
    }

    /// Sets one of the numbers that a derived attribute is computed from.
    pub(super) fn input(&mut self, at: u16, derived: &DerivedAttribute, place: u16, number: Option<f64>) {
        let inputs = self.inputs_mut(at);
        inputs.resize(derived.of.len(), None);
        inputs[usize::from(place)] = number;
    }

    fn inputs_mut(&mut self, at: u16) -> &mut Vec<Option<f64>> {
        let at = usize::from(at);
        if at >= self.inputs.len() {
            self.inputs.resize(at + 1, Vec::new());
        }
        &mut self.inputs[at]
    }

    /// The value of a derived attribute, one of whose numbers was set.
    pub(super) fn derived(&self, at: u16, derived: &DerivedAttribute) -> Option<Value> {
        derived.value(self.inputs.get(usize::from(at))?.iter().copied())
    }

    pub(super) fn forget_series(&mut self) {
        self.series.clear();
    }

    /// What there is of the given aggregates and derived attributes, each with its place in another fold and its place
    /// here: as a row of that fold.
    pub(super) fn moved(&self, aggregates: &[(u16, u16)], derived: &[(u16, u16)]) -> Row {
        let there = |places: &[(u16, u16)], here: u16| {
            places.iter().find(|(_, place)| *place == here).map(|(there, _)| *there)
        };
        let mut moved = Row::default();
        for (at, here) in derived {
            if let Some(inputs) = self.inputs.get(usize::from(*here)).filter(|inputs| !inputs.is_empty()) {
                moved.inputs_mut(*at).clone_from(inputs);
            }
        }
        moved.series.extend(self.series.iter().filter_map(|one| {
            let origin = match one.origin {
                Origin::Recorded(_) => one.origin,
                Origin::Derived(here) => Origin::Derived(there(derived, here)?),
            };
            Some(Series { origin, aggregate: there(aggregates, one.aggregate)?, ..one.clone() })
        }));
        moved
    }

    /// Puts another row in the place of what it has.
    pub(super) fn put(&mut self, other: Row) {
        for (at, inputs) in (0..).zip(other.inputs).filter(|(_, inputs)| !inputs.is_empty()) {
            *self.inputs_mut(at) = inputs;
        }
        for one in other.series {
            match self.series.binary_search_by_key(&one.key(), Series::key) {
                Ok(place) => self.series[place] = one,
                Err(place) => self.series.insert(place, one),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declared::Function;

    #[test]
    fn a_series_is_no_larger_than_it_is_counted() {
        for keep in [1, 3, 4, 5, 100] {
            let (name, unit, attributes) = (String::new(), String::new(), Vec::new());
            let function = Function::Sum;
            let aggregate =
                NamedAggregate { name, attributes, function, window_s: 60, keep, scale: 1.0, unit };
            let mut row = Row::default();
            for minute in 0..300 {
                row.add(Origin::Derived(0), 0, &aggregate, Time::from_secs(minute * 60), 1.0);
                let series = &row.series[0];
                assert_eq!(series.points().count(), (minute as usize + 1).min(keep as usize + 1));
                let bytes = size_of::<Series>() + series.closed.capacity() * size_of::<Point>();
                assert!(bytes <= Series::bytes_max(&aggregate), "{bytes} at {minute}");
            }
        }
    }
}
