//! Aggregates compared with a naive model.

use std::collections::BTreeMap;

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::{AttrId, Bucket, DeviceId, Fact, Seq, Time, Value, View, Window};
use proptest::prelude::*;

use crate::given::WINDOWS;

const DEVICE: DeviceId = DeviceId(0);
const ATTR: AttrId = AttrId(4);

/// A view of one device whose attribute had these values at these times.
fn view(values: &[(i64, i32)]) -> View {
    let mut body = RecordBuffer::after(Time(i64::MIN));
    let device = Fact::DeviceDiscovered {
        device: DEVICE,
        name: "d".into(),
        source: "s".into(),
        parent: None,
        identity: None,
    };
    body.push_fact(Envelope { wall: Time(values[0].0), ..Envelope::default() }, &device);
    for (time, value) in values {
        let changes = vec![
            (AttrId(0), Value::Text("not a number".into())),
            (ATTR, Value::Float(f64::from(*value))),
            (AttrId(1), Value::Int(1)),
        ];
        let fact = Fact::StateChanged { device: DEVICE, changes };
        body.push_fact(Envelope { wall: Time(*time), ..Envelope::default() }, &fact);
    }
    let mut view = View::new(WINDOWS.to_vec());
    view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
    view
}

/// What the buckets of a window must be; sums of whole numbers are exact in any order.
fn naive(values: &[(i64, i32)], window: Window) -> Vec<Bucket> {
    let mut groups: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (time, value) in values {
        let length = i64::from(window.length_s);
        let start = time.div_euclid(1_000_000).div_euclid(length) * length;
        groups.entry(start).or_default().push(f64::from(*value));
    }
    let bucket = |(start_s, values): (i64, Vec<f64>)| Bucket {
        start_s,
        count: values.len() as u32,
        min: values.iter().copied().fold(f64::INFINITY, f64::min),
        max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        sum: values.iter().sum(),
        last: *values.last().unwrap(),
    };
    groups.into_iter().map(bucket).collect()
}

/// Times with pauses of all lengths, around 1970 as well as today.
fn values() -> impl Strategy<Value = Vec<(i64, i32)>> {
    let pause = prop_oneof![
        6 => 0..90_000_000i64,
        3 => 0..5_000_000_000i64,
        1 => 0..400_000_000_000i64,
        1 => Just(60_000_000i64),
    ];
    let start = prop_oneof![Just(1_700_000_000_000_000i64), -200_000_000_000i64..0];
    (start, prop::collection::vec((pause, any::<i32>()), 1..150)).prop_map(|(start, steps)| {
        let mut time = start;
        let step = |(pause, value)| {
            time += pause;
            (time, value)
        };
        steps.into_iter().map(step).collect()
    })
}

fn all(view: &View, window: Window) -> Vec<Bucket> {
    view.aggregates.buckets(DEVICE, ATTR, window, i64::MIN, i64::MAX)
}

#[test]
fn a_value_on_the_edge_belongs_to_the_bucket_that_begins_there() {
    let view = view(&[(59_999_999, 1), (60_000_000, 2), (119_999_999, 3), (120_000_000, 4)]);
    let starts: Vec<(i64, u32)> = all(&view, WINDOWS[0]).iter().map(|b| (b.start_s, b.count)).collect();
    assert_eq!(starts, [(0, 1), (60, 2), (120, 1)]);
}

#[test]
fn what_is_not_there_is_empty() {
    let view = view(&[(0, 1)]);
    let other = Window { length_s: 7, keep: 1 };
    let buckets = |device, attr, window| view.aggregates.buckets(device, attr, window, i64::MIN, i64::MAX);
    assert!(buckets(DeviceId(9), ATTR, WINDOWS[0]).is_empty());
    assert!(buckets(DEVICE, AttrId(0), WINDOWS[0]).is_empty(), "text has no buckets");
    assert!(buckets(DEVICE, ATTR, other).is_empty());
    assert_eq!(view.aggregates.complete_from_s(DEVICE, ATTR, WINDOWS[0]), None);
}

#[test]
fn the_end_of_time_is_survived() {
    view(&[(i64::MAX - 1, 1), (i64::MAX, 2)]);
}

proptest! {
    #[test]
    fn buckets_are_what_naive_grouping_gives(values in values()) {
        let view = view(&values);
        for window in WINDOWS {
            let found = all(&view, window);
            let naive = naive(&values, window);
            // Those that are open, in this window or a shorter one, are not counted by `keep`.
            prop_assert!(found.len() >= naive.len().min(window.keep as usize));
            prop_assert!(found.len() <= window.keep as usize + 3, "{} are kept", found.len());
            prop_assert_eq!(&found[..], &naive[naive.len() - found.len()..]);
            if let Some(from_s) = view.aggregates.complete_from_s(DEVICE, ATTR, window) {
                let complete: Vec<_> = naive.iter().filter(|b| b.start_s >= from_s).copied().collect();
                let answered = view.aggregates.buckets(DEVICE, ATTR, window, from_s, i64::MAX);
                prop_assert_eq!(answered, complete);
            } else {
                prop_assert_eq!(found.len(), naive.len(), "something is missing and it does not say so");
            }
        }
    }

    #[test]
    fn a_range_is_a_range_of_all(values in values(), from: prop::sample::Index, to: prop::sample::Index) {
        let view = view(&values);
        for window in WINDOWS {
            let all = all(&view, window);
            let (from, to) = (all[from.index(all.len())].start_s, all[to.index(all.len())].start_s);
            let found = view.aggregates.buckets(DEVICE, ATTR, window, from, to);
            let expected: Vec<_> = all.into_iter().filter(|b| b.start_s >= from && b.start_s < to).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
