//! Archive rows: exact, refused when damaged, and stable byte for byte.

use std::collections::BTreeMap;

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::rollup::Rollup;
use fieldlog_projections::rollup::{self, Period, RollupError, Row, Series};
use fieldlog_projections::{AttrId, Bucket, DeviceId, Fact, Seq, Time, Value};
use proptest::prelude::*;

const PERIOD: Period = Period {
    first: Seq(300),
    last: Seq(811),
    base_time: Time(1_763_892_000_000_000),
    last_time: Time(1_763_895_599_000_001),
    length_s: 3_600,
    start_s: 1_763_892_000,
};
const ROW_BYTES_MAX: usize = 512;

fn bucket(values: &[f64]) -> Bucket {
    let mut bucket = Bucket::new(PERIOD.start_s, values[0]);
    values[1..].iter().for_each(|value| bucket.add(*value));
    bucket
}

fn series(device: u32, attr: u32, values: &[f64]) -> Series {
    Series { device: DeviceId(device), attr: AttrId(attr), bucket: bucket(values) }
}

/// Equal to the bit, which `==` is not for -0 and NaN.
fn bits(series: &Series) -> (DeviceId, AttrId, i64, u32, [u64; 4]) {
    let Bucket { start_s, count, min, max, sum, last } = series.bucket;
    (series.device, series.attr, start_s, count, [min, max, sum, last].map(f64::to_bits))
}

#[track_caller]
fn same(found: &[Series], expected: &[Series]) {
    let all = |list: &[Series]| list.iter().map(bits).collect::<Vec<_>>();
    assert_eq!(all(found), all(expected));
}

#[test]
fn golden_bytes_of_a_row() {
    let some = [
        series(0, 2, &[21.5, 21.25, 22.0]),
        series(0, 9, &[-3.0, 5.0]),
        series(7, 1, &[0.1, 0.2, 0.3]),
        series(8, 1, &[std::f64::consts::PI]),
    ];
    let rows = rollup::encode(&PERIOD, some, 4_000, ROW_BYTES_MAX);
    let mut expected = b"FA\x01".to_vec();
    expected.extend([147, 246, 16, 193]);
    expected.extend([0xac, 2, 0xff, 3]); // first, and the last after it
    expected.extend([128, 160, 168, 193, 131, 144, 162, 6]); // base time
    expected.extend([130, 135, 163, 232, 26]); // last time after it
    expected.extend([0x90, 0x1c, 228, 231, 59]); // length, and which window of it
    expected.extend([0xa0, 0x1f, 0, 1, 4]); // stored before, part, parts, series
    expected.extend([0, 2, 3, 2, 0x9a, 0x21, 75, 75, 0xc8, 1, 0]);
    expected.extend([0, 7, 2, 0, 5, 8, 8, 16, 0]);
    expected.extend([7, 1, 3, 1, 2, 2, 2, 6, 2]); // the sum is one unit in the last place above 0.6
    expected.extend([1, 1, 1, 15]);
    (0..4).for_each(|_| expected.extend(std::f64::consts::PI.to_le_bytes()));
    assert_eq!(rows, [expected]);
    let row = Row::parse(&rows[0]).unwrap();
    assert_eq!((row.period, row.part, row.parts, row.stored_before), (PERIOD, 0, 1, 4_000));
    same(&row.series().unwrap(), &some);
}

#[test]
fn a_period_without_numbers_has_one_empty_row() {
    let rows = rollup::encode(&PERIOD, [], 0, ROW_BYTES_MAX);
    assert_eq!(rows.len(), 1);
    let row = Row::parse(&rows[0]).unwrap();
    assert_eq!((row.period, row.parts), (PERIOD, 1));
    assert!(row.series().unwrap().is_empty());
    assert_eq!(row.bucket(DeviceId(0), AttrId(0)), Ok(None));
}

#[test]
fn a_newer_layout_is_refused_by_its_number() {
    let mut row = rollup::encode(&PERIOD, [], 0, ROW_BYTES_MAX).remove(0);
    row[2] = 2;
    let error = Row::parse(&row).unwrap_err();
    assert_eq!(error, RollupError::Version(2));
    assert!(error.to_string().contains("version 2 is not known; it was written by a newer fieldlog"));
}

