//! Folds: the same records give the same state, wherever folding starts.

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::fact::{Availability, AvailabilityCause, ClockQuality, DeclaredMetric};
use fieldlog_projections::fold::Section;
use fieldlog_projections::stored::encode_state_changed_v1;
use fieldlog_projections::view::{FoldError, Rebuild};
use fieldlog_projections::{
    Aggregates, Alerts, AttrId, AttributeDescription, Commands, DescribedBy, Descriptions, DeviceDescription,
    DeviceId, Epoch, Fact, Kind, Named, Seq, Sessions, Settings, Time, Value, View, aggregates, descriptions,
    devices, snapshot,
};
use proptest::prelude::*;

use crate::given::{WINDOWS, history};

fn folded(body: &RecordBuffer) -> View {
    let mut view = View::new(WINDOWS.to_vec());
    view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
    view
}

fn settings() -> Settings {
    Settings { windows: WINDOWS.to_vec(), ..Settings::default() }
}

fn bytes(view: &View) -> Vec<u8> {
    snapshot::encode(view, Epoch(1)).unwrap()
}

/// Records of every type, with what the folds have branches for. Never change it: add another one beside it.
fn fixed() -> RecordBuffer {
    let mut body = RecordBuffer::after(Time(1_700_000_000_000_000));
    let mut wall = 1_700_000_000_000_000;
    let mut push = |step_s: i64, device_time: Option<i64>, fact: Fact| {
        wall += step_s * 1_000_000;
        body.push_fact(Envelope { wall: Time(wall), device_time: device_time.map(Time), cause: None }, &fact);
    };
    let discovered = |device: u32, name: &str, parent: Option<u32>| Fact::DeviceDiscovered {
        device: DeviceId(device),
        name: name.into(),
        source: "home".into(),
        parent: parent.map(DeviceId),
        identity: None,
    };
    let state = |device: u32, changes: &[(u32, Value)]| Fact::StateChanged {
        device: DeviceId(device),
        changes: changes.iter().map(|(attr, value)| (AttrId(*attr), value.clone())).collect(),
    };
    let available = |device: u32, availability, cause| Fact::AvailabilityChanged {
        device: DeviceId(device),
        availability,
        cause,
    };
    let named =
        |attribute: u32, name: &str| Fact::AttributeNamed { attribute: AttrId(attribute), name: name.into() };
    push(0, None, Fact::Booted { boot_id: [7; 16], version: "1".into(), clock: ClockQuality::Synchronised });
    push(1, None, discovered(0, "bridge", None));
    push(0, None, discovered(1, "kitchen/sensor", Some(0)));
    push(0, None, named(0, "temperature"));
    push(0, None, named(1, "state"));
    push(0, None, named(2, "text"));
    for n in 0..200 {
        let temperature = Value::Float(f64::from(n % 17) + 0.25);
        push(599, Some(i64::from(n)), state(1, &[(0, temperature), (1, Value::Bool(n % 2 == 0))]));
    }
    push(1, None, state(1, &[(2, Value::Text("a".into())), (0, Value::Int(3)), (1, Value::Null)]));
    push(1, None, state(0, &[(2, Value::Json("[1]".into())), (0, Value::Uint(u64::MAX))]));
    push(-7_200, None, available(0, Availability::Offline, AvailabilityCause::Silence));
    push(7_300, None, available(1, Availability::Online, AvailabilityCause::Topic));
    push(5, None, Fact::DeviceRetired { device: DeviceId(1) });
    push(5, None, discovered(1, "kitchen/sensor", None));
    push(
        5,
        None,
        Fact::ActionFired { device: DeviceId(1), attribute: AttrId(1), value: Value::Text("hold".into()) },
    );
    push(
        5,
        None,
        Fact::InputQuarantined { source: "s".into(), topic: "t".into(), reason: "r".into(), size: 1 },
    );
    push(5, None, Fact::ClockStepped { expected: Time(1), found: Time(2) });
    push(5, None, Fact::ConfigChanged { keys: vec!["a".into()] });
    push(5, None, Fact::Unknown { kind: Kind { type_id: 999, version: 1 }, payload: vec![1] });
    body.push(Envelope { wall: Time(wall + 90_000_000_000), ..Envelope::default() }, |out| {
        encode_state_changed_v1(DeviceId(1), &[(AttrId(0), Value::Float(1.5))], out)
    });
    let device = DeviceId(1);
    let unit = |unit: &str| AttributeDescription { unit: unit.into(), ..AttributeDescription::default() };
    let attribute = |attribute: u32, by, description| Fact::AttributeDescribed {
        device,
        attribute: AttrId(attribute),
        by,
        description,
    };
    let name = DeviceDescription { name: "Sensor".into(), ..DeviceDescription::default() };
    for fact in [
        Fact::DeviceDescribed { device, by: DescribedBy::Announcement, description: name },
        attribute(1, DescribedBy::Discovery, unit("V")),
        attribute(0, DescribedBy::Announcement, unit("°C")),
        attribute(0, DescribedBy::Operator, unit("K")),
        attribute(0, DescribedBy::Operator, unit("")),
    ] {
        body.push_fact(Envelope { wall: body.last_time(), ..Envelope::default() }, &fact);
    }
    body
}

