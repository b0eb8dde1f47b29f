//! `[[derived_attribute]]` and `[[named_aggregate]]`.

use fieldlog_projections::declared::{DerivedAttribute, Formula, Function, NamedAggregate};

use super::raw::Table;
use super::source;
use fieldlog_projections::pattern::Pattern;

/// Of each kind. Every event of a device is looked up in them.
const DECLARED_MAX: usize = 64;
/// Attributes of one formula.
const OF_MAX: usize = 8;

const FORMULAS: [(&str, Formula); 5] = [
    ("value", Formula::Value),
    ("sum", Formula::Sum),
    ("difference", Formula::Difference),
    ("product", Formula::Product),
    ("ratio", Formula::Ratio),
];

const FUNCTIONS: [(&str, Function); 8] = [
    ("count", Function::Count),
    ("min", Function::Min),
    ("max", Function::Max),
    ("mean", Function::Mean),
    ("sum", Function::Sum),
    ("last", Function::Last),
    ("increase", Function::Increase),
    ("change", Function::Change),
];

pub(super) fn derived_attributes(table: &mut Table<'_>) -> Vec<DerivedAttribute> {
    let mut all: Vec<DerivedAttribute> = Vec::new();
    let mut labels = Vec::new();
    for mut entry in blocks(table, "derived_attribute") {
        if let Some(derived) = derived_attribute(&mut entry) {
            unique(&entry, &derived.name, all.iter().map(|other| &other.name));
            all.push(derived);
            labels.push(entry.label().to_owned());
        }
        entry.finish();
    }
    for (derived, label) in all.iter().zip(labels) {
        if let Some(of) = derived.of.iter().find(|of| all.iter().any(|other| other.name == **of)) {
            let what = format!("\"{of}\" is itself derived");
            table.fault(&format!("{label} of"), what, "name attributes that devices report");
        }
    }
    all
}

fn derived_attribute(entry: &mut Table<'_>) -> Option<DerivedAttribute> {
    let name =
        entry.required("name", "give the attribute a name, such as \"power\"").map(|found| found.value);
    if let Some(name) = &name {
        entry.rename(format!("{} {name:?}", entry.label()));
        if name.contains('*') {
            entry.fault("name", "it contains `*`, which stands for any text in patterns", "leave it out");
        }
    }
    let formula = required_word(entry, "formula", &FORMULAS);
    let of = entry.texts("of").unwrap_or_default();
    if let Some(formula) = formula {
        check_of(entry, formula, &of);
    }
    let scale = entry.number_in("scale", f64::MIN..=f64::MAX, "finite", 1.0);
    if scale == 0.0 {
        entry.fault("scale", "it is 0; it must not be", "");
    }
    let offset = entry.number_in("offset", f64::MIN..=f64::MAX, "finite", 0.0);
    let mut threshold =
        |key| entry.has(key).then(|| entry.number_in(key, f64::MIN..=f64::MAX, "finite", 0.0));
    let (above, below) = (threshold("above"), threshold("below"));
    if above.is_some() && below.is_some() {
        entry.fault("below", "there is also above", "remove one of the two");
    }
    let unit = entry.text("unit").map(|found| found.value).unwrap_or_default();
    Some(DerivedAttribute { name: name?, formula: formula?, of, scale, offset, above, below, unit })
}

/// Each formula has its number of attributes.
fn check_of(entry: &Table<'_>, formula: Formula, of: &[String]) {
    let (range, words) = match formula {
        Formula::Value => (1..=1, "1 attribute".to_owned()),
        Formula::Difference | Formula::Ratio => (2..=2, "2 attributes".to_owned()),
        Formula::Sum | Formula::Product => (2..=OF_MAX, format!("2 to {OF_MAX} attributes")),
    };
    if !range.contains(&of.len()) {
        entry.fault("of", format!("it lists {}", of.len()), format!("list {words}"));
    }
    if of.iter().any(String::is_empty) {
        entry.fault("of", "a name in it is empty", "");
    }
}

pub(super) fn named_aggregates(table: &mut Table<'_>) -> Vec<NamedAggregate> {
    let mut all: Vec<NamedAggregate> = Vec::new();
    for mut entry in blocks(table, "named_aggregate") {
        if let Some(aggregate) = named_aggregate(&mut entry) {
            unique(&entry, &aggregate.name, all.iter().map(|other| &other.name));
            all.push(aggregate);
        }
        entry.finish();
    }
    all
}

fn named_aggregate(entry: &mut Table<'_>) -> Option<NamedAggregate> {
    let name = source::name(entry, "give the aggregate a short name, such as \"energy-daily\"");
    let absent = !entry.has("attributes");
    let attributes = entry.texts("attributes").unwrap_or_default();
    if absent {
        entry.fault("attributes", "it is missing", "give the names of attributes, such as [\"energy*\"]");
    } else if attributes.is_empty() {
        entry.fault("attributes", "it is empty", "give the names of attributes, such as [\"energy*\"]");
    }
    for (index, text) in attributes.iter().enumerate() {
        if let Err(error) = Pattern::parse(text) {
            entry.fault(&format!("attributes[{index}]"), error.to_string(), "");
        }
    }
    let function = required_word(entry, "function", &FUNCTIONS);
    let window_s = entry.integer_required("window_s", 10..=31_536_000, "seconds");
    let keep = entry.integer("keep", 1..=100_000, "windows", 100);
    let scale = entry.number_in("scale", f64::MIN_POSITIVE..=f64::MAX, "greater than 0", 1.0);
    let unit = entry.text("unit").map(|found| found.value).unwrap_or_default();
    let (window_s, keep) = (u32::try_from(window_s?).ok()?, u32::try_from(keep).ok()?);
    Some(NamedAggregate { name: name?, attributes, function: function?, window_s, keep, scale, unit })
}

fn blocks<'s>(table: &mut Table<'s>, key: &'static str) -> Vec<Table<'s>> {
    let blocks = table.tables(key).unwrap_or_default();
    if blocks.len() > DECLARED_MAX {
        let what = format!("there are {}; at most {DECLARED_MAX} can be declared", blocks.len());
        table.fault(key, what, "remove some");
    }
    blocks
}

fn required_word<T: Copy>(
    entry: &mut Table<'_>,
    key: &'static str,
    words: &[(&'static str, T)],
) -> Option<T> {
    if !entry.has(key) {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        entry.fault(key, "it is missing", format!("choose {}", super::hints::one_of(&names)));
    }
    entry.word(key, words)
}

fn unique<'a>(entry: &Table<'_>, name: &str, mut others: impl Iterator<Item = &'a String>) {
    if others.any(|other| other == name) {
        entry.fault("name", "another block has it too", "give each its own name");
    }
}
