//! Topics as real devices publish them, and the rules of the presets for them.

use super::super::{Announcer, Config, Decoder, Rule, Shape, Test, When};
use super::{SOURCE, parse};
use crate::config::presets::{names, text_of};
use crate::config::rules::{Rules, filters};
use fieldlog_rules::topic::Name;

fn with_preset(preset: &str) -> Config {
    parse(&SOURCE.replace("preset = \"zigbee2mqtt\"", preset))
}

#[test]
fn a_second_preset_of_a_source_has_a_namespace_of_its_own() {
    let sub = |line: &str| format!("\n[[source.subscription]]\n{line}\n");
    let own = "topic = \"x/+device\"\ndecoder = \"json\"";
    let text = SOURCE.to_owned()
        + &sub(own)
        + &sub("preset = \"tasmota\"")
        + &sub("preset = \"zigbee2mqtt\"\nbase = \"second\"")
        + &sub("preset = \"esphome\"\nnamespace = \"house\"");
    let config = parse(&text);
    let of = |topic: &str| {
        let rules = &config.sources.first().unwrap().rules;
        let rule = rules.iter().find(|rule| rule.topic.starts_with(topic)).unwrap();
        rule.namespace.clone()
    };
    assert_eq!((of("zigbee2mqtt/"), of("x/"), of("second/")), (None, None, None));
    assert_eq!(of("tele/"), Some("home.tasmota".into()));
    assert_eq!(of("+device/status"), Some("house".into()));
    assert_eq!(parse(&config.to_toml()), config);
}

type Expected<'a> = Option<(&'a str, &'a str, Decoder)>;

