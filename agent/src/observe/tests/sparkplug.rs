//! Sparkplug messages to facts. Tests are named after statements of the Sparkplug 3.0.0 specification.
//!
//! Input is encoded here field by field, without the structs that the agent decodes it with; messages from another
//! implementation are in [`golden`].

use std::sync::atomic::Ordering;

use bytes::Bytes;
use fieldlog_projections::fact::{Availability, DeclaredMetric};
use serde_json::{Value as Json, json};

use super::*;
use crate::config::SparkplugConfig;
use crate::message::Publication;

mod properties;

/// Payloads as Google's Protocol Buffers write them, by way of the messages of PyPI `pysparkplug` 0.6.1: one with a voltage
/// (alias 1), an input (2), a signed offset (3), an unsigned count (4), a time (5) and a null (6); changes of 1 and 3 by
/// alias; a death; and a device with a table, bytes, arrays and a template.
mod golden {
    pub(super) const NBIRTH: &str = "0880d095ffbc3112120a0562645365711880d095ffbc312004580712210a144e6f646520436f6e74726f6c2f526562697274681880d095ffbc31200b700012200a0e537570706c7920566f6c7461676510011880d095ffbc312009659a99414112170a08496e707574732f4110021880d095ffbc31200b700112190a066f666673657410031880d095ffbc31200150fbffffff0f121d0a05636f756e7410041880d095ffbc31200858ffffffffffffffffff0112190a0573696e636510051880d095ffbc31200d5880d095ffbc3112140a056c6162656c10061880d095ffbc31200c38011800";
    pub(super) const NDATA: &str =
        "08e8d795ffbc31120e10011884d795ffbc3165cdcc4441120c10031884d795ffbc3150fa011801";
    pub(super) const NDEATH: &str = "0880d095ffbc31120b0a05626453657120045807";
    pub(super) const DBIRTH: &str = "0880d095ffbc3112460a057461626c651880d095ffbc3120108a01330802120269641201761803180a22130a0608ffffffff0f0a0921000000000000f83f220f0a0208020a0921000000000000044012140a04626c6f621880d095ffbc312011820102dead12160a04696e74731880d095ffbc312017820104ffff000112190a05666c6167731880d095ffbc3120208201060c00000034d0121d0a056e616d65731880d095ffbc31202182010a4142430068656c6c6f00121c0a06666c6f6174731880d095ffbc31201e820108a4709d3f98aeb24212150a056d6f746f721880d095ffbc31201392010228001801";
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
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

const INT32: u64 = 3;
const T: u64 = 1_700_000_000_000;

/// A metric with a name, an alias, both or none.
fn metric(name: Option<&str>, alias: Option<u64>, more: &[Vec<u8>]) -> Vec<u8> {
    let name = name.map(|name| block(1, name.as_bytes())).unwrap_or_default();
    let alias = alias.map(|alias| number(2, alias)).unwrap_or_default();
    block(2, &[name, alias, more.concat()].concat())
}

fn int(name: &str, alias: Option<u64>, value: u64) -> Vec<u8> {
    metric(Some(name), alias, &[number(4, INT32), number(10, value)])
}

fn by_alias(alias: u64, value: u64) -> Vec<u8> {
    metric(None, Some(alias), &[number(10, value)])
}

fn bdseq(value: u64) -> Vec<u8> {
    metric(Some("bdSeq"), None, &[number(4, 4), number(11, value)])
}

fn payload(seq: u64, metrics: &[Vec<u8>]) -> Vec<u8> {
    [number(1, T), metrics.concat(), number(3, seq)].concat()
}

impl Scene {
    fn host() -> Scene {
        Scene::host_with(50_000_000)
    }

    fn host_with(state_bytes_max: usize) -> Scene {
        let mut config = config(state_bytes_max);
        config.sources[0].sparkplug = Some(SparkplugConfig {
            host_id: "host".into(),
            groups: vec!["+".into()],
            reorder_timeout: Duration::from_secs(2),
            commands: true,
        });
        let mut scene = Scene::new(config);
        scene.connect(1);
        scene
    }

    fn connect(&mut self, number: u64) {
        self.observer.sources[0].outcomes.outbox.open(number, self.now);
    }

