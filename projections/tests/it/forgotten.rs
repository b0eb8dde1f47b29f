//! Retired devices that were forgotten: only their number stays.

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::snapshot::{self, HEADER_BYTES};
use fieldlog_projections::view::FoldError;
use fieldlog_projections::{Aggregates, AttrId, DeviceId, Epoch, Fact, Seq, Time, Value, View, Window};

use crate::given::{WINDOWS, layout_1};

const OLD: DeviceId = DeviceId(0);
const NEW: DeviceId = DeviceId(1);
const ATTR: AttrId = AttrId(0);

fn discovered(device: DeviceId) -> Fact {
    Fact::DeviceDiscovered {
        device,
        name: "lamp".into(),
        source: "home".into(),
        parent: None,
        identity: None,
    }
}

fn state(device: DeviceId, value: i64) -> Fact {
    Fact::StateChanged { device, changes: vec![(ATTR, Value::Int(value))] }
}

fn body(facts: &[Fact]) -> RecordBuffer {
    let mut body = RecordBuffer::after(Time(1_700_000_000_000_000));
    for fact in facts {
        body.push_fact(Envelope { wall: body.last_time(), ..Envelope::default() }, fact);
    }
    body
}

/// A device that was retired and forgotten, and came back.
fn story() -> Vec<Fact> {
    vec![
        discovered(OLD),
        Fact::AttributeNamed { attribute: ATTR, name: "level".into() },
        state(OLD, 3),
        Fact::DeviceRetired { device: OLD },
        Fact::DeviceForgotten { device: OLD },
        discovered(NEW),
        state(NEW, 5),
    ]
}

fn folded(facts: &[Fact]) -> View {
    let mut view = View::new(WINDOWS.to_vec());
    view.apply_records(body(facts).records(Seq(1)), Seq(u64::MAX)).unwrap();
    view
}

#[test]
fn the_number_stays_and_everything_else_goes() {
    let mut facts = story();
    facts.truncate(5);
    let view = folded(&facts);
    assert!(
        view.devices.get(OLD).is_none() && view.devices.knows(OLD) && view.devices.find("lamp").is_none()
    );
    assert_eq!((view.devices.len(), view.devices.forgotten(), view.devices.iter().count()), (1, 1, 0));
    assert!(!view.aggregates.has(OLD, ATTR));

    let view = folded(&story());
    let (id, lamp) = view.devices.find("lamp").unwrap();
    assert_eq!((id, &lamp.value(ATTR).unwrap().value), (NEW, &Value::Int(5)));
    assert!(view.aggregates.has(NEW, ATTR));
}

#[test]
fn what_is_still_said_of_it_is_passed_over() {
    let mut facts = story();
    facts.extend([state(OLD, 7), Fact::DeviceRetired { device: OLD }, Fact::DeviceForgotten { device: OLD }]);
    let view = folded(&facts);
    assert!(view.devices.get(OLD).is_none() && !view.aggregates.has(OLD, ATTR));
    assert_eq!((view.seq, view.devices.forgotten()), (Seq(10), 1));

    // Its number is not given again, and a number that was never given is not forgotten.
    for fact in [discovered(OLD), Fact::DeviceForgotten { device: DeviceId(9) }] {
        let facts: Vec<Fact> = story().into_iter().chain([fact]).collect();
        let result = View::new(Vec::new()).apply_records(body(&facts).records(Seq(1)), Seq(u64::MAX));
        assert!(
            matches!(result, Err(FoldError::Numbering { .. } | FoldError::UnknownDevice { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn aggregates_that_are_folded_later_have_nothing_of_it() {
    let (facts, view) = (story(), folded(&story()));
    let mut aggregates = Aggregates::new(WINDOWS.to_vec());
    for record in body(&facts).records(Seq(1)) {
        view.devices.apply_to(&mut aggregates, &record.unwrap()).unwrap();
    }
    assert!(aggregates == view.aggregates);
    // The devices may also be those of before.
    let before = folded(&facts[..4]);
    let mut aggregates = Aggregates::new(WINDOWS.to_vec());
    for record in body(&facts[..5]).records(Seq(1)) {
        before.devices.apply_to(&mut aggregates, &record.unwrap()).unwrap();
    }
    assert!(!aggregates.has(OLD, ATTR));
}

/// `(version of the devices, CRC-32 of the snapshot)` of a log that forgets nothing, which is as it was before there was
/// such a thing, and of one that does. Never change the first.
const GOLDEN: [(u8, u32); 2] = [(1, 0xd14f_ed87), (2, 0x1433_f346)];

#[test]
fn a_snapshot_is_of_the_first_version_as_long_as_it_can_be() {
    let facts = story();
    for (facts, golden) in [&facts[..4], &facts].into_iter().zip(GOLDEN) {
        let view = folded(facts);
        let bytes = layout_1(&view);
        let found = (bytes[HEADER_BYTES + 17], crc32fast::hash(&bytes));
        assert_eq!(found, golden, "{found:#x?}");
        let restored = snapshot::decode(&bytes, &WINDOWS).unwrap();
        assert!(restored.devices == view.devices && restored.aggregates == view.aggregates);
        assert_eq!(restored.devices.forgotten(), view.devices.forgotten());
        assert_eq!(layout_1(&restored), bytes);
    }
}

#[test]
fn what_is_shared_does_not_change_with_the_view() {
    let facts = story();
    let mut view = folded(&facts[..3]);
    let (shared, before) = (view.share(), snapshot::encode(&view, Epoch(1)).unwrap());
    let (all, from) = (body(&facts), view.seq);
    view.apply_records(all.records(Seq(1)), Seq(u64::MAX)).unwrap();
    assert!(view.seq > from && view == folded(&facts));
    assert_eq!(snapshot::encode(&shared, Epoch(1)).unwrap(), before);
}

#[test]
fn series_take_no_more_than_is_booked_for_them() {
    let window = |length_s, keep| Window { length_s, keep };
    let check = |windows: &[Window], least: usize, most: usize| {
        let bytes = Aggregates::series_bytes_max(windows);
        assert!((least..=most).contains(&bytes), "{bytes} bytes for {windows:?}");
    };
    check(&[], 0, 0);
    check(&[window(60, 60), window(3_600, 48), window(86_400, 35)], 143 * 48, 8_000);
    check(&[window(60, 100_000)], 4_800_000, 4_801_000);
}
