//! Descriptions of devices and attributes, by author.

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::{
    AttrId, AttributeDescription, DataType, DescribedBy, Descriptions, DeviceDescription, DeviceId, Epoch,
    Fact, Seq, Time, Value, View, snapshot,
};

const LAMP: DeviceId = DeviceId(0);
const LEVEL: AttrId = AttrId(0);
const POWER: AttrId = AttrId(1);

fn attribute(by: DescribedBy, attribute: AttrId, description: AttributeDescription) -> Fact {
    Fact::AttributeDescribed { device: LAMP, attribute, by, description }
}

fn unit(unit: &str) -> AttributeDescription {
    AttributeDescription { unit: unit.into(), ..AttributeDescription::default() }
}

fn device(by: DescribedBy, name: &str, area: &str) -> Fact {
    let description =
        DeviceDescription { name: name.into(), area: area.into(), ..DeviceDescription::default() };
    Fact::DeviceDescribed { device: LAMP, by, description }
}

fn folded(facts: &[Fact]) -> View {
    let mut body = RecordBuffer::after(Time(1_700_000_000_000_000));
    let before = [
        Fact::DeviceDiscovered {
            device: LAMP,
            name: "lamp".into(),
            source: "home".into(),
            parent: None,
            identity: None,
        },
        Fact::AttributeNamed { attribute: LEVEL, name: "level".into() },
        Fact::AttributeNamed { attribute: POWER, name: "power".into() },
    ];
    for fact in before.iter().chain(facts) {
        body.push_fact(Envelope { wall: body.last_time(), ..Envelope::default() }, fact);
    }
    let mut view = View::new(Vec::new());
    view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
    view
}

#[test]
fn the_operator_has_the_last_word_and_may_take_it_back() {
    use DescribedBy::{Announcement, Operator};
    let range = AttributeDescription { max: Some(254.0), data_type: DataType::Number, ..unit("lx") };
    let mut facts = vec![
        device(Announcement, "Lamp", "Hall"),
        device(Operator, "", "Kitchen"),
        attribute(Announcement, LEVEL, range.clone()),
        attribute(Operator, LEVEL, unit("%")),
        attribute(Operator, POWER, unit("W")),
    ];
    let view = folded(&facts);
    let described = view.descriptions.get(LAMP).unwrap();
    assert_eq!((&*described.device().name, &*described.device().area), ("Lamp", "Kitchen"));
    let both = AttributeDescription { unit: "%".into(), ..range.clone() };
    assert_eq!(described.attribute(LEVEL), both);
    assert_eq!((described.attribute(POWER), described.attributes()), (unit("W"), vec![LEVEL, POWER]));

    facts.push(device(Operator, "", ""));
    facts.push(attribute(Operator, LEVEL, AttributeDescription::default()));
    facts.push(attribute(Operator, POWER, AttributeDescription::default()));
    let view = folded(&facts);
    let described = view.descriptions.get(LAMP).unwrap();
    assert_eq!((&*described.device().area, described.attribute(LEVEL)), ("Hall", range));
    assert_eq!(described.attributes(), [LEVEL]);
}

#[test]
fn nothing_is_left_of_what_was_taken_back_or_forgotten() {
    let said = [
        device(DescribedBy::Announcement, "Lamp", ""),
        attribute(DescribedBy::Announcement, LEVEL, unit("lx")),
    ];
    let back = [
        device(DescribedBy::Announcement, "", ""),
        attribute(DescribedBy::Announcement, LEVEL, AttributeDescription::default()),
    ];
    let gone = [Fact::DeviceRetired { device: LAMP }, Fact::DeviceForgotten { device: LAMP }];
    assert!(!folded(&said).descriptions.is_empty());
    for rest in [&back[..], &gone[..]] {
        assert!(folded(&[&said[..], rest].concat()).descriptions.is_empty());
    }
    // What is said about a device that retired stays with it: it may come back.
    assert!(!folded(&[&said[..], &gone[..1]].concat()).descriptions.is_empty());
}

#[test]
fn a_description_does_not_need_a_value_and_is_none() {
    let view = folded(&[attribute(DescribedBy::Announcement, LEVEL, unit("lx"))]);
    assert!(view.devices.get(LAMP).unwrap().attributes.is_empty());
    let state = Fact::StateChanged { device: LAMP, changes: vec![(LEVEL, Value::Int(3))] };
    assert_eq!(folded(&[state]).descriptions.get(LAMP), None);
}

#[test]
fn a_snapshot_has_them() {
    let (said, of) = (DescribedBy::Announcement, DescribedBy::Operator);
    let view =
        folded(&[device(of, "L", ""), attribute(said, POWER, unit("W")), attribute(said, LEVEL, unit("lx"))]);
    let bytes = snapshot::encode(&view, Epoch(1)).unwrap();
    let restored = snapshot::decode(&bytes, &[]).unwrap();
    assert!(!restored.is_stale(Descriptions::ID));
    assert_eq!(restored, view);
    // One device; announced: no text, two attributes by number; configured: 5 texts, no attribute; discovered: nothing.
    let attribute = |number: u8, unit: &[u8]| {
        let head = [number, (9 + unit.len()) as u8, 0, unit.len() as u8];
        [&head[..], unit, &[0, 0, 0, 0, 0, 0, 0]].concat()
    };
    let device = [1, 0, 0, 2].into_iter().chain(attribute(0, b"lx")).chain(attribute(1, b"W"));
    let golden: Vec<u8> = device.chain([6, 0, 1, b'L', 0, 0, 0, 0, 0, 0]).collect();
    // Behind it is the section of the sessions, which is empty.
    let section = [&[3, 1, golden.len() as u8][..], &golden, &[5, 1, 1, 0]].concat();
    assert!(bytes.windows(section.len()).any(|bytes| bytes == section));
}
