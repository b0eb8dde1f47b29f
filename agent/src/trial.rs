//! Shows what would be recorded from a message, without a broker and without a log: for `fieldlog try` and for tests
//! with real payloads. It uses the real observer, and for commands the real desk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fieldlog_projections::chunk::RecordBuffer;
use fieldlog_projections::command::Publish;
use fieldlog_projections::fact::Availability;
use fieldlog_projections::{AttrId, DeviceId, Fact, Record, Seq, Time, Value, View, stored};
use fieldlog_wire::api::commands::CommandBody;
use fieldlog_wire::describe;
use fieldlog_wire::json::Val;

use crate::command::declared::{Declared, Rejected, Target};
use crate::config::rules::{RuleError, Rules};
use crate::config::{Config, Decoder, Rule};
use crate::message::{Message, SourceId};
use crate::observe::{Heard, Observer, Outcomes, RecordBatch};
use fieldlog_rules::decode::{self, JsonRule, Zone};

mod cli;
mod command;

pub use cli::{TryArgs, main};

/// A fresh observer, and its records.
pub struct Trial {
    observer: Observer,
    outcomes: Arc<Outcomes>,
    view: View,
    config: Config,
    rules: Rules,
    now: Time,
    commands: command::Commands,
}

impl Trial {
    /// For one source of a configuration, by name. `now` is the arrival time of the messages; times without an offset
    /// are in `zone`.
    ///
    /// # Errors
    /// [`TrialError`] if there is no such source, or none was named and there are several.
    pub fn new(mut config: Config, source: Option<&str>, now: Time, zone: Zone) -> Result<Trial, TrialError> {
        let names = || config.sources.iter().map(|source| source.name.clone()).collect::<Vec<_>>();
        let index = match source {
            Some(name) => config.sources.iter().position(|source| source.name == name),
            None if config.sources.len() > 1 => return Err(TrialError::Several(names())),
            None => Some(0).filter(|_| !config.sources.is_empty()),
        };
        let Some(index) = index else {
            return Err(TrialError::NoSource { name: source.map(str::to_owned), known: names() });
        };
        // Each message is tried separately.
        config.limits.quarantine_per_topic_max = 0;
        config.sources.swap(0, index);
        config.sources.truncate(1);
        let rules = config.sources.first().map(Rules::compile).transpose()?.unwrap_or_default();
        let outcomes = Arc::new(Outcomes::default());
        let view = View::new(crate::config::windows(&config.aggregates));
        let counters = [outcomes.clone()];
        let mut observer = Observer::new(&config, &view, Arc::new(Heard::default()), &counters, now)?;
        observer.set_zone(zone);
        Ok(Trial { observer, outcomes, view, config, rules, now, commands: command::Commands::default() })
    }

    /// What would be published for a command. What later messages say of it is among their lines; commands are numbered
    /// from 1.
    ///
    /// # Errors
    /// [`Rejected`] as the agent would reject it. Whether the device is offline does not matter here.
    pub fn command(&mut self, device: &str, body: &CommandBody) -> Result<Publish, Rejected> {
        self.commands.ask(&self.config, &self.view, &mut self.observer, self.now, device, body)
    }

