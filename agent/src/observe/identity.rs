//! Maps names to devices, and assigns ids.
//!
//! Within a namespace, one name is one device. Its id is that name, unless another device has or had that id; then it
//! is `NAME@NAMESPACE`, and if that is taken `NAME@NAMESPACE@2` and so on. An assigned id stays, and no other device
//! gets it while its device is not forgotten. The log has the id, the namespace and the name, so an id is never parsed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use fieldlog_projections::fact::{Fact, Identity};
use fieldlog_projections::{DeviceId, Seq, Time};

use super::device::Device;
use super::namespaces::Namespace;
use super::outcomes::Refusal;
use super::{Observer, RecordBatch, at, device};
use fieldlog_rules::decode;

/// Devices by name and id.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// By id, including former ids.
    ids: HashMap<Arc<str>, DeviceId>,
    /// By name, over all namespaces.
    names: HashMap<Arc<str>, Vec<DeviceId>>,
}

impl Ids {
    pub(super) fn insert(&mut self, id: DeviceId, device: &Device) {
        // If another device has this id, that one is found; the same for a former id.
        for name in device.former.iter().chain([&device.name]) {
            self.ids.entry(name.clone()).or_insert(id);
        }
        self.ids.insert(device.name.clone(), id);
        self.names.entry(device.called.clone()).or_default().push(id);
    }

    pub(super) fn remove(&mut self, id: DeviceId, device: &Device) {
        for name in device.former.iter().chain([&device.name]) {
            if self.ids.get(name) == Some(&id) {
                self.ids.remove(name);
            }
        }
        if let Entry::Occupied(mut named) = self.names.entry(device.called.clone()) {
            named.get_mut().retain(|other| *other != id);
            if named.get().is_empty() {
                named.remove();
            }
        }
    }

    /// The device with this id, now or formerly.
    pub(super) fn find(&self, id: &str) -> Option<DeviceId> {
        self.ids.get(id).copied()
    }

    /// An unused id for a device; `own` may have had it before.
    fn free(&self, name: &str, namespace: &str, own: Option<DeviceId>) -> Arc<str> {
        let free = |id: &str| self.ids.get(id).is_none_or(|owner| Some(*owner) == own);
        if free(name) {
            return name.into();
        }
        let mut id = format!("{name}@{namespace}");
        let mut number = 2u32;
        while !free(&id) {
            id = format!("{name}@{namespace}@{number}");
            number += 1;
        }
        id.into()
    }
}

impl Observer {
    /// The namespace of a rule.
    pub(super) fn namespace(&self, source: usize, rule: usize) -> Namespace {
        self.sources[source].namespaces[rule]
    }

    /// The device of this name: the one in the namespace, or one without a recorded namespace that this source has
    /// discovered.
    pub(super) fn known(&self, source: usize, namespace: Namespace, name: &str) -> Option<DeviceId> {
        let named = self.ids.names.get(name)?;
        let newest = |of: &dyn Fn(&Device) -> bool| {
            let found = named.iter().copied().filter(|id| of(&self.devices[*id]));
            found.max_by_key(|id| self.devices[*id].retired.unwrap_or(Seq(u64::MAX)))
        };
        let unclaimed =
            |device: &Device| device.namespace.is_none() && usize::from(device.source.0) == source;
        newest(&|device| device.namespace == Some(namespace)).or_else(|| newest(&unclaimed))
    }

    /// The default namespace: the source's name.
    pub(super) fn own_namespace(&mut self, source: usize) -> Namespace {
        let name = self.sources[source].name.clone();
        self.namespaces.number(&name)
    }

    /// The device of this name in the source's own namespace.
    pub(super) fn own_device(&mut self, source: usize, name: &str) -> Option<DeviceId> {
        let namespace = self.own_namespace(source);
        self.known(source, namespace, name)
    }

    /// The id for a new device.
    pub(super) fn free_id(&self, namespace: Namespace, name: &str) -> Arc<str> {
        self.ids.free(name, &self.namespaces.name(namespace), None)
    }

    /// If a device's id differs from its name, counts this and tells the operator.
    pub(super) fn count_clash(&mut self, source: usize, namespace: Namespace, name: &str, id: &str) {
        if *id == *name {
            return;
        }
        if let Some(source) = self.sources.get(source) {
            source.outcomes.count_clash();
        }
        self.tell_of_clash(namespace, name, id);
    }

    fn tell_of_clash(&mut self, namespace: Namespace, name: &str, id: &str) {
        if !self.namespaces.tell(namespace) {
            return;
        }
        let there = self.ids.ids.get(name).map(|id| &self.devices[*id]);
        let other = there.and_then(|device| device.namespace).map(|other| self.namespaces.name(other));
        tracing::warn!(
            "device {name} of namespace {} gets the id {id}, because a device of {} has or had the id {name}. If the two \
             are different devices, nothing needs to be done. If they are one, give both subscriptions the same \
             `namespace` (said once for this namespace; fieldlog_ingest_name_clashes_total counts them)",
            self.namespaces.name(namespace),
            other
                .as_deref()
                .map_or("a namespace that is not recorded".into(), |other| format!("namespace {other}"))
        );
    }

