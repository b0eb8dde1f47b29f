//! Compares the values of a message with the known ones, and records changes.

use fieldlog_projections::chunk::Envelope;
use fieldlog_projections::fact::Fact;
use fieldlog_projections::{DeviceId, Time, Value, ValueRef, stored};

use super::outcomes::{Refusal, Verdict};
use super::policy::{self, Decision};
use super::redact::REDACTED;
use super::removed::was_there;
use super::topics::{Known, RuleMatch};
use super::watch::Report;
use super::{Observer, RecordBatch, at, budget};
use crate::config::{HeldValues, Update};
use fieldlog_rules::decode::{self, Scalar, Values};

impl Observer {
    pub(super) fn record_one(
        &mut self,
        source: usize,
        matched: &mut RuleMatch,
        scalar: Scalar<'_>,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<Verdict, Refusal> {
        let device = self.device(source, matched, received, batch)?;
        let (slot, kind) = match matched.shape.first() {
            Some(Known { slot: Some(slot), kind, .. }) => (*slot, *kind),
            _ => {
                let name = matched.attribute.clone();
                let slot = self.slot(device, &name, received, batch)?;
                self.devices[device].slots[slot as usize].redact |=
                    self.sources[source].compiled[matched.rule].secrets.has_name(&name);
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
            // `1.10` is a number if the attribute has had numbers, as from a sensor that sends two digits.
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

    /// Records the changes in `self.values`.
    pub(super) fn record(
        &mut self,
        source: usize,
        matched: &mut RuleMatch,
        received: Time,
        device_time: Option<Time>,
        batch: &mut RecordBatch,
    ) -> Result<Verdict, Refusal> {
        self.repeated = false;
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
        batch: &mut RecordBatch,
    ) -> Result<Verdict, Refusal> {
        let before = batch.records.len();
        self.stamp += 1;
        self.changes.clear();
        let (mut refusal, mut learnt) = (None, false);
        self.repeated = self.is_repeated(source, matched, values, device);
        for (index, (path, value)) in values.iter().enumerate() {
            let (slot, kind) = match matched.shape.get(index) {
                Some(known) if *known.path == *path => (known.slot, known.kind),
                _ => {
                    learnt = true;
                    let before = was_there(&matched.shape, path);
                    match self.learn_path(source, matched, index, device, path, received, batch) {
                        Ok(known) => {
                            if known.0.is_some() {
                                self.replace_kind(source, matched, device, path, before, received);
                            }
                            known
                        }
                        Err(reason) => {
                            refusal.get_or_insert(reason);
                            continue;
                        }
                    }
                }
            };
            if value == ValueRef::Null && slot.is_some() {
                self.remove_below(source, matched, device, path, received);
            }
            let Some(slot) = slot else {
                let fired =
                    self.fire_if_action(source, matched, device, path, value, received, device_time, batch);
                refusal = refusal.or(fired.err());
                continue;
            };
            if matches!(value, ValueRef::Json(_)) {
                self.devices[device].slots[slot as usize].redact |=
                    self.sources[source].compiled[matched.rule].is_secret(&matched.attribute, path, value);
            }
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
        // As long as the paths are those of the message before, no list is shorter than it was.
        if values.lists().len() > 0 && (learnt || matched.shape.len() != values.iter().len()) {
            self.remove_beyond(source, matched, values, device, received);
        }
        if self.sources[source].compiled[matched.rule].rule.update == Update::Replace {
            self.remove_unmentioned(device, &matched.attribute, received);
        }
        self.append(device, received, device_time, batch);
        match refusal {
            Some(reason) => Err(reason),
            None if batch.records.len() > before => Ok(Verdict::Recorded),
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
        batch: &mut RecordBatch,
    ) -> Result<(), Refusal> {
        let rule = &self.sources[source].compiled[matched.rule];
        // A retained document repeats an old state at every new subscription.
        if !self.alive || self.repeated || !rule.fires(path) {
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
            let secret = rule.is_secret(&matched.attribute, path, value);
            let value = if secret { ValueRef::Text(REDACTED) } else { value };
            self.fire(device, &name, value.to_owned(), received, device_time, batch)?;
        }
        Ok(())
    }

    /// Whether the actions of a document were already recorded: its counter equals the device's. The counter is kept as
    /// state, in the same commit as the actions, so this works across restarts.
    fn is_repeated(&self, source: usize, matched: &RuleMatch, values: &Values, device: DeviceId) -> bool {
        let rule = &self.sources[source].compiled[matched.rule];
        if rule.rule.idempotent_by.is_none() {
            return false;
        }
        let counter = values.iter().filter(|(path, _)| rule.json.is_counter(path)).last();
        let Some((path, value)) = counter.filter(|(_, value)| *value != ValueRef::Null) else { return false };
        let name = rule.attribute(&matched.attribute, path);
        let Some(attr) = self.attribute_ids.get(&*name) else { return false };
        let slot = self.devices[device].slots.iter().find(|slot| slot.attr == *attr);
        slot.is_some_and(|slot| {
            let newest = slot.deferred.as_ref().map_or(&slot.value, |(_, value)| value);
            value.same(newest.borrow())
        })
    }

    pub(super) fn fire(
        &mut self,
        device: DeviceId,
        attribute: &str,
        value: Value,
        received: Time,
        device_time: Option<Time>,
        batch: &mut RecordBatch,
    ) -> Result<Verdict, Refusal> {
        let attribute = self.action(device, attribute, received, batch)?;
        let envelope = Envelope { device_time, ..at(received) };
        batch.records.push_fact(envelope, &Fact::ActionFired { device, attribute, value });
        Ok(Verdict::Recorded)
    }

    /// As [`Observer::is_event`], but makes room for the value if necessary, and hides secrets.
    #[inline]
    pub(super) fn accept(
        &mut self,
        device: DeviceId,
        slot: u32,
        value: ValueRef<'_>,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<bool, Refusal> {
        if self.devices[device].slots[slot as usize].redact {
            let Some(hidden) = self.hide(device, slot, value) else { return Ok(false) };
            let accepted = self.accept_open(device, slot, hidden.borrow(), received, batch);
            if accepted.is_err() {
                // It was not recorded, so the known value is void.
                self.devices[device].slots[slot as usize].secret = None;
            }
            return accepted;
        }
        self.accept_open(device, slot, value, received, batch)
    }

    #[inline]
    fn accept_open(
        &mut self,
        device: DeviceId,
        slot: u32,
        value: ValueRef<'_>,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<bool, Refusal> {
        let differs = self.is_event(device, slot, value, received);
        if self.devices[device].watched && self.alive {
            let attr = self.devices[device].slots[slot as usize].attr;
            let attribute = self.attributes[attr.0 as usize].clone();
            self.reports.push(Report { device, attribute, value: value.to_owned() });
        }
        match self.missing_bytes.take() {
            None => Ok(differs),
            Some(more) => {
                self.room_for_value(device, slot, more, received, batch)?;
                Ok(self.is_event(device, slot, value, received))
            }
        }
    }

    /// Whether a value becomes an event; if so, the slot gets the value. If there is no room for it, nothing changes
    /// and `missing_bytes` is set.
    #[inline]
    fn is_event(&mut self, device: DeviceId, index: u32, value: ValueRef<'_>, received: Time) -> bool {
        let owner = &mut self.devices[device];
        // A device has the policies of the source that discovered it, even for messages from another source.
        let source = usize::from(owner.source.0);
        let slot = &mut owner.slots[index as usize];
        let again = slot.stamp == self.stamp;
        slot.stamp = self.stamp;
        let policies = || Some(&self.sources.get(source)?.policies);
        let policy = slot.policy.and_then(|p| Some(&policies()?.get(usize::from(p))?.policy));
        let waits_for_commit = policy.is_some_and(|policy| policy.held == HeldValues::Record);
        match policy::decide(policy, slot, value, received) {
            Decision::Record => {}
            Decision::Unchanged => {
                // Also if the policy that held a value back no longer exists.
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
                    if waits_for_commit {
                        self.unrecorded.insert((device, index));
                    }
                } else {
                    self.missing_bytes = Some(budget::deferred_bytes(value));
                }
                return false;
            }
        }
        let (more, less) = slot.change(&self.budget, value);
        if more > less && !self.budget.fits(more - less) {
            self.missing_bytes = Some(more - less);
            return false;
        }
        slot.undefer(&mut self.budget);
        self.budget.book((more, less));
        slot.series |= value.as_number().is_some();
        value.store(&mut slot.value);
        slot.recorded = received;
        // A duplicate key in one document: the last one counts, and the change is already listed.
        !again || !self.changes.iter().any(|(s, _)| *s == index)
    }

    /// Appends the listed changes as one record.
    pub(super) fn append(
        &mut self,
        device: DeviceId,
        received: Time,
        device_time: Option<Time>,
        batch: &mut RecordBatch,
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
        batch.records.push(envelope, |out| stored::encode_changes(device, changes, out));
        Verdict::Recorded
    }

    /// Records held-back values at a clean stop.
    pub fn finish(&mut self, now: Time, batch: &mut RecordBatch) {
        self.flush_deferred(Time(i64::MAX), now, batch);
        self.summarise(true, now, batch);
    }

    /// Records the values whose interval ends before `until`.
    pub(super) fn flush_deferred(&mut self, until: Time, now: Time, batch: &mut RecordBatch) {
        while let Some((&(due, device, slot_index), ())) = self.deferred.first_key_value() {
            if due > until {
                break;
            }
            self.deferred.pop_first();
            self.record_deferred(device, slot_index, Some(due), now, batch);
        }
    }

    /// Whether a message waits for a commit that records its value.
    pub fn awaits_commit(&mut self) -> bool {
        while let Some(&(device, slot_index)) = self.unrecorded.first() {
            let owner = self.devices.get_mut(device);
            let slot = owner.and_then(|owner| owner.slots.get(slot_index as usize));
            if slot.is_some_and(|slot| slot.deferred.is_some()) {
                return true;
            }
            // Recorded meanwhile, or back at the recorded value, or forgotten with its device.
            self.unrecorded.pop_first();
        }
        false
    }

    /// Records the held-back values whose messages wait for the coming commit. Their intervals start again.
    pub fn record_awaited(&mut self, now: Time, batch: &mut RecordBatch) {
        while let Some((device, slot_index)) = self.unrecorded.pop_first() {
            self.record_deferred(device, slot_index, None, now, batch);
        }
    }

    /// Records a held-back value, if `due` is absent or matches; does nothing if it is no longer held back.
    pub(super) fn record_deferred(
        &mut self,
        device: DeviceId,
        slot_index: u32,
        due: Option<Time>,
        now: Time,
        batch: &mut RecordBatch,
    ) {
        self.changes.clear();
        // Nothing can be recorded for a device that was forgotten meanwhile.
        let owner = self.devices.get_mut(device);
        let Some(slot) = owner.and_then(|owner| owner.slots.get_mut(slot_index as usize)) else { return };
        let deferred = slot.deferred.take_if(|(at, _)| due.is_none_or(|due| *at == due));
        let Some((_, value)) = deferred else { return };
        self.budget.book((0, budget::deferred_bytes(value.borrow())));
        self.budget.book(slot.change(&self.budget, value.borrow()));
        slot.series |= value.borrow().as_number().is_some();
        (slot.value, slot.recorded) = (value, now);
        self.changes.push((slot_index, 0));
        self.append(device, now, None, batch);
    }
}

/// Whether the attribute's name makes a number with a point a version: `2.10` is then not `2.1`, whatever came before.
pub(super) fn is_version(attribute: &str, value: ValueRef<'_>) -> bool {
    const WORDS: [&str; 4] = ["version", "firmware", "release", "serial"];
    let named = || WORDS.iter().any(|word| attribute.to_ascii_lowercase().contains(word));
    matches!(value, ValueRef::Float(_)) && named()
}
