//! Changes of one device.

use std::borrow::Cow;
use std::collections::BTreeMap;

use fieldlog_projections::{Seq, Time};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Attribute;
use crate::parcel::Event;
use crate::text;

/// Changes of one device. Each part has the position that it comes from.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// Position and log time of the newest event about it. As at the gateway, a description is no sign of life.
    pub changed: Option<(Seq, Time)>,
    /// Where it was found, or that it was removed.
    pub found: Option<Found>,
    /// Whether it is reachable.
    pub available: Option<Available>,
    /// How it and its attributes are described, by attribute, empty for the device itself, and author.
    pub described: BTreeMap<(Box<str>, Box<str>), Described>,
    /// Its attributes, by name.
    pub attributes: BTreeMap<Box<str>, Attribute>,
}

/// Where a device was found, or that it was removed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Position.
    pub seq: Seq,
    /// Whether it was removed there.
    pub retired: bool,
    /// The source and the device that it is reached through, where they were last said.
    pub place: Option<(String, Option<String>)>,
}

/// Whether a device is reachable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Available {
    /// Position.
    pub seq: Seq,
    /// Log time.
    pub since: Time,
    /// `online` or `offline`.
    pub availability: String,
}

/// A description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Position.
    pub seq: Seq,
    /// As JSON that `jsonb` takes.
    pub description: Box<str>,
}

#[derive(Deserialize)]
struct Discovered<'a> {
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    parent: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct AvailabilityChanged<'a> {
    #[serde(borrow)]
    availability: Cow<'a, str>,
}

/// Of a device, or of one of its attributes.
#[derive(Deserialize)]
struct SomethingDescribed<'a> {
    #[serde(default, borrow)]
    attribute: Cow<'a, str>,
    #[serde(borrow)]
    by: Cow<'a, str>,
    #[serde(borrow)]
    description: &'a RawValue,
}

impl Device {
    pub(super) fn touch(&mut self, event: &Event) {
        self.changed = self.changed.max(Some((event.seq, event.recorded)));
    }

    pub(super) fn change(&mut self, attribute: &str, event: &Event, json: &str) {
        let name = text::text(attribute);
        match self.attributes.get_mut(&*name) {
            Some(known) => known.add(event, json),
            None => {
                self.attributes.insert(name.into(), Attribute::new(event, json));
            }
        }
    }

    /// Adds an event that is no change of its state.
    pub(super) fn learn(&mut self, event: &Event) {
        let seq = event.seq;
        match &*event.kind {
            "device_discovered" => {
                if let Ok(Discovered { source, parent }) = serde_json::from_str(&event.data) {
                    let own = |text: Cow<'_, str>| text::text(&text).into_owned();
                    let place = Some((own(source), parent.map(own)));
                    self.find(Found { seq, retired: false, place });
                }
            }
            "device_retired" => self.find(Found { seq, retired: true, place: None }),
            "availability_changed" => {
                if let Ok(AvailabilityChanged { availability }) = serde_json::from_str(&event.data)
                    && self.available.as_ref().is_none_or(|known| known.seq < seq)
                {
                    let availability = text::text(&availability).into_owned();
                    self.available = Some(Available { seq, since: event.recorded, availability });
                }
            }
            "device_described" | "attribute_described" => {
                // A compact parcel of an old gateway may lack the attribute's name; the device is not what is meant.
                if let Ok(SomethingDescribed { attribute, by, description }) =
                    serde_json::from_str(&event.data)
                    && attribute.is_empty() == (&*event.kind == "device_described")
                {
                    let key = (text::text(&attribute).into(), text::text(&by).into());
                    if self.described.get(&key).is_none_or(|known| known.seq < seq) {
                        let description = text::value(description.get()).0.into();
                        self.described.insert(key, Described { seq, description });
                    }
                }
            }
            _ => {}
        }
    }

    fn find(&mut self, found: Found) {
        let (older, newer) = match self.found.take() {
            Some(known) if known.seq > found.seq => (Some(found), known),
            known => (known, found),
        };
        let place = newer.place.or(older.and_then(|older| older.place));
        self.found = Some(Found { place, ..newer });
    }
}
