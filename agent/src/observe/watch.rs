//! What watched devices report, changed or not: evidence for commands.

use std::sync::Arc;

use fieldlog_projections::{DeviceId, Time, Value};

use super::Observer;
use crate::message::Outbox;

/// A value that a watched device has reported, in a message that is neither a retained repeat nor had to wait for its order.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The device.
    pub device: DeviceId,
    /// The attribute.
    pub attribute: Arc<str>,
    /// The value.
    pub value: Value,
}

impl Observer {
    /// Whether to note what a device reports.
    pub fn watch(&mut self, device: DeviceId, watched: bool) {
        if let Some(device) = self.devices.get_mut(device) {
            device.watched = watched;
        }
    }

    /// What watched devices have reported since this was asked last.
    pub fn drain_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// When a device was last heard; at the start counts as heard.
    pub fn heard(&self, device: DeviceId) -> Option<Time> {
        self.devices.get(device).map(|device| device.heard)
    }

    /// Whether a device was heard since the start.
    pub fn was_heard(&self, device: DeviceId) -> bool {
        self.heard.get(device).is_some()
    }

    /// Where a source's publications go.
    pub fn outbox(&self, source: &str) -> Option<&Outbox> {
        self.sources.iter().find(|known| *known.name == *source).map(|source| &*source.outcomes.outbox)
    }
}
