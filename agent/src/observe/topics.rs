//! What is known about a topic: which rules take it, for which device, and which attributes it has sent.

use std::collections::HashMap;

use fieldlog_projections::{DeviceId, Time};

use super::registry::Device;
use super::{Batch, Observer, Refusal, budget};
use crate::config::rules::Found;
use crate::decode;
use crate::message::Message;

/// Longer topics are not remembered: what is known of them is found out again with each message.
const TOPIC_BYTES_REMEMBERED: usize = 1_024;

/// What is known about one topic: the rules that take it, in order.
#[derive(Debug, Default)]
pub(super) struct Topic {
    pub(super) matches: Vec<RuleMatch>,
    pub(super) too_long_reported: bool,
}

/// A rule that takes the topic, with the device and the attributes it is about.
#[derive(Debug)]
pub(super) struct RuleMatch {
    pub(super) rule: usize,
    pub(super) device_name: Box<str>,
    pub(super) device: Option<DeviceId>,
    pub(super) attribute: Box<str>,
    /// Attribute paths in the order this topic last sent them, and their slots in the device.
    pub(super) shape: Vec<(Box<str>, Option<u32>)>,
}

impl Observer {
    /// Finds the rules for a topic that is not remembered, and remembers it if there is room.
    pub(super) fn learn_topic(&mut self, source: usize, message: &Message) -> Result<Topic, Refusal> {
        let name =
            std::str::from_utf8(&message.topic).map_err(|_| Refusal("the topic is not UTF-8".into()))?;
        let matches = self.sources[source].rules.find(name).collect::<Vec<_>>();
        for found in &matches {
            decode::check_name(&found.device, self.limits.name_bytes)?;
            decode::check_name(&found.attribute, self.limits.name_bytes)?;
        }
        let topic = self.topic(source, matches);
        if message.topic.len() > TOPIC_BYTES_REMEMBERED {
            return Ok(topic);
        }
        let bytes = budget::topic_bytes(&message.topic, &topic);
        if self.topics >= self.limits.topics || !self.budget.topics_fit(bytes) {
            self.forget_topics();
        }
        self.topics += 1;
        self.budget.topics += bytes;
        self.sources[source].topics.insert(Box::from(&message.topic[..]), Topic::default());
        Ok(topic)
    }

    fn topic(&self, source: usize, matches: Vec<Found>) -> Topic {
        let matches = matches
            .into_iter()
            .map(|found| RuleMatch {
                rule: found.rule,
                device: self.known(source, self.namespace(source, found.rule), &found.device),
                device_name: found.device.into(),
                attribute: found.attribute.into(),
                shape: Vec::new(),
            })
            .collect();
        Topic { matches, too_long_reported: false }
    }

    /// Forgetting all is crude but bounded; the known ones are back after one message each.
    pub(super) fn forget_topics(&mut self) {
        self.sources.iter_mut().for_each(|s| s.topics = HashMap::new());
        (self.topics, self.budget.topics) = (0, 0);
    }

    /// A path at a place where this topic has not sent it yet: its slot, or `None` if the rule does not keep it as state.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn learn_path(
        &mut self,
        source: usize,
        matched: &mut RuleMatch,
        index: usize,
        device: DeviceId,
        path: &str,
        received: Time,
        batch: &mut Batch,
    ) -> Result<Option<u32>, Refusal> {
        let rule = &self.sources[source].compiled[matched.rule];
        let state = !rule.actions.matches(path) && !rule.ignore.matches(path);
        let slot = match (state, &*matched.attribute) {
            (false, _) => None,
            (true, "") => Some(self.slot(device, path, received, batch)?),
            (true, prefix) => {
                let name = format!("{prefix}.{path}");
                decode::check_name(&name, self.limits.name_bytes)?;
                Some(self.slot(device, &name, received, batch)?)
            }
        };
        // Documents of changing shape would otherwise make this list grow without end.
        self.cut_shape(matched, index.min(self.limits.attributes));
        if matched.shape.len() == index {
            self.budget.topics += budget::shape_bytes(path);
            matched.shape.push((path.into(), slot));
        }
        Ok(slot)
    }

    /// A topic remembers its device by number. A forgotten device has to be discovered again, and one without a namespace may
    /// be another one's meanwhile.
    pub(super) fn check_device(&mut self, source: usize, matched: &mut RuleMatch) {
        let namespace = self.namespace(source, matched.rule);
        let good = |device: &Device| device.namespace.is_none_or(|of| of == namespace);
        if matched.device.is_some_and(|id| !self.devices.get(id).is_some_and(good)) {
            matched.device = None;
            self.cut_shape(matched, 0);
        }
    }

    /// Forgets the paths of a topic from the place `keep` on.
    pub(super) fn cut_shape(&mut self, matched: &mut RuleMatch, keep: usize) {
        for (path, _) in matched.shape.drain(keep.min(matched.shape.len())..) {
            self.budget.topics = self.budget.topics.saturating_sub(budget::shape_bytes(&path));
        }
    }
}
