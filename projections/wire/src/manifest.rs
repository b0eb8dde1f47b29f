//! The manifest of a parcel: what the parcel covers, as headers, user properties or JSON.

use std::fmt::Write as _;
use std::sync::Arc;

use fieldlog_projections::{ChainHash, Epoch, Seq};
use serde::{Deserialize, Serialize};

/// The stream of a sink that a parcel belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Fresh events. They never wait behind a backlog.
    Live,
    /// Events recorded while the sink could not be reached.
    Backlog,
    /// Priority copies: events sent ahead of the queue. Their parcels cover no position; the events come again in the
    /// parcels that do.
    Priority,
}

impl Lane {
    /// All of them.
    pub const ALL: [Lane; 3] = [Lane::Live, Lane::Backlog, Lane::Priority];

    /// Its name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Live => "live",
            Lane::Backlog => "backlog",
            Lane::Priority => "priority",
        }
    }
}

/// The data with which a receiver accounts for a parcel; every format carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The gateway's id.
    pub gateway: Arc<str>,
    /// The epoch of its log.
    pub epoch: Epoch,
    /// First covered position; in [`Lane::Priority`], a lower bound of its events' positions, and nothing is covered.
    pub first: Seq,
    /// Last covered position. Positions in between without an event were filtered out.
    pub last: Seq,
    /// Which stream.
    pub lane: Lane,
    /// The chain before `first`.
    pub before: ChainHash,
    /// The chain after `last`.
    pub after: ChainHash,
    /// Newest position of the log when the parcel was made.
    pub head: Seq,
    /// Events in it.
    pub events: u32,
}

/// The fields of a manifest; in headers and user properties each has the prefix `fieldlog-`.
const FIELDS: [&str; 9] = ["gateway", "epoch", "first", "last", "lane", "before", "after", "head", "events"];

impl Manifest {
    /// Parses untrusted fields; `get` finds a field by its name without prefix.
    ///
    /// # Errors
    /// [`ManifestError`] names the missing or invalid field.
    pub fn read<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Manifest, ManifestError> {
        let field = |at: usize| get(FIELDS[at]).ok_or(ManifestError::Missing(FIELDS[at]));
        let number = |at: usize| {
            let text = field(at)?;
            text.parse::<u64>().map_err(|_| ManifestError::invalid(FIELDS[at], text))
        };
        let text = Text {
            gateway: field(0)?.into(),
            epoch: field(1)?.into(),
            first: number(2)?,
            last: number(3)?,
            lane: field(4)?.into(),
            before: field(5)?.into(),
            after: field(6)?.into(),
            head: number(7)?,
            events: number(8)?,
        };
        Manifest::try_from(text)
    }

    /// Number of covered positions.
    pub fn positions(&self) -> u64 {
        (self.last.0 - self.first.0).saturating_add(1)
    }

    /// Whether it has an event for every covered position.
    pub fn unfiltered(&self) -> bool {
        u64::from(self.events) == self.positions()
    }

    /// Checks the bounds of a manifest.
    pub(crate) fn checked(self) -> Result<Manifest, ManifestError> {
        if self.gateway.is_empty() {
            return Err(ManifestError::Missing(FIELDS[0]));
        }
        if self.first.0 == 0 || self.last < self.first || self.last.0 == u64::MAX {
            return Err(ManifestError::Range { first: self.first, last: self.last });
        }
        if u64::from(self.events) > self.positions() {
            return Err(ManifestError::invalid(FIELDS[8], &self.events.to_string()));
        }
        Ok(self)
    }
}

impl Manifest {
    /// The identity of the parcel, the same each time it is sent. A priority copy has another identity than the parcel
    /// that covers it.
    pub fn identity(&self) -> String {
        let priority = if self.lane == Lane::Priority { "/priority" } else { "" };
        format!("{}/{}/{}-{}{priority}", self.gateway, self.epoch, self.first, self.last)
    }

    /// As header fields; each transport prepends its prefix to the names.
    pub fn fields(&self) -> [(&'static str, String); 9] {
        [
            ("gateway", self.gateway.to_string()),
            ("epoch", self.epoch.to_string()),
            ("first", self.first.to_string()),
            ("last", self.last.to_string()),
            ("lane", self.lane.name().to_owned()),
            ("before", self.before.to_string()),
            ("after", self.after.to_string()),
            ("head", self.head.to_string()),
            ("events", self.events.to_string()),
        ]
    }

    /// As a JSON object, for carriers without header fields. Gateway ids contain only letters, digits, `.`, `-` and
    /// `_`, so nothing needs escaping.
    pub fn json(&self) -> String {
        let mut out = String::with_capacity(320);
        for (name, value) in self.fields() {
            let quote = if matches!(name, "first" | "last" | "head" | "events") { "" } else { "\"" };
            let before = if out.is_empty() { '{' } else { ',' };
            // Writing to a String does not fail.
            let _ = write!(out, "{before}\"{name}\":{quote}{value}{quote}");
        }
        out.push('}');
        out
    }
}

/// The JSON form.
#[derive(Serialize, Deserialize)]
struct Text {
    gateway: String,
    epoch: String,
    first: u64,
    last: u64,
    lane: String,
    before: String,
    after: String,
    head: u64,
    events: u64,
}

impl TryFrom<Text> for Manifest {
    type Error = ManifestError;

