//! Devices and attributes, and their numbers.

use std::sync::Arc;

use fieldlog_projections::fact::{Availability, AvailabilityCause, Fact, Identity};
use fieldlog_projections::{AttrId, DeviceId, Seq, Time, View};

use super::device::{self, Device, Slot};
use super::namespaces::Namespace;
use super::outcomes::{Refusal, Verdict};
use super::source::CompiledPolicy;
use super::topics::RuleMatch;
use super::{Observer, RecordBatch, at};
use crate::message::SourceId;

impl Observer {
    pub(super) fn restore(
        &mut self,
        id: DeviceId,
        device: &fieldlog_projections::Device,
        view: &View,
        now: Time,
    ) {
        while self.devices.len() < id.0 as usize {
            self.devices.push_forgotten();
        }
        let source =
            self.sources.iter().position(|s| *s.name == *device.source).unwrap_or(usize::from(u16::MAX));
        let called: Arc<str> =
            if *device.name == *device.called() { device.name.clone() } else { device.called().into() };
        let namespace = device.namespace().map(|name| self.namespaces.number(name));
        let slots = device
            .attributes
            .iter()
            .map(|a| Slot {
                value: a.value.clone(),
                // Log time may be ahead of a clock that was set back.
                recorded: a.time.min(now),
                series: view.aggregates.has(id, a.id)
                    || view.named.has(id, a.id)
                    || a.value.borrow().as_number().is_some(),
                ..Slot::new(a.id, self.policy(source, &device.name, &called, a.id))
            })
            .collect();
        // Nothing is recorded about a retired device, so its newest record is the retirement.
        let retired = device.retired.then_some(device.changed.0);
        self.retired.extend(retired.map(|seq| (seq, id)));
        self.devices.push(Device {
            name: device.name.clone(),
            called,
            namespace,
            former: device.former.clone(),
            source: SourceId(source as u16),
            parent: device.parent,
            children: 0,
            retired,
            availability: device.availability,
            cause: device.availability_cause,
            heard: now,
            slots,
            actions: Vec::new(),
            described: view.descriptions.get(id).cloned().map(Box::new),
            watched: false,
        });
        self.ids.insert(id, &self.devices[id]);
    }

    /// The policy of an attribute, by its device's id or name.
    pub(super) fn policy(&self, source: usize, device: &str, called: &str, attr: AttrId) -> Option<u16> {
        let attribute = self.attributes.get(attr.0 as usize)?;
        let policies = &self.sources.get(source)?.policies;
        let of_device = |p: &CompiledPolicy| p.devices.matches(device) || p.devices.matches(called);
        let wanted = |p: &CompiledPolicy| of_device(p) && p.attributes.matches(attribute);
        policies.iter().position(wanted).map(|at| at as u16)
    }

    /// Looks up the policies of a device's attributes again.
    pub(super) fn find_policies(&mut self, id: DeviceId) {
        let device = &self.devices[id];
        let source = usize::from(device.source.0);
        let find = |slot: &Slot| self.policy(source, &device.name, &device.called, slot.attr);
        let policies: Vec<Option<u16>> = device.slots.iter().map(find).collect();
        for (slot, policy) in self.devices[id].slots.iter_mut().zip(policies) {
            slot.policy = policy;
        }
    }

    /// Counts the children of restored devices.
    pub(super) fn count_children(&mut self) {
        let parents: Vec<_> = self.devices.iter().map(|(_, device)| device.parent).collect();
        parents.into_iter().for_each(|parent| self.add_child(parent));
    }

    /// Adds a child to this parent.
    pub(super) fn add_child(&mut self, parent: Option<DeviceId>) {
        if let Some(parent) = parent.and_then(|id| self.devices.get_mut(id)) {
            parent.children += 1;
        }
    }

    /// Removes a child from this parent.
    pub(super) fn remove_child(&mut self, parent: Option<DeviceId>) {
        if let Some(parent) = parent.and_then(|id| self.devices.get_mut(id)) {
            parent.children = parent.children.saturating_sub(1);
        }
    }

