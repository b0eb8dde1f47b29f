//! Devices as commands see them, and what they can be told.

use std::collections::BTreeSet;

use fieldlog_projections::{AttributeDescription, Described, Device, DeviceId, View};

use super::rejected::{Code, Rejected};
use super::sparkplug::{self, Metric};
use super::value::{to_json, word_of};
use crate::config::{CommandRule, Config, EvidenceKind, SourceConfig};
use fieldlog_projections::pattern::Patterns;
use fieldlog_rules::topic::{Captures, Template};

/// A device as commands see it.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Its number.
    pub id: DeviceId,
    pub(super) device: &'a Device,
    pub(super) view: &'a View,
    pub(super) source: &'a SourceConfig,
}

/// Something that a device can be told.
#[derive(Clone, Debug)]
pub struct Declared<'a> {
    /// The block that says so.
    pub rule: &'a CommandRule,
    /// The attribute, or the operation.
    pub name: String,
    /// What its values must be; of the block, and where that says nothing, of the device.
    pub value: AttributeDescription,
    /// The attribute that is meant; empty for an operation that is for none.
    pub(super) attribute: String,
    pub(super) star: String,
    pub(super) metric: Option<Metric<'a>>,
    /// The topic of another block that could as well be meant.
    pub(super) rival: Option<&'a str>,
}

/// The device of this id, if there is one; the id may be one that it had before.
pub fn device<'a>(view: &'a View, name: &str) -> Option<(DeviceId, &'a Device)> {
    view.devices.find_ever(name)
}

