use proptest::prelude::*;

use super::*;

fn check(template: &str, topic: &str, expected: Option<&[&str]>) {
    let parsed = Template::parse(template).unwrap();
    let mut captures = Captures::default();
    let found = parsed.matches(topic, &mut captures).then(|| captures.values());
    assert_eq!(found, expected, "{template} on {topic}");
}

#[test]
fn templates_match_and_capture() {
    for (template, topic, expected) in [
        ("a/b", "a/b", Some(&[][..])),
        ("a/b", "a", None),
        ("a/b", "a/b/", None),
        ("tele/+device/SENSOR", "tele/plug/SENSOR", Some(&["plug"])),
        ("tele/+device/SENSOR", "tele//SENSOR", None),
        ("tele/+/SENSOR", "tele//SENSOR", Some(&[])),
        ("z/#device", "z/kitchen/floor", Some(&["kitchen/floor"])),
        ("z/#device", "z", None),
        ("z/#device", "z/", None),
        ("z/#", "z", Some(&[])),
        ("z/#", "z/a/b", Some(&[])),
        ("z/#device/availability", "z/kitchen/floor/availability", Some(&["kitchen/floor"])),
        ("z/#device/availability", "z/availability", None),
        ("z/#device/availability", "z/availability/availability", Some(&["availability"])),
        ("z/#/availability", "z/availability", None),
        ("+a/#b/+c/+d/e", "1/2/3/4/5/e", Some(&["1", "2/3", "4", "5"])),
        ("#a/+b", "x", None),
        ("#a/+b", "x/y/z", Some(&["x/y", "z"])),
        ("#", "$SYS/broker", None),
        ("+a/broker", "$SYS/broker", None),
        ("$SYS/#x", "$SYS/broker", Some(&["broker"])),
        ("a//b", "a//b", Some(&[])),
        ("+device/état", "ü/état", Some(&["ü"])),
    ] {
        check(template, topic, expected);
    }
}

#[test]
fn faulty_templates_are_refused() {
    for (template, words) in [
        ("", "it is empty"),
        ("a\0", "NUL"),
        ("a+/b", "level \"a+\" has a wildcard inside it"),
        ("a/b#", "level \"b#\" has a wildcard inside it"),
        ("#a/b/#", "more than one `#`"),
        ("+Device", "capture name \"Device\""),
        ("++", "capture name \"+\""),
        ("+a/+a", "\"a\" appears twice"),
    ] {
        let message = Template::parse(template).unwrap_err().to_string();
        assert!(message.contains(words), "{template}: {message}");
    }
}

#[test]
fn patterns_expand() {
    let template = Template::parse("+id/status/#component").unwrap();
    let mut captures = Captures::default();
    assert!(template.matches("plug/status/switch:0", &mut captures));
    for (pattern, expected) in [
        ("{id}", Ok("plug")),
        ("", Ok("")),
        ("x/{component}/{id}.", Ok("x/switch:0/plug.")),
        ("{name}", Err("the topic has no capture \"name\"; it has id, component")),
        ("{id", Err("\"{id\" has an unmatched brace")),
        ("id}", Err("\"id}\" has an unmatched brace")),
    ] {
        let found = template
            .pattern(pattern)
            .map(|pattern| pattern.expand(&captures).to_string())
            .map_err(|error| error.to_string());
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{pattern}");
    }
}

#[test]
fn filters() {
    for (filter, topic, expected) in [
        ("a/#", "a", true),
        ("a/#", "a/b/c", true),
        ("a/+", "a", false),
        ("a/+", "a/", true),
        ("+/b", "a/b", true),
        ("#", "$SYS/x", false),
        ("+/x", "$SYS/x", false),
        ("$SYS/#", "$SYS/x", true),
        ("a/b", "a/b/c", false),
        ("#", "ü", true),
    ] {
        assert_eq!(filter_matches(filter, topic), expected, "{filter} on {topic}");
    }
    for (outer, inner, expected) in [
        ("a/#", "a/+/c", true),
        ("a/#", "a", true),
        ("a/+", "a/#", false),
        ("a/+", "a/b", true),
        ("a/b", "a/+", false),
        ("+/b", "a/b", true),
        ("a", "a/b", false),
        ("#", "$SYS/#", false),
        ("$SYS/#", "$SYS/broker", true),
    ] {
        assert_eq!(filter_covers(outer, inner), expected, "{outer} covers {inner}");
    }
    for (filter, good) in [("a/+/#", true), ("#/a", false), ("a+", false), ("", false), ("+", true)] {
        assert_eq!(check_filter(filter).is_ok(), good, "{filter}");
    }
}

fn template() -> impl Strategy<Value = String> {
    let level = || prop_oneof!["[ab$]{0,2}", Just("+".to_owned()), "\\+[a-c]"];
    let levels = || proptest::collection::vec(level(), 0..4);
    (levels(), proptest::option::of(prop_oneof![Just("#".to_owned()), Just("#z".to_owned())]), levels())
        .prop_map(|(head, hash, tail)| head.into_iter().chain(hash).chain(tail).collect::<Vec<_>>().join("/"))
}

proptest! {
    /// Otherwise the broker would never send what the template wants.
    #[test]
    fn what_a_template_matches_its_filter_matches(template in template(), topic in "[ab$/]{1,10}") {
        if let Ok(template) = Template::parse(&template) {
            let filter = template.filter();
            prop_assert!(check_filter(&filter).is_ok());
            let mut captures = Captures::default();
            if template.matches(&topic, &mut captures) {
                prop_assert!(filter_matches(&filter, &topic), "{filter} on {topic}");
                prop_assert_eq!(captures.values().len(), template.captures().len());
            }
        }
    }

    #[test]
    fn a_template_matches_what_it_was_filled_with(device in "[a-z]{1,3}(/[a-z]{1,3}){0,2}", x in "[a-z]{1,4}") {
        let template = Template::parse("base/#device/x/+x").unwrap();
        let topic = format!("base/{device}/x/{x}");
        let mut captures = Captures::default();
        prop_assert!(template.matches(&topic, &mut captures));
        prop_assert_eq!(template.pattern("{device}|{x}").unwrap().expand(&captures).to_string(), format!("{device}|{x}"));
    }

    #[test]
    fn display_parses_back(template in template()) {
        if let Ok(parsed) = Template::parse(&template) {
            prop_assert_eq!(&parsed.to_string(), &template);
        }
    }

    #[test]
    fn covering_means_matching(outer in "[$ab+#](/[ab+#]){0,2}", inner in "[$ab+#](/[ab+#]){0,2}", topic in "[$ab/]{1,6}") {
        if check_filter(&outer).is_ok() && check_filter(&inner).is_ok()
            && filter_covers(&outer, &inner) && filter_matches(&inner, &topic) {
            prop_assert!(filter_matches(&outer, &topic));
        }
    }

    #[test]
    fn nothing_panics(template in "\\PC{0,12}", topic in "\\PC{0,12}") {
        let _ = check_filter(&template);
        let _ = filter_matches(&template, &topic);
        if let Ok(parsed) = Template::parse(&template) {
            let _ = parsed.matches(&topic, &mut Captures::default());
            let _ = parsed.pattern(&topic);
        }
    }
}
