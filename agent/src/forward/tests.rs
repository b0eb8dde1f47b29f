//! Parcels built from a real log, and decoded again.

use std::ops::ControlFlow;

use fieldlog_projections::{ChainHash, Seq};
use proptest::prelude::*;

use super::Parcel;
use super::filter::Filter;
use super::fixture::{EPOCH, Fixture};
use super::parcel::{Format, Limits, Span};
use fieldlog_wire::Lane;
use fieldlog_wire::compact::{self, Compact, CompactError};

/// The chain after each position, computed from the log; index 0 is the origin.
fn links(fixture: &Fixture) -> Vec<ChainHash> {
    let mut links = vec![ChainHash::origin(EPOCH)];
    let scan = fixture.log.reader().scan(Seq(1), |chunk| {
        for record in chunk.records() {
            let link = links.last().unwrap().after(record.unwrap().raw);
            links.push(link);
        }
        ControlFlow::<()>::Continue(())
    });
    scan.unwrap();
    assert_eq!(links.last(), Some(&fixture.log.link()));
    links
}

fn tiles(parcels: &[Parcel], links: &[ChainHash], first: u64) {
    let mut next = first;
    for Parcel { manifest, items, .. } in parcels {
        assert_eq!(manifest.first.0, next);
        assert_eq!(manifest.before, links[manifest.first.0 as usize - 1], "before {}", manifest.first);
        assert_eq!(manifest.after, links[manifest.last.0 as usize], "after {}", manifest.last);
        assert_eq!(manifest.events as usize, items.len());
        assert!(items.is_sorted_by(|a, b| a.seq < b.seq));
        next = manifest.last.0 + 1;
    }
    assert_eq!(next as usize, links.len());
}

#[test]
fn parcels_tile_the_log_and_carry_its_chain() {
    let fixture = Fixture::new(3_000);
    let links = links(&fixture);
    for format in [Format::Json, Format::Compact] {
        for events_max in [1, 7, 100, 1_000, 10_000] {
            tiles(&fixture.parcels(Filter::default(), format, Seq(1), events_max), &links, 1);
        }
        let filter = Filter::new(&["*sensor 1*"], &["state_changed"]).unwrap();
        let parcels = fixture.parcels(filter, format, Seq(5), 50);
        tiles(&parcels, &links, 5);
        let devices = || parcels.iter().flat_map(|parcel| &parcel.items).map(|i| i.device.clone().unwrap());
        assert!(devices().count() > 1_000 && devices().all(|name| name.starts_with("plant/sensor 1")));
    }
}

#[test]
fn limits_are_kept_and_one_event_always_goes() {
    let fixture = Fixture::new(500);
    let mut builder = fixture.builder(Filter::default(), Format::Json);
    let mut check = |events_max, bytes_max, last_max: u64, last: u64| {
        let limits = Limits { events_max, bytes_max };
        let head = fixture.log.head();
        let span = Span { lane: Lane::Backlog, first: Seq(100), last_max: Seq(last_max), head, limits };
        let parcel = builder.build(&fixture.log.reader(), &fixture.view, &span).unwrap().unwrap();
        assert_eq!(parcel.manifest.last, Seq(last));
        assert_eq!(parcel.manifest.lane, Lane::Backlog);
        parcel.items.iter().map(|item| item.json.len()).sum::<usize>()
    };
    check(0, 0, 400, 100);
    check(10, usize::MAX, 400, 109);
    check(usize::MAX, usize::MAX, 105, 105);
    let ten = check(10, usize::MAX, 400, 109);
    assert_eq!(check(usize::MAX, ten, 400, 109), ten);
    check(usize::MAX, ten - 1, 400, 108);
}

#[test]
fn there_is_no_parcel_of_what_is_not_there() {
    let fixture = Fixture::new(10);
    let head = fixture.log.head();
    let mut builder = fixture.builder(Filter::default(), Format::Json);
    assert!(fixture.parcel(&mut builder, head.next(), Seq(head.0 + 9), 10).is_none());
    assert!(fixture.parcel(&mut builder, head, Seq(head.0 + 9), 10).is_some());
    assert!(fixture.parcel(&mut builder, Seq(5), Seq(4), 10).is_none());
    // Records that are not in the view yet have no names yet.
    fixture.view.write().unwrap().seq = Seq(head.0 - 1);
    assert!(fixture.parcel(&mut builder, head, head, 10).is_none());
    assert_eq!(fixture.parcel(&mut builder, Seq(5), head, 99).unwrap().manifest.last, Seq(head.0 - 1));
}

#[test]
fn a_filter_that_lets_nothing_through_still_covers() {
    let fixture = Fixture::new(200);
    let links = links(&fixture);
    let filter = Filter::new(&["nobody"], &[] as &[&str]).unwrap();
    let parcels = fixture.parcels(filter, Format::Compact, Seq(1), 50);
    tiles(&parcels, &links, 1);
    assert_eq!((parcels.len(), parcels[0].manifest.events), (1, 0));
    assert_eq!(Compact::decode(&parcels[0].compact).unwrap().manifest, parcels[0].manifest);
}

