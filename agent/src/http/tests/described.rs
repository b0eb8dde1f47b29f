//! Names, units and ranges, where they are known.

use fieldlog_projections::{AttributeDescription, DataType, DescribedBy, DeviceDescription};

use super::*;

const LAMP: DeviceId = DeviceId(1);

/// Descriptions of `kitchen/lamp`: its temperature, and a mode that can only be set.
fn descriptions() -> Vec<(i64, Fact)> {
    let device =
        DeviceDescription { name: "Lamp".into(), area: "Kitchen".into(), ..DeviceDescription::default() };
    let attribute = |attribute, description| Fact::AttributeDescribed {
        device: LAMP,
        attribute: AttrId(attribute),
        by: DescribedBy::Announcement,
        description,
    };
    let temperature = AttributeDescription {
        name: "Temperature".into(),
        unit: "°C".into(),
        device_class: "temperature".into(),
        data_type: DataType::Number,
        max: Some(99.5),
        ..AttributeDescription::default()
    };
    let mode = AttributeDescription {
        values: vec!["eco".into()],
        writable: Some(true),
        ..AttributeDescription::default()
    };
    vec![
        (90, Fact::AttributeNamed { attribute: AttrId(2), name: "mode".into() }),
        (90, Fact::DeviceDescribed { device: LAMP, by: DescribedBy::Announcement, description: device }),
        (90, attribute(0, temperature)),
        (90, attribute(2, mode)),
    ]
}

#[tokio::test]
async fn devices_have_a_description_units_and_classes() {
    let agent = Agent::start().await;
    agent.commit_house();
    agent.commit(descriptions());
    let list = agent.json("/api/v1/devices").await;
    let lamp = &list["devices"][1];
    assert_eq!(lamp["description"], serde_json::json!({"name": "Lamp", "area": "Kitchen"}));
    assert_eq!(lamp["units"], serde_json::json!({"temperature": "°C"}));
    assert_eq!(lamp["classes"], serde_json::json!({"temperature": "temperature"}));
    assert_eq!(lamp["attributes"], serde_json::json!({"temperature": 22, "on": true}));
    // A description is not a sign of life.
    assert_eq!((&lamp["events"], &lamp["changed_seq"]), (&5.into(), &8.into()));
    for absent in ["description", "units", "classes"] {
        assert!(list["devices"][0].get(absent).is_none(), "{absent}");
    }

    let one = agent.json("/api/v1/devices/kitchen%2Flamp").await;
    let attributes = &one["device"]["attributes"];
    let temperature = serde_json::json!({
        "value": 22, "seq": 7, "at": attributes["temperature"]["at"],
        "name": "Temperature", "unit": "°C", "device_class": "temperature", "type": "number", "max": 99.5,
    });
    assert_eq!(attributes["temperature"], temperature);
    let mode =
        serde_json::json!({"value": null, "seq": null, "at": null, "values": ["eco"], "writable": true});
    assert_eq!(attributes["mode"], mode);
    assert_eq!(attributes["on"].as_object().unwrap().len(), 3);
    agent.stop().await;
}

#[tokio::test]
async fn events_have_units_and_descriptions_are_events() {
    let agent = Agent::start().await;
    agent.commit_house();
    agent.commit(descriptions());
    let changes = agent.json("/api/v1/events?type=state_changed&device=kitchen/lamp").await;
    let data = &changes["events"][0]["data"];
    assert_eq!(data["described"], serde_json::json!({"temperature": {"name": "Temperature", "unit": "°C"}}));
    let described = agent.json("/api/v1/events?type=device_described,attribute_described").await;
    let data: Vec<_> =
        described["events"].as_array().unwrap().iter().map(|event| event["data"].clone()).collect();
    let expected = serde_json::json!([
        {"by": "announcement", "description": {"name": "Lamp", "area": "Kitchen"}},
        {"attribute": "temperature", "by": "announcement",
         "description": {"name": "Temperature", "unit": "°C", "device_class": "temperature", "type": "number",
         "max": 99.5}},
        {"attribute": "mode", "by": "announcement", "description": {"values": ["eco"], "writable": true}},
    ]);
    assert_eq!(Json::Array(data), expected);
    let history = agent.json("/api/v1/devices/kitchen%2Flamp/history?attribute=mode").await;
    assert_eq!(history["history"].as_array().unwrap().len(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn metrics_say_what_devices_and_attributes_are() {
    let agent = Agent::start().await;
    agent.commit_house();
    let before = agent.get("/metrics").await.text();
    assert!(before.contains("fieldlog_descriptions{of=\"device\"} 0\n"), "{before}");
    agent.commit(descriptions());
    let metrics = agent.get("/metrics").await.text();
    for line in [
        "fieldlog_descriptions{of=\"device\"} 1",
        "fieldlog_descriptions{of=\"attribute\"} 2",
        "fieldlog_device_info{device=\"kitchen/lamp\",name=\"Lamp\",area=\"Kitchen\"} 1",
        "fieldlog_attribute_info{device=\"kitchen/lamp\",attribute=\"temperature\",name=\"Temperature\",unit=\"°C\",\
         device_class=\"temperature\",type=\"number\"} 1",
        "fieldlog_attribute_info{device=\"kitchen/lamp\",attribute=\"mode\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    agent.stop().await;
}
