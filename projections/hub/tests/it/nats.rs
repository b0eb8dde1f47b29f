//! Parcels through a real nats-server, as a gateway's NATS sink publishes them.

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{FromConsumer, PullConsumer, pull};
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::{self, Context};
use fieldlog_sim::servers::free_port;
use fieldlog_sim::servers::nats::NatsServer;
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::wait::{block_until, until};
use fieldlog_wire::Lane;
use futures_util::TryStreamExt;
use serde_json::{Value as Json, json};

use crate::gateway::{Form, Gateway, Post, random};
use crate::hub::{Hub, run};
use crate::tables::{assert_complete, has, rows};

/// Publishes as the sink does.
async fn publish(jetstream: &Context, gateway: &str, post: Post) {
    try_publish(jetstream, gateway, post).await.unwrap();
}

/// The same; whether it is stored after an error is unknown.
pub async fn try_publish(jetstream: &Context, gateway: &str, post: Post) -> Result<(), PublishError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &post.headers {
        let field = name.strip_prefix("fieldlog-").unwrap();
        let (first, rest) = field.split_at(1);
        headers.insert(format!("Fieldlog-{}{rest}", first.to_ascii_uppercase()), value.as_str());
    }
    let subject = format!("fieldlog.{}.events", gateway.replace('.', "_"));
    jetstream.publish_with_headers(subject, headers, post.body.into()).await?.await?;
    Ok(())
}

pub async fn connect(server: &NatsServer) -> Context {
    jetstream::new(async_nats::connect(format!("nats://127.0.0.1:{}", server.port)).await.unwrap())
}

pub fn lines(server: &NatsServer) -> String {
    format!("lease_s = 3\n[[nats]]\naddress = \"nats://127.0.0.1:{}\"\n", server.port)
}

/// Two hubs share the gateways; one is killed, and stops for ever; NATS is killed, too.
#[tokio::test]
async fn a_dead_hubs_share_moves_to_the_other() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(mut server) = NatsServer::with_stream() else { return };
    let mut rng = random();
    let mut hubs = ["first", "second"].map(|name| Hub::with(name, &postgres, &lines(&server)));
    let mut gateways: Vec<Gateway> = (0..6)
        .map(|number| {
            let form = if number % 2 == 0 { Form::Json } else { Form::Compact };
            Gateway::new(&format!("plant.{number}"), form, 4, rng.fork())
        })
        .collect();
    for round in 0..4 {
        let jetstream = connect(&server).await;
        for gateway in &mut gateways {
            let from = if round == 0 { 1 } else { gateway.head() + 1 };
            gateway.live(60);
            for part in gateway.split(from) {
                publish(&jetstream, &gateway.name, gateway.parcel(part, Lane::Live)).await;
            }
        }
        match round {
            0 => {
                until("both hubs at work", || {
                    let holders = rows(&postgres, "count(DISTINCT holder)", "FROM gateways");
                    holders == [json!([2])]
                })
                .await;
            }
            1 => hubs[0].kill(),
            2 => {
                server.kill();
                server.restart();
            }
            _ => {}
        }
    }
    for gateway in &gateways {
        until(&gateway.name, || has(&postgres, gateway)).await;
        assert_complete(&postgres, gateway);
    }
    let elsewhere = rows(&postgres, "count(*)", "FROM gateways WHERE holder NOT LIKE 'second-%'");
    assert_eq!(elsewhere, [json!([0])]);
}

/// A fork stops its own subject; a message that is no parcel stops nothing.
#[tokio::test]
async fn what_is_wrong_stops_its_own_subject_at_most() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(server) = NatsServer::with_stream() else { return };
    let mut rng = random();
    let hub = Hub::with("one", &postgres, &lines(&server));
    let jetstream = connect(&server).await;
    let mut good = Gateway::new("good", Form::Compact, 3, rng.fork());
    let mut forked = Gateway::new("forked", Form::Compact, 3, rng.fork());
    forked.live(10);
    let mut copy = forked.copy(rng.fork());
    publish(&jetstream, &good.name, Post { headers: Vec::new(), body: b"hello".to_vec() }).await;
    good.live(10);
    publish(&jetstream, &good.name, good.parcel((1, good.head()), Lane::Live)).await;
    let head = forked.head();
    forked.live(2);
    copy.live(2);
    publish(&jetstream, &forked.name, forked.parcel((1, forked.head()), Lane::Live)).await;
    publish(&jetstream, &forked.name, copy.parcel((head + 1, copy.head()), Lane::Live)).await;
    block_until("the fork", || {
        hub.words().contains("fieldlog.forked.events is not consumed any more").then_some(())
    });
    until("the good gateway", || has(&postgres, &good)).await;
    assert!(hub.words().contains("is not a parcel and is passed over: it is neither"), "{}", hub.words());
    let from = good.head() + 1;
    good.live(5);
    publish(&jetstream, &good.name, good.parcel((from, good.head()), Lane::Live)).await;
    until("the good gateway again", || has(&postgres, &good)).await;
    assert_complete(&postgres, &good);
}

