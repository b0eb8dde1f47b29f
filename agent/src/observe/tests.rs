//! The budget: counting, refusals, and making room.

use std::sync::Arc;
use std::time::Duration;

use fieldlog_projections::chunk::RecordBuffer;
use fieldlog_projections::{AttributeDescription, DeviceDescription, DeviceId, Fact, Seq, Time, Value, View};

use super::{Heard, Observer, Outcomes, RecordBatch};
use crate::config::{Config, Decoder, Each, Policy, RecordMode, Rule, SourceConfig, Update};
use crate::message::{Message, SourceId};

mod administer;
mod again;
mod brake;
mod describe;
mod devices;
mod identity;
mod keep_alive;
mod policies;
mod presses;
mod secrets;
mod sparkplug;
mod story;

/// An observer and the view of its records.
struct Scene {
    config: Config,
    observer: Observer,
    view: View,
    now: Time,
    acked: Option<Seq>,
}

fn rule(topic: &str, decoder: Decoder) -> Rule {
    let attribute = if decoder == Decoder::Action { "action" } else { "" };
    Rule {
        attribute: attribute.into(),
        online: vec!["on".into()],
        offline: vec!["off".into()],
        ..Rule::new(topic, decoder)
    }
}

fn config(state_bytes_max: usize) -> Config {
    let mut config = Config::default();
    config.limits.state_bytes_max = Some(state_bytes_max);
    // The brake has its own tests.
    config.limits.quarantine_per_topic_max = 0;
    let rules = vec![
        rule("d/+device", Decoder::Json),
        Rule { update: Update::Replace, ..rule("r/+device", Decoder::Json) },
        Rule { actions: vec!["*".into()], ..rule("a/+device", Decoder::Json) },
        Rule { parent: Some("bridge".into()), ..rule("c/+device", Decoder::Json) },
        rule("b/+device", Decoder::Availability),
        Rule {
            each: Some(Each::Elements),
            device: vec!["{/x1}".into(), "{/y2}/{device}".into(), "{device}".into()],
            ..rule("e/+device", Decoder::Json)
        },
        Rule { attribute: "slow".into(), ..rule("s/+device", Decoder::Scalar) },
    ];
    let slow = Policy {
        attributes: vec!["slow*".into()],
        devices: vec!["*".into()],
        deadband: 0.0,
        min_interval: Duration::from_secs(10),
        held: crate::config::HeldValues::Memory,
        record: RecordMode::Change,
    };
    config.sources = vec![SourceConfig { rules, policies: vec![slow], ..SourceConfig::removed("s") }];
    config
}

impl Scene {
    fn new(config: Config) -> Scene {
        let view = View::new(crate::config::windows(&config.aggregates));
        let now = Time(1_700_000_000_000_000);
        let observer = observer(&config, &view, now);
        Scene { config, observer, view, now, acked: None }
    }

    /// Processes a message and commits its facts; returns them.
    fn take(&mut self, topic: &str, payload: &str) -> Vec<Fact> {
        let message = Message {
            topic: topic.as_bytes().to_vec().into(),
            payload: payload.as_bytes().to_vec().into(),
            retain: false,
            dup: false,
            pkid: Some(1),
            fault: None,
        };
        let mut batch = self.batch();
        self.observer.observe(SourceId(0), &message, self.now, &mut batch);
        self.commit(&batch)
    }

    fn batch(&self) -> RecordBatch {
        RecordBatch { records: RecordBuffer::after(self.view.time), ..RecordBatch::default() }
    }

    fn commit(&mut self, batch: &RecordBatch) -> Vec<Fact> {
        let (first, until) = (self.view.seq.next(), Seq(u64::MAX));
        self.view.apply_records(batch.records.records(first), until).unwrap();
        let head = self.view.seq;
        self.observer.committed(head, self.acked.unwrap_or(Seq(u64::MAX)));
        batch.records.records(first).map(|record| record.unwrap().fact().unwrap()).collect()
    }

    fn reasons(&mut self, topic: &str, payload: &str) -> Vec<String> {
        let facts = self.take(topic, payload);
        let reason = |fact| match fact {
            Fact::InputQuarantined { reason, .. } => Some(reason),
            _ => None,
        };
        facts.into_iter().filter_map(reason).collect()
    }

    fn restart(&mut self) {
        self.observer = observer(&self.config, &self.view, self.now);
    }

    /// Checks that the counted bytes equal a recount.
    fn check(&mut self) {
        let booked = (self.observer.budget.names, self.observer.budget.state, self.observer.budget.topics);
        self.observer.count();
        let mut topics = 0;
        for source in &self.observer.sources {
            topics += source.topics.iter().map(|(name, topic)| topic.bytes(name)).sum::<usize>();
        }
        let counted = (self.observer.budget.names, self.observer.budget.state, topics);
        assert_eq!(booked, counted, "names, state, topics");
        let (real, used) = (self.text_bytes(), self.observer.budget.used());
        assert!(real <= used, "{real} bytes of text alone, {used} bytes are booked");
        assert_eq!(self.observer.devices.live(), self.view.devices.iter().count());
    }

