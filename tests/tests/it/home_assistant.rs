//! What Home Assistant finds at a real broker: announcements and states, also after a restart, and nothing that is not wanted
//! any more.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fieldlog::clock::TestClock;
use fieldlog::config::Config;
use fieldlog_tests::actuator::Actuator;
use fieldlog_tests::agent::Agent;
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::publisher::{Post, Publisher};
use fieldlog_tests::wait::until;
use serde_json::Value as Json;

use crate::rig::scratch;

const TOKEN: &str = "a-token-of-the-administrator-0123456789";
const GATEWAY: &str = "homeassistant/device/fieldlog_gw/config";
const KITCHEN: &str = "homeassistant/device/fieldlog_gw--kitchen/config";
const STATUS: &str = "fieldlog/gw/status";
const STATE: &str = "fieldlog/gw/devices/kitchen/state";
const AVAILABILITY: &str = "fieldlog/gw/availability";

const ALL: &str = "[home_assistant]\nsource = \"home\"\ndevices = [\"*\"]\n";
const SOME: &str = "[home_assistant]\nsource = \"home\"\ndevices = [\"attic\"]\n";

struct Scene {
    agent: Agent,
    clock: TestClock,
    publisher: Publisher,
    mosquitto: Mosquitto,
    dir: tempfile::TempDir,
}

fn config(dir: &std::path::Path, mqtt: u16, home: &str) -> Config {
    let text = format!(
        "gateway_id = \"gw\"\ndata_dir = {:?}\n[log]\ncommit_delay_ms = 20\n[http]\nlisten = \"127.0.0.1:0\"\n\
         admin_token_file = {:?}\n{home}\
         [[source]]\nname = \"home\"\naddress = \"mqtt://127.0.0.1:{mqtt}\"\nbackoff_max_s = 1\n\
         [[source.subscription]]\ntopic = \"d/+device/+attribute\"\ndecoder = \"scalar\"\n\
         [[source.subscription]]\npreset = \"homeassistant-discovery\"\n",
        dir.join("data"),
        dir.join("token"),
    );
    Config::from_toml(&text, "test").unwrap_or_else(|faults| panic!("{faults}"))
}

impl Scene {
    async fn start(home: &str) -> Option<Scene> {
        let mosquitto = Mosquitto::start("")?;
        let (dir, clock) = (scratch(), TestClock::running());
        let token = dir.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        let agent = Agent::start_at(config(dir.path(), mosquitto.port, home), clock.clock()).await;
        agent.subscribed().await;
        let publisher = Publisher::start(mosquitto.port);
        Some(Scene { agent, clock, publisher, mosquitto, dir })
    }

    async fn restart(self, home: &str) -> Scene {
        let Scene { agent, clock, publisher, mosquitto, dir } = self;
        agent.stop().await;
        let agent = Agent::start_at(config(dir.path(), mosquitto.port, home), clock.clock()).await;
        agent.subscribed().await;
        Scene { agent, clock, publisher, mosquitto, dir }
    }

    async fn reload(&self, home: &str) {
        self.agent.reload(config(self.dir.path(), self.mosquitto.port, home)).await;
    }

    async fn value(&self, device: &str, attribute: &str, value: &str) {
        self.publisher.post([Post::new(format!("d/{device}/{attribute}"), value)]);
        self.publisher.idle().await;
        until("the value", || self.agent.value(device, attribute).is_some()).await;
    }

    /// Somebody who comes now, and sees what is retained.
    async fn newcomer(&self) -> Listener {
        let of = |filter| Actuator::start(self.mosquitto.port, filter, |_| Vec::new());
        Listener { home: of("homeassistant/#").await, own: of("fieldlog/#").await }
    }

    /// Lets the rounds go on until something holds.
    async fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        until(what, || {
            self.clock.advance(Duration::from_secs(1));
            holds()
        })
        .await;
    }
}

struct Listener {
    home: Actuator,
    own: Actuator,
}

impl Listener {
    /// The last payload of each topic; what was taken back is not there.
    fn retained(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for message in self.home.received().into_iter().chain(self.own.received()) {
            match message.payload.is_empty() {
                true => all.remove(&message.topic),
                false => all.insert(message.topic, message.payload),
            };
        }
        all
    }

    fn json(&self, topic: &str) -> Json {
        self.retained().get(topic).map_or(Json::Null, |payload| serde_json::from_str(payload).unwrap())
    }

    fn topics(&self) -> Vec<String> {
        self.retained().into_keys().collect()
    }
}

