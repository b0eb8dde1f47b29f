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
        for found in self.sources.get(source)?.rules.find(topic) {
            let compiled = &self.sources[source].compiled[found.rule];
            let rule = &compiled.rule;
            // Which documents it takes, and of which devices they are, is not known here; but that they are objects is.
            let needs_document = rule.each.is_some() || !rule.when.iter().all(When::is_met_by_any_object);
            match rule.decoder {
                Decoder::Announcement(_) => continue,
                decoder if decoder.is_document() && needs_document => continue,
                Decoder::Ignore => return None,
                _ => {}
            }
            let device = found.devices.first().and_then(Name::fixed);
            let (Some(device), Some(prefix)) = (device, found.attribute.fixed()) else { continue };
            let attribute = path.and_then(|path| attribute(compiled, prefix, path));
            let matched = self.rule_match(source, found.rule, device.to_owned(), prefix.to_owned());
            return Some(Target { matched, attribute });
        }
        None
    }

    pub(super) fn resolve_availability(&self, source: usize, topic: &str) -> Option<Target> {
        let target = self.resolve(source, topic, None)?;
        let decoder = self.sources[source].compiled[target.matched.rule].rule.decoder;
        (decoder == Decoder::Availability).then_some(target)
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
