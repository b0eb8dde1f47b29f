//! Descriptions of devices and attributes as info metrics, for joins on their labels.

use std::fmt;
use std::sync::PoisonError;

use fieldlog_projections::{AttributeDescription, DeviceDescription, View};
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};

use super::Out;
use crate::read_side::ReadSide;

/// Maximum series of each of the two: a scrape of all attributes of thousands of devices helps nobody.
const SERIES_MAX: usize = 2_000;

/// Labels, without those that have no text.
struct Labels(Vec<(&'static str, String)>);

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.as_slice().encode(encoder)
    }
}

fn labels(pairs: impl IntoIterator<Item = (&'static str, String)>) -> (Labels, u32) {
    (Labels(pairs.into_iter().filter(|(_, text)| !text.is_empty()).collect()), 1)
}

pub(super) fn encode(side: &ReadSide, out: &mut Out<'_, '_>) -> fmt::Result {
    let (devices, attributes, counts) = {
        let view = side.shared.view.read().unwrap_or_else(PoisonError::into_inner);
        read(&view)
    };
    let help = "Devices and attributes that have a description.";
    out.gauges("descriptions", help, [([("of", "device")], counts.0), ([("of", "attribute")], counts.1)])?;
    out.gauges("device_info", "Descriptions of devices, at most 2000.", devices)?;
    out.gauges("attribute_info", "Descriptions of attributes, at most 2000.", attributes)
}

type Series = Vec<(Labels, u32)>;

fn read(view: &View) -> (Series, Series, (u64, u64)) {
    let (mut devices, mut attributes, mut counts) = (Vec::new(), Vec::new(), (0, 0));
    for (id, described) in view.descriptions.iter() {
        let Some(device) = view.devices.get(id).filter(|device| !device.retired) else { continue };
        let DeviceDescription { stable_id, name, model, manufacturer, area } = described.device();
        counts.0 += 1;
        if devices.len() < SERIES_MAX {
            let id = device.name.to_string();
            let texts = [("device", id), ("stable_id", stable_id), ("name", name), ("model", model)];
            devices.push(labels(texts.into_iter().chain([("manufacturer", manufacturer), ("area", area)])));
        }
        for attr in described.attributes() {
            counts.1 += 1;
            if attributes.len() >= SERIES_MAX {
                continue;
            }
            let Some(attribute) = view.devices.attribute_name(attr) else { continue };
            let AttributeDescription { name, unit, device_class, data_type, .. } = described.attribute(attr);
            attributes.push(labels([
                ("device", device.name.to_string()),
                ("attribute", attribute.to_owned()),
                ("name", name),
                ("unit", unit),
                ("device_class", device_class),
                ("type", data_type.word().to_owned()),
            ]));
        }
    }
    (devices, attributes, counts)
}