fn ids(config: &Json) -> Vec<String> {
    let entities = config["cmps"].as_object().unwrap().values();
    entities.map(|entity| entity["uniq_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn gateway_and_devices_are_announced_and_stay_the_same_after_a_restart() {
    let Some(scene) = Scene::start(ALL).await else { return };
    scene.value("kitchen", "temperature", "21.5").await;
    let listener = scene.newcomer().await;
    let all = [STATE, STATUS, AVAILABILITY, KITCHEN, GATEWAY];
    scene.eventually("all topics", || all.iter().all(|topic| listener.retained().contains_key(*topic))).await;

    let gateway = listener.json(GATEWAY);
    assert_eq!((&gateway["o"]["name"], &gateway["stat_t"]), (&"fieldlog".into(), &STATUS.into()));
    assert_eq!(gateway["cmps"]["running"]["stat_t"], AVAILABILITY);
    assert_eq!(listener.retained()[AVAILABILITY], "online");
    let kitchen = listener.json(KITCHEN);
    assert_eq!(kitchen["cmps"]["temperature"]["val_tpl"], "{{ value_json.attributes.get(\"temperature\") }}");
    assert_eq!(listener.json(STATE)["attributes"]["temperature"], 21.5);
    let status = listener.json(STATUS);
    assert!(status["seq"].as_u64().unwrap() > 0 && status["devices_offline"] == 0, "{status}");

    // The agent hears its own announcements and makes nothing of them.
    scene.eventually("rest", || listener.json(STATUS)["events_per_minute"] == 0.0).await;
    assert!(scene.agent.view(|view| view.descriptions.is_empty()));
    assert_eq!(scene.agent.source().outcomes.quarantined.load(Ordering::Relaxed), 0);

    let scene = scene.restart(ALL).await;
    drop(listener);
    let later = scene.newcomer().await;
    scene.value("kitchen", "temperature", "22").await;
    scene.eventually("the new state", || later.json(STATE)["attributes"]["temperature"] == 22).await;
    scene.eventually("it is there again", || later.retained()[AVAILABILITY] == "online").await;
    assert_eq!((ids(&later.json(GATEWAY)), ids(&later.json(KITCHEN))), (ids(&gateway), ids(&kitchen)));
    let data = scene.agent.stop().await;
    assert!(data.join("home-assistant.json").exists());
    until("its end", || later.retained()[AVAILABILITY] == "offline").await;
}

#[tokio::test]
async fn what_is_not_wanted_any_more_is_taken_back() {
    let Some(scene) = Scene::start(ALL).await else { return };
    scene.value("kitchen", "temperature", "21.5").await;
    scene.value("attic", "door", "true").await;
    let listener = scene.newcomer().await;
    scene.eventually("both devices", || listener.topics().len() == 7).await;

    // A pattern that is removed by a reload ...
    scene.reload(SOME).await;
    scene.eventually("one device", || listener.topics().len() == 5).await;
    assert!(!listener.topics().iter().any(|topic| topic.contains("kitchen")), "{:?}", listener.topics());
    // ... a device that is retired ...
    scene.reload(ALL).await;
    scene.eventually("both devices again", || listener.topics().len() == 7).await;
    let body = serde_json::json!({"reason": "gone"});
    let (status, answer) = scene.agent.post("/api/v1/devices/kitchen/retire", TOKEN, &body).await;
    assert_eq!(status, 200, "{answer}");
    scene.eventually("one device", || listener.topics().len() == 5).await;
    scene.value("kitchen", "temperature", "22").await;
    scene.eventually("both devices once more", || listener.topics().len() == 7).await;
    // ... a pattern that was removed while the agent was stopped ...
    let scene = scene.restart(SOME).await;
    scene.eventually("one device", || listener.topics().len() == 5).await;
    // ... and everything.
    let scene = scene.restart("").await;
    scene.eventually("nothing", || listener.topics() == [AVAILABILITY]).await;
    let file = scene.dir.path().join("data/home-assistant.json");
    scene.eventually("no file", || !file.exists()).await;
    scene.agent.stop().await;
}

#[tokio::test]
async fn a_device_is_published_once_per_second_and_the_newest_value_wins() {
    let Some(scene) = Scene::start(ALL).await else { return };
    scene.value("kitchen", "temperature", "0").await;
    let listener = scene.newcomer().await;
    scene.eventually("the state", || !listener.json(STATE).is_null()).await;
    let before = listener.own.received().len();
    scene.publisher.post((1..=200).map(|n| Post::new("d/kitchen/temperature", n.to_string())));
    scene.publisher.idle().await;
    until("the last value", || format!("{:?}", scene.agent.value("kitchen", "temperature")).contains("200"))
        .await;
    scene.eventually("the newest state", || listener.json(STATE)["attributes"]["temperature"] == 200).await;
    let published = listener.own.received().len() - before;
    assert!(published < 20, "{published} messages for 200 values");
    scene.agent.stop().await;
}
