//! Whole lives of devices, without a network: what they publish, in which order, and that it is plausible.

use std::collections::BTreeMap;

use jiff::Zoned;
use serde_json::Value;

use super::agenda::Turn;
use super::device::{Device, Publication, Step};
use super::shelly::Shelly;
use super::tasmota::Tasmota;
use super::zigbee::Bridge;
use super::{FleetOptions, fault, name};

/// A device's messages, and where it vanished.
struct Biography {
    said: Vec<Publication>,
    vanished: usize,
    seconds: f64,
}

/// Birth and this many seconds of steps, with a new birth after each outage.
fn life(mut device: impl Device, seconds: f64) -> Biography {
    let clock: Zoned = "2026-11-23T10:00:00+01:00[Europe/Berlin]".parse().unwrap();
    let start = device.now();
    let mut said = device.birth(&clock);
    let mut vanished = 0;
    while device.due() < start + seconds {
        let (before, due) = (device.now(), device.due());
        assert!(due >= before, "time runs backwards: {before} to {due}");
        match device.step(&clock) {
            Step::Publish(publications) => said.extend(publications),
            Step::Vanish(outage) => {
                assert!(outage > 0.0);
                assert_eq!(device.now(), due + outage);
                vanished += 1;
                said.extend(device.birth(&clock));
            }
        }
    }
    Biography { said, vanished, seconds }
}

fn options() -> FleetOptions {
    FleetOptions::default()
}

fn bridge(seed: u64) -> Bridge {
    Bridge::new(&FleetOptions { seed, ..options() })
}

fn tasmota(seed: u64, index: usize) -> Tasmota {
    Tasmota::new(seed, index, Turn { index, of: 7 })
}

fn shelly(seed: u64, index: usize) -> Shelly {
    Shelly::new(seed, index, Turn { index: 4 + index, of: 7 })
}

fn text(publication: &Publication) -> &str {
    std::str::from_utf8(&publication.payload).unwrap()
}

fn parse(publication: &Publication) -> Option<Value> {
    serde_json::from_slice(&publication.payload).ok()
}

/// The values at a pointer in the documents of one topic, in order.
fn series(said: &[Publication], topic: &str, pointer: &str) -> Vec<f64> {
    said.iter()
        .filter(|p| p.topic == topic)
        .filter_map(parse)
        .filter_map(|document| document.pointer(pointer)?.as_f64())
        .collect()
}

fn assert_never_falls(values: &[f64]) {
    assert!(values.len() > 100, "only {} values", values.len());
    assert!(values.windows(2).all(|w| w[1] >= w[0]), "{values:?}");
    assert!(values.last() > values.first(), "the counter stands still");
}

const DAY: f64 = 86_400.0;

#[test]
fn the_seed_decides_everything() {
    assert_eq!(life(bridge(3), 7200.0).said, life(bridge(3), 7200.0).said);
    assert_eq!(life(tasmota(3, 0), DAY).said, life(tasmota(3, 0), DAY).said);
    assert_eq!(life(shelly(3, 0), 7200.0).said, life(shelly(3, 0), 7200.0).said);
    assert_ne!(life(bridge(3), 7200.0).said, life(bridge(4), 7200.0).said);
    assert_ne!(life(tasmota(3, 0), DAY).said, life(tasmota(4, 0), DAY).said);
    assert_ne!(life(shelly(3, 0), 7200.0).said, life(shelly(4, 0), 7200.0).said);
}

#[test]
fn more_devices_do_not_change_a_device() {
    let states = |count| {
        let bridge = Bridge::new(&FleetOptions { zigbee_sensors: count, remotes: 0, ..options() });
        let said = life(bridge, 900.0).said;
        said.into_iter().filter(|p| p.topic == "zigbee2mqtt/kitchen/climate").collect::<Vec<_>>()
    };
    assert_eq!(states(14), states(20));
}

#[test]
fn the_bridge_introduces_itself() {
    let said = life(bridge(1), 0.0).said;
    let find = |topic: &str| said.iter().find(|p| p.topic == topic).unwrap_or_else(|| panic!("no {topic}"));
    assert_eq!(text(find("zigbee2mqtt/bridge/state")), r#"{"state":"online"}"#);
    // Larger than the 10 KiB that a careless client accepts by default.
    for (topic, kibibytes) in [("zigbee2mqtt/bridge/info", 16), ("zigbee2mqtt/bridge/devices", 50)] {
        let document = find(topic);
        assert!(document.retain);
        assert!(document.payload.len() >= kibibytes * 1024, "{topic}: {} bytes", document.payload.len());
    }
    let devices = parse(find("zigbee2mqtt/bridge/devices")).unwrap();
    let devices = devices.as_array().unwrap();
    assert_eq!(devices.len(), 1 + 14 + 6 + 3 + 2);
    let mut addresses: Vec<&str> = devices.iter().map(|d| d["ieee_address"].as_str().unwrap()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), devices.len());
    let availability = find("zigbee2mqtt/kitchen/floor_light/availability");
    assert!(availability.retain && availability.at_least_once);
}