/// `(version of the fold, CRC-32 of what it makes of [`fixed`])`.
const DEVICES_GOLDEN: (u16, u32) = (3, 0x759d_5428);
const AGGREGATES_GOLDEN: (u16, u32) = (2, 0x094b_e33e);
const DESCRIPTIONS_GOLDEN: (u16, u32) = (1, 0x51c6_c3fc);
const SESSIONS_GOLDEN: (u16, u32) = (1, 0x78ee_ae2b);
const COMMANDS_UNTRACED_GOLDEN: (u16, u32) = (3, 0x8a06_6ffb);
const COMMANDS_GOLDEN: (u16, u32) = (4, 0x2294_bebe);
const NAMED_GOLDEN: (u16, u32) = (1, 0xf24a_483c);
const ALERTS_GOLDEN: (u16, u32) = (1, 0x65db_5193);

/// An edge node with its device, a device that was forgotten, and a session whose number counts no more.
fn sessions() -> RecordBuffer {
    let mut body = RecordBuffer::after(Time(1_700_000_000_000_000));
    let wall = body.last_time();
    let mut push = |fact: Fact| body.push_fact(Envelope { wall, ..Envelope::default() }, &fact);
    let metric = |attribute, alias| DeclaredMetric { attribute, alias, datatype: 10 };
    for device in 0..3 {
        let (name, source) = (format!("g/{device}"), "s".into());
        push(Fact::DeviceDiscovered { device: DeviceId(device), name, source, parent: None, identity: None });
        let metrics = vec![metric(Some(AttrId(device)), Some(300)), metric(None, None)];
        push(Fact::MetricsDeclared { device: DeviceId(device), metrics });
    }
    push(Fact::SessionNoted { device: DeviceId(0), birth: Some(7), seq: Some(255) });
    push(Fact::Booted { boot_id: [1; 16], version: "v".into(), clock: ClockQuality::Synchronised });
    push(Fact::SessionNoted { device: DeviceId(1), birth: None, seq: Some(3) });
    push(Fact::DeviceRetired { device: DeviceId(2) });
    push(Fact::DeviceForgotten { device: DeviceId(2) });
    body
}

