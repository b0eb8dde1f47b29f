//! The rules, and which of them are about what. A set of rules is the bits of a number, so that looking one up costs next to
//! nothing: it is made of those for the attribute's name and those for the device, each found once.

use std::collections::BTreeMap;
use std::time::Duration;

use fieldlog_projections::alert::{Alert, Condition, Severity, Subject};
use fieldlog_projections::pattern::Patterns;
use fieldlog_projections::{AttrId, DeviceId, Time, Value, ValueRef, View};

use super::battery;
use super::reading::{Reading, Threshold};
use super::{Key, World};
use crate::config::{AlertRule, Watch};

/// A set of rules, by their places.
pub(super) type Set = u64;

/// Takes the first rule out of a set.
pub(super) fn take_first(set: &mut Set) -> Option<usize> {
    let first = set.trailing_zeros() as usize;
    *set &= set.wrapping_sub(1);
    (first < Set::BITS as usize).then_some(first)
}

/// All rules, and what is known of names.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<AlertRule>,
    devices: Vec<Patterns>,
    attributes: Vec<Patterns>,
    /// By device number, the rules whose pattern it matches.
    by_device: Vec<Option<Set>>,
    /// By attribute number.
    by_attribute: Vec<Option<Set>>,
    /// Where descriptions say other than the name whether an attribute is a battery's.
    batteries: BTreeMap<AttrId, BTreeMap<DeviceId, bool>>,
    values: Set,
    silence: Set,
    battery: Set,
}

