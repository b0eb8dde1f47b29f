//! `given(settings, before).when(at, input).then(facts)`: facts are abbreviated, times are in milliseconds.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::*;
use crate::message::WireFault;

/// An input of the observer.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    /// A message on a topic.
    Says(&'a str, &'a str),
    /// The same, as a retained message.
    Retained(&'a str, &'a str),
    /// A topic and payload of any bytes.
    Bytes(&'a [u8], &'a [u8]),
    /// A message from another source than the first.
    SaysOn(u16, &'a str, &'a str),
    /// The source renames the device with this id.
    Renamed(&'a str, &'a str),
    /// A packet that could not be accepted.
    Faulty(WireFault),
    /// Time has gone on.
    Tick,
    /// The clock was set; this is the expected time.
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
    kept: Vec<String>,
    refused: Option<String>,
}

/// The outcome of an input.
pub(super) struct Told(Story, Vec<String>);

/// An observer that has seen these inputs at these times.
pub(super) fn given(settings: Config, before: &[(i64, Input<'_>)]) -> Story {
    let scene = Scene::new(settings);
    let mut story = Story {
        start: scene.now,
        scene,
        devices: HashMap::new(),
        attributes: Vec::new(),
        kept: Vec::new(),
        refused: None,
    };
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

    /// For long reasons: there is one fact, which begins with this and contains this.
    pub(super) fn then_quarantined(self, words: &str) -> Story {
        let one = matches!(&self.1[..], [fact] if fact.starts_with("quarantined: ") && fact.contains(words));
        assert!(one, "{words:?} is not what was said: {:?}", self.1);
        self.0
    }
}

impl Told {
    /// There is one fact, a summary that begins with this.
    pub(super) fn then_summarised(self, words: &str) -> Story {
        assert!(matches!(&self.1[..], [fact] if fact.starts_with(words)), "not {words:?}: {:?}", self.1);
        self.0
    }
}

impl Story {
    pub(super) fn when(mut self, at: i64, input: Input<'_>) -> Told {
        self.scene.now = self.time(at);
        let now = self.scene.now;
        let mut batch = self.scene.batch();
        let observer = &mut self.scene.observer;
        let mut observe_on = |source, topic: &[u8], payload: &[u8], retain, fault| {
            let (topic, payload) = (topic.to_vec().into(), payload.to_vec().into());
            let message = Message { topic, payload, retain, dup: false, pkid: Some(1), fault };
            observer.observe(SourceId(source), &message, now, &mut batch);
        };
        let mut observe = |topic: &[u8], payload: &[u8], retain, fault| {
            observe_on(0, topic, payload, retain, fault);
        };
        match input {
            Input::Says(topic, payload) => observe(topic.as_bytes(), payload.as_bytes(), false, None),
            Input::Retained(topic, payload) => observe(topic.as_bytes(), payload.as_bytes(), true, None),
            Input::SaysOn(source, topic, payload) => {
                observe_on(source, topic.as_bytes(), payload.as_bytes(), false, None);
            }
            Input::Renamed(id, name) => {
                let (id, _) = self.scene.view.devices.find(id).unwrap();
                self.refused = observer.rename(id, name, now, &mut batch).err().map(|refusal| refusal.0);
            }
            Input::Bytes(topic, payload) => observe(topic, payload, false, None),
            Input::Faulty(fault) => observe(b"d/lamp", b"{}", false, Some(fault)),
            Input::Tick => observer.tick(now, &mut batch),
            Input::ClockSetFrom(expected) => {
                observer.clock_stepped(Time(self.start.0 + expected * 1_000), now);
            }
            Input::PoliciesRemoved => {
                self.scene.config.sources[0].policies.clear();
                observer.configure(&self.scene.config, &outcomes(&self.scene.config)).unwrap();
            }
            Input::Stop => observer.finish(now, &mut batch),
        }
        let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
        self.kept.extend(batch.quarantine.iter().map(|(_, payload)| text(payload)));
        let facts = self.scene.commit(&batch).into_iter().map(|fact| self.tell(fact)).collect();
        self.scene.check();
        Told(self, facts)
    }

    /// The agent stops and starts again, with its log and these settings.
    pub(super) fn restarted(mut self, settings: Config) -> Story {
        self.scene.config = settings;
        self.scene.restart();
        self.scene.check();
        self
    }

    /// The configuration is reloaded.
    pub(super) fn reloaded(mut self, settings: Config) -> Story {
        self.scene.config = settings;
        self.scene.observer.configure(&self.scene.config, &outcomes(&self.scene.config)).unwrap();
        self
    }

    /// The log has this fact from before the agent's start.
    pub(super) fn recorded(mut self, fact: &Fact) -> Story {
        let mut batch = self.scene.batch();
        batch.records.push_fact(super::super::at(self.scene.now), fact);
        for fact in self.scene.commit(&batch) {
            self.tell(fact);
        }
        self.scene.restart();
        self
    }

    /// The view's state of the device with this id or former id.
    pub(super) fn device(&self, id: &str) -> (DeviceId, &fieldlog_projections::Device) {
        self.scene.view.devices.find_ever(id).unwrap()
    }

    /// The content of the quarantine.
    pub(super) fn kept(self, payloads: &[&str]) -> Story {
        assert_eq!(self.kept, payloads);
        self
    }

    /// Why the last rename was refused.
    pub(super) fn refused(self, words: &str) -> Story {
        let refusal = self.refused.as_deref().unwrap_or("not refused");
        assert!(refusal.contains(words), "{words:?} is not what was said: {refusal:?}");
        self
    }

    fn time(&self, at: i64) -> Time {
        Time(self.start.0 + at * 1_000)
    }

    /// The value of a counter since the start.
    pub(super) fn counted(self, counter: &str, times: u64) -> Story {
        let of = |source: &super::super::source::Source| source.outcomes.clone();
        let all: Vec<_> = self.scene.observer.sources.iter().map(of).collect();
        let one = |outcomes: &Arc<Outcomes>| {
            match counter {
                "events" => &outcomes.events,
                "late" => &outcomes.late,
                "unchanged" => &outcomes.unchanged,
                "retained" => &outcomes.retained_repeats,
                "suppressed" => &outcomes.suppressed,
                "quarantined" => &outcomes.quarantined,
                "summarised" => &outcomes.summarised,
                "clashes" => &outcomes.clashes,
                "ignored" => &outcomes.ignored,
                _ => panic!("{counter} is not a counter"),
            }
            .load(Ordering::Relaxed)
        };
        assert_eq!(all.iter().map(one).sum::<u64>(), times, "{counter}");
        self
    }

    pub(super) fn remembers_topics(self, topics: usize) -> Story {
        assert_eq!(self.scene.observer.topics, topics);
        self
    }

    fn tell(&mut self, fact: Fact) -> String {
        match fact {
            Fact::DeviceDiscovered { device, name, parent, identity, .. } => {
                self.devices.insert(device, name.clone());
                let behind =
                    parent.map_or(String::new(), |parent| format!(" behind {}", self.devices[&parent]));
                // Printed only if it is not obvious.
                let other = identity.filter(|of| of.namespace != "s" || of.name != name);
                let of = other.map_or(String::new(), |of| format!(" ({} of {})", of.name, of.namespace));
                format!("discovered {name}{of}{behind}")
            }
            Fact::DeviceRenamed { device, name, called } => {
                let before = self.devices.insert(device, name.clone()).unwrap();
                format!("renamed {before} {name} ({called})")
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
            Fact::QuarantineSummarised { topic, reason, count, first, last, .. } => {
                let after = |time: Time| time.micros_since(self.start) / 1_000;
                format!("summary: {count} on {topic} from {} to {}: {reason}", after(first), after(last))
            }
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
