//! The documents, as Home Assistant gets them, and which devices are announced.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::fact::{Availability, AvailabilityCause, Identity};
use fieldlog_projections::{
    AttrId, AttributeDescription, DescribedBy, DeviceDescription, DeviceId, Fact, Seq, Time, Value, View,
};
use serde_json::Value as Json;

use super::device::{self, Known};
use super::gateway::{GatewayState, SinkState};
use super::*;

const GATEWAY: &str = include_str!("tests/gateway.json");
const DEVICE: &str = include_str!("tests/device.json");

fn target(more: &str) -> Target {
    let text = format!(
        "gateway_id = \"gw\"\n[home_assistant]\nsource = \"home\"\ndevices = [\"*\"]\n[[source]]\nname = \"home\"\n\
         address = \"mqtt://h\"\n{more}"
    );
    let config = Config::from_toml(&text, "test").unwrap_or_else(|faults| panic!("{faults}"));
    Target::of(&config).unwrap()
}

fn ordinary() -> Target {
    target("[[source.subscription]]\ntopic = \"d/+device\"\ndecoder = \"json\"\n")
}

fn view(facts: &[Fact]) -> View {
    let mut body = RecordBuffer::after(Time(0));
    facts.iter().for_each(|fact| body.push_fact(Envelope::default(), fact));
    let mut view = View::new(Vec::new());
    view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
    view
}

fn discovered(id: u32, name: &str, source: &str, identity: Option<(&str, &str)>) -> Fact {
    let identity =
        identity.map(|(namespace, name)| Identity { namespace: namespace.into(), name: name.into() });
    Fact::DeviceDiscovered {
        device: DeviceId(id),
        name: name.into(),
        source: source.into(),
        parent: None,
        identity,
    }
}

/// A device with an attribute of each kind.
fn kitchen() -> View {
    let values: [(&str, Value, [&str; 3]); 8] = [
        ("temperature", Value::Float(21.5), ["Temperature", "°C", "temperature"]),
        ("energy", Value::Int(7), ["", "kWh", "energy"]),
        ("odd", Value::Int(1), ["", "furlong", "distance"]),
        ("door", Value::Bool(true), ["", "", "door"]),
        ("it's \"a\"", Value::Bool(false), ["", "", "unheard-of"]),
        ("mode", Value::Text("auto".into()), ["", "", ""]),
        ("list", Value::Json("[1]".into()), ["", "", ""]),
        ("gone", Value::Null, ["", "", ""]),
    ];
    let device = DeviceId(0);
    let mut facts = vec![discovered(0, "room/kitchen 1", "home", None)];
    let mut changes = Vec::new();
    for ((name, value, [title, unit, class]), id) in values.into_iter().zip(0..) {
        let attribute = AttrId(id);
        facts.push(Fact::AttributeNamed { attribute, name: name.into() });
        let description = AttributeDescription {
            name: title.into(),
            unit: unit.into(),
            device_class: class.into(),
            ..AttributeDescription::default()
        };
        facts.push(Fact::AttributeDescribed {
            device,
            attribute,
            by: DescribedBy::Announcement,
            description,
        });
        changes.push((attribute, value));
    }
    let description = DeviceDescription {
        name: "Kitchen".into(),
        model: "M1".into(),
        manufacturer: "Acme".into(),
        ..DeviceDescription::default()
    };
    facts.push(Fact::DeviceDescribed { device, by: DescribedBy::Announcement, description });
    facts.push(Fact::StateChanged { device, changes });
    facts.push(Fact::AvailabilityChanged {
        device,
        availability: Availability::Online,
        cause: AvailabilityCause::Topic,
    });
    view(&facts)
}

fn known(view: &View) -> Known<'_> {
    let id = DeviceId(0);
    let device = view.devices.get(id).unwrap();
    Known { id, device, devices: &view.devices, descriptions: &view.descriptions }
}

