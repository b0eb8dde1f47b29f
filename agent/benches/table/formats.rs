//! The cost of an event by format: decoded, observed and encoded as a record, in this process. Without the log, so that
//! the formats can be compared.

use std::sync::Arc;

use bytes::Bytes;
use fieldlog::config::Config;
use fieldlog::message::{Message, SourceId};
use fieldlog::observe::{Heard, Observer, Outcomes, RecordBatch};
use fieldlog::sparkplug::payload::{Metric, Payload, Raw};
use fieldlog_projections::chunk::RecordBuffer;
use fieldlog_projections::{Time, View};
use prost::Message as _;

use crate::{Table, median};

const DEVICES: usize = 500;
const EVENTS: usize = 200_000;
/// Messages per commit.
const EACH: usize = 1_000;
const BASE: Time = Time(1_700_000_000_000_000);

const CONFIG: &str = "\
    [[source]]\nname = \"bench\"\naddress = \"mqtt://localhost\"\n[source.sparkplug]\nhost_id = \"bench\"\n\
    [[source.subscription]]\ntopic = \"json/+device\"\ndecoder = \"json\"\n\
    [[source.subscription]]\ntopic = \"each/+gateway\"\ndecoder = \"json\"\neach = \"members\"\ndevice = \"{key}\"\n\
    [[source.subscription]]\ntopic = \"cbor/+device\"\ndecoder = \"cbor\"\n\
    [[source.subscription]]\ntopic = \"msgpack/+device\"\ndecoder = \"msgpack\"\n";

/// Prints the CPU time of each format, the median of three interleaved runs.
pub fn measure(table: &mut Table) {
    type Make = fn(usize) -> (String, Vec<u8>);
    let formats: [(&str, Make); 5] = [
        ("JSON", |n| (format!("json/d{:03}", n % DEVICES), json(n))),
        ("JSON, a device that the document names", |n| {
            (
                "each/gw".to_owned(),
                [format!("{{\"d{:03}\":", n % DEVICES).as_bytes(), &json(n), b"}"].concat(),
            )
        }),
        ("CBOR", |n| (format!("cbor/d{:03}", n % DEVICES), cbor(n))),
        ("MessagePack", |n| (format!("msgpack/d{:03}", n % DEVICES), msgpack(n))),
        ("Sparkplug B, by alias", sparkplug),
    ];
    let mut costs = formats.map(|_| Vec::new());
    for _ in 0..3 {
        for ((_, make), costs) in formats.iter().zip(&mut costs) {
            costs.push(micros_per_event(*make));
        }
    }
    for ((format, _), mut costs) in formats.iter().zip(costs) {
        let what = format!("decode and observe, an event of 4 values: {format}");
        table.info(&what, format!("{:.2} µs of CPU", median(&mut costs)));
    }
}

fn micros_per_event(make: fn(usize) -> (String, Vec<u8>)) -> f64 {
    let config = Config::from_toml(CONFIG, "bench").expect("a configuration");
    let (view, outcomes) = (View::new(Vec::new()), [Arc::new(Outcomes::default())]);
    let mut observer =
        Observer::new(&config, &view, Arc::new(Heard::default()), &outcomes, BASE).expect("good rules");
    let births = (0..DEVICES).map(birth).collect::<Vec<_>>();
    let messages: Vec<Message> = (0..EVENTS).map(|n| message(make(n))).collect();
    let mut batch = RecordBatch { records: RecordBuffer::after(BASE), ..RecordBatch::default() };
    births.into_iter().for_each(|birth| observer.observe(SourceId(0), &message(birth), BASE, &mut batch));
    let mut recorded = 0;
    let begin = thread_seconds();
    for messages in messages.chunks(EACH) {
        let before = batch.records.len();
        messages.iter().for_each(|message| observer.observe(SourceId(0), message, BASE, &mut batch));
        recorded += batch.records.len() - before;
        batch.records.clear();
    }
    let took = thread_seconds() - begin;
    assert!(recorded >= EVENTS, "{recorded} of {EVENTS} were recorded");
    took * 1e6 / EVENTS as f64
}

fn message((topic, payload): (String, Vec<u8>)) -> Message {
    Message {
        topic: topic.into_bytes().into(),
        payload: payload.into(),
        retain: false,
        dup: false,
        pkid: None,
        fault: None,
    }
}

/// Four values, each different from that in the device's previous message.
fn values(n: usize) -> [(&'static str, f64); 4] {
    let round = (n / DEVICES) as f64;
    [
        ("temperature", 20.0 + round / 100.0),
        ("humidity", 40.0 + round / 50.0),
        ("pressure", 990.0 + round / 10.0),
        ("linkquality", round),
    ]
}

fn json(n: usize) -> Vec<u8> {
    let members = values(n).map(|(name, value)| format!("\"{name}\":{value}"));
    format!("{{{}}}", members.join(",")).into_bytes()
}

fn cbor(n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let members = values(n).map(|(name, value)| (name.into(), value.into()));
    ciborium::into_writer(&ciborium::Value::Map(members.into()), &mut bytes).expect("written to memory");
    bytes
}

fn msgpack(n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let members = values(n).map(|(name, value)| (name.into(), value.into()));
    rmpv::encode::write_value(&mut bytes, &rmpv::Value::Map(members.into())).expect("written to memory");
    bytes
}

fn topic(verb: &str, n: usize) -> String {
    format!("spBv1.0/bench/{verb}/n{:03}", n % DEVICES)
}

fn metric(name: Option<&str>, alias: Option<u64>, datatype: Option<u32>, value: Raw) -> Bytes {
    let value = Some(value);
    let metric = Metric { name: name.map(str::to_owned), alias, datatype, value, ..Metric::default() };
    metric.encode_to_vec().into()
}

/// Data type 10 is Double, 4 is Int64.
fn birth(n: usize) -> (String, Vec<u8>) {
    let mut metrics = vec![metric(Some("bdSeq"), None, Some(4), Raw::Long(0))];
    for (alias, (name, _)) in (0..).zip(values(0)) {
        metrics.push(metric(Some(name), Some(alias), Some(10), Raw::Double(-1.0)));
    }
    let payload = Payload { timestamp: Some(1), metrics, seq: Some(0), uuid: None };
    (topic("NBIRTH", n), payload.encode_to_vec())
}

fn sparkplug(n: usize) -> (String, Vec<u8>) {
    let metrics =
        (0..).zip(values(n)).map(|(alias, (_, value))| metric(None, Some(alias), None, Raw::Double(value)));
    let seq = Some((n / DEVICES + 1) as u64 % 256);
    let payload = Payload { timestamp: Some(2), metrics: metrics.collect(), seq, uuid: None };
    (topic("NDATA", n), payload.encode_to_vec())
}

/// Processor time of this thread, in seconds.
fn thread_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("/proc/thread-self/schedstat");
    let nanos = stat.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok());
    nanos.expect("the time on a processor") / 1e9
}
