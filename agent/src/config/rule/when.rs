//! Reads `when`.

use fieldlog_rules::topic::Template;

use super::super::raw::Table;
use super::checks::{check_patterns, pointer};
use super::{Subject, Test, When};

/// Reads one table, or a list of them.
pub(super) fn read(table: &mut Table<'_>, topic: Option<&Template>, payload: bool) -> Vec<When> {
    let tables = table.one_or_more("when").unwrap_or_default();
    tables.into_iter().filter_map(|table| one(table, topic, payload)).collect()
}

fn one(mut table: Table<'_>, topic: Option<&Template>, payload: bool) -> Option<When> {
    if table.has("retained") && !table.has("pointer") && !table.has("capture") {
        let kept = table.flag("retained", false);
        table.finish();
        return Some(When { subject: Subject::Retained, test: Test::Exists(kept) });
    }
    let subject = subject(&mut table, topic, payload);
    let test = test(&mut table, matches!(subject, Some(Subject::Capture(_))));
    table.finish();
    Some(When { subject: subject?, test: test? })
}

fn subject(table: &mut Table<'_>, topic: Option<&Template>, payload: bool) -> Option<Subject> {
    table.expect(&["pointer", "capture", "retained"]);
    match (table.has("pointer"), table.has("capture")) {
        (true, false) => {
            let pointer = pointer(table, "pointer")?;
            if !payload {
                let hint = "use a capture of the topic, or change the decoder";
                table.fault("pointer", "an announcement is read as a whole, or not at all", hint);
            }
            Some(Subject::Pointer(pointer))
        }
        (false, true) => {
            let found = table.required("capture", "name a capture of the topic")?;
            let known = topic.map(Template::captures).unwrap_or_default();
            if topic.is_some() && !known.contains(&found.value) {
                let hint = format!("write +{} or #{} in the topic", found.value, found.value);
                let what = format!("the topic has no capture {:?}", found.value);
                table.fault_at("capture", found.origin.as_deref(), what, hint);
            }
            Some(Subject::Capture(found.value))
        }
        (both, _) => {
            let what = if both { "it is there beside capture" } else { "it is missing" };
            let hint =
                if both { "write two conditions" } else { "write it as \"/method\", or give a capture" };
            table.fault("pointer", what, hint);
            ["pointer", "capture"].iter().for_each(|key| drop(table.discard(key)));
            None
        }
    }
}

fn test(table: &mut Table<'_>, capture: bool) -> Option<Test> {
    const TESTS: [&str; 5] = ["equals", "in", "not_in", "exists", "is"];
    table.expect(&TESTS);
    let given: Vec<&str> = TESTS.into_iter().filter(|key| table.has(key)).collect();
    match given.as_slice() {
        ["equals"] => table.text("equals").map(|found| Test::Equals(found.value)),
        ["in"] => patterns(table, "in").map(Test::In),
        ["not_in"] => patterns(table, "not_in").map(Test::NotIn),
        ["exists"] => {
            if capture {
                table.fault("exists", "a capture is always there", "use in or not_in");
            }
            Some(Test::Exists(table.flag("exists", true)))
        }
        ["is"] => {
            if capture {
                table.fault("is", "a capture is always a text", "use in or not_in");
            }
            table.choice("is").map(Test::Is)
        }
        [] => {
            table.fault("equals", "it is missing", "give equals, in, not_in, exists or is");
            None
        }
        several => {
            let what = format!("there are several tests: {}", several.join(", "));
            table.fault("equals", what, "write a condition for each");
            TESTS.iter().for_each(|key| drop(table.discard(key)));
            None
        }
    }
}

fn patterns(table: &mut Table<'_>, key: &'static str) -> Option<Vec<String>> {
    let patterns = table.texts(key)?;
    if patterns.is_empty() {
        table.fault(key, "it is empty", "give at least one text");
    }
    check_patterns(table, key, &patterns);
    Some(patterns)
}
