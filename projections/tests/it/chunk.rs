//! A chunk is read completely or refused.

use std::convert::Infallible;

use fieldlog_projections::chunk::{ChunkError, Envelope, Fill, HEADER_BYTES, Header, Place, RecordBuffer};
use fieldlog_projections::record::RecordsError;
use fieldlog_projections::stored::encode_state_changed_v1;
use fieldlog_projections::{AttrId, Chunk, DeviceId, Fact, Kind, Seq, Time, Value};
use proptest::prelude::*;

use crate::given;

const WIDE: Fill = Fill { large: 1 << 20, small: 1 << 20 };

fn pack(body: &RecordBuffer, first: Seq, fill: Fill) -> Vec<(Seq, Vec<u8>)> {
    let mut packed = Vec::new();
    let mut ratio = 1024;
    let sink = |seq, bytes: &[u8]| {
        packed.push((seq, bytes.to_vec()));
        Ok::<_, Infallible>(())
    };
    body.chunks(first, Place::default(), fill, &mut ratio, sink).unwrap();
    packed
}

/// Everything about the records of a body, as text that can be compared.
fn listed(body: &RecordBuffer, first: Seq) -> Vec<String> {
    body.records(first).map(|record| format!("{:?}", record.unwrap())).collect()
}

fn unpacked(packed: &[(Seq, Vec<u8>)]) -> Vec<String> {
    let mut found = Vec::new();
    for (seq, bytes) in packed {
        let mut scratch = Vec::new();
        let chunk = Chunk::parse(bytes, &mut scratch).unwrap();
        assert_eq!(chunk.header.first, *seq);
        let before = found.len();
        found.extend(chunk.records().map(|record| format!("{:?}", record.unwrap())));
        assert_eq!(found.len() - before, chunk.header.count as usize);
        assert_eq!(chunk.header.last().0, seq.0 + u64::from(chunk.header.count) - 1);
    }
    found
}

/// A chunk of one fact.
fn one() -> Vec<u8> {
    let mut body = RecordBuffer::after(Time(0x0102_0304_0506_0708));
    let fact = Fact::DeviceRetired { device: DeviceId(7) };
    body.push_fact(Envelope { wall: Time(0x0102_0304_0506_0709), ..Envelope::default() }, &fact);
    pack(&body, Seq(0x1112_1314_1516_1718), WIDE).remove(0).1
}

/// A chunk that is worth compressing.
fn many() -> Vec<u8> {
    let mut body = RecordBuffer::after(Time(0));
    for n in 0..40 {
        let changes = vec![(AttrId(1), Value::Int(n)), (AttrId(2), Value::Text("always the same".into()))];
        body.push_fact(Envelope::default(), &Fact::StateChanged { device: DeviceId(1), changes });
    }
    pack(&body, Seq(1), WIDE).remove(0).1
}

pub fn first_version_facts() -> Vec<Fact> {
    let state =
        |changes: &[(AttrId, Value)]| Fact::StateChanged { device: DeviceId(0), changes: changes.to_vec() };
    vec![
        Fact::DeviceDiscovered {
            device: DeviceId(0),
            name: "old".into(),
            source: "s".into(),
            parent: None,
            identity: None,
        },
        Fact::AttributeNamed { attribute: AttrId(0), name: "temperature".into() },
        state(&[(AttrId(0), Value::Float(21.5)), (AttrId(1), Value::Bool(false)), (AttrId(2), Value::Null)]),
        state(&[(AttrId(0), Value::Int(-3)), (AttrId(3), Value::Text("grün".into()))]),
        Fact::Unknown { kind: Kind { type_id: 777, version: 2 }, payload: vec![1, 2, 3] },
        state(&[(AttrId(4), Value::Uint(u64::MAX)), (AttrId(5), Value::Json("[1,2]".into()))]),
    ]
}

/// How the fixture of the first version was made; kept to make one for the next. Prints it as hex.
#[test]
#[ignore = "a fixture is made once, with the version that it is of"]
fn make_the_fixture() {
    let mut body = RecordBuffer::after(Time(1_600_000_000_000_000));
    for (n, fact) in first_version_facts().iter().enumerate() {
        let wall = Time(1_600_000_000_000_000 + (n as i64).min(3) * 1_000_000);
        body.push(Envelope { wall, ..Envelope::default() }, |out| match fact {
            Fact::StateChanged { device, changes } => encode_state_changed_v1(*device, changes, out),
            other => fieldlog_projections::stored::encode(other, out),
        });
    }
    let hex: String = pack(&body, Seq(100), WIDE)[0].1.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("FIXTURE {hex}");
}

