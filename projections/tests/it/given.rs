//! Facts and records for tests.

use std::collections::HashSet;

use fieldlog_projections::alert::{Alert, AlertCleared, ClearedBecause, Condition, Severity, Subject};
use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::command::{AcknowledgedBy, CommandRequest, Evidence, OnOffline, Progress, Publish};
use fieldlog_projections::fact::{Availability, AvailabilityCause, ClockQuality, DeclaredMetric, Identity};
use fieldlog_projections::fold::{Section, State};
use fieldlog_projections::snapshot::{self, HEADER_BYTES};
use fieldlog_projections::{
    AttrId, AttributeDescription, DescribedBy, DeviceDescription, DeviceId, Epoch, Fact, Kind, Seq, Time,
    TraceParent, Value, View, Window,
};
use proptest::prelude::*;

pub const WINDOWS: [Window; 3] = [
    Window { length_s: 60, keep: 4 },
    Window { length_s: 3_600, keep: 3 },
    Window { length_s: 86_400, keep: 2 },
];

/// A value of any kind.
pub fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (1u64 << 63..).prop_map(Value::Uint),
        any::<f64>().prop_filter("NaN is not equal to itself", |v| !v.is_nan()).prop_map(Value::Float),
        (any::<i32>(), 0..6u32)
            .prop_map(|(n, digits)| Value::Float(f64::from(n) / 10f64.powi(digits as i32))),
        ".{0,20}".prop_map(|text| Value::Text(text.into())),
        "\\[[0-9]{0,30}\\]".prop_map(|text| Value::Json(text.into())),
    ]
}

fn metric() -> impl Strategy<Value = DeclaredMetric> {
    (prop::option::of(0..12u32), prop::option::of(any::<u64>()), 0..35u32).prop_map(
        |(attribute, alias, datatype)| DeclaredMetric { attribute: attribute.map(AttrId), alias, datatype },
    )
}

fn by() -> impl Strategy<Value = DescribedBy> {
    prop::sample::select(DescribedBy::ALL.to_vec())
}

