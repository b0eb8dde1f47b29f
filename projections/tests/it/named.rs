//! Named aggregates and derived attributes.

use fieldlog_projections::chunk::{Envelope, Place, RecordBuffer};
use fieldlog_projections::declared::{Declared, DerivedAttribute, Formula, Function, NamedAggregate};
use fieldlog_projections::named::{Origin, Series};
use fieldlog_projections::view::Rebuild;
use fieldlog_projections::{
    AttrId, Chunk, DeviceId, Epoch, Fact, Named, Seq, Settings, Time, Value, View, snapshot,
};
use proptest::prelude::*;

use crate::given::{envelope, fact, valid};

const START_S: i64 = 1_700_006_400;

fn aggregate(
    name: &str,
    attributes: &[&str],
    function: Function,
    window_s: u32,
    keep: u32,
) -> NamedAggregate {
    let attributes = attributes.iter().map(|name| (*name).to_owned()).collect();
    NamedAggregate {
        name: name.into(),
        attributes,
        function,
        window_s,
        keep,
        scale: 1.0,
        unit: String::new(),
    }
}

fn derived(name: &str, formula: Formula, of: &[&str]) -> DerivedAttribute {
    DerivedAttribute {
        name: name.into(),
        formula,
        of: of.iter().map(|name| (*name).to_owned()).collect(),
        scale: 1.0,
        offset: 0.0,
        above: None,
        below: None,
        unit: String::new(),
    }
}

/// One of each kind. The golden fold has it: never change it.
fn declared() -> Declared {
    let all = [
        Function::Count,
        Function::Min,
        Function::Max,
        Function::Mean,
        Function::Sum,
        Function::Last,
        Function::Increase,
        Function::Change,
    ];
    let mut aggregates: Vec<NamedAggregate> = all
        .iter()
        .map(|function| aggregate(&format!("{function:?}"), &["energy", "pow*"], *function, 3_600, 2))
        .collect();
    aggregates.push(aggregate("on", &["busy"], Function::Mean, 600, 3));
    let power = derived("power", Formula::Product, &["voltage", "current"]);
    let busy = DerivedAttribute { above: Some(100.0), ..power.clone() };
    Declared { derived: vec![power, DerivedAttribute { name: "busy".into(), ..busy }], aggregates }
}

fn with(declared: Declared) -> Settings {
    Settings { windows: Vec::new(), declared }
}

/// Folded with [`declared`].
pub fn folded(body: &RecordBuffer) -> View {
    folded_with(body, declared())
}

fn folded_with(body: &RecordBuffer, declared: Declared) -> View {
    let mut view = View::with(&with(declared));
    view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
    view
}

fn push(body: &mut RecordBuffer, at_s: i64, fact: &Fact) {
    body.push_fact(Envelope { wall: Time::from_secs(at_s), ..Envelope::default() }, fact);
}

/// Two devices with the attributes energy, voltage and current, numbers 0 to 2.
fn begun() -> RecordBuffer {
    let mut body = RecordBuffer::after(Time::from_secs(START_S));
    for (device, name) in (0..).zip(["meter", "pump"]) {
        let (name, source) = (name.into(), "s".into());
        let device = DeviceId(device);
        push(
            &mut body,
            START_S,
            &Fact::DeviceDiscovered { device, name, source, parent: None, identity: None },
        );
    }
    for (attribute, name) in (0..).zip(["energy", "voltage", "current"]) {
        push(&mut body, START_S, &Fact::AttributeNamed { attribute: AttrId(attribute), name: name.into() });
    }
    body
}

fn state(body: &mut RecordBuffer, at_s: i64, device: u32, changes: &[(u32, Value)]) {
    let changes = changes.iter().map(|(attr, value)| (AttrId(*attr), value.clone())).collect();
    push(body, START_S + at_s, &Fact::StateChanged { device: DeviceId(device), changes });
}

