//! The values of a message against the ones that are known: what has changed becomes a record.

use fieldlog_projections::chunk::Envelope;
use fieldlog_projections::fact::Fact;
use fieldlog_projections::{DeviceId, Time, Value, ValueRef, stored};

use super::outcomes::{Refusal, Verdict};
use super::policy::{self, Decision};
use super::topics::{Known, RuleMatch};
use super::{Batch, Observer, at, budget};
use crate::config::Update;
use crate::decode::{self, Scalar, Values};

impl Observer {
    pub(super) fn record_one(
        &mut self,
        source: usize,
        matched: &mut RuleMatch,
        scalar: Scalar<'_>,
        received: Time,
        batch: &mut Batch,
    ) -> Result<Verdict, Refusal> {
        let device = self.device(source, matched, received, batch)?;
        let (slot, kind) = match matched.shape.first() {
            Some(Known { slot: Some(slot), kind, .. }) => (*slot, *kind),
            _ => {
                let name = matched.attribute.clone();
                let slot = self.slot(device, &name, received, batch)?;
                let kind = self.sources[source].compiled[matched.rule].types.find(&name);
                self.know(matched, 0, Known { path: "".into(), slot: Some(slot), kind });
                (slot, kind)
            }
        };
        let mut scratch = String::new();
        let value = match kind {
            Some(kind) => {
                self.sources[source].compiled[matched.rule].types.convert_scalar(kind, scalar, &mut scratch)
            }
            None if scalar.exact && !is_version(&matched.attribute, scalar.value) => scalar.value,
            // `1.10` is a number where there have been numbers, as with a sensor that sends two digits.
            None if self.devices[device].slots[slot as usize].series
                && !is_version(&matched.attribute, scalar.value) =>
            {
                scalar.value
            }
            None => ValueRef::Text(scalar.text),
        };
        self.stamp += 1;
        self.changes.clear();
        if self.accept(device, slot, value, received, batch)? {
            self.changes.push((slot, 0));
        }
        Ok(self.append(device, received, None, batch))
    }

    /// Records what is new in `self.values`.
    pub(super) fn record(
        &mut self,
        source: usize,
        matched: &mut RuleMatch,
        received: Time,
        device_time: Option<Time>,
        batch: &mut Batch,
    ) -> Result<Verdict, Refusal> {
        let device = self.device(source, matched, received, batch)?;
        let values = std::mem::take(&mut self.values);
        let result = self.record_values(source, matched, &values, device, received, device_time, batch);
        self.values = values;
        result
    }

