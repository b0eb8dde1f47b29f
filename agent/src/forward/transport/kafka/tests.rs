//! The sink with the mock cluster of librdkafka (`pip install confluent-kafka`).

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use fieldlog_sim::servers::{Process, skip};

use super::*;
use crate::config::{Address, TlsConfig};
use crate::forward::Pace;
use crate::forward::envelope::tests::parcel;
use crate::ingest::tests::PATIENCE;

mod coverage;
mod secure;

/// Prints the cluster's address, creates the topic, and ends with its input.
const CLUSTER: &str = "
import sys
from confluent_kafka import Producer
p = Producer({'bootstrap.servers': '127.0.0.1:1', 'test.mock.num.brokers': 1})
b = list(p.list_topics(timeout=10).brokers.values())[0]
# Asking for a topic makes it, with four partitions.
p.list_topics('events', timeout=10)
print(f'{b.host}:{b.port}', flush=True)
sys.stdin.read()
";

struct Cluster {
    process: Process,
    address: String,
}

impl Cluster {
    /// `None` if it is not installed.
    fn start() -> Option<Cluster> {
        let python = |code: &str| {
            let mut command = Command::new("python3");
            command.arg("-c").arg(code).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            command
        };
        let found = python("import confluent_kafka").status().is_ok_and(|status| status.success());
        if !found {
            skip("confluent-kafka is not installed");
            return None;
        }
        let mut process = Process(python(CLUSTER).spawn().unwrap());
        let mut address = String::new();
        BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Some(Cluster { process, address: address.trim().to_owned() })
    }

    fn target(&self) -> KafkaTarget {
        let (host, port) = self.address.rsplit_once(':').unwrap();
        let broker = Address { host: host.to_owned(), port: port.parse().unwrap(), tls: false };
        Target {
            sink: KafkaSink {
                brokers: vec![broker],
                topic: "events".into(),
                username: None,
                password_file: None,
                sasl: SaslMechanism::Plain,
                tls: TlsConfig::default(),
            },
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(10),
            in_flight_max: 1,
        }
    }
}

async fn send(sink: &mut Kafka, parcel: Parcel) -> Outcome {
    timeout(PATIENCE, sink.send(Arc::new(parcel))).await.expect("no outcome")
}

#[tokio::test]
async fn events_arrive_in_order_per_device() {
    let Some(cluster) = Cluster::start() else { return };
    let target = cluster.target();
    let mut sink = target.open().await.unwrap();
    assert_eq!(send(&mut sink, parcel(1, 300)).await, Outcome::Acked);
    assert_eq!(send(&mut sink, parcel(301, 310)).await, Outcome::Acked);
    sink.close().await;

    let client = target.client().await.unwrap();
    let mut seen = 0;
    for number in 0..4 {
        let partition = client.partition_client("events", number, UnknownTopicHandling::Error).await.unwrap();
        let mut last: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let mut offset = 0;
        loop {
            let (records, end) = partition.fetch_records(offset, 1..1_000_000, 100).await.unwrap();
            for found in records {
                offset = found.offset + 1;
                let (key, headers) = (found.record.key.unwrap(), found.record.headers);
                let event: serde_json::Value = serde_json::from_slice(&found.record.value.unwrap()).unwrap();
                assert_eq!(event["id"].as_str().unwrap().as_bytes(), headers["ce_id"]);
                assert_eq!(headers["fieldlog-gateway"], b"gw-1");
                assert_eq!(partition::of(Some(&key), 4), usize::try_from(number).unwrap());
                let n = event["data"]["n"].as_u64().unwrap();
                assert!(last.insert(key, n).is_none_or(|before| before < n));
                seen += 1;
            }
            if offset >= end {
                break;
            }
        }
    }
    assert_eq!(seen, 310);
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let Some(mut cluster) = Cluster::start() else { return };
    let mut target = cluster.target();
    target.sink.topic = "elsewhere".into();
    let unreachable = target.open().await.err().unwrap();
    assert!(
        unreachable.pace == Pace::Slow && unreachable.why.contains("there is no topic `elsewhere`"),
        "{unreachable}"
    );

    let mut target = cluster.target();
    target.answer_timeout = Duration::from_secs(2);
    let mut sink = target.open().await.unwrap();
    cluster.process.kill();
    let Outcome::Lost { why } = send(&mut sink, parcel(1, 3)).await else { panic!() };
    assert!(why.starts_with(&format!("kafka {}: ", cluster.address)), "{why}");
    target.connect_timeout = Duration::from_secs(1);
    let unreachable = target.open().await.err().unwrap();
    assert!(unreachable.pace != Pace::Slow && unreachable.why.starts_with("kafka "), "{unreachable}");
}
