//! Parcels through Kafka's protocol, as a gateway's Kafka sink writes them. The servers are Tansu and the mock cluster
//! of librdkafka, not Apache Kafka.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use fieldlog_sim::rng::Rng;
use fieldlog_sim::servers::kafka_mock::KafkaMock;
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::tansu::Tansu;
use fieldlog_sim::servers::tls::{Certificates, relay};
use fieldlog_sim::servers::wait::until;
use fieldlog_wire::Lane;
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::gateway::{Form, Gateway, Post, random};
use crate::hub::Hub;
use crate::tables::{assert_complete, has};

const PARTITIONS: i32 = 4;

/// A topic, as the sink writes to it.
pub struct Topic(Vec<PartitionClient>);

pub async fn client(server: &Tansu) -> Client {
    ClientBuilder::new(vec![server.address()]).build().await.unwrap()
}

impl Topic {
    pub async fn create(client: &Client, name: &str) -> Topic {
        client.controller_client().unwrap().create_topic(name, PARTITIONS, 1, 5_000).await.unwrap();
        Topic::open(client, name).await
    }

    async fn open(client: &Client, name: &str) -> Topic {
        let mut partitions = Vec::new();
        for number in 0..PARTITIONS {
            partitions
                .push(client.partition_client(name, number, UnknownTopicHandling::Retry).await.unwrap());
        }
        Topic(partitions)
    }

    /// Writes a parcel as the sink does, except for the records that `is_lost` names: those of an attempt that failed.
    async fn write(&self, post: Post, is_lost: impl Fn(usize) -> bool) {
        let mut records: BTreeMap<usize, Vec<Record>> = BTreeMap::new();
        for (partition, record) in self::records(post) {
            records.entry(partition).or_default().push(record);
        }
        for (partition, records) in records {
            if !is_lost(partition) {
                self.0[partition].produce(records, Compression::Gzip).await.unwrap();
            }
        }
    }
}

/// The record of each event, and its partition: the same for all events of a device.
fn records(post: Post) -> Vec<(usize, Record)> {
    let common: BTreeMap<String, Vec<u8>> =
        post.headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
    let timestamp = rskafka::chrono::DateTime::from_timestamp_millis(1_790_000_000_000).unwrap();
    let events: Vec<&RawValue> = serde_json::from_slice(&post.body).unwrap();
    let record = |event: &&RawValue| {
        let said: serde_json::Value = serde_json::from_str(event.get()).unwrap();
        let key = said["subject"].as_str().map(|device| device.as_bytes().to_vec());
        let mut headers = common.clone();
        headers.insert("ce_id".into(), said["id"].as_str().unwrap().as_bytes().to_vec());
        let partition =
            key.iter().flatten().map(|byte| usize::from(*byte)).sum::<usize>() % PARTITIONS as usize;
        (partition, Record { key, value: Some(event.get().as_bytes().to_vec()), headers, timestamp })
    };
    if events.is_empty() {
        vec![(0, Record { key: None, value: Some(Vec::new()), headers: common, timestamp })]
    } else {
        events.iter().map(record).collect()
    }
}

pub fn source(server: &Tansu, topic: &str) -> String {
    format!("[[kafka]]\naddress = \"kafka://{}\"\ntopic = \"{topic}\"\n", server.address())
}

/// The new part of a log in parcels, some of them twice, some after a first attempt that failed half-way, some of it
/// filtered.
pub async fn send(topic: &Topic, gateway: &mut Gateway, from: u64, rng: &mut Rng) {
    for part in gateway.split(from) {
        let parcel = gateway.parcel(part, Lane::Live);
        match rng.below(5) {
            0 => topic.write(parcel.clone(), |_| false).await,
            1 => topic.write(parcel.clone(), |partition| partition > 1).await,
            // The gateway divides it otherwise when it sends it again.
            2 if part.0 < part.1 => {
                topic.write(parcel, |partition| partition != 2).await;
                topic.write(gateway.parcel((part.0, part.0), Lane::Live), |_| false).await;
                topic.write(gateway.parcel((part.0 + 1, part.1), Lane::Live), |_| false).await;
                continue;
            }
            _ => {}
        }
        topic.write(parcel, |_| false).await;
    }
}

