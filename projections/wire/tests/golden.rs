//! Compact parcels, byte by byte: every later version must read what a release has written. See `FORMAT.md`.
//!
//! Each case has two fixtures: `NAME.flc1`, a parcel as sent, and `NAME.jsonl`, its content: the manifest, then its
//! events as CloudEvents. Never change them; a new version of the format gets new ones.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use fieldlog_projections::Records;
use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::command::{CommandRequest, Evidence, OnOffline, Publish};
use fieldlog_projections::fact::{Availability, AvailabilityCause, ClockQuality, Identity};
use fieldlog_projections::stored::type_id;
use fieldlog_projections::{
    AttrId, ChainHash, DeviceId, Epoch, Fact, Kind, Record, Seq, Time, TraceParent, Value,
};
use fieldlog_wire::compact::{Compact, Encoder, MAGIC};
use fieldlog_wire::event::Naming;
use fieldlog_wire::received::Received;
use fieldlog_wire::{Lane, Manifest};

const EPOCH: Epoch = Epoch(0x0123_4567_89ab_cdef);
const START: Time = Time(1_763_892_000_000_000);

/// A stretch of a log, and the positions of it that are sent.
struct Case {
    name: &'static str,
    lane: Lane,
    first: u64,
    body: RecordBuffer,
    sent: Vec<u64>,
}

struct Names;

impl Naming for Names {
    fn device(&self, id: DeviceId) -> &str {
        match id.0 {
            0 => "hub",
            5 => "plant/sensor 5",
            300 => "Küche/Licht",
            _ => panic!("{id:?} is in no event"),
        }
    }

    fn attribute(&self, id: AttrId) -> &str {
        match id.0 {
            0 => "temperature",
            200 => "state",
            _ => panic!("{id:?} is in no event"),
        }
    }
}

fn at(seconds: i64) -> Envelope {
    Envelope { wall: Time(START.0 + seconds * 1_000_000), ..Envelope::default() }
}

fn state(device: u32, value: f64) -> Fact {
    let changes = vec![(AttrId(0), Value::Float(value)), (AttrId(200), Value::Text("ON".into()))];
    Fact::StateChanged { device: DeviceId(device), changes }
}

/// A log from its first position on, all of it sent.
fn live() -> Case {
    let mut body = RecordBuffer::after(Time(0));
    let clock = ClockQuality::Synchronised;
    body.push_fact(at(0), &Fact::Booted { boot_id: [7; 16], version: "0.1.0".into(), clock });
    body.push_fact(at(0), &Fact::AttributeNamed { attribute: AttrId(0), name: "temperature".into() });
    // As version 1 wrote it.
    body.push(at(1), |out| {
        out.push(5);
        out.extend(b"\x0eplant/sensor 5");
        out.extend(b"\x04home\x01\x00");
        Kind { type_id: type_id::DEVICE_DISCOVERED, version: 1 }
    });
    let caused = Envelope { device_time: Some(Time(START.0 - 250)), cause: Some(Seq(3)), ..at(2) };
    body.push_fact(caused, &state(5, 21.5));
    Case { name: "live", lane: Lane::Live, first: 1, body, sent: vec![1, 2, 3, 4] }
}

/// Positions without an event at the start, in between and at the end; a record of a type that is not known here.
fn filtered() -> Case {
    let mut body = RecordBuffer::after(START);
    for n in 0..9 {
        body.push_fact(at(60 * n), &state(if n == 6 { 300 } else { 5 }, n as f64 / 10.0));
    }
    body.push(at(600), |out| {
        out.extend_from_slice(b"later");
        Kind { type_id: 999, version: 3 }
    });
    body.push_fact(at(601), &state(5, 0.0));
    Case { name: "filtered", lane: Lane::Backlog, first: 1_000, body, sent: vec![1_002, 1_003, 1_006, 1_009] }
}

/// Priority copies, which cover nothing.
fn priority() -> Case {
    let mut body = RecordBuffer::after(START);
    let (availability, cause) = (Availability::Offline, AvailabilityCause::Silence);
    for n in 0..6 {
        let fact = Fact::AvailabilityChanged { device: DeviceId(300), availability, cause };
        body.push_fact(at(n), &if n % 3 == 2 { fact } else { state(5, 1.0) });
    }
    Case { name: "priority", lane: Lane::Priority, first: 77, body, sent: vec![79, 82] }
}

