//! Devices by number. A forgotten device still takes its slot of eight bytes.

use std::sync::Arc;

use serde::ser::{Serialize, Serializer};

use super::Device;
use crate::DeviceId;
use crate::fold::FoldError;
use crate::record::Record;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Slots {
    slots: Vec<Option<Arc<Device>>>,
    forgotten: usize,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn forgotten(&self) -> usize {
        self.forgotten
    }

    pub(super) fn get(&self, id: DeviceId) -> Option<&Device> {
        self.slots.get(id.0 as usize)?.as_deref()
    }

    /// The device, copied first if a clone shares it.
    #[inline]
    pub(super) fn get_mut(&mut self, id: DeviceId) -> Option<&mut Device> {
        self.slots.get_mut(id.0 as usize)?.as_mut().map(Arc::make_mut)
    }

    /// The device a record is about; `None` for a forgotten one, whose records have no effect.
    #[inline]
    pub(super) fn touched(
        &mut self,
        record: &Record<'_>,
        id: DeviceId,
    ) -> Result<Option<&mut Device>, FoldError> {
        if id.0 as usize >= self.len() {
            return Err(FoldError::UnknownDevice { seq: record.seq, device: id });
        }
        let mut device = self.get_mut(id);
        if let Some(device) = &mut device {
            device.touch(record);
        }
        Ok(device)
    }

    /// All slots, as versions 2 and later store them.
    pub(super) fn options(&self) -> &[Option<Arc<Device>>] {
        &self.slots
    }

    pub(super) fn push(&mut self, device: Device) {
        self.slots.push(Some(Arc::new(device)));
    }

    /// Drops a device and returns it.
    pub(super) fn forget(&mut self, id: DeviceId) -> Option<Arc<Device>> {
        let device = self.slots.get_mut(id.0 as usize)?.take()?;
        self.forgotten += 1;
        Some(device)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (DeviceId, &Device)> {
        let numbered = self.slots.iter().zip(0..);
        numbered.filter_map(|(slot, id)| Some((DeviceId(id), slot.as_deref()?)))
    }
}

impl FromIterator<Option<Arc<Device>>> for Slots {
    fn from_iter<I: IntoIterator<Item = Option<Arc<Device>>>>(slots: I) -> Slots {
        let slots: Vec<_> = slots.into_iter().collect();
        let forgotten = slots.iter().filter(|slot| slot.is_none()).count();
        Slots { slots, forgotten }
    }
}

/// Version 1 has no forgotten devices and so no options; it is written while that suffices.
impl Serialize for Slots {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.forgotten > 0 {
            return self.slots.serialize(serializer);
        }
        // The serialiser needs the length first, and a filter has none.
        let all: Vec<&Device> = self.slots.iter().filter_map(|slot| slot.as_deref()).collect();
        all.serialize(serializer)
    }
}
