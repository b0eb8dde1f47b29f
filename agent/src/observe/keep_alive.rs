//! Publishes messages that keep devices sending.

use std::collections::BTreeMap;

use fieldlog_projections::Time;

use super::Observer;
use crate::config::rules::MatchedRule;
use crate::message::Publication;
use fieldlog_rules::topic::Name;

/// Maximum topics of one source that are kept alive.
const TOPICS_MAX: usize = 256;

/// The keep-alives of one source: by topic, the rule and the due time.
#[derive(Debug, Default)]
pub(super) struct KeepAlives(BTreeMap<String, Due>);

#[derive(Debug)]
struct Due {
    rule: usize,
    at: Time,
    /// The connection on which the first message was sent.
    connection: Option<u64>,
}

impl Observer {
    /// Notes the keep-alives of a topic's rules; they are published with the next tick.
    pub(super) fn note_keep_alives(&mut self, source: usize, matches: &[MatchedRule]) {
        let keep = &mut self.sources[source].keep_alives.0;
        for found in matches {
            let Some(topic) = found.keep_alive.as_ref().and_then(Name::fixed) else { continue };
            if keep.len() < TOPICS_MAX && !keep.contains_key(topic) {
                let due = Due { rule: found.rule, at: Time(i64::MIN), connection: None };
                keep.insert(topic.to_owned(), due);
            }
        }
    }

    /// Publishes what is due. If a source cannot publish now, it is due again at the next tick.
    pub(super) fn keep_alive(&mut self, now: Time) {
        for source in &mut self.sources {
            let Some((connection, _)) = source.outcomes.outbox.connection() else { continue };
            for (topic, due) in &mut source.keep_alives.0 {
                let Some(wanted) = &source.compiled[due.rule].rule.keep_alive else { continue };
                let every = wanted.every.as_micros() as i64;
                let first = due.connection != Some(connection);
                // If the clock was set back, it must not wait.
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