/// Two hubs, two topics; the reader of the first topic is killed, and after the takeover the other one.
#[tokio::test]
async fn a_dead_hubs_topics_move_to_the_other() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(server) = Tansu::start() else { return };
    let mut rng = random();
    let client = client(&server).await;
    let topics = [Topic::create(&client, "north").await, Topic::create(&client, "south").await];
    let lines = format!("lease_s = 3\n{}{}", source(&server, "north"), source(&server, "south"));
    let mut hubs = ["first", "second"].map(|name| Hub::with(name, &postgres, &lines));
    let mut gateways: Vec<Gateway> =
        (0..6).map(|number| Gateway::new(&format!("plant.{number}"), Form::Json, 5, rng.fork())).collect();
    let reads = |name: &str| {
        let holder =
            postgres.sql("SELECT holder FROM fieldlog.kafka_partitions WHERE topic = 'north' LIMIT 1");
        holder.starts_with(&format!("{name}-"))
    };
    let mut reader = 0;
    for round in 0..3 {
        for (number, gateway) in gateways.iter_mut().enumerate() {
            let from = if round == 0 { 1 } else { gateway.head() + 1 };
            gateway.live(60);
            send(&topics[number % 2], gateway, from, &mut rng).await;
        }
        match round {
            0 => {
                until("a reader", || reads("first") || reads("second")).await;
                reader = usize::from(reads("second"));
                hubs[reader].kill();
            }
            1 => {
                until("the takeover", || reads(["second", "first"][reader])).await;
                hubs[reader].restart();
                hubs[1 - reader].kill();
            }
            _ => until("the way back", || reads(["first", "second"][reader])).await,
        }
    }
    for gateway in &gateways {
        until(&gateway.name, || has(&postgres, gateway)).await;
        assert_complete(&postgres, gateway);
    }
    let fences = postgres.sql("SELECT min(fence) FROM fieldlog.kafka_partitions WHERE topic = 'north'");
    assert!(fences.trim().parse::<u32>().unwrap() >= 3, "{fences}");
}

/// A hub that starts anew does not read again what is stored.
#[tokio::test]
async fn offsets_are_kept_with_the_tables() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(server) = Tansu::start() else { return };
    let mut rng = random();
    let topic = Topic::create(&client(&server).await, "fieldlog").await;
    let mut hub = Hub::with("one", &postgres, &format!("lease_s = 3\n{}", source(&server, "fieldlog")));
    let mut gateway = Gateway::new("plant", Form::Json, 5, rng.fork());
    gateway.live(200);
    topic.write(gateway.parcel((1, gateway.head()), Lane::Live), |_| false).await;
    until("the tables", || has(&postgres, &gateway)).await;
    let next = || postgres.sql("SELECT sum(next) FROM fieldlog.kafka_partitions").trim().to_owned();
    let events = gateway.head().to_string();
    until("the offsets", || next() == events).await;
    let metrics = hub.get("/metrics").body;
    let name = format!("{{source=\"kafka://{}, topic fieldlog\"}}", server.address());
    for line in ["source_reading 1.0", "source_lag_records 0.0", "source_incomplete_parcels 0.0"] {
        let (metric, value) = line.split_once(' ').unwrap();
        let wanted = format!("fieldlog_hub_{metric}{name} {value}");
        assert!(metrics.contains(&wanted), "{wanted} is not in {metrics}");
    }
    hub.restart_after_kill();
    let from = gateway.head() + 1;
    gateway.live(50);
    topic.write(gateway.parcel((from, gateway.head()), Lane::Live), |_| false).await;
    until("the tables again", || has(&postgres, &gateway)).await;
    let duplicates = || postgres.sql("SELECT duplicates FROM fieldlog.logs").trim().to_owned();
    assert_eq!(duplicates(), "0");
    assert_complete(&postgres, &gateway);
}

