//! The stored form, byte by byte: every later version must read what a release has written.

use fieldlog_projections::alert::{Alert, AlertCleared, ClearedBecause, Condition, Severity, Subject};
use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::command::{
    AcknowledgedBy, CommandRejection, CommandRequest, Evidence, OnOffline, Progress, Publish,
};
use fieldlog_projections::fact::{
    Availability, AvailabilityCause, ClockQuality, DeclaredMetric, Identity, Resolution,
};
use fieldlog_projections::stored::{
    self, Changes, KINDS, StoredError, encode_changes, encode_state_changed_v1, type_id,
};
use fieldlog_projections::{
    AttrId, AttributeDescription, Chunk, DataType, DescribedBy, DeviceDescription, DeviceId, Epoch, Fact,
    Kind, Seq, Time, TraceParent, Value,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::given;

/// One fact of every type, and its bytes as they were when its version was introduced. Never change a line; a new version
/// gets a new one.
fn golden() -> Vec<(Fact, u16, u8, &'static [u8])> {
    let device = DeviceId(300);
    let changes = vec![
        (AttrId(0), Value::Null),
        (AttrId(1), Value::Bool(false)),
        (AttrId(2), Value::Bool(true)),
        (AttrId(3), Value::Int(-65)),
        (AttrId(4), Value::Uint(u64::MAX)),
        (AttrId(5), Value::Float(0.1 + 0.2)),
        (AttrId(6), Value::Float(21.5)),
        (AttrId(7), Value::Float(23.41)),
        (AttrId(8), Value::Float(-1.234)),
        (AttrId(9), Value::Float(1013.2508)),
        (AttrId(200), Value::Text("ä".into())),
        (AttrId(11), Value::Json("[1]".into())),
    ];
    vec![
        (
            Fact::StateChanged { device, changes },
            type_id::STATE_CHANGED,
            2,
            &[
                0xac, 0x02, 12, // device 300, 12 changes
                0, 0, // null
                1, 1, // false
                2, 2, // true
                3, 3, 0x81, 0x01, // int -65, zigzag
                4, 4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, // uint
                5, 5, 0x34, 0x33, 0x33, 0x33, 0x33, 0x33, 0xd3, 0x3f, // float
                6, 6, 0xae, 0x03, // 215 tenths
                7, 7, 0xca, 0x24, // 2341 hundredths
                8, 8, 0xa3, 0x13, // -1234 thousandths
                9, 9, 0xb8, 0xf0, 0xd4, 0x09, // 10132508 ten-thousandths
                0xc8, 0x01, 10, 2, 0xc3, 0xa4, // text
                11, 11, 3, b'[', b'1', b']', // json
            ],
        ),
        (
            Fact::AvailabilityChanged {
                device,
                availability: Availability::Offline,
                cause: AvailabilityCause::Silence,
            },
            type_id::AVAILABILITY_CHANGED,
            1,
            &[0xac, 0x02, 2, 1],
        ),
        (
            Fact::DeviceDiscovered {
                device,
                name: "a/b".into(),
                source: "s".into(),
                parent: Some(DeviceId(1)),
                identity: None,
            },
            type_id::DEVICE_DISCOVERED,
            2,
            &[0xac, 0x02, 3, b'a', b'/', b'b', 1, b's', 1, 1, 0],
        ),
        (
            Fact::DeviceDiscovered {
                device,
                name: "a".into(),
                source: "s".into(),
                parent: None,
                identity: Some(Identity { namespace: "n".into(), name: "a".into() }),
            },
            type_id::DEVICE_DISCOVERED,
            2,
            &[0xac, 0x02, 1, b'a', 1, b's', 0, 1, 1, b'n', 0],
        ),
        (
            Fact::DeviceDiscovered {
                device,
                name: "a@n".into(),
                source: "s".into(),
                parent: None,
                identity: Some(Identity { namespace: "n".into(), name: "a".into() }),
            },
            type_id::DEVICE_DISCOVERED,
            2,
            &[0xac, 0x02, 3, b'a', b'@', b'n', 1, b's', 0, 1, 1, b'n', 1, 1, b'a'],
        ),
        (
            Fact::DeviceRenamed { device, name: "b@n".into(), called: "b".into() },
            type_id::DEVICE_RENAMED,
            1,
            &[0xac, 0x02, 3, b'b', b'@', b'n', 1, b'b'],
        ),
        (
            Fact::QuarantineSummarised {
                source: "s".into(),
                topic: "t".into(),
                reason: "no".into(),
                size: 300,
                count: 128,
                first: Time(-1),
                last: Time(64),
            },
            type_id::QUARANTINE_SUMMARISED,
            1,
            &[1, b's', 1, b't', 2, b'n', b'o', 0xac, 2, 0x80, 1, 1, 0x80, 1],
        ),
        (
            Fact::AttributeNamed { attribute: AttrId(128), name: "t".into() },
            type_id::ATTRIBUTE_NAMED,
            1,
            &[0x80, 0x01, 1, b't'],
        ),
        (Fact::DeviceRetired { device }, type_id::DEVICE_RETIRED, 1, &[0xac, 0x02]),
        (
            Fact::ActionFired { device, attribute: AttrId(2), value: Value::Text("on".into()) },
            type_id::ACTION_FIRED,
            1,
            &[0xac, 0x02, 2, 10, 2, b'o', b'n'],
        ),
        (
            Fact::InputQuarantined {
                source: "s".into(),
                topic: "t".into(),
                reason: "r".into(),
                size: 1 << 20,
            },
            type_id::INPUT_QUARANTINED,
            1,
            &[1, b's', 1, b't', 1, b'r', 0x80, 0x80, 0x40],
        ),
        (
            Fact::Booted {
                boot_id: *b"0123456789abcdef",
                version: "0.1".into(),
                clock: ClockQuality::Synchronised,
            },
            type_id::BOOTED,
            1,
            b"0123456789abcdef\x030.1\x01",
        ),
        (Fact::ClockStepped { expected: Time(1), found: Time(-1) }, type_id::CLOCK_STEPPED, 1, &[2, 1]),
        (
            Fact::ClockCorrected { before: Time(64), after: Time(-1) },
            type_id::CLOCK_CORRECTED,
            1,
            &[128, 1, 1],
        ),
        (
            Fact::ConfigChanged { keys: vec!["a".into(), "bc".into()] },
            type_id::CONFIG_CHANGED,
            1,
            &[2, 1, b'a', 2, b'b', b'c'],
        ),
        (
            Fact::DeadLettered { sink: "s".into(), first: Seq(1), last: Seq(300), reason: "no".into() },
            type_id::DEAD_LETTERED,
            1,
            &[1, b's', 1, 0xac, 2, 2, b'n', b'o'],
        ),
        (Fact::Trimmed { first: Seq(1), last: Seq(128) }, type_id::TRIMMED, 1, &[1, 0x80, 1]),
        (Fact::DeviceForgotten { device }, type_id::DEVICE_FORGOTTEN, 1, &[0xac, 0x02]),
        (
            Fact::DeviceDescribed {
                device,
                by: DescribedBy::Announcement,
                description: DeviceDescription {
                    stable_id: "0x0b".into(),
                    name: "Plug".into(),
                    model: "Z2".into(),
                    manufacturer: String::new(),
                    area: "ä".into(),
                },
            },
            type_id::DEVICE_DESCRIBED,
            1,
            &[
                0xac, 0x02, 0, // device 300, announced
                4, b'0', b'x', b'0', b'b', 4, b'P', b'l', b'u', b'g', 2, b'Z', b'2', 0, 2, 0xc3, 0xa4,
            ],
        ),
        (
            Fact::AttributeDescribed {
                device,
                attribute: AttrId(7),
                by: DescribedBy::Operator,
                description: AttributeDescription {
                    name: "T".into(),
                    unit: "°C".into(),
                    device_class: "t".into(),
                    data_type: DataType::Number,
                    min: Some(-0.5),
                    max: None,
                    step: Some(1.0),
                    values: vec!["a".into(), String::new()],
                    writable: Some(true),
                },
            },
            type_id::ATTRIBUTE_DESCRIBED,
            1,
            &[
                0xac, 0x02, 7, 1, // device 300, attribute 7, the operator
                1, b'T', 3, 0xc2, 0xb0, b'C', 1, b't', 2, // name, unit, device class, number
                1, 0, 0, 0, 0, 0, 0, 0xe0, 0xbf, // from -0.5
                0,    // no maximum
                1, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, // in steps of 1
                2, 1, b'a', 0, 1, 1, // two values; writable
            ],
        ),
        (
            Fact::HistoryReported {
                device,
                changes: vec![(AttrId(1), Value::Float(21.5)), (AttrId(2), Value::Text("on".into()))],
            },
            type_id::HISTORY_REPORTED,
            1,
            &[0xac, 0x02, 2, 1, 6, 0xae, 0x03, 2, 10, 2, b'o', b'n'],
        ),
        (
            Fact::MetricsDeclared {
                device,
                metrics: vec![
                    DeclaredMetric { attribute: Some(AttrId(128)), alias: Some(300), datatype: 9 },
                    DeclaredMetric { attribute: None, alias: None, datatype: 11 },
                ],
            },
            type_id::METRICS_DECLARED,
            1,
            &[0xac, 0x02, 2, 1, 0x80, 1, 1, 0xac, 2, 9, 0, 0, 11],
        ),
        (
            Fact::SessionNoted { device, birth: Some(200), seq: Some(255) },
            type_id::SESSION_NOTED,
            1,
            &[0xac, 0x02, 1, 0xc8, 1, 1, 0xff],
        ),
        (
            Fact::CommandRequested { device, request: Box::new(request()) },
            type_id::COMMAND_REQUESTED,
            1,
            REQUEST,
        ),
        (
            Fact::CommandRequested { device, request: Box::new(traced()) },
            type_id::COMMAND_REQUESTED,
            2,
            TRACED,
        ),
        (
            Fact::CommandRejected {
                device: Some(device),
                rejection: Box::new(CommandRejection {
                    actor: "a".into(),
                    key: "k".into(),
                    device: "d".into(),
                    name: "n".into(),
                    code: "c".into(),
                    reason: "r".into(),
                    unrecorded: 300,
                }),
            },
            type_id::COMMAND_REJECTED,
            1,
            &[1, 0xac, 2, 1, b'a', 1, b'k', 1, b'd', 1, b'n', 1, b'c', 1, b'r', 0xac, 2],
        ),
        (step(Progress::Dispatched { attempt: 2 }), type_id::COMMAND_DISPATCHED, 1, &[0xac, 2, 7, 2]),
        (
            step(Progress::Acknowledged { by: AcknowledgedBy::Device }),
            type_id::COMMAND_ACKNOWLEDGED,
            1,
            &[0xac, 2, 7, 1],
        ),
        (
            step(Progress::Applied { evidence: Some(Seq(300)) }),
            type_id::COMMAND_APPLIED,
            1,
            &[0xac, 2, 7, 1, 0xac, 2],
        ),
        (step(Progress::Applied { evidence: None }), type_id::COMMAND_APPLIED, 1, &[0xac, 2, 7, 0]),
        (step(Progress::Failed { reason: "r".into() }), type_id::COMMAND_FAILED, 1, &[0xac, 2, 7, 1, b'r']),
        (step(Progress::Expired), type_id::COMMAND_EXPIRED, 1, &[0xac, 2, 7]),
        (step(Progress::Superseded { by: Seq(8) }), type_id::COMMAND_SUPERSEDED, 1, &[0xac, 2, 7, 8]),
        (step(Progress::Unconfirmed), type_id::COMMAND_UNCONFIRMED, 1, &[0xac, 2, 7]),
        (step(Progress::Unknown), type_id::COMMAND_UNKNOWN, 1, &[0xac, 2, 7]),
        (step(Progress::Unsent), type_id::COMMAND_UNSENT, 1, &[0xac, 2, 7]),
        (
            Fact::Administered {
                actor: "a".into(),
                call: "c".into(),
                target: "t".into(),
                reason: "r".into(),
            },
            type_id::ADMINISTERED,
            1,
            &[1, b'a', 1, b'c', 1, b't', 1, b'r'],
        ),
        (
            Fact::QuarantineResolved { input: Seq(300), resolution: Resolution::Purged },
            type_id::QUARANTINE_RESOLVED,
            1,
            &[0xac, 2, 1],
        ),
        (
            Fact::AlertRaised(Box::new(Alert {
                rule: "r".into(),
                severity: Severity::Critical,
                subject: Subject::Attribute(device, AttrId(2)),
                condition: Condition::Below,
                threshold: Value::Int(20),
                value: Value::Float(19.5),
            })),
            type_id::ALERT_RAISED,
            1,
            &[1, b'r', 1, 0, 0xac, 2, 2, 1, 3, 40, 6, 0x86, 3],
        ),
        (
            Fact::AlertCleared(Box::new(AlertCleared {
                raised: Seq(300),
                rule: "r".into(),
                severity: Severity::Warning,
                subject: Subject::Device(device),
                because: ClearedBecause::SubjectGone,
                value: Value::Null,
            })),
            type_id::ALERT_CLEARED,
            1,
            &[0xac, 2, 1, b'r', 0, 1, 0xac, 2, 2, 0],
        ),
        (
            Fact::Gap { first: Seq(2), last: Seq(3), lost_by: vec!["a".into()] },
            type_id::GAP,
            1,
            &[2, 3, 1, 1, b'a'],
        ),
        (
            Fact::EpochBegun { previous: Some(Epoch(300)), reason: "no".into() },
            type_id::EPOCH_BEGUN,
            1,
            &[1, 0xac, 2, 2, b'n', b'o'],
        ),
        (Fact::EpochBegun { previous: None, reason: "r".into() }, type_id::EPOCH_BEGUN, 1, &[0, 1, b'r']),
        (
            Fact::RecordsLost { first: Seq(301), last: Seq(400), reason: "r".into() },
            type_id::RECORDS_LOST,
            1,
            &[0xad, 2, 0x90, 3, 1, b'r'],
        ),
    ]
}

fn step(progress: Progress) -> Fact {
    Fact::CommandProgressed { device: DeviceId(300), command: Seq(7), progress }
}

fn request() -> CommandRequest {
    CommandRequest {
        actor: "a".into(),
        key: "k".into(),
        digest: [9; 16],
        reason: "r".into(),
        name: "n".into(),
        operation: false,
        value: Value::Text("ON".into()),
        expires: Time(-1),
        ttl_s: 300,
        booted_for: 1,
        remember_until: Time(1),
        publish: Publish { source: "s".into(), topic: "t".into(), payload: vec![0xff], qos: 1 },
        idempotent: true,
        on_offline: OnOffline::LatestWins,
        confirm_s: 30,
        evidence: Evidence::Reported { attribute: "n".into(), target: Value::Bool(true), tolerance: 0.5 },
        traceparent: None,
    }
}

fn traced() -> CommandRequest {
    let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    CommandRequest { traceparent: TraceParent::parse(text), ..request() }
}

const REQUEST: &[u8] = &[
    0xac, 2, 1, b'a', 1, b'k', 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 1, b'r', 1, b'n', 0, 10, 2,
    b'O', b'N', 1, 0xac, 2, 1, 2, 1, b's', 1, b't', 1, 0xff, 1, 1, 2, 30, 1, 1, b'n', 2, 0, 0, 0, 0, 0, 0,
    0xe0, 0x3f,
];

/// The same, and the trace context.
const TRACED: &[u8] = &[
    0xac, 2, 1, b'a', 1, b'k', 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 1, b'r', 1, b'n', 0, 10, 2,
    b'O', b'N', 1, 0xac, 2, 1, 2, 1, b's', 1, b't', 1, 0xff, 1, 1, 2, 30, 1, 1, b'n', 2, 0, 0, 0, 0, 0, 0,
    0xe0, 0x3f, 1, 0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47,
    0x36, 0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7, 1,
];

#[test]
fn the_evidence_of_a_command_has_four_forms() {
    let reply = Evidence::Reply { topic: "t".into(), id: "/id".into(), error: "/e".into() };
    let both = Evidence::Both {
        attribute: "n".into(),
        target: Value::Int(1),
        tolerance: 0.0,
        topic: "t".into(),
        id: "/id".into(),
        error: "/e".into(),
    };
    let forms = [
        (Evidence::None, &[0][..]),
        (reply, &[2, 1, b't', 3, b'/', b'i', b'd', 2, b'/', b'e'][..]),
        (both, &[3, 1, b'n', 3, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, b't', 3, b'/', b'i', b'd', 2, b'/', b'e'][..]),
    ];
    for (evidence, bytes) in forms {
        let fact = Fact::CommandRequested {
            device: DeviceId(300),
            request: Box::new(CommandRequest { evidence, ..request() }),
        };
        let mut found = Vec::new();
        let kind = stored::encode(&fact, &mut found);
        assert!(found.ends_with(bytes), "{found:?}");
        assert_eq!(stored::decode(kind, &found), Ok(fact));
    }
}

#[test]
fn an_alert_may_be_about_a_sink() {
    let alert = Alert {
        rule: "r".into(),
        severity: Severity::Warning,
        subject: Subject::Sink("s".into()),
        condition: Condition::BacklogSeconds,
        threshold: Value::Uint(300),
        value: Value::Uint(301),
    };
    let fact = Fact::AlertRaised(Box::new(alert));
    let mut found = Vec::new();
    let kind = stored::encode(&fact, &mut found);
    assert_eq!(found, [1, b'r', 0, 2, 1, b's', 7, 4, 0xac, 2, 4, 0xad, 2]);
    assert_eq!((stored::decode(kind, &found), fact.device()), (Ok(fact), None));
}

#[test]
fn golden_bytes_of_every_type_and_version() {
    for (fact, type_id, version, bytes) in golden() {
        let mut found = Vec::new();
        let kind = stored::encode(&fact, &mut found);
        assert_eq!(kind, Kind { type_id, version }, "{fact:?}");
        assert_eq!(found, bytes, "{fact:?}");
        assert_eq!(stored::decode(kind, bytes), Ok(fact));
    }
    // Each has a test of its own below.
    let older = [(type_id::STATE_CHANGED, 1), (type_id::DEVICE_DISCOVERED, 1)];
    for (type_id, version, name) in KINDS {
        let here = golden().iter().any(|(_, id, v, _)| (id, v) == (type_id, version));
        assert!(
            here || older.contains(&(*type_id, *version)),
            "no golden bytes for {name} version {version}"
        );
    }
}

#[test]
fn every_kind_says_which_device_it_is_about() {
    let of_no_device = [
        type_id::ATTRIBUTE_NAMED,
        type_id::INPUT_QUARANTINED,
        type_id::QUARANTINE_SUMMARISED,
        type_id::BOOTED,
        type_id::CLOCK_STEPPED,
        type_id::CLOCK_CORRECTED,
        type_id::CONFIG_CHANGED,
        type_id::DEAD_LETTERED,
        type_id::TRIMMED,
        type_id::GAP,
        type_id::EPOCH_BEGUN,
        type_id::RECORDS_LOST,
        type_id::ADMINISTERED,
        type_id::QUARANTINE_RESOLVED,
    ];
    let golden = golden();
    for (id, _, name) in KINDS {
        let (fact, ..) = golden.iter().find(|(_, type_id, ..)| type_id == id).unwrap();
        let expected = (!of_no_device.contains(id)).then_some(DeviceId(300));
        assert_eq!(fact.device(), expected, "{name}: add it to the list if it is about no device");
        let mut body = RecordBuffer::after(Time(0));
        body.push_fact(Envelope::default(), fact);
        let record = body.records(Seq(1)).next().unwrap().unwrap();
        assert_eq!(record.subject(), Ok(expected), "{name}");
    }
}

#[test]
fn a_record_of_an_unknown_type_goes_on_byte_for_byte() {
    let kind = Kind { type_id: 4_000, version: 7 };
    let mut body = RecordBuffer::after(Time(0));
    body.push(Envelope::default(), |out| {
        out.extend([0xff, 0, 1, 2]);
        kind
    });
    let record = body.records(Seq(1)).next().unwrap().unwrap();
    assert_eq!((record.kind, record.subject()), (kind, Ok(None)));
    let mut again = RecordBuffer::after(Time(0));
    again.push_fact(Envelope::default(), &record.fact().unwrap());
    assert_eq!(again.records(Seq(1)).next().unwrap().unwrap().raw, record.raw);
}

#[test]
fn device_discovered_version_1_says_nothing_of_a_namespace() {
    let bytes = [0xac, 0x02, 3, b'a', b'/', b'b', 1, b's', 1, 1];
    let today = Fact::DeviceDiscovered {
        device: DeviceId(300),
        name: "a/b".into(),
        source: "s".into(),
        parent: Some(DeviceId(1)),
        identity: None,
    };
    let kind = Kind { type_id: type_id::DEVICE_DISCOVERED, version: 1 };
    assert_eq!(stored::decode(kind, &bytes), Ok(today));
}

#[test]
fn state_changed_version_1_is_read_as_today() {
    let changes = [
        (AttrId(0), Value::Null),
        (AttrId(1), Value::Bool(true)),
        (AttrId(3), Value::Int(-65)),
        (AttrId(4), Value::Uint(u64::MAX)),
        (AttrId(7), Value::Float(23.5)),
        (AttrId(8), Value::Text("x".into())),
        (AttrId(9), Value::Json("[]".into())),
    ];
    let bytes: &[u8] = &[
        0xac, 0x02, 7, // device 300, 7 changes
        0, 0, // null
        1, 1, 1, // bool
        3, 2, 0x81, 0x01, // int
        4, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, // uint
        7, 4, 0, 0, 0, 0, 0, 0x80, 0x37, 0x40, // float
        8, 5, 1, b'x', // text
        9, 6, 2, b'[', b']', // json
    ];
    let mut found = Vec::new();
    let kind = encode_state_changed_v1(DeviceId(300), &changes, &mut found);
    assert_eq!(kind, Kind { type_id: type_id::STATE_CHANGED, version: 1 });
    assert_eq!(found, bytes);
    let today = Fact::StateChanged { device: DeviceId(300), changes: changes.to_vec() };
    assert_eq!(stored::decode(kind, bytes), Ok(today));
}

/// `fixtures/chunk-1-state-changed-1.bin` is a chunk as the first version wrote it. It is never written again.
#[test]
fn a_chunk_of_the_first_version_is_read_as_todays_facts() {
    let bytes = include_bytes!("../fixtures/chunk-1-state-changed-1.bin");
    let mut scratch = Vec::new();
    let chunk = Chunk::parse(bytes, &mut scratch).unwrap();
    let facts: Vec<Fact> = chunk.records().map(|record| record.unwrap().fact().unwrap()).collect();
    assert_eq!(facts, crate::chunk::first_version_facts());
    let last = chunk.records().last().unwrap().unwrap();
    assert_eq!((last.kind.version, last.seq.0, last.time), (1, 105, Time(1_600_000_003_000_000)));
}

#[test]
fn a_newer_version_of_a_known_type_is_refused_in_words() {
    let mut newest = std::collections::BTreeMap::new();
    newest.extend(KINDS.iter().map(|(type_id, version, _)| (*type_id, *version)));
    for (type_id, version) in newest {
        for version in [0, version + 1, 15] {
            let kind = Kind { type_id, version };
            let error = stored::decode(kind, &[0]).unwrap_err();
            assert_eq!(error, StoredError::Newer { kind });
            let words = error.to_string();
            assert!(words.contains(&format!("record type {type_id} version {version}")), "{words}");
            assert!(words.contains("install that version or a later one"), "{words}");
        }
    }
    let newer = Kind { type_id: type_id::STATE_CHANGED, version: 3 };
    assert!(Changes::parse(newer, &[0, 0]).is_err());
}

#[test]
fn an_unknown_type_is_kept_as_it_is() {
    let kind = Kind { type_id: 4_000, version: 7 };
    let payload = [0xff, 0, 1, 2];
    let fact = stored::decode(kind, &payload).unwrap();
    assert_eq!(fact, Fact::Unknown { kind, payload: payload.to_vec() });
    let mut again = Vec::new();
    assert_eq!(stored::encode(&fact, &mut again), kind);
    assert_eq!(again, payload);
}

#[test]
fn no_byte_may_be_left_over_or_missing() {
    let mut v1 = Vec::new();
    let kind = encode_state_changed_v1(DeviceId(1), &[(AttrId(2), Value::Int(3))], &mut v1);
    let golden = golden();
    let all = golden
        .iter()
        .map(|(_, type_id, version, bytes)| (Kind { type_id: *type_id, version: *version }, *bytes));
    for (kind, bytes) in all.chain([(kind, &v1[..])]) {
        let expected = Err(StoredError::Payload { kind });
        assert_eq!(stored::decode(kind, &[bytes, &[0]].concat()), expected);
        for len in 0..bytes.len() {
            assert_eq!(stored::decode(kind, &bytes[..len]), expected, "{kind:?} cut to {len}");
        }
    }
}

/// What postcard would derive for the hot path that is written by hand.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct StateChangedV2<'a> {
    device: u32,
    #[serde(borrow)]
    changes: Vec<(u32, ValueV2<'a>)>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
enum ValueV2<'a> {
    Null,
    False,
    True,
    Int(i64),
    Uint(u64),
    Float(f64),
    D1(i64),
    D2(i64),
    D3(i64),
    D4(i64),
    Text(&'a str),
    Json(&'a str),
}

impl ValueV2<'_> {
    fn value(&self) -> Value {
        match *self {
            ValueV2::Null => Value::Null,
            ValueV2::False => Value::Bool(false),
            ValueV2::True => Value::Bool(true),
            ValueV2::Int(v) => Value::Int(v),
            ValueV2::Uint(v) => Value::Uint(v),
            ValueV2::Float(v) => Value::Float(v),
            ValueV2::D1(v) => Value::Float(v as f64 / 10.0),
            ValueV2::D2(v) => Value::Float(v as f64 / 100.0),
            ValueV2::D3(v) => Value::Float(v as f64 / 1_000.0),
            ValueV2::D4(v) => Value::Float(v as f64 / 10_000.0),
            ValueV2::Text(v) => Value::Text(v.into()),
            ValueV2::Json(v) => Value::Json(v.into()),
        }
    }
}

fn read(bytes: &[u8]) -> Result<(u32, Vec<(u32, Value)>), StoredError> {
    let mut changes = Changes::parse(Kind { type_id: type_id::STATE_CHANGED, version: 2 }, bytes)?;
    let mut found = Vec::new();
    while let Some((attr, value)) = changes.next()? {
        found.push((attr.0, value.to_owned()));
    }
    Ok((changes.device.0, found))
}

fn bits(value: &Value) -> Option<u64> {
    if let Value::Float(v) = value { Some(v.to_bits()) } else { None }
}

proptest! {
    #[test]
    fn the_hot_path_writes_and_reads_what_postcard_does(
        device: u32,
        changes in prop::collection::vec((any::<u32>(), given::value()), 0..8),
    ) {
        let mut ours = Vec::new();
        let borrowed = changes.iter().map(|(attr, value)| (AttrId(*attr), value.borrow()));
        let kind = encode_changes(DeviceId(device), borrowed, &mut ours);
        let derived: StateChangedV2<'_> = postcard::from_bytes(&ours).unwrap();
        prop_assert_eq!(&postcard::to_stdvec(&derived).unwrap(), &ours);
        let values: Vec<(u32, Value)> = derived.changes.iter().map(|(attr, v)| (*attr, v.value())).collect();
        prop_assert_eq!((derived.device, &values), (device, &changes));
        // The very same float, also -0.0, although it may have been stored as a scaled integer.
        for ((_, found), (_, sent)) in values.iter().zip(&changes) {
            prop_assert_eq!(bits(found), bits(sent));
        }
        prop_assert_eq!(read(&ours), Ok((device, changes)));
        prop_assert_eq!(kind.version, 2);
    }

    #[test]
    fn the_hot_path_refuses_what_postcard_refuses(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let derived = match postcard::take_from_bytes::<StateChangedV2<'_>>(&bytes) {
            Ok((derived, [])) => {
                let changes: Vec<_> = derived.changes.iter().map(|(attr, v)| (*attr, v.value())).collect();
                Some((derived.device, changes))
            }
            _ => None,
        };
        let ours = read(&bytes).ok();
        // Debug, because a NaN is not equal to itself.
        prop_assert_eq!(format!("{ours:?}"), format!("{derived:?}"));
    }

    #[test]
    fn every_fact_comes_back(fact in given::fact()) {
        let mut bytes = Vec::new();
        let kind = stored::encode(&fact, &mut bytes);
        prop_assert_eq!(stored::decode(kind, &bytes), Ok(fact));
    }

    #[test]
    fn no_bytes_make_it_panic(
        type_id in 0..14u16,
        version in 0..16u8,
        bytes in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let _ = stored::decode(Kind { type_id, version }, &bytes);
    }
}