    fn message(&self, topic: &str, payload: Vec<u8>) -> Message {
        let topic = Bytes::copy_from_slice(format!("spBv1.0/{topic}").as_bytes());
        Message { topic, payload: payload.into(), retain: false, dup: false, pkid: None, fault: None }
    }

    fn send(&mut self, topic: &str, payload: Vec<u8>) -> Vec<Fact> {
        let message = self.message(topic, payload);
        let mut batch = self.batch();
        let open = self.observer.sources[0].outcomes.outbox.connection();
        self.observer.connection(SourceId(0), open.map_or(0, |(number, _)| number), self.now, &mut batch);
        self.observer.observe(SourceId(0), &message, self.now, &mut batch);
        self.commit(&batch)
    }

    /// Moves the clock and runs what is due.
    fn pass(&mut self, millis: i64) -> Vec<Fact> {
        self.now.0 += millis * 1_000;
        let mut batch = self.batch();
        self.observer.tick(self.now, &mut batch);
        self.commit(&batch)
    }

    /// The node is born with `x` (alias 1) and `y` (alias 2), and device `d` with `z` (alias 3).
    fn born(&mut self, birth: u64) {
        self.send("g/NBIRTH/n", payload(0, &[bdseq(birth), int("x", Some(1), 10), int("y", Some(2), 20)]));
        self.send("g/DBIRTH/n/d", payload(1, &[int("z", Some(3), 30)]));
    }

    fn is(&self, device: &str) -> (Availability, Json) {
        let (_, device) = self.view.devices.find(device).unwrap();
        let values = device.attributes.iter().filter(|a| a.value != Value::Null).map(|a| {
            let value = match &a.value {
                Value::Bool(v) => json!(v),
                Value::Int(v) => json!(v),
                Value::Uint(v) => json!(v),
                Value::Float(v) => json!(v),
                Value::Json(v) => serde_json::from_str(v).unwrap(),
                Value::Text(v) => json!(v),
                Value::Null => Json::Null,
            };
            (self.view.devices.attribute_name(a.id).unwrap().to_owned(), value)
        });
        (device.availability, Json::Object(values.collect()))
    }

    fn check_is(&self, device: &str, availability: Availability, values: Json) {
        assert_eq!(self.is(device), (availability, values), "{device}");
    }

    /// The topics of publications since the last call.
    fn published(&mut self) -> Vec<Publication> {
        let outbox = self.observer.sources[0].outcomes.outbox.clone();
        std::iter::from_fn(|| outbox.pop()).collect()
    }

    fn asked(&mut self) -> usize {
        self.published().len()
    }

    fn rebirths(&self, reason: &str) -> u64 {
        let counts = &self.observer.sources[0].outcomes.sparkplug;
        counts.rebirths().find(|(label, _)| *label == reason).unwrap().1
    }

    fn stop_and_start(&mut self, away_s: i64) {
        let mut batch = self.batch();
        self.observer.pause(self.now, &mut batch);
        self.commit(&batch);
        self.kill_and_start(away_s);
    }

