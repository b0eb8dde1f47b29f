//! Parcels through a real mosquitto, as a gateway's MQTT sink publishes them.

use fieldlog_sim::servers::free_port;
use fieldlog_sim::servers::mosquitto::Mosquitto;
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::tls::Certificates;
use fieldlog_sim::servers::wait::{until, until_some};
use fieldlog_wire::Lane;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use serde_json::json;
use tokio::sync::mpsc;

use crate::gateway::{Form, Gateway, Post, random};
use crate::hub::Hub;
use crate::tables::{assert_complete, has, rows};

/// A client that publishes and waits for acknowledgements.
struct Publisher {
    client: AsyncClient,
    acknowledged: mpsc::UnboundedReceiver<()>,
}

impl Publisher {
    fn connect(broker: &Mosquitto) -> Publisher {
        let (client, mut events) =
            AsyncClient::new(MqttOptions::new("gateways", "127.0.0.1", broker.port), 64);
        let (to, acknowledged) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                match events.poll().await.unwrap() {
                    Event::Incoming(Packet::PubAck(_)) if to.send(()).is_err() => return,
                    _ => {}
                }
            }
        });
        Publisher { client, acknowledged }
    }

    /// As the sink does.
    async fn publish(&mut self, gateway: &Gateway, post: Post) {
        let properties = PublishProperties { user_properties: post.headers, ..PublishProperties::default() };
        let topic = format!("fieldlog/{}/events", gateway.name);
        let publishing =
            self.client.publish_with_properties(topic, QoS::AtLeastOnce, false, post.body, properties);
        publishing.await.unwrap();
        self.acknowledged.recv().await.unwrap();
    }
}

fn lines(broker: &Mosquitto) -> String {
    format!("lease_s = 3\n[[mqtt]]\naddress = \"mqtt://127.0.0.1:{}\"\n", broker.port)
}

/// The hub that reads is killed; what comes meanwhile waits in the session for the other one. Then both are away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_hubs_session_goes_to_the_other() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(mut broker) = Mosquitto::start("") else { return };
    let mut rng = random();
    let mut hubs = ["first", "second"].map(|name| Hub::with(name, &postgres, &lines(&broker)));
    let reads = |hub: &Hub| {
        let metrics = hub.try_get("/metrics").map(|answer| answer.body).unwrap_or_default();
        metrics.lines().any(|line| line.starts_with("fieldlog_hub_source_reading{") && line.ends_with(" 1.0"))
    };
    let reader = until_some("a reader", || hubs.iter().position(reads)).await;
    let waits = || (hubs[1 - reader].sources()[0]["state"] == "waiting").then_some(());
    until_some("the other one", waits).await;
    let mut gateways: Vec<Gateway> = (0..4)
        .map(|number| {
            let form = if number % 2 == 0 { Form::Json } else { Form::Compact };
            Gateway::new(&format!("plant.{number}"), form, 4, rng.fork())
        })
        .collect();
    let mut publisher = Publisher::connect(&broker);
    for round in 0..5 {
        for gateway in &mut gateways {
            let from = if round == 0 { 1 } else { gateway.head() + 1 };
            gateway.live(40);
            for part in gateway.split(from) {
                publisher.publish(gateway, gateway.parcel(part, Lane::Live)).await;
            }
        }
        match round {
            0 => hubs[reader].kill(),
            1 => until("the takeover", || reads(&hubs[1 - reader])).await,
            2 => hubs[1 - reader].kill(),
            3 => hubs[reader].restart(),
            _ => {}
        }
    }
    for gateway in &gateways {
        until(&gateway.name, || has(&postgres, gateway)).await;
        assert_complete(&postgres, gateway);
    }
    // A broker that has saved what it has may be killed, too.
    let gateway = &mut gateways[0];
    hubs[reader].kill();
    let from = gateway.head() + 1;
    gateway.live(30);
    publisher.publish(gateway, gateway.parcel((from, gateway.head()), Lane::Live)).await;
    drop(publisher);
    broker.save_kill_restart();
    hubs[reader].restart();
    until("what the broker has kept", || has(&postgres, gateway)).await;
    assert_complete(&postgres, gateway);
}