impl Rules {
    pub(super) fn new(rules: &[AlertRule]) -> Rules {
        // The configuration's check has refused patterns that are none, and more rules than a set can have.
        let patterns = |texts: &[String]| Patterns::parse(texts).unwrap_or_default();
        let set = |on: Watch| -> Set {
            (0..).zip(rules).filter(|(_, rule)| rule.on == on).map(|(place, _): (u32, _)| 1 << place).sum()
        };
        Rules {
            devices: rules.iter().map(|rule| patterns(&rule.devices)).collect(),
            attributes: rules.iter().map(|rule| patterns(&rule.attributes)).collect(),
            values: set(Watch::Attribute) | set(Watch::Battery),
            silence: set(Watch::Silence),
            battery: set(Watch::Battery),
            rules: rules.to_vec(),
            ..Rules::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub(super) fn are(&self, rules: &[AlertRule]) -> bool {
        self.rules == rules
    }

    /// The place of the rule with a name.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.rules.iter().position(|rule| rule.name == name)
    }

    pub(super) fn name(&self, rule: usize) -> &str {
        self.rules.get(rule).map_or("", |rule| &rule.name)
    }

    pub(super) fn severity(&self, rule: usize) -> Severity {
        self.rules.get(rule).map_or_else(Severity::default, |rule| rule.severity)
    }

    pub(super) fn lasting(&self, rule: usize) -> Duration {
        self.rules.get(rule).map_or(Duration::ZERO, |rule| rule.lasting)
    }

    /// Whether there are rules about values.
    pub(super) fn of_values(&self) -> bool {
        self.values != 0
    }

    pub(super) fn of_kind(&self, on: Watch) -> bool {
        self.rules.iter().any(|rule| rule.on == on)
    }

    /// The places of the rules of a kind.
    pub(super) fn places(&self, on: Watch) -> Vec<usize> {
        (0..self.rules.len()).filter(|place| self.rules[*place].on == on).collect()
    }

    /// Forgets what names match.
    pub(super) fn forget(&mut self) {
        self.by_device.clear();
        self.by_attribute.clear();
    }

    /// Learns from the descriptions which attributes are batteries.
    pub(super) fn learn_batteries(&mut self, view: &View) {
        self.batteries.clear();
        if self.battery == 0 {
            return;
        }
        for (device, described) in view.descriptions.iter() {
            described
                .attributes()
                .into_iter()
                .for_each(|attribute| self.learn_battery(view, device, attribute));
        }
    }

    /// Learns from its description whether an attribute is a battery.
    pub(super) fn learn_battery(&mut self, view: &View, device: DeviceId, attribute: AttrId) {
        let Some(described) = view.descriptions.get(device) else { return };
        let named = battery::is_named(view.devices.attribute_name(attribute).unwrap_or_default());
        if let Some(is) = battery::is_described(&described.attribute(attribute)).filter(|is| *is != named) {
            self.batteries.entry(attribute).or_default().insert(device, is);
        }
    }

    /// The rules about the values of an attribute of a device.
    pub(super) fn of_attribute(&mut self, view: &View, device: DeviceId, attribute: AttrId) -> Set {
        let mut set = self.by_name(view, attribute);
        if self.battery != 0 {
            match self.batteries.get(&attribute).and_then(|devices| devices.get(&device)) {
                Some(true) => set |= self.battery,
                Some(false) => set &= !self.battery,
                None => {}
            }
        }
        // Most attributes have none.
        if set == 0 { 0 } else { set & self.by_id(view, device) }
    }

    /// The rules about the silence of a device.
    pub(super) fn of_silence(&mut self, view: &View, device: DeviceId) -> Set {
        self.silence & self.by_id(view, device)
    }

    /// Whether a rule is still about what an alert was raised for.
    pub(super) fn includes(&mut self, rule: usize, view: &View, subject: &Subject) -> bool {
        let set = match subject {
            Subject::Attribute(device, attribute) => self.of_attribute(view, *device, *attribute),
            Subject::Device(device) => self.of_silence(view, *device),
            Subject::Sink(name) => {
                return self
                    .rules
                    .get(rule)
                    .is_some_and(|rule| rule.on == Watch::SinkBacklog && rule.sink == *name);
            }
        };
        set & (1 << rule) != 0
    }

    fn by_name(&mut self, view: &View, attribute: AttrId) -> Set {
        let at = attribute.0 as usize;
        if let Some(Some(known)) = self.by_attribute.get(at) {
            return *known;
        }
        let name = view.devices.attribute_name(attribute).unwrap_or_default();
        let matches = |(place, patterns): (usize, &Patterns)| match self.rules[place].on {
            Watch::Battery => battery::is_named(name),
            _ => patterns.matches(name),
        };
        let set = self.attributes.iter().enumerate().filter(|one| matches(*one));
        let set = self.values & set.map(|(place, _)| 1 << place).sum::<Set>();
        note(&mut self.by_attribute, at, set);
        set
    }

    fn by_id(&mut self, view: &View, device: DeviceId) -> Set {
        let at = device.0 as usize;
        if let Some(Some(known)) = self.by_device.get(at) {
            return *known;
        }
        let Some(found) = view.devices.get(device) else { return 0 };
        let matching = self.devices.iter().enumerate().filter(|(_, patterns)| patterns.matches(&found.name));
        let set = matching.map(|(place, _)| 1 << place).sum();
        note(&mut self.by_device, at, set);
        set
    }

    /// What a rule says of a value.
    pub(super) fn reading(&self, rule: usize, value: ValueRef<'_>) -> Reading {
        let Some(rule) = self.rules.get(rule) else { return Reading::Unknown };
        let threshold = |at: f64, above| Threshold { at, clear: rule.clear.unwrap_or(at), above };
        match (rule.above, rule.below, &rule.equals) {
            (_, Some(below), _) if rule.on == Watch::Battery => {
                battery::reading(value, threshold(below, false))
            }
            (Some(above), ..) => threshold(above, true).reading(value),
            (_, Some(below), _) => threshold(below, false).reading(value),
            (.., Some(wanted)) => Reading::equals(value, wanted),
            _ => Reading::Unknown,
        }
    }

    /// The sink of a rule, and what it says of its backlog.
    pub(super) fn backlog(&self, rule: usize, world: &dyn World, wall: Time) -> (String, Reading) {
        let Some(rule) = self.rules.get(rule) else { return (String::new(), Reading::Unknown) };
        let sink = rule.sink.clone();
        let reading = match (rule.above_events, rule.above_s) {
            (Some(events), _) => {
                Reading::backlog(Condition::BacklogEvents, events, world.backlog_events(&sink))
            }
            (None, Some(seconds)) => {
                let age = world.backlog_oldest(&sink).map_or(0, |oldest| wall.micros_since(oldest));
                Reading::backlog(Condition::BacklogSeconds, seconds, age as u64 / 1_000_000)
            }
            (None, None) => Reading::Unknown,
        };
        (sink, reading)
    }

    /// What is raised for something wrong.
    pub(super) fn alert(&self, key: &Key, condition: Condition, threshold: Value, value: Value) -> Alert {
        let (rule, subject) = key;
        Alert {
            rule: self.name(*rule).to_owned(),
            severity: self.severity(*rule),
            subject: subject.clone(),
            condition,
            threshold,
            value,
        }
    }
}

fn note(sets: &mut Vec<Option<Set>>, at: usize, set: Set) {
    if at >= sets.len() {
        sets.resize(at + 1, None);
    }
    sets[at] = Some(set);
}
