//! What metrics say beside their values: descriptions, and whether a value can be relied on.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use fieldlog_projections::{AttrId, AttributeDescription, DescribedBy, DeviceId, Fact, Time};

use crate::describe::Parts;
use crate::observe::outcomes::Refusal;
use crate::observe::{Observer, RecordBatch};
use crate::sparkplug::property::Properties;
use fieldlog_rules::decode;

/// What the operator has been told of a device and is not told again.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) template: bool,
    time: bool,
    quality: bool,
}

impl Observer {
    /// The time that a message or a metric has of its own, in milliseconds; nothing if no clock shows it, or one that is not
    /// set. That is counted, and said once for each device.
    pub(super) fn own_time(
        &self,
        source: usize,
        device: DeviceId,
        millis: Option<u64>,
        told: &mut Told,
    ) -> Option<Time> {
        let millis = millis?;
        let micros = millis.checked_mul(1_000).and_then(|micros| i64::try_from(micros).ok());
        let time = micros.map(Time).filter(|time| decode::is_set(*time));
        if time.is_none() {
            self.sources[source].outcomes.count_unread_time();
            if !std::mem::replace(&mut told.time, true) {
                let (name, device) = (&self.sources[source].name, &self.devices[device].name);
                tracing::warn!(
                    "source {name:?}: {device} sends a time that is none, or that of a clock that is not set ({millis} ms); its \
                     values are recorded without it (said once for each device)"
                );
            }
        }
        time
    }

    /// Counts a value that is not to be relied on, and says so once for each device.
    pub(super) fn note_bad_quality(
        &self,
        source: usize,
        device: DeviceId,
        metric: &str,
        quality: i64,
        told: &mut Told,
    ) {
        self.sources[source].outcomes.sparkplug.bad_quality.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut told.quality, true) {
            let (name, device) = (&self.sources[source].name, &self.devices[device].name);
            tracing::warn!(
                "source {name:?}: metric {metric:?} of {device} has quality {quality}, which is not good (192); such values are \
                 recorded as none (said once for each device)"
            );
        }
    }

    /// Records what metrics are, as far as it is new. A birth that was taken whole says all there is; other messages say what
    /// has changed.
    pub(super) fn describe_metrics(
        &mut self,
        device: DeviceId,
        said: &[(AttrId, Properties)],
        is_whole: bool,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<(), Refusal> {
        let by = DescribedBy::Announcement;
        let before = self.devices[device].described.as_deref();
        if said.iter().all(|(_, said)| describes_nothing(said)) && before.is_none() {
            return Ok(());
        }
        let mut next = before.cloned().unwrap_or_default();
        let mut facts = Vec::new();
        let parts = if is_whole { Parts::Whole } else { Parts::Given };
        let mut describe = |attribute, description: AttributeDescription| {
            if next.describe_attribute(by, attribute, &description) {
                facts.push(Fact::AttributeDescribed { device, attribute, by, description });
            }
        };
        let known = |attribute| before.map(|known| known.attribute_by(by, attribute)).unwrap_or_default();
        for (attribute, said) in said {
            describe(*attribute, parts.attribute(known(*attribute), &self.description(said)));
        }
        if is_whole {
            let listed: HashSet<AttrId> = said.iter().map(|(attr, _)| *attr).collect();
            let gone = before.into_iter().flat_map(|known| known.attributes_by(by));
            gone.filter(|attr| !listed.contains(attr))
                .for_each(|attr| describe(attr, AttributeDescription::default()));
        }
        self.record_descriptions(device, next, &facts, received, batch)
    }

    fn description(&self, said: &Properties) -> AttributeDescription {
        let short = |text: &String| {
            if text.len() <= self.limits.name_bytes { text.trim().to_owned() } else { String::new() }
        };
        AttributeDescription {
            name: short(&said.description),
            unit: short(&said.unit),
            min: said.min,
            max: said.max,
            writable: said.read_only.map(|read_only| !read_only),
            ..AttributeDescription::default()
        }
    }
}

fn describes_nothing(said: &Properties) -> bool {
    *said == Properties { bad_quality: said.bad_quality, ..Properties::default() }
}
