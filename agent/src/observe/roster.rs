//! The observer's devices by number. A forgotten one keeps only its number.

use std::ops::{Index, IndexMut};

use fieldlog_projections::DeviceId;

use super::device::Device;

/// See the module. A caller that keeps a number across messages must first check that it is still [there](Roster::get).
#[derive(Debug, Default)]
pub(super) struct Roster {
    devices: Vec<Option<Box<Device>>>,
    live: usize,
}

impl Roster {
    /// Number of assigned numbers, including those of forgotten devices.
    pub(super) fn len(&self) -> usize {
        self.devices.len()
    }

    /// Number of devices that are not forgotten.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn get(&self, id: DeviceId) -> Option<&Device> {
        self.devices.get(id.0 as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, id: DeviceId) -> Option<&mut Device> {
        self.devices.get_mut(id.0 as usize)?.as_deref_mut()
    }

    pub(super) fn push(&mut self, device: Device) -> DeviceId {
        self.live += 1;
        self.devices.push(Some(Box::new(device)));
        DeviceId(self.devices.len() as u32 - 1)
    }

    /// Assigns a number to a device that is already forgotten.
    pub(super) fn push_forgotten(&mut self) {
        self.devices.push(None);
    }

    pub(super) fn forget(&mut self, id: DeviceId) -> Option<Box<Device>> {
        let device = self.devices.get_mut(id.0 as usize)?.take()?;
        self.live -= 1;
        Some(device)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (DeviceId, &Device)> {
        let numbered = self.devices.iter().zip(0..);
        numbered.filter_map(|(device, id)| Some((DeviceId(id), device.as_deref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (DeviceId, &mut Device)> {
        let numbered = self.devices.iter_mut().zip(0..);
        numbered.filter_map(|(device, id)| Some((DeviceId(id), device.as_deref_mut()?)))
    }
}

impl Index<DeviceId> for Roster {
    type Output = Device;

    #[inline]
    fn index(&self, id: DeviceId) -> &Device {
        match &self.devices[id.0 as usize] {
            Some(device) => device,
            None => unreachable!("device number {} was forgotten and is still used", id.0),
        }
    }
}

impl IndexMut<DeviceId> for Roster {
    #[inline]
    fn index_mut(&mut self, id: DeviceId) -> &mut Device {
        match &mut self.devices[id.0 as usize] {
            Some(device) => device,
            None => unreachable!("device number {} was forgotten and is still used", id.0),
        }
    }
}
