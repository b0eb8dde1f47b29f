//! Which device and attribute a topic and a place in its documents are, by the rules.

use super::super::Observer;
use super::super::topics::RuleMatch;
use crate::config::Decoder;

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
            let attribute = match (rule.decoder, path) {
                (Decoder::Announcement(_), _) => continue,
                // Which documents it takes is not known here.
                (Decoder::Json, _) if rule.when.is_some() => continue,
                (Decoder::Ignore, _) => return None,
                (_, None) | (Decoder::Availability, _) => None,
                (Decoder::Json, Some(path)) => {
                    let root = rule.root.trim_start_matches('/').replace('/', ".");
                    let below = match path.strip_prefix(&root) {
                        Some(rest) if root.is_empty() => rest,
                        Some(rest) => rest.strip_prefix('.')?,
                        None => return None,
                    };
                    let kept = !below.is_empty() && !compiled.ignore.matches(below);
                    let prefix = &found.attribute;
                    let is_state = !compiled.actions.matches(below);
                    kept.then(|| match prefix.is_empty() || !is_state {
                        true => below.to_owned(),
                        false => format!("{prefix}.{below}"),
                    })
                }
                (Decoder::Scalar | Decoder::Action, Some(path)) => {
                    path.is_empty().then(|| found.attribute.clone())
                }
            };
            let matched = RuleMatch {
                rule: found.rule,
                device: self.known(source, self.namespace(source, found.rule), &found.device),
                device_name: found.device.into(),
                attribute: found.attribute.into(),
                shape: Vec::new(),
            };
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