/// What is wrong stops nothing else, and is said.
#[tokio::test]
async fn what_is_wrong_is_said_and_passed_over() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(server) = Tansu::start() else { return };
    let mut rng = random();
    let hub = Hub::with("one", &postgres, &format!("lease_s = 3\n{}", source(&server, "fieldlog")));
    let says = |words: &str| hub.words().contains(words);
    until("the missing topic", || {
        says("there is no topic `fieldlog`, or this user may not see it: create it")
    })
    .await;
    let topic = Topic::create(&client(&server).await, "fieldlog").await;
    let stray = Record {
        key: None,
        value: Some(b"hello".to_vec()),
        headers: BTreeMap::new(),
        timestamp: rskafka::chrono::DateTime::UNIX_EPOCH,
    };
    topic.0[0].produce(vec![stray], Compression::NoCompression).await.unwrap();
    let mut good = Gateway::new("good", Form::Json, 3, rng.fork());
    let mut forked = Gateway::new("forked", Form::Json, 3, rng.fork());
    forked.live(10);
    let mut copy = forked.copy(rng.fork());
    let head = forked.head();
    forked.live(2);
    copy.live(2);
    topic.write(forked.parcel((1, forked.head()), Lane::Live), |_| false).await;
    until("the first history", || has(&postgres, &forked)).await;
    topic.write(copy.parcel((head + 1, copy.head()), Lane::Live), |_| false).await;
    until("the fork", || says("gateway forked epoch") && says("is passed over: ")).await;
    good.live(10);
    topic.write(good.parcel((1, good.head()), Lane::Live), |_| false).await;
    until("the good gateway", || has(&postgres, &good)).await;
    assert!(
        says("is not a parcel and is passed over: its manifest has no field `gateway`"),
        "{}",
        hub.words()
    );
    assert_complete(&postgres, &good);
}

/// What a connection fails by is said as it is.
#[tokio::test]
async fn a_connection_that_cannot_be_made_is_explained() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(server) = Tansu::with(None, &["--authentication"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "a secret").unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    let says = async |address: &str, more: &str, words: &str| {
        let lines = format!("lease_s = 3\n[[kafka]]\naddress = \"{address}\"\n{more}");
        let hub = Hub::with("one", &postgres, &lines);
        until(words, || hub.words().contains(words)).await;
        assert!(!hub.words().contains("a secret"), "{}", hub.words());
    };
    let plain = format!("kafka://{}", server.address());
    let user = format!("sasl = \"scram-sha-256\"\nusername = \"hub\"\npassword_file = {password:?}\n");
    says("kafka://127.0.0.1:1", "", "check `kafka.address`, that the brokers run").await;
    says(&plain, "", "or a user name").await;
    says(&plain, &user, "the cluster does not take the user: check `kafka.username`").await;
    let Some(certificates) = Certificates::make() else { return };
    let ca = format!("ca_file = {:?}\n", certificates.ca_file());
    says(&plain.replace("kafka:", "kafkas:"), &ca, "or is it a port without TLS?").await;
    let front = front(&certificates, server.port).await;
    says(&format!("kafka://127.0.0.1:{front}"), "", "whether they want TLS (kafkas://)").await;
    let others = Certificates::make().unwrap();
    let ca = format!("ca_file = {:?}\n", others.ca_file());
    says(&format!("kafkas://127.0.0.1:{front}"), &ca, "check `kafka.ca_file`").await;
}

/// Speaks TLS for the server at this port; returns its own.
async fn front(certificates: &Certificates, server: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(relay(listener, certificates.acceptor(), server));
    port
}

