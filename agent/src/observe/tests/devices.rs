//! Devices that appear, go silent, are removed and return; and removals of attributes in documents.

use super::story::Input::{Bytes, Faulty, Retained, Says, Tick};
use super::story::given;
use super::*;
use crate::message::WireFault;

fn settings() -> Config {
    let mut settings = config(50_000_000);
    settings.sources[0].rules.extend([
        rule("x/+device", Decoder::Action),
        rule("i/+device", Decoder::Ignore),
        Rule { attribute: "{attribute}".into(), ..rule("s/+device/+attribute", Decoder::Scalar) },
        Rule {
            actions: vec!["press*".into()],
            ignore: vec!["debug.*".into()],
            ..rule("m/+device", Decoder::Json)
        },
    ]);
    settings
}

fn silent_after_a_minute() -> Config {
    let mut settings = settings();
    settings.sources[0].silence_timeout = Some(Duration::from_secs(60));
    settings
}

#[test]
fn a_silent_device_is_offline_until_it_speaks() {
    given(silent_after_a_minute(), &[(0, Says("d/lamp", r#"{"x":1}"#))])
        .when(60_000, Tick)
        .then(&[])
        .when(60_001, Tick)
        .then(&["lamp Offline by Silence"])
        .when(60_002, Tick)
        .then(&[])
        // A retained message is no sign of life.
        .when(61_000, Retained("d/lamp", r#"{"x":1}"#))
        .then(&[])
        .counted("retained", 1)
        .when(62_000, Says("d/lamp", r#"{"x":1}"#))
        .then(&["lamp Online by Silence"])
        .when(122_000, Tick)
        .then(&[])
        .when(122_001, Tick)
        .then(&["lamp Offline by Silence"]);
}

#[test]
fn a_message_does_not_lift_what_an_availability_topic_says() {
    given(silent_after_a_minute(), &[(0, Says("b/lamp", "off"))])
        .when(1, Says("d/lamp", r#"{"x":1}"#))
        .then(&["named x", "lamp x=1"])
        .when(2, Says("b/lamp", "off"))
        .then(&[])
        .when(3, Says("b/lamp", "ON"))
        .then(&["lamp Online by Topic"]);
}

#[test]
fn an_empty_document_retires_a_device_and_another_brings_it_back() {
    given(silent_after_a_minute(), &[(0, Says("d/lamp", r#"{"x":1}"#))])
        .when(1, Retained("d/lamp", ""))
        .then(&["retired lamp"])
        .when(2, Retained("d/lamp", ""))
        .then(&[])
        .when(120_000, Tick)
        .then(&[])
        .when(120_001, Says("d/lamp", r#"{"x":2}"#))
        .then(&["discovered lamp", "lamp x=2"]);
    given(settings(), &[]).when(0, Retained("d/lamp", "")).then(&[]);
}

#[test]
fn a_parent_is_discovered_before_its_child() {
    given(settings(), &[])
        .when(0, Says("c/lamp", "{}"))
        .then(&["discovered bridge", "discovered lamp behind bridge"]);
}

#[test]
fn what_a_document_does_not_mention_stays_or_goes_by_its_rule() {
    let before = r#"{"x":1,"y":{"z":true}}"#;
    given(settings(), &[(0, Says("d/lamp", before))])
        .when(1, Says("d/lamp", r#"{"x":2}"#))
        .then(&["lamp x=2"]);
    given(settings(), &[(0, Says("r/lamp", before))])
        .when(1, Says("r/lamp", r#"{"x":2}"#))
        .then(&["lamp x=2 y.z=null"])
        .when(2, Says("r/lamp", r#"{"x":2}"#))
        .then(&[])
        .counted("unchanged", 1);
    // `null` in a merge is a removal, too.
    given(settings(), &[(0, Says("d/lamp", before))])
        .when(1, Says("d/lamp", r#"{"x":null}"#))
        .then(&["lamp x=null"]);
}

const TWICE: &str = "quarantined: an object in the document has the name \"x\" twice, with two values; the last one was taken \
                     (said once for this topic)";

#[test]
fn of_a_key_that_stands_twice_the_last_counts() {
    given(settings(), &[(0, Says("d/lamp", r#"{"x":1}"#))])
        .when(1, Says("d/lamp", r#"{"x":2,"x":3}"#))
        .then(&["lamp x=3", TWICE])
        // Said once for the topic.
        .when(2, Says("d/lamp", r#"{"x":4,"x":5}"#))
        .then(&["lamp x=5"])
        .when(3, Says("d/lamp", r#"{"x":5,"x":5}"#))
        .then(&[]);
}

#[test]
fn an_action_fires_each_time_and_never_from_what_was_retained() {
    given(settings(), &[])
        .when(0, Retained("x/button", "single"))
        .then(&[])
        .when(1, Says("x/button", "single"))
        .then(&["discovered button", "named action", "button action!single"])
        .when(2, Says("x/button", "single"))
        .then(&["button action!single"])
        .when(3, Says("x/button", ""))
        .then(&[]);
}

#[test]
fn actions_in_a_document_are_no_state_and_ignored_attributes_are_nothing() {
    let document = r#"{"press_left":"single","debug":{"heap":7},"level":3}"#;
    given(settings(), &[])
        .when(0, Says("m/button", document))
        .then(&[
            "discovered button",
            "named press_left",
            "button press_left!single",
            "named level",
            "button level=3",
        ])
        .when(1, Says("m/button", document))
        .then(&["button press_left!single"])
        .when(2, Says("m/button", r#"{"press_left":"","level":3}"#))
        .then(&[]);
}

#[test]
fn topics_without_a_rule_and_ignored_ones_are_counted() {
    given(settings(), &[])
        .when(0, Says("i/lamp", "anything"))
        .then(&[])
        .when(1, Says("elsewhere", "{}"))
        .then(&[])
        .counted("ignored", 2);
}

#[test]
fn a_text_that_is_too_long_is_told_once_for_each_topic() {
    let mut settings = settings();
    settings.limits.text_bytes_max = 16;
    let long = r#"{"x":1,"note":"12345678901234567"}"#;
    let reason = "quarantined: attribute note is longer than limits.text_bytes_max and was left out; the others were \
                  taken (said once for this topic)";
    given(settings, &[])
        .when(0, Says("d/lamp", long))
        .then(&["discovered lamp", "named x", "lamp x=1", reason])
        .when(1, Says("d/lamp", long))
        .then(&[])
        .when(2, Says("d/fan", long))
        .then(&["discovered fan", "fan x=1", reason]);
}

#[test]
fn limits_refuse_what_is_beyond_and_take_the_rest() {
    let mut settings = settings();
    settings.limits.devices_max = 1;
    settings.limits.attributes_per_device_max = 2;
    given(settings, &[(0, Says("d/lamp", r#"{"x":1}"#))])
        .when(1, Says("d/fan", r#"{"x":1}"#))
        .then(&["quarantined: device fan would be number 2; limits.devices_max is 1"])
        .when(2, Says("d/lamp", r#"{"y":1,"z":1,"x":2}"#))
        .then(&[
            "named y",
            "lamp y=1 x=2",
            "quarantined: attribute z would be number 3 of device lamp; limits.attributes_per_device_max is 2",
        ]);
}

#[test]
fn topics_beyond_the_limit_are_learnt_again() {
    let mut settings = settings();
    settings.limits.topics_max = 2;
    given(settings, &[(0, Says("d/1", r#"{"x":1}"#)), (1, Says("d/2", r#"{"x":1}"#))])
        .remembers_topics(2)
        .when(2, Says("d/3", r#"{"x":1}"#))
        .then(&["discovered 3", "3 x=1"])
        .remembers_topics(1)
        .when(3, Says("d/1", r#"{"x":1}"#))
        .then(&[])
        .when(4, Says("d/1", r#"{"x":2}"#))
        .then(&["1 x=2"]);
}

/// What one rule records of a message that another one refuses is counted as what it is.
#[test]
fn a_message_that_one_rule_refuses_counts_for_the_others() {
    let mut settings = settings();
    let rules = &mut settings.sources[0].rules;
    let other = rules.iter().position(|rule| rule.topic == "d/+device").unwrap();
    rules.insert(other, Rule { also: true, ..Rule::new("d/+device", Decoder::Availability) });
    let said = "quarantined: \"\" is neither one of this rule's `online` words nor one of its `offline` words; what other \
                rules take of it was recorded";
    given(settings, &[])
        .when(0, Says("d/lamp", r#"{"x":1}"#))
        .then(&["discovered lamp", "named x", "lamp x=1", said])
        .counted("quarantined", 1)
        .counted("events", 3)
        .when(1, Says("d/lamp", r#"{"state":"online"}"#))
        .then(&["lamp Online by Topic", "named state", "lamp state=online"])
        .counted("events", 6);
}

#[test]
fn what_cannot_be_taken_is_quarantined_with_its_reason() {
    let long = "x".repeat(5_000);
    let long_name = format!("d/{}", "n".repeat(300));
    for (input, words) in [
        (
            Faulty(WireFault::TooLarge { size: 9 }),
            "a packet of 9 bytes; packet_bytes_max of the source is smaller",
        ),
        (Faulty(WireFault::Malformed("no topic")), "not a valid PUBLISH: no topic"),
        (Bytes(b"d/\xff", b"{}"), "the topic is not UTF-8"),
        (Says("d/lamp", "{"), "not the JSON object that was expected"),
        (Says("d/lamp", "[1]"), "not the JSON object that was expected"),
        (Says("s/lamp/x", &long), "a text of 5000 bytes; limits.text_bytes_max is 4096"),
        (Bytes(b"s/lamp/x", b"\xff"), "not UTF-8 text"),
        (Says("b/lamp", "maybe"), "\"maybe\" is neither one of this rule's `online` words"),
        (Says(&long_name, "{}"), "a name of 300 bytes"),
    ] {
        given(settings(), &[]).when(0, input).then_quarantined(words).counted("quarantined", 1);
    }
}

#[test]
fn a_message_that_comes_after_a_newer_one_is_not_taken_within_an_hour() {
    let mut settings = settings();
    let order = |topic: &str| Rule {
        order_by: Some("/v".into()),
        only: vec!["x".into()],
        ..rule(topic, Decoder::Json)
    };
    settings.sources[0].rules = vec![
        order("d/+device"),
        Rule {
            each: Some(Each::Members),
            device: vec!["{key}".into()],
            ignore: vec!["v".into()],
            ..order("e")
        },
    ];
    let hour = 3_600_000;
    given(
        settings.clone(),
        &[(0, Says("d/lamp", r#"{"x":2,"v":2}"#)), (0, Says("d/fan", r#"{"x":1,"v":"7"}"#))],
    )
    .when(1, Says("d/lamp", r#"{"x":1,"v":1}"#))
    .then(&[])
    .counted("late", 1)
    .counted("ignored", 1)
    .when(2, Says("d/lamp", r#"{"x":3,"v":2}"#))
    .then(&["lamp x=3"])
    .when(3, Says("d/fan", r#"{"x":2,"v":"6"}"#))
    .then(&[])
    // What has no number cannot be late.
    .when(4, Says("d/fan", r#"{"x":3,"v":1.5}"#))
    .then(&["fan x=3"])
    .when(5, Says("e", r#"{"v":5,"lamp":{"x":4},"fan":{"x":5,"v":8}}"#))
    .then(&["fan x=5", "lamp x=4"])
    .when(6 + hour, Says("d/lamp", r#"{"x":9,"v":1}"#))
    .then(&["lamp x=9"])
    .restarted(settings)
    .when(7 + hour, Says("d/lamp", r#"{"x":8,"v":0}"#))
    .then(&["lamp x=8"]);
}
