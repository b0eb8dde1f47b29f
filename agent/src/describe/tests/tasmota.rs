//! From tasmota.github.io/docs, and home-assistant/core, `tests/components/tasmota`.

use super::*;

fn config() -> serde_json::Value {
    json!({
        "ip": "192.168.15.10", "dn": "Tasmota", "fn": ["Kettle", null, null, null, null, null, null, null],
        "hn": "tasmota_49A3BC-0956", "mac": "00000049A3BC", "md": "Sonoff Basic", "ty": 0, "if": 0,
        "ofln": "Offline", "onln": "Online", "state": ["OFF", "ON", "TOGGLE", "HOLD"], "sw": "9.4.0.4",
        "t": "tasmota_49A3BC", "ft": "%prefix%/%topic%/", "tp": ["cmnd", "stat", "tele"],
        "rl": [1, 0, 0, 0, 0, 0, 0, 0], "swc": [-1, -1], "swn": [null, null], "btn": [0, 0],
        "so": { "4": 0, "11": 0, "13": 0, "17": 0, "20": 0, "30": 0, "68": 0, "73": 0, "82": 0, "114": 0, "117": 0 },
        "lk": 1, "lt_st": 0, "sho": [0, 0, 0, 0], "ver": 1,
    })
}

fn announce(payload: &serde_json::Value) -> Announcement {
    one(announced(Announcer::Tasmota, "tasmota/discovery/00000049A3BC/config", payload))
}

#[test]
fn the_device_and_its_outputs() {
    let device = announce(&config());
    assert_eq!(device.device, Address::Availability(vec!["tele/tasmota_49A3BC/LWT".into()]));
    assert!(device.joined && !device.complete);
    assert_eq!(device.description, is("00000049A3BC", "Tasmota", "Sonoff Basic", ""));
    assert_eq!(told(&device), ["tele/tasmota_49A3BC/STATEPOWER, Kettle, enum, one of OFF|ON, writable"]);
    assert_eq!(device.introduces, Some(("00000049A3BC".into(), "tele/tasmota_49A3BC/SENSOR".into())));
}

#[test]
fn outputs_have_numbers_if_there_are_several_or_it_is_so_set() {
    let mut payload = config();
    payload["rl"] = json!([1, 1, 2, 3]);
    payload["ft"] = json!("home/%topic%/%prefix%/");
    let [one, two] = <[String; 2]>::try_from(told(&announce(&payload))).unwrap();
    assert!(one.starts_with("home/tasmota_49A3BC/tele/STATEPOWER1, Kettle"), "{one}");
    assert!(two.starts_with("home/tasmota_49A3BC/tele/STATEPOWER2, enum"), "{two}");
    let mut payload = config();
    payload["so"]["26"] = json!(1);
    assert!(told(&announce(&payload))[0].contains("POWER1"));
}

#[test]
fn readings_have_the_units_of_their_names() {
    let payload = json!({
        "sn": {
            "Time": "2020-09-25T12:47:15", "DHT11": { "Temperature": 20.5, "Humidity": 41.0, "DewPoint": 7.1 },
            "BMP280-76": { "Pressure": 988.6 }, "ENERGY": { "Total": 0.017, "Power": 20, "ApparentPower": 30, "Period": 3 },
            "COUNTER": { "Total": 7 }, "ESP32": { "Temperature": [1, 2] }, "TempUnit": "C", "PressureUnit": "hPa",
        },
        "ver": 1,
    });
    let device = one(announced(Announcer::Tasmota, "tasmota/discovery/00000049A3BC/sensors", payload));
    assert_eq!(device.device, Address::Introduced("00000049A3BC".into()));
    let mut lines = told(&device);
    lines.sort();
    assert_eq!(
        lines,
        [
            "BMP280-76.Pressure, hPa, pressure, number, read only",
            "DHT11.DewPoint, °C, temperature, number, read only",
            "DHT11.Humidity, %, humidity, number, read only",
            "DHT11.Temperature, °C, temperature, number, read only",
            "ENERGY.ApparentPower, VA, apparent_power, number, read only",
            "ENERGY.Power, W, power, number, read only",
            "ENERGY.Total, kWh, energy, number, read only",
        ]
    );
}

#[test]
fn what_lacks_its_topic_announces_nothing() {
    let announce = |topic: &str, payload: &str| announced(Announcer::Tasmota, topic, payload);
    assert_eq!(announce("tasmota/discovery/00/config", "{\"mac\":\"00\"}"), Announcements::default());
    assert_eq!(announce("tasmota/discovery/00/config", ""), Announcements::default());
    assert_eq!(announce("tasmota/discovery/00/sensors", "{\"sn\":7}"), Announcements::default());
    assert_eq!(announce("tasmota/discovery/00/other", "{}"), Announcements::default());
}
