//! What an operator declares over the attributes of devices: derived attributes and named aggregates.
//!
//! Neither is ever recorded. A derived attribute is a function of the newest values of one device. A named aggregate is
//! folded by [`crate::Named`].

use serde::{Deserialize, Serialize};

use crate::Value;
use crate::pattern::Pattern;

/// All declarations of a configuration, in its order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    /// `[[derived_attribute]]`.
    pub derived: Vec<DerivedAttribute>,
    /// `[[named_aggregate]]`.
    pub aggregates: Vec<NamedAggregate>,
}

/// `[[derived_attribute]]`: computed from the numbers of the same device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DerivedAttribute {
    /// `name`: unique among the derived attributes.
    pub name: String,
    /// `formula`: what is computed.
    pub formula: Formula,
    /// `of`: the names of the attributes it is computed from; 1, 2, or 2 to 8, depending on the formula.
    pub of: Vec<String>,
    /// `scale` (default 1): the result is multiplied by it.
    pub scale: f64,
    /// `offset` (default 0): added afterwards.
    pub offset: f64,
    /// `above` (default none): the attribute is true while the result is greater, otherwise false.
    pub above: Option<f64>,
    /// `below` (default none): the attribute is true while the result is less, otherwise false.
    pub below: Option<f64>,
    /// `unit` (default empty): the unit of the result.
    pub unit: String,
}

/// What a derived attribute is computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Formula {
    /// One attribute, unchanged.
    Value,
    /// The sum of two to eight.
    Sum,
    /// The first minus the second.
    Difference,
    /// The product of two to eight.
    Product,
    /// The first divided by the second.
    Ratio,
}

/// `[[named_aggregate]]`: one function of the values of some attributes of each device, by window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NamedAggregate {
    /// `name`: unique, `[a-z0-9_-]{1,32}`.
    pub name: String,
    /// `attributes`: names of recorded and derived attributes, in which `*` matches any text.
    pub attributes: Vec<String>,
    /// `function`: what is computed of the values in a window.
    pub function: Function,
    /// `window_s` (10–31,536,000): the length of a window in seconds; windows start at multiples of it since 1970, UTC.
    pub window_s: u32,
    /// `keep` (1–100,000; default 100): closed windows that are kept for each attribute of each device.
    pub keep: u32,
    /// `scale` (above 0; default 1): results are multiplied by it, to give them another unit.
    pub scale: f64,
    /// `unit` (default empty): the unit of the scaled results.
    pub unit: String,
}

/// A function of the values in a window, in the order of their records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// Number of values.
    Count,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// Their arithmetic mean, not weighted by time.
    Mean,
    /// Their sum.
    Sum,
    /// The last.
    Last,
    /// How far a counter went on since the last value before the window. If it fell, it was reset to 0 meanwhile.
    Increase,
    /// The last value minus the last value before the window.
    Change,
}

/// The values in one window, as far as their function needs them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Start, in seconds since 1970.
    pub start_s: i64,
    /// Number of values.
    pub count: u32,
    /// What was folded of them, not scaled; see [`NamedAggregate::result`].
    folded: f64,
}

impl Declared {
    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.derived.is_empty() && self.aggregates.is_empty()
    }

    /// Whether the results of an aggregate would be the same with other declarations: its own and those of the derived
    /// attributes that it includes are.
    pub fn same_results(&self, name: &str, other: &Declared) -> bool {
        match (self.aggregate(name), other.aggregate(name)) {
            (Some((_, one)), Some((_, two))) => one == two && self.included(one).eq(other.included(two)),
            _ => false,
        }
    }

    /// The aggregate with a name, and its place.
    pub fn aggregate(&self, name: &str) -> Option<(usize, &NamedAggregate)> {
        self.aggregates.iter().enumerate().find(|(_, aggregate)| aggregate.name == name)
    }

    fn included<'a>(&'a self, aggregate: &'a NamedAggregate) -> impl Iterator<Item = &'a DerivedAttribute> {
        self.derived.iter().filter(|derived| aggregate.includes(&derived.name))
    }
}

impl DerivedAttribute {
    /// Its value for these values of [`DerivedAttribute::of`]; `None` if one is missing or the result is no number, as
    /// after a division by 0.
    pub fn value(&self, of: impl Iterator<Item = Option<f64>>) -> Option<Value> {
        let mut rest = of;
        let first = rest.next()??;
        let result = rest.try_fold(first, |result, next| {
            let next = next?;
            Some(match self.formula {
                Formula::Value => result,
                Formula::Sum => result + next,
                Formula::Difference => result - next,
                Formula::Product => result * next,
                Formula::Ratio => result / next,
            })
        })?;
        let result = result * self.scale + self.offset;
        let threshold = self.above.map(|above| result > above).or(self.below.map(|below| result < below));
        result.is_finite().then(|| threshold.map_or(Value::Float(result), Value::Bool))
    }
}

