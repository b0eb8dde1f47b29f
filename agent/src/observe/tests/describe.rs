//! Results of announcements and configured descriptions, through the presets.

use super::*;

/// A source with presets, and configured descriptions.
fn with(presets: &[&str], rest: &str) -> Config {
    let subscriptions: String =
        presets.iter().map(|name| format!("[[source.subscription]]\npreset = {name:?}\n")).collect();
    let text = format!(
        "[limits]\nstate_bytes_max = 8388608\n[[source]]\nname = \"s\"\naddress = \"mqtt://x\"\n{subscriptions}{rest}"
    );
    Config::from_toml(&text, "test.toml").unwrap_or_else(|faults| panic!("{faults}"))
}

fn lamp(ieee: &str, name: &str, unit: &str) -> String {
    format!(
        r#"{{"ieee_address":"{ieee}","friendly_name":"{name}","type":"Router","supported":true,"definition":{{
        "model":"LED1545G12","vendor":"IKEA","exposes":[{{"type":"light","features":[{{"type":"numeric","property":
        "brightness","access":7,"value_max":254}}]}},{{"type":"numeric","property":"linkquality","unit":"{unit}","access":1}},
        {{"type":"enum","property":"action","access":1,"values":["on","off"]}}]}}}}"#
    )
}

fn list(devices: &[String]) -> String {
    format!("[{}]", devices.join(","))
}

const DEVICES: &str = "zigbee2mqtt/bridge/devices";

impl Scene {
    /// The outcome of a message, in words.
    fn told(&mut self, topic: &str, payload: &str) -> Vec<String> {
        let facts = self.take(topic, payload);
        self.check();
        facts.into_iter().map(|fact| self.word(fact)).collect()
    }

    fn word(&self, fact: Fact) -> String {
        let device = |id: DeviceId| self.view.devices.get(id).map_or("gone", |device| &device.name);
        let attribute = |id| self.view.devices.attribute_name(id).unwrap();
        match fact {
            Fact::DeviceDiscovered { device: id, .. } => format!("discovered {}", device(id)),
            Fact::AttributeNamed { name, .. } => format!("named {name}"),
            Fact::DeviceDescribed { device: id, by, description } => {
                let DeviceDescription { stable_id, name, model, manufacturer, area } = description;
                format!("{by:?} on {}: {stable_id},{name},{model},{manufacturer},{area}", device(id))
            }
            Fact::AttributeDescribed { device: id, attribute: attr, by, description } => {
                let AttributeDescription {
                    name, unit, device_class, data_type, max, values, writable, ..
                } = description;
                let (device, attribute) = (device(id), attribute(attr));
                let kind = data_type.word();
                format!(
                    "{by:?} on {device} {attribute}: {name},{unit},{device_class},{kind},{max:?},{values:?},{writable:?}"
                )
            }
            Fact::DeviceRenamed { name, .. } => format!("renamed to {name}"),
            Fact::DeviceRetired { device: id } => format!("retired {}", device(id)),
            Fact::StateChanged { device: id, .. } => format!("changed {}", device(id)),
            Fact::AvailabilityChanged { device: id, availability, .. } => {
                format!("{} {availability:?}", device(id))
            }
            Fact::InputQuarantined { reason, .. } => format!("quarantined: {reason}"),
            other => format!("{other:?}"),
        }
    }

    fn unit(&self, device: &str, attribute: &str) -> String {
        let id = self.view.devices.find(device).unwrap().0;
        let attr = self.view.devices.attribute_named(attribute).unwrap();
        let described = self.view.descriptions.get(id);
        assert_eq!(described, self.observer.devices[id].described.as_deref());
        described.map(|described| described.attribute(attr).unit).unwrap_or_default()
    }
}

