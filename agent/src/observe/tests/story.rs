//! `given(settings, before).when(at, input).then(facts)`: facts are told in short words, times are milliseconds.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::*;
use crate::message::WireFault;

/// Something that reaches the observer.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    /// A message on a topic.
    Says(&'a str, &'a str),
    /// The same, sent because it was retained.
    Retained(&'a str, &'a str),
    /// A topic and payload of any bytes.
    Bytes(&'a [u8], &'a [u8]),
    /// A packet that could not be taken as it was sent.
    Faulty(WireFault),
    /// Time has gone on.
    Tick,
    /// The clock was set; it should have shown this.
    ClockSetFrom(i64),
    /// A clean stop.
    Stop,
    /// A reload of a configuration without policies.
    PoliciesRemoved,
}

pub(super) struct Story {
    scene: Scene,
    start: Time,
    devices: HashMap<DeviceId, String>,
    attributes: Vec<String>,
}

/// What came of an input.
pub(super) struct Told(Story, Vec<String>);

/// An observer that has seen all this, at these times.
pub(super) fn given(settings: Config, before: &[(i64, Input<'_>)]) -> Story {
    let scene = Scene::new(settings);
    let mut story = Story { start: scene.now, scene, devices: HashMap::new(), attributes: Vec::new() };
    for (at, input) in before {
        story = story.when(*at, *input).0;
    }
    story
}

impl Told {
    pub(super) fn then(self, facts: &[&str]) -> Story {
        assert_eq!(self.1, facts);
        self.0
    }

    /// For reasons that are long: there is one fact, and it begins like this and has this in it.
    pub(super) fn then_quarantined(self, words: &str) -> Story {
        let one = matches!(&self.1[..], [fact] if fact.starts_with("quarantined: ") && fact.contains(words));
        assert!(one, "{words:?} is not what was said: {:?}", self.1);
        self.0
    }
}

impl Story {
    pub(super) fn when(mut self, at: i64, input: Input<'_>) -> Told {
        self.scene.now = self.time(at);
        let now = self.scene.now;
        let mut batch = self.scene.batch();
        let observer = &mut self.scene.observer;
        let mut observe = |topic: &[u8], payload: &[u8], retain, fault| {
            let (topic, payload) = (topic.to_vec().into(), payload.to_vec().into());
            let message = Message { topic, payload, retain, dup: false, pkid: Some(1), fault };
            observer.observe(SourceId(0), &message, now, &mut batch);
        };
        match input {
            Input::Says(topic, payload) => observe(topic.as_bytes(), payload.as_bytes(), false, None),
            Input::Retained(topic, payload) => observe(topic.as_bytes(), payload.as_bytes(), true, None),
            Input::Bytes(topic, payload) => observe(topic, payload, false, None),
            Input::Faulty(fault) => observe(b"d/lamp", b"{}", false, Some(fault)),
            Input::Tick => observer.tick(now, &mut batch),
            Input::ClockSetFrom(expected) => {
                observer.clock_stepped(Time(self.start.0 + expected * 1_000), now);
            }
            Input::PoliciesRemoved => {
                self.scene.config.sources[0].policies.clear();
                observer.configure(&self.scene.config, &[Arc::new(Outcomes::default())]).unwrap();
            }
            Input::Stop => observer.flush_deferred(Time(i64::MAX), now, &mut batch),
        }
        let facts = self.scene.commit(&batch).into_iter().map(|fact| self.tell(fact)).collect();
        self.scene.check();
        Told(self, facts)
    }

    fn time(&self, at: i64) -> Time {
        Time(self.start.0 + at * 1_000)
    }

    /// How often something was counted since the start.
    pub(super) fn counted(self, counter: &str, times: u64) -> Story {
        let outcomes = &self.scene.observer.sources[0].outcomes;
        let found = match counter {
            "unchanged" => &outcomes.unchanged,
            "retained" => &outcomes.retained_repeats,
            "suppressed" => &outcomes.suppressed,
            "quarantined" => &outcomes.quarantined,
            "ignored" => &outcomes.ignored,
            _ => panic!("{counter} is not a counter"),
        };
        assert_eq!(found.load(Ordering::Relaxed), times, "{counter}");
        self
    }

    pub(super) fn remembers_topics(self, topics: usize) -> Story {
        assert_eq!(self.scene.observer.topics, topics);
        self
    }

    fn tell(&mut self, fact: Fact) -> String {
        match fact {
            Fact::DeviceDiscovered { device, name, parent, .. } => {
                self.devices.insert(device, name.clone());
                parent.map_or(format!("discovered {name}"), |parent| {
                    format!("discovered {name} behind {}", self.devices[&parent])
                })
            }
            Fact::AttributeNamed { attribute, name } => {
                assert_eq!(attribute.0 as usize, self.attributes.len());
                self.attributes.push(name.clone());
                format!("named {name}")
            }
            Fact::StateChanged { device, changes } => {
                let changes =
                    changes.iter().map(|(attr, v)| format!("{}={}", self.attribute(attr.0), value(v)));
                format!("{} {}", self.devices[&device], changes.collect::<Vec<_>>().join(" "))
            }
            Fact::ActionFired { device, attribute, value: fired } => {
                format!("{} {}!{}", self.devices[&device], self.attribute(attribute.0), value(&fired))
            }
            Fact::AvailabilityChanged { device, availability, cause } => {
                format!("{} {availability:?} by {cause:?}", self.devices[&device])
            }
            Fact::DeviceRetired { device } => format!("retired {}", self.devices[&device]),
            Fact::DeviceForgotten { device } => format!("forgotten {}", self.devices[&device]),
            Fact::InputQuarantined { reason, .. } => format!("quarantined: {reason}"),
            other => panic!("not one of the observer's: {other:?}"),
        }
    }

    fn attribute(&self, id: u32) -> &str {
        &self.attributes[id as usize]
    }
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(v) => v.to_string(),
        Value::Int(v) => v.to_string(),
        Value::Uint(v) => v.to_string(),
        Value::Float(v) => v.to_string(),
        Value::Text(v) | Value::Json(v) => v.to_string(),
    }
}
