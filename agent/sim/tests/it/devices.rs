//! The simulated devices at a real broker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use fieldlog_sim::devices::{Fleet, FleetOptions};
use fieldlog_sim::servers::mosquitto::Mosquitto;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::Value;
use tokio::sync::mpsc;

/// Timeout for a busy machine; far longer than needed.
const PATIENCE: Duration = Duration::from_secs(40);

fn address(broker: &Mosquitto) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, broker.port))
}

#[derive(Clone, Debug)]
struct Heard {
    topic: String,
    payload: Vec<u8>,
    retain: bool,
    qos: QoS,
}

impl Heard {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap_or("not UTF-8")
    }

    fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.payload).ok()
    }
}

/// Subscribed to everything.
struct Listener {
    heard: mpsc::UnboundedReceiver<Heard>,
    _client: AsyncClient,
}

impl Listener {
    async fn start(broker: SocketAddr, id: &str) -> Listener {
        let mut options = MqttOptions::new(id, "127.0.0.1", broker.port());
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut events) = AsyncClient::new(options, 16);
        let (sender, heard) = mpsc::unbounded_channel();
        client.subscribe("#", QoS::AtLeastOnce).await.expect("room for a request");
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(Packet::Publish(publish)) = event {
                    let heard = Heard {
                        topic: publish.topic,
                        payload: publish.payload.to_vec(),
                        retain: publish.retain,
                        qos: publish.qos,
                    };
                    if sender.send(heard).is_err() {
                        return;
                    }
                }
            }
        });
        Listener { heard, _client: client }
    }

    async fn next(&mut self) -> Heard {
        tokio::time::timeout(PATIENCE, self.heard.recv())
            .await
            .expect("nothing was published for a long time")
            .expect("the listener was disconnected")
    }

    /// Listens until something has been said.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Heard) -> bool) -> Heard {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let heard = self.next().await;
            if wanted(&heard) {
                return heard;
            }
            assert!(Instant::now() < deadline, "never heard: {what}");
        }
    }
}

/// The kind of a message; `None` for kinds that the tests do not check.
fn family(heard: &Heard) -> Option<&'static str> {
    let topic = heard.topic.as_str();
    let method = || Some(heard.json()?.get("method")?.as_str()?.to_owned());
    let has = |name: &str| heard.json().is_some_and(|d| d.get(name).is_some());
    Some(match topic {
        "zigbee2mqtt/bridge/state" => "bridge state",
        "zigbee2mqtt/bridge/info" => "bridge info",
        "zigbee2mqtt/bridge/devices" => "bridge devices",
        _ if topic.starts_with("zigbee2mqtt/") && topic.ends_with("/availability") => "zigbee availability",
        _ if topic.starts_with("zigbee2mqtt/bridge/") => return None,
        _ if topic.starts_with("zigbee2mqtt/") && has("action") => "zigbee action",
        _ if topic.starts_with("zigbee2mqtt/") && has("temperature") => "zigbee climate",
        _ if topic.starts_with("zigbee2mqtt/") && has("contact") => "zigbee contact",
        _ if topic.starts_with("zigbee2mqtt/") && has("occupancy") => "zigbee motion",
        _ if topic.starts_with("zigbee2mqtt/") && has("energy") => "zigbee plug",
        _ if topic.starts_with("zigbee2mqtt/") && has("color") => "zigbee bulb",
        _ if topic.starts_with("tele/") && topic.ends_with("/LWT") && heard.text() == "Offline" => {
            "tasmota will"
        }
        _ if topic.starts_with("tele/") && topic.ends_with("/LWT") => "tasmota online",
        _ if topic.starts_with("tele/") && topic.ends_with("/SENSOR") => "tasmota sensor",
        _ if topic.starts_with("tele/") && topic.ends_with("/STATE") => "tasmota state",
        _ if topic.starts_with("stat/") && topic.ends_with("/RESULT") => "tasmota result",
        _ if topic.starts_with("stat/") && topic.ends_with("/POWER") => "tasmota power",
        _ if topic.ends_with("/online") && heard.text() == "false" => "shelly will",
        _ if topic.ends_with("/online") => "shelly online",
        _ if topic.ends_with("/status/switch:0") => "shelly status",
        _ if topic.ends_with("/events/rpc") && method().as_deref() == Some("NotifyEvent") => "shelly push",
        _ if topic.ends_with("/events/rpc") => "shelly delta",
        _ => return None,
    })
}

const FAMILIES: [&str; 21] = [
    "bridge devices",
    "bridge info",
    "bridge state",
    "shelly delta",
    "shelly online",
    "shelly push",
    "shelly status",
    "shelly will",
    "tasmota online",
    "tasmota power",
    "tasmota result",
    "tasmota sensor",
    "tasmota state",
    "tasmota will",
    "zigbee action",
    "zigbee availability",
    "zigbee bulb",
    "zigbee climate",
    "zigbee contact",
    "zigbee motion",
    "zigbee plug",
];

/// The last state on each availability topic of a device with its own connection.
fn presence(heard: &Heard) -> Option<bool> {
    match (heard.topic.as_str(), heard.text()) {
        ("zigbee2mqtt/bridge/state", state) => Some(state.contains("online")),
        (topic, text) if topic.ends_with("/LWT") => Some(text == "Online"),
        (topic, text) if topic.ends_with("/online") => Some(text == "true"),
        _ => None,
    }
}

