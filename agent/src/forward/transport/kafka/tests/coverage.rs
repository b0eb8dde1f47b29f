//! A consumer that reads only the topic accounts for every position, as described in `FORMAT.md`.

use std::collections::{BTreeMap, BTreeSet};

use fieldlog_projections::Seq;
use fieldlog_wire::account::Arrival;
use fieldlog_wire::ledger::Ledger;
use fieldlog_wire::{Lane, Manifest};

use super::*;
use crate::clock::Clock;
use crate::forward::filter::Filter;
use crate::forward::fixture::Fixture;
use crate::forward::parcel::Format;

/// The manifest in a record's headers.
fn manifest(record: &Record) -> Manifest {
    let header = |name: &str| std::str::from_utf8(record.headers.get(&format!("fieldlog-{name}"))?).ok();
    Manifest::read(header).unwrap()
}

/// A consumer's state: the incomplete parcels, and the account.
struct Consumer {
    /// By all manifest fields except `head`, which grows between attempts.
    parts: BTreeMap<String, BTreeSet<Seq>>,
    ledger: Ledger,
    empty: u64,
}

impl Consumer {
    fn new() -> Consumer {
        Consumer { parts: BTreeMap::new(), ledger: Ledger::new(false), empty: 0 }
    }

    fn take(&mut self, record: &Record) {
        let manifest = manifest(record);
        let key = format!("{:?}", Manifest { head: Seq(0), ..manifest.clone() });
        let seen = self.parts.entry(key.clone()).or_default();
        match record.headers.get("ce_id") {
            Some(id) => {
                let (_, seq) = std::str::from_utf8(id).unwrap().rsplit_once('/').unwrap();
                seen.insert(Seq(seq.parse().unwrap()));
            }
            None => self.empty += 1,
        }
        if seen.len() == manifest.events as usize && manifest.lane != Lane::Priority {
            let events: Vec<(Seq, u64)> = seen.iter().map(|seq| (*seq, seq.0)).collect();
            self.ledger.record(&Arrival { manifest: &manifest, events: &events, chain: None });
            self.parts.remove(&key);
        }
    }
}

#[tokio::test]
async fn a_consumer_of_a_filtered_sink_misses_nothing() {
    let Some(cluster) = Cluster::start() else { return };
    let fixture = Fixture::new(400);
    // About every twentieth event passes: of two devices, in two of the four partitions.
    let filter = Filter::new(&["plant/sensor 2", "plant/sensor 3"], &["state_changed"]).unwrap();
    let mut builder = fixture.builder(filter, Format::Json);
    let target = cluster.target();
    let mut sink = target.open().await.unwrap();
    let head = fixture.log.head();
    let (mut first, mut sent, mut empty) = (Seq(1), 0, 0);
    for step in [1, 7, 90, 3].into_iter().cycle() {
        let until = Seq(first.0 + step - 1).min(head);
        let parcel = fixture.parcel(&mut builder, first, until, 500).unwrap();
        sent += u64::from(parcel.manifest.events);
        empty += u64::from(parcel.manifest.events == 0);
        first = parcel.manifest.last.next();
        assert_eq!(send(&mut sink, parcel).await, Outcome::Acked);
        if first > head {
            break;
        }
    }
    assert!(empty > 5 && sent > 20, "{empty} {sent}");
    sink.close().await;

    let mut consumer = Consumer::new();
    let mut with_events = BTreeSet::new();
    let mut with_coverage = BTreeSet::new();
    for (partition, record) in all(&target).await {
        let event = record.headers.contains_key("ce_id");
        if event { &mut with_events } else { &mut with_coverage }.insert(partition);
        consumer.take(&record);
    }
    assert!(with_events.len() > 1, "the events are in one partition");
    assert_eq!(with_coverage.len(), 1, "coverage is spread over partitions");
    assert_eq!(consumer.empty, empty);
    let report = consumer.ledger.report();
    let log = report.log("plant-7", fixture.log.epoch()).unwrap();
    assert!(report.is_clean() && consumer.parts.is_empty(), "{report}");
    assert_eq!((log.contiguous, log.chained, log.counts.events), (head, head, sent));
}

#[tokio::test]
async fn a_parcel_without_events_is_its_manifest_alone() {
    let Some(cluster) = Cluster::start() else { return };
    let target = cluster.target();
    let mut sink = target.open().await.unwrap();
    let mut empty = parcel(5, 9);
    empty.items.clear();
    empty.manifest.events = 0;
    let before = Clock::system().wall();
    assert_eq!(send(&mut sink, empty.clone()).await, Outcome::Acked);
    sink.close().await;
    let records = all(&target).await;
    let [(partition, record)] = &records[..] else { panic!("{records:?}") };
    assert_eq!(usize::try_from(*partition).unwrap(), partition::of(Some(b"gw-1"), 4));
    assert_eq!(record.key.as_deref(), Some(&b"gw-1"[..]));
    // Null would be a tombstone.
    assert_eq!(record.value.as_deref(), Some(&b""[..]));
    assert_eq!(record.headers.len(), 9);
    assert_eq!(manifest(record), empty.manifest);
    assert!(record.timestamp.timestamp_millis() >= before.0 / 1000);
}

/// Everything in the topic, by partition.
pub(super) async fn all(target: &KafkaTarget) -> Vec<(i32, Record)> {
    let client = target.client().await.unwrap();
    let mut found = Vec::new();
    for number in 0..4 {
        let partition = client.partition_client("events", number, UnknownTopicHandling::Error).await.unwrap();
        let mut offset = 0;
        loop {
            let (records, end) = partition.fetch_records(offset, 1..1_000_000, 100).await.unwrap();
            for record in records {
                offset = record.offset + 1;
                found.push((number, record.record));
            }
            if offset >= end {
                break;
            }
        }
    }
    found
}