    #[allow(clippy::too_many_arguments)]
    fn record_values(
        &mut self,
        source: usize,
        matched: &mut RuleMatch,
        values: &Values,
        device: DeviceId,
        received: Time,
        device_time: Option<Time>,
        batch: &mut Batch,
    ) -> Result<Verdict, Refusal> {
        let before = batch.body.len();
        self.stamp += 1;
        self.changes.clear();
        let mut refusal = None;
        for (index, (path, value)) in values.iter().enumerate() {
            let (slot, kind) = match matched.shape.get(index) {
                Some(known) if *known.path == *path => (known.slot, known.kind),
                _ => match self.learn_path(source, matched, index, device, path, received, batch) {
                    Ok(learnt) => learnt,
                    Err(reason) => {
                        refusal.get_or_insert(reason);
                        continue;
                    }
                },
            };
            let Some(slot) = slot else {
                let fired =
                    self.fire_if_action(source, matched, device, path, value, received, device_time, batch);
                refusal = refusal.or(fired.err());
                continue;
            };
            let mut scratch = String::new();
            let value = match kind {
                None => value,
                Some(kind) => {
                    self.sources[source].compiled[matched.rule].types.convert(kind, value, &mut scratch)
                }
            };
            match self.accept(device, slot, value, received, batch) {
                Ok(true) => self.changes.push((slot, index as u32)),
                Ok(false) => {}
                Err(reason) => refusal = refusal.or(Some(reason)),
            }
        }
        if self.sources[source].compiled[matched.rule].rule.update == Update::Replace {
            self.remove_unmentioned(device, &matched.attribute, received);
        }
        self.append(device, received, device_time, batch);
        match refusal {
            Some(reason) => Err(reason),
            None if batch.body.len() > before => Ok(Verdict::Recorded),
            None => Ok(Verdict::Unchanged),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn fire_if_action(
        &mut self,
        source: usize,
        matched: &RuleMatch,
        device: DeviceId,
        path: &str,
        value: ValueRef<'_>,
        received: Time,
        device_time: Option<Time>,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        let rule = &self.sources[source].compiled[matched.rule];
        // A retained document says what was, at every new subscription.
        if !self.alive || !rule.fires(path) {
            return Ok(());
        }
        let mut scratch = String::new();
        let value = match rule.types.find(path) {
            Some(kind) => rule.types.convert(kind, value, &mut scratch),
            None => value,
        };
        if !matches!(value, ValueRef::Null | ValueRef::Text("")) {
            let name = rule.attribute(&matched.attribute, path).into_owned();
            decode::check_name(&name, self.limits.name_bytes)?;
            self.fire(device, &name, value.to_owned(), received, device_time, batch)?;
        }
        Ok(())
    }

    pub(super) fn fire(
        &mut self,
        device: DeviceId,
        attribute: &str,
        value: Value,
        received: Time,
        device_time: Option<Time>,
        batch: &mut Batch,
    ) -> Result<Verdict, Refusal> {
        let attribute = self.action(device, attribute, received, batch)?;
        let envelope = Envelope { device_time, ..at(received) };
        batch.body.push_fact(envelope, &Fact::ActionFired { device, attribute, value });
        Ok(Verdict::Recorded)
    }

    /// As [`Observer::is_event`], with room made for the value if need be.
    #[inline]
    fn accept(
        &mut self,
        device: DeviceId,
        slot: u32,
        value: ValueRef<'_>,
        received: Time,
        batch: &mut Batch,
    ) -> Result<bool, Refusal> {
        let differs = self.is_event(device, slot, value, received);
        match self.missing_bytes.take() {
            None => Ok(differs),
            Some(more) => {
                self.room_for_value(device, slot, more, received, batch)?;
                Ok(self.is_event(device, slot, value, received))
            }
        }
    }

    /// Whether a value is worth an event; if so it is the slot's value from now on. Where there is no room for it,
    /// nothing is changed, and `missing_bytes` says how much is missing.
    #[inline]
    fn is_event(&mut self, device: DeviceId, index: u32, value: ValueRef<'_>, received: Time) -> bool {
        let owner = &mut self.devices[device];
        // A device has the policies of the source it was discovered on, also when another source speaks of it.
        let source = usize::from(owner.source.0);
        let slot = &mut owner.slots[index as usize];
        let again = slot.stamp == self.stamp;
        slot.stamp = self.stamp;
        let policies = || Some(&self.sources.get(source)?.policies);
        let policy = slot.policy.and_then(|p| Some(&policies()?.get(usize::from(p))?.policy));
        match policy::decide(policy, slot, value, received) {
            Decision::Record => {}
            Decision::Unchanged => {
                // Also if the policy that held a value back is gone meanwhile.
                slot.undefer(&mut self.budget);
                return false;
            }
            Decision::WithinDeadband | Decision::Never => {
                self.sources[source].outcomes.count_suppressed();
                slot.undefer(&mut self.budget);
                return false;
            }
            Decision::Deferred { until } => {
                if slot.defer(until, value, &mut self.budget) {
                    self.sources[source].outcomes.count_suppressed();
                    self.deferred.insert((until, device, index), ());
                } else {
                    self.missing_bytes = Some(budget::deferred_bytes(value));
                }
                return false;
            }
        }
        let (more, less) = self.budget.change(slot, value);
        if more > less && !self.budget.fits(more - less) {
            self.missing_bytes = Some(more - less);
            return false;
        }
        slot.undefer(&mut self.budget);
        self.budget.book((more, less));
        slot.series |= value.as_number().is_some();
        value.store(&mut slot.value);
        slot.recorded = received;
        // A key that stands twice in one document: the last one counts, the change is already listed.
        !again || !self.changes.iter().any(|(s, _)| *s == index)
    }

    fn remove_unmentioned(&mut self, device: DeviceId, prefix: &str, received: Time) {
        let stamp = self.stamp;
        let names = &self.attributes;
        let below = |name: &str| {
            prefix.is_empty() || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
        };
        for (index, slot) in self.devices[device].slots.iter_mut().enumerate() {
            if slot.stamp != stamp && slot.value != Value::Null && below(&names[slot.attr.0 as usize]) {
                slot.undefer(&mut self.budget);
                self.budget.book(self.budget.change(slot, ValueRef::Null));
                (slot.value, slot.recorded) = (Value::Null, received);
                self.changes.push((index as u32, 0));
            }
        }
    }

    /// Appends the listed changes as one record.
    fn append(
        &mut self,
        device: DeviceId,
        received: Time,
        device_time: Option<Time>,
        batch: &mut Batch,
    ) -> Verdict {
        if self.changes.is_empty() {
            return Verdict::Unchanged;
        }
        let slots = &self.devices[device].slots;
        let changes = self.changes.iter().map(|(slot, _)| {
            let slot = &slots[*slot as usize];
            (slot.attr, slot.value.borrow())
        });
        let envelope = Envelope { device_time, ..at(received) };
        batch.body.push(envelope, |out| stored::encode_changes(device, changes, out));
        Verdict::Recorded
    }

    /// Records the values held back by an interval that ends before `until`.
    pub fn flush_deferred(&mut self, until: Time, now: Time, batch: &mut Batch) {
        while let Some((&(due, device, slot_index), ())) = self.deferred.first_key_value() {
            if due > until {
                break;
            }
            self.deferred.pop_first();
            self.changes.clear();
            // A device that was forgotten meanwhile has nothing to be recorded.
            let owner = self.devices.get_mut(device);
            let Some(slot) = owner.and_then(|owner| owner.slots.get_mut(slot_index as usize)) else {
                continue;
            };
            let Some((_, value)) = slot.deferred.take_if(|(at, _)| *at == due) else { continue };
            self.budget.book((0, budget::deferred_bytes(value.borrow())));
            self.budget.book(self.budget.change(slot, value.borrow()));
            slot.series |= value.borrow().as_number().is_some();
            (slot.value, slot.recorded) = (value, now);
            self.changes.push((slot_index, 0));
            self.append(device, now, None, batch);
        }
    }
}

/// Whether a number with a point is a version, going by the name: `2.10` is not `2.1` there, whatever came before.
fn is_version(attribute: &str, value: ValueRef<'_>) -> bool {
    const WORDS: [&str; 4] = ["version", "firmware", "release", "serial"];
    let named = || WORDS.iter().any(|word| attribute.to_ascii_lowercase().contains(word));
    matches!(value, ValueRef::Float(_)) && named()
}
