//! Ids of devices, their identities, and their former ids.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::{Device, Devices, VERSION};
use crate::DeviceId;
use crate::fact::Identity;
use crate::fold::{FoldError, Section};
use crate::record::Record;

/// Maximum former ids by which a device can still be found; the oldest are dropped.
pub const FORMER_MAX: usize = 8;

/// What version 3 adds to version 2 for a device: its number, identity, former ids and number of renames.
#[derive(Serialize, Deserialize)]
pub(super) struct Names(
    pub(super) u32,
    pub(super) Option<Box<Identity>>,
    pub(super) Vec<Arc<str>>,
    pub(super) u32,
);

impl Serialize for Devices {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.version() < VERSION {
            return (&self.devices, &self.attributes).serialize(serializer);
        }
        let names = self
            .iter()
            .filter(|(_, device)| device.has_names())
            .map(|(id, device)| Names(id.0, device.identity.clone(), device.former.clone(), device.renames));
        (self.devices.options(), &self.attributes, names.collect::<Vec<_>>()).serialize(serializer)
    }
}

impl Devices {
    /// The device with this id, or the one that had it before, if no other has it now.
    pub fn find_ever(&self, name: &str) -> Option<(DeviceId, &Device)> {
        self.find(name).or_else(|| {
            let id = *self.former.get(name)?;
            self.get(id).map(|device| (id, device))
        })
    }

    /// Total renames of the devices that are not forgotten. While this and [`Devices::forgotten`] are unchanged, every
    /// number has the same id as before.
    pub fn renames(&self) -> u64 {
        self.renames
    }

    /// Indexes a device's ids. An id belongs to one device; if a log says otherwise, the newest one has it, as in a
    /// restored view.
    pub(super) fn own(&mut self, name: &Arc<str>) {
        let now = self.iter().filter(|(_, device)| device.name == *name).last().map(|(id, _)| id);
        let before = self.iter().filter(|(_, device)| device.former.contains(name)).last().map(|(id, _)| id);
        for (owners, owner) in [(&mut self.by_name, now), (&mut self.former, before)] {
            match owner {
                Some(owner) => owners.insert(name.clone(), owner),
                None => owners.remove(name),
            };
        }
    }

    pub(super) fn rename(
        &mut self,
        record: &Record<'_>,
        id: DeviceId,
        name: &str,
        called: String,
    ) -> Result<(), FoldError> {
        let name: Arc<str> = name.into();
        let Some(device) = self.devices.touched(record, id)? else { return Ok(()) };
        device.renames = device.renames.saturating_add(1);
        if let Some(identity) = &mut device.identity {
            identity.name = called;
        }
        let before = std::mem::replace(&mut device.name, name.clone());
        let mut names = vec![before.clone(), name.clone()];
        if before != name {
            device.former.retain(|former| *former != name && *former != before);
            device.former.push(before);
            if device.former.len() > FORMER_MAX {
                names.push(device.former.remove(0));
            }
        }
        self.renames += 1;
        names.iter().for_each(|name| self.own(name));
        Ok(())
    }
}

impl Device {
    /// The namespace of its name, if a record has it.
    pub fn namespace(&self) -> Option<&str> {
        self.identity.as_ref().map(|identity| identity.namespace.as_str())
    }

    /// Its name at the source. Equals its id unless another device had that id before.
    pub fn called(&self) -> &str {
        self.identity.as_ref().map_or(&self.name, |identity| &identity.name)
    }

    /// Whether it has anything that needs version 3.
    pub(super) fn has_names(&self) -> bool {
        self.identity.is_some() || self.renames > 0
    }
}
