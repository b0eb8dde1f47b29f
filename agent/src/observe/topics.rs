//! What is known about a topic: its rules, their devices, and the attributes it has sent.

use std::collections::HashMap;

use fieldlog_projections::{DeviceId, Time, ValueRef};

use super::budget::{DOUBLING, block};
use super::device::Device;
use super::outcomes::{Refusal, topic_text};
use super::{Observer, RecordBatch};
use crate::config::rules::MatchedRule;
use crate::message::Message;
use fieldlog_rules::decode;
use fieldlog_rules::topic::Name;

/// Longer topics are not remembered; they are resolved anew for each message.
const TOPIC_BYTES_REMEMBERED: usize = 1_024;

/// The rules for one topic, in order.
#[derive(Debug, Default)]
pub(super) struct Topic {
    pub(super) matches: Vec<RuleMatch>,
    pub(super) said: Said,
}

/// Warnings about a topic that are not repeated.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) too_long: bool,
    pub(super) left_out: bool,
    pub(super) time: bool,
    pub(super) twice: bool,
    pub(super) late: bool,
}

/// A rule for the topic, with its device and attributes.
#[derive(Debug)]
pub(super) struct RuleMatch {
    pub(super) rule: usize,
    pub(super) device_name: Box<str>,
    pub(super) device: Option<DeviceId>,
    pub(super) attribute: Box<str>,
    /// The device that this one is behind.
    pub(super) parent: Option<Box<str>>,
    /// Names with parts from the document, so that device and attribute vary by document.
    pub(super) names: Option<Box<Names>>,
    /// The known attribute paths, in the order this topic last sent them.
    pub(super) shape: Vec<Known>,
}

/// A known attribute path.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) path: Box<str>,
    /// Its slot in the device; `None` if the rule does not record it as state.
    pub(super) slot: Option<u32>,
    /// Entry of the rule's types.
    pub(super) kind: Option<u16>,
}

/// Names of devices and attributes that are resolved in each document.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) devices: Vec<Name>,
    pub(super) attribute: Name,
}

impl Topic {
    /// The memory that it takes with its name.
    pub(super) fn bytes(&self, name: &[u8]) -> usize {
        let matches: usize = self.matches.iter().map(RuleMatch::bytes).sum();
        block(name.len()) + (16 + size_of::<Topic>()) * DOUBLING + matches
    }
}

impl RuleMatch {
    fn bytes(&self) -> usize {
        let parent = self.parent.as_ref().map_or(0, |parent| block(parent.len()));
        let texts = block(self.device_name.len()) + block(self.attribute.len()) + parent;
        let shape: usize = self.shape.iter().map(|known| shape_bytes(&known.path)).sum();
        let names = self.names.as_ref().map_or(0, |names| {
            names
                .devices
                .iter()
                .chain([&names.attribute])
                .map(|name| block(name.bytes()) * DOUBLING)
                .sum::<usize>()
                + block(size_of::<Names>())
        });
        size_of::<RuleMatch>() * DOUBLING + texts + shape + names
    }
}

/// An attribute path of a topic.
fn shape_bytes(path: &str) -> usize {
    block(path.len()) + size_of::<Known>() * DOUBLING
}

impl Observer {
    /// Finds the rules for a topic that is not remembered, and remembers it if there is room.
    pub(super) fn learn_topic(&mut self, source: usize, message: &Message) -> Result<Topic, Refusal> {
        let name = topic_text(&message.topic)?;
        let matches = self.sources[source].rules.find(name).collect::<Vec<_>>();
        for found in &matches {
            let names = found.devices.iter().chain([&found.attribute]).filter_map(Name::fixed);
            for name in names.chain(found.parent.as_deref()) {
                decode::check_name(name, self.limits.name_bytes)?;
            }
        }
        self.note_keep_alives(source, &matches);
        let topic = self.topic(source, matches);
        if message.topic.len() > TOPIC_BYTES_REMEMBERED {
            return Ok(topic);
        }
        let bytes = topic.bytes(&message.topic);
        if self.topics >= self.limits.topics || !self.budget.topics_fit(bytes) {
            self.forget_topics();
        }
        self.topics += 1;
        self.budget.topics += bytes;
        self.sources[source].topics.insert(Box::from(&message.topic[..]), Topic::default());
        Ok(topic)
    }

