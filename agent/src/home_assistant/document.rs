//! What announcements have in common. Keys are abbreviated as Home Assistant documents it.
//! <https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery>

use serde_json::{Map, Value};

use crate::config::{HomeAssistantTopics, WillConfig};

/// How soon an entity is unavailable whose state is not published any more, if no will says so.
const EXPIRE_AFTER_S: u64 = 150;

/// The gateway that announces, as its announcements and those of its devices need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announcer {
    /// The gateway's id.
    pub(super) gateway: String,
    pub(super) topics: HomeAssistantTopics,
    /// The will of its source, which says whether it is connected.
    pub(super) will: Option<WillConfig>,
}

impl Announcer {
    /// An announcement: a device, its entities, and where their states are.
    pub(super) fn announcement(
        &self,
        device: Map<String, Value>,
        state_topic: String,
        components: Map<String, Value>,
    ) -> Map<String, Value> {
        let origin = [("name", HomeAssistantTopics::ORIGIN), ("sw", env!("CARGO_PKG_VERSION"))];
        let mut document = Map::new();
        document.insert("dev".into(), device.into());
        document.insert("o".into(), texts(&origin).into());
        document.insert("stat_t".into(), state_topic.into());
        document.insert("qos".into(), 1.into());
        document.insert("cmps".into(), components.into());
        document
    }

    /// Where it is said whether this gateway is connected, as an item of `availability`.
    pub(super) fn availability(&self) -> Option<Map<String, Value>> {
        let will = self.will.as_ref()?;
        Some(texts(&[("t", &will.topic), ("pl_avail", &will.online), ("pl_not_avail", &will.offline)]))
    }

    /// An entity of the gateway itself, which is there as long as the gateway is.
    pub(super) fn own(&self, id: &str, mut entity: Map<String, Value>) -> Map<String, Value> {
        entity.insert("uniq_id".into(), format!("{}.{id}", self.topics.id()).into());
        entity.insert("ent_cat".into(), "diagnostic".into());
        match &self.will {
            Some(will) => {
                entity.insert("avty_t".into(), will.topic.clone().into());
                entity.insert("pl_avail".into(), will.online.clone().into());
                entity.insert("pl_not_avail".into(), will.offline.clone().into());
            }
            None => _ = entity.insert("exp_aft".into(), EXPIRE_AFTER_S.into()),
        }
        entity
    }
}

/// An object of texts, without the empty ones.
pub(super) fn texts(entries: &[(&str, &str)]) -> Map<String, Value> {
    let given = entries.iter().filter(|(_, text)| !text.is_empty());
    given.map(|(key, text)| ((*key).to_owned(), Value::from(*text))).collect()
}

/// The object as JSON.
pub(super) fn written(document: Map<String, Value>) -> Vec<u8> {
    Value::Object(document).to_string().into_bytes()
}
