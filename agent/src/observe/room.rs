//! Room for new state: available within the limits, made by forgetting retired devices, or refused.

use fieldlog_projections::{DeviceId, Fact, Seq, Time, ValueRef};

use super::budget::{self, FORGOTTEN_BYTES};
use super::device::Slot;
use super::outcomes::Refusal;
use super::{Budget, Observer, RecordBatch, StateUse, at, device};

impl Observer {
    /// The use of the budget, with counters.
    pub fn state_use(&self) -> StateUse {
        self.budget.report()
    }

    /// Records up to `head` are durable, and all required sinks have those up to `acked`. A device is not forgotten
    /// while a sink still needs its last records, since its name could not be resolved any more.
    pub fn committed(&mut self, head: Seq, acked: Seq) {
        (self.head, self.acked) = (head, acked);
    }

    /// Recounts everything. Topics are counted as they are learnt.
    pub(super) fn count(&mut self) {
        self.budget.count_names(&self.attributes);
        let live: usize = self.devices.iter().map(|(_, device)| device.bytes(&self.budget)).sum();
        let hosts: usize = self.hosts.iter().flatten().map(super::sparkplug::Host::bytes).sum();
        let forgotten = (self.devices.len() - self.devices.live()) * FORGOTTEN_BYTES;
        self.budget.state = live + forgotten + hosts + self.announcers.bytes;
    }

