//! Shelly: `announce` of the first generation, and the answer to `Shelly.GetDeviceInfo` of later ones.
//! <https://shelly-api-docs.shelly.cloud/gen1/#mqtt-support-common>,
//! <https://shelly-api-docs.shelly.cloud/gen2/ComponentsAndServices/Shelly/#shellygetdeviceinfo>

use fieldlog_projections::DeviceDescription;
use serde::Deserialize;

use super::{Address, Announcement, Announcements, DescribeError, Parts, lenient};

/// Both say what they are in a document of their own.
const MANUFACTURER: &str = "Shelly";

#[derive(Deserialize)]
struct Announce {
    #[serde(default, deserialize_with = "lenient")]
    id: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    model: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    mac: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    name: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default, deserialize_with = "lenient")]
    result: Option<Announce>,
}

impl Announce {
    fn describes(&self) -> bool {
        self.id.is_some() && self.model.is_some()
    }
}

/// An announcement is on the device's own topic, or on one with a fixed name in place of its id. An answer is on a
/// topic of the requester, likewise without the id. The device's own topic need not contain its id.
pub(super) fn announce(topic: &str, text: &str) -> Result<Announcements, DescribeError> {
    let Some((owner, last)) = topic.rsplit_once('/') else { return Ok(Announcements::default()) };
    if text.is_empty() {
        return Ok(Announcements::default());
    }
    let announce: Option<Announce> = match last {
        "announce" => Some(serde_json::from_str(text)?),
        // Requests to the device and answers to other requests use the same topics.
        _ => serde_json::from_str::<Answer>(text)?.result,
    };
    let Some(announce) = announce.filter(Announce::describes) else { return Ok(Announcements::default()) };
    let id = announce.id.unwrap_or_default();
    let beside = match owner.rsplit_once('/') {
        Some((base, _)) => format!("{base}/{id}/online"),
        None => format!("{id}/online"),
    };
    let candidates = match last {
        "announce" => vec![format!("{owner}/{id}/online"), format!("{owner}/online")],
        _ => vec![beside],
    };
    let device = Announcement {
        device: Address::Availability(candidates),
        joined: true,
        description: DeviceDescription {
            stable_id: announce.mac.unwrap_or_default(),
            name: announce.name.unwrap_or_default(),
            model: announce.model.unwrap_or_default(),
            manufacturer: MANUFACTURER.to_owned(),
            area: String::new(),
        },
        parts: Parts::Given,
        ..Announcement::default()
    };
    Ok(Announcements { devices: vec![device], complete: false })
}
