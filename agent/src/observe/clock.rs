//! Events caused by time alone: intervals end, devices fall silent, and the wall clock is stepped.

use fieldlog_projections::fact::{Availability, AvailabilityCause};
use fieldlog_projections::{DeviceId, Time};

use super::{Observer, RecordBatch};

impl Observer {
    /// Does what is due: records values whose interval has ended, and devices that have gone silent.
    pub fn tick(&mut self, now: Time, batch: &mut RecordBatch) {
        self.flush_deferred(now, now, batch);
        self.summarise(false, now, batch);
        self.tick_hosts(now, batch);
        self.keep_alive(now);
        self.describe_undescribed(now, batch);
        for index in 0..self.devices.len() {
            let id = DeviceId(index as u32);
            let Some(device) = self.devices.get_mut(id) else { continue };
            let silence = self.sources.get(usize::from(device.source.0)).and_then(|s| s.silence);
            let silent = silence.is_some_and(|limit| now.micros_since(device.heard) > limit);
            if silent && device.retired.is_none() && device.availability != Availability::Offline {
                self.set_availability(id, Availability::Offline, AvailabilityCause::Silence, now, batch);
            }
        }
    }

    /// The wall clock was stepped from `expected` to `now`: shifts intervals and silences that began before. These are
    /// times after the new time or, if the clock was set forward, times up to the old one.
    pub fn clock_stepped(&mut self, expected: Time, now: Time) {
        let by = now.0 - expected.0;
        let shift = |time: &mut Time| {
            let before = if by > 0 { *time <= expected } else { *time > now };
            if before {
                time.0 = time.0.saturating_add(by);
            }
            before
        };
        self.brake_stepped(by);
        self.orders.stepped(by);
        self.hosts_clock_stepped(now);
        self.deferred.clear();
        for (id, device) in self.devices.iter_mut() {
            shift(&mut device.heard);
            for (index, slot) in device.slots.iter_mut().enumerate() {
                let shifted = slot.was_recorded() && shift(&mut slot.recorded);
                if let Some((due, _)) = &mut slot.deferred {
                    due.0 += if shifted { by } else { 0 };
                    self.deferred.insert((*due, id, index as u32), ());
                }
            }
        }
    }

    /// When [`Observer::tick`] is next needed for a held-back value or a message that waits for an earlier one.
    pub fn deferred_until(&self) -> Option<Time> {
        let value = self.deferred.first_key_value().map(|((due, _, _), ())| *due);
        value.into_iter().chain(self.hosts_due()).min()
    }
}
