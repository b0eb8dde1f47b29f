//! Finds the device and attribute of a topic and a place in its documents, by the rules.

use super::super::Observer;
use super::super::source::CompiledRule;
use super::super::topics::RuleMatch;
use crate::config::{Decoder, When};
use fieldlog_rules::topic::Name;

/// The target of an announcement: a rule's match, and the attribute if it concerns one.
pub(super) struct Target {
    pub(super) matched: RuleMatch,
    pub(super) attribute: Option<String>,
}

impl Observer {
    /// The device of a topic, and the attribute of a place in its documents if one is given.
    pub(super) fn resolve(&self, source: usize, topic: &str, path: Option<&str>) -> Option<Target> {
        let mut targets = self.targets(source, topic, path).into_iter();
        let first = targets.next()?;
        if path.is_none() || first.attribute.is_some() {
            return Some(first);
        }
        // With `also`, a later rule may take this place.
        Some(targets.find(|target| target.attribute.is_some()).unwrap_or(first))
    }

    pub(super) fn resolve_availability(&self, source: usize, topic: &str) -> Option<Target> {
        let compiled = &self.sources.get(source)?.compiled;
        let is_availability =
            |target: &Target| compiled[target.matched.rule].rule.decoder == Decoder::Availability;
        self.targets(source, topic, None).into_iter().find(is_availability)
    }

    /// The targets of all rules whose names do not depend on a document, up to the first rule that keeps the topic's
    /// messages.
    fn targets(&self, source: usize, topic: &str, path: Option<&str>) -> Vec<Target> {
        let mut targets = Vec::new();
        let Some(of) = self.sources.get(source) else { return targets };
        for found in of.rules.find(topic) {
            let compiled = &of.compiled[found.rule];
            let rule = &compiled.rule;
            match rule.decoder {
                Decoder::Announcement(_) => continue,
                // Which documents it takes is not known here; but that they are objects is.
                decoder if decoder.is_document() && rule.when.iter().all(When::is_met_by_any_object) => {}
                _ if !rule.when.iter().all(When::is_of_topic) => continue,
                Decoder::Ignore => break,
                _ => {}
            }
            let device = found.devices.first().and_then(Name::fixed);
            if let (Some(device), Some(prefix), None) = (device, found.attribute.fixed(), rule.each) {
                let attribute = path.and_then(|path| attribute(compiled, prefix, path));
                let matched = RuleMatch {
                    parent: found.parent.as_deref().map(Box::from),
                    ..self.rule_match(source, found.rule, device.to_owned(), prefix.to_owned())
                };
                targets.push(Target { matched, attribute });
            }
            // The devices of the documents may be unknown here, but no other rule gets them.
            if !rule.also {
                break;
            }
        }
        targets
    }
}

/// A rule's name for a place in the document; `None` if it takes nothing there.
fn attribute(rule: &CompiledRule, prefix: &str, path: &str) -> Option<String> {
    let is_document = match rule.rule.decoder {
        Decoder::Scalar | Decoder::Action => false,
        Decoder::Availability | Decoder::Ignore | Decoder::Announcement(_) => return None,
        _ => true,
    };
    if !is_document {
        return path.is_empty().then(|| prefix.to_owned());
    }
    let place = format!("{}{}", rule.rule.root, rule.rule.value.as_deref().unwrap_or_default());
    let place = place.trim_start_matches('/').replace('/', ".");
    let below = match path.strip_prefix(&place)? {
        rest if place.is_empty() || rest.is_empty() => rest,
        rest => rest.strip_prefix('.')?,
    };
    // The document itself is not a value, unless the rule says so.
    if below.is_empty() && rule.rule.value.is_none() {
        return None;
    }
    (rule.keeps(below) || rule.fires(below)).then(|| rule.attribute(prefix, below).into_owned())
}
