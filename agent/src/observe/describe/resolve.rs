//! Which device and attribute a topic and a place in its documents are, by the rules.

use super::super::Observer;
use super::super::source::CompiledRule;
use super::super::topics::RuleMatch;
use crate::config::{Decoder, When};
use crate::topic::Name;

/// Where an announcement leads: a rule's match, and the attribute if it is about one.
pub(super) struct Target {
    pub(super) matched: RuleMatch,
    pub(super) attribute: Option<String>,
}

impl Observer {
    /// What the rules make of a topic, and of a place in the document there if one is asked for.
    pub(super) fn resolve(&self, source: usize, topic: &str, path: Option<&str>) -> Option<Target> {
        let mut targets = self.targets(source, topic, path).into_iter();
        let first = targets.next()?;
        if path.is_none() || first.attribute.is_some() {
            return Some(first);
        }
        // A rule that lets others have the message, too, may leave this place to them.
        Some(targets.find(|target| target.attribute.is_some()).unwrap_or(first))
    }

    pub(super) fn resolve_availability(&self, source: usize, topic: &str) -> Option<Target> {
        let compiled = &self.sources.get(source)?.compiled;
        let is_availability =
            |target: &Target| compiled[target.matched.rule].rule.decoder == Decoder::Availability;
        self.targets(source, topic, None).into_iter().find(is_availability)
    }

    /// What each rule makes of it whose names are known without a document, up to the first that keeps the messages of the
    /// topic for itself.
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
            // Of which devices the documents are may not be known here; but that no other rule gets them is.
            if !rule.also {
                break;
            }
        }
        targets
    }
}

/// What a rule calls a place in the document; nothing if it takes nothing from there.
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
    // The document itself is no value, unless the rule says that it is one.
    if below.is_empty() && rule.rule.value.is_none() {
        return None;
    }
    (rule.keeps(below) || rule.fires(below)).then(|| rule.attribute(prefix, below).into_owned())
}
