//! The rules of one source, compiled: which rule takes a topic, and which device and attribute it is about.

use crate::config::{Decoder, Rule, SourceConfig};
use crate::topic::{Captures, Pattern, Template, TemplateError, check_filter, filter_covers, filter_matches};

/// The compiled rules and exclusions of one source.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Vec<Compiled>,
    exclude: Vec<String>,
}

#[derive(Clone, Debug)]
struct Compiled {
    template: Template,
    device: Pattern,
    attribute: Pattern,
    qos: u8,
    ignore: bool,
}

/// One rule that takes a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Index in [`SourceConfig::rules`].
    pub rule: usize,
    /// The device's id; empty for [`Decoder::Ignore`].
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
                cause,
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

    /// The filters to subscribe to, with the QoS of each. A broker may send a message once for each overlapping
    /// subscription, so that a filter whose topics another one brings is left out; rules that only ignore need none.
    pub fn filters(&self) -> Vec<(String, u8)> {
        let mut filters: Vec<(String, u8)> = Vec::new();
        for rule in self.rules.iter().filter(|rule| !rule.ignore) {
            add_filter(&mut filters, rule.template.filter(), rule.qos);
        }
        filters
    }
}

fn compile(index: usize, rule: &Rule) -> Result<Compiled, RuleError> {
    let fault = |field, text: &String| {
        let text = text.clone();
        move |cause| RuleError { index, field, text, cause }
    };
    let template = Template::parse(&rule.topic).map_err(fault("topic", &rule.topic))?;
    let device = template.pattern(&rule.device).map_err(fault("device", &rule.device))?;
    let attribute = template.pattern(&rule.attribute).map_err(fault("attribute", &rule.attribute))?;
    if device.is_empty() && rule.decoder != Decoder::Ignore {
        return Err(fault("device", &rule.device)(TemplateError::Empty));
    }
    Ok(Compiled { template, device, attribute, qos: rule.qos, ignore: rule.decoder == Decoder::Ignore })
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
    /// Index of the rule; 0 if the fault is in `exclude`.
    pub index: usize,
    /// The field at fault.
    pub field: &'static str,
    /// What it says.
    pub text: String,
    /// What is wrong with it.
    pub cause: TemplateError,
}