/// What a fact is about, with the numbers of devices and attributes still to be made valid.
pub fn fact() -> impl Strategy<Value = Fact> {
    let id = any::<u32>();
    prop_oneof![
        6 => (id, prop::collection::vec((id.prop_map(AttrId), value()), 0..5))
            .prop_map(|(device, changes)| Fact::StateChanged { device: DeviceId(device), changes }),
        1 => (id, any::<bool>(), any::<bool>()).prop_map(|(device, on, topic)| Fact::AvailabilityChanged {
            device: DeviceId(device),
            availability: if on { Availability::Online } else { Availability::Offline },
            cause: if topic { AvailabilityCause::Topic } else { AvailabilityCause::Silence },
        }),
        1 => (id, ".{0,9}", ".{0,9}", prop::option::of(id), prop::option::of(identity())).prop_map(
            |(device, name, source, parent, identity)| Fact::DeviceDiscovered {
                device: DeviceId(device),
                name,
                source,
                parent: parent.map(DeviceId),
                identity,
            },
        ),
        1 => (id, "[a-c]{0,2}", ".{0,9}")
            .prop_map(|(device, name, called)| Fact::DeviceRenamed { device: DeviceId(device), name, called }),
        1 => (".{0,9}", ".{0,9}", ".{0,9}", any::<u64>(), any::<u64>(), any::<i64>()).prop_map(
            |(source, topic, reason, size, count, first)| Fact::QuarantineSummarised {
                source,
                topic,
                reason,
                size,
                count,
                first: Time(first),
                last: Time(first / 2),
            },
        ),
        1 => (id, ".{0,9}").prop_map(|(attribute, name)| Fact::AttributeNamed { attribute: AttrId(attribute), name }),
        1 => id.prop_map(|device| Fact::DeviceRetired { device: DeviceId(device) }),
        1 => (id, id, value()).prop_map(|(device, attribute, value)| Fact::ActionFired {
            device: DeviceId(device),
            attribute: AttrId(attribute),
            value,
        }),
        1 => (".{0,9}", ".{0,9}", ".{0,9}", any::<u64>())
            .prop_map(|(source, topic, reason, size)| Fact::InputQuarantined { source, topic, reason, size }),
        1 => (any::<[u8; 16]>(), "[0-9.]{0,9}", any::<bool>()).prop_map(|(boot_id, version, clock)| Fact::Booted {
            boot_id,
            version,
            clock: if clock { ClockQuality::Synchronised } else { ClockQuality::Unsynchronised },
        }),
        1 => (any::<i64>(), any::<i64>())
            .prop_map(|(a, b)| Fact::ClockStepped { expected: Time(a), found: Time(b) }),
        1 => prop::collection::vec(".{0,9}", 0..3).prop_map(|keys| Fact::ConfigChanged { keys }),
        1 => id.prop_map(|device| Fact::DeviceForgotten { device: DeviceId(device) }),
        1 => (id, prop::collection::vec((id.prop_map(AttrId), value()), 0..3))
            .prop_map(|(device, changes)| Fact::HistoryReported { device: DeviceId(device), changes }),
        1 => (id, prop::collection::vec(metric(), 0..4))
            .prop_map(|(device, metrics)| Fact::MetricsDeclared { device: DeviceId(device), metrics }),
        1 => (id, prop::option::of(any::<u64>()), prop::option::of(any::<u8>()))
            .prop_map(|(device, birth, seq)| Fact::SessionNoted { device: DeviceId(device), birth, seq }),
        1 => (id, by(), ".{0,3}", ".{0,9}").prop_map(|(device, by, area, name)| Fact::DeviceDescribed {
            device: DeviceId(device),
            by,
            description: DeviceDescription { area, name, ..DeviceDescription::default() },
        }),
        1 => (id, id, by(), ".{0,3}", prop::option::of(-9..9i32), prop::collection::vec(".{0,3}", 0..3)).prop_map(
            |(device, attribute, by, unit, min, values)| Fact::AttributeDescribed {
                device: DeviceId(device),
                attribute: AttrId(attribute),
                by,
                description: AttributeDescription {
                    unit,
                    min: min.map(f64::from),
                    values,
                    ..AttributeDescription::default()
                },
            }
        ),
        1 => (prop::option::of(any::<u64>()), ".{0,9}")
            .prop_map(|(previous, reason)| Fact::EpochBegun { previous: previous.map(Epoch), reason }),
        1 => (any::<u64>(), any::<u64>(), ".{0,9}").prop_map(|(first, last, reason)| Fact::RecordsLost {
            first: Seq(first),
            last: Seq(last),
            reason,
        }),
        1 => (id, request())
            .prop_map(|(device, request)| Fact::CommandRequested { device: DeviceId(device), request: Box::new(request) }),
        2 => (id, 1..60u64, progress()).prop_map(|(device, command, progress)| Fact::CommandProgressed {
            device: DeviceId(device),
            command: Seq(command),
            progress,
        }),
        1 => (".{0,5}", ".{0,5}").prop_map(|(actor, call)| Fact::Administered {
            actor,
            call,
            target: String::new(),
            reason: String::new(),
        }),
        1 => (subject(), value(), any::<bool>()).prop_map(|(subject, value, critical)| {
            Fact::AlertRaised(Box::new(Alert {
                rule: "r".into(),
                severity: if critical { Severity::Critical } else { Severity::Warning },
                subject,
                condition: Condition::Above,
                threshold: Value::Int(1),
                value,
            }))
        }),
        1 => (subject(), 1..60u64, value()).prop_map(|(subject, raised, value)| {
            Fact::AlertCleared(Box::new(AlertCleared {
                raised: Seq(raised),
                rule: "r".into(),
                severity: Severity::Warning,
                subject,
                because: ClearedBecause::Ended,
                value,
            }))
        }),
        1 => (100..u16::MAX, 1..16u8, prop::collection::vec(any::<u8>(), 0..30))
            .prop_map(|(type_id, version, payload)| Fact::Unknown { kind: Kind { type_id, version }, payload }),
    ]
}

/// A command of one of a few keys and names, whose key is forgotten after up to a day.
pub fn request() -> impl Strategy<Value = CommandRequest> {
    let asked = ("[xy]", any::<bool>(), value());
    (("[ab]", "[a-d]", any::<u8>()), asked, 0..86_400_000_000i64, evidence(), traceparent()).prop_map(
        |((actor, key, digest), (name, operation, value), remembered, evidence, traceparent)| {
            CommandRequest {
                actor,
                key,
                digest: [digest; 16],
                reason: String::new(),
                name,
                operation,
                value,
                expires: Time(1_700_000_000_000_000),
                ttl_s: 30,
                booted_for: 5,
                remember_until: Time(1_700_000_000_000_000 + remembered),
                publish: Publish { source: "s".into(), topic: "t".into(), payload: Vec::new(), qos: 1 },
                idempotent: true,
                on_offline: OnOffline::Reject,
                confirm_s: 30,
                evidence,
                traceparent,
            }
        },
    )
}

