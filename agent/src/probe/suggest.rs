//! Suggests rules for topics that nothing takes: topics that differ in one level share a rule.

use std::collections::BTreeMap;

use super::heard::Kept;
use crate::sorted;

/// Maximum suggested rules: nobody reads a long list.
const RULES_MAX: usize = 12;

/// A suggested rule, with the topics it would take.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    /// In TOML.
    pub(super) toml: String,
    /// Topics, in alphabetical order.
    pub(super) topics: Vec<String>,
}

/// The apparent kind of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Looks {
    /// A JSON object.
    Object,
    /// A short text or a number.
    Value,
}

/// Suggests rules for messages of topics that nothing takes. Messages that look like neither JSON nor a value get none.
pub(super) fn propose(messages: &[&Kept]) -> Vec<Proposal> {
    let mut topics: BTreeMap<&str, Looks> = BTreeMap::new();
    for message in messages {
        if let Some(looks) = looks(&message.payload) {
            topics.entry(&message.topic).or_insert(looks);
        }
    }
    let mut left = sorted::set(topics);
    let mut proposals = Vec::new();
    while proposals.len() < RULES_MAX {
        // The template that takes most of the remaining topics; among equals, the one whose variable level is last.
        let mut groups: BTreeMap<(usize, Looks, Vec<&str>), Vec<&str>> = BTreeMap::new();
        for (topic, looks) in &left {
            let levels: Vec<&str> = topic.split('/').collect();
            for place in places(levels.len(), *looks) {
                let mut template = levels.clone();
                template[place] = "";
                if *looks == Looks::Value {
                    template[levels.len() - 1] = "";
                }
                groups.entry((place, *looks, template)).or_default().push(topic);
            }
        }
        let best = groups.into_iter().max_by_key(|((place, ..), topics)| (topics.len(), *place));
        let Some(((place, looks, template), topics)) = best else { break };
        left.retain(|(topic, _)| !topics.contains(topic));
        proposals.push(Proposal {
            toml: rule(&template, place, looks),
            topics: topics.into_iter().map(str::to_owned).collect(),
        });
    }
    proposals
}

/// Levels that may be the device's name. The last level of a single-value topic is the attribute's name.
fn places(levels: usize, looks: Looks) -> std::ops::Range<usize> {
    let end = match looks {
        Looks::Object => levels,
        Looks::Value => levels - 1,
    };
    usize::from(levels > 1).min(end.saturating_sub(1))..end
}

fn rule(template: &[&str], device: usize, looks: Looks) -> String {
    let last = template.len() - 1;
    let levels = template.iter().enumerate().map(|(index, level)| match looks {
        _ if index == device => "+device",
        Looks::Value if index == last => "+attribute",
        _ => level,
    });
    let topic = serde_json::Value::from(levels.collect::<Vec<_>>().join("/"));
    let decoder = match looks {
        Looks::Object => "json",
        Looks::Value => "scalar",
    };
    format!("[[source.subscription]]\ntopic = {topic}\ndecoder = \"{decoder}\"\n")
}

fn looks(payload: &[u8]) -> Option<Looks> {
    let text = std::str::from_utf8(payload).ok()?.trim();
    if text.starts_with('{') {
        return serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok().then_some(Looks::Object);
    }
    let short = !text.is_empty() && text.len() <= 64 && !text.contains(['\n', '[', '<']);
    short.then_some(Looks::Value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposals(messages: &[(&str, &str)]) -> Vec<(String, usize)> {
        let kept: Vec<Kept> = messages
            .iter()
            .map(|(topic, payload)| Kept {
                topic: (*topic).to_owned(),
                payload: (*payload).to_owned().into(),
                retain: false,
            })
            .collect();
        let kept: Vec<&Kept> = kept.iter().collect();
        propose(&kept).into_iter().map(|proposal| (proposal.toml, proposal.topics.len())).collect()
    }

    #[test]
    fn topics_that_differ_in_one_level_are_one_rule() {
        let found = proposals(&[
            ("plant/pump1/data", r#"{"flow":1.5}"#),
            ("plant/pump2/data", r#"{"flow":2.5}"#),
            ("plant/pump3/data", r#"{"flow":3.5}"#),
            ("weather", r#"{"t":1}"#),
        ]);
        assert_eq!(
            found,
            [
                (
                    "[[source.subscription]]\ntopic = \"plant/+device/data\"\ndecoder = \"json\"\n"
                        .to_owned(),
                    3
                ),
                ("[[source.subscription]]\ntopic = \"+device\"\ndecoder = \"json\"\n".to_owned(), 1),
            ]
        );
    }

    #[test]
    fn the_last_level_of_a_value_is_its_attribute() {
        let found = proposals(&[
            ("plant/pump1/flow", "1.5"),
            ("plant/pump1/pressure", "2.5"),
            ("plant/pump2/flow", "3.5"),
        ]);
        assert_eq!(
            found,
            [(
                "[[source.subscription]]\ntopic = \"plant/+device/+attribute\"\ndecoder = \"scalar\"\n"
                    .to_owned(),
                3
            )]
        );
    }

    #[test]
    fn what_is_proposed_can_be_read() {
        for (proposal, _) in proposals(&[("a/b/c", "{}"), ("a/b/c/d", "1"), ("x\"y/z", "{}"), ("a", "{}")]) {
            let text = format!("[[source]]\nname = \"a\"\naddress = \"mqtt://localhost\"\n{proposal}");
            assert!(crate::config::Config::from_toml(&text, "test").is_ok(), "{proposal}");
        }
    }

    #[test]
    fn no_rule_is_proposed_for_what_is_neither_json_nor_a_value() {
        assert_eq!(
            proposals(&[("a/b", "<xml/>"), ("a/c", "[1,2]"), ("a/d", "{broken"), ("single", "1")]),
            []
        );
        let long = "x".repeat(65);
        assert_eq!(proposals(&[("a/b", &long)]), []);
    }
}
