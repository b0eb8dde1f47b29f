//! What births have listed: the metrics of an edge node and its devices, and what stands for them.

use std::collections::HashMap;

use fieldlog_projections::fact::DeclaredMetric;
use fieldlog_projections::{AttrId, DeviceId};

use super::properties::Told;
use crate::observe::budget;

/// The metrics of an edge node and its devices.
#[derive(Debug, Default)]
pub(super) struct Table {
    members: HashMap<DeviceId, Member>,
    /// Which metric of which member an alias stands for. Aliases are unique in an edge node.
    aliases: HashMap<u64, (DeviceId, u32)>,
}

/// The edge node itself, or one of its devices.
#[derive(Debug, Default)]
pub(super) struct Member {
    metrics: Vec<DeclaredMetric>,
    /// It has been born since the last death.
    born: bool,
    told: Told,
}

impl Table {
    pub(super) fn member(&self, device: DeviceId) -> Option<&Member> {
        self.members.get(&device)
    }

    pub(super) fn is_born(&self, device: DeviceId) -> bool {
        self.members.get(&device).is_some_and(|member| member.born)
    }

    pub(super) fn told(&mut self, device: DeviceId) -> &mut Told {
        &mut self.members.entry(device).or_default().told
    }

    pub(super) fn devices(&self) -> Vec<DeviceId> {
        let mut devices: Vec<_> = self.members.keys().copied().collect();
        devices.sort_unstable();
        devices
    }

    pub(super) fn died(&mut self, device: DeviceId) {
        self.members.entry(device).or_default().born = false;
    }

    pub(super) fn all_died(&mut self) {
        self.members.values_mut().for_each(|member| member.born = false);
    }

    /// What devices have of aliases ends with the session that they were born in.
    pub(super) fn forget_session(&mut self) {
        self.aliases.clear();
        self.all_died();
    }

    pub(super) fn restore(&mut self, device: DeviceId, metrics: Vec<DeclaredMetric>, born: bool) {
        // Those of a device that is dead may stand for something else in the session of now.
        if born {
            self.list_aliases(device, &metrics);
        }
        self.members.insert(device, Member { metrics, born, told: Told::default() });
    }

    pub(super) fn bytes(&self) -> usize {
        let metrics = |member: &Member| budget::declared_bytes(member.metrics.len());
        self.members.values().map(metrics).sum::<usize>() + budget::aliases_bytes(self.aliases.len())
    }

    /// Takes over what a birth lists. True if it is not what was known.
    pub(super) fn declare(&mut self, device: DeviceId, metrics: Vec<DeclaredMetric>) -> bool {
        self.aliases.retain(|_, (of, _)| *of != device);
        self.list_aliases(device, &metrics);
        let member = self.members.entry(device).or_default();
        member.born = true;
        let differs = member.metrics != metrics;
        if differs {
            member.metrics = metrics;
        }
        differs
    }

    fn list_aliases(&mut self, device: DeviceId, metrics: &[DeclaredMetric]) {
        let aliases = metrics.iter().zip(0..).filter_map(|(metric, at)| Some((metric.alias?, at)));
        self.aliases.extend(aliases.map(|(alias, at)| (alias, (device, at))));
    }

    pub(super) fn by_alias(&self, device: DeviceId, alias: u64) -> Option<DeclaredMetric> {
        let (of, at) = *self.aliases.get(&alias)?;
        if of != device {
            return None;
        }
        self.members.get(&of)?.metrics.get(at as usize).copied()
    }

    pub(super) fn by_attribute(&self, device: DeviceId, attr: AttrId) -> Option<DeclaredMetric> {
        let metrics = &self.members.get(&device)?.metrics;
        metrics.iter().find(|metric| metric.attribute == Some(attr)).copied()
    }
}