/// Log time goes back within the parcel.
fn corrected() -> Case {
    let mut body = RecordBuffer::after(START);
    body.push_fact(at(86_400), &state(5, 1.0));
    body.push_correction(at(10).wall);
    body.push_fact(at(11), &state(5, 2.0));
    Case { name: "corrected", lane: Lane::Live, first: 20, body, sent: vec![20, 21, 22] }
}

/// What there is of namespaces.
fn names() -> Case {
    let mut body = RecordBuffer::after(START);
    let (device, parent) = (DeviceId(5), Some(DeviceId(0)));
    let identity = Some(Identity { namespace: "home".into(), name: "plant/sensor".into() });
    let discovered = Fact::DeviceDiscovered {
        device,
        name: "plant/sensor@home".into(),
        source: "s".into(),
        parent,
        identity,
    };
    body.push_fact(at(0), &discovered);
    let renamed =
        Fact::DeviceRenamed { device, name: "plant/sensor 5".into(), called: "plant/sensor 5".into() };
    body.push_fact(at(1), &renamed);
    let summary = Fact::QuarantineSummarised {
        source: "home".into(),
        topic: "plant/x".into(),
        reason: "no JSON".into(),
        size: 300,
        count: 2_997,
        first: at(-600).wall,
        last: at(-1).wall,
    };
    body.push_fact(at(2), &summary);
    Case { name: "names", lane: Lane::Live, first: 30, body, sent: vec![30, 31, 32] }
}

/// Two commands, one of them in a trace.
fn commanded() -> Case {
    let mut body = RecordBuffer::after(START);
    let request = |key: &str, traceparent| CommandRequest {
        actor: "token:admin".into(),
        key: key.into(),
        digest: [9; 16],
        reason: String::new(),
        name: "state".into(),
        operation: false,
        value: Value::Text("ON".into()),
        expires: at(30).wall,
        ttl_s: 30,
        booted_for: 600_000_000,
        remember_until: at(86_430).wall,
        publish: Publish { source: "home".into(), topic: "l/set".into(), payload: b"ON".to_vec(), qos: 1 },
        idempotent: true,
        on_offline: OnOffline::Reject,
        confirm_s: 10,
        evidence: Evidence::None,
        traceparent,
    };
    let traceparent = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    for request in [request("a", None), request("b", traceparent)] {
        body.push_fact(at(0), &Fact::CommandRequested { device: DeviceId(300), request: Box::new(request) });
    }
    Case { name: "commanded", lane: Lane::Live, first: 40, body, sent: vec![40, 41] }
}

/// No event has passed the filter.
fn empty() -> Case {
    let mut body = RecordBuffer::after(START);
    body.push_fact(at(0), &state(5, 1.0));
    body.push_fact(at(1), &state(5, 2.0));
    Case { name: "empty", lane: Lane::Live, first: 8, body, sent: vec![] }
}

fn cases() -> [Case; 7] {
    [live(), filtered(), priority(), corrected(), empty(), names(), commanded()]
}

impl Case {
    fn records(&self) -> Records<'_> {
        self.body.records(Seq(self.first))
    }

    fn sent(&self) -> Vec<Record<'_>> {
        self.records().map(Result::unwrap).filter(|record| self.sent.contains(&record.seq.0)).collect()
    }

    fn manifest(&self) -> Manifest {
        let before = if self.first == 1 { ChainHash::origin(EPOCH) } else { ChainHash([0xb1; 32]) };
        let last = Seq(self.first + self.body.len() as u64 - 1);
        Manifest {
            gateway: "plant-7".into(),
            epoch: EPOCH,
            first: Seq(self.first),
            last,
            lane: self.lane,
            before,
            after: self.records().map(Result::unwrap).fold(before, |link, record| link.after(record.raw)),
            head: Seq(last.0 + 5),
            events: self.sent.len() as u32,
        }
    }

    fn encoded(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.begin();
        for record in self.sent() {
            encoder.push(&record, Seq(self.first)).unwrap();
        }
        encoder.finish(&self.manifest(), &Names).to_vec()
    }

    fn path(&self, extension: &str) -> PathBuf {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        dir.join(format!("{}.{extension}", self.name))
    }

    fn golden(&self) -> Vec<u8> {
        std::fs::read(self.path("flc1")).unwrap()
    }
}

