//! Values by data type, topics and STATE. Sessions are tested together with the observer.

use bytes::Bytes;
use fieldlog_projections::{Time, Value};

use super::command::{self, Called};
use super::payload::{Certificate, Payload, PayloadFault, Raw};
use super::state;
use super::topic::{SparkplugTopic, Verb, is_sparkplug};
use super::value::{ValueFault, value};
use proptest::prelude::*;
use prost::Message;

#[allow(clippy::needless_pass_by_value)] // literals
fn check(datatype: u32, raw: Raw, expected: Result<Value, ValueFault>) {
    assert_eq!(value(datatype, &raw, 80), expected, "data type {datatype}, {raw:?}");
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn packed(bytes: &'static [u8]) -> Raw {
    Raw::Bytes(Bytes::from_static(bytes))
}

/// `tck-id-payloads-metric-datatype-value`: the sign of a number is in its data type alone.
#[test]
fn signed_numbers_are_twos_complement_of_any_width() {
    for raw in [0xff, 0xffff_ffff] {
        check(1, Raw::Int(raw), Ok(Value::Int(-1)));
    }
    check(1, Raw::Int(0x80), Ok(Value::Int(-128)));
    check(1, Raw::Int(127), Ok(Value::Int(127)));
    check(1, Raw::Int(300), Err(ValueFault::Mismatch(1)));
    check(2, Raw::Int(0xfffe), Ok(Value::Int(-2)));
    check(2, Raw::Int(0xffff_fffe), Ok(Value::Int(-2)));
    check(3, Raw::Int(0xffff_fffe), Ok(Value::Int(-2)));
    check(3, Raw::Long(u64::MAX), Ok(Value::Int(-1)));
    check(3, Raw::Long(0xffff_ffff), Ok(Value::Int(-1)));
    check(3, Raw::Long(1 << 40), Err(ValueFault::Mismatch(3)));
    check(4, Raw::Long(u64::MAX), Ok(Value::Int(-1)));
    check(4, Raw::Int(u32::MAX), Ok(Value::Int(i64::from(u32::MAX))));
}

#[test]
fn unsigned_numbers_are_held_to_their_width() {
    check(5, Raw::Int(255), Ok(Value::Int(255)));
    check(5, Raw::Int(256), Err(ValueFault::Mismatch(5)));
    check(6, Raw::Int(65_536), Err(ValueFault::Mismatch(6)));
    check(7, Raw::Long(u64::from(u32::MAX)), Ok(Value::Int(i64::from(u32::MAX))));
    check(7, Raw::Long(1 << 32), Err(ValueFault::Mismatch(7)));
    check(8, Raw::Long(u64::MAX), Ok(Value::Uint(u64::MAX)));
}

#[test]
fn floats_are_what_a_person_would_write() {
    check(9, Raw::Float(12.1), Ok(Value::Float(12.1)));
    check(10, Raw::Double(0.1), Ok(Value::Float(0.1)));
    for none in [f32::NAN, f32::INFINITY] {
        check(9, Raw::Float(none), Ok(Value::Null));
        check(10, Raw::Double(none.into()), Ok(Value::Null));
    }
    check(9, Raw::Double(1.0), Err(ValueFault::Mismatch(9)));
}

#[test]
fn text_times_and_bytes_become_text_within_the_limit() {
    check(12, Raw::Text("ä".into()), Ok(text("ä")));
    check(15, Raw::Text("7f3c".into()), Ok(text("7f3c")));
    check(13, Raw::Long(1_700_000_000_123), Ok(text("2023-11-14T22:13:20.123Z")));
    check(13, Raw::Long(u64::MAX), Err(ValueFault::Mismatch(13)));
    check(17, packed(&[0, 0xff]), Ok(text("00ff")));
    check(18, packed(&[0; 41]), Err(ValueFault::TooLong { bytes: 82, max: 80 }));
    check(12, Raw::Text("x".repeat(81)), Err(ValueFault::TooLong { bytes: 81, max: 80 }));
}

/// The examples of section 6.4.17.
#[test]
fn tck_id_payloads_metric_datatype_arrays() {
    let json = |text: &str| Ok(Value::Json(text.into()));
    check(22, packed(&[0xef, 0x7b]), json("[-17,123]"));
    check(23, packed(&[0xd0, 0x8a, 0x30, 0x75]), json("[-30000,30000]"));
    check(24, packed(&[0xff, 0xff, 0xff, 0xff, 0x44, 0x79, 0xff, 0x12]), json("[-1,318732612]"));
    check(26, packed(&[0x17, 0xfa]), json("[23,250]"));
    check(27, packed(&[0x1e, 0, 0x88, 0xb8]), json("[30,47240]"));
    check(29, packed(&[0xff; 8]), json("[18446744073709551615]"));
    check(30, packed(&[0xa4, 0x70, 0x9d, 0x3f, 0x98, 0xae, 0xb2, 0x42]), json("[1.23,89.341]"));
    check(31, packed(&[0, 0, 0, 0, 0, 0, 0xf8, 0x3f]), json("[1.5]"));
    check(
        32,
        packed(&[12, 0, 0, 0, 0x34, 0xd0]),
        json("[false,false,true,true,false,true,false,false,true,true,false,true]"),
    );
    check(33, packed(b"ABC\0hello\0"), json("[\"ABC\",\"hello\"]"));
    check(34, packed(&[0, 0x68, 0xe5, 0xcf, 0x8b, 1, 0, 0]), json("[\"2023-11-14T22:13:20.000Z\"]"));
    check(33, packed(b""), json("[]"));
    check(32, packed(&[0xff; 4]), Err(ValueFault::TooLong { bytes: u32::MAX as usize * 5, max: 80 }));
    for (datatype, bytes) in [
        (23, &[1][..]),
        (32, &[9, 0, 0, 0, 1]),
        (32, &[1, 0, 0, 0]),
        (32, &[1]),
        (33, b"ABC"),
        (33, b"\xff\0"),
        (25, &[0; 12]),
    ] {
        check(datatype, Raw::Bytes(bytes.into()), Err(ValueFault::Malformed(datatype)));
    }
}

#[test]
fn what_is_no_value_is_refused_in_words() {
    check(19, Raw::Template(Bytes::new()), Err(ValueFault::Template));
    check(12, Raw::Template(Bytes::new()), Err(ValueFault::Template));
    check(20, Raw::Int(1), Err(ValueFault::Datatype(20)));
    check(0, Raw::Int(1), Err(ValueFault::Datatype(0)));
    check(35, Raw::Int(1), Err(ValueFault::Datatype(35)));
    check(16, Raw::DataSet(Bytes::from_static(&[0xff])), Err(ValueFault::Malformed(16)));
    // One column without a type.
    check(16, Raw::DataSet(Bytes::from_static(&[0x12, 1, b'a'])), Err(ValueFault::Malformed(16)));
}

#[test]
fn payloads_are_bounded_before_they_are_read() {
    let many = Payload { metrics: vec![Bytes::new(); 65_537], ..Payload::default() };
    let fault = Certificate::decode(many.encode_to_vec().into()).unwrap_err();
    assert_eq!(fault, PayloadFault::Metrics(65_537));
    let seq = Payload { seq: Some(256), ..Payload::default() };
    assert_eq!(Certificate::decode(seq.encode_to_vec().into()).unwrap_err(), PayloadFault::Seq(256));
    assert_eq!(Certificate::decode(Bytes::new()).unwrap().seq, 0);
}

/// `tck-id-topic-structure-namespace-valid-group-id` and its like.
#[test]
fn topics_are_read_by_their_levels() {
    let check = |topic: &str, expected: Option<(Verb, Option<&str>)>| {
        let found = SparkplugTopic::parse(topic).map(|topic| (topic.verb, topic.device));
        assert_eq!(found, expected, "{topic}");
    };
    check("spBv1.0/g/NBIRTH/n", Some((Verb::Birth, None)));
    check("spBv1.0/g/DBIRTH/n/d", Some((Verb::Birth, Some("d"))));
    check("spBv1.0/g/NDATA/n", Some((Verb::Data, None)));
    check("spBv1.0/g/DDATA/n/d", Some((Verb::Data, Some("d"))));
    check("spBv1.0/g/NDEATH/n", Some((Verb::Death, None)));
    check("spBv1.0/g/DDEATH/n/d", Some((Verb::Death, Some("d"))));
    for other in [
        "spBv1.0/g/NCMD/n",
        "spBv1.0/STATE/host",
        "spBv1.0/g/DDATA/n",
        "spBv1.0/g/NDATA/n/d",
        "spBv1.0/g/DDATA/n/d/e",
        "spBv1.0//NDATA/n",
        "spBv1.0/g/DDATA/n/",
        "spAv1.0/g/NDATA/n",
        "g/NDATA/n",
    ] {
        check(other, None);
    }
    assert!(is_sparkplug(b"spBv1.0/x") && !is_sparkplug(b"spBv1.00/x") && !is_sparkplug(b"spBv1.0"));
}

/// `tck-id-host-topic-phid-birth-payload` and `tck-id-host-topic-phid-death-payload`.
#[test]
fn tck_id_host_topic_phid_birth_payload() {
    assert_eq!(state::topic("host"), "spBv1.0/STATE/host");
    let at = Time(1_700_000_000_123_456);
    assert_eq!(state::certificate(true, at), r#"{"online":true,"timestamp":1700000000123}"#);
    assert_eq!(state::certificate(false, at), r#"{"online":false,"timestamp":1700000000123}"#);
    assert!(state::says_offline(br#"{"timestamp":1,"online":false}"#));
    for other in [&br#"{"online":true,"timestamp":1}"#[..], b"OFFLINE", b"", b"{}"] {
        assert!(!state::says_offline(other));
    }
}

#[test]
fn tck_id_topics_ncmd_timestamp() {
    let (made, later) = (Time(1_700_000_000_123_456), Time(1_700_000_360_500_000));
    for owner in ["g/n", "g/n/d"] {
        let written = |at| command::write(owner, Called::Name("Level"), 3, Raw::Int(5), at).unwrap();
        let (topic, payload) = written(made);
        assert_eq!(command::published_at(&topic, &payload, made, later), Some(written(later).1));
        // What somebody else has made stays as it is.
        assert_eq!(command::published_at(&topic, &payload, later, later), None);
        assert_eq!(command::published_at("cmnd/lamp", &payload, made, later), None);
        assert_eq!(command::published_at(&topic, b"{\"timestamp\":1}", made, later), None);
        assert_eq!(command::published_at(&topic, b"", made, later), None);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), datatype in 0u32..40) {
        if let Ok(certificate) = Certificate::decode(bytes.clone().into()) {
            for metric in certificate.metrics {
                let _ = metric.value.map(|raw| value(metric.datatype.unwrap_or(0), &raw, 4_096));
            }
        }
        for raw in [Raw::Bytes(bytes.clone().into()), Raw::DataSet(bytes.into())] {
            let _ = value(datatype, &raw, 4_096);
        }
    }
}
