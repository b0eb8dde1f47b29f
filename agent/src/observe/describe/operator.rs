//! The configured descriptions: applied to whatever is new, and to everything after the configuration was read.

use fieldlog_projections::{
    AttrId, AttributeDescription, Described, DescribedBy, DeviceDescription, DeviceId, Fact, Time,
};

use super::super::outcomes::Refusal;
use super::super::source::CompiledDescribe;
use super::super::{Observer, RecordBatch};

impl Observer {
    /// Applies the configured descriptions to new devices and attributes, or to all after the configuration was read.
    pub(in super::super) fn describe_undescribed(&mut self, received: Time, batch: &mut RecordBatch) {
        let mut ids = std::mem::take(&mut self.undescribed);
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            // Descriptions without room are tried again when something else about the device is new.
            let _ = self.describe_by_operator(id, received, batch);
        }
    }

    fn describe_by_operator(
        &mut self,
        id: DeviceId,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<(), Refusal> {
        let by = DescribedBy::Operator;
        let Some(device) = self.devices.get_mut(id).filter(|device| device.retired.is_none()) else {
            return Ok(());
        };
        let blocks =
            self.sources.get(usize::from(device.source.0)).map_or(&[][..], |source| &source.describe);
        let known = device.described.as_deref();
        let has_words =
            |known: &Described| !known.device_by(by).is_empty() || known.attributes_by(by).len() > 0;
        if blocks.is_empty() && !known.is_some_and(has_words) {
            return Ok(());
        }
        let known = known.cloned().unwrap_or_default();
        let mut next = known.clone();
        let of = |block: &&CompiledDescribe| {
            block.devices.matches(&device.name) || block.devices.matches(&device.called)
        };
        let mine: Vec<&CompiledDescribe> = blocks.iter().filter(of).collect();
        let mut facts = Vec::new();
        let of_device = mine.iter().filter(|block| block.attributes.is_none());
        let description =
            of_device.fold(DeviceDescription::default(), |said, block| said.or(block.device.clone()));
        if next.describe_device(by, &description) {
            facts.push(Fact::DeviceDescribed { device: id, by, description });
        }
        let mut attributes: Vec<AttrId> = device.slots.iter().map(|slot| slot.attr).collect();
        attributes.extend(&device.actions);
        attributes.extend(known.attributes());
        attributes.sort_unstable();
        attributes.dedup();
        for attribute in attributes {
            let Some(name) = self.attributes.get(attribute.0 as usize) else { continue };
            let of_attribute = mine.iter().filter(|b| b.attributes.as_ref().is_some_and(|a| a.matches(name)));
            let description = of_attribute
                .fold(AttributeDescription::default(), |said, block| said.or(block.attribute.clone()));
            if next.describe_attribute(by, attribute, &description) {
                facts.push(Fact::AttributeDescribed { device: id, attribute, by, description });
            }
        }
        self.record_descriptions(id, next, &facts, received, batch)
    }
}
