//! From Koenkk/zigbee2mqtt, `test/extensions/bridge.test.ts` and `docs/guide/usage/mqtt_topics_and_messages.md`, shortened.

use super::*;

fn devices() -> serde_json::Value {
    json!([
        {
            "ieee_address": "0x00124b00120144ae", "type": "Coordinator", "network_address": 0, "supported": true,
            "friendly_name": "Coordinator", "interviewing": false, "interview_completed": true, "disabled": false,
            "definition": null, "endpoints": { "1": { "bindings": [], "clusters": { "input": [], "output": [] } } },
        },
        {
            "date_code": null,
            "definition": {
                "description": "TRADFRI bulb E26/E27, white spectrum, globe, opal, 980 lm",
                "exposes": [
                    {
                        "features": [
                            {
                                "access": 7, "description": "On/off state of this light", "label": "State", "name": "state",
                                "property": "state", "type": "binary", "value_off": "OFF", "value_on": "ON",
                                "value_toggle": "TOGGLE",
                            },
                            {
                                "access": 7, "label": "Brightness", "name": "brightness", "property": "brightness",
                                "type": "numeric", "value_max": 254, "value_min": 0,
                            },
                            {
                                "access": 7, "label": "Color temp", "name": "color_temp", "property": "color_temp",
                                "presets": [{ "description": "Coolest", "name": "coolest", "value": 250 }],
                                "type": "numeric", "unit": "mired", "value_max": 454, "value_min": 250,
                            },
                            {
                                "access": 7, "label": "Color (X/Y)", "name": "color_xy", "property": "color",
                                "type": "composite",
                                "features": [
                                    { "access": 7, "label": "X", "name": "x", "property": "x", "type": "numeric" },
                                    { "access": 7, "label": "Y", "name": "y", "property": "y", "type": "numeric" },
                                ],
                            },
                            {
                                "access": 7, "label": "Color (HS)", "name": "color_hs", "property": "color",
                                "type": "composite",
                                "features": [
                                    { "access": 7, "label": "Hue", "name": "hue", "property": "hue", "type": "numeric" },
                                ],
                            },
                            {
                                "access": 7, "label": "Level config", "name": "level_config", "property": "level_config",
                                "type": "composite",
                                "features": [{
                                    "access": 7, "label": "Execute if off", "name": "execute_if_off",
                                    "property": "execute_if_off", "type": "binary", "value_off": false, "value_on": true,
                                }],
                            },
                        ],
                        "type": "light",
                    },
                    {
                        "access": 2, "label": "Effect", "name": "effect", "property": "effect", "type": "enum",
                        "values": ["blink", "breathe", "okay"],
                    },
                    {
                        "access": 1, "category": "diagnostic", "label": "Linkquality", "name": "linkquality",
                        "property": "linkquality", "type": "numeric", "unit": "lqi", "value_max": 255, "value_min": 0,
                    },
                ],
                "model": "LED1545G12", "options": [{ "access": 2, "property": "transition", "type": "numeric" }],
                "supports_ota": true, "vendor": "IKEA",
            },
            "description": "this is my bulb", "disabled": false,
            "endpoints": { "1": { "bindings": [], "configured_reportings": [], "scenes": [] } },
            "friendly_name": "bulb", "ieee_address": "0x000b57fffec6a5b2", "interview_completed": true,
            "interviewing": false, "model_id": "TRADFRI bulb E27 WS opal 980lm", "network_address": 40369,
            "power_source": "Mains (single phase)", "supported": true, "type": "Router",
        },
        {
            "ieee_address": "0x00169a00022256da", "type": "EndDevice", "friendly_name": "hall/my_sensor", "supported": false,
            "disabled": true, "definition": null, "model_id": "notSupportedModelID", "manufacturer": "notSupportedMfg",
        },
    ])
}