#[tokio::test]
async fn parcels_come_over_tls() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(certificates) = Certificates::make() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let Some(server) = Tansu::with(Some(port), &[]) else { return };
    tokio::spawn(relay(listener, certificates.acceptor(), server.port));
    let (ca, address) = (certificates.ca_file(), format!("127.0.0.1:{port}"));
    let lines = format!("lease_s = 3\n[[kafka]]\naddress = \"kafkas://{address}\"\nca_file = {ca:?}\n");
    let mut gateway = Gateway::new("plant", Form::Json, 3, random());
    gateway.live(20);
    let tls = tls(&certificates);
    let client = ClientBuilder::new(vec![address]).tls_config(tls).build().await.unwrap();
    let topic = Topic::create(&client, "fieldlog").await;
    topic.write(gateway.parcel((1, gateway.head()), Lane::Live), |_| false).await;
    let _hub = Hub::with("one", &postgres, &lines);
    until("the tables", || has(&postgres, &gateway)).await;
    assert_complete(&postgres, &gateway);
}

fn tls(certificates: &Certificates) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates.ca_file()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A topic that was made anew ends before the noted offsets.
#[tokio::test]
async fn a_topic_that_was_made_anew_is_read_from_its_beginning() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(mock) = KafkaMock::start() else { return };
    drop(Hub::start("one", &postgres));
    postgres.sql(
        "INSERT INTO fieldlog.kafka_partitions SELECT 'events', p, 'gone', 1, 1000 FROM generate_series(0, 3) p",
    );
    let lines =
        format!("lease_s = 3\n[[kafka]]\naddress = \"kafka://{}\"\ntopic = \"events\"\n", mock.address);
    let hub = Hub::with("one", &postgres, &lines);
    let words = "partition 2 ends before offset 1000, where reading was to go on";
    until(words, || hub.words().contains(words)).await;
    let client = ClientBuilder::new(vec![mock.address.clone()]).build().await.unwrap();
    let mut gateway = Gateway::new("plant", Form::Json, 3, random());
    gateway.live(20);
    let topic = Topic::open(&client, "events").await;
    topic.write(gateway.parcel((1, gateway.head()), Lane::Live), |_| false).await;
    until("the tables", || has(&postgres, &gateway)).await;
    assert_complete(&postgres, &gateway);
    until("the offsets", || {
        postgres.sql("SELECT max(next) < 1000 FROM fieldlog.kafka_partitions").trim() == "t"
    })
    .await;
}

/// What a first attempt left in the topic holds nothing back, once the same positions have come otherwise.
#[tokio::test]
async fn what_was_divided_otherwise_is_forgotten() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(server) = Tansu::start() else { return };
    let topic = Topic::create(&client(&server).await, "fieldlog").await;
    let hub = Hub::with("one", &postgres, &format!("lease_s = 3\n{}", source(&server, "fieldlog")));
    let mut gateway = Gateway::new("plant", Form::Json, 5, random());
    gateway.live(50);
    let (middle, head) = (gateway.head() / 2, gateway.head());
    topic.write(gateway.parcel((1, head), Lane::Live), |partition| partition == 1).await;
    let incomplete = |count: u32| {
        let metrics = hub.get("/metrics").body;
        let line = metrics.lines().find(|line| line.starts_with("fieldlog_hub_source_incomplete_parcels{"));
        line.is_some_and(|line| line.ends_with(&format!(" {count}.0")))
    };
    until("the half parcel", || incomplete(1)).await;
    assert_eq!(postgres.sql("SELECT max(next) FROM fieldlog.kafka_partitions").trim(), "0");
    topic.write(gateway.parcel((1, middle), Lane::Live), |_| false).await;
    topic.write(gateway.parcel((middle + 1, head), Lane::Live), |_| false).await;
    until("the end of the half parcel", || incomplete(0)).await;
    until("the offsets", || postgres.sql("SELECT min(next) FROM fieldlog.kafka_partitions").trim() != "0")
        .await;
    assert_complete(&postgres, &gateway);
}
