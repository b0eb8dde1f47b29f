//! What metrics say beside their values: properties, metadata and times.

use fieldlog_projections::DescribedBy;

use super::*;

fn said(value: Vec<u8>) -> Vec<u8> {
    [number(1, 0), value].concat()
}

/// A metric's field with these keys and values.
fn properties(of: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let keys: Vec<u8> = of.iter().flat_map(|(key, _)| block(1, key.as_bytes())).collect();
    let values: Vec<u8> = of.iter().flat_map(|(_, value)| block(2, value)).collect();
    block(9, &[keys, values].concat())
}

fn quality(code: i32) -> Vec<u8> {
    properties(&[("Quality", [number(1, 3), number(3, u64::from(code as u32))].concat())])
}

fn double(field: u64, value: f64) -> Vec<u8> {
    [varint(field << 3 | 1), value.to_le_bytes().to_vec()].concat()
}

fn with(name: &str, value: u64, more: Vec<u8>) -> Vec<u8> {
    metric(Some(name), None, &[number(4, INT32), number(10, value), more])
}

fn described(scene: &Scene, name: &str) -> AttributeDescription {
    let (id, _) = scene.view.devices.find("g/n").unwrap();
    let attribute = scene.view.devices.attribute_named(name).unwrap();
    let known = scene.observer.devices[id].described.as_deref();
    known.map(|known| known.attribute_by(DescribedBy::Announcement, attribute)).unwrap_or_default()
}

fn count(scene: &Scene, of: fn(&Outcomes) -> &std::sync::atomic::AtomicU64) -> u64 {
    of(&scene.observer.sources[0].outcomes).load(Ordering::Relaxed)
}

/// The property of Eclipse Tahu's example in C (c/examples/udt_example), and those of Cirrus Link's MQTT Transmission.
#[test]
fn tck_id_payloads_metric_propertyvalue_units_and_ranges_are_descriptions() {
    let mut scene = Scene::host();
    let unit = || ("engUnit", said(block(8, b"MyCustomUnits")));
    let range = [
        ("engLow", said(double(6, -5.5))),
        ("engHigh", said(number(3, 100))),
        ("readOnly", said(number(7, 1))),
    ];
    let all: Vec<_> = [unit()].into_iter().chain(range).collect();
    let metadata = block(8, &block(8, b"Level of tank 1"));
    let birth = |x: Vec<u8>| payload(0, &[bdseq(4), with("x", 10, x), with("y", 20, vec![])]);
    scene.send("g/NBIRTH/n", birth([properties(&all), metadata].concat()));
    let expected = AttributeDescription {
        name: "Level of tank 1".into(),
        unit: "MyCustomUnits".into(),
        min: Some(-5.5),
        max: Some(100.0),
        writable: Some(false),
        ..AttributeDescription::default()
    };
    assert_eq!(described(&scene, "x"), expected);
    assert!(described(&scene, "y").is_empty());
    scene.check_is("g/n", Online, json!({"x": 10, "y": 20}));
    // A message says what has changed, a birth all there is.
    let changed = properties(&[("engUnit", said(block(8, b"l"))), ("other", said(number(3, 1)))]);
    assert_eq!(scene.send("g/NDATA/n", payload(1, &[with("x", 10, changed)])).len(), 1);
    assert_eq!(described(&scene, "x"), AttributeDescription { unit: "l".into(), ..expected });
    assert_eq!(scene.send("g/NDATA/n", payload(2, &[with("x", 10, vec![])])), []);
    scene.send("g/NBIRTH/n", birth(properties(&[unit()])));
    let only_unit = AttributeDescription { unit: "MyCustomUnits".into(), ..AttributeDescription::default() };
    assert_eq!(described(&scene, "x"), only_unit);
    scene.send("g/NBIRTH/n", payload(0, &[bdseq(4), with("y", 20, vec![])]));
    assert!(described(&scene, "x").is_empty());
    scene.check();
}

