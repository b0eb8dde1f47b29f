//! From the sink, over a real nats-server.

use std::sync::Arc;
use std::time::Duration;

use fieldlog_sim::servers::nats::{JETSTREAM, NatsServer};

use super::serving::{Running, expected, ids};
use super::*;
use crate::forward::transport::nats::tests::target_of;
use crate::forward::{Outcome, Transport};
use crate::receive::{NatsOptions, Out, ReceiveOptions};

#[tokio::test]
async fn a_stream_is_consumed_once() {
    let Some(server) = NatsServer::start(JETSTREAM) else { return };
    let target = target_of(&server);
    let fixture = Fixture::new(1_000);
    let mut parcels = fixture.parcels(Filter::default(), Format::Json, Seq(1), 100);
    parcels.truncate(5);
    parcels.extend(fixture.parcels(Filter::default(), Format::Compact, Seq(501), 100));
    let mut sink = target.open("plant-7", EPOCH, None).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = || ReceiveOptions {
        nats: Some(NatsOptions {
            server: target.sink.url(),
            stream: target.sink.stream.clone(),
            subject: "fieldlog.*.events".into(),
            consumer: "receiver".into(),
        }),
        out: Out::File(dir.path().join("events.ndjson")),
        state: Some(dir.path().join("state")),
        ..ReceiveOptions::default()
    };
    for half in parcels.chunks(6) {
        let running = Running::start(options()).await;
        for parcel in half {
            assert_eq!(sink.send(Arc::new(parcel.clone())).await, Outcome::Acked);
        }
        let until = half.last().unwrap().manifest.last.0;
        let waiting = async {
            while running.handle.events() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
        assert!(running.stop().await.is_clean());
    }
    let report = Running::start(options()).await.stop().await;
    let counts = report.logs[0].counts;
    assert_eq!((counts.parcels, counts.duplicate_parcels), (parcels.len() as u64, 0));
    assert_eq!(ids(&dir.path().join("events.ndjson")), expected(1..=fixture.log.head().0));
}