#[test]
fn zigbee_states_have_the_attributes_of_their_kind() {
    let said = life(bridge(1), 4.0 * 3600.0).said;
    let expected: [(&str, &[&str]); 7] = [
        (
            "living_room/climate",
            &["temperature", "humidity", "pressure", "battery", "linkquality", "voltage"],
        ),
        ("front_door", &["contact", "battery", "linkquality"]),
        ("hall/motion", &["occupancy", "illuminance", "battery"]),
        ("cellar/leak", &["water_leak", "battery_low", "tamper"]),
        ("kitchen/fridge", &["state", "power", "energy", "voltage", "current", "linkquality"]),
        ("bulb_color", &["state", "brightness", "color", "color_mode"]),
        ("remote", &["battery", "linkquality"]),
    ];
    for (member, attributes) in expected {
        let topic = format!("zigbee2mqtt/{member}");
        let states: Vec<&Publication> = said.iter().filter(|p| p.topic == topic).collect();
        assert!(states.len() > 2, "{member}: {} states", states.len());
        for state in states {
            let document = parse(state).unwrap();
            for attribute in attributes {
                assert!(document.get(attribute).is_some(), "{member} without {attribute}: {document}");
            }
        }
    }
    assert!(said.iter().any(|p| p.at_least_once) && said.iter().any(|p| !p.at_least_once));
}

#[test]
fn temperatures_are_quantised_and_plausible() {
    let said = life(bridge(1), DAY).said;
    for (member, range) in [("living_room/climate", 17.0..26.0), ("weather_sensor", -2.0..24.0)] {
        let values = series(&said, &format!("zigbee2mqtt/{member}"), "/temperature");
        assert!(values.len() > 400, "{member}: {}", values.len());
        for value in &values {
            assert!(range.contains(value), "{member}: {value}");
            let hundredths = value * 100.0;
            assert!((hundredths - hundredths.round()).abs() < 1e-6, "{value} is not in steps of 0.01");
        }
        let repeats = values.windows(2).filter(|w| w[0] == w[1]).count();
        assert!(repeats > 0, "{member} never repeats a value");
    }
}

#[test]
fn actions_are_momentary_and_bulbs_obey() {
    let said = life(bridge(1), DAY).said;
    let mut kinds = BTreeMap::new();
    for publication in said.iter().filter(|p| !p.topic.contains("/bridge/")) {
        if let Some(action) = parse(publication).and_then(|d| Some(d.get("action")?.as_str()?.to_owned())) {
            assert!(!publication.retain, "a retained action would fire again for every subscriber");
            *kinds.entry(action).or_insert(0) += 1;
        }
    }
    assert_eq!(kinds.keys().map(String::as_str).collect::<Vec<_>>(), ["double", "hold", "single"]);
    let states: Vec<Value> =
        said.iter().filter(|p| p.topic == "zigbee2mqtt/kitchen/floor_light").filter_map(parse).collect();
    assert!(states.iter().any(|s| s["state"] == "ON") && states.iter().any(|s| s["state"] == "OFF"));
}

#[test]
fn zigbee_sensors_go_offline_and_come_back() {
    let said = life(bridge(1), 2.0 * DAY).said;
    let mut availability: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for publication in said.iter().filter(|p| p.topic.ends_with("/availability")) {
        availability.entry(&publication.topic).or_default().push(text(publication));
    }
    let returned = |states: &Vec<&str>| {
        let offline = states.iter().position(|s| s.contains("offline"));
        offline.is_some_and(|at| states[at..].iter().any(|s| s.contains("online")))
    };
    let count = availability.values().filter(|states| returned(states)).count();
    assert!(count > 3, "{count} devices went offline and came back");
}

#[test]
fn counters_never_fall() {
    let zigbee = life(bridge(1), DAY).said;
    assert_never_falls(&series(&zigbee, "zigbee2mqtt/kitchen/fridge", "/energy"));
    let plug = life(tasmota(1, 0), DAY).said;
    assert_never_falls(&series(&plug, "tele/washing_machine/SENSOR", "/ENERGY/Total"));
    let device = shelly(1, 0);
    let topic = format!("{}/status/switch:0", device.session().client_id);
    assert_never_falls(&series(&life(device, DAY).said, &topic, "/aenergy/total"));
}