impl NamedAggregate {
    /// Whether it includes the attributes of this name.
    pub fn includes(&self, name: &str) -> bool {
        self.attributes.iter().any(|text| Pattern::parse(text).is_ok_and(|pattern| pattern.matches(name)))
    }

    /// The scaled result of a window.
    pub fn result(&self, point: &Point) -> f64 {
        match self.function {
            Function::Count => f64::from(point.count),
            Function::Mean => point.folded / f64::from(point.count) * self.scale,
            _ => point.folded * self.scale,
        }
    }

    /// A window with its first value; `before` is the last value before it.
    pub(crate) fn begin(&self, start_s: i64, before: Option<f64>, value: f64) -> Point {
        let folded = match self.function {
            Function::Increase | Function::Change => before.map_or(0.0, |before| self.step(before, value)),
            _ => value,
        };
        Point { start_s, count: 1, folded }
    }

    /// Adds the next value, which follows `before`.
    pub(crate) fn add(&self, point: &mut Point, before: f64, value: f64) {
        point.count = point.count.saturating_add(1);
        point.folded = match self.function {
            Function::Min => point.folded.min(value),
            Function::Max => point.folded.max(value),
            Function::Mean | Function::Sum => point.folded + value,
            Function::Increase | Function::Change => point.folded + self.step(before, value),
            Function::Count | Function::Last => value,
        };
    }

    fn step(&self, before: f64, value: f64) -> f64 {
        let reset = self.function == Function::Increase && value < before;
        if reset { value } else { value - before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derived(formula: Formula, of: &[f64]) -> Option<Value> {
        derived_with(formula, of, None, None)
    }

    fn derived_with(formula: Formula, of: &[f64], above: Option<f64>, below: Option<f64>) -> Option<Value> {
        let names = of.iter().map(f64::to_string).collect();
        let (name, unit) = (String::new(), String::new());
        let attribute =
            DerivedAttribute { name, formula, of: names, scale: 2.0, offset: 1.0, above, below, unit };
        attribute.value(of.iter().map(|number| Some(*number).filter(|number| !number.is_nan())))
    }

    #[test]
    fn formulas_are_scaled_and_then_moved() {
        for (formula, of, expected) in [
            (Formula::Value, &[20.0][..], 41.0),
            (Formula::Sum, &[1.0, 2.0, 4.0], 15.0),
            (Formula::Difference, &[5.0, 8.0], -5.0),
            (Formula::Product, &[3.0, 4.0, 0.5], 13.0),
            (Formula::Ratio, &[1.0, 4.0], 1.5),
        ] {
            assert_eq!(derived(formula, of), Some(Value::Float(expected)), "{formula:?}");
        }
    }

    #[test]
    fn thresholds_apply_to_the_scaled_result() {
        for (number, above, below) in [(4.4, false, true), (4.5, false, false), (4.6, true, false)] {
            let of = [number];
            assert_eq!(derived_with(Formula::Value, &of, Some(10.0), None), Some(Value::Bool(above)));
            assert_eq!(derived_with(Formula::Value, &of, None, Some(10.0)), Some(Value::Bool(below)));
        }
    }

    #[test]
    fn what_is_no_number_is_no_value() {
        assert_eq!(derived(Formula::Ratio, &[1.0, 0.0]), None);
        assert_eq!(derived(Formula::Product, &[f64::MAX, f64::MAX]), None);
        assert_eq!(derived(Formula::Sum, &[1.0, f64::NAN]), None, "an attribute without a number");
        assert_eq!(derived_with(Formula::Ratio, &[1.0, 0.0], Some(1.0), None), None);
    }

    #[test]
    fn each_function_folds_its_values_and_scales_them() {
        for (function, expected) in [
            (Function::Count, 4.0),
            (Function::Min, 10.0),
            (Function::Max, 70.0),
            (Function::Mean, 40.0),
            (Function::Sum, 160.0),
            (Function::Last, 20.0),
            // From 4 to 6, on to 7, reset and up to 1, on to 2.
            (Function::Increase, 50.0),
            (Function::Change, -20.0),
        ] {
            let (name, attributes, unit) = (String::new(), Vec::new(), String::new());
            let aggregate =
                NamedAggregate { name, attributes, function, window_s: 60, keep: 1, scale: 10.0, unit };
            let mut point = aggregate.begin(0, Some(4.0), 6.0);
            for (before, value) in [(6.0, 7.0), (7.0, 1.0), (1.0, 2.0)] {
                aggregate.add(&mut point, before, value);
            }
            assert_eq!(aggregate.result(&point), expected, "{function:?}");
        }
    }
}
