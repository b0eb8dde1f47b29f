//! What the brokers keep: the topics at which something of this gateway is retained, by source. The file is written before
//! anything is published, so that all of it can be taken back, whatever the configuration has become meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Name of the file in the data directory.
const FILE_NAME: &str = "home-assistant.json";

/// The topics, by source.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    topics: BTreeMap<String, BTreeSet<String>>,
    path: PathBuf,
    changed: bool,
}

impl Kept {
    /// Whether there is a file.
    pub(super) fn is_in(dir: &Path) -> bool {
        dir.join(FILE_NAME).exists()
    }

    /// From the file, if there is one. Blocking.
    pub(super) fn load(dir: &Path) -> Kept {
        let path = dir.join(FILE_NAME);
        let topics = match fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(topics)) => topics,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Ok(Err(error)) => unreadable(&path, &error),
            Err(error) => unreadable(&path, &error),
        };
        Kept { topics, path, changed: false }
    }

    /// The topics at the broker of a source.
    pub(super) fn at(&self, source: &str) -> impl ExactSizeIterator<Item = &String> {
        self.topics.get(source).map(BTreeSet::iter).unwrap_or_default()
    }

    /// The sources at whose brokers something is retained.
    pub(super) fn sources(&self) -> impl Iterator<Item = &String> {
        self.topics.keys()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(super) fn add(&mut self, source: &str, topic: &str) {
        if self.topics.get(source).is_none_or(|topics| !topics.contains(topic)) {
            self.topics.entry(source.to_owned()).or_default().insert(topic.to_owned());
            self.changed = true;
        }
    }

    pub(super) fn remove(&mut self, source: &str, topic: &str) {
        let Some(topics) = self.topics.get_mut(source) else { return };
        self.changed |= topics.remove(topic);
        if topics.is_empty() {
            self.topics.remove(source);
        }
    }

    /// Nothing can be taken back at the broker of a source that is not in the configuration any more.
    pub(super) fn forget(&mut self, source: &str) {
        if let Some(topics) = self.topics.remove(source) {
            self.changed = true;
            tracing::warn!(
                "source {source:?} is not in the configuration any more, so {} topics that were published to its broker \
                 for Home Assistant stay there; remove the devices in Home Assistant, or publish empty retained \
                 messages, the first to {:?}",
                topics.len(),
                topics.first().map_or("", String::as_str)
            );
        }
    }

    /// Writes the file if anything has changed, and removes it when nothing is retained. Blocking.
    pub(super) fn save(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let written = if self.topics.is_empty() { fs::remove_file(&self.path) } else { self.write() };
        if let Err(error) = written {
            tracing::warn!(
                "{} cannot be written: {error}; what is published for Home Assistant may stay at the broker when it is \
                 not wanted any more",
                self.path.display()
            );
        }
    }

    fn write(&self) -> io::Result<()> {
        let new = self.path.with_extension("json.new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(&self.topics)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)
    }
}

fn unreadable<T: Default>(path: &Path, error: &dyn std::fmt::Display) -> T {
    tracing::warn!(
        "{} cannot be read: {error}; what was published for Home Assistant and is not wanted any more stays at the broker",
        path.display()
    );
    T::default()
}
