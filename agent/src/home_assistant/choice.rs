//! Which devices are announced.

use fieldlog_projections::pattern::Patterns;
use fieldlog_projections::{DescribedBy, Descriptions, Device, DeviceId};

use crate::config::{Config, HomeAssistantConfig, Rule, SourceConfig};

/// What the preset `homeassistant-statestream` makes of a topic.
const ENTITY: (&str, &str) = ("/+domain/+entity/state", "{domain}.{entity}");

/// Which devices are announced. Those that Home Assistant has from the same broker already are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    patterns: Patterns,
    /// The sources at the same broker.
    beside: Vec<String>,
    /// Of these, those that take what Home Assistant publishes, with the namespace of its entities.
    mirrors: Vec<(String, String)>,
}

impl Choice {
    pub(super) fn new(config: &Config, home: &HomeAssistantConfig) -> Choice {
        let broker = config.sources.iter().find(|source| source.name == home.source);
        let beside =
            config.sources.iter().filter(|source| broker.is_some_and(|b| b.address == source.address));
        let beside: Vec<&SourceConfig> = beside.collect();
        let is_mirror = |rule: &&Rule| {
            rule.topic.ends_with(ENTITY.0) && rule.device.iter().any(|device| device == ENTITY.1)
        };
        let mirrors = beside.iter().flat_map(|source| {
            let rules = source.rules.iter().filter(is_mirror);
            rules.map(|rule| {
                (source.name.clone(), rule.namespace.clone().unwrap_or_else(|| source.name.clone()))
            })
        });
        Choice {
            // The configuration was checked.
            patterns: Patterns::parse(&home.devices).unwrap_or_default(),
            mirrors: mirrors.collect(),
            beside: beside.iter().map(|source| source.name.clone()).collect(),
        }
    }

    /// Whether no device is announced.
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a device is announced.
    pub(super) fn has(&self, id: DeviceId, device: &Device, descriptions: &Descriptions) -> bool {
        !device.retired
            && self.patterns.matches(&device.name)
            && !(self.is_beside(device) && (self.is_entity(device) || is_discovered(id, descriptions)))
    }

    fn is_beside(&self, device: &Device) -> bool {
        self.beside.iter().any(|source| **source == *device.source)
    }

    /// Whether Home Assistant itself publishes it.
    fn is_entity(&self, device: &Device) -> bool {
        let (namespace, name) = match &device.identity {
            Some(identity) => (identity.namespace.as_str(), identity.name.as_str()),
            None => (&*device.source, &*device.name),
        };
        let is_id = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let is_entity_id = name
            .split_once('.')
            .is_some_and(|(domain, entity)| domain.bytes().all(is_id) && entity.bytes().all(is_id));
        is_entity_id
            && self
                .mirrors
                .iter()
                .any(|(source, of_entities)| **source == *device.source && of_entities == namespace)
    }
}

/// Whether somebody else has announced it to Home Assistant.
fn is_discovered(id: DeviceId, descriptions: &Descriptions) -> bool {
    descriptions.get(id).is_some_and(|described| {
        !described.device_by(DescribedBy::Discovery).is_empty()
            || described.attributes_by(DescribedBy::Discovery).len() > 0
    })
}