#[test]
fn a_list_describes_each_device_once() {
    let mut scene = Scene::new(with(&["zigbee2mqtt"], ""));
    let one = list(&[lamp("0x01", "lamp", "lqi")]);
    assert_eq!(
        scene.told(DEVICES, &one),
        [
            "discovered zigbee2mqtt/bridge",
            "discovered lamp",
            "named brightness",
            "named linkquality",
            "named action",
            "Announcement on lamp: 0x01,lamp,LED1545G12,IKEA,",
            "Announcement on lamp brightness: ,,,number,Some(254.0),[],Some(true)",
            "Announcement on lamp linkquality: ,lqi,,number,None,[],Some(false)",
            "Announcement on lamp action: ,,,enum,None,[\"on\", \"off\"],Some(false)",
        ]
    );
    // The list is retained and arrives with every connection.
    assert_eq!(scene.told(DEVICES, &one), [""; 0]);
    scene.restart();
    assert_eq!(scene.told(DEVICES, &one), [""; 0]);
    let other = list(&[lamp("0x01", "lamp", "%")]);
    let only = ["Announcement on lamp linkquality: ,%,,number,None,[],Some(false)"];
    assert_eq!(scene.told(DEVICES, &other), only);
    assert_eq!(scene.unit("lamp", "linkquality"), "%");
    // State is unaffected, and a device in a list does not count as heard.
    assert_eq!(scene.told("zigbee2mqtt/lamp", r#"{"linkquality":3}"#), ["changed lamp"]);
    assert_eq!(scene.observer.heard.get(DeviceId(1)), Some(scene.now));
    assert_eq!(scene.observer.heard.get(DeviceId(0)), None);
}

#[test]
fn a_device_that_has_left_the_list_is_retired_and_comes_back() {
    let mut scene = Scene::new(with(&["zigbee2mqtt"], ""));
    let (a, b) = (lamp("0x01", "a", "lqi"), lamp("0x02", "b", "lqi"));
    scene.take(DEVICES, &list(&[a.clone(), b.clone()]));
    scene.take("zigbee2mqtt/own", r#"{"x":1}"#);
    scene.take("zigbee2mqtt/bridge/groups", r#"[{"id":1,"friendly_name":"g","members":[{}]}]"#);
    scene.restart();
    // A device that was in no list is not missing from one; neither is a group.
    assert_eq!(scene.told(DEVICES, &list(std::slice::from_ref(&a))), ["retired b"]);
    assert_eq!(scene.unit("b", "linkquality"), "lqi");
    // An incomplete list says nothing about devices that it lacks.
    assert_eq!(scene.told(DEVICES, "[1]"), [""; 0]);
    assert_eq!(
        scene.told(DEVICES, "[{\"ieee"),
        ["quarantined: an announcement that cannot be read: EOF while parsing a string at line 1 column 7"]
    );
    assert_eq!(scene.told(DEVICES, &list(&[a, b])), ["discovered b"]);
    assert_eq!(scene.told("zigbee2mqtt/bridge/groups", "[]"), ["retired g"]);
}

#[test]
fn a_device_with_another_name_keeps_its_history() {
    let mut scene = Scene::new(with(&["zigbee2mqtt"], ""));
    scene.take(DEVICES, &list(&[lamp("0x01", "0x01", "lqi")]));
    scene.take("zigbee2mqtt/0x01", r#"{"linkquality":3}"#);
    scene.restart();
    let renamed = list(&[lamp("0x01", "kitchen", "lqi")]);
    assert_eq!(
        scene.told(DEVICES, &renamed),
        ["renamed to kitchen", "Announcement on kitchen: 0x01,kitchen,LED1545G12,IKEA,"]
    );
    let (id, device) = scene.view.devices.find("kitchen").unwrap();
    assert_eq!((id, device.attributes.len()), (DeviceId(1), 1));
    assert_eq!(scene.told("zigbee2mqtt/kitchen", r#"{"linkquality":3}"#), [""; 0]);
    // Zigbee2MQTT may have cleared the old topic before it says so.
    scene.take("zigbee2mqtt/kitchen", "");
    assert_eq!(
        scene.told(DEVICES, &list(&[lamp("0x01", "hall", "lqi")])),
        ["renamed to hall", "discovered hall", "Announcement on hall: 0x01,hall,LED1545G12,IKEA,"]
    );
}

#[test]
fn new_hardware_under_an_old_name_is_said_and_renames_nothing() {
    let mut scene = Scene::new(with(&["zigbee2mqtt"], ""));
    scene.take(DEVICES, &list(&[lamp("0x01", "a", "lqi"), lamp("0x02", "b", "lqi")]));
    let swapped = list(&[lamp("0x01", "b", "lqi"), lamp("0x02", "a", "lqi")]);
    assert_eq!(
        scene.told(DEVICES, &swapped),
        ["Announcement on b: 0x01,b,LED1545G12,IKEA,", "Announcement on a: 0x02,a,LED1545G12,IKEA,"]
    );
    let replaced = list(&[lamp("0x03", "a", "lqi"), lamp("0x01", "b", "lqi")]);
    assert_eq!(scene.told(DEVICES, &replaced), ["Announcement on a: 0x03,a,LED1545G12,IKEA,"]);
}

#[test]
fn lists_stay_within_the_limits() {
    let mut config = with(&["zigbee2mqtt"], "");
    config.limits.devices_max = 3;
    config.limits.attributes_per_device_max = 2;
    let mut scene = Scene::new(config);
    let many: Vec<String> = (0..10).map(|n| lamp(&format!("0x{n}"), &format!("l{n}"), "lqi")).collect();
    let told = scene.told(DEVICES, &list(&many));
    assert_eq!(told.iter().filter(|fact| fact.starts_with("discovered")).count(), 3, "{told:?}");
    assert!(told.last().unwrap().contains("limits.devices_max is 3"), "{told:?}");
    assert_eq!(scene.view.descriptions.iter().map(|(_, d)| d.attributes().len()).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn descriptions_are_counted_and_refused_like_values() {
    let mut config = with(&["zigbee2mqtt"], "");
    config.limits.state_bytes_max = Some(1 << 20);
    let mut scene = Scene::new(config);
    let name = "n".repeat(200);
    let device = |n: usize| lamp(&format!("0x{n}"), &format!("{n}"), &name);
    let mut facts = Vec::new();
    for n in 0..2_000 {
        facts = scene.told("zigbee2mqtt/bridge/devices", &format!("[{},1]", device(n)));
        if facts.iter().any(|fact| fact.starts_with("quarantined")) {
            break;
        }
    }
    let refusal = facts.last().unwrap();
    assert!(refusal.contains("limits.state_bytes_max is 1048576"), "{refusal}");
    assert!(scene.view.descriptions.iter().count() > 100);
    assert!(scene.observer.budget.used() <= 1 << 20);
}

#[test]
fn discovery_describes_what_other_rules_take() {
    let mut scene = Scene::new(with(&["zigbee2mqtt", "homeassistant-discovery"], ""));
    let topic = "homeassistant/sensor/0x01/temperature/config";
    let config = |class: &str| {
        format!(
            r#"{{"unit_of_measurement":"°C","device_class":"{class}","value_template":"{{{{ value_json.temperature }}}}",
            "state_topic":"zigbee2mqtt/weather","device":{{"identifiers":["z_0x01"],"name":"weather","model":"W"}}}}"#
        )
    };
    assert_eq!(
        scene.told(topic, &config("temperature")),
        [
            "discovered zigbee2mqtt/bridge",
            "discovered weather",
            "named temperature",
            "Discovery on weather: z_0x01,weather,W,,",
            "Discovery on weather temperature: ,°C,temperature,number,None,[],Some(false)",
        ]
    );
    // The device's own convention takes precedence, and neither makes the other's description change.
    let own = r#"[{"ieee_address":"0x01","friendly_name":"weather","definition":{"exposes":[
        {"type":"numeric","property":"temperature","unit":"K"}]}}]"#;
    scene.take(DEVICES, own);
    assert_eq!(scene.unit("weather", "temperature"), "K");
    assert_eq!(scene.told(topic, &config("temperature")), [""; 0]);
    assert_eq!(scene.told(DEVICES, own), [""; 0]);
    // Another topic about the same attribute does not alternate with the first.
    let other = "homeassistant/sensor/0x01/other/config";
    assert_eq!(scene.told(other, &config("other")), [""; 0]);
    assert_eq!(scene.told(topic, ""), ["Discovery on weather temperature: ,,,,None,[],None"]);
    assert_eq!(scene.told(other, &config("other")).len(), 1);
    // No rule takes this topic, so nothing is described; and it does not bring a retired device back.
    let nobody = config("x").replace("zigbee2mqtt/", "elsewhere/");
    assert_eq!(scene.told(topic, &nobody), [""; 0]);
    scene.take("zigbee2mqtt/weather", "");
    assert_eq!(scene.told(other, &config("y")), [""; 0]);
}

#[test]
fn a_prefix_and_a_root_are_found_again() {
    let rules = "[[source.subscription]]\ntopic = \"x/+device/+part\"\ndecoder = \"json\"\nattribute = \"{part}\"\n\
                 root = \"/data\"\nignore = [\"skipped\"]\n";
    let mut scene = Scene::new(with(&["homeassistant-discovery"], rules));
    let mut told = |place: &str| {
        let payload = format!(
            r#"{{"stat_t":"x/pump/motor","val_tpl":"{{{{ value_json.{place} }}}}","unit_of_meas":"V"}}"#
        );
        scene.told(&format!("homeassistant/sensor/{place}/config"), &payload)
    };
    let named = "Discovery on pump motor.u: ,V,,number,None,[],Some(false)";
    assert_eq!(told("data.u"), ["discovered pump", "named motor.u", named]);
    for place in ["u", "database", "data", "data.skipped"] {
        assert_eq!(told(place), [""; 0], "{place}");
    }
}

#[test]
fn the_rules_that_share_a_topic_share_its_places() {
    let rule =
        |keys: &str| format!("[[source.subscription]]\ntopic = \"x/+device\"\ndecoder = \"json\"\n{keys}\n");
    let told = |rules: &[String], place: &str| {
        let mut scene = Scene::new(with(&["homeassistant-discovery"], &rules.concat()));
        let payload =
            format!(r#"{{"stat_t":"x/pump","val_tpl":"{{{{ value_json.{place} }}}}","unit_of_meas":"V"}}"#);
        scene.told("homeassistant/sensor/one/config", &payload)
    };
    let described = |name: &str| {
        [
            "discovered pump".to_owned(),
            format!("named {name}"),
            format!("Discovery on pump {name}: ,V,,number,None,[],Some(false)"),
        ]
    };
    let first = rule("also = true\nonly = [\"u\"]\nrename = [{ from = \"u\", to = \"voltage\" }]");
    let both = [first, rule("attribute = \"rest\"")];
    assert_eq!(told(&both, "u"), described("voltage"));
    assert_eq!(told(&both, "i"), described("rest.i"));
    // Without `also` the first rule is the only one.
    let alone = [both[0].replace("also = true\n", ""), both[1].clone()];
    assert_eq!(told(&alone, "u"), described("voltage"));
    assert_eq!(told(&alone, "i"), ["discovered pump"]);
    // The payload determines its device, and no other rule gets it.
    for named in ["device = \"{/id}\"", "each = \"members\"\ndevice = \"{key}\"", "each = \"members\""] {
        assert_eq!(told(&[rule(named), rule("")], "u"), [""; 0], "{named}");
        let shared = rule(&format!("also = true\n{named}"));
        assert_eq!(told(&[shared, rule("")], "u"), described("u"), "{named}");
    }
    // Which documents it takes is known when they are here.
    let some = rule("attribute = \"a\"\nwhen = { pointer = \"/kind\", equals = \"a\" }");
    assert_eq!(told(&[some, rule("")], "u"), described("u"));
}

#[test]
fn homie_says_it_piece_by_piece() {
    let mut scene = Scene::new(with(&["homie"], ""));
    let base = "homie/car/engine/temperature";
    assert_eq!(
        scene.told(&format!("{base}/$unit"), "°C"),
        [
            "discovered car",
            "named engine/temperature",
            "Announcement on car engine/temperature: ,°C,,,None,[],None"
        ]
    );
    scene.take(&format!("{base}/$datatype"), "float");
    scene.take(&format!("{base}/$format"), "-20:120");
    assert_eq!(
        scene.told(&format!("{base}/$settable"), "false"),
        ["Announcement on car engine/temperature: ,°C,,number,Some(120.0),[],Some(false)"]
    );
    assert_eq!(scene.told("homie/car/$name", "Super car"), ["Announcement on car: ,Super car,,,"]);
    assert_eq!(scene.told("homie/car/$name", "Super car"), [""; 0]);
    assert_eq!(scene.told("homie/car/engine/$name", "Engine"), [""; 0]);
    assert_eq!(scene.told(base, "21.5"), ["changed car"]);
    assert_eq!(scene.told("homie/car/$state", "init"), ["car Online", "named state", "changed car"]);
    for word in ["ready", "alert", "sleeping"] {
        assert_eq!(scene.told("homie/car/$state", word), ["changed car"]);
        assert_eq!(scene.told("homie/car/$state", word), [""; 0]);
    }
    assert_eq!(scene.told("homie/car/$state", "lost"), ["car Offline", "changed car"]);
    assert_eq!(scene.told("homie/car/$state", "disconnected"), ["changed car"]);
    assert_eq!(scene.told("homie/car/$state", ""), ["retired car"]);
}

#[test]
fn homie_5_says_it_at_once() {
    let mut scene = Scene::new(with(&["homie"], ""));
    let topic = "homie/5/car/$description";
    let payload = r#"{"homie":"5.0","name":"Car","nodes":{"engine":{"properties":{"speed":{"unit":"km/h","datatype":
        "float"},"temp":{"unit":"°C"}}}}}"#;
    let told = scene.told(topic, payload);
    assert_eq!(told.len(), 6, "{told:?}");
    assert_eq!(
        (scene.unit("car", "engine/speed"), scene.unit("car", "engine/temp")),
        ("km/h".into(), "°C".into())
    );
    let without = payload.replace(r#","temp":{"unit":"°C"}"#, "");
    assert_eq!(scene.told(topic, &without), ["Announcement on car engine/temp: ,,,,None,[],None"]);
    assert_eq!(scene.told("homie/5/car/engine/speed", "3.5"), ["changed car"]);
    assert_eq!(scene.told("homie/5/car/$state", "sleeping"), ["car Online", "named state", "changed car"]);
    assert_eq!(scene.told(topic, "").len(), 2);
    assert!(scene.view.descriptions.is_empty());
}

