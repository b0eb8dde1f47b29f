//! Real devices' messages through a real broker, read with the presets: the resulting state.

use std::sync::atomic::Ordering;

use fieldlog::config::Config;
use fieldlog_projections::fact::Availability;
use fieldlog_projections::{Fact, Value};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::publisher::{Post, Publisher};
use fieldlog_tests::wait::until;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

fn config(dir: &TempDir, port: u16, presets: &[&str]) -> Config {
    let mut text = format!(
        "gateway_id = \"test\"\ndata_dir = {:?}\n[log]\ncommit_delay_ms = 20\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [[source]]\nname = \"home\"\naddress = \"mqtt://127.0.0.1:{port}\"\nbackoff_max_s = 1\n",
        dir.path()
    );
    for preset in presets {
        text += &format!("[[source.subscription]]\npreset = {preset:?}\n");
    }
    // What the tests wait for.
    text += "[[source.subscription]]\ntopic = \"test/+device\"\ndecoder = \"scalar\"\nattribute = \"mark\"\n";
    Config::from_toml(&text, "test").unwrap()
}

struct Scene {
    agent: Agent,
    publisher: Publisher,
    marks: i64,
    config: Config,
    _dir: TempDir,
    _mosquitto: Mosquitto,
}

impl Scene {
    async fn start(presets: &[&str]) -> Option<Scene> {
        let mosquitto = Mosquitto::start("")?;
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir, mosquitto.port, presets);
        let agent = Agent::start(config.clone()).await;
        agent.subscribed().await;
        let publisher = Publisher::start(mosquitto.port);
        Some(Scene { agent, publisher, marks: 0, config, _dir: dir, _mosquitto: mosquitto })
    }

    /// Publishes, and waits until the agent has taken it all.
    async fn publish(&mut self, posts: impl IntoIterator<Item = Post>) {
        self.publisher.post(posts);
        self.mark().await;
    }

    async fn mark(&mut self) {
        self.marks += 1;
        self.publisher.post([Post::new("test/test", self.marks.to_string())]);
        let mark = Some(Value::Int(self.marks));
        until("the mark", || self.agent.value("test", "mark") == mark).await;
    }

    /// Every device but our own: availability in effect, and attributes.
    fn state(&self) -> Json {
        self.agent.view(|view| {
            let devices = view.devices.iter().filter(|(_, device)| &*device.name != "test");
            let devices = devices.map(|(_, device)| {
                let attributes = device.attributes.iter().filter(|a| a.value != Value::Null);
                let attributes = attributes
                    .map(|a| (view.devices.attribute_name(a.id).unwrap().to_owned(), to_json(&a.value)));
                let is = match view.devices.effective_availability(device).0 {
                    _ if device.retired => "retired",
                    Availability::Online => "online",
                    Availability::Offline => "offline",
                    Availability::Unknown => "unknown",
                };
                (device.name.to_string(), json!([is, attributes.collect::<serde_json::Map<_, _>>()]))
            });
            Json::Object(devices.collect())
        })
    }

    fn check(&self, expected: &Json) {
        let found = self.state();
        assert_eq!(found, *expected, "found:\n{found:#}\nexpected:\n{expected:#}");
    }

    async fn stop(self) -> Logbook {
        Logbook::read(&self.agent.stop().await)
    }
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(v) => json!(v),
        Value::Int(v) => json!(v),
        Value::Uint(v) => json!(v),
        Value::Float(v) => json!(v),
        Value::Text(v) => json!(v),
        Value::Json(v) => serde_json::from_str(v).unwrap(),
    }
}

fn actions(log: &Logbook) -> Vec<(String, String, Json)> {
    log.actions().map(|(device, name, value)| (device.into(), name.into(), to_json(value))).collect()
}