    /// Text that observer and view hold, whatever else they need for it.
    fn text_bytes(&self) -> usize {
        let text = |value: &Value| match value {
            Value::Text(text) | Value::Json(text) => text.len(),
            _ => 0,
        };
        let viewed = |(_, device): (_, &fieldlog_projections::Device)| -> usize {
            device.name.len() + device.attributes.iter().map(|a| text(&a.value)).sum::<usize>()
        };
        let observed = |(_, device): (_, &super::device::Device)| -> usize {
            let slot = |slot: &super::device::Slot| {
                text(&slot.value) + slot.deferred.as_ref().map_or(0, |(_, v)| text(v))
            };
            device.name.len() + device.slots.iter().map(slot).sum::<usize>()
        };
        let names: usize = self.observer.attributes.iter().map(|name| 2 * name.len()).sum();
        self.view.devices.iter().map(viewed).sum::<usize>()
            + self.observer.devices.iter().map(observed).sum::<usize>()
            + names
    }
}

fn observer(config: &Config, view: &View, now: Time) -> Observer {
    Observer::new(config, view, Arc::new(Heard::default()), &outcomes(config), now).unwrap()
}

fn outcomes(config: &Config) -> Vec<Arc<Outcomes>> {
    config.sources.iter().map(|_| Arc::default()).collect()
}

/// Small numbers that look random: the same in every run with a seed.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn document(&mut self) -> String {
        let attribute = |rng: &mut Rng| {
            let name = ["x", "slow", "y", "list"][rng.below(4) as usize];
            let value = match rng.below(5) {
                0 => rng.below(9).to_string(),
                1 => format!("[{}]", rng.below(99)),
                2 => "null".into(),
                _ => format!("\"{}\"", "v".repeat(rng.below(2_000) as usize)),
            };
            format!("\"{name}{}\":{value}", rng.below(20))
        };
        let attributes: Vec<String> = (0..rng_between(self, 1, 9)).map(|_| attribute(self)).collect();
        format!("{{{}}}", attributes.join(","))
    }
}

fn rng_between(rng: &mut Rng, from: u64, to: u64) -> u64 {
    from + rng.below(to - from)
}

/// Replay one with `FIELDLOG_SEED`.
#[test]
fn what_is_booked_is_what_there_is() {
    let seed = std::env::var("FIELDLOG_SEED").ok().map_or(0, |seed| seed.parse().unwrap());
    for seed in if seed == 0 { 1..13 } else { seed..seed + 1 } {
        println!("FIELDLOG_SEED={seed}");
        let mut rng = Rng(seed);
        // Some never get full, some are full nearly always.
        let mut scene = Scene::new(config([300_000, 1_500_000, 50_000_000][rng.below(3) as usize]));
        scene.config.limits.devices_max = rng_between(&mut rng, 5, 60) as usize;
        if seed % 3 == 0 {
            let declared = "[[named_aggregate]]\nname = \"a\"\nattributes = [\"*\"]\nfunction = \"max\"\n\
                            window_s = 60\nkeep = 5";
            scene.config.named = Config::from_toml(declared, "test.toml").unwrap().named;
        }
        scene.restart();
        let mut forgotten = 0;
        for step in 0..800 {
            operate(&mut scene, &mut rng);
            forgotten += usize::from(scene.observer.state_use().forgotten > 0);
            if step % 20 == 0 {
                scene.check();
            }
        }
        scene.check();
        println!("{:?}, {} devices", scene.observer.state_use(), scene.view.devices.len());
        assert!(forgotten > 0 || scene.config.limits.devices_max > 30, "nothing was ever forgotten");
    }
}

fn operate(scene: &mut Scene, rng: &mut Rng) {
    scene.now.0 += rng.below(4_000_000) as i64;
    let kind = ["d", "r", "a", "c", "b", "e", "s"][rng.below(7) as usize];
    let topic = format!("{kind}/{}", rng.below(80));
    match rng.below(20) {
        0..4 => drop(scene.take(&topic, "")),
        4 => {
            let mut batch = scene.batch();
            scene.observer.tick(scene.now, &mut batch);
            scene.commit(&batch);
        }
        5 if rng.below(5) == 0 => scene.restart(),
        6 if rng.below(5) == 0 => {
            scene.observer.configure(&scene.config, &outcomes(&scene.config)).unwrap();
        }
        _ if kind == "b" => drop(scene.take(&topic, ["on", "off"][rng.below(2) as usize])),
        _ if kind == "e" => drop(scene.take(&topic, &format!("[{},{}]", rng.document(), rng.document()))),
        _ if kind == "s" => drop(scene.take(&topic, &rng.below(99).to_string())),
        _ => drop(scene.take(&topic, &rng.document())),
    }
}

