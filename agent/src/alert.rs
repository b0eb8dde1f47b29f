//! Alerts: the rules of the configuration as a state machine. Pure: it is told what was recorded and what time it is, and
//! says what to record.
//!
//! What a rule says is wrong is *held* until it has lasted as long as the rule wants; then an alert is *open*, until it is
//! cleared. Only open alerts are recorded. After a start everything is looked at once; what is wrong then counts from the
//! time of the newest value. Silence counts from the start, and what is open about it stays so until the device is heard.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fieldlog_projections::alert::{Alert, AlertCleared, ClearedBecause, Subject};
use fieldlog_projections::fact::Availability;
use fieldlog_projections::stored::{Changes, type_id};
use fieldlog_projections::{DeviceId, Fact, Records, Seq, Time, Value, View};

use crate::config::{AlertRule, Watch};
use reading::Reading;
use rules::Rules;

mod battery;
mod reading;
mod rules;
#[cfg(test)]
mod tests;

/// A rule, by its place in the configuration, and what it is applied to.
type Key = (usize, Subject);

/// What the rules look at beside the values in the view.
pub trait World {
    /// When a device was last heard, whether or not anything changed; `None` if it is not known.
    fn heard(&self, device: DeviceId) -> Option<Time>;

    /// Whether that is more than the start of the agent, which counts as heard.
    fn was_heard(&self, device: DeviceId) -> bool;

    /// How many events wait for a sink.
    fn backlog_events(&self, sink: &str) -> u64;

    /// Log time of the oldest of them.
    fn backlog_oldest(&self, sink: &str) -> Option<Time>;
}

/// The time, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The monotonic clock.
    pub at: Instant,
    /// The wall clock.
    pub wall: Time,
}

/// Something that a rule says is wrong and that has not lasted long enough, or has no room.
#[derive(Debug)]
struct Held {
    due: Instant,
    alert: Alert,
    /// The record with the value.
    cause: Option<Seq>,
    /// It is counted as one too many.
    counted: bool,
}

/// Something to be recorded.
#[derive(Debug)]
enum Step {
    Raise { key: Key, alert: Alert, cause: Option<Seq> },
    Clear { key: Key, cleared: AlertCleared, cause: Option<Seq> },
}

/// What all rules say.
#[derive(Debug, Default)]
pub struct Alerting {
    rules: Rules,
    max: usize,
    held: BTreeMap<Key, Held>,
    /// Open alerts; `None` until their record has a position.
    open: BTreeMap<Key, Option<Seq>>,
    steps: Vec<Step>,
    /// The open alerts of the log are known.
    restored: bool,
    /// Everything has to be looked at: something other than a value has changed.
    look_again: bool,
    /// How many alerts were not raised because too many are open.
    beyond: u64,
}

impl Alerting {
    /// For these rules; `max` alerts can be open at the same time.
    pub fn new(rules: &[AlertRule], max: usize) -> Alerting {
        Alerting { rules: Rules::new(rules), max, look_again: true, ..Alerting::default() }
    }

    /// Whether there is nothing to do, whatever happens.
    pub fn is_idle(&self) -> bool {
        self.restored && self.rules.is_empty() && self.open.is_empty() && self.steps.is_empty()
    }

    /// How many alerts were not raised because too many were open.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Takes over other rules.
    pub fn configure(&mut self, rules: &[AlertRule], max: usize) {
        self.max = max;
        if self.rules.are(rules) {
            return;
        }
        let before = std::mem::replace(&mut self.rules, Rules::new(rules));
        // They count anew, under the new rules.
        self.held.clear();
        for (key, raised) in std::mem::take(&mut self.open) {
            let (rule, subject) = key.clone();
            let name = before.name(rule);
            match self.rules.named(name) {
                Some(rule) => drop(self.open.insert((rule, subject), raised)),
                None => self.clear_of(key, raised, &before, ClearedBecause::RuleRemoved, Value::Null, None),
            }
        }
        self.look_again = true;
    }

    /// Takes up the alerts that are open in the log.
    pub fn restore(&mut self, view: &View) {
        if std::mem::replace(&mut self.restored, true) {
            return;
        }
        for (seq, open) in view.alerts.iter() {
            let Alert { rule, subject, severity, .. } = &open.alert;
            if let Some(rule) = self.rules.named(rule)
                && !self.open.contains_key(&(rule, subject.clone()))
            {
                self.open.insert((rule, subject.clone()), Some(seq));
                continue;
            }
            let cleared = AlertCleared {
                raised: seq,
                rule: rule.clone(),
                severity: *severity,
                subject: subject.clone(),
                because: ClearedBecause::RuleRemoved,
                value: Value::Null,
            };
            self.steps.push(Step::Clear { key: (usize::MAX, subject.clone()), cleared, cause: None });
        }
    }

