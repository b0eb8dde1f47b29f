//! What an operator does to devices: retire, forget, rename.
//!
//! Whether it can be done is asked first, so that nothing is recorded of what is not done.

use fieldlog_projections::{DeviceId, Fact, Seq, Time};

use super::budget::FORGOTTEN_BYTES;
use super::{Observer, RecordBatch, at, device};
use fieldlog_rules::decode;

/// Why something is not done, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declined {
    /// There is no such device.
    NoSuchDevice(String),
    /// What is given cannot be used.
    Invalid(String),
    /// It does not fit what is there.
    Conflict(String),
    /// It cannot be done yet.
    NotYet(String),
}

impl Observer {
    /// The device with this id, now or formerly.
    ///
    /// # Errors
    /// [`Declined::NoSuchDevice`]
    pub fn device_named(&self, name: &str) -> Result<DeviceId, Declined> {
        self.ids.find(name).ok_or_else(|| {
            Declined::NoSuchDevice(format!("there is no device `{name}`; /api/v1/devices lists them"))
        })
    }

    /// The id of a device; empty if it was forgotten.
    pub fn id_of(&self, device: DeviceId) -> String {
        self.devices.get(device).map(|device| device.name.to_string()).unwrap_or_default()
    }

    /// Whether a device can be retired.
    ///
    /// # Errors
    /// [`Declined`] if it is retired already.
    pub fn may_retire(&self, id: DeviceId) -> Result<(), Declined> {
        let device = &self.devices[id];
        match device.retired {
            Some(seq) => {
                let name = &device.name;
                Err(Declined::Conflict(format!(
                    "device `{name}` is retired already, by the record at sequence {seq} or before it"
                )))
            }
            None => Ok(()),
        }
    }

    /// Retires a device. It comes back as soon as it is heard again.
    pub fn retire_now(&mut self, id: DeviceId, now: Time, batch: &mut RecordBatch) {
        // Nothing is recorded of a retired device, so what is held back comes first.
        for slot in 0..self.devices[id].slots.len() {
            self.record_deferred(id, slot as u32, None, now, batch);
        }
        batch.records.push_fact(at(now), &Fact::DeviceRetired { device: id });
        let seq = Seq(self.head.0 + batch.records.len() as u64);
        self.devices[id].retired = Some(seq);
        self.retired.insert((seq, id));
    }

    /// Whether a device can be forgotten; `changed` is its newest record.
    ///
    /// # Errors
    /// [`Declined`] while other devices are behind it, or a required sink lacks records of it.
    pub fn may_forget(&self, id: DeviceId, changed: Seq) -> Result<(), Declined> {
        let device = &self.devices[id];
        if device.children > 0 {
            return Err(Declined::Conflict(format!(
                "{} devices are behind device `{}`; forget them first",
                device.children, device.name
            )));
        }
        if changed > self.acked {
            return Err(Declined::NotYet(format!(
                "a sink with required = true has the records up to sequence {} only, and the newest of device `{}` is {changed}; \
                 its name could no longer be sent with them. Try again when the sink has them",
                self.acked, device.name
            )));
        }
        Ok(())
    }

    /// Forgets a device: its state, names and number. Its records stay in the log.
    pub fn forget_now(&mut self, id: DeviceId, now: Time, batch: &mut RecordBatch) {
        let Some(device) = self.devices.forget(id) else { return };
        if let Some(seq) = device.retired {
            self.retired.remove(&(seq, id));
        }
        self.ids.remove(id, &device);
        self.remove_child(device.parent);
        self.budget.book((FORGOTTEN_BYTES, device.bytes(&self.budget)));
        self.deferred.retain(|(_, owner, _), ()| *owner != id);
        self.unrecorded.retain(|(owner, _)| *owner != id);
        self.undescribed.retain(|owner| *owner != id);
        batch.records.push_fact(at(now), &Fact::DeviceForgotten { device: id });
    }

    /// Whether a device can get this id.
    ///
    /// # Errors
    /// [`Declined`] if the id cannot be used, or is or was that of another device, or the name of the device at its source
    /// is not recorded yet, or there is no room for another name.
    pub fn may_rename(&self, id: DeviceId, to: &str) -> Result<(), Declined> {
        let device = &self.devices[id];
        if to.is_empty() || to.chars().any(char::is_control) {
            return Err(Declined::Invalid("`id`: an id is a text without control characters".into()));
        }
        decode::check_name(to, self.limits.name_bytes)
            .map_err(|why| Declined::Invalid(format!("`id`: {why}")))?;
        if *device.name == *to {
            return Err(Declined::Conflict(format!("device `{to}` has this id already")));
        }
        if let Some(other) = self.ids.find(to).filter(|other| *other != id) {
            let other = &self.devices[other];
            return Err(Declined::Conflict(if *other.name == *to {
                format!(
                    "another device has the id `{to}`; rename or forget that one first, or take another id"
                )
            } else {
                format!(
                    "`{to}` is a former id of device `{}`, which it still finds; forget that device first, or take another id",
                    other.name
                )
            }));
        }
        if device.namespace.is_none() {
            return Err(Declined::NotYet(format!(
                "the name of device `{}` at its source is not recorded, because an older version discovered it; rename it \
                 after its next message",
                device.name
            )));
        }
        let more = device::renamed_bytes(&device.name, to, &device.called);
        if !self.budget.fits(more) {
            return Err(Declined::NotYet(
                "the state is full (limits.state_bytes_max), so there is no room for another name; forget devices that are \
                 not needed"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Gives a device another id. Its number, its history and its name at the source stay, and the former id still finds
    /// it.
    pub fn rename_now(&mut self, id: DeviceId, to: &str, now: Time, batch: &mut RecordBatch) {
        self.set_name(id, &to.into(), None);
        let called = self.devices[id].called.to_string();
        let fact = Fact::DeviceRenamed { device: id, name: to.to_owned(), called };
        batch.records.push_fact(at(now), &fact);
        self.find_policies(id);
        self.undescribed.push(id);
        self.describe_undescribed(now, batch);
    }
}
