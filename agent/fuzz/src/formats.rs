//! The other formats of documents: a rule by number, and a payload.

use fieldlog::config::Decoder;
use fieldlog_rules::decode::{Built, Values, build};
use serde_json::Value;

use crate::json::from_tree;
use crate::{NAME_MAX, TEXT_MAX, choice, worlds};

/// Maximum nesting of lists and objects; documents of SenML and Influx have additional levels around them.
const DEPTH_MAX: usize = 20;

/// A rule's number in two bytes, and a payload.
pub fn run(data: &[u8]) {
    let mut data = data;
    let rules = worlds::rules_of(|decoder| decoder != Decoder::Json);
    let (rule, prepared) = rules[choice(&mut data, rules.len())];
    let Ok(Built { document: whole, .. }) = build(rule.decoder, data) else { return };
    check_depth(&whole, DEPTH_MAX);
    from_tree(rule, prepared, &whole, &mut Values::new(TEXT_MAX, NAME_MAX));
}

fn check_depth(value: &Value, left: usize) {
    let inner = || left.checked_sub(1).expect("nested too deeply");
    match value {
        Value::Array(elements) => elements.iter().for_each(|element| check_depth(element, inner())),
        Value::Object(members) => members.values().for_each(|member| check_depth(member, inner())),
        _ => {}
    }
}
