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

/// Speaks to a device right after its birth, and lives on for so many seconds: what it says of it at once, and later.
fn spoken_to(
    mut device: impl Device,
    topic: &str,
    payload: &str,
    seconds: f64,
) -> (Vec<Publication>, Vec<Publication>) {
    let clock: Zoned = "2026-11-23T10:00:00+01:00[Europe/Berlin]".parse().unwrap();
    device.birth(&clock);
    assert!(device.listens().iter().any(|filter| heard_by(filter, topic)), "{topic} is not subscribed to");
    let begin = device.now();
    let at_once = device.hear(begin + 0.5, topic, payload.as_bytes(), &clock);
    let mut later = Vec::new();
    while device.due() < begin + seconds {
        match device.step(&clock) {
            Step::Publish(publications) => later.extend(publications),
            Step::Vanish(_) => break,
        }
    }
    (at_once, later)
}

fn heard_by(filter: &str, topic: &str) -> bool {
    match filter.strip_suffix('+') {
        Some(base) => topic.strip_prefix(base).is_some_and(|level| !level.contains('/')),
        None => filter == topic,
    }
}

fn states_of(said: &[Publication], topic: &str, pointer: &str) -> Vec<Value> {
    let of_topic = said.iter().filter(|p| p.topic == topic).filter_map(parse);
    of_topic.filter_map(|document| document.pointer(pointer).cloned()).collect()
}