    /// Whether [`Alerting::restore`] was called.
    pub fn is_restored(&self) -> bool {
        self.restored
    }

    /// Looks at records that were just committed; `view` has them.
    pub fn committed(&mut self, records: Records<'_>, view: &View, now: Now) {
        if self.rules.is_empty() || !self.restored {
            return;
        }
        // They were encoded a moment ago; if they could not be read, the view would have failed.
        for record in records.filter_map(Result::ok) {
            match record.kind.type_id {
                type_id::STATE_CHANGED if self.rules.of_values() => {
                    let Ok(mut changes) = Changes::parse(record.kind, record.payload) else { continue };
                    let device = changes.device;
                    while let Ok(Some((attribute, value))) = changes.next() {
                        let mut left = self.rules.of_attribute(view, device, attribute);
                        while let Some(rule) = rules::take_first(&mut left) {
                            let reading = self.rules.reading(rule, value);
                            let key = (rule, Subject::Attribute(device, attribute));
                            self.judge(key, reading, Duration::ZERO, now, Some(record.seq));
                        }
                    }
                }
                type_id::DEVICE_DISCOVERED
                | type_id::DEVICE_RENAMED
                | type_id::DEVICE_RETIRED
                | type_id::DEVICE_FORGOTTEN => self.look_again = true,
                type_id::ATTRIBUTE_DESCRIBED if self.rules.of_kind(Watch::Battery) => {
                    // At once, as the values that it is about come right behind it.
                    if let Ok(Fact::AttributeDescribed { device, attribute, .. }) = record.fact() {
                        self.rules.learn_battery(view, device, attribute);
                    }
                    self.look_again = true;
                }
                _ => {}
            }
        }
    }

    /// What time alone does. To be called every second.
    pub fn tick(&mut self, world: &dyn World, view: &View, now: Now) {
        if !self.restored {
            return;
        }
        if std::mem::take(&mut self.look_again) {
            self.look_at_all(view, now);
        }
        self.silences(world, view, now);
        self.backlogs(world, now);
        let full = self.open.len() >= self.max;
        let due = self.held.iter().filter(|(_, held)| held.due <= now.at && !(full && held.counted));
        for key in due.map(|(key, _)| key.clone()).collect::<Vec<Key>>() {
            self.raise_if_due(key, now);
        }
    }

    /// Hands over what is to be recorded: `record` appends a fact and returns its position.
    pub fn drain(&mut self, mut record: impl FnMut(&Fact, Option<Seq>) -> Seq) {
        let mut raised = BTreeMap::new();
        for step in std::mem::take(&mut self.steps) {
            match step {
                Step::Raise { key, alert, cause } => {
                    let seq = record(&Fact::AlertRaised(Box::new(alert)), cause);
                    raised.insert(key, seq);
                }
                Step::Clear { key, mut cleared, cause } => {
                    if cleared.raised == Seq(0) {
                        cleared.raised = raised.remove(&key).unwrap_or_default();
                    }
                    record(&Fact::AlertCleared(Box::new(cleared)), cause);
                }
            }
        }
        for (key, seq) in raised {
            if let Some(open @ None) = self.open.get_mut(&key) {
                *open = Some(seq);
            }
        }
    }

    /// Whether [`Alerting::drain`] has anything.
    pub fn has_steps(&self) -> bool {
        !self.steps.is_empty()
    }

    /// Looks at every value there is. What no rule includes any more is cleared.
    fn look_at_all(&mut self, view: &View, now: Now) {
        self.rules.forget();
        self.rules.learn_batteries(view);
        let gone = |subject: &Subject| {
            let device = subject.device().map(|id| view.devices.get(id));
            device.is_some_and(|device| device.is_none_or(|device| device.retired))
        };
        self.held.retain(|(_, subject), _| !gone(subject));
        for key in self.open.keys().cloned().collect::<Vec<Key>>() {
            let (rule, subject) = &key;
            if gone(subject) {
                self.clear(key, ClearedBecause::SubjectGone, Value::Null, None);
            } else if !self.rules.includes(*rule, view, subject) {
                self.clear(key, ClearedBecause::RuleRemoved, Value::Null, None);
            }
        }
        if !self.rules.of_values() {
            return;
        }
        for (id, device) in view.devices.iter().filter(|(_, device)| !device.retired) {
            for slot in &device.attributes {
                let mut left = self.rules.of_attribute(view, id, slot.id);
                while let Some(rule) = rules::take_first(&mut left) {
                    let reading = self.rules.reading(rule, slot.value.borrow());
                    let elapsed = Duration::from_micros(now.wall.micros_since(slot.time) as u64);
                    let key = (rule, Subject::Attribute(id, slot.id));
                    self.judge(key, reading, elapsed, now, Some(slot.seq));
                }
            }
        }
    }

