//! A source as the observer needs it: rules and policies with all that can be prepared once.

use std::collections::HashMap;
use std::sync::Arc;

use fieldlog_projections::{AttributeDescription, DeviceDescription};

use super::identity::{Namespace, Namespaces};
use super::outcomes::Outcomes;
use super::topics::Topic;
use crate::config::rules::{RuleError, Rules};
use crate::config::{Describe, Policy, Rule, SourceConfig};
use crate::decode::{JsonRule, Zone};
use crate::pattern::{PatternError, Patterns};

/// What the configuration says about a source, and what is known of its topics.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: Box<str>,
    pub(super) rules: Rules,
    pub(super) compiled: Vec<CompiledRule>,
    /// The namespace of each rule.
    pub(super) namespaces: Vec<Namespace>,
    pub(super) policies: Vec<CompiledPolicy>,
    pub(super) describe: Vec<CompiledDescribe>,
    /// A device is silent after this time, in microseconds.
    pub(super) silence: Option<i64>,
    pub(super) topics: HashMap<Box<[u8]>, Topic>,
    pub(super) outcomes: Arc<Outcomes>,
}

/// A rule with all that can be prepared once.
#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) rule: Rule,
    pub(super) json: JsonRule,
    pub(super) actions: Patterns,
    pub(super) ignore: Patterns,
}

/// A policy and the names it holds for.
#[derive(Debug)]
pub(super) struct CompiledPolicy {
    pub(super) policy: Policy,
    pub(super) devices: Patterns,
    pub(super) attributes: Patterns,
}

impl Source {
    pub(super) fn new(
        config: &SourceConfig,
        outcomes: Arc<Outcomes>,
        namespaces: &mut Namespaces,
    ) -> Result<Source, RuleError> {
        let namespace = |rule: &Rule| namespaces.number(rule.namespace.as_deref().unwrap_or(&config.name));
        Ok(Source {
            name: config.name.as_str().into(),
            rules: Rules::compile(config)?,
            compiled: compile(&config.rules, CompiledRule::new)?,
            namespaces: config.rules.iter().map(namespace).collect(),
            policies: compile(&config.policies, CompiledPolicy::new)?,
            describe: compile(&config.describe, CompiledDescribe::new)?,
            silence: config.silence_timeout.map(|t| t.as_micros() as i64),
            topics: HashMap::new(),
            outcomes,
        })
    }
}

impl CompiledRule {
    fn new(index: usize, rule: &Rule) -> Result<CompiledRule, RuleError> {
        Ok(CompiledRule {
            json: JsonRule::new(rule, Zone::system()),
            actions: patterns(index, "actions", &rule.actions)?,
            ignore: patterns(index, "ignore", &rule.ignore)?,
            rule: rule.clone(),
        })
    }
}

impl CompiledPolicy {
    fn new(index: usize, policy: &Policy) -> Result<CompiledPolicy, RuleError> {
        Ok(CompiledPolicy {
            devices: patterns(index, "devices", &policy.devices)?,
            attributes: patterns(index, "attributes", &policy.attributes)?,
            policy: policy.clone(),
        })
    }
}

/// What the operator says, and the names it is about.
#[derive(Debug)]
pub(super) struct CompiledDescribe {
    pub(super) devices: Patterns,
    /// `None`: it is about the devices themselves.
    pub(super) attributes: Option<Patterns>,
    pub(super) device: DeviceDescription,
    pub(super) attribute: AttributeDescription,
}

impl CompiledDescribe {
    fn new(index: usize, describe: &Describe) -> Result<CompiledDescribe, RuleError> {
        let Describe { name, area, model, manufacturer, unit, device_class, .. } = describe.clone();
        let of = |texts: &Vec<String>| patterns(index, "attributes", texts);
        Ok(CompiledDescribe {
            devices: patterns(index, "devices", &describe.devices)?,
            attributes: describe.attributes.as_ref().map(of).transpose()?,
            device: DeviceDescription {
                stable_id: String::new(),
                name: name.clone(),
                model,
                manufacturer,
                area,
            },
            attribute: AttributeDescription { name, unit, device_class, ..AttributeDescription::default() },
        })
    }
}

fn compile<T, C>(
    items: &[T],
    compile: impl Fn(usize, &T) -> Result<C, RuleError>,
) -> Result<Vec<C>, RuleError> {
    items.iter().enumerate().map(|(index, item)| compile(index, item)).collect()
}

fn patterns(index: usize, field: &'static str, texts: &[String]) -> Result<Patterns, RuleError> {
    let fault =
        |cause: PatternError| RuleError { index, field, text: cause.text.clone(), cause: cause.into() };
    Patterns::parse(texts).map_err(fault)
}
