//! A source for the observer: its rules and policies, prepared once.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use fieldlog_projections::{AttributeDescription, DeviceDescription, ValueRef};

use super::keep_alive::KeepAlives;
use super::namespaces::{Namespace, Namespaces};
use super::outcomes::Outcomes;
use super::redact::Secrets;
use super::topics::Topic;
use crate::config::rules::{RuleError, Rules};
use crate::config::{ActionFields, Describe, Policy, Rule, SourceConfig, Subject, Test};
use fieldlog_projections::pattern::{PatternError, Patterns};
use fieldlog_rules::decode::{JsonRule, Types, Zone};

/// The configuration of a source, and what is known of its topics.
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
    pub(super) keep_alives: KeepAlives,
    pub(super) outcomes: Arc<Outcomes>,
    /// All redactions of its rules, for payloads that no rule could read.
    pub(super) secrets: Secrets,
}

/// A rule, prepared once.
#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) rule: Rule,
    pub(super) json: JsonRule,
    /// Only messages that the broker had kept, or only others.
    pub(super) retained: Option<bool>,
    actions: Patterns,
    /// All actions are fired as one.
    together: bool,
    pub(super) types: Types,
    only: Patterns,
    ignore: Patterns,
    pub(super) secrets: Secrets,
}

/// A policy with its patterns.
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
            compiled: compile(&config.rules, |index, rule| CompiledRule::new(index, rule, &config.redact))?,
            namespaces: config.rules.iter().map(namespace).collect(),
            policies: compile(&config.policies, CompiledPolicy::new)?,
            describe: compile(&config.describe, CompiledDescribe::new)?,
            silence: config.silence_timeout.map(|t| t.as_micros() as i64),
            topics: HashMap::new(),
            keep_alives: KeepAlives::default(),
            secrets: secrets(0, config.rules.iter().flat_map(|rule| &rule.redact).chain(&config.redact))?,
            outcomes,
        })
    }
}

impl CompiledRule {
    fn new(index: usize, rule: &Rule, redact: &[String]) -> Result<CompiledRule, RuleError> {
        Ok(CompiledRule {
            json: JsonRule::new(rule, Zone::system()).map_err(|cause| fault(index, "when", cause))?,
            retained: retained(rule),
            actions: patterns(index, "actions", &rule.actions)?,
            together: rule.action_fields == ActionFields::Together,
            types: Types::new(&rule.types).map_err(|cause| fault(index, "types", cause))?,
            only: patterns(index, "only", &rule.only)?,
            ignore: patterns(index, "ignore", &rule.ignore)?,
            secrets: secrets(index, rule.redact.iter().chain(redact))?,
            rule: rule.clone(),
        })
    }
}

impl CompiledRule {
    /// Whether an attribute of a document is state. The counter of its actions is, whatever else is said of it.
    pub(super) fn keeps(&self, path: &str) -> bool {
        self.json.is_counter(path)
            || (self.only.is_empty() || self.only.matches(path))
                && !self.actions.matches(path)
                && !self.ignore.matches(path)
    }

    /// Whether a value of a document must not be kept.
    pub(super) fn is_secret(&self, prefix: &str, path: &str, value: ValueRef<'_>) -> bool {
        !self.secrets.is_empty() && self.secrets.has(path, &self.attribute(prefix, path), value)
    }

    /// Whether an attribute of a document is an action of its own.
    pub(super) fn fires(&self, path: &str) -> bool {
        !self.together && self.actions.matches(path) && !self.ignore.matches(path)
    }

    /// The path in a document of the attribute that has this name.
    pub(super) fn path<'n>(&self, prefix: &str, name: &'n str) -> Option<Cow<'n, str>> {
        let own = match name.strip_prefix(prefix)? {
            rest if prefix.is_empty() || rest.is_empty() => rest,
            rest => rest.strip_prefix('.')?,
        };
        let renamed = self.rule.rename.iter().find_map(|rename| {
            let rest = own.strip_prefix(rename.to.as_str())?;
            (rest.is_empty() || rest.starts_with('.')).then(|| format!("{}{rest}", rename.from))
        });
        let path = renamed.map_or(Cow::Borrowed(own), Cow::Owned);
        (self.attribute(prefix, &path) == name).then_some(path)
    }

    /// The name of an attribute of a document.
    pub(super) fn attribute<'n>(&self, prefix: &'n str, path: &'n str) -> Cow<'n, str> {
        let renamed = self.rule.rename.iter().find_map(|rename| {
            let rest = path.strip_prefix(rename.from.as_str())?;
            (rest.is_empty() || rest.starts_with('.')).then(|| format!("{}{rest}", rename.to))
        });
        match (prefix, renamed.map_or(Cow::Borrowed(path), Cow::Owned)) {
            ("", name) => name,
            (prefix, name) if name.is_empty() => Cow::Borrowed(prefix),
            (prefix, name) => Cow::Owned(format!("{prefix}.{name}")),
        }
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

/// A configured description with its patterns.
#[derive(Debug)]
pub(super) struct CompiledDescribe {
    pub(super) devices: Patterns,
    /// `None`: it describes the devices themselves.
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

fn retained(rule: &Rule) -> Option<bool> {
    rule.when.iter().find_map(|when| match (&when.subject, &when.test) {
        (Subject::Retained, Test::Exists(kept)) => Some(*kept),
        _ => None,
    })
}

fn secrets<'a>(index: usize, texts: impl Iterator<Item = &'a String>) -> Result<Secrets, RuleError> {
    let mut texts: Vec<&str> = texts.map(String::as_str).collect();
    texts.sort_unstable();
    texts.dedup();
    Secrets::new(&texts).map_err(|cause| fault(index, "redact", cause))
}

fn patterns(index: usize, field: &'static str, texts: &[String]) -> Result<Patterns, RuleError> {
    Patterns::parse(texts).map_err(|cause| fault(index, field, cause))
}

fn fault(index: usize, field: &'static str, cause: PatternError) -> RuleError {
    RuleError { index, field, text: cause.text.clone(), cause: cause.into() }
}
