//! The sink with the mock cluster of librdkafka (`pip install confluent-kafka`).

use fieldlog_sim::servers::kafka_mock::KafkaMock;

use super::*;
use crate::config::{Address, TlsConfig};
use crate::forward::Pace;
use crate::forward::envelope::tests::parcel;
use crate::ingest::tests::PATIENCE;

mod coverage;
mod secure;

struct Cluster(KafkaMock);

impl Cluster {
    fn start() -> Option<Cluster> {
        KafkaMock::start().map(Cluster)
    }

    fn target(&self) -> KafkaTarget {
        let (host, port) = self.0.address.rsplit_once(':').unwrap();
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
    cluster.0.kill();
    let Outcome::Lost { why } = send(&mut sink, parcel(1, 3)).await else { panic!() };
    assert!(why.starts_with(&format!("kafka {}: ", cluster.0.address)), "{why}");
    target.connect_timeout = Duration::from_secs(1);
    let unreachable = target.open().await.err().unwrap();
    assert!(unreachable.pace != Pace::Slow && unreachable.why.starts_with("kafka "), "{unreachable}");
}