    /// What a device can be told.
    ///
    /// # Errors
    /// [`Rejected`] if there is no such device.
    pub fn declared(&self, device: &str) -> Result<Vec<Declared<'_>>, Rejected> {
        Ok(Target::find(&self.config, &self.view, device)?.declared())
    }

    /// Processes a message and returns one line per recorded fact. Without facts the line is `unchanged`, or `ignored:
    /// ` with the reason; a time that cannot be read gives a `warning: `.
    ///
    /// # Errors
    /// [`TrialError::Fold`] if the records cannot be read back.
    pub fn observe(&mut self, topic: &str, payload: &[u8], retain: bool) -> Result<Vec<String>, TrialError> {
        let message = Message {
            topic: topic.as_bytes().to_vec().into(),
            payload: payload.to_vec().into(),
            retain,
            dup: false,
            pkid: None,
            fault: None,
        };
        let counts =
            |outcomes: &Outcomes| [&outcomes.ignored, &outcomes.times_unread, &outcomes.late].map(count);
        let [ignored, unread, late] = counts(&self.outcomes);
        let mut batch =
            RecordBatch { records: RecordBuffer::after(self.view.time), ..RecordBatch::default() };
        self.observer.observe(SourceId(0), &message, self.now, &mut batch);
        let first = self.view.seq.next();
        self.view.apply_records(batch.records.records(first), Seq(u64::MAX))?;
        self.observer.committed(self.view.seq, self.view.seq);
        let mut lines = Vec::new();
        let source = self.config.sources.first().map(|source| source.name.as_str()).unwrap_or_default();
        let of_commands = self.commands.hear(source, &message, &mut self.observer);
        for record in batch.records.records(first).flatten() {
            self.say(&record, &mut lines)?;
        }
        if count(&self.outcomes.times_unread) > unread {
            lines.push("warning: a time cannot be read".to_owned());
        }
        let of_commands: Vec<String> = of_commands
            .into_iter()
            .map(|(device, words)| format!("{}  {words}", self.device(device)))
            .collect();
        if count(&self.outcomes.late) > late {
            lines.push("ignored: it comes after a newer one".to_owned());
        } else if count(&self.outcomes.ignored) > ignored {
            lines.push(format!("ignored: {}", self.why_ignored(topic, payload)));
        } else if lines.is_empty() {
            lines.push("unchanged".to_owned());
        }
        lines.extend(of_commands);
        Ok(lines)
    }

    fn why_ignored(&self, topic: &str, payload: &[u8]) -> String {
        if self.rules.excluded(topic) {
            return "the source excludes this topic".to_owned();
        }
        let rules = self.config.sources.first().map(|source| source.rules.as_slice()).unwrap_or_default();
        let mut found = self.rules.find(topic).filter_map(|found| rules.get(found.rule)).peekable();
        if found.peek().is_none() {
            return "no rule matches the topic".to_owned();
        }
        let takes = |rule: &&Rule| {
            let json = JsonRule::new(rule, Zone::default());
            json.is_ok_and(|json| decode::takes(payload, &json) == Ok(true))
        };
        match found.find(|rule| rule.decoder == Decoder::Ignore && takes(rule)) {
            Some(rule) => format!("by the rule for {}", rule.topic),
            None => "the rules that match the topic do not take this payload".to_owned(),
        }
    }

    fn say(&self, record: &Record<'_>, lines: &mut Vec<String>) -> Result<(), TrialError> {
        let at = record.device_time.map(said_time).unwrap_or_default();
        let fact = record.fact().map_err(fieldlog_projections::FoldError::from)?;
        let device = fact.device().map(|id| self.device(id)).unwrap_or_default();
        match &fact {
            Fact::StateChanged { changes, .. } => {
                for (attribute, value) in changes {
                    lines.push(format!("{device}  {} = {}{at}", self.attribute(*attribute), json(value)));
                }
            }
            Fact::ActionFired { attribute, value, .. } => {
                lines.push(format!("{device}  action {} = {}{at}", self.attribute(*attribute), json(value)));
            }
            Fact::AvailabilityChanged { availability, .. } => {
                let word = match availability {
                    Availability::Online => "online",
                    Availability::Offline => "offline",
                    Availability::Unknown => "availability unknown",
                };
                lines.push(format!("{device}  {word}"));
            }
            Fact::DeviceDiscovered { parent, .. } => {
                let parent = parent.map(|id| format!(", below {}", self.device(id))).unwrap_or_default();
                lines.push(format!("{device}  discovered{parent}"));
            }
            // It already has its new id.
            Fact::DeviceRenamed { device: id, .. } => {
                let before = self.view.devices.get(*id).and_then(|device| device.former.last());
                let before = before.map(|before| format!(", {before} before")).unwrap_or_default();
                lines.push(format!("{device}  renamed{before}"));
            }
            Fact::DeviceRetired { .. } => lines.push(format!("{device}  retired")),
            Fact::InputQuarantined { reason, .. } => lines.push(format!("quarantined: {reason}")),
            Fact::DeviceDescribed { description, .. } => {
                let said = text(&describe::DeviceJson::of(description));
                lines.push(format!("{device}  described {said}"));
            }
            Fact::AttributeDescribed { attribute, description, .. } => {
                let said = text(&describe::AttributeJson::of(description));
                lines.push(format!("{device}  {} described {said}", self.attribute(*attribute)));
            }
            // The line of the value has the name.
            Fact::AttributeNamed { .. } => {}
            _ => {
                let name = stored::type_name(record.kind.type_id).unwrap_or_default();
                lines.push(format!("{device}  {name}").trim_start().to_owned());
            }
        }
        Ok(())
    }

    fn device(&self, id: DeviceId) -> &str {
        self.view.devices.get(id).map(|device| &*device.name).unwrap_or_default()
    }

    fn attribute(&self, id: AttrId) -> &str {
        self.view.devices.attribute_name(id).unwrap_or_default()
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// In JSON's notation.
fn json(value: &Value) -> String {
    text(&Val(value.borrow()))
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn said_time(time: Time) -> String {
    jiff::Timestamp::from_microsecond(time.0).map(|time| format!(" at {time}")).unwrap_or_default()
}

/// Why a trial failed.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// There is no such source, or none at all.
    #[error("{}", no_source(name.as_deref(), known))]
    NoSource {
        /// The name that was given.
        name: Option<String>,
        /// The existing sources.
        known: Vec<String>,
    },
    /// Several sources, and none was named.
    #[error("the configuration has several sources: {}; choose one with --source", .0.join(", "))]
    Several(Vec<String>),
    /// A rule that a checked configuration does not have.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The records cannot be read back.
    #[error("what was recorded cannot be read back: {0}")]
    Fold(#[from] fieldlog_projections::FoldError),
}

fn no_source(name: Option<&str>, known: &[String]) -> String {
    match name {
        Some(name) if !known.is_empty() => {
            format!("the configuration has no source {name:?}; it has {}", known.join(", "))
        }
        _ => "the configuration has no [[source]]; write one, or try a preset with --preset".to_owned(),
    }
}