#[test]
fn tasmota_says_it_in_two_messages_in_any_order() {
    let mut scene = Scene::new(with(&["tasmota"], ""));
    let sensors = r#"{"sn":{"Time":"2020-09-25T12:47:15","DHT11":{"Temperature":null,"Humidity":41.0},"TempUnit":"C"}}"#;
    assert_eq!(scene.told("tasmota/discovery/0049/sensors", sensors), [""; 0]);
    let config = r#"{"dn":"Plug","fn":["Kettle"],"mac":"0049","md":"Sonoff","state":["OFF","ON"],"t":"plug",
        "ft":"%prefix%/%topic%/","tp":["cmnd","stat","tele"],"rl":[1,0]}"#;
    assert_eq!(
        scene.told("tasmota/discovery/0049/config", config),
        [
            "discovered plug",
            "named POWER",
            "Announcement on plug: 0049,Plug,Sonoff,,",
            "Announcement on plug POWER: Kettle,,,enum,None,[\"OFF\", \"ON\"],Some(true)",
            "named DHT11.Humidity",
            "Announcement on plug DHT11.Humidity: ,%,humidity,number,None,[],Some(false)",
        ]
    );
    assert_eq!(scene.told("tasmota/discovery/0049/sensors", sensors), [""; 0]);
    assert_eq!(scene.told("tasmota/discovery/0049/config", config), [""; 0]);
}

