//! Reads `types`.

use fieldlog_rules::choice::Choice;

use super::super::raw::Table;
use super::checks::check_patterns;
use super::{Kind, ValueType};

/// Default texts for true and false, case-insensitive.
const TRUE: [&str; 4] = ["true", "on", "yes", "1"];
const FALSE: [&str; 4] = ["false", "off", "no", "0"];

/// A type's name, before its keys are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Text,
    Number,
    Integer,
    Boolean,
}

impl Choice for Word {
    const WORDS: &'static [(&'static str, Word)] = &[
        ("text", Word::Text),
        ("number", Word::Number),
        ("integer", Word::Integer),
        ("boolean", Word::Boolean),
    ];
}

/// Reads the list.
pub(super) fn read(table: &mut Table<'_>) -> Vec<ValueType> {
    table.tables("types").unwrap_or_default().into_iter().filter_map(one).collect()
}

fn one(mut table: Table<'_>) -> Option<ValueType> {
    let attributes = table.texts("attributes").unwrap_or_default();
    if attributes.is_empty() {
        table.fault("attributes", "it is missing or empty", "name attributes, such as [\"*version\"]");
    }
    check_patterns(&table, "attributes", &attributes);
    if !table.has("type") {
        table.fault("type", "it is missing", "choose text, number, integer or boolean");
    }
    let word = table.choice("type");
    for (key, fits) in [
        ("unit", matches!(word, Some(Word::Number | Word::Integer))),
        ("true", word == Some(Word::Boolean)),
        ("false", word == Some(Word::Boolean)),
    ] {
        if word.is_some() && !fits && table.has(key) {
            let types = if key == "unit" { "number and integer" } else { "boolean" };
            table.fault(key, format!("it is only for {types}"), "remove it, or change the type");
        }
    }
    let unit = table.filled("unit").map(|found| found.value).unwrap_or_default();
    let (yes, no) = (words(&mut table, "true", &TRUE), words(&mut table, "false", &FALSE));
    if let Some(word) = yes.iter().find(|word| no.iter().any(|other| other.eq_ignore_ascii_case(word))) {
        let hint = "remove it from one of the two (each has a default)";
        table.fault("true", format!("{word:?} means true and false"), hint);
    }
    table.finish();
    let kind = match word? {
        Word::Text => Kind::Text,
        Word::Number => Kind::Number { unit },
        Word::Integer => Kind::Integer { unit },
        Word::Boolean => Kind::Boolean { yes, no },
    };
    Some(ValueType { attributes, kind })
}

fn words(table: &mut Table<'_>, key: &'static str, default: &[&str]) -> Vec<String> {
    let given = table.texts(key);
    if given.as_ref().is_some_and(Vec::is_empty) {
        table.fault(key, "it is empty", "give at least one text, or remove it for the default");
    }
    given.unwrap_or_else(|| default.iter().map(|&word| word.to_owned()).collect())
}
