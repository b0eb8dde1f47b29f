//! From home-assistant.io, `source/_integrations/mqtt.markdown`, and Koenkk/zigbee2mqtt,
//! `test/extensions/homeassistant.test.ts`.

use super::*;

fn config(payload: serde_json::Value) -> Announcements {
    announced(Announcer::HomeAssistant, "homeassistant/x/y/config", payload)
}

#[test]
fn a_component() {
    let device = one(config(json!({
        "unit_of_measurement": "°C", "device_class": "temperature", "state_class": "measurement",
        "value_template": "{{ value_json[\"temperature\"] }}", "state_topic": "zigbee2mqtt/weather_sensor",
        "json_attributes_topic": "zigbee2mqtt/weather_sensor", "name": null, "object_id": "weather_sensor_temperature",
        "unique_id": "0x0017880104e45522_temperature_zigbee2mqtt",
        "device": {
            "identifiers": ["zigbee2mqtt_0x0017880104e45522"], "name": "weather_sensor", "sw_version": null,
            "model": "Temperature and humidity sensor", "manufacturer": "Aqara", "suggested_area": "Garden",
        },
        "availability": [{ "topic": "zigbee2mqtt/bridge/state", "value_template": "{{ value_json.state }}" }],
    })));
    assert_eq!(device.device, Address::Topic("zigbee2mqtt/weather_sensor".into()));
    assert!(!device.joined && !device.complete);
    let sensor =
        is("zigbee2mqtt_0x0017880104e45522", "weather_sensor", "Temperature and humidity sensor", "Aqara");
    assert_eq!(device.description, DeviceDescription { area: "Garden".into(), ..sensor });
    assert_eq!(told(&device), ["temperature, °C, temperature, number, read only"]);
}

#[test]
fn abbreviations_and_the_base_topic() {
    let device = one(config(json!({
        "~": "homeassistant/switch/irrigation", "name": "garden", "cmd_t": "~/set", "stat_t": "~/state", "pl_on": "GO",
    })));
    assert_eq!(device.device, Address::Topic("homeassistant/switch/irrigation/state".into()));
    assert_eq!(told(&device), [", garden, enum, one of GO|OFF, writable"]);
    let device = one(config(
        json!({ "~": "home", "stat_t": "x/~", "dev": { "ids": "a", "mf": "M", "mdl": "X", "sa": "" } }),
    ));
    assert_eq!(device.device, Address::Topic("x/home".into()));
    assert_eq!(device.description, is("a", "", "X", "M"));
}

#[test]
fn a_device_with_components() {
    let payload = json!({
        "dev": { "ids": "ea334450945afc", "name": "Kitchen", "mf": "Bla electronics", "mdl": "xya", "sw": "1.0" },
        "o": { "name": "bla2mqtt", "sw": "2.1" },
        "cmps": {
            "some_unique_component_id1": {
                "p": "sensor", "device_class": "temperature", "unit_of_measurement": "°C",
                "value_template": "{{ value_json.temperature }}", "unique_id": "temp01ae_t",
            },
            "some_unique_id2": {
                "p": "sensor", "device_class": "humidity", "unit_of_measurement": "%",
                "value_template": "{{ value_json.humidity }}", "unique_id": "temp01ae_h",
            },
            "gone": { "p": "binary_sensor" },
        },
        "state_topic": "sensorBedroom/state", "qos": 2,
    });
    let list = config(payload);
    let [temperature, humidity, gone] = &list.devices[..] else { panic!("{list:?}") };
    assert!(list.devices.iter().all(|device| device.device == Address::Topic("sensorBedroom/state".into())));
    // Components come in the order of their names.
    assert_eq!(told(temperature).len() + told(humidity).len() + told(gone).len(), 3);
    let all: Vec<String> = list.devices.iter().flat_map(told).collect();
    assert!(all.contains(&"temperature, °C, temperature, number, read only".to_owned()), "{all:?}");
    assert!(all.contains(&"humidity, %, humidity, number, read only".to_owned()), "{all:?}");
    assert_eq!(list.devices[0].description, is("ea334450945afc", "Kitchen", "xya", "Bla electronics"));
}

#[test]
fn numbers_options_and_json_lights() {
    let device = one(config(json!({
        "p": "number", "stat_t": "a/b", "cmd_t": "a/c", "min": 5, "max": 30, "step": 0.5, "val_tpl": "{{ value_json.set }}",
    })));
    assert_eq!(told(&device), ["set, number, from 5, to 30, by 0.5, writable"]);
    let device =
        one(config(json!({ "stat_t": "a/b", "cmd_t": "a/c", "ops": ["eco", "max"], "name": "Mode" })));
    assert_eq!(told(&device), [", Mode, enum, one of eco|max, writable"]);
    let device =
        one(config(json!({ "stat_t": "a/b", "schema": "json", "payload_on": true, "payload_off": false })));
    assert_eq!(told(&device), ["state, boolean, read only"]);
}

#[test]
fn what_names_no_place_describes_no_attribute_and_an_empty_one_nothing() {
    let device = one(config(json!({
        "stat_t": "a/b", "val_tpl": "{{ value_json.x * 0.1 }}", "unit_of_meas": "V", "dev": { "name": "Meter" },
    })));
    assert_eq!((told(&device).len(), &*device.description.name), (0, "Meter"));
    assert_eq!(config(json!({ "cmd_t": "a/c", "name": "Button" })).devices, []);
    assert_eq!(announced(Announcer::HomeAssistant, "homeassistant/x/y/config", ""), Announcements::default());
}