fn zigbee() -> Vec<Post> {
    let base = |rest: &str| format!("zigbee2mqtt/{rest}");
    vec![
        Post::retained(base("bridge/state"), r#"{"state":"online"}"#),
        Post::retained(
            base("bridge/devices"),
            format!(
                r#"[{}{{"ieee_address":"0x01","friendly_name":"bulb","definition":{{"vendor":"IKEA"}}}},1]"#,
                r#"{"ieee_address":"0x00","type":"Coordinator"},"#.repeat(10_000)
            ),
        ),
        Post::retained(base("bulb"), r#"{"state":"ON","brightness":50,"color_temp":370,"linkquality":99}"#),
        Post::retained(base("bulb/availability"), r#"{"state":"online"}"#),
        Post::new(base("weather_sensor"), r#"{"temperature":27.34,"humidity":44.72}"#),
        Post::new(base("kitchen/floor_light"), r#"{"state":"OFF","color":{"x":0.32,"y":0.31}}"#),
        Post::retained(base("bulb_color/availability"), "online"),
        Post::new(base("remote"), r#"{"action":"single"}"#),
        Post::new(base("remote"), r#"{"action":"single"}"#),
        Post::new(base("bulb/set"), r#"{"state":"OFF"}"#),
        Post::new(base("bulb/set/state"), "OFF"),
        Post::new(base("bulb/get"), r#"{"state":""}"#),
    ]
}

#[tokio::test]
async fn zigbee2mqtt() {
    let Some(mut scene) = Scene::start(&["zigbee2mqtt"]).await else { return };
    scene.publish(zigbee()).await;
    // Without a cache it sends what has changed, and nothing else.
    scene.publish([Post::new("zigbee2mqtt/bulb", r#"{"brightness":200}"#)]).await;
    let devices = |bridge: &str, weather: &str, color: &str| {
        let below = |own: &str| if bridge == "offline" { "offline".to_owned() } else { own.to_owned() };
        json!({
            "zigbee2mqtt/bridge": [bridge, {}],
            "bulb": [below("online"), {"state": "ON", "brightness": 200, "color_temp": 370, "linkquality": 99}],
            "weather_sensor": [below(weather), {"temperature": 27.34, "humidity": 44.72}],
            "kitchen/floor_light": [below("unknown"), {"state": "OFF", "color.x": 0.32, "color.y": 0.31}],
            "bulb_color": [if color == "retired" { "retired".into() } else { below(color) }, {}],
            "remote": [below("unknown"), {}],
        })
    };
    scene.check(&devices("online", "unknown", "online"));
    let maker = scene.agent.view(|view| {
        let (bulb, _) = view.devices.find("bulb")?;
        Some(view.descriptions.get(bulb)?.device().manufacturer)
    });
    assert_eq!(maker.as_deref(), Some("IKEA"));

    // Zigbee2MQTT ends: every device behind it is out of reach, without a record for each.
    let before = scene.agent.head();
    scene.publish([Post::retained("zigbee2mqtt/bridge/state", r#"{"state":"offline"}"#)]).await;
    scene.check(&devices("offline", "unknown", "online"));
    assert_eq!(scene.agent.head(), before + 2, "one for the bridge, one for the mark");
    scene.publish([Post::retained("zigbee2mqtt/bridge/state", r#"{"state":"online"}"#)]).await;
    scene.check(&devices("online", "unknown", "online"));

    // A device is removed, and paired again.
    scene.publish([Post::retained("zigbee2mqtt/bulb_color/availability", "")]).await;
    scene.check(&devices("online", "unknown", "retired"));
    scene.publish([Post::retained("zigbee2mqtt/bulb_color/availability", r#"{"state":"offline"}"#)]).await;
    scene.check(&devices("online", "unknown", "offline"));

    let log = scene.stop().await;
    let single = ("remote".to_owned(), "action".to_owned(), json!("single"));
    assert_eq!(actions(&log), [single.clone(), single]);
    assert!(log.quarantined().is_empty(), "{:?}", log.quarantined());
}

#[tokio::test]
async fn retained_repeats_append_nothing() {
    let Some(mut scene) = Scene::start(&["zigbee2mqtt"]).await else { return };
    scene.publish(zigbee()).await;
    let before = scene.agent.head();
    let state = scene.state();
    let Scene { agent, publisher, marks, config, _dir, _mosquitto } = scene;
    agent.stop().await;
    // A new session gets every retained message again.
    let mut fresh = config.clone();
    fresh.sources[0].client_id = "another".into();
    let agent = Agent::start(fresh).await;
    agent.subscribed().await;
    let mut scene = Scene { agent, publisher, marks, config, _dir, _mosquitto };
    until("the retained messages", || scene.agent.source().status.retained.get() >= 5).await;
    scene.mark().await;
    assert_eq!(scene.agent.head(), before + 2, "the start and the mark");
    assert_eq!(scene.state(), state);
    let outcomes = scene.agent.source().outcomes;
    // The list of devices is one of them; what it says is known.
    assert_eq!(outcomes.retained_repeats.load(Ordering::Relaxed), 5);
    scene.stop().await.assert_no_equal_values(&[]);
}

#[tokio::test]
async fn tasmota() {
    let Some(mut scene) = Scene::start(&["tasmota"]).await else { return };
    let state = r#"{"Time":"2021-06-27T15:03:44+02:00","Uptime":"0T00:00:13","UptimeSec":13,"Heap":28,"POWER":"ON","Wifi":{"AP":1,"SSId":"DEMOAP","RSSI":86,"Signal":-57}}"#;
    let status8 = r#"{"StatusSNS":{"Time":"2019-12-18T10:13:38","MJ_HT_V1-3108be":{"Temperature":22.3,"Humidity":56.1},"TempUnit":"C"}}"#;
    let again = state.replace("\"UptimeSec\":13", "\"UptimeSec\":313").replace("\"Heap\":28", "\"Heap\":27");
    scene
        .publish([
            Post::retained("tele/tasmota/LWT", "Online"),
            Post::new(
                "tele/tasmota/SENSOR",
                r#"{"Time":"2017-02-16T10:13:52","DS18B20":{"Temperature":20.6}}"#,
            ),
            Post::new("tele/demo-sensor/STATE", state),
            Post::new("tele/demo-sensor/STATE", again),
            Post::new("stat/tasmota/RESULT", r#"{"POWER":"ON"}"#),
            Post::new("stat/tasmota/POWER", "ON"),
            Post::new("stat/tasmota/STATUS8", status8),
            Post::new("cmnd/tasmota/POWER", "OFF"),
            Post::new("tele/tasmota/INFO1", r#"{"Info1":{"Module":"Sonoff Basic"}}"#),
            Post::new("tele/tasmota/RESULT", r#"{"RfReceived":{"Data":"0x7028D4"}}"#),
        ])
        .await;
    scene.check(&json!({
        "tasmota": ["online", {
            "DS18B20.Temperature": 20.6, "POWER": "ON", "MJ_HT_V1-3108be.Temperature": 22.3,
            "MJ_HT_V1-3108be.Humidity": 56.1, "TempUnit": "C",
        }],
        "demo-sensor": ["unknown", {
            "POWER": "ON", "Wifi.AP": 1, "Wifi.SSId": "DEMOAP", "Wifi.RSSI": 86, "Wifi.Signal": -57,
        }],
    }));
    scene.publish([Post::retained("tele/tasmota/LWT", "Offline")]).await;
    assert_eq!(scene.state()["tasmota"][0], "offline");
    let log = scene.stop().await;
    let of = |device: &str, attribute: &str| {
        log.changes().filter(|change| (change.1, change.2) == (device, attribute)).count()
    };
    assert_eq!((of("tasmota", "POWER"), of("demo-sensor", "POWER")), (1, 1));
    // One report with new uptime only is no event.
    let reports = log.changes().filter(|change| change.1 == "demo-sensor").map(|change| change.0);
    assert_eq!(reports.collect::<std::collections::BTreeSet<_>>().len(), 1);
    assert_eq!(actions(&log), [("tasmota".into(), "RfReceived".into(), json!({"Data": "0x7028D4"}))]);
    assert!(log.quarantined().is_empty(), "{:?}", log.quarantined());
}

#[tokio::test]
async fn shelly_of_the_first_generation() {
    let Some(mut scene) = Scene::start(&["shelly-gen1"]).await else { return };
    let topic = |rest: &str| format!("shellies/shellyplug-s-7c87ce/{rest}");
    let announce = r#"{"id":"shellyplug-s-aabbcc","model":"SHPLG-S","mac":"AABBCCDDEEFF","ip":"192.168.1.60","new_fw":false,"fw_ver":"1"}"#;
    scene
        .publish([
            Post::new("shellies/announce", announce),
            Post::new(topic("online"), "true"),
            Post::new(topic("relay/0"), "on"),
            Post::new(topic("relay/0/power"), "23.45"),
            Post::new(topic("relay/0/energy"), "123"),
            Post::new(topic("relay/0/command"), "off"),
            Post::new(topic("input_event/0"), r#"{"event":"S","event_cnt":2}"#),
            Post::new(topic("relay/0"), "overpower"),
        ])
        .await;
    scene.check(&json!({
        "shellyplug-s-7c87ce": ["online", {"relay/0": "overpower", "relay/0/power": 23.45, "relay/0/energy": 123,
                                        "input_event.0.event_cnt": 2}],
        // It has announced itself and said nothing else.
        "shellyplug-s-aabbcc": ["unknown", {}],
    }));
    scene.publish([Post::new(topic("online"), "false")]).await;
    assert_eq!(scene.state()["shellyplug-s-7c87ce"][0], "offline");
    let log = scene.stop().await;
    assert_eq!(actions(&log).len(), 1);
    assert!(log.quarantined().is_empty(), "{:?}", log.quarantined());
}

#[tokio::test]
async fn shelly_of_later_generations() {
    let Some(mut scene) = Scene::start(&["shelly-gen2"]).await else { return };
    let id = "shellypro4pm-f008d1d8b8b8";
    let rpc = |method: &str, params: &str| {
        let body = format!(r#"{{"src":"{id}","dst":"user_1","method":"{method}","params":{params}}}"#);
        Post::new(format!("{id}/events/rpc"), body)
    };
    let switch = r#"{"id":0,"source":"button","output":true,"apower":1418.2,"voltage":121.0,"freq":60.0,"current":11.72,"pf":0.99,"aenergy":{"total":9001.2,"by_minute":[23.6,23.5,23.6],"minute_ts":1759622460},"temperature":{"tC":51.0,"tF":123.8},"errors":[]}"#;
    scene
        .publish([
            Post::retained(format!("{id}/online"), "true"),
            Post::new(format!("{id}/status/switch:0"), switch),
            rpc("NotifyStatus", r#"{"ts":1631186545.04,"switch:0":{"output":false,"source":"WS_in"}}"#),
            rpc(
                "NotifyEvent",
                r#"{"ts":1631266595.44,"events":[{"component":"input:0","id":0,"event":"single_push"}]}"#,
            ),
            rpc("NotifyStatus", r#"{"ts":1631186546.04,"switch:0":{"pf":null}}"#),
        ])
        .await;
    scene.check(&json!({
        (id): ["online", {
            "switch:0.source": "WS_in", "switch:0.output": false, "switch:0.apower": 1418.2,
            "switch:0.voltage": 121.0, "switch:0.freq": 60.0, "switch:0.current": 11.72,
            "switch:0.aenergy.total": 9001.2, "switch:0.temperature.tC": 51.0, "switch:0.temperature.tF": 123.8,
            "switch:0.errors": [],
        }],
    }));
    let time = scene.agent.view(|view| view.devices.find(id).and_then(|(_, device)| device.device_time));
    assert_eq!(time.map(|time| time.0), Some(1_631_186_546_040_000));
    scene
        .publish([rpc(
            "NotifyFullStatus",
            r#"{"ts":1631186999.5,"sys":{"uptime":9},"switch:0":{"output":true}}"#,
        )])
        .await;
    scene.check(&json!({(id): ["online", {"switch:0.output": true}]}));
    let log = scene.stop().await;
    assert_eq!(actions(&log), [(id.into(), "input:0.event".into(), json!("single_push"))]);
    assert!(log.quarantined().is_empty(), "{:?}", log.quarantined());
}

#[tokio::test]
async fn esphome() {
    let Some(mut scene) = Scene::start(&["esphome"]).await else { return };
    scene
        .publish([
            Post::retained("livingroom/status", "online"),
            Post::retained("livingroom/sensor/temperature/state", "23.4"),
            Post::retained("livingroom/sensor/humidity/state", "41"),
            Post::retained("livingroom/sensor/humidity/state", "nan"),
            Post::retained("livingroom/switch/relay/state", "ON"),
            Post::retained("livingroom/light/lamp/state", r#"{"state":"ON","brightness":128}"#),
            Post::retained("livingroom/climate/hall/mode/state", "heat"),
            Post::new("livingroom/debug", "\u{1b}[0;36m[D][sensor:127]: 'temperature'\u{1b}[0m"),
            Post::new("livingroom/switch/relay/command", "OFF"),
        ])
        .await;
    scene.check(&json!({
        "livingroom": ["online", {
            "sensor/temperature": 23.4, "switch/relay": "ON", "light/lamp.state": "ON", "light/lamp.brightness": 128,
            "climate/hall/mode": "heat",
        }],
    }));
    scene.publish([Post::retained("livingroom/status", "offline")]).await;
    assert_eq!(scene.state()["livingroom"][0], "offline");
    let log = scene.stop().await;
    assert!(log.count(|fact| matches!(fact, Fact::AvailabilityChanged { .. })) == 2);
    assert!(log.quarantined().is_empty(), "{:?}", log.quarantined());
}

/// A house with everything: no preset takes the messages of another.
#[tokio::test]
async fn all_presets_on_one_broker() {
    let all = ["zigbee2mqtt", "tasmota", "shelly-gen1", "shelly-gen2", "esphome"];
    let Some(mut scene) = Scene::start(&all).await else { return };
    let mut posts = zigbee();
    posts.extend([
        Post::retained("tele/plug/LWT", "Online"),
        Post::new("stat/plug/POWER", "ON"),
        Post::new("shellies/shelly1-aa/relay/0", "on"),
        Post::retained("shellyplus1-bb/online", "true"),
        Post::new("shellyplus1-bb/status/switch:0", r#"{"id":0,"output":true}"#),
        Post::retained("livingroom/status", "online"),
        Post::new("livingroom/sensor/temperature/state", "23.4"),
    ]);
    scene.publish(posts).await;
    let state = scene.state();
    let names: Vec<&str> = state.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "bulb",
        "bulb_color",
        "kitchen/floor_light",
        "livingroom",
        "plug",
        "remote",
        "shelly1-aa",
        "shellyplus1-bb",
        "weather_sensor",
        "zigbee2mqtt/bridge",
    ];
    assert_eq!(names, expected);
    assert_eq!(state["plug"], json!(["online", {"POWER": "ON"}]));
    assert_eq!(state["shelly1-aa"], json!(["unknown", {"relay/0": "on"}]));
    assert_eq!(state["shellyplus1-bb"], json!(["online", {"switch:0.output": true}]));
    assert_eq!(state["livingroom"], json!(["online", {"sensor/temperature": 23.4}]));
    let log = scene.stop().await;
    assert!(log.quarantined().is_empty(), "{:?}", log.quarantined());
}