fn uncompressed(parcel: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut frame = parcel.strip_prefix(MAGIC).unwrap();
    let mut plain = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(&mut frame).unwrap().read_to_end(&mut plain).unwrap();
    plain
}

/// What a parcel says, as text.
fn told(parcel: &[u8]) -> String {
    let received = Received::read(parcel, |_| None).unwrap();
    format!("{}\n{}", received.manifest.json(), String::from_utf8(received.lines).unwrap())
}

#[test]
fn what_was_written_is_read() {
    for case in cases() {
        let golden = case.golden();
        let expected = std::fs::read_to_string(case.path("jsonl")).unwrap();
        assert_eq!(told(&golden), expected, "{}", case.name);
        let compact = Compact::decode(&golden).unwrap();
        assert_eq!(compact.manifest, case.manifest(), "{}", case.name);
        let mut records = compact.records();
        for sent in case.sent() {
            assert_eq!(records.next_record(), Ok(Some(sent)), "{}", case.name);
        }
        assert_eq!(records.next_record(), Ok(None), "{}", case.name);
    }
}

#[test]
fn what_is_written_is_the_same_uncompressed() {
    for case in cases() {
        assert_eq!(uncompressed(&case.encoded()), uncompressed(&case.golden()), "{}", case.name);
    }
}

#[test]
fn the_chain_of_a_whole_parcel_comes_out_as_it_says() {
    for case in cases() {
        let received = Received::read(&case.golden(), |_| None).unwrap();
        assert_eq!(
            received.has_chain(),
            ["live", "corrected", "names", "commanded"].contains(&case.name),
            "{}",
            case.name
        );
        let after = received.arrival().chain.map(|chain| *chain.last().unwrap());
        assert!(after.is_none_or(|link| link == received.manifest.after), "{}", case.name);
    }
}

/// `FORMAT.md`, field by field and without the code that writes parcels.
#[test]
fn a_parcel_is_the_bytes_that_the_document_names() {
    let manifest = corrected().manifest();
    let mut plain = vec![7];
    plain.extend(b"plant-7"); // gateway
    plain.extend([0xef, 0x9b, 0xaf, 0xcd, 0xf8, 0xac, 0xd1, 0x91, 0x01]); // epoch
    plain.extend([20, 22, 0]); // first, last, live
    plain.extend(manifest.before.0);
    plain.extend(manifest.after.0);
    plain.extend([27, 3]); // head, events
    // The base time, zigzag: the start and a day.
    plain.extend([0x80, 0xa0, 0xe3, 0x9e, 0x87, 0x95, 0xa2, 0x06]);
    plain.extend([1, 5, 14]); // one device: 5, and the length of its name
    plain.extend(b"plant/sensor 5");
    plain.extend([2, 0, 11]); // two attributes: 0
    plain.extend(b"temperature");
    plain.extend([0xc8, 0x01, 5]); // and 200
    plain.extend(b"state");
    let case = corrected();
    let raw: Vec<&[u8]> = case.sent().iter().map(|record| record.raw).collect();
    let back = 10 - 86_400; // seconds
    let mut records = vec![0, 0];
    records.extend(raw[0]);
    records.push(1);
    let mut delta = (back * 1_000_000_i64) as u64; // modulo 2^64
    while delta >= 0x80 {
        records.push(delta as u8 | 0x80);
        delta >>= 7;
    }
    records.push(delta as u8);
    records.extend(raw[1]);
    records.extend([1, 0xc0, 0x84, 0x3d]); // a second
    records.extend(raw[2]);
    assert!(records.len() < 128);
    plain.push(records.len() as u8);
    plain.extend(records);
    assert_eq!(uncompressed(&case.golden()), plain);
}

/// Writes the fixtures of a new case; those that are there stay as they are:
/// `cargo test -p fieldlog-wire --test golden -- --ignored`.
#[test]
#[ignore = "writes the fixtures of a new case"]
fn write_the_fixtures() {
    for case in cases() {
        let parcel = case.encoded();
        for (extension, content) in [("flc1", parcel.clone()), ("jsonl", told(&parcel).into_bytes())] {
            if !case.path(extension).exists() {
                std::fs::write(case.path(extension), content).unwrap();
            }
        }
    }
}
