//! A compact parcel has every name that its events need: what comes out of it is what a parcel of JSON says.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

use fieldlog_projections::alert::{Alert, AlertCleared, ClearedBecause, Condition, Severity, Subject};
use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::fact::{DeclaredMetric, Identity};
use fieldlog_projections::{
    AttrId, AttributeDescription, ChainHash, DescribedBy, DeviceId, Epoch, Fact, Seq, Time, Value,
};
use fieldlog_wire::cloudevent::CloudEvents;
use fieldlog_wire::compact::Encoder;
use fieldlog_wire::event::Naming;
use fieldlog_wire::received::Received;
use fieldlog_wire::{Lane, Manifest};

const EPOCH: Epoch = Epoch(7);
const DEVICES: [&str; 2] = ["hub", "meter"];
const ATTRIBUTES: [&str; 3] = ["power", "energy", "button"];

struct Names;

impl Naming for Names {
    fn device(&self, id: DeviceId) -> &str {
        DEVICES[id.0 as usize]
    }

    fn attribute(&self, id: AttrId) -> &str {
        ATTRIBUTES[id.0 as usize]
    }
}

/// Facts in which there are numbers of devices or attributes.
fn facts() -> Vec<Fact> {
    let (device, attribute) = (DeviceId(1), AttrId(1));
    let changes = vec![(AttrId(0), Value::Float(1.5)), (AttrId(2), Value::Null)];
    let description = AttributeDescription { unit: "kWh".into(), ..AttributeDescription::default() };
    let metric = |attribute| DeclaredMetric { attribute, alias: Some(3), datatype: 9 };
    let subject = Subject::Attribute(device, attribute);
    vec![
        Fact::StateChanged { device, changes: changes.clone() },
        Fact::HistoryReported { device, changes },
        Fact::ActionFired { device, attribute: AttrId(2), value: Value::Text("press".into()) },
        Fact::AttributeDescribed { device, attribute, by: DescribedBy::Announcement, description },
        Fact::MetricsDeclared {
            device,
            metrics: vec![metric(Some(AttrId(0))), metric(None), metric(Some(AttrId(2)))],
        },
        Fact::DeviceDiscovered {
            device,
            name: "meter".into(),
            source: "plant".into(),
            parent: Some(DeviceId(0)),
            identity: Some(Identity { namespace: "plant".into(), name: "meter".into() }),
        },
        Fact::AlertRaised(Box::new(Alert {
            rule: "much".into(),
            severity: Severity::Warning,
            subject: subject.clone(),
            condition: Condition::Above,
            threshold: Value::Int(1),
            value: Value::Int(2),
        })),
        Fact::AlertCleared(Box::new(AlertCleared {
            raised: Seq(7),
            rule: "much".into(),
            severity: Severity::Warning,
            subject,
            because: ClearedBecause::Ended,
            value: Value::Int(0),
        })),
    ]
}

#[test]
fn every_name_that_an_event_needs_is_in_its_parcel() {
    for fact in facts() {
        let mut body = RecordBuffer::after(Time(0));
        body.push_fact(Envelope { wall: Time(1_763_892_000_000_000), ..Envelope::default() }, &fact);
        let before = ChainHash::origin(EPOCH);
        let manifest = Manifest {
            gateway: "plant".into(),
            epoch: EPOCH,
            first: Seq(1),
            last: Seq(1),
            lane: Lane::Live,
            before,
            after: before.after(body.body()),
            head: Seq(1),
            events: 1,
        };
        let record = body.records(Seq(1)).next().unwrap().unwrap();
        let mut encoder = Encoder::default();
        encoder.begin();
        encoder.push(&record, Seq(1)).unwrap();
        let received = Received::read(&encoder.finish(&manifest, &Names), |_| None).unwrap();
        let mut expected = Vec::new();
        let device = fact.device().map(|id| Names.device(id));
        CloudEvents::new("plant", EPOCH).write(&record, device, &Names, &mut expected).unwrap();
        expected.push(b'\n');
        assert_eq!(String::from_utf8(received.lines), String::from_utf8(expected));
    }
}