    fn kill_and_start(&mut self, away_s: i64) {
        self.now.0 += away_s * 1_000_000;
        self.restart();
        self.connect(1);
        let mut batch = self.batch();
        let boot = Fact::Booted { boot_id: [0; 16], version: String::new(), clock: Default::default() };
        batch.records.push_fact(super::super::at(self.now), &boot);
        self.commit(&batch);
    }
}

use Availability::{Offline, Online};

#[test]
fn what_another_implementation_writes_is_read_as_it_was_meant() {
    let mut scene = Scene::host();
    scene.send("g/NBIRTH/n", bytes(golden::NBIRTH));
    let born = json!({"Supply Voltage": 12.1, "Inputs/A": true, "offset": -5, "count": u64::MAX,
        "since": "2023-11-14T22:13:20.000Z"});
    scene.check_is("g/n", Online, born);
    let facts = scene.send("g/NDATA/n", bytes(golden::NDATA));
    assert_eq!(facts.len(), 1, "{facts:?}");
    assert_eq!(scene.is("g/n").1["Supply Voltage"], 12.3);
    assert_eq!(scene.is("g/n").1["offset"], -6);
    let facts = scene.send("g/DBIRTH/n/d", payload(9, &[]));
    assert!(facts.is_empty(), "its number is not the next: {facts:?}");
    let mut scene = Scene::host();
    scene.send("g/NBIRTH/n", bytes(golden::NBIRTH));
    let facts = scene.send("g/DBIRTH/n/d", bytes(golden::DBIRTH));
    let reasons: Vec<_> = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::InputQuarantined { reason, .. } => Some(reason.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(
        reasons,
        [
            "metric motor: it is a template; templates are not recorded. Let the edge node publish its members as metrics \
          (said once for each device); the other metrics were taken"
        ]
    );
    let born = json!({
        "table": [{"id": -1, "v": 1.5}, {"id": 2, "v": 2.5}],
        "blob": "dead", "ints": [-1, 256], "names": ["ABC", "hello"], "floats": [1.23, 89.341],
        "flags": [false, false, true, true, false, true, false, false, true, true, false, true],
    });
    scene.check_is("g/n/d", Online, born);
    let (_, device) = scene.view.devices.find("g/n/d").unwrap();
    assert_eq!(device.parent, Some(scene.view.devices.find("g/n").unwrap().0));
    scene.send("g/NDEATH/n", bytes(golden::NDEATH));
    assert_eq!((scene.is("g/n").0, scene.is("g/n/d").0), (Offline, Offline));
    scene.check();
}

#[test]
fn tck_id_operational_behavior_edge_node_termination_host_action_ndeath_devices_offline() {
    let mut scene = Scene::host();
    scene.born(4);
    scene.check_is("g/n", Online, json!({"x": 10, "y": 20}));
    scene.check_is("g/n/d", Online, json!({"z": 30}));
    // From the previous session.
    assert_eq!(scene.send("g/NDEATH/n", payload(0, &[bdseq(3)])), []);
    assert_eq!(scene.send("g/NDEATH/n", payload(0, &[bdseq(4)])).len(), 2);
    scene.check_is("g/n", Offline, json!({"x": 10, "y": 20}));
    scene.check_is("g/n/d", Offline, json!({"z": 30}));
    assert_eq!(scene.send("g/NDEATH/n", payload(0, &[bdseq(4)])), []);
}

#[test]
fn numbers_of_sessions_go_round_and_a_death_of_a_later_one_counts() {
    let check = |born: u64, died: u64, online: Availability| {
        let mut scene = Scene::host();
        scene.born(born);
        scene.send("g/NDEATH/n", payload(0, &[bdseq(died)]));
        assert_eq!(scene.is("g/n").0, online, "born {born}, died {died}");
    };
    check(0, 255, Online);
    check(255, 0, Offline);
    check(7, 8, Offline);
    check(300, 299, Online);
}

#[test]
fn tck_id_operational_behavior_edge_node_termination_host_action_ddeath_devices_offline() {
    let mut scene = Scene::host();
    scene.born(4);
    let message = scene.message("g/DDEATH/n/d", payload(2, &[]));
    let mut batch = scene.batch();
    scene.observer.observe(SourceId(0), &message, scene.now, &mut batch);
    let record = batch.records.records(Seq(1)).next().unwrap().unwrap();
    assert_eq!(record.device_time, Some(Time(T as i64 * 1_000)), "the time in the DDEATH payload");
    scene.commit(&batch);
    scene.check_is("g/n", Online, json!({"x": 10, "y": 20}));
    assert_eq!(scene.is("g/n/d").0, Offline);
    // Without another DBIRTH nothing is taken from it.
    assert_eq!(scene.send("g/DDATA/n/d", payload(3, &[by_alias(3, 31)])), []);
    assert_eq!((scene.asked(), scene.rebirths("no_birth")), (1, 1));
}

#[test]
fn tck_id_operational_behavior_host_reordering_success() {
    let mut scene = Scene::host();
    scene.born(4);
    assert_eq!(scene.send("g/NDATA/n", payload(3, &[by_alias(1, 12)])), []);
    scene.check();
    scene.pass(1_999);
    let facts = scene.send("g/NDATA/n", payload(2, &[by_alias(1, 11)]));
    let values: Vec<_> = facts
        .iter()
        .map(|fact| match fact {
            Fact::StateChanged { changes, .. } => changes[0].1.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(values, [Value::Int(11), Value::Int(12)]);
    scene.pass(10_000);
    assert_eq!(scene.asked(), 0);
    scene.check();
}

/// What waited for its order may be older than a command that was published meanwhile.
#[test]
fn a_value_that_waited_for_its_order_is_no_report_for_a_command() {
    let mut scene = Scene::host();
    scene.born(4);
    let (device, _) = scene.view.devices.find("g/n").unwrap();
    scene.observer.watch(device, true);
    scene.send("g/NDATA/n", payload(3, &[by_alias(1, 12)]));
    scene.send("g/NDATA/n", payload(2, &[by_alias(1, 11)]));
    let reported = |scene: &mut Scene| -> Vec<Value> {
        scene.observer.drain_reports().into_iter().map(|report| report.value).collect()
    };
    assert_eq!(reported(&mut scene), [Value::Int(11)]);
    scene.send("g/NDATA/n", payload(5, &[by_alias(1, 14)]));
    scene.pass(2_000);
    assert_eq!(reported(&mut scene), []);
}

#[test]
fn tck_id_operational_behavior_host_reordering_rebirth() {
    let mut scene = Scene::host();
    scene.born(4);
    // The metric of alias 1 may have changed in between, but not that of a name.
    scene.send("g/NDATA/n", payload(3, &[by_alias(1, 12), int("y", None, 21)]));
    assert_eq!(scene.observer.deferred_until(), Some(Time(scene.now.0 + 2_000_000)));
    assert_eq!(scene.pass(1_999), []);
    assert_eq!(scene.asked(), 0);
    scene.pass(1);
    scene.check_is("g/n", Online, json!({"x": 10, "y": 21}));
    assert_eq!(scene.rebirths("gap"), 1);
    let asked = scene.published();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].topic, "spBv1.0/g/NCMD/n");
    scene.born(4);
    scene.send("g/NDATA/n", payload(2, &[by_alias(1, 13)]));
    scene.check_is("g/n", Online, json!({"x": 13, "y": 20}));
    scene.pass(600_000);
    assert_eq!(scene.asked(), 0);
}

#[test]
fn what_has_waited_in_vain_is_taken_in_order_and_before_what_comes_after_it() {
    let mut scene = Scene::host();
    scene.born(4);
    let named = |seq, value| payload(seq, &[int("x", None, value)]);
    scene.send("g/NDATA/n", named(5, 15));
    scene.send("g/NDATA/n", named(4, 14));
    // A message in order makes the aliases doubtful; the next one must not overtake those that wait.
    scene.send("g/NDATA/n", payload(2, &[by_alias(99, 1)]));
    assert_eq!(scene.send("g/NDATA/n", named(6, 16)), []);
    scene.check_is("g/n", Online, json!({"x": 10, "y": 20}));
    let facts = scene.pass(2_000);
    assert_eq!(facts.len(), 3, "{facts:?}");
    scene.check_is("g/n", Online, json!({"x": 16, "y": 20}));
    scene.check();
    let mut scene = Scene::host();
    scene.born(4);
    for (seq, value) in [(5, 15), (4, 14)] {
        scene.send("g/NDATA/n", named(seq, value));
    }
    scene.pass(2_000);
    assert_eq!(scene.is("g/n").1["x"], 15, "by their numbers");
    let dropped =
        |scene: &Scene| scene.observer.sources[0].outcomes.sparkplug.dropped.load(Ordering::Relaxed);
    scene.born(4);
    scene.send("g/NDATA/n", named(5, 15));
    scene.send("g/NDEATH/n", payload(0, &[bdseq(3)]));
    assert_eq!(dropped(&scene), 0, "an old death ends nothing");
    scene.send("g/NDEATH/n", payload(0, &[bdseq(4)]));
    assert_eq!(dropped(&scene), 1);
}

#[test]
fn tck_id_payloads_sequence_num_incrementing() {
    let mut scene = Scene::host();
    scene.born(4);
    for step in 2..600u64 {
        let facts = scene.send("g/NDATA/n", payload(step % 256, &[by_alias(1, step)]));
        assert_eq!(facts.len(), 1, "{step}");
    }
    assert_eq!(scene.asked(), 0);
}

/// `tck-id-operational-behavior-data-commands-ncmd-rebirth-verb`, `-name`, `-value`, and the statements about NCMD payloads.
#[test]
fn tck_id_operational_behavior_data_commands_ncmd_rebirth() {
    let mut scene = Scene::host();
    assert_eq!(scene.send("g/NDATA/n", payload(0, &[by_alias(1, 12)])), []);
    let asked = scene.published();
    let now = (scene.now.0 / 1_000) as u64;
    let name = metric(Some("Node Control/Rebirth"), None, &[number(3, now), number(4, 11), number(14, 1)]);
    // No seq.
    let expected = Publication::untracked("spBv1.0/g/NCMD/n", [number(1, now), name].concat());
    assert_eq!(asked, [expected]);
}

#[test]
fn requests_are_spaced_and_end_with_the_birth() {
    let mut scene = Scene::host();
    let data = || payload(0, &[by_alias(1, 12)]);
    for _ in 0..50 {
        scene.send("g/NDATA/n", data());
    }
    assert_eq!(scene.asked(), 1);
    scene.pass(9_999);
    scene.send("g/NDATA/n", data());
    assert_eq!(scene.asked(), 0);
    scene.pass(1);
    scene.send("g/NDATA/n", data());
    assert_eq!(scene.asked(), 1);
    scene.pass(10_000);
    scene.send("g/NDATA/n", data());
    assert_eq!(scene.asked(), 0, "the wait doubles");
    scene.born(1);
    scene.pass(3_600_000);
    assert_eq!(scene.asked(), 0);
}

#[test]
fn an_alias_that_no_birth_lists_is_asked_for_and_never_guessed() {
    let mut scene = Scene::host();
    scene.born(4);
    // Alias 3 is a metric of the device.
    assert_eq!(scene.send("g/NDATA/n", payload(2, &[by_alias(3, 1)])), []);
    assert_eq!(scene.rebirths("unknown_metric"), 1);
    scene.born(4);
    assert_eq!(scene.send("g/NDATA/n", payload(2, &[by_alias(9, 1)])), []);
    scene.check_is("g/n", Online, json!({"x": 10, "y": 20}));
}

#[test]
fn what_is_no_payload_is_quarantined_and_asked_for() {
    let mut scene = Scene::host();
    scene.born(4);
    let facts = scene.send("g/NDATA/n", b"{\"x\": 1}".to_vec());
    assert!(
        matches!(&facts[..], [Fact::InputQuarantined { reason, .. }] if reason.starts_with("it is not a Sparkplug B payload")),
        "{facts:?}"
    );
    assert_eq!(scene.rebirths("invalid_payload"), 1);
    let compressed = [block(4, b"SPBV1.0_COMPRESSED"), block(5, b"x")].concat();
    let facts = scene.send("g/NDATA/n", compressed);
    assert!(
        matches!(&facts[..], [Fact::InputQuarantined { reason, .. }] if reason.starts_with("it is compressed")),
        "{facts:?}"
    );
}

#[test]
fn tck_id_payloads_metric_is_historical_changes_no_state() {
    let mut scene = Scene::host();
    scene.born(4);
    let past = metric(None, Some(1), &[number(3, T - 60_000), number(5, 1), number(10, 7)]);
    let message = scene.message("g/NDATA/n", payload(2, &[past, by_alias(2, 21)]));
    let mut batch = scene.batch();
    scene.observer.observe(SourceId(0), &message, scene.now, &mut batch);
    let record = batch.records.records(Seq(1)).next().unwrap().unwrap();
    assert_eq!(record.device_time, Some(Time((T as i64 - 60_000) * 1_000)));
    let facts = scene.commit(&batch);
    let (node, _) = scene.view.devices.find("g/n").unwrap();
    let x = scene.view.devices.attribute_named("x").unwrap();
    assert_eq!(facts[0], Fact::HistoryReported { device: node, changes: vec![(x, Value::Int(7))] });
    assert_eq!(facts.len(), 2);
    scene.check_is("g/n", Online, json!({"x": 10, "y": 21}));
    let time = scene.view.devices.find("g/n").unwrap().1.device_time;
    assert_eq!(time, Some(Time(T as i64 * 1_000)), "the device's own time does not go back");
}

#[test]
fn tck_id_payloads_metric_is_transient_is_not_stored_and_null_removes() {
    let mut scene = Scene::host();
    scene.born(4);
    let transient = metric(None, Some(1), &[number(6, 1), number(10, 7)]);
    assert_eq!(scene.send("g/NDATA/n", payload(2, &[transient])), []);
    let null = metric(None, Some(2), &[number(7, 1)]);
    scene.send("g/NDATA/n", payload(3, &[null]));
    scene.check_is("g/n", Online, json!({"x": 10}));
}

#[test]
fn tck_id_operational_behavior_data_publish_nbirth_order() {
    // A metric may stand several times in a message, in the order of its values.
    let mut scene = Scene::host();
    scene.born(4);
    let at = |ts, value| metric(None, Some(1), &[number(3, ts), number(10, value)]);
    let facts = scene.send("g/NDATA/n", payload(2, &[at(T, 1), at(T + 1, 2), at(T + 1, 3), by_alias(2, 9)]));
    let changes: Vec<_> = facts
        .into_iter()
        .map(|fact| match fact {
            Fact::StateChanged { changes, .. } => changes.into_iter().map(|(_, v)| v).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(changes, [vec![Value::Int(1)], vec![Value::Int(2)], vec![Value::Int(3)], vec![Value::Int(9)]]);
}

#[test]
fn a_birth_that_lists_the_same_metrics_adds_no_table_and_another_session_ends_the_devices() {
    let mut scene = Scene::host();
    scene.born(4);
    scene.born(4);
    let head = scene.view.seq;
    scene.born(4);
    assert_eq!(scene.view.seq, head, "nothing has changed");
    let facts = scene.send("g/NBIRTH/n", payload(0, &[bdseq(5), int("x", Some(1), 10)]));
    assert_eq!(scene.is("g/n/d").0, Offline, "it has not been born in this session");
    let (node, _) = scene.view.devices.find("g/n").unwrap();
    let x = scene.view.devices.attribute_named("x");
    let metrics = vec![
        DeclaredMetric { attribute: None, alias: None, datatype: 4 },
        DeclaredMetric { attribute: x, alias: Some(1), datatype: 3 },
    ];
    assert!(facts.contains(&Fact::SessionNoted { device: node, birth: Some(5), seq: None }), "{facts:?}");
    assert!(facts.contains(&Fact::MetricsDeclared { device: node, metrics }), "{facts:?}");
    scene.check();
}

#[test]
fn after_a_clean_stop_a_session_goes_on_without_a_birth() {
    let mut scene = Scene::host();
    scene.born(4);
    scene.stop_and_start(5);
    scene.send("g/DDATA/n/d", payload(2, &[by_alias(3, 31)]));
    scene.send("g/NDATA/n", payload(3, &[by_alias(1, 11)]));
    scene.check_is("g/n", Online, json!({"x": 11, "y": 20}));
    scene.check_is("g/n/d", Online, json!({"z": 31}));
    scene.pass(600_000);
    assert_eq!(scene.asked(), 0);
    scene.check();
    // Negative numbers have their sign from the birth, also when that was before the restart.
    scene.stop_and_start(5);
    scene.send("g/NDATA/n", payload(4, &[by_alias(1, u64::from(u32::MAX))]));
    assert_eq!(scene.is("g/n").1["x"], -1);
}

#[test]
fn after_a_kill_or_a_long_time_or_another_number_the_births_are_asked_for() {
    let check = |away_s: i64, clean: bool, seq: u64| {
        let mut scene = Scene::host();
        scene.born(4);
        if clean {
            scene.stop_and_start(away_s)
        } else {
            scene.kill_and_start(away_s)
        }
        scene.check_is("g/n", Online, json!({"x": 10, "y": 20}));
        assert_eq!(scene.send("g/NDATA/n", payload(seq, &[by_alias(1, 11)])), [], "{away_s} {clean} {seq}");
        scene.send("g/NDATA/n", payload(seq + 1, &[int("y", None, 21)]));
        scene.check_is("g/n", Online, json!({"x": 10, "y": 21}));
        assert_eq!(scene.asked(), 0, "it may send its births by itself");
        scene.pass(5_000);
        assert_eq!(scene.asked(), 1, "{away_s} {clean} {seq}");
        scene.born(4);
        scene.send("g/NDATA/n", payload(2, &[by_alias(1, 12)]));
        assert_eq!(scene.is("g/n").1["x"], 12);
    };
    check(5, false, 2);
    check(61, true, 2);
    check(5, true, 3);
}

#[test]
fn a_kill_after_a_clean_stop_does_not_bring_back_an_old_number() {
    let mut scene = Scene::host();
    scene.born(4);
    scene.stop_and_start(5);
    scene.send("g/NDATA/n", payload(2, &[by_alias(1, 11)]));
    scene.kill_and_start(5);
    assert_eq!(scene.send("g/NDATA/n", payload(2, &[by_alias(1, 12)])), []);
    scene.pass(5_000);
    assert_eq!(scene.asked(), 1);
}

#[test]
fn a_node_that_was_online_and_says_nothing_is_asked_again_and_again() {
    let mut scene = Scene::host();
    scene.born(4);
    scene.kill_and_start(5);
    let counts = |scene: &Scene| {
        let counts = &scene.observer.sources[0].outcomes.sparkplug;
        [&counts.nodes_online, &counts.nodes_stale, &counts.nodes_offline].map(|n| n.load(Ordering::Relaxed))
    };
    scene.pass(1_000);
    assert_eq!(counts(&scene), [0, 1, 0], "stale until a birth is seen");
    let mut asked = 0;
    for _ in 0..3_600 {
        scene.pass(1_000);
        asked += scene.asked();
    }
    // After 10, 20, 40, 80, 160, 320 seconds and then every 10 minutes.
    assert!((8..=13).contains(&asked), "{asked}");
    scene.born(5);
    scene.pass(1_000);
    assert_eq!(counts(&scene), [1, 0, 0]);
}

#[test]
fn a_new_connection_may_have_missed_something() {
    let mut scene = Scene::host();
    scene.born(4);
    scene.connect(2);
    scene.send("g/NDATA/n", payload(2, &[by_alias(1, 11)]));
    assert_eq!(scene.is("g/n").1["x"], 11, "the sequence goes on");
    scene.connect(3);
    assert_eq!(scene.send("g/NDATA/n", payload(4, &[by_alias(1, 12)])), []);
    scene.pass(5_000);
    assert_eq!((scene.asked(), scene.rebirths("away")), (1, 1), "no message can be waited for");
}

#[test]
fn commands_state_and_retained_certificates_are_passed_over() {
    let mut scene = Scene::host();
    assert_eq!(scene.send("STATE/host", b"{\"online\":true,\"timestamp\":1}".to_vec()), []);
    assert_eq!(scene.send("g/NCMD/n", payload(0, &[])), []);
    assert_eq!(scene.send("g/NBIRTH/n/d", payload(0, &[])), []);
    let mut retained = scene.message("g/NBIRTH/n", payload(0, &[bdseq(1), int("x", None, 1)]));
    retained.retain = true;
    let mut batch = scene.batch();
    scene.observer.observe(SourceId(0), &retained, scene.now, &mut batch);
    assert!(batch.records.is_empty());
    assert_eq!(scene.asked(), 0);
}

#[test]
fn a_message_that_wants_an_acknowledgement_never_waits() {
    let mut scene = Scene::host();
    scene.born(4);
    let mut message = scene.message("g/NDATA/n", payload(4, &[int("x", None, 11)]));
    message.pkid = Some(1);
    let mut batch = scene.batch();
    scene.observer.observe(SourceId(0), &message, scene.now, &mut batch);
    assert_eq!(scene.commit(&batch).len(), 1);
    assert_eq!((scene.asked(), scene.rebirths("gap")), (1, 1));
}

#[test]
fn a_flood_of_edge_nodes_and_of_waiting_messages_stays_within_the_state() {
    let mut scene = Scene::host_with(1_500_000);
    for node in 0..5_000 {
        scene.send(&format!("g/NDATA/n{node}"), payload(0, &[]));
        scene.send(&format!("g/NBIRTH/m{node}"), payload(0, &[bdseq(1), int("x", Some(1), 1)]));
        scene.published();
    }
    let quarantined = scene.observer.sources[0].outcomes.quarantined.load(Ordering::Relaxed);
    assert!(quarantined > 1_000, "{quarantined}");
    assert!(scene.observer.budget.used() <= scene.observer.budget.max());
    scene.check();
    let mut scene = Scene::host();
    scene.born(4);
    for seq in 3..250 {
        scene.send("g/NDATA/n", payload(seq, &[by_alias(1, seq)]));
    }
    assert_eq!(scene.rebirths("gap"), 1, "more than the buffer holds");
    scene.check();
}

#[test]
fn what_is_kept_of_ten_thousand_edge_nodes_is_small_beside_their_state() {
    let mut scene = Scene::host_with(400_000_000);
    scene.config.aggregates = Vec::new();
    scene.restart();
    let names: Vec<String> = (0..20).map(|n| format!("Inputs/{n}")).collect();
    for node in 0..10_000u64 {
        let metrics = names.iter().zip(1..).map(|(name, alias)| int(name, Some(alias), node));
        let metrics: Vec<_> = std::iter::once(bdseq(1)).chain(metrics).collect();
        scene.send(&format!("g/NBIRTH/n{node}"), payload(0, &metrics));
    }
    let bytes = scene.observer.hosts[0].as_ref().unwrap().bytes();
    let all = scene.observer.budget.used();
    println!("{} bytes for a metric, of {}", bytes / 200_000, all / 200_000);
    assert!(bytes / 200_000 < 150 && bytes * 3 < all, "{bytes} of {all}");
    scene.check();
}

#[test]
fn a_metric_of_the_wrong_kind_is_left_out_and_told() {
    let mut scene = Scene::host();
    scene.born(4);
    let wrong = metric(None, Some(1), &[block(15, b"text")]);
    let facts = scene.send("g/NDATA/n", payload(2, &[wrong, by_alias(2, 21)]));
    let reason = facts.iter().find_map(|fact| match fact {
        Fact::InputQuarantined { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    assert_eq!(
        reason,
        Some("metric x: it has data type 3 and another kind of value; the other metrics were taken")
    );
    scene.check_is("g/n", Online, json!({"x": 10, "y": 21}));
}

/// The session of its edge node goes on without it, and only a birth says again what a device is.
#[test]
fn a_device_that_an_operator_retires_or_forgets_comes_back_with_its_next_birth() {
    for forget in [false, true] {
        let mut scene = Scene::host();
        scene.born(1);
        scene.asked();
        let device = scene.observer.device_named("g/n/d").unwrap();
        let mut batch = scene.batch();
        match forget {
            true => scene.observer.forget_now(device, scene.now, &mut batch),
            false => scene.observer.retire_now(device, scene.now, &mut batch),
        }
        scene.commit(&batch);
        scene.check();
        let facts = scene.send("g/NDATA/n", payload(2, &[by_alias(1, 11)]));
        assert!(matches!(&facts[..], [Fact::StateChanged { .. }]), "{forget}: {facts:?}");
        let facts = scene.send("g/DDATA/n/d", payload(3, &[by_alias(3, 31)]));
        assert_eq!((facts, scene.asked()), (vec![], 1), "{forget}: a birth is asked for");
        // The node dies, and with it only what is there.
        let facts = scene.send("g/NDEATH/n", payload(4, &[bdseq(1)]));
        assert_eq!(facts.len(), 1, "{forget}: {facts:?}");
        scene.born(2);
        scene.check_is("g/n/d", Availability::Online, json!({"z": 30}));
        let now = scene.observer.device_named("g/n/d").unwrap();
        assert_eq!(now == device, !forget);
        scene.check();
        scene.restart();
        scene.check();
    }
}