/// A fork, a message that is no parcel and a database that is away stop nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_and_passed_over() {
    let Some(mut postgres) = PostgresServer::start() else { return };
    let Some(broker) = Mosquitto::start("") else { return };
    let mut rng = random();
    let hub = Hub::with("one", &postgres, &lines(&broker));
    let says = |words: &str| hub.words().contains(words);
    until("the session", || says("this hub reads it with a new session")).await;
    let mut publisher = Publisher::connect(&broker);
    let mut good = Gateway::new("good", Form::Compact, 3, rng.fork());
    let mut forked = Gateway::new("forked", Form::Json, 3, rng.fork());
    forked.live(10);
    let mut copy = forked.copy(rng.fork());
    let head = forked.head();
    forked.live(2);
    copy.live(2);
    publisher.publish(&good, Post { headers: Vec::new(), body: b"hello".to_vec() }).await;
    publisher.publish(&forked, forked.parcel((1, forked.head()), Lane::Live)).await;
    publisher.publish(&forked, copy.parcel((head + 1, copy.head()), Lane::Live)).await;
    until("the fork", || says("what comes on fieldlog/forked/events of the stopped log is passed over"))
        .await;
    assert!(says("is not a parcel and is passed over: it is neither"), "{}", hub.words());
    postgres.kill();
    good.live(10);
    publisher.publish(&good, good.parcel((1, good.head()), Lane::Live)).await;
    postgres.restart();
    until("the good gateway", || has(&postgres, &good)).await;
    assert_complete(&postgres, &good);
    // A parcel came again within the process, or with its session: never twice into the tables.
    assert_eq!(rows(&postgres, "faults", "FROM logs WHERE gateway = 'good'"), [json!([[]])]);
}

/// What a connection fails by is said as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_cannot_be_made_is_explained() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(certificates) = Certificates::make() else { return };
    let tls_port = free_port();
    let tls = format!(
        "listener {tls_port} 127.0.0.1\nallow_anonymous false\npassword_file DIR/nobody\ncertfile {}\nkeyfile {}",
        certificates.cert_file().display(),
        certificates.key_file().display()
    );
    let Some(broker) = Mosquitto::start(&tls) else { return };
    let says = async |address: &str, more: &str, words: &str| {
        let lines = format!("lease_s = 3\n[[mqtt]]\naddress = \"{address}\"\n{more}");
        let hub = Hub::with("one", &postgres, &lines);
        until(words, || hub.words().contains(words)).await;
    };
    says("mqtt://127.0.0.1:1", "", "check `mqtt.address`, that the broker runs").await;
    says(&format!("mqtts://127.0.0.1:{}", broker.port), "", "or is it a port without TLS?").await;
    says(&format!("mqtt://127.0.0.1:{tls_port}"), "", "or is it a port with TLS (mqtts://)?").await;
    let secure = format!("mqtts://localhost:{tls_port}");
    says(&secure, "", "check `mqtt.ca_file`, and that the broker's certificate is for the host").await;
    let ca = format!("ca_file = {:?}\n", certificates.ca_file());
    says(&secure, &ca, "the broker does not take the user: check `mqtt.username` and `password_file`").await;
    // Two databases with one session: each takes it from the other.
    let (Some(other), Some(open)) = (PostgresServer::start(), Mosquitto::start("")) else { return };
    let hubs = [&postgres, &other].map(|postgres| Hub::with("one", postgres, &lines(&open)));
    let words = "another client connects with the id `fieldlog-hub`: give each database of hubs its own";
    until(words, || hubs.iter().any(|hub| hub.words().contains(words))).await;
}