/// Compares with a file that is written anew if the environment says so.
#[track_caller]
fn golden(file: &str, text: &str, found: &[u8]) {
    let found: Json = serde_json::from_slice(found).unwrap();
    if std::env::var_os("FIELDLOG_WRITE").is_some() {
        let path = format!("{}/src/home_assistant/tests/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, format!("{found:#}\n").replace(env!("CARGO_PKG_VERSION"), "VERSION")).unwrap();
        return;
    }
    let expected: Json = serde_json::from_str(&text.replace("VERSION", env!("CARGO_PKG_VERSION"))).unwrap();
    assert_eq!(format!("{found:#}"), format!("{expected:#}"), "FIELDLOG_WRITE=1 writes {file} anew");
}

#[test]
fn the_gateway_is_a_device_with_diagnostics() {
    golden("gateway.json", GATEWAY, &ordinary().announcer.gateway_config(&["cloud".into()]));
}

#[test]
fn without_a_will_entities_expire() {
    let announcer = target("[source.sparkplug]\n").announcer;
    let config: Json = serde_json::from_slice(&announcer.gateway_config(&[])).unwrap();
    let entities = config["cmps"].as_object().unwrap();
    assert!(
        entities.values().all(|entity| entity["exp_aft"] == 150 && entity["avty_t"].is_null()),
        "{config:#}"
    );
}

#[test]
fn a_device_shows_what_is_known_of_it() {
    let view = kitchen();
    golden("device.json", DEVICE, &ordinary().announcer.device_config(&known(&view)));
    let state: Json = serde_json::from_slice(&device::state(&known(&view))).unwrap();
    let expected = r#"{"availability": "online", "attributes": {"temperature": 21.5, "energy": 7, "odd": 1, "door": true,
        "it's \"a\"": false, "mode": "auto", "gone": null}}"#;
    assert_eq!(state, serde_json::from_str::<Json>(expected).unwrap());
}

#[test]
fn every_value_that_a_template_names_is_in_the_state() {
    let state =
        GatewayState { sinks: [("cloud".into(), SinkState::default())].into(), ..GatewayState::default() };
    let state = serde_json::to_value(state).unwrap();
    let config: Json =
        serde_json::from_slice(&ordinary().announcer.gateway_config(&["cloud".into()])).unwrap();
    let templates: Vec<&str> = config["cmps"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(|entity| entity["val_tpl"].as_str())
        .collect();
    assert_eq!(templates.len(), 9);
    for template in templates {
        let place =
            template.strip_prefix("{{ value_json.").and_then(|rest| rest.strip_suffix(" }}")).unwrap();
        let pointer = format!("/{}", place.replace("sinks['cloud'].", "sinks/cloud/"));
        assert!(state.pointer(&pointer).is_some(), "{template}");
    }
}

#[test]
fn what_is_announced_is_ignored_when_it_comes_back() {
    let bounds = crate::describe::Bounds { devices: 9, attributes: 9, text_bytes: 99 };
    let announcer = crate::config::Announcer::HomeAssistant;
    let read = |payload: &[u8]| {
        crate::describe::decode(announcer, "homeassistant/device/x/config", payload, &bounds).unwrap()
    };
    let own = ordinary().announcer.device_config(&known(&kitchen()));
    assert!(read(&own).devices.is_empty());
    let foreign = String::from_utf8(own).unwrap().replace("\"name\":\"fieldlog\"", "\"name\":\"other\"");
    assert!(!read(foreign.as_bytes()).devices.is_empty());
}

#[test]
fn what_home_assistant_has_already_is_not_announced() {
    let rule = "[[source.subscription]]\ntopic = \"d/+device\"\ndecoder = \"json\"\n";
    let other = "[[source]]\nname = \"attic\"\naddress = \"mqtt://other\"\n";
    let beside = other.replace("attic", "beside").replace("other", "h");
    let mirror = "[[source.subscription]]\npreset = \"homeassistant-statestream\"\nnamespace = \"ha\"\n";
    let choice = target(&format!("{rule}{mirror}{other}{rule}{beside}{rule}")).choice;
    let description = DeviceDescription { model: "M".into(), ..DeviceDescription::default() };
    let describe =
        |device, by| Fact::DeviceDescribed { device: DeviceId(device), by, description: description.clone() };
    let view = view(&[
        discovered(0, "plain", "home", None),
        discovered(1, "announced", "home", None),
        describe(1, DescribedBy::Announcement),
        discovered(2, "known-to-ha", "home", None),
        describe(2, DescribedBy::Discovery),
        discovered(3, "known-elsewhere", "attic", None),
        describe(3, DescribedBy::Discovery),
        discovered(4, "known-beside", "beside", None),
        describe(4, DescribedBy::Discovery),
        discovered(5, "light.kitchen", "home", Some(("ha", "light.kitchen"))),
        discovered(6, "switch.attic", "home", None),
        discovered(7, "retired", "home", None),
        Fact::DeviceRetired { device: DeviceId(7) },
    ]);
    let chosen = view.devices.iter().filter(|(id, device)| choice.has(*id, device, &view.descriptions));
    let names: Vec<&str> = chosen.map(|(_, device)| &*device.name).collect();
    assert_eq!(names, ["plain", "announced", "known-elsewhere", "switch.attic"]);
}