    /// Reserves room for a new device, or returns why there is none.
    pub(super) fn room_for_device(
        &mut self,
        name: &str,
        called: &str,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<(), Refusal> {
        while self.devices.live() >= self.limits.devices {
            if !self.forget_retired(received, batch) {
                return Err(Refusal(format!(
                    "device {name} would be number {}; limits.devices_max is {}",
                    self.devices.live() + 1,
                    self.limits.devices
                )));
            }
        }
        let bytes = device::device_bytes(name, called);
        self.make_room(bytes, received, batch).map_err(|full| full.refuse(&format!("device {name}")))?;
        self.budget.state += bytes;
        Ok(())
    }

    /// Reserves room for a new attribute or action of a device, of this many bytes without its name, or returns why
    /// there is none.
    pub(super) fn room_for_attribute(
        &mut self,
        device: DeviceId,
        name: &str,
        new: bool,
        bytes: usize,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<(), Refusal> {
        let owner = &self.devices[device];
        let count = owner.slots.len() + owner.actions.len();
        if count >= self.limits.attributes {
            return Err(Refusal(format!(
                "attribute {name} would be number {} of device {}; limits.attributes_per_device_max is {}",
                count + 1,
                owner.name,
                self.limits.attributes
            )));
        }
        let named = if new { self.names_fit(device, name, bytes == device::ACTION_BYTES)? } else { 0 };
        let what =
            |observer: &Observer| format!("attribute {name} of device {}", observer.devices[device].name);
        if let Err(full) = self.make_room(bytes + named, received, batch) {
            return Err(full.refuse(&what(self)));
        }
        self.budget.state += bytes;
        Ok(())
    }

    /// Whether the name of an attribute, or of an action, fits.
    fn names_fit(&mut self, device: DeviceId, name: &str, invented: bool) -> Result<usize, Refusal> {
        let named = budget::attribute_bytes(name);
        let names_max = self.budget.names_max(invented);
        if self.budget.names + named <= names_max {
            return Ok(named);
        }
        self.refuse_growth();
        Err(Refusal(format!(
            "attribute {name} of device {} has a new name; names of attributes may take a quarter of \
             limits.state_bytes_max, those of actions and of attributes that are only announced an eighth: {names_max} \
             bytes, and they take {}",
            self.devices[device].name, self.budget.names
        )))
    }

    /// Makes room for the name of an attribute that is only described, or returns why there is none.
    pub(super) fn room_for_attribute_name(
        &mut self,
        device: DeviceId,
        name: &str,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<(), Refusal> {
        let named = self.names_fit(device, name, true)?;
        let what = format!("attribute {name} of device {}", self.devices[device].name);
        self.make_room(named, received, batch).map_err(|full| full.refuse(&what))
    }

    /// Makes room for this many more bytes of a device's descriptions, or returns why there is none.
    pub(super) fn room_for_description(
        &mut self,
        device: DeviceId,
        more: usize,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<(), Refusal> {
        let what = format!("what is said about device {}", self.devices[device].name);
        self.make_room(more, received, batch).map_err(|full| full.refuse(&what))
    }

    /// Reserves room for further names of a device, or returns why there is none.
    pub(super) fn room_for_name(
        &mut self,
        device: DeviceId,
        more: usize,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<(), Refusal> {
        if let Err(full) = self.make_room(more, received, batch) {
            let name = self.devices.get(device).map(|device| device.name.to_string()).unwrap_or_default();
            return Err(full.refuse(&format!("another name of device {name}")));
        }
        self.budget.state += more;
        Ok(())
    }

    /// Makes room for a value that needs this many more bytes, or returns why there is none.
    #[cold]
    pub(super) fn room_for_value(
        &mut self,
        device: DeviceId,
        slot: u32,
        more: usize,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<(), Refusal> {
        let Err(full) = self.make_room(more, received, batch) else { return Ok(()) };
        let owner = &self.devices[device];
        let attr = owner.slots[slot as usize].attr;
        let what = format!("the value of {} of device {}", self.attributes[attr.0 as usize], owner.name);
        Err(full.refuse(&what))
    }

    /// Forgets retired devices until this many bytes fit.
    fn make_room(&mut self, more: usize, received: Time, batch: &mut RecordBatch) -> Result<(), Full> {
        while !self.budget.fits(more) {
            if !self.forget_retired(received, batch) {
                self.refuse_growth();
                return Err(Full { more, used: self.budget.used(), max: self.budget.max() });
            }
        }
        Ok(())
    }

    /// Counts a refusal; the first one is logged for the operator.
    fn refuse_growth(&mut self) {
        if self.budget.refuse() {
            tracing::warn!(
                "the state is full: limits.state_bytes_max is {} bytes and {} are in use. New devices and attributes, and \
                 longer values, are refused and counted; what fits is recorded as before. If the devices are yours, give \
                 the service more memory (MemoryMax) or raise limits.state_bytes_max; if not, /api/v1/quarantine shows \
                 who sends them (said once)",
                self.budget.max(),
                self.budget.used()
            );
        }
    }

    /// Forgets the device that was retired longest ago, unless its name is still needed.
    fn forget_retired(&mut self, received: Time, batch: &mut RecordBatch) -> bool {
        let known = self.retired.iter().take_while(|(seq, _)| *seq <= self.acked);
        let Some(&(seq, id)) = known.into_iter().find(|(_, id)| self.devices[*id].children == 0) else {
            return false;
        };
        self.retired.remove(&(seq, id));
        if let Some(device) = self.devices.forget(id) {
            self.ids.remove(id, &device);
            self.remove_child(device.parent);
            self.budget.book((FORGOTTEN_BYTES, device.bytes(&self.budget)));
            self.budget.forgotten += 1;
            batch.records.push_fact(at(received), &Fact::DeviceForgotten { device: id });
        }
        true
    }
}

/// There is no room, and none can be made.
struct Full {
    more: usize,
    used: usize,
    max: usize,
}

impl Full {
    fn refuse(&self, what: &str) -> Refusal {
        let Full { more, used, max } = self;
        Refusal(format!(
            "{what} needs {more} bytes of state; limits.state_bytes_max is {max}, of which {used} are in use and an \
             eighth is kept for topics"
        ))
    }
}

impl Slot {
    /// Holds a value back; `false` if there is no room for it.
    pub(super) fn defer(&mut self, due: Time, value: ValueRef<'_>, budget: &mut Budget) -> bool {
        let more = budget::deferred_bytes(value);
        let less = self.deferred.as_ref().map_or(0, |(_, held)| budget::deferred_bytes(held.borrow()));
        if more > less && !budget.fits(more - less) {
            return false;
        }
        budget.book((more, less));
        self.deferred = Some((due, value.to_owned()));
        true
    }

    /// Drops a held-back value.
    #[inline]
    pub(super) fn undefer(&mut self, budget: &mut Budget) {
        if let Some((_, value)) = self.deferred.take() {
            budget.book((0, budget::deferred_bytes(value.borrow())));
        }
    }
}
