//! Snapshots: restored exactly or refused.

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::fold::Fold;
use fieldlog_projections::snapshot::{self, HEADER_BYTES, SnapshotError};
use fieldlog_projections::{
    Aggregates, AttrId, Commands, Descriptions, DeviceId, Epoch, Fact, Seq, Sessions, Time, Value, View,
    Window,
};
use proptest::prelude::*;

use crate::given::{WINDOWS, history, layout_1, seal};

fn some_view(body: &RecordBuffer) -> View {
    let mut view = View::new(WINDOWS.to_vec());
    view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
    view
}

#[test]
fn golden_header() {
    let mut view = View::new(Vec::new());
    view.seq = Seq(0x0102);
    view.time.0 = 0x0304;
    let bytes = snapshot::encode(&view, Epoch(0xfe)).unwrap();
    let payload = bytes.len() - HEADER_BYTES;
    assert_eq!(bytes[..8], *b"FLSN\x02\0\0\0");
    assert_eq!(bytes[8..16], [0xfe, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[16..24], [2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[24..32], [4, 3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[32..40], [payload as u8, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[40..44], crc32fast::hash(&bytes[HEADER_BYTES..]).to_le_bytes());
    // Boot id, clock; number, version, length and bytes of devices, aggregates, descriptions, sessions and commands.
    let golden = [&[0; 17][..], &[1, 1, 2, 0, 0], &[2, 2, 3, 0, 0, 0], &[3, 1, 1, 0], &[5, 1, 1, 0]];
    let golden = [golden.concat(), vec![6, 3, 21], vec![0; 21]].concat();
    assert_eq!(bytes[HEADER_BYTES..], golden);
}

#[test]
fn a_snapshot_from_before_sections_had_numbers_is_read() {
    let restored = snapshot::decode(&layout_1(&View::new(Vec::new())), &[]).unwrap();
    assert_eq!(restored.stale(), [Descriptions::ID, Sessions::ID, Commands::ID]);
    assert!(restored.devices == View::new(Vec::new()).devices);
}

#[test]
fn aggregates_of_version_1_are_complete_ones() {
    let mut bytes = layout_1(&View::new(Vec::new()));
    bytes.truncate(HEADER_BYTES + 21);
    bytes.extend([1, 2, 0, 0]);
    bytes[32] = 25;
    seal(&mut bytes);
    let view = snapshot::decode(&bytes, &[]).unwrap();
    assert!(!view.is_stale(Aggregates::ID));
    assert_eq!(view.aggregates.missing_until(), None);
}

#[test]
fn what_aggregates_miss_is_not_forgotten() {
    let mut view = View::new(WINDOWS.to_vec());
    view.aggregates.miss(Time(5));
    view.aggregates.miss(Time(3));
    let bytes = snapshot::encode(&view, Epoch(1)).unwrap();
    let restored = snapshot::decode(&bytes, &WINDOWS).unwrap();
    assert_eq!(restored.aggregates.missing_until(), Some(Time(5)));
}

#[test]
fn another_version_is_named() {
    let view = View::new(WINDOWS.to_vec());
    let bytes = layout_1(&view);
    let check = |at: usize, expected: Option<SnapshotError>| {
        let mut other = bytes.clone();
        other[at] = 77;
        seal(&mut other);
        match (snapshot::decode(&other, &WINDOWS), expected) {
            (Ok(restored), None) => assert!(restored.is_stale(Aggregates::ID)),
            (result, expected) => assert_eq!(result.err(), expected),
        }
    };
    check(4, Some(SnapshotError::Version(77)));
    check(HEADER_BYTES + 17, Some(SnapshotError::Fold { found: 77 }));
    // The version of the aggregates; the devices are good all the same.
    check(HEADER_BYTES + 21, None);
}

#[test]
fn other_windows_make_only_the_aggregates_stale() {
    let view = View::new(WINDOWS.to_vec());
    let bytes = snapshot::encode(&view, Epoch(1)).unwrap();
    let longer = Window { keep: WINDOWS[0].keep + 1, ..WINDOWS[0] };
    for windows in [&[][..], &WINDOWS[..2], &[longer, WINDOWS[1], WINDOWS[2]]] {
        let restored = snapshot::decode(&bytes, windows).unwrap();
        assert!(restored.stale() == [Aggregates::ID]);
        assert_eq!(restored.aggregates.windows(), windows);
    }
    assert!(snapshot::decode(&bytes, &WINDOWS).unwrap().stale().is_empty());
}

proptest! {
    #[test]
    fn damage_is_never_believed(body in history(1..40), bit: prop::sample::Index, cut: prop::sample::Index) {
        let view = some_view(&body);
        let bytes = snapshot::encode(&view, Epoch(9)).unwrap();
        let restored = snapshot::decode(&bytes, &WINDOWS).unwrap();
        prop_assert!(restored == view);
        prop_assert_eq!(snapshot::encode(&restored, Epoch(9)).unwrap(), bytes.clone());
        // The index by name is not stored, but made again.
        for (id, device) in view.devices.iter() {
            prop_assert_eq!(
                restored.devices.find(&device.name).map(|(id, _)| id),
                view.devices.find(&device.name).map(|(id, _)| id),
                "{:?}", id
            );
        }
        let mut flipped = bytes.clone();
        let bit = bit.index(bytes.len() * 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(snapshot::decode(&flipped, &WINDOWS).is_err(), "bit {} flipped unnoticed", bit);
        prop_assert!(snapshot::decode(&bytes[..cut.index(bytes.len())], &WINDOWS).is_err());
        prop_assert!(snapshot::decode(&[&bytes[..], &[0]].concat(), &WINDOWS).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = snapshot::decode(&bytes, &WINDOWS);
        let mut forged = snapshot::encode(&View::new(WINDOWS.to_vec()), Epoch(1)).unwrap()[..HEADER_BYTES].to_vec();
        forged.extend_from_slice(&bytes);
        forged[32..40].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        seal(&mut forged);
        let _ = snapshot::decode(&forged, &WINDOWS);
    }
}

/// Prints the size of a snapshot, as a gateway of 500 devices with 4 attributes each writes it.
#[test]
#[ignore = "a measurement: cargo test -p fieldlog-projections --release --test it -- --ignored --nocapture sections"]
fn the_bytes_of_the_sections() {
    let windows = [(60, 60), (3_600, 48), (86_400, 35)].map(|(length_s, keep)| Window { length_s, keep });
    let mut view = View::new(windows.to_vec());
    let mut body = RecordBuffer::after(Time(1_700_000_000_000_000));
    let flush = |view: &mut View, body: &mut RecordBuffer| {
        view.apply_records(body.records(view.seq.next()), Seq(u64::MAX)).unwrap();
        *body = RecordBuffer::after(view.time);
    };
    for device in (0..500).map(DeviceId) {
        let (name, source) = (format!("plant/line/machine-{}", device.0), "plant".into());
        let fact = Fact::DeviceDiscovered { device, name, source, parent: None, identity: None };
        body.push_fact(Envelope { wall: body.last_time(), ..Envelope::default() }, &fact);
    }
    for attribute in (0..4).map(AttrId) {
        let fact = Fact::AttributeNamed { attribute, name: format!("attribute-{}", attribute.0) };
        body.push_fact(Envelope { wall: body.last_time(), ..Envelope::default() }, &fact);
    }
    flush(&mut view, &mut body);
    // Hours for 40 days, and then minutes, so that all windows are full.
    let steps = std::iter::repeat_n(3_600_000_000, 40 * 24).chain(std::iter::repeat_n(60_000_000, 90));
    let mut wall = body.last_time().0;
    for (number, step) in steps.enumerate() {
        wall += step;
        for device in 0..500 {
            let value = |attr: u32| f64::from((number as u32 * 7 + device * 13 + attr * 5) % 1_000) / 10.0;
            let changes = (0..4).map(|attr| (AttrId(attr), Value::Float(value(attr)))).collect();
            let fact = Fact::StateChanged { device: DeviceId(device), changes };
            body.push_fact(Envelope { wall: Time(wall), ..Envelope::default() }, &fact);
        }
        flush(&mut view, &mut body);
    }
    let whole = snapshot::encode(&view, Epoch(1)).unwrap();
    let aggregates = postcard::to_stdvec(&view.aggregates).unwrap().len();
    println!("snapshot {} bytes, of these {aggregates} of aggregates", whole.len());
    assert!(aggregates * 10 > whole.len() * 9);
}