#[test]
fn shelly_says_what_it_is() {
    let mut scene = Scene::new(with(&["shelly-gen1", "shelly-gen2"], ""));
    let one = r#"{"id":"shelly1-B9","model":"SHSW-1","mac":"E8B9"}"#;
    let told = ["discovered shelly1-B9", "Announcement on shelly1-B9: E8B9,,SHSW-1,Shelly,"];
    assert_eq!(scene.told("shellies/announce", one), told);
    assert_eq!(scene.told("shellies/shelly1-B9/announce", one), [""; 0]);
    let answer =
        r#"{"id":1,"src":"plus","dst":"user_1","result":{"name":"C","id":"plus","mac":"F0","model":"SPSW"}}"#;
    assert_eq!(
        scene.told("user_1/rpc", answer),
        ["discovered plus", "Announcement on plus: F0,C,SPSW,Shelly,"]
    );
    assert_eq!(scene.told("plus/rpc", r#"{"id":1,"src":"user_1","method":"Switch.Set"}"#), [""; 0]);
}

const WORDS: &str = "[[source.describe]]\ndevices = [\"lamp*\"]\narea = \"Hall\"\nname = \"Lamp\"\n\
                     [[source.describe]]\narea = \"House\"\nmodel = \"M\"\n\
                     [[source.describe]]\nattributes = [\"link*\"]\nunit = \"dB\"\n";

#[test]
fn the_operator_has_the_last_word() {
    let mut scene = Scene::new(with(&["zigbee2mqtt"], WORDS));
    assert_eq!(
        scene.told("zigbee2mqtt/lamp", r#"{"linkquality":3,"state":"ON"}"#),
        [
            "discovered zigbee2mqtt/bridge",
            "discovered lamp",
            "named linkquality",
            "named state",
            "changed lamp",
            "Operator on zigbee2mqtt/bridge: ,,M,,House",
            "Operator on lamp: ,Lamp,M,,Hall",
            "Operator on lamp linkquality: ,dB,,,None,[],None",
        ]
    );
    let told = scene.told(DEVICES, &list(&[lamp("0x01", "lamp", "lqi")]));
    assert!(told.iter().any(|fact| fact.starts_with("Announcement on lamp linkquality")), "{told:?}");
    assert_eq!(scene.unit("lamp", "linkquality"), "dB");
    assert_eq!(scene.told("zigbee2mqtt/lamp", r#"{"linkquality":4}"#), ["changed lamp"]);
    scene.restart();
    assert_eq!(scene.tick(), [""; 0]);

    // A reload without them withdraws the descriptions, those of devices only with the next tick.
    let (outcomes, without) = (Arc::new(Outcomes::default()), with(&["zigbee2mqtt"], ""));
    scene.observer.configure(&without, &[outcomes]).unwrap();
    assert_eq!(
        scene.tick(),
        [
            "Operator on zigbee2mqtt/bridge: ,,,,",
            "Operator on lamp: ,,,,",
            "Operator on lamp linkquality: ,,,,None,[],None",
        ]
    );
    assert_eq!(scene.unit("lamp", "linkquality"), "lqi");
}

impl Scene {
    fn tick(&mut self) -> Vec<String> {
        let mut batch = self.batch();
        self.observer.tick(self.now, &mut batch);
        let facts = self.commit(&batch);
        facts.into_iter().map(|fact| self.word(fact)).collect()
    }
}
