//! The names that numbers stand for, kept beside the view so that its lock is held only while new ones are copied.

use std::sync::{Arc, PoisonError, RwLock};

use fieldlog_projections::{AttrId, DeviceId, Seq, View};

use crate::http::event::Naming;

/// Names by number. A number never changes its name, so they only grow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    devices: Vec<Arc<str>>,
    attributes: Vec<Arc<str>>,
}

impl Names {
    /// Learns what is new in the view; tells its position, up to which every name is now known.
    pub(crate) fn refresh(&mut self, view: &RwLock<View>) -> Seq {
        let view = view.read().unwrap_or_else(PoisonError::into_inner);
        while let Some(device) = view.devices.get(DeviceId(self.devices.len() as u32)) {
            self.devices.push(Arc::from(&*device.name));
        }
        let new = view.devices.attribute_names().get(self.attributes.len()..).unwrap_or_default();
        self.attributes.extend(new.iter().map(|name| Arc::from(&**name)));
        view.seq
    }

    /// A device's name, to keep.
    pub(crate) fn device_arc(&self, id: DeviceId) -> Option<Arc<str>> {
        self.devices.get(id.0 as usize).cloned()
    }
}

impl Naming for Names {
    fn device(&self, id: DeviceId) -> &str {
        self.devices.get(id.0 as usize).map_or("", |name| name)
    }

    fn attribute(&self, id: AttrId) -> &str {
        self.attributes.get(id.0 as usize).map_or("", |name| name)
    }
}