#[test]
fn golden_bytes_of_a_chunk() {
    let expected: &[u8] = &[
        b'F', b'L', 1, 0, // magic, version, not compressed
        0, 0, 0, 0, // CRC-32 of all the rest; filled in below
        1, 0, 0, 0, // count
        6, 0, 0, 0, // bytes of the records; filled in below
        0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, // first position
        0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, // log time of the record before
        0, 0, 0, 0, 0, 0, 0, 0, // stored bytes before
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // the chain before
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, //
        0x51, 0, 1, 1, 7, // type 5 version 1, no flags, 1 µs later, 1 byte: device 7
    ];
    let found = one();
    let crc = crc32fast::hash(&[&found[..4], &found[8..]].concat());
    let mut expected = expected.to_vec();
    expected[4..8].copy_from_slice(&crc.to_le_bytes());
    expected[12] = (expected.len() - HEADER_BYTES) as u8;
    assert_eq!(found, expected);
    assert_eq!(crc, GOLDEN_CRC, "{crc:#010x}");
    assert_eq!(many()[3], 1, "compressed");
}

/// Of the chunk above; what a CRC is must not change either.
const GOLDEN_CRC: u32 = 0x686c_5f0d;

#[test]
fn every_single_bit_counts() {
    for chunk in [one(), many()] {
        assert!(Chunk::parse(&chunk, &mut Vec::new()).is_ok());
        for bit in 0..chunk.len() * 8 {
            let mut bad = chunk.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Chunk::parse(&bad, &mut Vec::new()).is_err(), "bit {bit} flipped unnoticed");
        }
        for len in 0..chunk.len() {
            assert!(Chunk::parse(&chunk[..len], &mut Vec::new()).is_err(), "cut to {len} unnoticed");
        }
        assert!(Chunk::parse(&[&chunk[..], &[0]].concat(), &mut Vec::new()).is_err());
    }
}

#[test]
fn what_is_refused_is_named() {
    let check = |at: usize, byte: u8, expected: ChunkError| {
        let mut bytes = one();
        bytes[at] = byte;
        seal(&mut bytes);
        assert_eq!(Chunk::parse(&bytes, &mut Vec::new()).unwrap_err(), expected);
    };
    check(0, b'X', ChunkError::NotAChunk);
    check(2, 2, ChunkError::Version(2));
    check(3, 7, ChunkError::Codec(7));
    check(8, 0, ChunkError::Length);
    check(12, 9, ChunkError::Length);
    check(15, 0xff, ChunkError::Length);
    assert_eq!(Header::parse(&[0; 31]), Err(ChunkError::Cut));
    let mut bytes = one();
    bytes[16..24].copy_from_slice(&[0xff; 8]);
    seal(&mut bytes);
    assert_eq!(Chunk::parse(&bytes, &mut Vec::new()).unwrap_err(), ChunkError::Length);
    let mut bytes = many();
    bytes[13] = 0xff;
    seal(&mut bytes);
    assert_eq!(Chunk::parse(&bytes, &mut Vec::new()).unwrap_err(), ChunkError::Length);
}

#[test]
fn a_header_that_promises_other_records_is_found_out() {
    let mut bytes = many();
    bytes[8] += 1;
    seal(&mut bytes);
    let mut scratch = Vec::new();
    let chunk = Chunk::parse(&bytes, &mut scratch).unwrap();
    assert_eq!(chunk.records().last().unwrap(), Err(RecordsError::Record(Seq(41))));
    let mut bytes = many();
    bytes[8] -= 1;
    seal(&mut bytes);
    let mut scratch = Vec::new();
    let chunk = Chunk::parse(&bytes, &mut scratch).unwrap();
    assert_eq!(chunk.records().last().unwrap(), Err(RecordsError::Length));
}

