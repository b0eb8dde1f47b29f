//! Commands to Sparkplug edge nodes and devices. Tests are named after statements of the Sparkplug 3.0.0 specification.
//!
//! What is published is compared with bytes of Google's Protocol Buffers, by way of the messages of PyPI `pysparkplug`
//! 0.6.1; births and data are encoded here field by field.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

use fieldlog::config::Config;
use fieldlog::trial::Trial;
use fieldlog_projections::Time;
use fieldlog_projections::command::Publish;
use fieldlog_rules::decode::Zone;
use fieldlog_wire::api::commands::CommandBody;
use jiff::tz::TimeZone;
use serde_json::{Value as Json, json};

/// 2026-11-28T12:00:00Z.
const NOW: u64 = 1_795_867_200_000;

fn trial(more: &str) -> Trial {
    let text = format!(
        "gateway_id = \"test\"\n[[source]]\nname = \"plant\"\naddress = \"mqtt://localhost\"\n[source.sparkplug]\n{more}"
    );
    let config = Config::from_toml(&text, "test").unwrap_or_else(|faults| panic!("{faults}"));
    let now = Time(i64::try_from(NOW * 1_000).unwrap());
    Trial::new(config, None, now, Zone(|| TimeZone::UTC)).unwrap()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 128 {
        out.push((number & 127) as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

fn number(field: u64, number: u64) -> Vec<u8> {
    [varint(field << 3), varint(number)].concat()
}

fn block(field: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

/// A metric with a name, an alias, both or none.
fn metric(name: &str, alias: Option<u64>, more: &[Vec<u8>]) -> Vec<u8> {
    let name = if name.is_empty() { Vec::new() } else { block(1, name.as_bytes()) };
    let alias = alias.map(|alias| number(2, alias)).unwrap_or_default();
    block(2, &[name, alias, more.concat()].concat())
}

fn payload_of(seq: u64, metrics: &[Vec<u8>]) -> Vec<u8> {
    [number(1, NOW), metrics.concat(), number(3, seq)].concat()
}

fn bdseq() -> Vec<u8> {
    metric("bdSeq", None, &[number(4, 4), number(11, 0)])
}

fn float(value: f32) -> Vec<u8> {
    [varint(12 << 3 | 5), value.to_le_bytes().to_vec()].concat()
}

/// `readOnly`, as a property.
fn read_only() -> Vec<u8> {
    block(9, &[block(1, b"readOnly"), block(2, &[number(1, 11), number(7, 1)].concat())].concat())
}

const INT16: u64 = 2;
const INT32: u64 = 3;
const FLOAT: u64 = 9;
const BOOLEAN: u64 = 11;
const STRING: u64 = 12;
const BYTES: u64 = 17;

/// A node without aliases, and a device with them.
fn born(more: &str) -> Trial {
    let mut trial = trial(more);
    let node = [
        bdseq(),
        metric("Node Control/Rebirth", None, &[number(4, BOOLEAN), number(14, 0)]),
        metric("x", None, &[number(4, INT16), number(10, 1)]),
        metric("serial", None, &[number(4, STRING), block(15, b"A1"), read_only()]),
        metric("raw", None, &[number(4, BYTES), block(16, b"A1")]),
    ];
    trial.observe("spBv1.0/g/NBIRTH/n", &payload_of(0, &node), false).unwrap();
    let device = [
        metric("setpoint", Some(3), &[number(4, FLOAT), float(1.0)]),
        metric("label", Some(4), &[number(4, STRING), block(15, b"b")]),
    ];
    trial.observe("spBv1.0/g/DBIRTH/n/d", &payload_of(1, &device), false).unwrap();
    trial
}

fn ask(trial: &mut Trial, device: &str, attribute: &str, value: Json) -> Result<Publish, String> {
    let body = CommandBody {
        attribute: Some(attribute.to_owned()),
        operation: None,
        value,
        idempotency_key: "k".to_owned(),
        ttl_s: 60,
        expected: None,
        reason: String::new(),
    };
    trial.command(device, &body).map_err(|rejected| rejected.reason)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// tck-id-topics-ncmd-topic, tck-id-payloads-ncmd-qos, tck-id-payloads-ncmd-timestamp, tck-id-payloads-ncmd-seq: all of the
/// payload is compared. That it is not retained is tested with a broker.
#[test]
fn tck_id_payloads_ncmd() {
    let Publish { source, topic, payload, qos } = ask(&mut born(""), "g/n", "x", json!(5)).unwrap();
    assert_eq!((source.as_str(), topic.as_str(), qos), ("plant", "spBv1.0/g/NCMD/n", 0));
    assert_eq!(hex(&payload), "0880949b90a234120e0a01781880949b90a23420025005");
    let mut trial = trial("");
    let node = [bdseq(), metric("x", None, &[number(4, INT32), number(10, 1)])];
    trial.observe("spBv1.0/g/NBIRTH/n", &payload_of(0, &node), false).unwrap();
    let written = ask(&mut trial, "g/n", "x", json!(-5)).unwrap();
    assert_eq!(hex(&written.payload), "0880949b90a23412120a01781880949b90a234200350fbffffff0f");
}

/// tck-id-topics-dcmd-topic, tck-id-payloads-dcmd-qos, tck-id-payloads-dcmd-timestamp, tck-id-payloads-dcmd-seq.
/// tck-id-payloads-alias-data-cmd-requirement: only the alias, where the birth has one.
#[test]
fn tck_id_payloads_dcmd() {
    let Publish { topic, payload, qos, .. } = ask(&mut born(""), "g/n/d", "setpoint", json!(12.5)).unwrap();
    assert_eq!((topic.as_str(), qos), ("spBv1.0/g/DCMD/n/d", 0));
    assert_eq!(hex(&payload), "0880949b90a234121010031880949b90a23420096500004841");
}

/// tck-id-operational-behavior-data-commands-ncmd-metric-name, and -dcmd-metric-name: one that the birth has.
/// tck-id-operational-behavior-data-commands-ncmd-metric-value, and -dcmd-metric-value: a value of its data type.
#[test]
fn tck_id_operational_behavior_data_commands_metric_name_and_value() {
    let mut trial = born("");
    for (device, attribute, value, words) in [
        ("g/n", "y", json!(1), "device `g/n` cannot be told `y`; it can be told `x`"),
        ("g/n/d", "x", json!(1), "device `g/n/d` cannot be told `x`; it can be told `label`, `setpoint`"),
        ("g/n", "serial", json!("B2"), "device `g/n` cannot be told `serial`"),
        ("g/n", "raw", json!("00"), "device `g/n` cannot be told `raw`"),
        ("g/n", "Node Control/Rebirth", json!(true), "cannot be told `Node Control/Rebirth`"),
        (
            "g/n",
            "x",
            json!(40_000),
            "`value` is 40000; `x` takes a whole number from -32768 to 32767, because of its data type",
        ),
        ("g/n", "x", json!(1.5), "`value` is 1.5; `x` takes a whole number"),
        ("g/n", "x", json!("1"), "`value` is \"1\"; `x` takes a whole number"),
        ("g/n/d", "setpoint", json!(1e300), "`setpoint` takes a number of its data type"),
        ("g/n/d", "label", json!(5), "`label` takes a text"),
    ] {
        let refused = ask(&mut trial, device, attribute, value).unwrap_err();
        assert!(refused.contains(words), "{attribute}: {refused}");
    }
}

/// The evidence is the metric in a later message, by name or alias; not a value of the past, and not a birth that repeats
/// another value.
#[test]
fn a_command_is_applied_when_the_metric_is_reported() {
    let mut trial = born("");
    ask(&mut trial, "g/n/d", "setpoint", json!(12.1)).unwrap();
    let mut data = |seq: u64, topic: &str, metrics: &[Vec<u8>]| {
        trial.observe(&format!("spBv1.0/g/{topic}"), &payload_of(seq, metrics), false).unwrap()
    };
    let historical = [number(5, 1), number(3, NOW - 1_000)].concat();
    let past = data(2, "DDATA/n/d", &[metric("", Some(3), &[historical, float(12.1)])]);
    assert!(!past.iter().any(|line| line.contains("command")), "{past:?}");
    let other = data(3, "DDATA/n/d", &[metric("", Some(3), &[float(12.0)])]);
    assert!(!other.iter().any(|line| line.contains("command")), "{other:?}");
    let there = data(4, "DDATA/n/d", &[metric("", Some(3), &[float(12.1)])]);
    assert_eq!(there, ["g/n/d  setpoint = 12.1 at 2026-11-28T12:00:00Z", "g/n/d  command 1 applied"]);

    ask(&mut trial, "g/n", "x", json!(7)).unwrap();
    let named = metric("x", None, &[number(4, INT16), number(10, 7)]);
    let there = trial.observe("spBv1.0/g/NDATA/n", &payload_of(5, &[named]), false).unwrap();
    assert_eq!(there.last().unwrap(), "g/n  command 2 applied");
}

/// After a birth without aliases there are none in commands.
#[test]
fn the_newest_birth_counts() {
    let mut trial = born("");
    let node = [bdseq(), metric("x", Some(9), &[number(4, STRING), block(15, b"a")])];
    trial.observe("spBv1.0/g/NBIRTH/n", &payload_of(0, &node), false).unwrap();
    let device = [metric("t", None, &[number(4, STRING), block(15, b"b")])];
    trial.observe("spBv1.0/g/DBIRTH/n/d", &payload_of(1, &device), false).unwrap();
    let written = ask(&mut trial, "g/n/d", "t", json!("a")).unwrap();
    assert_eq!(hex(&written.payload), "0880949b90a234120f0a01741880949b90a234200c7a0161");
    let refused = ask(&mut trial, "g/n/d", "setpoint", json!(1.0)).unwrap_err();
    assert!(refused.contains("cannot be told `setpoint`; it can be told `t`"), "{refused}");
    let refused = ask(&mut trial, "g/n", "x", json!(1)).unwrap_err();
    assert!(refused.contains("`x` takes a text"), "{refused}");
}

#[test]
fn a_host_may_be_one_that_only_listens() {
    let refused = ask(&mut born("commands = false"), "g/n", "x", json!(1)).unwrap_err();
    assert!(refused.contains("it can be told nothing"), "{refused}");
}