/// A meter whose counter is reset once, which loses its current for a while, and that is not alone. The golden fold has
/// it: never change it.
pub fn energy() -> RecordBuffer {
    let mut body = begun();
    let float = Value::Float;
    state(&mut body, 0, 0, &[(0, float(5.0)), (1, Value::Int(230)), (2, float(1.0))]);
    state(&mut body, 600, 0, &[(0, float(7.0)), (2, float(0.1))]);
    state(&mut body, 700, 1, &[(0, float(100.0))]);
    state(&mut body, 3_600, 0, &[(0, float(1.0)), (1, Value::Uint(200)), (2, float(2.0))]);
    state(&mut body, 3_700, 0, &[(2, Value::Null)]);
    state(&mut body, 3_800, 0, &[(1, Value::Int(100))]);
    state(&mut body, 7_200, 0, &[(0, float(4.0)), (2, float(0.5))]);
    state(&mut body, 10_800, 0, &[(0, float(4.5)), (1, Value::Text("unknown".into()))]);
    body
}

/// Of one device: each window's start, from the beginning, its count and its result.
fn points(view: &View, device: u32, name: &str, attribute: &str) -> Vec<(i64, u32, f64)> {
    let declared = view.named.declared();
    let (at, aggregate) = declared.aggregate(name).unwrap();
    let is = |origin| match origin {
        Origin::Recorded(attr) => view.devices.attribute_name(attr) == Some(attribute),
        Origin::Derived(at) => declared.derived[usize::from(at)].name == attribute,
    };
    let series = view.named.series(DeviceId(device), at).filter(|series| is(series.origin()));
    let points = series.flat_map(Series::points);
    points.map(|point| (point.start_s - START_S, point.count, aggregate.result(point))).collect()
}

#[test]
fn each_function_gives_its_result_by_window() {
    let view = folded(&energy());
    for (name, expected) in [
        ("Count", [1.0, 1.0, 1.0]),
        ("Min", [1.0, 4.0, 4.5]),
        ("Last", [1.0, 4.0, 4.5]),
        // From 7 it fell to 1: it was reset.
        ("Increase", [1.0, 3.0, 0.5]),
        ("Change", [-6.0, 3.0, 0.5]),
    ] {
        let expected: Vec<_> = (1..).zip(expected).map(|(hour, result)| (hour * 3_600, 1, result)).collect();
        assert_eq!(points(&view, 0, name, "energy"), expected, "{name}: two closed windows are kept");
    }
    assert_eq!(points(&view, 1, "Max", "energy"), [(0, 1, 100.0)]);
    assert_eq!(points(&view, 1, "Increase", "energy"), [(0, 1, 0.0)], "nothing is known before the first");
    assert!(points(&view, 0, "Max", "voltage").is_empty(), "no pattern includes it");
}

#[test]
fn a_derived_attribute_is_computed_once_for_an_event_and_only_from_what_is_known() {
    let view = folded(&energy());
    // 230 V and 1 A came in one event. When the current was gone, a new voltage gave no power.
    assert_eq!(points(&view, 0, "Sum", "power"), [(0, 2, 253.0), (3_600, 1, 400.0), (7_200, 1, 50.0)]);
    assert_eq!(
        points(&view, 0, "on", "busy"),
        [(0, 1, 1.0), (600, 1, 0.0), (3_600, 1, 1.0), (7_200, 1, 0.0)]
    );
    assert!(points(&view, 1, "Sum", "power").is_empty());
}

#[test]
fn a_clock_that_was_set_back_begins_the_windows_anew() {
    let mut body = energy();
    body.push_correction(Time::from_secs(START_S + 9_000));
    let before = folded(&body);
    assert!(points(&before, 0, "Max", "energy").is_empty());
    assert_eq!(before.named.missing_until(0), Some(before.time));
    state(&mut body, 9_100, 0, &[(1, Value::Int(10))]);
    let expected = [(7_200, 1, 5.0)];
    assert_eq!(points(&folded(&body), 0, "Max", "power"), expected, "the current is still known");
}

