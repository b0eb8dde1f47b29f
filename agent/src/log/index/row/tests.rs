use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::fact::{Availability, AvailabilityCause};
use fieldlog_projections::stored::type_id;
use fieldlog_projections::{AttrId, Fact, Kind, Value};

use super::*;

/// A small generator; the seed is in the message.
fn next(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

fn fact(state: &mut u64, devices: u64) -> Fact {
    let device = DeviceId(next(state, devices) as u32);
    match next(state, 40) {
        0 => Fact::AttributeNamed { attribute: AttrId(0), name: "a".into() },
        1 => Fact::DeviceRetired { device },
        2 => Fact::AvailabilityChanged {
            device,
            availability: Availability::Online,
            cause: AvailabilityCause::Silence,
        },
        3 if next(state, 50) == 0 => {
            Fact::Unknown { kind: Kind { type_id: 4000, version: 1 }, payload: vec![9, 9] }
        }
        _ => Fact::StateChanged { device, changes: vec![(AttrId(0), Value::Int(next(state, 9) as i64))] },
    }
}

/// Position, type and device of a record; the device is `None` twice if this version cannot tell it.
type Made = (Seq, u16, Option<Option<DeviceId>>);

/// A group from `first` on with its records, in chunks of `bytes` stored bytes.
fn make(
    state: &mut u64,
    first: u64,
    devices: u64,
    per_chunk: u64,
    bytes: usize,
    full: bool,
) -> (Group, Vec<Made>) {
    let (mut group, mut made, mut at) = (Group::default(), Vec::new(), first);
    let chunks = if full { u64::MAX } else { 1 + next(state, 60) };
    for _ in 0..chunks {
        let mut buffer = RecordBuffer::default();
        for _ in 0..1 + next(state, 2 * per_chunk) {
            buffer.push_fact(Envelope::default(), &fact(state, devices));
        }
        group.chunk(Seq(at), buffer.len() as u64, bytes);
        for record in buffer.records(Seq(at)) {
            let record = record.unwrap();
            group.record(&record);
            let known = type_name(record.kind.type_id).is_some();
            made.push((record.seq, record.kind.type_id, known.then(|| record.subject().unwrap())));
        }
        at += buffer.len() as u64;
        if group.is_full() {
            break;
        }
    }
    (group, made)
}

#[test]
fn a_row_finds_everything_and_little_else() {
    for seed in 0..60 {
        let mut state = seed;
        let devices = [1, 3, 200, 20_000][seed as usize % 4];
        let bytes = [4_000, 16_000, 100_000][seed as usize % 3];
        let first = 1 + next(&mut state, 1 << 40);
        let (group, made) = make(&mut state, first, devices, 1 + seed, bytes, seed % 2 == 0);
        let stored = group.encode();
        let row = Row::parse(Seq(first), &stored).unwrap_or_else(|| panic!("seed {seed}"));
        assert_eq!((group.first(), row.end()), (Some(Seq(first)), made.last().unwrap().0.next()));
        let mut asked: Vec<Wanted> = (0..40)
            .map(|_| Wanted {
                device: (next(&mut state, 3) > 0).then_some(DeviceId(next(&mut state, devices + 1) as u32)),
                types: (0..next(&mut state, 3))
                    .map(|_| {
                        [type_id::STATE_CHANGED, type_id::DEVICE_RETIRED, type_id::BOOTED, 4000]
                            [next(&mut state, 4) as usize]
                    })
                    .collect(),
            })
            .collect();
        asked.push(Wanted::default());
        for wanted in asked {
            let runs = row.runs(&wanted).unwrap_or_else(|| panic!("seed {seed}: {wanted:?}"));
            assert!(runs.windows(2).all(|pair| pair[0].1 < pair[1].0), "seed {seed}: {wanted:?} {runs:?}");
            let inside = |seq: Seq| runs.iter().any(|(first, end)| (*first..*end).contains(&seq));
            let fits = |(_, type_id, device): &Made| {
                let fits = |asked| device.is_none_or(|device| device == Some(asked));
                (wanted.types.is_empty() || wanted.types.contains(type_id)) && wanted.device.is_none_or(fits)
            };
            let missed = made.iter().find(|record| fits(record) && !inside(record.0));
            assert_eq!(missed, None, "seed {seed}: {wanted:?}");
            if !made.iter().any(|(_, type_id, _)| wanted.types.contains(type_id)) && !wanted.types.is_empty()
            {
                assert_eq!(runs, [], "seed {seed}: {wanted:?}: the row has no such type");
            }
        }
    }
}

#[test]
fn a_rare_device_is_found_in_its_chunk_alone() {
    let mut group = Group::default();
    for chunk in 0..40 {
        group.chunk(Seq(1 + chunk * 100), 100, 16_000);
        let mut buffer = RecordBuffer::default();
        for n in 0..100 {
            let device = if (chunk, n) == (17, 50) { 7_000 } else { n };
            let changes = vec![(AttrId(0), Value::Int(1))];
            buffer.push_fact(Envelope::default(), &Fact::StateChanged { device: DeviceId(device), changes });
        }
        buffer.records(Seq(1 + chunk * 100)).for_each(|record| group.record(&record.unwrap()));
    }
    let stored = group.encode();
    let row = Row::parse(Seq(1), &stored).unwrap();
    let of = |device| row.runs(&Wanted { device: Some(DeviceId(device)), types: Vec::new() }).unwrap();
    assert_eq!(of(7_000), [(Seq(1_701), Seq(1_801))]);
    assert_eq!(of(50), [(Seq(1), Seq(1_701)), (Seq(1_801), Seq(4_001))]);
    assert_eq!(of(6_999), []);
}

#[test]
fn a_row_with_very_many_devices_becomes_coarser_and_stays_small() {
    let mut state = 1;
    for (devices, part) in [(500, 200), (10_000, PART), (50_000, 35)] {
        // 25 bytes a record, as in practice.
        let (group, made) = make(&mut state, 1, devices, 650, 16_250, true);
        let (row, chunks) = (group.encode().len(), 25 * made.len());
        assert!(row <= chunks / part, "{devices} devices: {row} bytes for {chunks} of chunks");
    }
    // In the worst case each record is of another device: then a row says only which devices it has.
    let (group, made) = make(&mut state, 1, u64::from(u32::MAX), 650, 16_250, true);
    let row = group.encode();
    assert_eq!(Row::parse(Seq(1), &row).unwrap().coarse, UNITS.ilog2());
    assert!(row.len() < 4 * made.len(), "{} bytes for {} records", row.len(), made.len());
}

#[test]
fn a_damaged_row_is_recognised() {
    let (group, _) = make(&mut 3, 1, 50, 20, 16_000, true);
    let stored = group.encode();
    assert!(Row::parse(Seq(1), &stored).is_some());
    assert!(Row::parse(Seq(2), &stored).is_none(), "it is of another position");
    for at in 0..stored.len() {
        let mut bad = stored.clone();
        bad[at] ^= 0x10;
        assert!(Row::parse(Seq(1), &bad).is_none(), "byte {at}");
        assert!(Row::parse(Seq(1), &stored[..at]).is_none(), "cut at {at}");
    }
}
