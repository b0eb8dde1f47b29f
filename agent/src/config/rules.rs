//! The rules of one source, compiled: which rule takes a topic, and which device and attribute it is about.

use crate::config::{Decoder, Rule, SourceConfig};
use crate::pattern::PatternError;
use crate::topic::{Captures, Pattern, Template, TemplateError, check_filter, filter_covers, filter_matches};

/// The compiled rules and exclusions of one source.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Compiled>,
    exclude: Vec<String>,
}

#[derive(Clone, Debug)]
struct Compiled {
    template: Template,
    device: Pattern,
    attribute: Pattern,
}

/// One rule that takes a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Index in [`SourceConfig::rules`].
    pub rule: usize,
    /// The device's id; empty for [`Decoder::Ignore`] and [`Decoder::Announcement`].
    pub device: String,
    /// The attribute, or the prefix of the attributes.
    pub attribute: String,
}

impl Rules {
    /// Compiles the rules of a source. A source that passed the configuration's checks compiles.
    pub fn compile(source: &SourceConfig) -> Result<Rules, RuleError> {
        for filter in &source.exclude {
            check_filter(filter).map_err(|cause| RuleError {
                index: 0,
                field: "exclude",
                text: filter.clone(),
                cause: cause.into(),
            })?;
        }
        let rules = source.rules.iter().enumerate().map(|(index, rule)| compile(index, rule));
        Ok(Rules { rules: rules.collect::<Result<_, _>>()?, exclude: source.exclude.clone() })
    }

    /// The rules that take a topic, in order; the first one decides, unless its `when` passes the document on to the
    /// next. Nothing if the topic is excluded.
    pub fn find<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = Found> + use<'a> {
        let rules = if self.excluded(topic) { &[] } else { self.rules.as_slice() };
        let mut captures = Captures::default();
        rules.iter().enumerate().filter_map(move |(rule, compiled)| {
            if !compiled.template.matches(topic, &mut captures) {
                return None;
            }
            let device = compiled.device.expand(&captures);
            Some(Found { rule, device, attribute: compiled.attribute.expand(&captures) })
        })
    }

    /// Whether `exclude` names the topic.
    pub fn excluded(&self, topic: &str) -> bool {
        self.exclude.iter().any(|filter| filter_matches(filter, topic))
    }
}

/// The filters to subscribe to, with the QoS of each. A broker may send a message once for each overlapping subscription,
/// so that a filter whose topics another one brings is left out; rules that only ignore need none. Rules that passed the
/// configuration's checks have a filter each.
pub fn filters(rules: &[Rule]) -> Vec<(String, u8)> {
    let mut filters: Vec<(String, u8)> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.decoder != Decoder::Ignore) {
        if let Ok(template) = Template::parse(&rule.topic) {
            add_filter(&mut filters, template.filter(), rule.qos);
        }
    }
    filters
}

fn compile(index: usize, rule: &Rule) -> Result<Compiled, RuleError> {
    let fault = |field, text: &String| {
        let text = text.clone();
        move |cause: TemplateError| RuleError { index, field, text, cause: cause.into() }
    };
    let template = Template::parse(&rule.topic).map_err(fault("topic", &rule.topic))?;
    let device = template.pattern(&rule.device).map_err(fault("device", &rule.device))?;
    let attribute = template.pattern(&rule.attribute).map_err(fault("attribute", &rule.attribute))?;
    if device.is_empty() && !matches!(rule.decoder, Decoder::Ignore | Decoder::Announcement(_)) {
        return Err(fault("device", &rule.device)(TemplateError::Empty));
    }
    Ok(Compiled { template, device, attribute })
}

/// Keeps `filters` free of filters that another one covers. The wider one gets the higher QoS of the two.
fn add_filter(filters: &mut Vec<(String, u8)>, filter: String, qos: u8) {
    if let Some((_, known)) = filters.iter_mut().find(|(outer, _)| filter_covers(outer, &filter)) {
        *known = qos.max(*known);
        return;
    }
    let covered = filters.iter().filter(|(inner, _)| filter_covers(&filter, inner));
    let qos = covered.map(|&(_, qos)| qos).fold(qos, u8::max);
    filters.retain(|(inner, _)| !filter_covers(&filter, inner));
    filters.push((filter, qos));
}

/// A rule that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} \"{text}\" cannot be used: {cause}")]
pub struct RuleError {
    /// Index of the rule, or of the policy; 0 if the fault is in `exclude`.
    pub index: usize,
    /// The field at fault.
    pub field: &'static str,
    /// What it says.
    pub text: String,
    /// What is wrong with it.
    pub cause: RuleFault,
}

/// What is wrong with a field of a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// A topic, or a name made of its captures.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A pattern of names.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(topic: &str, qos: u8) -> Rule {
        Rule { qos, ..crate::ingest::tests::rule(topic) }
    }

    fn check(rules: &[(&str, u8)], expected: &[(&str, u8)]) {
        let rules: Vec<_> = rules.iter().map(|(topic, qos)| rule(topic, *qos)).collect();
        let expected: Vec<_> = expected.iter().map(|(filter, qos)| ((*filter).to_owned(), *qos)).collect();
        assert_eq!(filters(&rules), expected);
    }

    #[test]
    fn captures_become_wildcards() {
        check(&[("zigbee2mqtt/+device", 1)], &[("zigbee2mqtt/+", 1)]);
        check(&[("+/x/#", 0)], &[("+/x/#", 0)]);
        check(&[("#device/availability", 1)], &[("#", 1)]);
        check(&[("tele/#device/SENSOR", 1)], &[("tele/#", 1)]);
        check(&[("/+device//x", 1)], &[("/+//x", 1)]);
    }

    #[test]
    fn a_filter_inside_another_is_left_out() {
        check(&[("a/+d", 1), ("a/b", 1), ("a/+e", 1)], &[("a/+", 1)]);
        check(&[("a/b/c", 1), ("a/#r", 1), ("a", 0)], &[("a/#", 1)]);
        check(&[("+a/+b", 1), ("+a/+b/+c", 1)], &[("+/+", 1), ("+/+/+", 1)]);
        check(&[("a/+x", 0), ("a/#", 0)], &[("a/#", 0)]);
    }

    #[test]
    fn the_filter_that_stays_has_the_highest_qos() {
        check(&[("a/#", 0), ("a/b", 1)], &[("a/#", 1)]);
        check(&[("a/b", 1), ("a/#", 0)], &[("a/#", 1)]);
        check(&[("a/b", 0), ("a/b", 1)], &[("a/b", 1)]);
    }

    #[test]
    fn what_is_only_ignored_is_not_subscribed_to() {
        let ignored = Rule { decoder: Decoder::Ignore, ..rule("a/b", 1) };
        assert_eq!(filters(&[ignored, rule("a/c", 0)]), [("a/c".to_owned(), 0)]);
    }

    #[test]
    fn neighbours_stay() {
        check(
            &[("a/b", 1), ("a/c", 1), ("ab/#", 1), ("a/+/c", 1)],
            &[("a/b", 1), ("a/c", 1), ("ab/#", 1), ("a/+/c", 1)],
        );
        check(&[("#", 1), ("$SYS/broker/#", 1)], &[("#", 1), ("$SYS/broker/#", 1)]);
        check(&[("+/#", 1), ("a", 1)], &[("+/#", 1)]);
    }
}
