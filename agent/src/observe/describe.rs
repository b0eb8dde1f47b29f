//! Compares descriptions with the known ones, and records changes.
//!
//! There are three authors: the device's own convention, Home Assistant's discovery, and the operator. Their
//! descriptions are kept separately, so that each can withdraw its own without affecting the others.

use std::collections::HashMap;
use std::sync::Arc;

use fieldlog_projections::{AttrId, AttributeDescription, Described, DescribedBy, DeviceId, Fact, Time};

use super::outcomes::{Refusal, Verdict, topic_text};
use super::topics::RuleMatch;
use super::{Observer, RecordBatch, at, budget};
use crate::config::Announcer;
use crate::describe::{self, Address, Announced, Announcement, Bounds};
use crate::message::Message;
use fieldlog_rules::decode;

mod operator;
mod resolve;

use resolve::Target;

/// Maximum announcements waiting for the one that introduces their device.
const WAITING_MAX: usize = 64;

/// An attribute of a device.
type Place = (DeviceId, AttrId);

/// Links between announcements. They do not outlive the process: announcements are retained, and arrive again.
#[derive(Debug, Default)]
pub(super) struct Announcers {
    /// The attributes that each topic of Home Assistant's discovery describes.
    topics: HashMap<(usize, Arc<str>), Vec<Place>>,
    /// The reverse index. Each attribute has one topic.
    owners: HashMap<Place, (usize, Arc<str>)>,
    /// Topics of devices, by the id used in announcements.
    introduced: HashMap<(usize, Box<str>), Box<str>>,
    waiting: HashMap<(usize, Box<str>), Announcement>,
    /// Bytes of the first three maps.
    pub(super) bytes: usize,
}