fn traceparent() -> impl Strategy<Value = Option<TraceParent>> {
    prop::option::weighted(0.3, 1..u64::MAX).prop_map(|id| {
        id.and_then(|id| TraceParent::parse(&format!("00-{id:032x}-{id:016x}-{:02x}", id as u8)))
    })
}

fn evidence() -> impl Strategy<Value = Evidence> {
    prop_oneof![
        Just(Evidence::None),
        value().prop_map(|target| Evidence::Reported { attribute: "x".into(), target, tolerance: 0.0 }),
        value().prop_map(|target| Evidence::Both {
            attribute: "x".into(),
            target,
            tolerance: 0.0,
            topic: "t".into(),
            id: "/id".into(),
            error: "/error".into(),
        }),
    ]
}

fn progress() -> impl Strategy<Value = Progress> {
    prop_oneof![
        (1..9u32).prop_map(|attempt| Progress::Dispatched { attempt }),
        Just(Progress::Acknowledged { by: AcknowledgedBy::Broker }),
        prop::option::of(any::<u64>()).prop_map(|seq| Progress::Applied { evidence: seq.map(Seq) }),
        ".{0,9}".prop_map(|reason| Progress::Failed { reason }),
        Just(Progress::Expired),
        any::<u64>().prop_map(|by| Progress::Superseded { by: Seq(by) }),
        Just(Progress::Unconfirmed),
        Just(Progress::Unknown),
        Just(Progress::Unsent),
    ]
}

fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        (any::<u32>(), any::<u32>())
            .prop_map(|(device, attr)| Subject::Attribute(DeviceId(device), AttrId(attr))),
        any::<u32>().prop_map(|device| Subject::Device(DeviceId(device))),
        ".{0,5}".prop_map(Subject::Sink),
    ]
}

fn identity() -> impl Strategy<Value = Identity> {
    ("[a-z.]{0,9}", "[a-c]{0,2}").prop_map(|(namespace, name)| Identity { namespace, name })
}

/// What goes round a fact; the wall clock goes on from `from`, mostly.
pub fn envelope(from: i64, step: i64) -> impl Strategy<Value = Envelope> {
    let near = from..from + step;
    (near, prop::option::of(any::<i64>()), prop::option::of(any::<u64>())).prop_map(
        |(wall, device_time, cause)| Envelope {
            wall: Time(wall),
            device_time: device_time.map(Time),
            cause: cause.map(Seq),
        },
    )
}