#[test]
fn events_are_cloud_events() {
    let fixture = Fixture::new(40);
    let parcel = &fixture.parcels(Filter::default(), Format::Json, Seq(1), 1_000)[0];
    let json = |at: usize| serde_json::from_slice::<serde_json::Value>(&parcel.items[at].json).unwrap();
    let change = json(30);
    assert_eq!(
        change,
        serde_json::json!({
            "specversion": "1.0",
            "id": "plant-7/feed000000000007/31",
            "source": "urn:fieldlog:plant-7",
            "type": "io.fieldlog.state_changed.v1",
            "subject": "plant/sensor 17",
            "time": "2025-11-23T10:00:00.052700Z",
            "datacontenttype": "application/json",
            "sequence": "00000000000000000031",
            "partitionkey": "plant/sensor 17",
            "recordedtime": "2025-11-23T10:00:00.052700Z",
            "data": {"changes": {"temperature": 22.17, "humidity": 9.3, "link.quality": 31, "state": "OFF"}},
        })
    );
    assert_eq!(parcel.items[30].device.as_deref(), Some("plant/sensor 17"));
    assert_eq!(parcel.items[30].kind, "state_changed");
    assert_eq!(json(0).get("subject"), None);
    assert_eq!(json(0)["type"], "io.fieldlog.booted.v1");
    assert_eq!(
        json(6)["data"],
        serde_json::json!({"name": "plant/sensor 1", "source": "z2m", "parent": "plant/sensor 0"})
    );
    assert_eq!(json(26)["data"], serde_json::json!({"attribute": "state", "value": "push \"1\""}));
    // The device's own time where it has one.
    assert_eq!(json(29)["time"], "2025-11-23T09:59:59.051000Z");
    assert_eq!(json(29)["recordedtime"], "2025-11-23T10:00:00.051000Z");
}

#[test]
fn compact_parcels_come_back_record_by_record() {
    let fixture = Fixture::new(2_000);
    let filter = Filter::new(&["*sensor 3", "*sensor 4"], &[] as &[&str]).unwrap();
    for filter in [Filter::default(), filter] {
        let mut compared = 0;
        for parcel in fixture.parcels(filter.clone(), Format::Compact, Seq(3), 300) {
            let compact = Compact::decode(&parcel.compact).unwrap();
            assert_eq!(compact.manifest, parcel.manifest);
            let mut records = compact.records();
            let mut seqs = Vec::new();
            let mut link = parcel.manifest.before;
            while let Some(found) = records.next_record().unwrap() {
                let same = fixture.log.reader().scan(found.seq, |chunk| {
                    let stored = chunk.records().map(Result::unwrap).find(|r| r.seq == found.seq);
                    ControlFlow::Break(stored == Some(found))
                });
                assert_eq!(same.unwrap(), Some(true));
                link = link.after(found.raw);
                seqs.push(found.seq);
            }
            assert!(seqs.iter().eq(parcel.items.iter().map(|item| &item.seq)));
            assert_eq!(link == parcel.manifest.after, filter.is_all());
            compared += seqs.len();
        }
        assert!(compared > 200);
    }
}

/// Everything after the magic, compressed again, as a forger who knows the format would send it.
pub(crate) fn recompressed(bytes: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut stream = ruzstd::decoding::StreamingDecoder::new(&bytes[4..]).unwrap();
    std::io::Read::read_to_end(&mut stream, &mut plain).unwrap();
    change(&mut plain);
    let mut out = compact::MAGIC.to_vec();
    out.extend(ruzstd::encoding::compress_to_vec(&plain[..], ruzstd::encoding::CompressionLevel::Fastest));
    out
}

#[test]
fn a_parcel_that_is_too_large_is_refused() {
    let bytes = &fixture_parcel().compact;
    let large = recompressed(bytes, |plain| plain.resize(70 << 20, 0));
    assert_eq!(Compact::decode(&large).unwrap_err(), CompactError::TooLarge);
    let longer = recompressed(bytes, |plain| plain.push(0));
    assert_eq!(Compact::decode(&longer).unwrap_err(), CompactError::Length);
}

fn fixture_parcel() -> Parcel {
    Fixture::new(100).parcels(Filter::default(), Format::Compact, Seq(1), 1_000).remove(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Compact::decode(&bytes);
        let framed = [&compact::MAGIC[..], &bytes].concat();
        let _ = Compact::decode(&framed);
        let packed = [&compact::MAGIC[..], &ruzstd::encoding::compress_to_vec(&bytes[..], ruzstd::encoding::CompressionLevel::Fastest)].concat();
        let _ = Compact::decode(&packed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn damage_never_panics(hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 64)) {
        let bytes = fixture_parcel().compact;
        for (at, value) in hits {
            let mut damaged = bytes.to_vec();
            let at = at.index(damaged.len());
            damaged[at] = value;
            let _ = Compact::decode(&damaged);
            let _ = Compact::decode(&bytes[..at]);
            let within = recompressed(&bytes, |plain| {
                let at = at % plain.len();
                plain[at] = value;
            });
            let _ = Compact::decode(&within);
        }
    }
}
