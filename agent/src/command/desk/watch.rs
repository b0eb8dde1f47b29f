//! What devices report and answer: the evidence for commands.

use std::time::{Duration, Instant};

use fieldlog_projections::command::{AcknowledgedBy, Progress};
use fieldlog_projections::{DeviceId, Seq, ValueRef};

use super::{Desk, Step};
use crate::command::evidence::{self, Answer};

impl Desk {
    /// Takes in a value that a device reports, in a message that is new: neither retained nor sent again, nor from a queue,
    /// and read after what it may be evidence of was written. `record` is where the change is recorded, if it is one.
    pub fn reported(
        &mut self,
        device: DeviceId,
        attribute: &str,
        value: ValueRef<'_>,
        record: Option<Seq>,
        steps: &mut Vec<Step>,
    ) {
        let Some(watching) = self.watching.get(&device) else { return };
        let reached = |command: &&Seq| {
            let open = self.open.get(command);
            open.is_some_and(|open| evidence::reached(&open.request.evidence, attribute, value))
        };
        let reached: Vec<Seq> = watching.iter().filter(reached).copied().collect();
        for command in reached {
            self.step(command, Progress::Applied { evidence: record }, steps);
        }
    }

    /// Whether somebody waits for an answer on a topic of a source.
    pub fn awaits_answer(&self, source: &str, topic: &[u8]) -> bool {
        !self.answers.is_empty()
            && std::str::from_utf8(topic)
                .is_ok_and(|topic| self.answers.contains_key(&(source.into(), topic.into())))
    }

    /// Takes in a message on a topic where answers are awaited.
    pub fn answered(&mut self, source: &str, topic: &[u8], payload: &[u8], steps: &mut Vec<Step>) {
        let Ok(topic) = std::str::from_utf8(topic) else { return };
        let Some(waiting) = self.answers.get(&(source.into(), topic.into())) else { return };
        let Ok(payload) = serde_json::from_slice::<serde_json::Value>(payload) else { return };
        let found = waiting.iter().find_map(|command| {
            let (_, id, error) = self.open.get(command)?.request.evidence.reply()?;
            Some((*command, evidence::answer(*command, id, error, &payload)?))
        });
        match found {
            Some((command, Answer::Accepted)) => {
                self.acknowledged(command, AcknowledgedBy::Device, steps);
                // Where something is to be reported, the answer only says that the device will do it.
                let reports =
                    self.open.get(&command).is_some_and(|open| open.request.evidence.reported().is_some());
                if !reports {
                    self.step(command, Progress::Applied { evidence: None }, steps);
                }
            }
            Some((command, Answer::Refused(reason))) => {
                self.step(command, Progress::Failed { reason }, steps)
            }
            None => {}
        }
    }

    pub(super) fn confirm_from(&mut self, command: Seq, now: Instant) {
        if let Some(open) = self.open.get_mut(&command)
            && open.confirm_by.is_none()
        {
            open.confirm_by = now.checked_add(Duration::from_secs(open.request.confirm_s.into()));
        }
    }

    pub(super) fn watch(&mut self, command: Seq) {
        let Some(open) = self.open.get(&command) else { return };
        if open.request.evidence.reported().is_some() {
            self.watching.entry(open.device).or_default().insert(command);
        }
        if let Some((topic, ..)) = open.request.evidence.reply() {
            let key = (open.request.publish.source.as_str().into(), topic.into());
            self.answers.entry(key).or_default().insert(command);
        }
    }

    pub(super) fn unwatch(&mut self, command: Seq) {
        let Some(open) = self.open.get(&command) else { return };
        if let Some(watching) = self.watching.get_mut(&open.device) {
            watching.remove(&command);
            if watching.is_empty() {
                self.watching.remove(&open.device);
            }
        }
        if let Some((topic, ..)) = open.request.evidence.reply() {
            let key = (open.request.publish.source.as_str().into(), topic.into());
            if let Some(waiting) = self.answers.get_mut(&key) {
                waiting.remove(&command);
                if waiting.is_empty() {
                    self.answers.remove(&key);
                }
            }
        }
    }
}
