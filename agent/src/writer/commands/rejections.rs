//! Commands that are not accepted: each is counted, and not too many in a minute are recorded.

use std::time::{Duration, Instant};

use fieldlog_projections::Fact;
use fieldlog_projections::chunk::Envelope;
use fieldlog_projections::command::CommandRejection;

use super::super::Writer;
use crate::command::Unreadable;
use crate::command::declared::{self, Rejected};

/// Rejections that are recorded one by one in a minute; more are counted.
const REJECTIONS_PER_MINUTE: u32 = 10;
/// The same, in time.
const MINUTE: Duration = Duration::from_secs(60);

/// How many rejections have been recorded lately.
#[derive(Default)]
pub(super) struct Rejections {
    since: Option<Instant>,
    recorded: u32,
    unrecorded: u64,
}

impl Rejections {
    /// Whether one is recorded now, and how many were not since the last one that was.
    fn record(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= MINUTE) {
            (self.since, self.recorded) = (Some(now), 0);
        }
        if self.recorded >= REJECTIONS_PER_MINUTE {
            self.unrecorded += 1;
            return None;
        }
        self.recorded += 1;
        Some(std::mem::take(&mut self.unrecorded))
    }
}

impl Writer {
    /// Counts and records what cannot be a command.
    pub(in crate::writer) fn note_unreadable(&mut self, unreadable: Unreadable) {
        let Unreadable { actor, device, rejected, noted } = unreadable;
        self.reject(&actor, &device, "", "", &rejected);
        // Whoever asked may have gone.
        let _ = noted.send(());
    }

    pub(super) fn reject(&mut self, actor: &str, device: &str, key: &str, name: &str, rejected: &Rejected) {
        self.shared.stats.commands.rejected(rejected.code);
        let Some(unrecorded) = self.commanding.rejections.record(self.clock.now()) else { return };
        let known = {
            let view = self.view();
            declared::device(&view, device).map(|(id, _)| id)
        };
        let rejection = Box::new(CommandRejection {
            actor: actor.to_owned(),
            key: short(key),
            device: short(device),
            name: short(name),
            code: rejected.code.word().to_owned(),
            reason: short(&rejected.reason),
            unrecorded,
        });
        let envelope = Envelope { wall: self.clock.wall(), ..Envelope::default() };
        self.batch.records.push_fact(envelope, &Fact::CommandRejected { device: known, rejection });
    }
}

/// The beginning of a text that came from outside.
fn short(text: &str) -> String {
    text.chars().take(256).collect()
}
