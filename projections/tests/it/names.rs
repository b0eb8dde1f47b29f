//! Namespaces and renamed devices.

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::fact::Identity;
use fieldlog_projections::snapshot::{self, HEADER_BYTES};
use fieldlog_projections::{DeviceId, Epoch, Fact, Seq, Time, View};

use crate::given::{WINDOWS, layout_1};

const LAMP: DeviceId = DeviceId(0);

fn identity(name: &str) -> Option<Identity> {
    Some(Identity { namespace: "home".into(), name: name.into() })
}

fn discovered(device: DeviceId, name: &str, identity: Option<Identity>) -> Fact {
    Fact::DeviceDiscovered { device, name: name.into(), source: "home".into(), parent: None, identity }
}

fn renamed(name: &str, called: &str) -> Fact {
    Fact::DeviceRenamed { device: LAMP, name: name.into(), called: called.into() }
}

fn folded(facts: &[Fact]) -> View {
    let mut body = RecordBuffer::after(Time(1_700_000_000_000_000));
    for fact in facts {
        body.push_fact(Envelope { wall: body.last_time(), ..Envelope::default() }, fact);
    }
    let mut view = View::new(WINDOWS.to_vec());
    view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
    view
}

/// The view, which is what a snapshot of it restores, and the version of the devices in that.
fn restored(facts: &[Fact]) -> (View, u8) {
    let view = folded(facts);
    let bytes = snapshot::encode(&view, Epoch(1)).unwrap();
    let restored = snapshot::decode(&bytes, &WINDOWS).unwrap();
    assert!(restored == view && restored.stale().is_empty());
    (restored, bytes[HEADER_BYTES + 18])
}

#[test]
fn an_identity_that_is_recorded_later_is_of_the_same_device() {
    let (view, version) = restored(&[discovered(LAMP, "lamp", None)]);
    assert_eq!((view.devices.get(LAMP).unwrap().namespace(), version), (None, 1));
    let claimed = [discovered(LAMP, "lamp", None), discovered(LAMP, "lamp", identity("lamp"))];
    let (view, version) = restored(&claimed);
    let lamp = view.devices.get(LAMP).unwrap();
    assert_eq!((lamp.namespace(), lamp.called(), lamp.events, version), (Some("home"), "lamp", 2, 3));
    // A record of an older version does not take it away.
    let (view, _) = restored(&[&claimed[..], &[discovered(LAMP, "lamp", None)]].concat());
    assert_eq!(view.devices.get(LAMP).unwrap().namespace(), Some("home"));
}

#[test]
fn a_renamed_device_is_found_by_both_ids() {
    let facts = [discovered(LAMP, "lamp", identity("lamp")), renamed("hall@home", "hall")];
    let (view, version) = restored(&facts);
    let (id, device) = view.devices.find("hall@home").unwrap();
    assert_eq!((id, &*device.name, device.called(), version), (LAMP, "hall@home", "hall", 3));
    assert_eq!(device.former.iter().map(|name| &**name).collect::<Vec<_>>(), ["lamp"]);
    assert!(view.devices.find("lamp").is_none());
    assert_eq!(view.devices.find_ever("lamp").unwrap().0, LAMP);
    assert_eq!(view.devices.renames(), 1);
    // Who has the id now comes before who had it.
    let facts = [&facts[..], &[discovered(DeviceId(1), "lamp", None)]].concat();
    assert_eq!(restored(&facts).0.devices.find_ever("lamp").unwrap().0, DeviceId(1));
}

/// CRC-32 of a snapshot of version 3. Never change it.
const GOLDEN: u32 = 0xd9e5_2f54;

#[test]
fn golden_snapshot() {
    let facts = [
        discovered(LAMP, "lamp", identity("lamp")),
        renamed("hall@home", "hall"),
        discovered(DeviceId(1), "fan", None),
        discovered(DeviceId(2), "old", None),
        Fact::DeviceRetired { device: DeviceId(2) },
        Fact::DeviceForgotten { device: DeviceId(2) },
    ];
    let bytes = layout_1(&folded(&facts));
    let found = crc32fast::hash(&bytes);
    assert_eq!((bytes[HEADER_BYTES + 17], found), (3, GOLDEN), "{found:#x}");
    restored(&facts);
}

#[test]
fn an_id_that_comes_back_is_a_former_one_no_more() {
    let facts = [discovered(LAMP, "lamp", None), renamed("hall", "hall"), renamed("lamp", "lamp")];
    let (view, _) = restored(&facts);
    assert_eq!(view.devices.find("lamp").unwrap().0, LAMP);
    assert_eq!(view.devices.get(LAMP).unwrap().former.iter().map(|n| &**n).collect::<Vec<_>>(), ["hall"]);
    assert_eq!(view.devices.renames(), 2);
    let gone = [&facts[..], &[Fact::DeviceForgotten { device: LAMP }]].concat();
    let (view, _) = restored(&gone);
    assert!(view.devices.find_ever("lamp").is_none() && view.devices.find_ever("hall").is_none());
    assert_eq!(view.devices.renames(), 0);
}

#[test]
fn of_many_ids_the_oldest_are_no_longer_known() {
    let names = (0..20).map(|n| renamed(&format!("n{n}"), "x"));
    let facts: Vec<Fact> = [discovered(LAMP, "lamp", None)].into_iter().chain(names).collect();
    let (view, _) = restored(&facts);
    assert_eq!(view.devices.get(LAMP).unwrap().former.len(), 8);
    assert!(view.devices.find_ever("n10").is_none() && view.devices.find_ever("n11").is_some());
}