/// Whoever asks the hub is told what has become of a source, and what its last error was.
#[test]
fn a_source_that_cannot_be_read_is_named() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(mut server) = NatsServer::with_stream() else { return };
    let (kafka, mqtt) = (free_port(), free_port());
    let lines = format!(
        "{}[[kafka]]\naddress = \"kafka://127.0.0.1:{kafka}\"\ntopic = \"fieldlog\"\n[[mqtt]]\naddress = \
         \"mqtt://127.0.0.1:{mqtt}\"\n",
        lines(&server)
    );
    let hub = Hub::with("one", &postgres, &lines);
    let states = || -> Vec<String> {
        let word = |source: &Json| source["state"].as_str().unwrap().to_owned();
        hub.sources().iter().map(word).collect()
    };
    block_until("the sources", || (states() == ["failing", "failing", "reading"]).then_some(()));
    let sources = hub.sources();
    for (source, key) in sources.iter().zip(["check `kafka.address`", "check `mqtt.address`"]) {
        assert!(source["error"].as_str().unwrap().contains(key), "{source}");
        assert!(source["error_time"].as_str().unwrap().ends_with('Z'), "{source}");
    }
    assert_eq!((&sources[2]["error"], &sources[2]["stopped"]), (&Json::Null, &json!([])));
    let failing = format!("fieldlog_hub_source_failing{{source=\"mqtt://127.0.0.1:{mqtt}, topic ");
    let metrics = hub.get("/metrics").body;
    assert!(metrics.lines().any(|line| line.starts_with(&failing) && line.ends_with(" 1.0")), "{metrics}");
    server.kill();
    block_until("the failure", || (states()[2] == "failing").then_some(()));
    server.restart();
    block_until("the source again", || (states()[2] == "reading").then_some(()));
    // What it was stays to be read.
    assert!(hub.sources()[2]["error"].is_string(), "{:?}", hub.sources());
}

/// Sends some more, and waits until these databases have everything.
async fn send_to(server: &NatsServer, gateways: &mut [Gateway], databases: &[&PostgresServer]) {
    let jetstream = connect(server).await;
    for gateway in &mut *gateways {
        let from = gateway.head() + 1;
        gateway.live(40);
        for part in gateway.split(from) {
            publish(&jetstream, &gateway.name, gateway.parcel(part, Lane::Live)).await;
        }
    }
    for gateway in gateways {
        for database in databases {
            until(&gateway.name, || has(database, gateway)).await;
            assert_complete(database, gateway);
        }
    }
}

/// With consumers of their own two databases at one stream get everything each. With the same ones the second gets nothing,
/// and says what to do.
#[tokio::test]
async fn a_consumer_belongs_to_one_database() {
    let (Some(a), Some(b)) = (PostgresServer::start(), PostgresServer::start()) else { return };
    let Some(server) = NatsServer::with_stream() else { return };
    let mut rng = random();
    let mut gateways: Vec<Gateway> =
        (0..3).map(|number| Gateway::new(&format!("plant-{number}"), Form::Compact, 3, rng.fork())).collect();
    let jetstream = connect(&server).await;
    for gateway in &gateways {
        publish(&jetstream, &gateway.name, gateway.parcel((1, gateway.head()), Lane::Live)).await;
    }
    let mut first = Hub::with("one", &a, &lines(&server));
    send_to(&server, &mut gateways, &[&a]).await;
    let mut second = Hub::with("one", &b, &lines(&server));
    let said = [
        "fieldlog.plant-0.events is not consumed any more: its consumer `fieldlog-hub-fieldlog_plant-0_events-",
        "in the stream `FIELDLOG` belongs to another database of hubs",
        "Give this one a `consumer` of its own in [[nats]]",
        "nats consumer rm FIELDLOG fieldlog-hub-fieldlog_plant-0_events-",
    ];
    block_until("its words", || said.iter().all(|words| second.words().contains(words)).then_some(()));
    let stopped = || {
        let stopped = second.sources()[0]["stopped"].as_array().unwrap().clone();
        (stopped.len() == gateways.len()).then_some(stopped)
    };
    let stopped = block_until("all subjects", stopped);
    assert_eq!(stopped[0]["subject"], "fieldlog.plant-0.events");
    assert!(stopped[0]["why"].as_str().unwrap().contains(said[2]), "{stopped:?}");
    let source = format!("{{source=\"nats://127.0.0.1:{}, stream FIELDLOG\"}}", server.port);
    for (hub, value) in [(&first, "0.0"), (&second, "3.0")] {
        let (metrics, wanted) =
            (hub.get("/metrics").body, format!("fieldlog_hub_source_stopped_subjects{source} {value}"));
        assert!(metrics.contains(&wanted), "{wanted} is not in {metrics}");
    }
    send_to(&server, &mut gateways, &[&a]).await;
    assert_eq!(rows(&b, "count(*)", "FROM logs"), [json!([0])]);
    second.kill();
    let second = Hub::with("two", &b, &format!("{}consumer = \"second\"\n", lines(&server)));
    send_to(&server, &mut gateways, &[&a, &b]).await;
    assert!(!second.words().contains("is not consumed"), "{}", second.words());
    // Tables that are made anew are the same database.
    let (code, words) = run(&["rebuild", "--config", first.config(), "--store", "postgres"]);
    assert_eq!(code, 0, "{words}");
    first.kill();
    // As a hub of before has left it: nobody's, and so the first one's that comes.
    let stream = jetstream.get_stream("FIELDLOG").await.unwrap();
    let names: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
    let nobodys = names.iter().find(|name| name.starts_with("fieldlog-hub-fieldlog_plant-0")).unwrap();
    let consumer: PullConsumer = stream.get_consumer(nobodys).await.unwrap();
    let now = consumer.cached_info().config.clone();
    let mut config = pull::Config::try_from_consumer_config(now).unwrap();
    assert!(config.metadata.remove("fieldlog-database").is_some());
    let consumer = stream.create_consumer(config).await.unwrap();
    first.restart();
    send_to(&server, &mut gateways, &[&a, &b]).await;
    let now = consumer.get_info().await.unwrap();
    let id = rows(&a, "id::text", "FROM identity")[0][0].as_str().unwrap().to_owned();
    assert_eq!(now.config.metadata.get("fieldlog-database"), Some(&id));
}