#[test]
fn a_snapshot_has_a_section_only_if_something_is_declared() {
    let body = energy();
    let (none, some) = (folded_with(&body, Declared::default()), folded(&body));
    let with_section = snapshot::encode(&some, Epoch(1)).unwrap();
    let without = snapshot::encode(&none, Epoch(1)).unwrap();
    assert!(with_section.len() > without.len());
    let restored = snapshot::decode(&without, &[]).unwrap();
    assert!(restored == none && restored.outdated(&Settings::default()).is_empty());
    assert_eq!(restored.outdated(&with(declared())), [Named::ID]);
    let restored = snapshot::decode(&with_section, &[]).unwrap();
    assert!(restored == some && restored.outdated(&with(declared())).is_empty());
    let past = some.share_without_aggregates();
    assert_eq!(past.named, Named::default(), "states of the past have no aggregates");
}

#[test]
fn after_a_change_the_earlier_declarations_answer_until_they_are_replaced() {
    let body = energy();
    let bytes = snapshot::encode(&folded(&body), Epoch(1)).unwrap();
    let mut view = snapshot::decode(&bytes, &[]).unwrap();
    let mut changed = declared();
    changed.aggregates[0].window_s = 7_200;
    changed.aggregates.push(aggregate("new", &["power"], Function::Max, 86_400, 1));
    let changed = with(changed);
    assert_eq!(view.outdated(&changed), [Named::ID]);
    assert!(view.stale().is_empty());
    // It goes on meanwhile.
    let mut more = RecordBuffer::after(view.time);
    state(&mut more, 10_900, 0, &[(0, Value::Float(9.0))]);
    let next = view.seq.next();
    view.apply_records(more.records(next), Seq(u64::MAX)).unwrap();
    assert_eq!(points(&view, 0, "Count", "energy").last(), Some(&(10_800, 2, 2.0)));

    let mut rebuild = Rebuild::new(&[Named::ID], &changed);
    rebuild.apply_records(&view.devices, body.records(Seq(1)), view.seq).unwrap();
    rebuild.apply_records(&view.devices, more.records(next), view.seq).unwrap();
    rebuild.replace_in(&mut view).unwrap();
    assert_eq!(*view.named.declared(), changed.declared);
    assert!(view.outdated(&changed).is_empty());
    assert_eq!(points(&view, 0, "Count", "energy"), [(0, 3, 3.0), (7_200, 3, 3.0)]);
    assert_eq!(points(&view, 0, "new", "power").last(), Some(&(0, 4, 400.0)));
}

#[test]
fn what_is_declared_as_before_keeps_what_deleted_records_said() {
    let body = energy();
    let mut view = folded(&body);
    // It moves to another place, and the derived attribute that it is made of does, too.
    let mut changed = declared();
    changed.aggregates.rotate_left(4);
    changed.aggregates[8].keep = 5;
    changed.derived.insert(0, derived("reactance", Formula::Ratio, &["voltage", "current"]));
    let kept = |view: &View| {
        let of = |name, attribute| points(view, 0, name, attribute);
        (of("Increase", "energy"), of("Sum", "power"), of("on", "busy"))
    };
    let before = kept(&view);
    // All records but the last are deleted.
    let mut rest = energy();
    rest.drop_front(rest.len() - 1);
    let mut rebuild = Rebuild::new(&[Named::ID], &with(changed.clone()));
    let chunk = Chunk::of_body(view.seq, 1, rest.base_time(), Place::default(), rest.body());
    rebuild.apply_chunk_until(&view.devices, &chunk, view.seq).unwrap();
    rebuild.replace_in(&mut view).unwrap();
    assert_eq!(kept(&view), before);
    let missing = |name| view.named.missing_until(changed.aggregate(name).unwrap().0);
    assert_eq!(missing("Increase"), None);
    assert!(missing("Mean").is_some(), "it keeps more, so it was begun anew");
    assert_eq!(points(&view, 0, "Mean", "energy"), [(10_800, 1, 4.5)]);
    // The current is remembered: no record that is left has it.
    let mut more = RecordBuffer::after(view.time);
    state(&mut more, 14_400, 0, &[(1, Value::Int(3))]);
    let next = view.seq.next();
    view.apply_records(more.records(next), Seq(u64::MAX)).unwrap();
    assert_eq!(points(&view, 0, "Last", "power").last(), Some(&(14_400, 1, 1.5)));
}