impl<'a> Target<'a> {
    /// A device with the source that leads to it.
    ///
    /// # Errors
    /// [`Rejected`] if there is no such device, or none any more, or its source is not configured.
    pub fn find(config: &'a Config, view: &'a View, name: &str) -> Result<Target<'a>, Rejected> {
        let missing = || Rejected::new(Code::NoSuchDevice, format!("there is no device `{name}`"));
        let (id, device) = device(view, name).ok_or_else(missing)?;
        if device.retired {
            let reason =
                format!("device `{name}` is retired; it cannot be told anything until it is heard again");
            return Err(Rejected::new(Code::NoSuchDevice, reason));
        }
        let mut sources = config.sources.iter().filter(|source| !source.is_removed());
        let source = sources.find(|source| source.name == *device.source).ok_or_else(|| {
            let reason = format!(
                "device `{name}` was last seen on source `{}`, which is not in the configuration",
                device.source
            );
            Rejected::new(Code::Unreachable, reason)
        })?;
        Ok(Target { id, device, view, source })
    }

    /// The id of the device.
    pub fn name(&self) -> &'a str {
        &self.device.name
    }

    /// Name of its source.
    pub fn source(&self) -> &'a str {
        &self.source.name
    }

    /// All that it can be told: attributes by name, then operations.
    pub fn declared(&self) -> Vec<Declared<'a>> {
        let mut all = self.candidates();
        all.retain(|declared| declared.rival.is_none());
        all
    }

    /// The same, with what cannot be told because two blocks are for it.
    pub(super) fn candidates(&self) -> Vec<Declared<'a>> {
        let devices = &self.view.devices;
        let reported = self.device.attributes.iter().filter_map(|a| devices.attribute_name(a.id));
        let described = self.view.descriptions.get(self.id);
        let announced = described.into_iter().flat_map(Described::attributes);
        let announced = announced.filter_map(|attr| devices.attribute_name(attr));
        let mut names: Vec<&str> = reported.chain(announced).collect();
        names.sort_unstable();
        names.dedup();
        let mut all: Vec<Declared<'a>> = names.iter().filter_map(|name| self.attribute(name)).collect();
        let mut known = BTreeSet::new();
        let operations = self.source.commands.iter().filter(|rule| rule.is_operation());
        for declared in operations.flat_map(|rule| self.operations(rule, &names)) {
            if known.insert(declared.name.clone()) {
                all.push(declared);
            }
        }
        all
    }

    /// What a block for operations lets the device do.
    fn operations(&self, rule: &'a CommandRule, names: &[&str]) -> Vec<Declared<'a>> {
        if rule.of.is_empty() {
            return self
                .is_for(rule, "")
                .then(|| self.make(rule, "", "", AttributeDescription::default()))
                .into_iter()
                .collect();
        }
        let of = names.iter().filter_map(|name| {
            let (star, _) = self.matching(rule, &rule.of, name)?;
            Some(self.make(rule, name, star, AttributeDescription::default()))
        });
        of.collect()
    }

    /// What setting this attribute is, if it can be set.
    pub(super) fn attribute(&self, name: &str) -> Option<Declared<'a>> {
        let rules = self.source.commands.iter().filter(|rule| !rule.is_operation());
        let mut found = rules.filter_map(|rule| Some((rule, self.matching(rule, &rule.attribute, name)?)));
        match found.next() {
            Some((rule, (star, description))) => Some(self.make(rule, name, star, description)),
            None => self.metric(name),
        }
    }

    /// A metric of a Sparkplug edge node or device. The birth says what there is; no block is needed.
    fn metric(&self, name: &str) -> Option<Declared<'a>> {
        self.source.sparkplug.as_ref().filter(|host| host.commands)?;
        let attr = self.view.devices.attribute_named(name)?;
        let metric = Metric::find(self.view, self.id, self.device.called(), attr)?;
        let description = self.description(name);
        (description.writable != Some(false)).then(|| Declared {
            rule: sparkplug::rule(),
            name: name.to_owned(),
            value: metric.description().or(description),
            attribute: name.to_owned(),
            star: String::new(),
            metric: Some(metric),
            rival: None,
        })
    }

    fn make(
        &self,
        rule: &'a CommandRule,
        attribute: &str,
        star: &str,
        description: AttributeDescription,
    ) -> Declared<'a> {
        let (rule, rival) = self.settle(rule, attribute);
        let name = match rule.is_operation() {
            true => rule.operation.replace("{attribute}", attribute).replace("{*}", star),
            false => attribute.to_owned(),
        };
        Declared {
            rule,
            name,
            value: of_rule(rule).or(description),
            attribute: attribute.to_owned(),
            star: star.to_owned(),
            metric: None,
            rival,
        }
    }

    /// Of blocks that differ only in where they publish, as those of a preset do that is there twice, the one whose prefix
    /// says most of the device; and the topic of another one that says as much.
    fn settle(&self, rule: &'a CommandRule, attribute: &str) -> (&'a CommandRule, Option<&'a str>) {
        let alike = |other: &&CommandRule| is_alike(rule, other) && self.is_for(other, attribute);
        let alike: Vec<&CommandRule> = self.source.commands.iter().filter(alike).collect();
        let longest = alike.iter().map(|other| other.device_prefix.len()).max();
        let mut best = alike.into_iter().filter(|other| Some(other.device_prefix.len()) == longest);
        let first = best.next().unwrap_or(rule);
        (first, best.find(|other| other.topic != first.topic).map(|other| other.topic.as_str()))
    }

    fn description(&self, attribute: &str) -> AttributeDescription {
        let attr = self.view.devices.attribute_named(attribute);
        let described = attr.zip(self.view.descriptions.get(self.id));
        described.map(|(attr, described)| described.attribute(attr)).unwrap_or_default()
    }

    /// Whether the device reports or announces an attribute.
    fn has(&self, name: &str) -> bool {
        let Some(attr) = self.view.devices.attribute_named(name) else { return false };
        let described =
            || self.view.descriptions.get(self.id).is_some_and(|all| all.attributes().contains(&attr));
        self.device.attributes.iter().any(|slot| slot.id == attr) || described()
    }

    /// Whether a block is for an attribute: what the `*` of its pattern stands for, and what the device announces. A block
    /// that names an attribute, and does not wait for its report, knows better what the device has.
    fn matching<'n>(
        &self,
        rule: &CommandRule,
        pattern: &str,
        name: &'n str,
    ) -> Option<(&'n str, AttributeDescription)> {
        let star = star(pattern, name)?;
        let excepted = Patterns::parse(&rule.except).is_ok_and(|except| except.matches(name));
        let description = self.description(name);
        let announced = !rule.announced || description.writable == Some(true);
        let known = || !pattern.contains('*') && rule.evidence != EvidenceKind::Reported || self.has(name);
        (!excepted && announced && self.is_for(rule, name) && known()).then_some((star, description))
    }

    /// The namespaces of a block that would be for this if they were the same, and of the device.
    pub(super) fn in_other_namespace(&self, name: &str, operation: bool) -> Option<(&'a str, &'a str)> {
        let fits = |rule: &&CommandRule| {
            let pattern = if operation { &rule.operation } else { &rule.attribute };
            let announced = || !rule.announced || self.description(name).writable == Some(true);
            !self.is_ours(rule)
                && rule.is_operation() == operation
                && star(pattern, name).is_some()
                && announced()
                && self.fits(rule, name)
        };
        let rule = self.source.commands.iter().find(fits)?;
        Some((rule.namespace.as_deref().unwrap_or(&self.source.name), self.device.namespace()?))
    }

    fn is_for(&self, rule: &CommandRule, attribute: &str) -> bool {
        self.is_ours(rule) && self.fits(rule, attribute)
    }

    /// Whether a block is for devices of this one's namespace.
    fn is_ours(&self, rule: &CommandRule) -> bool {
        let namespace = rule.namespace.as_deref().unwrap_or(&self.source.name);
        self.device.namespace().is_none_or(|own| own == namespace)
    }

    /// Whether what a block asks of a device, apart from its namespace, is so.
    fn fits(&self, rule: &CommandRule, attribute: &str) -> bool {
        let called = self.device.called();
        let named = || {
            Patterns::parse(&rule.devices)
                .is_ok_and(|patterns| patterns.matches(&self.device.name) || patterns.matches(called))
        };
        let Some(called_there) = called.strip_prefix(rule.device_prefix.as_str()) else { return false };
        let shaped = || {
            rule.device.is_empty()
                || Template::parse(&rule.device)
                    .is_ok_and(|template| template.matches(called_there, &mut Captures::default()))
        };
        let meets = |(name, patterns): (&String, &Vec<String>)| {
            let value = self.says(&name.replace("{attribute}", attribute));
            value
                .is_some_and(|value| Patterns::parse(patterns).is_ok_and(|patterns| patterns.matches(&value)))
        };
        named() && shaped() && rule.conditions.iter().all(meets)
    }

    /// What a device says under a name of `where`.
    fn says(&self, name: &str) -> Option<String> {
        if name.starts_with('$') {
            let description = self.view.descriptions.get(self.id)?.device();
            return match name {
                "$model" => Some(description.model),
                "$manufacturer" => Some(description.manufacturer),
                "$stable_id" => Some(description.stable_id),
                _ => None,
            };
        }
        let attr = self.view.devices.attribute_named(name)?;
        let slot = self.device.attributes.iter().find(|slot| slot.id == attr)?;
        Some(word_of(&to_json(slot.value.borrow())))
    }
}