#[test]
fn tck_id_payloads_propertyset_quality_value_value_only_good_values_are_facts() {
    let mut scene = Scene::host();
    scene.send("g/NBIRTH/n", payload(0, &[bdseq(4), with("x", 10, quality(192)), with("y", 20, quality(0))]));
    scene.check_is("g/n", Online, json!({"x": 10}));
    // 0 bad, 500 stale; and what Ignition says: uncertain, bad and stale.
    for (seq, code) in [(1, 0), (3, 500), (5, 0x4000_0101), (7, -2_147_483_136), (9, -2_147_483_132)] {
        scene.send("g/NDATA/n", payload(seq, &[with("x", 11, quality(code))]));
        scene.check_is("g/n", Online, json!({}));
        // Without a quality it is good.
        scene.send("g/NDATA/n", payload(seq + 1, &[with("x", 12, vec![])]));
        scene.check_is("g/n", Online, json!({"x": 12}));
    }
    assert_eq!(count(&scene, |outcomes| &outcomes.sparkplug.bad_quality), 6);
    // Of the past, nothing.
    let past = [quality(500), number(3, T - 60_000), number(5, 1)].concat();
    assert_eq!(scene.send("g/NDATA/n", payload(11, &[with("x", 5, past)])), []);
    scene.check_is("g/n", Online, json!({"x": 12}));
    // A good quality beside the specified one, and none.
    let null = properties(&[("Quality", [number(1, 3), number(2, 1)].concat())]);
    scene.send("g/NDATA/n", payload(12, &[with("x", 13, quality(200)), with("y", 21, null)]));
    scene.check_is("g/n", Online, json!({"x": 13, "y": 21}));
    scene.check();
}

#[test]
fn a_metric_whose_properties_cannot_be_read_is_not_taken() {
    let short =
        block(9, &[block(1, b"Quality"), block(1, b"engUnit"), block(2, &said(number(3, 192)))].concat());
    for (more, words) in [
        (short, "metric x: its properties have 2 keys and 1 values; the other metrics were taken"),
        (properties(&[("Quality", said(block(8, b"GOOD")))]), "metric x: its quality is no number"),
        (properties(&[("Quality", vec![])]), "metric x: its quality is no number"),
        (block(9, &[0xff]), "metric x: its properties cannot be read"),
        (block(8, &[0xff]), "metric x: its properties cannot be read"),
        (block(9, &block(1, &[b'k'; 70_000])), "metric x: its properties or metadata have 70004 bytes"),
    ] {
        let mut scene = Scene::host();
        scene.born(4);
        let facts = scene.send("g/NDATA/n", payload(2, &[with("x", 11, more), with("y", 21, vec![])]));
        let said = facts.iter().find_map(|fact| match fact {
            Fact::InputQuarantined { reason, .. } => Some(reason.as_str()),
            _ => None,
        });
        assert!(said.is_some_and(|said| said.starts_with(words)), "{said:?}");
        scene.check_is("g/n", Online, json!({"x": 10, "y": 21}));
    }
}

/// The first were found by the fuzz target `observer`; then seconds and nanoseconds for milliseconds, and a clock that begins in
/// 1970.
#[test]
fn tck_id_payloads_timestamp_in_utc_a_time_of_a_clock_that_is_not_set_is_none() {
    let mut scene = Scene::host();
    scene.born(4);
    let odd = [u64::MAX, 0x7fff_ffff_ffff_fff9, 253_402_300_800_000, 1_700_000_000, T * 1_000_000, 5_000, 0];
    for (millis, seq) in odd.into_iter().zip(2..) {
        let value = metric(Some("x"), None, &[number(3, millis), number(4, INT32), number(10, seq)]);
        let payload = [number(1, millis), value, number(3, seq)].concat();
        let message = scene.message("g/NDATA/n", payload);
        let mut batch = scene.batch();
        scene.observer.observe(SourceId(0), &message, scene.now, &mut batch);
        let record = batch.records.records(Seq(1)).next().unwrap().unwrap();
        assert_eq!(record.device_time, None, "{millis}");
        scene.commit(&batch);
        scene.check_is("g/n", Online, json!({"x": seq, "y": 20}));
    }
    assert_eq!(count(&scene, |outcomes| &outcomes.times_unread), 2 * odd.len() as u64);
}
