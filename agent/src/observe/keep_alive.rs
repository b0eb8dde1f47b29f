//! Messages that devices need now and then, or they fall silent.

use std::collections::BTreeMap;

use fieldlog_projections::Time;

use super::Observer;
use crate::config::rules::Found;
use crate::message::Publication;
use crate::topic::Name;

/// Topics of one source that are kept alive, at most.
const TOPICS_MAX: usize = 256;

/// What one source keeps alive: by topic, the rule that wants it, and when it is due.
#[derive(Debug, Default)]
pub(super) struct KeepAlives(BTreeMap<String, Due>);

#[derive(Debug)]
struct Due {
    rule: usize,
    at: Time,
    /// The connection that had the first message.
    connection: Option<u64>,
}

impl Observer {
    /// Notes what the rules that take a topic want to keep alive; it is published with the next tick.
    pub(super) fn note_keep_alives(&mut self, source: usize, matches: &[Found]) {
        let keep = &mut self.sources[source].keep_alives.0;
        for found in matches {
            let Some(topic) = found.keep_alive.as_ref().and_then(Name::fixed) else { continue };
            if keep.len() < TOPICS_MAX && !keep.contains_key(topic) {
                let due = Due { rule: found.rule, at: Time(i64::MIN), connection: None };
                keep.insert(topic.to_owned(), due);
            }
        }
    }

    /// Publishes what is due. What a source cannot publish now is due with the next tick.
    pub(super) fn keep_alive(&mut self, now: Time) {
        for source in &mut self.sources {
            let Some((connection, _)) = source.outcomes.outbox.connection() else { continue };
            for (topic, due) in &mut source.keep_alives.0 {
                let Some(wanted) = &source.compiled[due.rule].rule.keep_alive else { continue };
                let every = wanted.every.as_micros() as i64;
                let first = due.connection != Some(connection);
                // A clock that was set back must not make it wait.
                let waits = now < due.at && due.at.0 <= now.0.saturating_add(every);
                if waits && !first {
                    continue;
                }
                let payload = if first { &wanted.first_payload } else { &wanted.payload };
                let publication = Publication::untracked(topic, payload.clone());
                if source.outcomes.outbox.publish(publication).is_ok() {
                    due.connection = Some(connection);
                    due.at = Time(now.0.saturating_add(every));
                }
            }
        }
    }
}