/// The first rule that takes an object on the topic, whatever its content; `None`: ignored or not subscribed.
fn check(preset: &str, cases: &[(&str, Expected<'_>)]) {
    let config = with_preset(preset);
    let source = config.sources.first().unwrap();
    let rules = Rules::compile(source).unwrap();
    for (topic, expected) in cases {
        let holds = |when: &When| when.is_of_topic() || when.test == Test::Is(Shape::Object);
        let decides = |rule: &Rule| !rule.also && rule.when.iter().all(holds);
        let first = rules.find(topic).find(|found| decides(source.rules.get(found.rule).unwrap()));
        let found = first.as_ref().and_then(|found| {
            let decoder = source.rules.get(found.rule).unwrap().decoder;
            let name = |name: &Name| name.to_string();
            let device = found.devices.first().map(name).unwrap_or_default();
            (decoder != Decoder::Ignore).then(|| (device, name(&found.attribute), decoder))
        });
        let found = found
            .as_ref()
            .map(|(device, attribute, decoder)| (device.as_str(), attribute.as_str(), *decoder));
        assert_eq!(found, *expected, "{preset}: {topic}");
        if found.is_some() {
            let filters = filters(&source.rules);
            let brought =
                filters.iter().any(|(filter, _)| fieldlog_rules::topic::filter_matches(filter, topic));
            assert!(brought, "{topic} is not in {filters:?}");
        }
    }
}

use Decoder::{Announcement, Availability, Json, Scalar};

#[test]
fn zigbee2mqtt() {
    check(
        "preset = \"zigbee2mqtt\"",
        &[
            ("zigbee2mqtt/bulb", Some(("bulb", "", Json))),
            ("zigbee2mqtt/weather_sensor", Some(("weather_sensor", "", Json))),
            ("zigbee2mqtt/remote", Some(("remote", "", Json))),
            ("zigbee2mqtt/kitchen/floor_light", Some(("kitchen/floor_light", "", Json))),
            ("zigbee2mqtt/bulb_color/availability", Some(("bulb_color", "", Availability))),
            ("zigbee2mqtt/kitchen/floor_light/availability", Some(("kitchen/floor_light", "", Availability))),
            ("zigbee2mqtt/bridge/state", Some(("zigbee2mqtt/bridge", "", Availability))),
            ("zigbee2mqtt/bridge/devices", Some(("", "", Announcement(Announcer::Zigbee2mqttDevices)))),
            ("zigbee2mqtt/bridge/groups", Some(("", "", Announcement(Announcer::Zigbee2mqttGroups)))),
            ("zigbee2mqtt/bridge/info", None),
            ("zigbee2mqtt/bridge/request/permit_join", None),
            ("zigbee2mqtt/bulb/set", None),
            ("zigbee2mqtt/kitchen/floor_light/set/brightness", None),
            ("zigbee2mqtt/bulb/get", None),
            ("zigbee2mqtt/bulb/get/state", None),
            ("other/bulb", None),
        ],
    );
    check(
        "preset = \"zigbee2mqtt\"\nbase = \"home/zb\"\ndevice_prefix = \"zb:\"",
        &[
            ("home/zb/bulb", Some(("zb:bulb", "", Json))),
            ("home/zb/bridge/state", Some(("zb:home/zb/bridge", "", Availability))),
            ("zigbee2mqtt/bulb", None),
        ],
    );
}

#[test]
fn zigbee2mqtt_rules_know_actions_and_the_bridge() {
    let config = with_preset("preset = \"zigbee2mqtt\"\ndevice_prefix = \"x/\"\nqos = 0");
    let rules = &config.sources.first().unwrap().rules;
    let state = rules.iter().find(|rule| rule.topic == "zigbee2mqtt/#device").unwrap();
    assert_eq!(state.actions, ["action"]);
    assert_eq!(state.parent.as_deref(), Some("x/zigbee2mqtt/bridge"));
    assert!(rules.iter().all(|rule| rule.qos == 0));
    assert_eq!(filters(rules), [("zigbee2mqtt/#".to_owned(), 0)]);
}

#[test]
fn tasmota() {
    check(
        "preset = \"tasmota\"",
        &[
            ("tele/tasmota/SENSOR", Some(("tasmota", "", Json))),
            ("tele/demo-sensor/STATE", Some(("demo-sensor", "", Json))),
            ("stat/tasmota/RESULT", Some(("tasmota", "", Json))),
            ("stat/tasmota/POWER", Some(("tasmota", "POWER", Scalar))),
            ("stat/tasmota/POWER2", Some(("tasmota", "POWER2", Scalar))),
            ("tele/tasmota/LWT", Some(("tasmota", "", Availability))),
            ("stat/tasmota/STATUS8", Some(("tasmota", "", Json))),
            ("stat/tasmota/STATUS11", Some(("tasmota", "", Json))),
            ("stat/tasmota/STATUS5", None),
            ("tele/tasmota/INFO1", None),
            ("tele/tasmota/UPTIME", None),
            ("cmnd/tasmota/POWER", None),
        ],
    );
    check(
        "preset = \"tasmota\"\nbase = \"shed\"",
        &[("shed/stat/plug/POWER", Some(("plug", "POWER", Scalar))), ("stat/plug/POWER", None)],
    );
}

#[test]
fn shelly_gen1() {
    check(
        "preset = \"shelly-gen1\"",
        &[
            ("shellies/shellyplug-s-7c87ce/relay/0", Some(("shellyplug-s-7c87ce", "relay/0", Scalar))),
            (
                "shellies/shellyplug-s-7c87ce/relay/0/power",
                Some(("shellyplug-s-7c87ce", "relay/0/power", Scalar)),
            ),
            (
                "shellies/shellyplug-s-7c87ce/temperature",
                Some(("shellyplug-s-7c87ce", "temperature", Scalar)),
            ),
            ("shellies/shellyplug-s-7c87ce/online", Some(("shellyplug-s-7c87ce", "", Availability))),
            ("shellies/shellyix3-1/input_event/2", Some(("shellyix3-1", "input_event.2", Json))),
            ("shellies/shellybulb-1/color/0/status", Some(("shellybulb-1", "color/0", Json))),
            ("shellies/shellybulb-1/color/0/set", None),
            ("shellies/shellyplug-s-7c87ce/relay/0/command", None),
            ("shellies/shellyplug-s-7c87ce/command", None),
            ("shellies/shellyplug-s-7c87ce/info", None),
            ("shellies/announce", Some(("", "", Announcement(Announcer::Shelly)))),
            ("shellies/shellyplug-s-1/announce", Some(("", "", Announcement(Announcer::Shelly)))),
        ],
    );
}

#[test]
fn shelly_gen2() {
    let id = "shellypro4pm-f008d1d8b8b8";
    check(
        "preset = \"shelly-gen2\"",
        &[
            ("shellypro4pm-f008d1d8b8b8/online", Some((id, "", Availability))),
            ("shellypro4pm-f008d1d8b8b8/status/switch:0", Some((id, "switch:0", Json))),
            ("shellypro4pm-f008d1d8b8b8/events/rpc", None),
            ("user_1/rpc", Some(("", "", Announcement(Announcer::Shelly)))),
        ],
    );
    check(
        "preset = \"shelly-gen2\"\nbase = \"home\"",
        &[("home/plug/online", Some(("plug", "", Availability)))],
    );
}

#[test]
fn shelly_gen2_passes_documents_on_by_method() {
    let config = with_preset("preset = \"shelly-gen2\"");
    let source = config.sources.first().unwrap();
    let rules = Rules::compile(source).unwrap();
    let methods: Vec<&str> = rules
        .find("plug/events/rpc")
        .map(|found| source.rules.get(found.rule).unwrap())
        .map(|rule| match rule.when.first().map(|when| &when.test) {
            Some(Test::Equals(method)) => method.as_str(),
            _ => "any",
        })
        .collect();
    assert_eq!(methods, ["NotifyStatus", "NotifyFullStatus", "NotifyEvent", "NotifyEvent", "any"]);
}

#[test]
fn esphome() {
    check(
        "preset = \"esphome\"",
        &[
            ("kitchen/sensor/temperature/state", Some(("kitchen", "sensor/temperature", Scalar))),
            ("kitchen/switch/pump/state", Some(("kitchen", "switch/pump", Scalar))),
            ("kitchen/light/lamp/state", Some(("kitchen", "light/lamp", Json))),
            ("kitchen/event/doorbell/state", Some(("kitchen", "event/doorbell", Json))),
            ("kitchen/climate/hall/mode/state", Some(("kitchen", "climate/hall/mode", Scalar))),
            ("kitchen/status", Some(("kitchen", "", Availability))),
            ("kitchen/debug", None),
            ("kitchen/switch/pump/command", None),
        ],
    );
}

#[test]
fn homie() {
    let homie = Some(("", "", Announcement(Announcer::Homie)));
    check(
        "preset = \"homie\"",
        &[
            ("homie/super-car/$state", Some(("super-car", "state", Scalar))),
            ("homie/super-car/$name", homie),
            ("homie/super-car/$homie", Some(("super-car", "homie", Scalar))),
            ("homie/super-car/$nodes", None),
            ("homie/super-car/$fw/name", None),
            ("homie/super-car/$stats/uptime", None),
            ("homie/super-car/engine/$name", None),
            ("homie/super-car/engine/$properties", None),
            ("homie/super-car/engine/temperature", Some(("super-car", "engine/temperature", Scalar))),
            ("homie/super-car/engine/temperature/$unit", homie),
            ("homie/super-car/engine/temperature/set", None),
            ("homie/$broadcast/alert", None),
            ("homie/5/super-car/$state", Some(("super-car", "state", Scalar))),
            ("homie/5/super-car/$description", Some(("", "", Announcement(Announcer::Homie5)))),
            ("homie/5/super-car/engine/temperature", Some(("super-car", "engine/temperature", Scalar))),
            ("homie/5/super-car/engine/temperature/set", None),
            ("homie/5/super-car/engine/temperature/$target", None),
            ("homie/5/super-car/$log/warn", None),
            ("homie/5/$broadcast/security/alert", None),
        ],
    );
}

#[test]
fn homeassistant_discovery() {
    let discovery = Some(("", "", Announcement(Announcer::HomeAssistant)));
    check(
        "preset = \"homeassistant-discovery\"",
        &[
            ("homeassistant/sensor/0x01/temperature/config", discovery),
            ("homeassistant/device/0x01/config", discovery),
            ("homeassistant/status", None),
        ],
    );
}

#[test]
fn presets_have_no_faults_and_every_rule_a_comment() {
    for name in names() {
        let text = text_of(name).unwrap();
        let config = with_preset(&format!("preset = \"{name}\""));
        let written = text.lines().filter(|line| *line == "[[rule]]").count();
        assert_eq!(config.sources.first().unwrap().rules.len(), written, "{name}");
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2) {
            if let [before, "[[rule]]"] = pair {
                assert!(before.starts_with("# "), "{name}: {before:?}");
            }
        }
    }
}

#[test]
fn excluded_topics_have_no_rule() {
    let text = SOURCE.replace("[[source.s", "exclude = [\"zigbee2mqtt/test/#\"]\n[[source.s");
    let rules = Rules::compile(parse(&text).sources.first().unwrap()).unwrap();
    assert_eq!(rules.find("zigbee2mqtt/test/bulb").count(), 0);
    assert_eq!(rules.find("zigbee2mqtt/bulb").count(), 1);
}

#[test]
fn each_preset_is_recognised_by_topics_of_its_own_rules() {
    use crate::config::presets::{bases, default_base, names, recognised_by};
    for preset in names() {
        let topics = recognised_by(preset);
        assert!(!topics.is_empty(), "{preset} says no topics that `fieldlog probe` could recognise it by");
        let base = default_base(preset).unwrap();
        for template in topics {
            let prefix = if base.is_empty() { String::new() } else { format!("{base}/") };
            let topic = template.replace("{base}/", &prefix).replace(['+', '#'], "");
            assert!(bases(preset, [&topic.as_str()]).contains(&base), "{preset}: {topic}");
        }
    }
}