/// Records of all kinds about devices whose attributes have names.
fn history() -> impl Strategy<Value = RecordBuffer> {
    let facts = fact().prop_filter("named first", |fact| !matches!(fact, Fact::AttributeNamed { .. }));
    prop::collection::vec((facts, envelope(0, 3_600_000_000)), 1..60).prop_map(|pairs| {
        let mut body = RecordBuffer::after(Time::from_secs(START_S));
        for (number, name) in (0..12).zip(["energy", "voltage", "current", "powder"].iter().cycle()) {
            let name = if number < 4 { (*name).to_owned() } else { format!("{name}{number}") };
            push(&mut body, START_S, &Fact::AttributeNamed { attribute: AttrId(number), name });
        }
        let (facts, envelopes): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        for (fact, envelope) in valid(facts).iter().zip(envelopes) {
            let wall = Time(body.last_time().0 + envelope.wall.0 - 600_000_000);
            body.push_fact(Envelope { wall, ..envelope }, fact);
        }
        body
    })
}

proptest! {
    #[test]
    fn a_rebuild_gives_what_folding_from_the_beginning_gives(body in history()) {
        let all = folded(&body);
        let mut view = folded_with(&body, Declared::default());
        let mut rebuild = Rebuild::new(&[Named::ID], &with(declared()));
        rebuild.apply_records(&view.devices, body.records(Seq(1)), view.seq).unwrap();
        rebuild.replace_in(&mut view).unwrap();
        prop_assert!(view == all);
        prop_assert_eq!(snapshot::encode(&view, Epoch(1)).unwrap(), snapshot::encode(&all, Epoch(1)).unwrap());
    }

    #[test]
    fn a_snapshot_anywhere_goes_on_to_the_same(body in history(), at: prop::sample::Index) {
        let all = folded(&body);
        let mut view = View::with(&with(declared()));
        view.apply_records(body.records(Seq(1)), Seq(at.index(body.len()) as u64)).unwrap();
        let mut view = snapshot::decode(&snapshot::encode(&view, Epoch(1)).unwrap(), &[]).unwrap();
        view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
        prop_assert!(view == all);
    }

    #[test]
    fn windows_are_what_naive_grouping_gives(steps in prop::collection::vec((0..3_000i64, -9..9i32), 1..80)) {
        let mut body = begun();
        let (mut at_s, mut values) = (0, Vec::new());
        for (step, value) in steps {
            at_s += step;
            values.push((at_s, f64::from(value)));
            state(&mut body, at_s, 0, &[(0, Value::Int(value.into()))]);
        }
        let view = folded(&body);
        let in_hour = |hour: i64| values.iter().filter(move |(at_s, _)| at_s / 3_600 == hour).map(|(_, v)| *v);
        let before = |hour: i64| values.iter().rfind(|(at_s, _)| at_s / 3_600 < hour).map(|(_, v)| *v);
        for (start, count, sum) in points(&view, 0, "Sum", "energy") {
            let hour = start / 3_600;
            let all: Vec<f64> = in_hour(hour).collect();
            let last = *all.last().unwrap();
            prop_assert_eq!((count as usize, sum), (all.len(), all.iter().sum::<f64>()));
            let result = |name| points(&view, 0, name, "energy").into_iter().find(|(at, ..)| *at == start).unwrap().2;
            prop_assert_eq!(result("Mean"), sum / f64::from(count));
            prop_assert_eq!(result("Min"), all.iter().copied().fold(f64::MAX, f64::min));
            prop_assert_eq!(result("Max"), all.iter().copied().fold(f64::MIN, f64::max));
            prop_assert_eq!(result("Last"), last);
            prop_assert_eq!(result("Change"), last - before(hour).unwrap_or(all[0]));
            let mut counter = before(hour).unwrap_or(all[0]);
            let mut increase = 0.0;
            for value in all {
                increase += if value < counter { value } else { value - counter };
                counter = value;
            }
            prop_assert_eq!(result("Increase"), increase);
        }
    }
}