    fn try_from(text: Text) -> Result<Manifest, ManifestError> {
        let hex = text.epoch.len() == 16 && text.epoch.bytes().all(|b| b.is_ascii_hexdigit());
        let epoch = u64::from_str_radix(&text.epoch, 16).ok().filter(|_| hex);
        let link =
            |name, text: &str| ChainHash::parse(text).ok_or_else(|| ManifestError::invalid(name, text));
        Manifest {
            epoch: Epoch(epoch.ok_or_else(|| ManifestError::invalid(FIELDS[1], &text.epoch))?),
            first: Seq(text.first),
            last: Seq(text.last),
            lane: match text.lane.as_str() {
                "live" => Lane::Live,
                "backlog" => Lane::Backlog,
                "priority" => Lane::Priority,
                other => return Err(ManifestError::invalid(FIELDS[4], other)),
            },
            before: link(FIELDS[5], &text.before)?,
            after: link(FIELDS[6], &text.after)?,
            head: Seq(text.head),
            events: u32::try_from(text.events)
                .map_err(|_| ManifestError::invalid(FIELDS[8], &text.events.to_string()))?,
            gateway: text.gateway.into(),
        }
        .checked()
    }
}

impl Serialize for Manifest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Text {
            gateway: self.gateway.to_string(),
            epoch: self.epoch.to_string(),
            first: self.first.0,
            last: self.last.0,
            lane: self.lane.name().to_owned(),
            before: self.before.to_string(),
            after: self.after.to_string(),
            head: self.head.0,
            events: u64::from(self.events),
        };
        text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Manifest, D::Error> {
        Manifest::try_from(Text::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Why a manifest is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A field is not there.
    #[error("its manifest has no field `{0}`; is the sender a fieldlog?")]
    Missing(&'static str),
    /// A field cannot be read.
    #[error("its manifest says `{found}` for `{field}`, which cannot be")]
    Invalid {
        /// Which.
        field: &'static str,
        /// Its value, truncated.
        found: String,
    },
    /// An invalid range of positions.
    #[error("its manifest says that it covers {first} to {last}, which is no range")]
    Range {
        /// First position.
        first: Seq,
        /// Last position.
        last: Seq,
    },
}

impl ManifestError {
    fn invalid(field: &'static str, found: &str) -> ManifestError {
        ManifestError::Invalid { field, found: found.chars().take(80).collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            gateway: "plant-7".into(),
            epoch: Epoch(0x0123_4567_89ab_cdef),
            first: Seq(11),
            last: Seq(20),
            lane: Lane::Backlog,
            before: ChainHash([1; 32]),
            after: ChainHash([2; 32]),
            head: Seq(99),
            events: 4,
        }
    }

    #[test]
    fn comes_back_from_headers_and_from_json() {
        let fields: HashMap<_, _> = manifest().fields().into_iter().collect();
        let get = |name: &str| fields.get(name).map(String::as_str);
        assert_eq!(Manifest::read(get), Ok(manifest()));
        let json = serde_json::to_string(&manifest()).unwrap();
        assert!(json.starts_with(r#"{"gateway":"plant-7","epoch":"0123456789abcdef","first":11,"#), "{json}");
        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest());
    }

    #[test]
    fn every_lane_has_a_name() {
        for lane in [Lane::Live, Lane::Backlog, Lane::Priority] {
            let said = Manifest { lane, ..manifest() };
            let fields: HashMap<_, _> = said.fields().into_iter().collect();
            assert_eq!(Manifest::read(|name| fields.get(name).map(String::as_str)), Ok(said));
        }
    }

    #[test]
    fn a_field_that_cannot_be_is_named() {
        let check = |name: &str, value: Option<&str>, part: &str| {
            let fields: HashMap<_, _> = manifest().fields().into_iter().collect();
            let get = |n: &str| if n == name { value } else { fields.get(n).map(String::as_str) };
            let error = Manifest::read(get).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check("epoch", None, "epoch");
        check("epoch", Some("+123456789abcdef"), "epoch");
        check("lane", Some("slow"), "slow");
        check("first", Some("21"), "21 to 20");
        check("first", Some("0"), "0 to 20");
        check("last", Some("18446744073709551615"), "no range");
        check("events", Some("11"), "events");
        check("after", Some("abc"), "after");
    }
}