#[test]
fn changing_a_fold_means_raising_its_version() {
    let view = folded(&fixed());
    assert_eq!(
        View::FOLDS,
        [Aggregates::ID, Descriptions::ID, Sessions::ID, Commands::ID, Named::ID, Alerts::ID],
        "each fold has its line here, with records in `fixed` or of its own that it has branches for"
    );
    let check = |name: &str, version: u16, golden: (u16, u32), bytes: Vec<u8>| {
        let found = (version, crc32fast::hash(&bytes));
        assert_eq!(
            found, golden,
            "the fold `{name}` makes another state of the same records, or is stored in another way. Snapshots of \
             earlier versions must not be taken for its state: raise `{name}::VERSION`, and then write {found:#x?} into \
             this test"
        );
    };
    check("devices", devices::VERSION, DEVICES_GOLDEN, postcard::to_stdvec(&view.devices).unwrap());
    check(
        "aggregates",
        aggregates::VERSION,
        AGGREGATES_GOLDEN,
        postcard::to_stdvec(&view.aggregates).unwrap(),
    );
    check(
        "descriptions",
        descriptions::VERSION,
        DESCRIPTIONS_GOLDEN,
        postcard::to_stdvec(&view.descriptions).unwrap(),
    );
    let sessions = folded(&sessions()).sessions;
    check(
        "sessions",
        fieldlog_projections::sessions::VERSION,
        SESSIONS_GOLDEN,
        postcard::to_stdvec(&sessions).unwrap(),
    );
    let (untraced, traced) = (crate::commands::lives(), crate::commands::traced());
    for (lives, golden) in [(untraced, COMMANDS_UNTRACED_GOLDEN), (traced, COMMANDS_GOLDEN)] {
        let commands = crate::commands::folded(&lives).commands;
        check("commands", commands.version(), golden, postcard::to_stdvec(&commands).unwrap());
    }
    assert_eq!(fieldlog_projections::commands::VERSION, COMMANDS_GOLDEN.0);
    let named = crate::named::folded(&crate::named::energy()).named;
    check("named", fieldlog_projections::named::VERSION, NAMED_GOLDEN, postcard::to_stdvec(&named).unwrap());
    let alerts = crate::alerts::folded(&crate::alerts::lives()).alerts;
    check(
        "alerts",
        fieldlog_projections::alerts::VERSION,
        ALERTS_GOLDEN,
        postcard::to_stdvec(&alerts).unwrap(),
    );
}

#[test]
fn the_fixed_records_come_to_what_one_would_expect() {
    let view = folded(&fixed());
    let (id, sensor) = view.devices.find("kitchen/sensor").unwrap();
    assert_eq!((id, sensor.retired, sensor.parent, sensor.events), (DeviceId(1), false, None, 207));
    assert_eq!(sensor.device_time, Some(Time(199)));
    assert_eq!(sensor.value(AttrId(0)).unwrap().value, Value::Float(1.5));
    assert!(sensor.value(AttrId(1)).is_none(), "removed");
    assert_eq!(sensor.availability, Availability::Online);
    let (_, bridge) = view.devices.find("bridge").unwrap();
    assert_eq!(bridge.availability, Availability::Offline);
    assert_eq!(view.devices.attribute_named("state"), Some(AttrId(1)));
    assert_eq!((view.seq, view.boot_id), (Seq(223), [7; 16]));
    assert_eq!(view.clock, ClockQuality::Synchronised);
}

#[test]
fn what_no_record_introduces_is_refused() {
    let check = |fact: Fact, expected: FoldError| {
        let mut body = RecordBuffer::after(Time(0));
        body.push_fact(Envelope::default(), &fact);
        let result = View::new(Vec::new()).apply_records(body.records(Seq(1)), Seq(9));
        assert_eq!(result, Err(expected));
        assert!(expected.to_string().contains("sequence 1"));
    };
    let (seq, device) = (Seq(1), DeviceId(3));
    check(Fact::StateChanged { device, changes: Vec::new() }, FoldError::UnknownDevice { seq, device });
    check(Fact::DeviceRetired { device }, FoldError::UnknownDevice { seq, device });
    check(Fact::AttributeNamed { attribute: AttrId(1), name: "x".into() }, FoldError::Numbering { seq });
    let far =
        Fact::DeviceDiscovered { device, name: "x".into(), source: "s".into(), parent: None, identity: None };
    check(far, FoldError::Numbering { seq });
}