#[test]
fn features_become_the_attributes_of_the_state() {
    let list = announced(Announcer::Zigbee2mqttDevices, "zigbee2mqtt/bridge/devices", devices());
    assert!(list.complete);
    let [bulb, sensor] = &list.devices[..] else { panic!("{list:?}") };
    assert_eq!(bulb.device, Address::Topic("zigbee2mqtt/bulb".into()));
    assert!(bulb.joined && bulb.complete && bulb.parts == Parts::Whole);
    assert_eq!(bulb.description, is("0x000b57fffec6a5b2", "bulb", "LED1545G12", "IKEA"));
    assert_eq!(
        told(bulb),
        [
            "state, State, enum, one of ON|OFF, writable",
            "brightness, Brightness, number, from 0, to 254, writable",
            "color_temp, Color temp, mired, number, from 250, to 454, writable",
            "color.x, X, number, writable",
            "color.y, Y, number, writable",
            "color.hue, Hue, number, writable",
            "level_config.execute_if_off, Execute if off, boolean, writable",
            "effect, Effect, enum, one of blink|breathe|okay, writable",
            "linkquality, Linkquality, lqi, number, from 0, to 255, read only",
        ]
    );
    // It is in the list and cannot be there.
    assert!(!sensor.joined);
    assert_eq!(sensor.device, Address::Topic("zigbee2mqtt/hall/my_sensor".into()));
    assert_eq!(
        sensor.description,
        is("0x00169a00022256da", "hall/my_sensor", "notSupportedModelID", "notSupportedMfg")
    );
}

#[test]
fn lists_and_lists_of_composites_are_one_attribute() {
    let exposes = json!([
        {
            "type": "list", "name": "weekly_schedule", "property": "schedule", "access": 3,
            "item_type": { "type": "composite", "features": [{ "type": "numeric", "property": "hour" }] },
        },
        { "type": "text", "name": "note", "property": "note" },
    ]);
    let payload = json!([{ "ieee_address": "0x1", "definition": { "exposes": exposes } }]);
    let device = one(announced(Announcer::Zigbee2mqttDevices, "z/bridge/devices", payload));
    assert_eq!(told(&device), ["schedule, json, writable", "note, text"]);
    // A device without a name is called by its address.
    assert_eq!(device.device, Address::Topic("z/0x1".into()));
}

#[test]
fn one_odd_device_does_not_cost_the_others_but_nothing_is_taken_for_gone() {
    let payload = json!([1, { "ieee_address": "0x1", "definition": { "exposes": 7 } }, { "ieee_address": "0x2", "type": 5 }]);
    let list = announced(Announcer::Zigbee2mqttDevices, "z/bridge/devices", payload);
    assert_eq!((list.devices.len(), list.complete), (1, false));
    let many: Vec<_> = (0..101).map(|n| json!({ "ieee_address": format!("0x{n}") })).collect();
    let list = announced(Announcer::Zigbee2mqttDevices, "z/bridge/devices", json!(many));
    assert_eq!((list.devices.len(), list.complete), (100, false));
    assert_eq!(announced(Announcer::Zigbee2mqttDevices, "z/bridge/devices", ""), Announcements::default());
}

#[test]
fn features_cannot_be_nested_without_end() {
    let mut expose = json!({ "type": "numeric", "property": "x" });
    for _ in 0..20 {
        expose = json!({ "type": "composite", "property": "p", "features": [expose] });
    }
    let payload = json!([{ "ieee_address": "0x1", "definition": { "exposes": [expose] } }]);
    assert_eq!(told(&one(announced(Announcer::Zigbee2mqttDevices, "z/bridge/devices", payload))), [""; 0]);
}

#[test]
fn a_large_list_is_read() {
    let mut device = devices()[1].clone();
    let all: Vec<_> = (0..100)
        .map(|n| {
            device["ieee_address"] = json!(format!("0x{n:016x}"));
            device["friendly_name"] = json!(format!("lamp {n}"));
            device["endpoints"] = json!(vec!["cluster"; 1_000]);
            device.clone()
        })
        .collect();
    let payload = json!(all).to_string();
    assert!(payload.len() > 1 << 20);
    let list = announced(Announcer::Zigbee2mqttDevices, "zigbee2mqtt/bridge/devices", payload);
    assert_eq!((list.devices.len(), list.devices[99].attributes.len(), list.complete), (100, 9, true));
}

#[test]
fn groups_with_members_are_there() {
    // docs/guide/usage/mqtt_topics_and_messages.md
    let payload = json!([
        { "id": 1, "friendly_name": "my_group", "description": "", "scenes": [{ "id": 1, "name": "Cozy" }],
          "members": [{ "ieee_address": "0x90fd9ffffe6494fc", "endpoint": 1 }] },
        { "id": 901, "friendly_name": "default_bind_group", "scenes": [], "members": [] },
    ]);
    let list = announced(Announcer::Zigbee2mqttGroups, "zigbee2mqtt/bridge/groups", payload);
    let [group, binding] = &list.devices[..] else { panic!("{list:?}") };
    assert_eq!(group.device, Address::Topic("zigbee2mqtt/my_group".into()));
    assert_eq!(group.description, is("group 1", "my_group", "", ""));
    assert!(group.joined && !binding.joined && list.complete);
}