/// Writes the checksum that makes a forged chunk credible.
fn seal(bytes: &mut [u8]) {
    let crc = crc32fast::hash(&[&bytes[..4], &bytes[8..]].concat());
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

fn walk(bytes: &[u8]) {
    let mut scratch = Vec::new();
    if let Ok(chunk) = Chunk::parse(bytes, &mut scratch) {
        let _ = RecordBuffer::after(Time(0)).join(&chunk);
        for record in chunk.records().flatten() {
            let _ = record.fact();
        }
    }
    if let Ok(header) = Header::parse(bytes) {
        let _ = header.last();
    }
}

fn fill() -> impl Strategy<Value = Fill> {
    (0..3_000usize, 0..3_000usize).prop_map(|(a, b)| Fill { large: a.max(b), small: a.min(b) })
}

proptest! {
    #[test]
    fn every_cut_gives_the_same_records(body in given::history(1..120), fill in fill(), first in 1..u64::MAX / 2) {
        let first = Seq(first);
        let packed = pack(&body, first, fill);
        prop_assert_eq!(unpacked(&packed), listed(&body, first));
        for (_, bytes) in &packed {
            let count = Header::parse(bytes).unwrap().count;
            prop_assert!(count == 1 || bytes.len() <= fill.large, "{} bytes", bytes.len());
        }
    }

    #[test]
    fn joined_chunks_are_the_body_again(body in given::history(1..80), fill in fill(), more in given::history(0..20)) {
        let mut joined = RecordBuffer::after(Time(1_700_000_000_000_000));
        for (_, bytes) in pack(&body, Seq(1), fill) {
            let mut scratch = Vec::new();
            joined.join(&Chunk::parse(&bytes, &mut scratch).unwrap()).unwrap();
        }
        prop_assert_eq!(listed(&joined, Seq(1)), listed(&body, Seq(1)));
        prop_assert_eq!((joined.len(), joined.bytes(), joined.last_time()), (body.len(), body.bytes(), body.last_time()));
        // What is appended to it then is as if it had been pushed.
        let mut later = RecordBuffer::after(joined.last_time());
        for record in more.records(Seq(1)) {
            let record = record.unwrap();
            let envelope = Envelope { wall: record.wall, device_time: record.device_time, cause: record.cause };
            for body in [&mut later, &mut joined] {
                body.push(envelope, |out| {
                    out.extend_from_slice(record.payload);
                    record.kind
                });
            }
        }
        let mut appended = body.clone();
        appended.append(&later);
        prop_assert_eq!(listed(&appended, Seq(1)), listed(&joined, Seq(1)));
        prop_assert_eq!(unpacked(&pack(&appended, Seq(1), fill)), listed(&joined, Seq(1)));
    }

    #[test]
    fn what_is_dropped_in_front_leaves_the_rest_as_it_was(body in given::history(1..60), at: prop::sample::Index) {
        let at = at.index(body.len() + 1);
        let all = listed(&body, Seq(1));
        let mut rest = body.clone();
        rest.drop_front(at);
        prop_assert_eq!(listed(&rest, Seq(1 + at as u64)), &all[at..]);
        prop_assert_eq!(rest.last_time(), body.last_time());
        if at < body.len() {
            prop_assert_eq!(unpacked(&pack(&rest, Seq(1 + at as u64), WIDE)), &all[at..]);
        }
        let mut clear = body.clone();
        clear.clear();
        prop_assert!(clear.is_empty());
        prop_assert_eq!(clear.last_time(), body.last_time());
    }

    #[test]
    fn log_time_never_goes_back(body in given::history(1..60)) {
        let mut last = Time(i64::MIN);
        for record in body.records(Seq(1)) {
            let record = record.unwrap();
            prop_assert!(record.time >= last);
            prop_assert!(record.time >= record.wall);
            last = record.time;
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        walk(&bytes);
        let forged = |codec: u8, raw: u32| {
            let mut forged = one()[..HEADER_BYTES].to_vec();
            forged[3] = codec;
            forged[12..16].copy_from_slice(&raw.to_le_bytes());
            forged.extend_from_slice(&bytes);
            seal(&mut forged);
            forged
        };
        walk(&forged(0, bytes.len() as u32));
        walk(&forged(1, 5_000));
        walk(&forged(1, u32::MAX));
    }

    #[test]
    fn no_forged_header_makes_it_panic(
        body in given::history(1..10),
        at in prop::collection::vec((8..HEADER_BYTES, any::<u8>()), 1..20),
    ) {
        let mut bytes = pack(&body, Seq(1), WIDE).remove(0).1;
        at.iter().for_each(|(at, byte)| bytes[*at] = *byte);
        seal(&mut bytes);
        walk(&bytes);
    }

    #[test]
    fn a_flipped_bit_of_any_chunk_is_found(body in given::history(1..30), bit: prop::sample::Index) {
        let mut bytes = pack(&body, Seq(1), WIDE).remove(0).1;
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Chunk::parse(&bytes, &mut Vec::new()).is_err());
    }
}