    pub(super) fn identity(&self, id: DeviceId) -> Option<Identity> {
        let device = &self.devices[id];
        let namespace = self.namespaces.name(device.namespace?).to_string();
        Some(Identity { namespace, name: device.called.to_string() })
    }

    /// Records the namespace of a device that a version without namespaces discovered; its history continues.
    pub(super) fn claim(
        &mut self,
        id: DeviceId,
        namespace: Namespace,
        received: Time,
        batch: &mut RecordBatch,
    ) {
        let device = &mut self.devices[id];
        device.namespace = Some(namespace);
        let source = self.sources.get(usize::from(device.source.0)).map(|s| s.name.to_string());
        let fact = Fact::DeviceDiscovered {
            device: id,
            name: device.name.to_string(),
            source: source.unwrap_or_default(),
            parent: device.parent,
            identity: self.identity(id),
        };
        batch.records.push_fact(at(received), &fact);
    }

    /// Renames a device, which keeps its history and gets an id for the new name; the former id still finds it. Returns
    /// whether anything changed. What was learnt about topics is then forgotten.
    ///
    /// # Errors
    /// [`Refusal`] if the name is too long, or another device that is not retired has it in the same namespace, or
    /// there is no room; nothing is changed then. It is counted, and logged once per namespace.
    pub(super) fn rename(
        &mut self,
        id: DeviceId,
        name: &str,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<bool, Refusal> {
        let Some(device) = self.devices.get_mut(id) else { return Ok(false) };
        if *device.called == *name {
            return Ok(false);
        }
        decode::check_name(name, self.limits.name_bytes)?;
        let (namespace, source) = (device.namespace, usize::from(device.source.0));
        let (before, called_before) = (device.name.clone(), device.called.clone());
        let named = self.ids.names.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut others = named.iter().map(|other| &self.devices[*other]);
        let other = others.find(|other| other.namespace == namespace && other.retired.is_none());
        if let Some(other) = other {
            let refusal = format!(
                "device {before} is called {name} now, but that is device {} already; rename one of them at its source",
                other.name
            );
            return Err(self.refuse_rename(source, namespace, refusal));
        }
        let space = namespace.map(|namespace| self.namespaces.name(namespace));
        let space = space.or_else(|| self.sources.get(source).map(|s| s.name.as_ref().into()));
        let after = self.ids.free(name, space.as_deref().unwrap_or_default(), Some(id));
        let more = device::renamed_bytes(&before, &after, name);
        self.room_for_name(id, more, received, batch)?;
        // What was reserved is counted with the device.
        self.budget.book((0, more));
        if self.devices.get(id).is_none() {
            // It was retired, and was forgotten to make room.
            return Ok(false);
        }
        self.set_name(id, &after, Some(name));
        let fact = Fact::DeviceRenamed { device: id, name: after.to_string(), called: name.into() };
        batch.records.push_fact(at(received), &fact);
        if let Some(namespace) = namespace {
            self.count_clash(source, namespace, name, &after);
        }
        tracing::info!("device {before}, called {called_before}, is called {name} now; its id is {after}");
        self.find_policies(id);
        self.forget_topics();
        Ok(true)
    }

    /// Gives a device this id and, if given, this name at its source.
    pub(super) fn set_name(&mut self, id: DeviceId, after: &Arc<str>, called: Option<&str>) {
        let Some(device) = self.devices.get_mut(id) else { return };
        self.ids.remove(id, device);
        self.budget.book((0, device.bytes(&self.budget)));
        let before = std::mem::replace(&mut device.name, after.clone());
        if let Some(called) = called {
            device.called = called.into();
        }
        if before != *after {
            device.former.retain(|former| *former != before && *former != *after);
            device.former.push(before);
            if device.former.len() > fieldlog_projections::folds::devices::FORMER_MAX {
                device.former.remove(0);
            }
        }
        self.ids.insert(id, device);
        self.budget.book((device.bytes(&self.budget), 0));
    }

    fn refuse_rename(&mut self, source: usize, namespace: Option<Namespace>, refusal: String) -> Refusal {
        if let Some(source) = self.sources.get(source) {
            source.outcomes.count_clash();
        }
        if namespace.is_none_or(|namespace| self.namespaces.tell(namespace)) {
            tracing::warn!(
                "{refusal} (said once for this namespace; fieldlog_ingest_name_clashes_total counts them)"
            );
        }
        Refusal(refusal)
    }
}