    pub(super) fn topic(&self, source: usize, matches: Vec<MatchedRule>) -> Topic {
        let one = |found: MatchedRule| {
            let parent = found.parent.map(String::into_boxed_str);
            let device = found.devices.first().map_or(Some(""), Name::fixed);
            if let (Some(device), Some(attribute)) = (device, found.attribute.fixed()) {
                let (device, attribute) = (device.to_owned(), attribute.to_owned());
                return RuleMatch { parent, ..self.rule_match(source, found.rule, device, attribute) };
            }
            let names = Names { devices: found.devices, attribute: found.attribute };
            RuleMatch {
                names: Some(Box::new(names)),
                parent,
                ..self.rule_match(source, found.rule, String::new(), String::new())
            }
        };
        Topic { matches: matches.into_iter().map(one).collect(), said: Said::default() }
    }

    /// A match of a rule for this device and this attribute.
    pub(super) fn rule_match(
        &self,
        source: usize,
        rule: usize,
        device: String,
        attribute: String,
    ) -> RuleMatch {
        RuleMatch {
            rule,
            device: self.known(source, self.namespace(source, rule), &device),
            device_name: device.into(),
            attribute: attribute.into(),
            parent: None,
            names: None,
            shape: Vec::new(),
        }
    }

    /// Forgetting all is crude but bounded; active topics are learnt again with one message each.
    pub(super) fn forget_topics(&mut self) {
        self.sources.iter_mut().for_each(|s| s.topics = HashMap::new());
        (self.topics, self.budget.topics) = (0, 0);
    }

    /// Looks up a path at an index where this topic has not sent it yet: its slot, or `None` if the rule does not
    /// record it as state; and its entry in the rule's types.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn learn_path(
        &mut self,
        source: usize,
        matched: &mut RuleMatch,
        index: usize,
        device: DeviceId,
        path: &str,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<(Option<u32>, Option<u16>), Refusal> {
        let rule = &self.sources[source].compiled[matched.rule];
        let slot = if rule.keeps(path) {
            let name = rule.attribute(&matched.attribute, path);
            decode::check_name(&name, self.limits.name_bytes)?;
            Some(self.slot(device, &name, received, batch)?)
        } else {
            None
        };
        let rule = &self.sources[source].compiled[matched.rule];
        if let Some(slot) = slot {
            self.devices[device].slots[slot as usize].redact |=
                rule.is_secret(&matched.attribute, path, ValueRef::Null);
        }
        // A value without a path has the name in the rule.
        let kind = rule.types.find(if path.is_empty() { &matched.attribute } else { path });
        self.know(matched, index, Known { path: path.into(), slot, kind });
        Ok((slot, kind))
    }

    /// Remembers a path at its index.
    pub(super) fn know(&mut self, matched: &mut RuleMatch, index: usize, known: Known) {
        // Otherwise documents of changing shape would make this list grow without end.
        self.cut_shape(matched, index.min(self.limits.attributes));
        if matched.shape.len() == index {
            self.budget.topics += shape_bytes(&known.path);
            matched.shape.push(known);
        }
    }

    /// A topic remembers its device by number. A forgotten device must be discovered again, and one without a namespace
    /// may be a different one meanwhile.
    pub(super) fn check_device(&mut self, source: usize, matched: &mut RuleMatch) {
        let namespace = self.namespace(source, matched.rule);
        let good = |device: &Device| device.namespace.is_none_or(|of| of == namespace);
        if matched.device.is_some_and(|id| !self.devices.get(id).is_some_and(good)) {
            matched.device = None;
            self.cut_shape(matched, 0);
        }
    }

    /// Forgets the paths of a topic from index `keep` on.
    pub(super) fn cut_shape(&mut self, matched: &mut RuleMatch, keep: usize) {
        for Known { path, .. } in matched.shape.drain(keep.min(matched.shape.len())..) {
            self.budget.topics = self.budget.topics.saturating_sub(shape_bytes(&path));
        }
    }
}
