//! Names by number, cached beside the view so that its lock is held only while new ones are copied.

use std::sync::{Arc, PoisonError, RwLock};

use fieldlog_projections::{AttrId, DeviceId, Seq, View};

use fieldlog_wire::event::Naming;

/// Names by number. A renamed device has its new id from then on, also in older events; a forgotten device's name is
/// dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    devices: Vec<Option<Arc<str>>>,
    forgotten: usize,
    renames: u64,
    attributes: Vec<Arc<str>>,
}

impl Names {
    /// Copies new names from the view; returns its position, up to which all names are now known.
    pub(crate) fn refresh(&mut self, view: &RwLock<View>) -> Seq {
        let view = view.read().unwrap_or_else(PoisonError::into_inner);
        let name = |id: usize| view.devices.get(DeviceId(id as u32)).map(|device| device.name.clone());
        if self.renames != view.devices.renames() {
            self.renames = view.devices.renames();
            self.devices.iter_mut().enumerate().for_each(|(id, known)| *known = name(id));
        }
        self.devices.extend((self.devices.len()..view.devices.len()).map(name));
        if self.forgotten != view.devices.forgotten() {
            self.forgotten = view.devices.forgotten();
            let gone = |id: usize| view.devices.get(DeviceId(id as u32)).is_none();
            self.devices
                .iter_mut()
                .enumerate()
                .filter(|(id, _)| gone(*id))
                .for_each(|(_, name)| *name = None);
        }
        let new = view.devices.attribute_names().get(self.attributes.len()..).unwrap_or_default();
        self.attributes.extend(new.iter().cloned());
        view.seq
    }

    /// A device's name, shared.
    pub(crate) fn device_arc(&self, id: DeviceId) -> Option<Arc<str>> {
        self.devices.get(id.0 as usize).cloned().flatten()
    }
}

impl Naming for Names {
    fn device(&self, id: DeviceId) -> &str {
        self.devices.get(id.0 as usize).and_then(Option::as_deref).unwrap_or_default()
    }

    fn attribute(&self, id: AttrId) -> &str {
        self.attributes.get(id.0 as usize).map_or("", |name| name)
    }
}