#[test]
fn a_value_that_does_not_fit_is_refused_and_what_fits_goes_on() {
    let mut scene = Scene::new(config(100_000));
    let long = "x".repeat(4_000);
    for n in 0..40 {
        scene.take("d/big", &format!("{{\"a{n}\":\"{long}\"}}"));
    }
    let usage = scene.observer.state_use();
    assert!(usage.bytes <= usage.bytes_max && usage.refused > 0, "{usage:?}");
    let reasons = scene.reasons("d/big", &format!("{{\"a39\":\"{long}\",\"a0\":1}}"));
    assert!(reasons[0].contains("limits.state_bytes_max is 100000"), "{reasons:?}");
    // The rest of the message counts, and a shorter value makes room.
    let big = scene.view.devices.find("big").unwrap().1;
    assert_eq!(big.attributes[0].value, Value::Int(1));
    scene.check();
}

#[test]
fn names_of_actions_are_bounded_for_a_device_and_for_all() {
    let mut scene = Scene::new(config(4_000_000));
    scene.config.limits.attributes_per_device_max = 10;
    scene.restart();
    let document = |from: usize, count: usize| {
        let names: Vec<String> = (from..from + count).map(|n| format!("\"n{n}\":1")).collect();
        format!("{{{}}}", names.join(","))
    };
    let reasons = scene.reasons("a/button", &document(0, 30));
    assert!(
        reasons[0].contains("number 11 of device button; limits.attributes_per_device_max is 10"),
        "{reasons:?}"
    );
    assert_eq!(scene.view.devices.attribute_names().len(), 10);
    // The same ones go on.
    assert!(scene.reasons("a/button", &document(0, 10)).is_empty());

    let reasons: Vec<String> = (0..1_000)
        .flat_map(|n| scene.reasons(&format!("a/button{n}"), &document(100 + n * 10, 10)))
        .collect();
    assert!(reasons[0].contains("names of attributes may take a quarter"), "{}", reasons[0]);
    // Names leave room for devices and values.
    assert!(scene.reasons("d/lamp", "{\"brightness\":1}").is_empty());
    scene.check();
}

#[test]
fn retired_devices_make_room_the_longest_retired_first() {
    let mut scene = Scene::new(config(10_000_000));
    scene.config.limits.devices_max = 3;
    scene.restart();
    for name in ["one", "two", "three"] {
        scene.take(&format!("d/{name}"), "{\"x\":1}");
    }
    let reasons = scene.reasons("d/four", "{\"x\":1}");
    assert_eq!(reasons, ["device four would be number 4; limits.devices_max is 3"]);
    scene.take("d/two", "");
    scene.take("d/one", "");
    assert_eq!(scene.take("d/four", "{\"x\":1}")[0], Fact::DeviceForgotten { device: DeviceId(1) });
    // A topic that knew the device by its number must not mistake another one for it.
    assert!(scene.take("d/two", "").is_empty());
    let facts = scene.take("d/two", "{\"x\":7}");
    assert_eq!(facts[0], Fact::DeviceForgotten { device: DeviceId(0) });
    assert_eq!(facts[1].device(), Some(DeviceId(4)));
    assert_eq!(scene.view.devices.find("two").unwrap().1.attributes[0].value, Value::Int(7));
    scene.check();
    // The order of retirement survives a restart.
    scene.take("d/two", "");
    scene.take("d/three", "");
    scene.restart();
    assert_eq!(scene.take("d/five", "{\"x\":1}")[0], Fact::DeviceForgotten { device: DeviceId(4) });
}

#[test]
fn a_device_is_not_forgotten_while_somebody_needs_its_name() {
    let mut scene = Scene::new(config(10_000_000));
    scene.config.limits.devices_max = 2;
    scene.restart();
    // A bridge is needed while it has children.
    scene.take("c/lamp", "{\"x\":1}");
    scene.take("d/bridge", "{\"x\":1}");
    scene.take("d/bridge", "");
    assert_eq!(scene.reasons("d/new", "{\"x\":1}").len(), 1);
    // A required sink has not received the last record of this one yet.
    scene.acked = Some(scene.view.seq);
    scene.take("c/lamp", "");
    assert_eq!(scene.reasons("d/new", "{\"x\":1}").len(), 1);
    scene.acked = None;
    scene.take("b/bridge", "maybe");
    assert!(scene.reasons("d/new", "{\"x\":1}").is_empty());
    scene.check();
}

#[test]
fn a_state_above_the_limit_is_served_and_does_not_grow() {
    let mut scene = Scene::new(config(10_000_000));
    for n in 0..100 {
        scene.take(&format!("d/{n}"), "{\"text\":\"0123456789\"}");
    }
    scene.config.limits.state_bytes_max = Some(20_000);
    scene.restart();
    let usage = scene.observer.state_use();
    assert!(usage.bytes > usage.bytes_max, "{usage:?}");
    assert!(scene.reasons("d/0", "{\"text\":\"9876543210\"}").is_empty(), "no longer than before");
    assert_eq!(scene.reasons("d/new", "{\"x\":1}").len(), 1);
    assert_eq!(scene.reasons("d/1", "{\"x\":1}").len(), 1);
    // Retired devices make room even then.
    (0..100).for_each(|n| drop(scene.take(&format!("d/{n}"), "")));
    assert!(scene.reasons("d/new", "{\"x\":1}").is_empty());
    scene.check();
}