/// The retained messages, as a new subscriber gets them.
async fn retained(broker: SocketAddr, id: &str, topics: usize) -> BTreeMap<String, Heard> {
    let mut listener = Listener::start(broker, id).await;
    let mut found = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    while found.len() < topics {
        let heard = listener.next().await;
        assert!(Instant::now() < deadline, "{} of {topics} retained topics: {:?}", found.len(), found.keys());
        if heard.retain {
            found.insert(heard.topic.clone(), heard);
        }
    }
    found
}

/// Waits until each of the eight connections of the default fleet has this presence.
async fn all_are(listener: &mut Listener, online: bool) {
    let mut seen = BTreeSet::new();
    while seen.len() < 8 {
        let heard = listener.until("a presence", |heard| presence(heard).is_some()).await;
        if presence(&heard) == Some(online) {
            seen.insert(heard.topic);
        } else {
            seen.remove(&heard.topic);
        }
    }
}

#[tokio::test]
async fn every_family_speaks_and_late_subscribers_get_the_retained_state() {
    let Some(broker) = Mosquitto::start("") else { return };
    let mut listener = Listener::start(address(&broker), "listener").await;
    let fleet = Fleet::start(address(&broker), &FleetOptions { speed: 50.0, ..FleetOptions::default() });

    let (mut seen, mut broken, mut count, mut levels) = (BTreeSet::new(), Vec::new(), 0_u64, BTreeSet::new());
    let started = Instant::now();
    while seen.len() < FAMILIES.len() || started.elapsed() < Duration::from_secs(3) {
        let heard = listener.next().await;
        count += 1;
        levels.insert(heard.qos as u8);
        let Some(family) = family(&heard) else { continue };
        seen.insert(family);
        let is_json = !matches!(
            family,
            "tasmota online" | "tasmota will" | "tasmota power" | "shelly online" | "shelly will"
        );
        if is_json && heard.json().is_none() {
            broken.push(format!("{}: {}", heard.topic, heard.text()));
        }
        let missing: Vec<_> = FAMILIES.iter().filter(|f| !seen.contains(*f)).collect();
        assert!(started.elapsed() < PATIENCE, "never heard: {missing:?}");
    }
    let rate = count as f64 / started.elapsed().as_secs_f64() / 50.0;
    eprintln!("{rate:.1} messages/s at speed 1; broken: {broken:#?}");
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), FAMILIES);
    assert!(broken.len() as u64 * 50 < count, "{} of {count} payloads are broken", broken.len());
    assert!(broken.iter().all(|b| b.contains("/SENSOR") || b.contains("switch:0")), "{broken:?}");
    assert_eq!(levels.into_iter().collect::<Vec<_>>(), [0, 1]);
    assert!(fleet.published() >= count / 2, "{} published, {count} heard", fleet.published());

    // Bridge: four documents. Members: 25 availabilities and 12 states. Own connections: seven.
    let found = retained(address(&broker), "late", 4 + 25 + 12 + 7).await;
    assert!(found["zigbee2mqtt/bridge/devices"].payload.len() >= 50 * 1024);
    assert!(found["zigbee2mqtt/kitchen/floor_light"].json().is_some_and(|d| d["color"]["x"].is_number()));

    fleet.stop().await;
    let found = retained(address(&broker), "later", 4 + 25 + 12 + 7).await;
    let presences: Vec<bool> = found.values().filter_map(presence).collect();
    assert_eq!(presences, [false; 8], "a clean stop leaves everything offline");
}

#[tokio::test]
async fn a_dropped_fleet_leaves_its_wills() {
    let Some(broker) = Mosquitto::start("") else { return };
    let mut listener = Listener::start(address(&broker), "listener").await;
    let fleet = Fleet::start(address(&broker), &FleetOptions { speed: 0.5, ..FleetOptions::default() });
    all_are(&mut listener, true).await;
    drop(fleet);
    all_are(&mut listener, false).await;
}

#[tokio::test]
async fn vanished_devices_come_back() {
    let Some(broker) = Mosquitto::start("") else { return };
    let mut listener = Listener::start(address(&broker), "listener").await;
    let options = FleetOptions { speed: 60.0, zigbee_sensors: 0, zigbee_plugs: 0, ..FleetOptions::default() };
    let fleet = Fleet::start(address(&broker), &options);
    let gone = listener.until("a will", |heard| presence(heard) == Some(false)).await;
    listener.until("the device that was gone", |h| h.topic == gone.topic && presence(h) == Some(true)).await;
    fleet.stop().await;
}

#[tokio::test]
async fn the_fleet_outlives_its_broker() {
    let Some(mut broker) = Mosquitto::start("") else { return };
    let address = address(&broker);
    broker.kill();
    let fleet = Fleet::start(address, &FleetOptions::default());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fleet.published(), 0);
    for _ in 0..2 {
        broker.restart();
        let mut listener = Listener::start(address, "listener").await;
        all_are(&mut listener, true).await;
        broker.kill();
    }
    // Stopping must not wait for a broker that is gone.
    tokio::time::timeout(PATIENCE, fleet.stop()).await.expect("the fleet does not stop");
}
