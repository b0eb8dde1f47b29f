//! Quarantined inputs that are read again.

use fieldlog_projections::AttrId;

use super::*;
use crate::observe::Kept;

impl Scene {
    fn again(&mut self, topic: &str, payload: &str) -> (Result<usize, String>, Vec<Fact>) {
        let (now, mut batch) = (self.now, self.batch());
        let arrived = Time(now.0 - 3_600_000_000);
        let kept = Kept { source: "s", topic, payload: payload.as_bytes(), arrived };
        let read = self.observer.read_again(&kept, now, &mut batch);
        for record in batch.records.records(self.view.seq.next()) {
            let record = record.unwrap();
            if let Fact::HistoryReported { .. } = record.fact().unwrap() {
                assert_eq!((record.device_time, record.wall), (Some(arrived), now));
            }
        }
        let facts = self.commit(&batch);
        self.check();
        (read, facts)
    }

    fn refused(&mut self, topic: &str, payload: &str) -> String {
        let (read, facts) = self.again(topic, payload);
        assert_eq!(facts, [], "{topic} {payload}");
        read.unwrap_err()
    }
}

fn history(device: u32, changes: Vec<(u32, Value)>) -> Fact {
    let changes = changes.into_iter().map(|(attr, value)| (AttrId(attr), value)).collect();
    Fact::HistoryReported { device: DeviceId(device), changes }
}

#[test]
fn what_it_says_is_history_and_never_the_state() {
    let mut scene = Scene::new(config(1 << 20));
    scene.take("d/lamp", r#"{"n":1}"#);
    let before = scene.view.devices.get(DeviceId(0)).unwrap().clone();
    let (read, facts) = scene.again("d/lamp", r#"{"n":7,"mode":"eco"}"#);
    assert_eq!(read, Ok(1));
    let named = Fact::AttributeNamed { attribute: AttrId(1), name: "mode".into() };
    assert_eq!(facts, [named, history(0, vec![(0, Value::Int(7)), (1, Value::Text("eco".into()))])]);
    let after = scene.view.devices.get(DeviceId(0)).unwrap();
    assert_eq!((&after.attributes, after.availability), (&before.attributes, before.availability));
    // The value that it has is no news, the one that was read again is.
    assert_eq!(scene.take("d/lamp", r#"{"n":1}"#), []);
    assert!(matches!(&scene.take("d/lamp", r#"{"n":7}"#)[..], [Fact::StateChanged { .. }]));
}

#[test]
fn it_is_no_sign_of_life_and_brings_no_device_back() {
    let mut scene = Scene::new(config(1 << 20));
    let (read, facts) = scene.again("d/new", r#"{"n":1}"#);
    assert_eq!((read, facts.len()), (Ok(1), 3), "discovered, named, reported");
    assert_eq!(scene.observer.heard.get(DeviceId(0)), None);
    scene.take("d/new", r#"{"n":1}"#);
    scene.take("d/new", "");
    let words = scene.refused("d/new", r#"{"n":2}"#);
    assert!(words.contains("device `new` is retired"), "{words}");
}

#[test]
fn actions_and_single_values_are_history_too() {
    let mut scene = Scene::new(config(1 << 20));
    let (read, facts) = scene.again("a/button", r#"{"click":"single"}"#);
    assert_eq!(read, Ok(1));
    assert_eq!(facts.last(), Some(&history(0, vec![(0, Value::Text("single".into()))])));
    assert!(!facts.iter().any(|fact| matches!(fact, Fact::ActionFired { .. })));
    let (read, facts) = scene.again("s/meter", "12");
    assert_eq!(read, Ok(1));
    assert_eq!(facts.last(), Some(&history(1, vec![(1, Value::Int(12))])));
}

#[test]
fn of_several_documents_each_is_read_or_none() {
    let mut scene = Scene::new(config(1 << 20));
    let (read, facts) = scene.again("e/gw", r#"[{"x1":"p","n":1},{"x1":"q","n":2}]"#);
    assert_eq!(read, Ok(2), "{facts:?}");
    let words = scene.refused("e/gw", r#"[{"x1":"p","n":1},7]"#);
    assert!(words.contains("would be left out"), "{words}");
}

#[test]
fn what_cannot_be_true_now_is_refused_with_words() {
    let mut scene = Scene::new(config(1 << 20));
    for (topic, payload, part) in [
        ("d/lamp", "{", "EOF"),
        ("d/lamp", "", "an empty payload removes the device"),
        ("b/lamp", "on", "of no use now"),
        ("none/lamp", "{}", "no rule of source `s` takes messages on this topic"),
    ] {
        let words = scene.refused(topic, payload);
        assert!(words.contains(part), "{topic} {payload:?}: {words}");
    }
    let long = format!(r#"{{"n":1,"text":"{}"}}"#, "x".repeat(scene.config.limits.text_bytes_max + 1));
    let words = scene.refused("d/lamp", &long);
    assert!(words.contains("attribute text is longer than limits.text_bytes_max"), "{words}");
    let (now, mut batch) = (scene.now, scene.batch());
    let kept = Kept { source: "gone", topic: "d/x", payload: b"{}", arrived: now };
    let words = scene.observer.read_again(&kept, now, &mut batch).unwrap_err();
    assert!(words.contains("source `gone`, which it came from, is not in the configuration"), "{words}");
}

#[test]
fn secrets_stay_secret_and_what_is_never_recorded_is_not() {
    let mut config = config(1 << 20);
    config.sources[0].redact = vec!["password".into()];
    config.sources[0].policies.insert(
        0,
        Policy {
            attributes: vec!["noise".into()],
            devices: vec!["*".into()],
            deadband: 0.0,
            min_interval: Duration::ZERO,
            held: crate::config::HeldValues::Memory,
            record: RecordMode::Never,
        },
    );
    let mut scene = Scene::new(config);
    let (read, facts) = scene.again("d/lamp", r#"{"password":"hunter2","noise":3}"#);
    assert_eq!(read, Ok(1));
    assert_eq!(facts.last(), Some(&history(0, vec![(0, Value::Text("(redacted)".into()))])));
}