#[test]
fn what_is_not_at_the_position_of_the_view_does_not_take_a_place_in_it() {
    let body = fixed();
    let mut view = folded(&body);
    let mut rebuild = Rebuild::new(View::FOLDS, &settings());
    rebuild.apply_records(&view.devices, body.records(Seq(1)), Seq(100)).unwrap();
    let result = rebuild.replace_in(&mut view);
    assert_eq!(result, Err(FoldError::Missing { have: Seq(100), found: Seq(223) }));
    assert!(view == folded(&body));
}

#[test]
fn a_gap_is_refused_and_an_overlap_passed_over() {
    let body = fixed();
    let mut view = View::new(WINDOWS.to_vec());
    view.apply_records(body.records(Seq(1)), Seq(100)).unwrap();
    view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
    assert!(view == folded(&body));
    let gap = view.apply_records(body.records(Seq(225)), Seq(u64::MAX));
    assert_eq!(gap, Err(FoldError::Missing { have: Seq(223), found: Seq(225) }));
}

proptest! {
    #[test]
    fn each_fold_is_rebuilt_by_itself_to_the_same(body in history(1..50)) {
        let (view, golden) = (folded(&body), bytes(&folded(&body)));
        for fold in View::FOLDS {
            // Its neighbours stay, and what was there of it goes.
            let mut other = folded(&body);
            let mut rebuild = Rebuild::new(&[*fold], &settings());
            rebuild.apply_records(&view.devices, body.records(Seq(1)), view.seq).unwrap();
            rebuild.replace_in(&mut other).unwrap();
            prop_assert!(other == view, "{}", fold.name);
        }
        let mut none = View::new(WINDOWS.to_vec());
        none.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
        let mut rebuild = Rebuild::new(View::FOLDS, &settings());
        rebuild.apply_records(&none.devices, body.records(Seq(1)), none.seq).unwrap();
        rebuild.replace_in(&mut none).unwrap();
        prop_assert_eq!(bytes(&none), golden);
    }

    #[test]
    fn what_a_snapshot_lacks_is_told_and_rebuilt_and_the_rest_goes_on(body in history(1..50), at: prop::sample::Index) {
        let all = folded(&body);
        let at = Seq(at.index(body.len()) as u64 + 1);
        let mut before = View::new(WINDOWS.to_vec());
        before.apply_records(body.records(Seq(1)), at).unwrap();
        // Read with other windows, the aggregates are not there, and a snapshot of that does not have them.
        let mut view = snapshot::decode(&bytes(&before), &[]).unwrap();
        prop_assert_eq!(view.stale(), &[Aggregates::ID]);
        view = snapshot::decode(&bytes(&view), &WINDOWS).unwrap();
        prop_assert!(view.is_stale(Aggregates::ID), "an empty one is not taken for the whole");
        view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
        prop_assert!(view.devices == all.devices);
        prop_assert!(view.aggregates == Aggregates::new(WINDOWS.to_vec()), "nothing half is made of it");

        let mut rebuild = Rebuild::new(view.stale(), &settings());
        prop_assert!(rebuild.seq() < view.seq);
        rebuild.apply_records(&view.devices, body.records(Seq(1)), view.seq).unwrap();
        rebuild.replace_in(&mut view).unwrap();
        prop_assert!(view.stale().is_empty() && view == all);
    }

    #[test]
    fn a_snapshot_and_the_tail_fold_to_the_same_as_everything(body in history(1..50)) {
        let all = folded(&body);
        let golden = bytes(&all);
        let mut partly = View::new(WINDOWS.to_vec());
        for cut in 0..=body.len() as u64 {
            partly.apply_records(body.records(Seq(1)), Seq(cut)).unwrap();
            prop_assert_eq!(partly.seq, Seq(cut));
            let restored = snapshot::decode(&bytes(&partly), &WINDOWS).unwrap();
            prop_assert!(restored.stale().is_empty());
            let mut view = restored;
            prop_assert!(view == partly, "a snapshot at {} is not the view", cut);
            view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
            prop_assert!(view == all, "cut at {}", cut);
            prop_assert_eq!(bytes(&view), golden.clone(), "cut at {}", cut);
        }
    }
}
