//! The compiled rules of one source: which rule takes a topic, and which device and attribute it is about.

use crate::config::{Decoder, Rule, Shape, SourceConfig, Subject, Test};
use fieldlog_projections::pattern::{PatternError, Patterns};
use fieldlog_rules::topic::{
    Captures, Name, Pattern, Template, TemplateError, check_filter, filter_covers, filter_matches,
};

/// The compiled rules and exclusions of one source.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Compiled>,
    exclude: Vec<String>,
}

#[derive(Clone, Debug)]
struct Compiled {
    template: Template,
    conditions: Vec<Condition>,
    devices: Vec<Pattern>,
    attribute: Pattern,
    parent: Option<Pattern>,
    keep_alive: Option<Pattern>,
}

/// A condition on a capture.
#[derive(Clone, Debug)]
struct Condition {
    capture: usize,
    patterns: Patterns,
    equals: Option<String>,
    /// Whether it must match one of them, or none.
    wanted: bool,
}

impl Condition {
    fn holds(&self, captures: &Captures<'_>) -> bool {
        let text = captures.values().get(self.capture).copied().unwrap_or_default();
        let one = self.equals.as_deref().map_or_else(|| self.patterns.matches(text), |equals| equals == text);
        one == self.wanted
    }
}

/// One rule that takes a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchedRule {
    /// Index in [`SourceConfig::rules`].
    pub rule: usize,
    /// The device's name: the first with all of its parts. Empty for [`Decoder::Ignore`] and [`Decoder::Announcement`].
    pub devices: Vec<Name>,
    /// The attribute, or the prefix of the attributes.
    pub attribute: Name,
    /// The device whose being offline makes this one offline.
    pub parent: Option<String>,
    /// The topic for keeping the devices alive.
    pub keep_alive: Option<Name>,
}

impl Rules {
    /// Compiles the rules of a source. Always succeeds for a source that passed the configuration's checks.
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

    /// The rules for a topic, in order. The first one decides, unless its `when` passes the document on to the next, or
    /// `also` lets others have it. Empty if the topic is excluded.
    pub fn find<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = MatchedRule> + use<'a> {
        let rules = if self.excluded(topic) { &[] } else { self.rules.as_slice() };
        let mut captures = Captures::default();
        rules.iter().enumerate().filter_map(move |(rule, compiled)| {
            let takes = compiled.template.matches(topic, &mut captures);
            if !takes || !compiled.conditions.iter().all(|condition| condition.holds(&captures)) {
                return None;
            }
            let devices = compiled.devices.iter().map(|device| device.expand(&captures)).collect();
            let keep_alive = compiled.keep_alive.as_ref().map(|topic| topic.expand(&captures));
            let parent = compiled
                .parent
                .as_ref()
                .and_then(|parent| Some(parent.expand(&captures).fixed()?.to_owned()));
            Some(MatchedRule {
                rule,
                devices,
                attribute: compiled.attribute.expand(&captures),
                parent,
                keep_alive,
            })
        })
    }

    /// Whether `exclude` names the topic.
    pub fn excluded(&self, topic: &str) -> bool {
        self.exclude.iter().any(|filter| filter_matches(filter, topic))
    }
}

/// The filters to subscribe to, with the QoS of each. A broker may send a message once for each overlapping
/// subscription, so a filter covered by another is left out; rules that only ignore need none. Rules that passed the
/// configuration's checks have a filter each.
pub fn filters(rules: &[Rule]) -> Vec<(String, u8)> {
    filters_after(Vec::new(), rules)
}

/// The same, after filters that are needed in any case.
pub fn filters_after(first: Vec<(String, u8)>, rules: &[Rule]) -> Vec<(String, u8)> {
    let mut filters: Vec<(String, u8)> = Vec::new();
    for (filter, qos) in first {
        add_filter(&mut filters, filter, qos);
    }
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
    let device = |text: &String| template.pattern(text).map_err(fault("device", text));
    let devices: Vec<Pattern> = rule.device.iter().map(device).collect::<Result<_, _>>()?;
    let attribute = template.pattern(&rule.attribute).map_err(fault("attribute", &rule.attribute))?;
    let nameless = matches!(rule.decoder, Decoder::Ignore | Decoder::Announcement(_));
    if !nameless && (devices.is_empty() || devices.iter().any(Pattern::is_empty)) {
        return Err(fault("device", &String::new())(TemplateError::Empty));
    }
    let conditions = conditions(index, rule, &template)?;
    let parent = rule.parent.as_ref().map(|parent| template.pattern(parent).map_err(fault("parent", parent)));
    let parent = parent.transpose()?;
    let keep_alive = rule.keep_alive.as_ref().map(|keep_alive| &keep_alive.topic);
    let keep_alive =
        keep_alive.map(|topic| template.pattern(topic).map_err(fault("keep_alive", topic))).transpose()?;
    Ok(Compiled { template, conditions, devices, attribute, parent, keep_alive })
}

/// The conditions in `when` on the topic.
fn conditions(index: usize, rule: &Rule, template: &Template) -> Result<Vec<Condition>, RuleError> {
    let mut conditions = Vec::new();
    for when in &rule.when {
        let Subject::Capture(name) = &when.subject else { continue };
        let fault = |cause: RuleFault| RuleError { index, field: "when", text: name.clone(), cause };
        let known = template.captures().iter().position(|known| known == name);
        let capture = known.ok_or_else(|| {
            fault(TemplateError::Unknown { name: name.clone(), known: template.captures().to_vec() }.into())
        })?;
        let (equals, texts, wanted) = match &when.test {
            Test::Equals(text) => (Some(text.clone()), [].as_slice(), true),
            Test::In(texts) => (None, texts.as_slice(), true),
            Test::NotIn(texts) => (None, texts.as_slice(), false),
            // A capture always exists and is text.
            Test::Exists(exists) => (None, [].as_slice(), !exists),
            Test::Is(shape) => (None, [].as_slice(), *shape != Shape::Value),
        };
        let patterns = Patterns::parse(texts).map_err(|error| fault(error.into()))?;
        conditions.push(Condition { capture, patterns, equals, wanted });
    }
    Ok(conditions)
}

/// Keeps `filters` free of filters covered by another one. The wider one gets the higher QoS of the two.
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

/// A rule that does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} \"{text}\" cannot be used: {cause}")]
pub struct RuleError {
    /// Index of the rule, or of the policy; 0 if the fault is in `exclude`.
    pub index: usize,
    /// The field at fault.
    pub field: &'static str,
    /// The invalid text.
    pub text: String,
    /// The fault.
    pub cause: RuleFault,
}

/// The fault of a rule's field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// A topic, or a name built from its captures.
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