    fn silences(&mut self, world: &dyn World, view: &View, now: Now) {
        if !self.rules.of_kind(Watch::Silence) {
            return;
        }
        for (id, device) in view.devices.iter().filter(|(_, device)| !device.retired) {
            let mut left = self.rules.of_silence(view, id);
            while let Some(rule) = rules::take_first(&mut left) {
                let lasting = self.rules.lasting(rule);
                let key = (rule, Subject::Device(id));
                let raised = self.open.get(&key).copied().flatten();
                let heard = world.heard(id).unwrap_or(device.changed.1);
                let quiet = Duration::from_micros(now.wall.micros_since(heard) as u64);
                let offline = view.devices.effective_availability(device).0 == Availability::Offline;
                let (reading, elapsed) = if quiet >= lasting {
                    (Reading::silent(lasting, quiet), lasting)
                } else if offline {
                    let since = now.wall.micros_since(device.availability_changed.1);
                    (Reading::offline(lasting), Duration::from_micros(since as u64))
                } else if world.was_heard(id) || raised.is_some_and(|seq| device.availability_changed.0 > seq)
                {
                    (Reading::Right(Value::Null), Duration::ZERO)
                } else {
                    (Reading::Between, Duration::ZERO)
                };
                self.judge(key, reading, elapsed, now, None);
            }
        }
    }

    fn backlogs(&mut self, world: &dyn World, now: Now) {
        for rule in self.rules.places(Watch::SinkBacklog) {
            let (sink, reading) = self.rules.backlog(rule, world, now.wall);
            self.judge((rule, Subject::Sink(sink)), reading, Duration::ZERO, now, None);
        }
    }

    /// Judges a reading; `elapsed` is how long it is known to be so.
    fn judge(&mut self, key: Key, reading: Reading, elapsed: Duration, now: Now, cause: Option<Seq>) {
        let open = self.open.contains_key(&key);
        match reading {
            Reading::Gone if open => self.clear(key, ClearedBecause::SubjectGone, Value::Null, cause),
            Reading::Right(value) if open => self.clear(key, ClearedBecause::Ended, value, cause),
            Reading::Wrong { .. } if open => {}
            Reading::Gone | Reading::Right(_) | Reading::Between | Reading::Unknown => {
                self.held.remove(&key);
            }
            Reading::Wrong { condition, threshold, value } => {
                let due = now.at + self.rules.lasting(key.0).saturating_sub(elapsed);
                let alert = self.rules.alert(&key, condition, threshold, value);
                let held = self.held.remove(&key);
                let due = held.as_ref().map_or(due, |held| held.due.min(due));
                let counted = held.is_some_and(|held| held.counted);
                self.held.insert(key.clone(), Held { due, alert, cause, counted });
                self.raise_if_due(key, now);
            }
        }
    }

    fn raise_if_due(&mut self, key: Key, now: Now) {
        let full = self.open.len() >= self.max;
        let Some(held) = self.held.get_mut(&key).filter(|held| held.due <= now.at) else { return };
        if full {
            self.beyond += u64::from(!std::mem::replace(&mut held.counted, true));
            return;
        }
        if let Some(Held { alert, cause, .. }) = self.held.remove(&key) {
            self.open.insert(key.clone(), None);
            self.steps.push(Step::Raise { key, alert, cause });
        }
    }

    fn clear(&mut self, key: Key, because: ClearedBecause, value: Value, cause: Option<Seq>) {
        let Some(raised) = self.open.remove(&key) else { return };
        let rules = std::mem::take(&mut self.rules);
        self.clear_of(key, raised, &rules, because, value, cause);
        self.rules = rules;
    }

    fn clear_of(
        &mut self,
        key: Key,
        raised: Option<Seq>,
        rules: &Rules,
        because: ClearedBecause,
        value: Value,
        cause: Option<Seq>,
    ) {
        let (rule, subject) = key.clone();
        let (name, severity) = (rules.name(rule).to_owned(), rules.severity(rule));
        // 0: that of the step before.
        let raised = raised.unwrap_or_default();
        let cleared = AlertCleared { raised, rule: name, severity, subject, because, value };
        self.steps.push(Step::Clear { key, cleared, cause });
    }
}