#[test]
fn members_of_the_bridge_obey_at_once_late_or_never() {
    let command = |name: &str, payload: &str, seconds: f64| {
        spoken_to(bridge(1), &format!("zigbee2mqtt/{name}/set"), payload, seconds)
    };
    let (said, _) = command("kitchen/floor_light", r#"{"brightness":77}"#, 0.0);
    assert_eq!(said.len(), 1, "{said:?}");
    let state = parse(&said[0]).unwrap();
    assert_eq!(
        (said[0].topic.as_str(), &state["brightness"], &state["state"]),
        ("zigbee2mqtt/kitchen/floor_light", &77.into(), &"ON".into())
    );
    let (said, _) = command("kitchen/floor_light", r#"{"state":"on","color":{"x":0.25}}"#, 0.0);
    let state = parse(&said[0]).unwrap();
    assert_eq!((&state["state"], &state["color"]["x"]), (&"ON".into(), &0.25.into()), "{state}");
    let (said, _) = command("laundry", r#"{"state":"OFF"}"#, 0.0);
    assert_eq!(states_of(&said, "zigbee2mqtt/laundry", "/state"), ["OFF"]);

    let (said, later) = command("bulb_color", r#"{"brightness":77}"#, 961.0);
    assert_eq!(said, []);
    assert!(states_of(&later, "zigbee2mqtt/bulb_color", "/brightness").contains(&77.into()), "{later:?}");

    for (name, payload, words) in [
        ("router_plug", r#"{"state":"OFF"}"#, "Publish 'set' 'state' to 'router_plug' failed"),
        ("laundry", r#"{"brightness":3}"#, "No converter available for 'brightness' on 'laundry'"),
        ("laundry", r#"{"state":"HALF"}"#, "No converter available for 'state' on 'laundry'"),
        ("front_door", r#"{"state":"ON"}"#, "No converter available for 'state' on 'front_door'"),
        ("laundry", "ON", "Invalid JSON 'ON', skipping..."),
    ] {
        let (said, later) = command(name, payload, 1200.0);
        assert_eq!((said.len(), said[0].topic.as_str()), (1, "zigbee2mqtt/bridge/logging"), "{said:?}");
        assert!(text(&said[0]).contains(words), "{said:?}");
        if name == "router_plug" {
            let states = states_of(&later, "zigbee2mqtt/router_plug", "/state");
            assert!(states.len() > 10 && states.iter().all(|state| state == "ON"), "{states:?}");
        }
    }
}

#[test]
fn a_tasmota_plug_obeys_and_answers_what_it_is_asked() {
    let power = |said: &[Publication], name: &str| {
        let result = states_of(said, &format!("stat/{name}/RESULT"), "/POWER");
        let words: Vec<String> =
            said.iter().filter(|p| p.topic == format!("stat/{name}/POWER")).map(|p| text(p).into()).collect();
        assert_eq!(result, words);
        words
    };
    for (payload, expected) in [("OFF", "OFF"), ("on", "ON"), ("2", "OFF"), ("", "ON"), ("?", "ON")] {
        let (said, _) = spoken_to(tasmota(1, 0), "cmnd/washing_machine/POWER", payload, 0.0);
        assert_eq!(power(&said, "washing_machine"), [expected], "{payload}");
    }
    let (said, later) = spoken_to(tasmota(1, 3), "cmnd/tv_corner/Power", "OFF", 961.0);
    assert_eq!(said, []);
    assert!(power(&later, "tv_corner").contains(&"OFF".into()), "{later:?}");
    for (device, topic) in [(0, "cmnd/washing_machine/Dimmer"), (1, "cmnd/greenhouse/POWER")] {
        let (said, _) = spoken_to(tasmota(1, device), topic, "50", 0.0);
        assert_eq!(text(&said[0]), r#"{"Command":"Unknown"}"#, "{topic}");
    }
}

#[test]
fn a_shelly_answers_requests_under_their_number() {
    let ask = |index: usize, frame: &str, seconds: f64| {
        let topic = format!("{}/rpc", super::shelly_id(index));
        let (said, later) = spoken_to(shelly(1, index), &topic, frame, seconds);
        let answers: Vec<Value> =
            said.iter().chain(&later).filter(|p| p.topic == "us/rpc").filter_map(parse).collect();
        (answers, said, later)
    };
    let set =
        |on: &str| format!(r#"{{"id":41,"src":"us","method":"Switch.Set","params":{{"id":0,"on":{on}}}}}"#);
    let status = |index: usize| format!("{}/status/switch:0", super::shelly_id(index));

    let (answers, said, _) = ask(0, &set("false"), 0.0);
    assert_eq!(answers.len(), 1);
    let answer = &answers[0];
    assert_eq!(
        (&answer["id"], &answer["dst"], &answer["result"]["was_on"]),
        (&41.into(), &"us".into(), &true.into())
    );
    assert_eq!(states_of(&said, &status(0), "/output"), [false]);
    assert_eq!(states_of(&said, &status(0), "/source"), ["MQTT"]);

    let (answers, said, later) = ask(1, &set("false"), 961.0);
    assert_eq!((answers.len(), said.len()), (1, 0));
    assert!(states_of(&later, &status(1), "/output").contains(&false.into()));

    for (index, frame, code) in [
        (2, set("false"), -109),
        (0, set("1"), -103),
        (0, r#"{"id":"a","src":"us","method":"Switch.Set","params":{"id":7,"on":true}}"#.into(), -105),
        (0, r#"{"id":3,"src":"us","method":"Cover.Open"}"#.into(), 404),
    ] {
        let (answers, said, _) = ask(index, &frame, 0.0);
        assert_eq!((answers.len(), said.len()), (1, 1), "{frame}");
        assert_eq!(answers[0]["error"]["code"], code, "{}", answers[0]);
    }
    for frame in ["", "[]", r#"{"id":1}"#, r#"{"method":"Switch.Set","params":{"id":0,"on":false}}"#] {
        assert_eq!(ask(0, frame, 0.0).1, [], "{frame}");
    }
    let topic = format!("{}/command/switch:0", super::shelly_id(0));
    let (said, _) = spoken_to(shelly(1, 0), &topic, "off", 0.0);
    assert_eq!(states_of(&said, &status(0), "/output"), [false]);
    let (said, _) = spoken_to(shelly(1, 0), &topic, "maybe", 0.0);
    assert_eq!(said, []);
}