/// Whether two blocks say the same, except where it is published.
fn is_alike(a: &CommandRule, b: &CommandRule) -> bool {
    (&a.attribute, &a.operation, &a.of, &a.payload) == (&b.attribute, &b.operation, &b.of, &b.payload)
        && (&a.devices, &a.conditions, &a.except, &a.namespace)
            == (&b.devices, &b.conditions, &b.except, &b.namespace)
        && (a.announced, a.data_type, &a.values, &a.reports)
            == (b.announced, b.data_type, &b.values, &b.reports)
}

fn of_rule(rule: &CommandRule) -> AttributeDescription {
    AttributeDescription {
        unit: rule.unit.clone(),
        data_type: rule.data_type,
        min: rule.min,
        max: rule.max,
        values: rule.values.clone(),
        ..AttributeDescription::default()
    }
}

/// What the `*` of a pattern stands for in a name; empty if it has none.
fn star<'n>(pattern: &str, name: &'n str) -> Option<&'n str> {
    match pattern.split_once('*') {
        None => (pattern == name).then_some(""),
        Some((head, tail)) => name.strip_prefix(head)?.strip_suffix(tail),
    }
}

impl Declared<'_> {
    /// Whether it takes a value.
    pub fn takes_value(&self) -> bool {
        self.rule.takes_value()
    }
}