/// Facts made valid for the folds: devices and attributes are introduced in order, and only known ones are spoken of.
pub fn valid(facts: Vec<Fact>) -> Vec<Fact> {
    let (mut devices, mut attributes) = (0u32, 0u32);
    let mut forgotten = HashSet::new();
    let valid = |fact| {
        let known = |id: DeviceId| DeviceId(id.0 % devices.max(1));
        let attr = |id: AttrId| AttrId(id.0 % 12);
        match fact {
            Fact::DeviceDiscovered { name, source, parent, device, identity } => {
                let again = device.0 % 3 == 0 && devices > 0 && !forgotten.contains(&known(device));
                let device = if again { known(device) } else { DeviceId(devices) };
                devices += u32::from(!again);
                Fact::DeviceDiscovered {
                    device,
                    name,
                    source,
                    parent: parent.map(|p| DeviceId(p.0 % devices)),
                    identity,
                }
            }
            Fact::AttributeNamed { name, .. } => {
                attributes += 1;
                Fact::AttributeNamed { attribute: AttrId(attributes - 1), name }
            }
            fact if fact.device().is_some() && devices == 0 => {
                devices = 1;
                Fact::DeviceDiscovered {
                    device: DeviceId(0),
                    name: "first".into(),
                    source: "s".into(),
                    parent: None,
                    identity: None,
                }
            }
            Fact::StateChanged { device, changes } => {
                let changes = changes.into_iter().map(|(a, v)| (attr(a), v)).collect();
                Fact::StateChanged { device: known(device), changes }
            }
            Fact::AvailabilityChanged { device, availability, cause } => {
                Fact::AvailabilityChanged { device: known(device), availability, cause }
            }
            Fact::DeviceRetired { device } => Fact::DeviceRetired { device: known(device) },
            Fact::DeviceRenamed { device, name, called } => {
                Fact::DeviceRenamed { device: known(device), name, called }
            }
            Fact::DeviceForgotten { device } => {
                forgotten.insert(known(device));
                Fact::DeviceForgotten { device: known(device) }
            }
            Fact::HistoryReported { device, changes } => {
                let changes = changes.into_iter().map(|(a, v)| (attr(a), v)).collect();
                Fact::HistoryReported { device: known(device), changes }
            }
            Fact::MetricsDeclared { device, metrics } => {
                Fact::MetricsDeclared { device: known(device), metrics }
            }
            Fact::SessionNoted { device, birth, seq } => {
                Fact::SessionNoted { device: known(device), birth, seq }
            }
            Fact::CommandRequested { device, request } => {
                Fact::CommandRequested { device: known(device), request }
            }
            Fact::CommandProgressed { device, command, progress } => {
                Fact::CommandProgressed { device: known(device), command, progress }
            }
            Fact::DeviceDescribed { device, by, description } => {
                Fact::DeviceDescribed { device: known(device), by, description }
            }
            Fact::AttributeDescribed { device, attribute, by, description } => Fact::AttributeDescribed {
                device: known(device),
                attribute: attr(attribute),
                by,
                description,
            },
            Fact::ActionFired { device, attribute, value } => {
                Fact::ActionFired { device: known(device), attribute: attr(attribute), value }
            }
            Fact::AlertRaised(alert) => {
                let subject = about(alert.subject, &known, &attr);
                Fact::AlertRaised(Box::new(Alert { subject, ..*alert }))
            }
            Fact::AlertCleared(cleared) => {
                let subject = about(cleared.subject, &known, &attr);
                Fact::AlertCleared(Box::new(AlertCleared { subject, ..*cleared }))
            }
            other => other,
        }
    };
    facts.into_iter().map(valid).collect()
}

fn about(subject: Subject, known: &dyn Fn(DeviceId) -> DeviceId, attr: &dyn Fn(AttrId) -> AttrId) -> Subject {
    match subject {
        Subject::Attribute(device, attribute) => Subject::Attribute(known(device), attr(attribute)),
        Subject::Device(device) => Subject::Device(known(device)),
        Subject::Sink(name) => Subject::Sink(name),
    }
}

/// A body of facts that a fold takes.
pub fn history(count: std::ops::Range<usize>) -> impl Strategy<Value = RecordBuffer> {
    // Steps of half an hour on average, so that buckets of all windows close.
    prop::collection::vec((fact(), envelope(0, 3_600_000_000)), count).prop_map(|pairs| {
        let (facts, envelopes): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let mut body = RecordBuffer::after(Time(1_700_000_000_000_000));
        for (fact, envelope) in valid(facts).iter().zip(envelopes) {
            let wall = Time(body.last_time().0 + envelope.wall.0 - 600_000_000);
            body.push_fact(Envelope { wall, ..envelope }, fact);
        }
        body
    })
}

/// The snapshot of a view in layout 1, as it was written while there were no folds but the devices and the aggregates.
pub fn layout_1(view: &View) -> Vec<u8> {
    let mut bytes = snapshot::encode(view, Epoch(1)).unwrap()[..HEADER_BYTES].to_vec();
    bytes[4] = 1;
    bytes.extend(postcard::to_stdvec(&(view.boot_id, view.clock)).unwrap());
    let folds: [(u16, &dyn State); 2] =
        [(view.devices.version(), &view.devices), (view.aggregates.version(), &view.aggregates)];
    for (version, fold) in folds {
        bytes.extend(postcard::to_stdvec(&(version, fold.size().unwrap() as u64)).unwrap());
        fold.write(&mut bytes).unwrap();
    }
    let payload_bytes = (bytes.len() - HEADER_BYTES) as u64;
    bytes[32..40].copy_from_slice(&payload_bytes.to_le_bytes());
    seal(&mut bytes);
    bytes
}

/// Writes the checksums that make a forged snapshot credible.
pub fn seal(bytes: &mut [u8]) {
    let crc = crc32fast::hash(&bytes[HEADER_BYTES..]);
    bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..44]);
    bytes[44..48].copy_from_slice(&crc.to_le_bytes());
}