#[test]
fn a_sensor_takes_about_a_dozen_bytes() {
    let readings = |n: u32| (0..360).map(|i| f64::from(200 + (i * 7 + n) % 50) / 10.0).collect::<Vec<_>>();
    let many: Vec<Series> = (0..1_000).map(|n| series(n / 10, n % 10, &readings(n))).collect();
    let rows = rollup::encode(&PERIOD, many.iter().copied(), 0, 4_076);
    let bytes: usize = rows.iter().map(Vec::len).sum();
    println!("{} bytes in {} rows, {:.1} a bucket", bytes, rows.len(), bytes as f64 / 1_000.0);
    assert!(bytes <= 14_000, "{bytes} bytes for 1000 buckets");
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (any::<i32>(), 0..7i32).prop_map(|(n, digits)| f64::from(n) / 10f64.powi(digits)),
        2 => (-500..5_000i32).prop_map(|n| f64::from(n) / 10.0),
        1 => any::<i64>().prop_map(|n| n as f64),
        1 => any::<f64>(),
        1 => prop::sample::select(vec![0.0, -0.0, f64::MAX, f64::MIN_POSITIVE, f64::INFINITY, f64::NAN]),
    ]
}

fn some_series() -> impl Strategy<Value = Vec<Series>> {
    let place = (0..40u32, prop_oneof![0..30u32, any::<u32>()]);
    let values = prop::collection::vec(number(), 1..20);
    prop::collection::btree_map(place, values, 0..80).prop_map(|all: BTreeMap<(u32, u32), Vec<f64>>| {
        all.into_iter().map(|((device, attr), values)| series(device, attr, &values)).collect()
    })
}

proptest! {
    #[test]
    fn what_is_stored_comes_back_to_the_bit(all in some_series(), stored_before in 0..u64::MAX / 2) {
        let rows = rollup::encode(&PERIOD, all.iter().copied(), stored_before, ROW_BYTES_MAX);
        let (mut found, mut before) = (Vec::new(), stored_before);
        for (row, part) in rows.iter().zip(0..) {
            prop_assert!(row.len() <= ROW_BYTES_MAX);
            let parsed = Row::parse(row).unwrap();
            prop_assert_eq!((parsed.period, parsed.part, parsed.parts), (PERIOD, part, rows.len() as u32));
            prop_assert_eq!(parsed.stored_before, before);
            before += row.len() as u64;
            let here = parsed.series().unwrap();
            for one in &here {
                let bucket = parsed.bucket(one.device, one.attr).unwrap().unwrap();
                same(&[Series { bucket, ..*one }], &[*one]);
            }
            found.extend(here);
        }
        same(&found, &all);
    }

    #[test]
    fn damage_is_never_believed(all in some_series(), at: prop::sample::Index, bit in 0..8u8) {
        for row in rollup::encode(&PERIOD, all, 0, ROW_BYTES_MAX) {
            let mut bad = row.clone();
            bad[at.index(row.len())] ^= 1u8 << bit;
            prop_assert!(Row::parse(&bad).is_err());
            prop_assert!(Row::parse(&row[..at.index(row.len())]).is_err());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Row::parse(&bytes);
        let mut forged = [&b"FA\x01\0\0\0\0"[..], &bytes].concat();
        let crc = crc32fast::hash(&[&forged[..3], &forged[7..]].concat());
        forged[3..7].copy_from_slice(&crc.to_le_bytes());
        if let Ok(row) = Row::parse(&forged) {
            let _ = row.series();
        }
    }

    #[test]
    fn a_fold_in_two_steps_is_the_fold_in_one(
        changes in prop::collection::vec((0..6u32, prop::collection::vec((0..5u32, -999..999i32), 1..6)), 1..60),
        cut: prop::sample::Index,
    ) {
        let mut body = RecordBuffer::after(Time(0));
        for (device, values) in &changes {
            let mut changes: Vec<_> = values.iter().map(|(attr, n)| (AttrId(*attr), Value::Int(i64::from(*n)))).collect();
            changes.push((AttrId(77), Value::Text("no number".into())));
            body.push_fact(Envelope::default(), &Fact::StateChanged { device: DeviceId(*device), changes });
        }
        let records: Vec<_> = body.records(Seq(1)).map(Result::unwrap).collect();
        let mut whole = Rollup::default();
        records.iter().for_each(|record| whole.add(record, 0).unwrap());
        let (earlier, later) = records.split_at(cut.index(records.len()));
        let mut first = Rollup::default();
        earlier.iter().for_each(|record| first.add(record, 0).unwrap());
        let mut second = Rollup::default();
        first.drain().into_iter().for_each(|series| second.put(series));
        later.iter().for_each(|record| second.add(record, 0).unwrap());
        let mut expected: BTreeMap<(u32, u32), Bucket> = BTreeMap::new();
        for (device, values) in &changes {
            for (attr, n) in values {
                let value = f64::from(*n);
                let new = || Bucket { count: 0, sum: 0.0, ..Bucket::new(0, value) };
                expected.entry((*device, *attr)).or_insert_with(new).add(value);
            }
        }
        let expected: Vec<_> = expected.into_iter()
            .map(|((device, attr), bucket)| Series { device: DeviceId(device), attr: AttrId(attr), bucket })
            .collect();
        same(&whole.drain(), &expected);
        same(&second.drain(), &expected);
        prop_assert!(second.drain().is_empty());
    }
}