    /// The device of a rule's match, discovered if necessary.
    pub(super) fn device(
        &mut self,
        source: usize,
        matched: &mut RuleMatch,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<DeviceId, Refusal> {
        let namespace = self.namespace(source, matched.rule);
        self.check_device(source, matched);
        let id = match matched.device {
            Some(id) => id,
            None => {
                let parent = match &matched.parent {
                    Some(name) if *name != matched.device_name => {
                        Some(self.discover(source, namespace, name, None, received, batch)?)
                    }
                    _ => None,
                };
                let name = matched.device_name.clone();
                let id = self.discover(source, namespace, &name, parent, received, batch)?;
                matched.device = Some(id);
                id
            }
        };
        let device = &self.devices[id];
        if device.retired.is_some() {
            self.rediscover(source, matched, id, received, batch);
        } else if device.namespace.is_none() {
            self.claim(id, namespace, received, batch);
        }
        if !self.alive {
            return Ok(id);
        }
        let device = &mut self.devices[id];
        device.heard = received;
        self.heard.set(id, received);
        if device.availability == Availability::Offline && device.cause == AvailabilityCause::Silence {
            self.set_availability(id, Availability::Online, AvailabilityCause::Silence, received, batch);
        }
        Ok(id)
    }

    pub(super) fn discover(
        &mut self,
        source: usize,
        namespace: Namespace,
        name: &str,
        parent: Option<DeviceId>,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<DeviceId, Refusal> {
        if let Some(id) = self.known(source, namespace, name) {
            return Ok(id);
        }
        let text = self.free_id(namespace, name);
        // A parent must not be forgotten to make room for its child.
        self.add_child(parent);
        if let Err(refusal) = self.room_for_device(&text, name, received, batch) {
            self.remove_child(parent);
            return Err(refusal);
        }
        self.count_clash(source, namespace, name, &text);
        let called = if *text == *name { text.clone() } else { name.into() };
        let id = self.devices.push(Device {
            name: text.clone(),
            called,
            namespace: Some(namespace),
            former: Vec::new(),
            source: SourceId(source as u16),
            parent,
            children: 0,
            retired: None,
            availability: Availability::Unknown,
            cause: AvailabilityCause::Topic,
            heard: received,
            slots: Vec::new(),
            actions: Vec::new(),
            described: None,
            watched: false,
        });
        self.ids.insert(id, &self.devices[id]);
        self.heard.resize(self.devices.len());
        let source = self.sources[source].name.to_string();
        let (name, identity) = (text.to_string(), self.identity(id));
        let fact = Fact::DeviceDiscovered { device: id, name, source, parent, identity };
        batch.records.push_fact(at(received), &fact);
        self.undescribed.push(id);
        Ok(id)
    }

    fn rediscover(
        &mut self,
        source: usize,
        matched: &RuleMatch,
        id: DeviceId,
        received: Time,
        batch: &mut RecordBatch,
    ) {
        let namespace = self.namespace(source, matched.rule);
        let parent = matched.parent.as_deref();
        let parent = parent.and_then(|name| self.known(source, namespace, name)).filter(|p| *p != id);
        self.bring_back(source, namespace, id, parent, received, batch);
    }

    /// Brings a retired device back, with this parent.
    pub(super) fn bring_back(
        &mut self,
        source: usize,
        namespace: Namespace,
        id: DeviceId,
        parent: Option<DeviceId>,
        received: Time,
        batch: &mut RecordBatch,
    ) {
        self.add_child(parent);
        let device = &mut self.devices[id];
        device.namespace = Some(namespace);
        let before = std::mem::replace(&mut device.parent, parent);
        let retired = device.retired.take();
        device.source = SourceId(source as u16);
        let name = device.name.to_string();
        self.remove_child(before);
        if let Some(seq) = retired {
            self.retired.remove(&(seq, id));
        }
        let source = self.sources[source].name.to_string();
        let identity: Option<Identity> = self.identity(id);
        let fact = Fact::DeviceDiscovered { device: id, name, source, parent, identity };
        batch.records.push_fact(at(received), &fact);
        self.undescribed.push(id);
    }

    /// An empty payload in place of a document: the device was removed at its source.
    pub(super) fn retire(
        &mut self,
        source: usize,
        matched: &mut RuleMatch,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Verdict {
        self.check_device(source, matched);
        let Some(id) = matched.device else { return Verdict::Unchanged };
        let Some(device) = self.devices.get_mut(id).filter(|device| device.retired.is_none()) else {
            return Verdict::Unchanged;
        };
        batch.records.push_fact(at(received), &Fact::DeviceRetired { device: id });
        let seq = Seq(self.head.0 + batch.records.len() as u64);
        device.retired = Some(seq);
        self.retired.insert((seq, id));
        Verdict::Recorded
    }

    pub(super) fn set_availability(
        &mut self,
        id: DeviceId,
        availability: Availability,
        cause: AvailabilityCause,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Verdict {
        let device = &mut self.devices[id];
        if device.availability == availability {
            return Verdict::Unchanged;
        }
        (device.availability, device.cause) = (availability, cause);
        let fact = Fact::AvailabilityChanged { device: id, availability, cause };
        batch.records.push_fact(at(received), &fact);
        Verdict::Recorded
    }

    /// Assigns a number to an attribute name.
    fn name_attribute(&mut self, name: &str, received: Time, batch: &mut RecordBatch) -> AttrId {
        let id = AttrId(self.attributes.len() as u32);
        let text: Arc<str> = name.into();
        self.attributes.push(text.clone());
        self.attribute_ids.insert(text, id);
        self.budget.name(name);
        batch.records.push_fact(at(received), &Fact::AttributeNamed { attribute: id, name: name.into() });
        id
    }

    /// The number of a device's action, assigned if necessary.
    pub(super) fn action(
        &mut self,
        device: DeviceId,
        name: &str,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<AttrId, Refusal> {
        let known = self.attribute_ids.get(name).copied();
        if let Some(attr) = known.filter(|attr| self.devices[device].actions.contains(attr)) {
            return Ok(attr);
        }
        self.room_for_attribute(device, name, known.is_none(), device::ACTION_BYTES, received, batch)?;
        let attr = known.unwrap_or_else(|| self.name_attribute(name, received, batch));
        self.devices[device].actions.push(attr);
        self.undescribed.push(device);
        Ok(attr)
    }

    /// The number of a described attribute, assigned if necessary. It gets no slot in the device.
    pub(super) fn attribute(
        &mut self,
        device: DeviceId,
        name: &str,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<AttrId, Refusal> {
        if let Some(attr) = self.attribute_ids.get(name) {
            return Ok(*attr);
        }
        self.room_for_attribute_name(device, name, received, batch)?;
        Ok(self.name_attribute(name, received, batch))
    }

    /// The slot of an attribute in a device, created if necessary.
    pub(super) fn slot(
        &mut self,
        device: DeviceId,
        name: &str,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<u32, Refusal> {
        let known = self.attribute_ids.get(name).copied();
        let slots = &self.devices[device].slots;
        if let Some(at) = known.and_then(|attr| slots.iter().position(|slot| slot.attr == attr)) {
            return Ok(at as u32);
        }
        self.room_for_attribute(device, name, known.is_none(), device::SLOT_BYTES, received, batch)?;
        let attr = known.unwrap_or_else(|| self.name_attribute(name, received, batch));
        let owner = &self.devices[device];
        let policy = self.policy(usize::from(owner.source.0), &owner.name, &owner.called, attr);
        let slots = &mut self.devices[device].slots;
        slots.push(Slot::new(attr, policy));
        let index = slots.len() as u32 - 1;
        self.undescribed.push(device);
        Ok(index)
    }
}
