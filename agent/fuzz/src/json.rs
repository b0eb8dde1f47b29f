//! JSON: a rule by number, and a document. Rules that need no tree are read both ways, and both results must be equal.

use fieldlog::config::{Decoder, Rule};
use fieldlog_projections::{Time, Value, ValueRef};
use fieldlog_rules::decode::{Built, Documents, Json, JsonRule, Values, build, documents, json};

use crate::{NAME_MAX, TEXT_MAX, choice, worlds};

/// Maximum values of a payload.
const LEAVES_MAX: usize = 65_536;

/// A rule's number in two bytes, and a document.
pub fn run(data: &[u8]) {
    let mut data = data;
    let rules = worlds::rules_of(|decoder| decoder == Decoder::Json);
    let (rule, prepared) = rules[choice(&mut data, rules.len())];
    let mut values = Values::new(TEXT_MAX, NAME_MAX);
    let directly = if prepared.needs_tree() { None } else { read_directly(data, prepared, &mut values) };
    // A list is measured with what stands in it twice, or without.
    let cut = values.too_long().is_some();
    let Ok(Built { document: whole, .. }) = build(Decoder::Json, data) else { return };
    let by_tree = from_tree(rule, prepared, &whole, &mut values);
    // The longest text that can be a time is measured with its quotation marks on one way, and without on the other.
    let bounded = data.len() > 128;
    if let (Some((time, directly)), [(tree_time, by_tree)]) = (&directly, by_tree.as_slice()) {
        let same = |((a, x), (b, y)): (&(String, Value), &(String, Value))| a == b && near(x, y);
        let all = if cut {
            directly.iter().all(|one| by_tree.iter().any(|other| same((one, other))))
        } else {
            directly.len() == by_tree.len() && directly.iter().zip(by_tree).all(same)
        };
        assert!(
            all && (bounded || time == tree_time),
            "{time:?} {directly:?}\nby the tree {tree_time:?} {by_tree:?}"
        );
    }
}

/// The values of a document that is not built.
fn read_directly(
    data: &[u8],
    prepared: &JsonRule,
    values: &mut Values,
) -> Option<(Option<Time>, Vec<(String, Value)>)> {
    let result = json(data, prepared, values);
    check(values);
    match result {
        Ok(Json::Values(time)) => Some((time, kept(values))),
        Ok(Json::NotThis(_)) => None,
        Err(_) => {
            assert_eq!(values.iter().len(), 0, "values of a payload that is refused");
            None
        }
    }
}

/// Equal, except for the last digit of a number, which may change when it is read again.
fn near(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => (a - b).abs() <= a.abs() * 1e-15,
        (Value::Json(_), Value::Json(_)) => true,
        _ => a == b,
    }
}

/// The values of each document of an accepted tree.
pub fn from_tree(
    rule: &Rule,
    prepared: &JsonRule,
    whole: &serde_json::Value,
    values: &mut Values,
) -> Vec<(Option<Time>, Vec<(String, Value)>)> {
    let Ok(Documents::These(these, left_out)) = documents(prepared, whole) else { return Vec::new() };
    assert!(rule.each.is_some() || (these.len() == 1 && left_out.is_none()));
    let mut taken = Vec::new();
    for document in these {
        let result = document.take(prepared, values);
        check(values);
        match result {
            Ok(time) => taken.push((time, kept(values))),
            Err(_) => assert_eq!(values.iter().len(), 0, "values of a document that is refused"),
        }
        if let Some(text) = document.together(prepared) {
            serde_json::from_str::<serde_json::Value>(&text).expect("an action's value is JSON");
        }
    }
    taken
}

/// Sorted by name.
fn kept(values: &Values) -> Vec<(String, Value)> {
    let mut kept: Vec<(String, Value)> =
        values.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    kept.sort_by(|(a, _), (b, _)| a.cmp(b));
    kept
}

fn check(values: &Values) {
    assert!(values.iter().len() <= LEAVES_MAX);
    for (name, value) in values.iter() {
        assert!(name.len() <= NAME_MAX, "a name of {} bytes", name.len());
        check_value(value, TEXT_MAX);
    }
}

/// Checks that hold for every value.
pub fn check_value(value: ValueRef<'_>, text_max: usize) {
    match value {
        ValueRef::Float(number) => assert!(number.is_finite(), "{number}"),
        ValueRef::Text(text) => assert!(text.len() <= text_max, "a text of {} bytes", text.len()),
        ValueRef::Json(text) => {
            assert!(text.len() <= text_max, "JSON of {} bytes", text.len());
            serde_json::from_str::<serde_json::Value>(text).expect("it is JSON");
        }
        _ => {}
    }
}