#[test]
fn tasmota_says_what_tasmota_says() {
    let said = life(tasmota(1, 0), 6.0 * 3600.0).said;
    let of = |topic: &str| said.iter().filter(|p| p.topic == topic).collect::<Vec<_>>();
    assert!(of("tele/washing_machine/LWT").iter().all(|p| text(p) == "Online" && p.retain));
    let (results, words) = (of("stat/washing_machine/RESULT"), of("stat/washing_machine/POWER"));
    assert_eq!(results.len(), words.len());
    for (result, word) in results.iter().zip(&words) {
        assert_eq!(parse(result).unwrap()["POWER"], text(word));
    }
    assert!(words.iter().any(|p| text(p) == "ON") && words.iter().any(|p| text(p) == "OFF"));
    let state = parse(of("tele/washing_machine/STATE")[1]).unwrap();
    assert_eq!(state["Time"], "2026-11-23T10:00:00", "local time without a zone");
    assert!(state["Uptime"].as_str().unwrap().starts_with("0T00:"), "{state}");
    assert!(said.iter().all(|p| !p.at_least_once), "the firmware publishes at QoS 0");
    let sensor = text(of("tele/washing_machine/SENSOR")[0]);
    assert!(sensor.starts_with(r#"{"Time":"2026-11-23T10:00:00","ENERGY":{"TotalStartTime":"#), "{sensor}");
    let greenhouse = life(tasmota(1, 1), 3600.0).said;
    assert!(!series(&greenhouse, "tele/greenhouse/SENSOR", "/BME280/DewPoint").is_empty());
    let boiler = life(tasmota(1, 2), 3600.0).said;
    assert!(!series(&boiler, "tele/boiler/SENSOR", "/DS18B20/Temperature").is_empty());
}

#[test]
fn shelly_notifies_deltas_and_pushes() {
    let device = shelly(1, 1);
    let id = device.session().client_id;
    let said = life(device, 6.0 * 3600.0).said;
    assert_eq!(
        (said[0].topic.clone(), text(&said[0]), said[0].retain),
        (format!("{id}/online"), "true", true)
    );
    let full: Vec<Value> =
        said.iter().filter(|p| p.topic == format!("{id}/status/switch:0")).filter_map(parse).collect();
    for status in full.iter().filter(|s| s.is_object()) {
        assert_eq!(status["aenergy"]["by_minute"].as_array().map(Vec::len), Some(3), "{status}");
    }
    assert!(full.iter().any(|s| s["output"] == true) && full.iter().any(|s| s["output"] == false));
    let frames: Vec<Value> =
        said.iter().filter(|p| p.topic == format!("{id}/events/rpc")).map(|p| parse(p).unwrap()).collect();
    let of = |method: &str| frames.iter().filter(|f| f["method"] == method).collect::<Vec<_>>();
    assert!(
        of("NotifyStatus").iter().any(|f| f["params"]["switch:0"].get("output").is_none()),
        "no partial delta"
    );
    let pushes: Vec<&Value> =
        of("NotifyEvent").iter().map(|f| &f["params"]["events"][0]["event"]).collect::<Vec<_>>();
    for push in ["btn_down", "btn_up", "single_push"] {
        assert!(pushes.iter().any(|p| *p == push), "no {push} in {pushes:?}");
    }
    assert!(frames.iter().all(|f| f["src"] == id));
}

#[test]
fn payloads_break_rarely_and_devices_vanish_now_and_then() {
    let (mut broken, mut vanished, mut seconds) = (0, 0, 0.0);
    let mut add = |biography: Biography| {
        let json = biography.said.iter().filter(|p| {
            ["SENSOR", "STATE", "RESULT", "rpc", "switch:0"].iter().any(|end| p.topic.ends_with(end))
        });
        broken += json.filter(|p| parse(p).is_none()).count();
        vanished += biography.vanished;
        seconds = biography.seconds;
    };
    (0..4).for_each(|index| add(life(tasmota(1, index), DAY)));
    (0..3).for_each(|index| add(life(shelly(1, index), DAY)));
    let expected = seconds / fault::PERIOD_S;
    let count = f64::from(u32::try_from(broken).unwrap());
    assert!(count > 0.5 * expected && count < 1.5 * expected, "{broken} broken, expected about {expected}");
    let expected = seconds / super::VANISH_PERIOD_S;
    let count = f64::from(u32::try_from(vanished).unwrap());
    assert!(
        count > 0.5 * expected && count < 1.5 * expected,
        "{vanished} vanished, expected about {expected}"
    );
}

#[test]
fn every_zigbee_payload_is_json() {
    for publication in life(bridge(2), DAY).said {
        assert!(parse(&publication).is_some(), "{}: {}", publication.topic, text(&publication));
    }
}

#[test]
fn the_default_fleet_says_20_to_40_things_a_second() {
    let count = |said: Vec<Publication>| said.len() as f64;
    let mut messages = count(life(bridge(1), DAY).said);
    messages += (0..4).map(|index| count(life(tasmota(1, index), DAY).said)).sum::<f64>();
    messages += (0..3).map(|index| count(life(shelly(1, index), DAY).said)).sum::<f64>();
    let rate = messages / DAY * super::ACCELERATION;
    assert!((20.0..40.0).contains(&rate), "{rate} messages/s");
}

#[test]
fn names_beyond_the_list_are_numbered() {
    assert_eq!(name(&["a", "b"], 1), "b");
    assert_eq!(name(&["a", "b"], 2), "a_2");
    assert_eq!(name(&["a", "b"], 5), "b_3");
}

#[test]
fn nonsense_speeds_are_speed_1() {
    for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(FleetOptions { speed, ..options() }.pace(), super::ACCELERATION);
    }
    assert_eq!(FleetOptions { speed: 2.0, ..options() }.pace(), 2.0 * super::ACCELERATION);
}