impl Observer {
    /// Processes an announcement.
    pub(super) fn announce(
        &mut self,
        source: usize,
        rule: usize,
        announcer: Announcer,
        message: &Message,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<Verdict, Refusal> {
        let topic = topic_text(&message.topic)?;
        let bounds = Bounds {
            devices: self.limits.devices,
            attributes: self.limits.attributes,
            text_bytes: self.limits.name_bytes,
        };
        let announcements = describe::decode(announcer, topic, &message.payload, &bounds)?;
        // An announcement is not a sign of life of the devices it describes.
        self.alive = false;
        let before = batch.records.len();
        let (mut refusal, mut listed, mut described) = (None, Vec::new(), Vec::new());
        let lists = matches!(announcer, Announcer::Zigbee2mqttDevices | Announcer::Zigbee2mqttGroups);
        let known = if lists { self.by_stable_id(source) } else { HashMap::new() };
        for announcement in announcements.devices {
            self.follow_name(source, &known, &announcement, received, batch);
            let mut queue = vec![announcement];
            while let Some(announcement) = queue.pop() {
                queue.extend(self.introduce(source, &announcement));
                match self.take_announcement(source, announcer, topic, announcement, received, batch) {
                    Ok(Some((id, attributes))) => {
                        listed.push(id);
                        described.extend(attributes.into_iter().map(|attribute| (id, attribute)));
                    }
                    Ok(None) => {}
                    Err(reason) => refusal = refusal.or(Some(reason)),
                }
            }
        }
        if announcer == Announcer::HomeAssistant {
            self.take_back(source, topic, described, received, batch);
        }
        if announcements.complete && refusal.is_none() {
            let parent = self.sources[source].rules.find(topic).find(|found| found.rule == rule);
            let parent = parent.and_then(|found| found.parent).unwrap_or_default();
            self.retire_unlisted(source, rule, (announcer, &parent), &listed, received, batch);
        }
        match refusal {
            Some(refusal) => Err(refusal),
            None if batch.records.len() > before => Ok(Verdict::Recorded),
            None => Ok(Verdict::Unchanged),
        }
    }

    /// The devices of a source by announced stable id.
    fn by_stable_id(&self, source: usize) -> HashMap<String, DeviceId> {
        let mine = self.devices.iter().filter(|(_, device)| usize::from(device.source.0) == source);
        let named = mine.filter_map(|(id, device)| {
            let stable_id = device.described.as_deref()?.device_by(DescribedBy::Announcement).stable_id;
            // Of several, the one that is not retired.
            (!stable_id.is_empty()).then_some((device.retired.is_none(), stable_id, id))
        });
        let mut named: Vec<_> = named.collect();
        named.sort_unstable();
        named.into_iter().map(|(_, stable_id, id)| (stable_id, id)).collect()
    }

    /// If a device with a known stable id has another name now, it is renamed and keeps its history.
    fn follow_name(
        &mut self,
        source: usize,
        known: &HashMap<String, DeviceId>,
        announcement: &Announcement,
        received: Time,
        batch: &mut RecordBatch,
    ) {
        let Some(id) = known.get(&announcement.description.stable_id).copied() else { return };
        let Address::Topic(topic) = &announcement.device else { return };
        let Some(Target { matched, .. }) = self.resolve(source, topic, None) else { return };
        let alive = |id: DeviceId| self.devices.get(id).is_some_and(|device| device.retired.is_none());
        // Another device already has the name: the announcement now describes that one.
        let is_taken = matched.device.is_some_and(alive);
        if !is_taken && matched.device != Some(id) && (announcement.joined || alive(id)) {
            // A refusal was already counted and logged; the device is then a new one.
            let _ = self.rename(id, &matched.device_name, received, batch);
        }
    }

    /// Remembers the topic of an introduced device, and returns the announcement that waited for it.
    fn introduce(&mut self, source: usize, announcement: &Announcement) -> Option<Announcement> {
        let (id, topic) = announcement.introduces.as_ref()?;
        let key = (source, id.as_str().into());
        let waiting = self.announcers.waiting.remove(&key);
        let bytes = budget::introduced_bytes(id, topic);
        if self.announcers.introduced.len() < self.limits.devices && self.budget.fits(bytes) {
            let known = self.announcers.introduced.insert(key, topic.as_str().into());
            self.book_announcers(bytes, known.map_or(0, |known| budget::introduced_bytes(id, &known)));
        }
        waiting
    }

    fn book_announcers(&mut self, more: usize, less: usize) {
        self.announcers.bytes = (self.announcers.bytes + more).saturating_sub(less);
        self.budget.book((more, less));
    }

    /// Applies one announcement to its device and attributes, if the rules determine one.
    fn take_announcement(
        &mut self,
        source: usize,
        announcer: Announcer,
        from: &str,
        announcement: Announcement,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<Option<(DeviceId, Vec<AttrId>)>, Refusal> {
        let (target, topic) = match &announcement.device {
            Address::Topic(topic) => (self.resolve(source, topic, None), topic.clone()),
            Address::Availability(topics) => {
                let found =
                    topics.iter().find_map(|topic| Some((self.resolve_availability(source, topic)?, topic)));
                let Some((target, topic)) = found else { return Ok(None) };
                (Some(target), topic.clone())
            }
            Address::Introduced(id) => {
                let key = (source, id.as_str().into());
                let Some(topic) = self.announcers.introduced.get(&key).map(ToString::to_string) else {
                    if self.announcers.waiting.len() < WAITING_MAX {
                        self.announcers.waiting.insert(key, announcement);
                    }
                    return Ok(None);
                };
                (self.resolve(source, &topic, None), topic)
            }
        };
        let Some(Target { mut matched, .. }) = target else { return Ok(None) };
        if announcer == Announcer::Homie && self.says_nothing(source, &topic, &announcement) {
            return Ok(None);
        }
        decode::check_name(&matched.device_name, self.limits.name_bytes)?;
        let retired =
            matched.device.and_then(|id| self.devices.get_mut(id)).is_some_and(|d| d.retired.is_some());
        if retired && !announcement.joined {
            return Ok(None);
        }
        // Withdrawing a description does not require the device to be known.
        let nothing = announcement.description.is_empty() && announcement.attributes.is_empty();
        if matched.device.is_none() && nothing {
            return Ok(None);
        }
        let id = self.device(source, &mut matched, received, batch)?;
        let by = match announcer {
            Announcer::HomeAssistant => DescribedBy::Discovery,
            _ => DescribedBy::Announcement,
        };
        let mut next = self.devices[id].described.as_deref().cloned().unwrap_or_default();
        let mut facts = Vec::new();
        let description = announcement.parts.device(next.device_by(by), &announcement.description);
        if next.describe_device(by, &description) {
            facts.push(Fact::DeviceDescribed { device: id, by, description });
        }
        let mut attributes = Vec::new();
        for announced in &announcement.attributes {
            let Some(attribute) = self.announced_attribute(source, &topic, id, announced, received, batch)?
            else {
                continue;
            };
            if self.has_other_owner(source, from, id, attribute, by) || attributes.contains(&attribute) {
                continue;
            }
            attributes.push(attribute);
            let description =
                announced.parts.attribute(next.attribute_by(by, attribute), &announced.description);
            if next.describe_attribute(by, attribute, &description) {
                facts.push(Fact::AttributeDescribed { device: id, attribute, by, description });
            }
        }
        if announcement.complete {
            let gone: Vec<AttrId> =
                next.attributes_by(by).filter(|attr| !attributes.contains(attr)).collect();
            facts.extend(gone.into_iter().map(|attribute| {
                next.describe_attribute(by, attribute, &AttributeDescription::default());
                no_words(id, attribute, by)
            }));
        }
        self.record_descriptions(id, next, &facts, received, batch)?;
        self.undescribed.push(id);
        Ok(Some((id, attributes)))
    }

    /// Homie names devices and properties in the same way; if the rules find neither, the announcement is ignored.
    fn says_nothing(&self, source: usize, topic: &str, announcement: &Announcement) -> bool {
        match announcement.attributes.first() {
            Some(announced) => {
                self.resolve(source, topic, Some(&announced.path)).is_none_or(|t| t.attribute.is_none())
            }
            None => false,
        }
    }

    /// The number of the attribute at a topic and a place in its documents, by the rules.
    fn announced_attribute(
        &mut self,
        source: usize,
        topic: &str,
        device: DeviceId,
        announced: &Announced,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<Option<AttrId>, Refusal> {
        let topic = if announced.topic.is_empty() { topic } else { &announced.topic };
        let Some(target) = self.resolve(source, topic, Some(&announced.path)) else { return Ok(None) };
        let Some(name) = target.attribute.filter(|_| target.matched.device == Some(device)) else {
            return Ok(None);
        };
        decode::check_name(&name, self.limits.name_bytes)?;
        self.attribute(device, &name, received, batch).map(Some)
    }

    /// Makes the next description of a device the one that is known, and records what is new in it.
    pub(super) fn record_descriptions(
        &mut self,
        id: DeviceId,
        next: Described,
        facts: &[Fact],
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<(), Refusal> {
        if facts.is_empty() {
            return Ok(());
        }
        if DescribedBy::ALL.into_iter().any(|by| next.attributes_by(by).len() > self.limits.attributes) {
            let name = &self.devices[id].name;
            return Err(Refusal(format!(
                "more attributes of device {name} are described than limits.attributes_per_device_max, which is {}",
                self.limits.attributes
            )));
        }
        let change = (
            budget::described_bytes(Some(&next)),
            budget::described_bytes(self.devices[id].described.as_deref()),
        );
        if change.0 > change.1 {
            self.room_for_description(id, change.0 - change.1, received, batch)?;
        }
        self.budget.book(change);
        self.devices[id].described = if next.is_empty() { None } else { Some(Box::new(next)) };
        facts.iter().for_each(|fact| {
            batch.records.push_fact(at(received), fact);
        });
        Ok(())
    }

    /// Whether another topic of Home Assistant's discovery describes the attribute. The first one keeps it: if the two
    /// alternated, each of their messages would be a change.
    fn has_other_owner(
        &self,
        source: usize,
        topic: &str,
        device: DeviceId,
        attribute: AttrId,
        by: DescribedBy,
    ) -> bool {
        let owner = self.announcers.owners.get(&(device, attribute));
        by == DescribedBy::Discovery && owner.is_some_and(|(of, other)| (*of, &**other) != (source, topic))
    }

    /// Withdraws descriptions that a topic of Home Assistant's discovery no longer contains.
    fn take_back(
        &mut self,
        source: usize,
        topic: &str,
        described: Vec<(DeviceId, AttrId)>,
        received: Time,
        batch: &mut RecordBatch,
    ) {
        let key = (source, Arc::<str>::from(topic));
        let before = self.announcers.topics.remove(&key).unwrap_or_default();
        let less = if before.is_empty() { 0 } else { budget::announcing_bytes(topic, before.len()) };
        let more = if described.is_empty() { 0 } else { budget::announcing_bytes(topic, described.len()) };
        self.book_announcers(0, less);
        before.iter().for_each(|known| {
            self.announcers.owners.remove(known);
        });
        for (id, attribute) in before.into_iter().filter(|known| !described.contains(known)) {
            let Some(device) = self.devices.get_mut(id).filter(|device| device.retired.is_none()) else {
                continue;
            };
            let mut next = device.described.as_deref().cloned().unwrap_or_default();
            if next.describe_attribute(DescribedBy::Discovery, attribute, &AttributeDescription::default()) {
                let fact = no_words(id, attribute, DescribedBy::Discovery);
                // It needs less room than before, so it cannot be refused.
                let _ = self.record_descriptions(id, next, &[fact], received, batch);
            }
        }
        if !described.is_empty()
            && self.announcers.topics.len() < self.limits.topics
            && self.budget.fits(more)
        {
            self.announcers.owners.extend(described.iter().map(|known| (*known, key.clone())));
            self.announcers.topics.insert(key, described);
            self.book_announcers(more, 0);
        }
    }

    /// Retires devices behind the bridge that an earlier list contained and this one does not.
    fn retire_unlisted(
        &mut self,
        source: usize,
        rule: usize,
        (announcer, parent): (Announcer, &str),
        listed: &[DeviceId],
        received: Time,
        batch: &mut RecordBatch,
    ) {
        let namespace = self.namespace(source, rule);
        let Some(parent) = self.known(source, namespace, parent) else { return };
        let groups = announcer == Announcer::Zigbee2mqttGroups;
        let of_list = |described: &Described| {
            let id = described.device_by(DescribedBy::Announcement).stable_id;
            !id.is_empty() && id.starts_with("group ") == groups
        };
        let unlisted = self.devices.iter().filter(|(id, device)| {
            device.retired.is_none()
                && device.parent == Some(parent)
                && usize::from(device.source.0) == source
                && !listed.contains(id)
                && device.described.as_deref().is_some_and(of_list)
        });
        let unlisted: Vec<(DeviceId, Box<str>)> =
            unlisted.map(|(id, device)| (id, (*device.name).into())).collect();
        for (id, name) in unlisted {
            let mut matched = RuleMatch {
                rule,
                device: Some(id),
                device_name: name,
                attribute: "".into(),
                parent: None,
                names: None,
                shape: Vec::new(),
            };
            self.retire(source, &mut matched, received, batch);
        }
    }
}

fn no_words(device: DeviceId, attribute: AttrId, by: DescribedBy) -> Fact {
    Fact::AttributeDescribed { device, attribute, by, description: AttributeDescription::default() }
}
