//! Single-value payloads, topics, templates and patterns: the first byte selects, and lines of text follow.

use fieldlog::config::Decoder;
use fieldlog_projections::ValueRef;
use fieldlog_projections::pattern::Pattern;
use fieldlog_rules::decode::{DecodeError, availability, scalar};
use fieldlog_rules::topic::{
    Captures, Template, check_filter, check_name, filter_covers, filter_matches, is_pointer,
};

use crate::json::check_value;
use crate::{TEXT_MAX, byte, worlds};

/// See the module.
pub fn run(data: &[u8]) {
    let mut data = data;
    match byte(&mut data) % 4 {
        0 => one_value(data),
        1 => word(data),
        2 => lines(data, topics),
        _ => lines(data, patterns),
    }
}

fn one_value(payload: &[u8]) {
    let Ok(scalar) = scalar(payload, TEXT_MAX) else {
        assert!(payload.len() > TEXT_MAX || std::str::from_utf8(payload).is_err());
        return;
    };
    check_value(scalar.value, TEXT_MAX);
    assert_eq!(scalar.text, scalar.text.trim());
    if !scalar.exact {
        return;
    }
    match scalar.value {
        ValueRef::Int(number) => assert_eq!(number.to_string(), scalar.text),
        ValueRef::Uint(number) => assert_eq!(number.to_string(), scalar.text),
        ValueRef::Float(number) => assert_eq!(number.to_string(), scalar.text),
        ValueRef::Bool(flag) => assert_eq!(flag.to_string(), scalar.text),
        ValueRef::Text(text) => assert_eq!(text, scalar.text),
        _ => {}
    }
}

fn word(payload: &[u8]) {
    let sources = worlds::all().iter().flat_map(|world| &world.config.sources);
    let mut rules = sources.flat_map(|source| &source.rules);
    let rule = rules.find(|rule| rule.decoder == Decoder::Availability).expect("a rule for availability");
    match availability(payload, rule.value.as_deref(), &rule.online, &rule.offline) {
        Ok(_) | Err(DecodeError::NotUtf8) => {}
        Err(DecodeError::Availability { word }) => {
            assert!(word.chars().count() <= 40);
            assert!(!rule.online.contains(&word) && !rule.offline.contains(&word));
        }
        Err(other) => panic!("{other}"),
    }
}

/// Passes the first three lines to `take`.
fn lines(data: &[u8], take: fn(&str, &str, &str)) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    take(line(), line(), line());
}

/// A template, or two filters, and a topic.
fn topics(template: &str, topic: &str, other: &str) {
    is_pointer(other);
    if check_name(topic).is_err() {
        return;
    }
    if let Ok(parsed) = Template::parse(template) {
        assert_eq!(parsed.to_string(), template);
        let filter = parsed.filter();
        assert_eq!(check_filter(&filter), Ok(()), "{filter}");
        let mut captures = Captures::default();
        if parsed.matches(topic, &mut captures) {
            assert!(filter_matches(&filter, topic), "{filter} does not bring {topic}");
            assert_eq!(captures.values().len(), parsed.captures().len());
            assert!(captures.values().iter().all(|text| !text.is_empty()), "a capture caught nothing");
            if let Ok(pattern) = parsed.pattern(other) {
                let name = pattern.expand(&captures);
                assert!(name.fixed().is_some() || pattern.needs_document());
            }
        }
    }
    if check_filter(template).is_ok() && check_filter(other).is_ok() && filter_covers(template, other) {
        let missed = filter_matches(other, topic) && !filter_matches(template, topic);
        assert!(!missed, "{template} does not bring {topic}, which {other} does");
    }
}

/// A pattern and a name.
fn patterns(pattern: &str, name: &str, _: &str) {
    let Ok(parsed) = Pattern::parse(pattern) else { return };
    if pattern.len() <= 64 && name.len() <= 256 {
        assert_eq!(
            parsed.matches(name),
            slowly(pattern.as_bytes(), name.as_bytes()),
            "{pattern:?} and {name:?}"
        );
    }
}

/// Tries every text for each `*`, one after the other.
fn slowly(pattern: &[u8], name: &[u8]) -> bool {
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for &sign in pattern {
        let before = reached.clone();
        for end in 0..=name.len() {
            reached[end] = match sign {
                b'*' => before[..=end].contains(&true),
                _ => end > 0 && before[end - 1] && name[end - 1] == sign,
            };
        }
    }
    reached[name.len()]
}
