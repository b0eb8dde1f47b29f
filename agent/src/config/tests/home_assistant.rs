//! `[home_assistant]`.

use super::super::home_assistant::{HomeAssistantTopics, as_id};
use super::{SOURCE, lines, parse};

const HOME: &str = "[home_assistant]\nsource = \"home\"\n";

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(lines(&format!("gateway_id = \"gw\"\n{text}")), expected, "{text}");
}

#[test]
fn there_is_none_by_default_and_one_key_suffices() {
    assert_eq!(parse(SOURCE).home_assistant, None);
    let config = parse(&format!("gateway_id = \"gw\"\n{HOME}{SOURCE}"));
    let home = config.home_assistant.clone().unwrap();
    assert_eq!((home.prefix.as_str(), home.devices.len()), ("homeassistant", 0));
    let will = config.sources[0].will.clone().unwrap();
    assert_eq!((will.topic.as_str(), will.offline.as_str()), ("fieldlog/gw/availability", "offline"));
    let written = config.to_toml();
    assert_eq!(parse(&written), config, "{written}");
}

#[test]
fn a_will_stays_and_a_sparkplug_host_gets_none() {
    let own = SOURCE.replace("[[source.s", "[source.will]\ntopic = \"t\"\nonline = \"1\"\n[[source.s");
    assert_eq!(parse(&format!("{HOME}{own}")).sources[0].will.as_ref().unwrap().topic, "t");
    let host = "[[source]]\nname = \"home\"\naddress = \"mqtt://h\"\n[source.sparkplug]\n";
    assert_eq!(parse(&format!("{HOME}{host}")).sources[0].will, None);
}

#[test]
fn faults() {
    check(
        &format!("[home_assistant]\n{SOURCE}"),
        &["home_assistant.source: it is missing; name the source whose broker Home Assistant uses"],
    );
    check(
        &format!("[home_assistant]\nsource = \"hom\"\n{SOURCE}"),
        &["home_assistant.source: there is no source \"hom\"; did you mean home?"],
    );
    check(HOME, &["home_assistant.source: there is no source \"home\"; there is no [[source]]"]);
    check(
        &format!("{HOME}prefix = \"ha/+\"\ndevices = [\"a**\"]\nentities = 1\n{SOURCE}"),
        &[
            "home_assistant.prefix: \"ha/+\" has a wildcard, or begins or ends with a slash; write it as in Home Assistant, such as \"homeassistant\"",
            "home_assistant.devices[0]: \"a**\" is not a pattern; it must not be empty, nor have two `*` side by side",
            "home_assistant.entities: unknown key; known here: source, prefix, devices",
        ],
    );
    check(
        &format!("{HOME}prefix = \"ha/\"\n{SOURCE}"),
        &[
            "home_assistant.prefix: \"ha/\" has a wildcard, or begins or ends with a slash; write it as in Home Assistant, such as \"homeassistant\"",
        ],
    );
}

#[test]
fn what_is_published_is_not_recorded() {
    let with = |rule: &str| format!("{HOME}devices = [\"*\"]\n{SOURCE}[[source.subscription]]\n{rule}\n");
    // The announcements are known by their origin, or not taken.
    for preset in ["homeassistant-discovery", "homeassistant-statestream"] {
        parse(&with(&format!("preset = \"{preset}\"")));
    }
    let all = "topic = \"fieldlog/+device/#\"\ndecoder = \"json\"";
    check(
        &with(all),
        &[
            "home_assistant.source: source \"home\" takes \"fieldlog/gw/status\" from the same broker; what is \
           published would be recorded as messages of devices, and published again; exclude \"fieldlog/#\" from the source, \
           or the topic",
        ],
    );
    parse(&with(all).replacen("[[source.s", "exclude = [\"fieldlog/#\"]\n[[source.s", 1));
    let states = "topic = \"fieldlog/+gateway/devices/+device/state\"\ndecoder = \"json\"";
    assert!(
        lines(&format!("gateway_id = \"gw\"\n{}", with(states)))[0]
            .contains("\"fieldlog/gw/devices/device/state\"")
    );
    parse(&with(states).replace("devices = [\"*\"]\n", ""));
}

#[test]
fn topics_keep_devices_apart() {
    let topics = HomeAssistantTopics::new("gw.1", "ha");
    assert_eq!(topics.config(), "ha/device/fieldlog_gw-2e1/config");
    assert_eq!(topics.device_config("0x00 ä"), "ha/device/fieldlog_gw-2e1--0x00-20-c3-a4/config");
    assert_eq!(topics.device_state("a/b+c%"), "fieldlog/gw.1/devices/a/b%2Bc%25/state");
    let ids = ["a.b", "a-b", "a_b", "a-2db", "a/b", "ab"].map(as_id);
    assert!(ids.iter().all(|id| ids.iter().filter(|other| id == *other).count() == 1), "{ids:?}");
}
