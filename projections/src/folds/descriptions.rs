//! Descriptions of devices and attributes: a fold.
//!
//! A description is kept in its stored bytes, a fifth of the size of the structure, since most are never asked for.
//! Bytes that were read once can be read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::description::{AttributeDescription, DescribedBy, DeviceDescription};
use crate::fact::Fact;
use crate::fold::{Change, Fold, FoldError, FoldId, Section, Unreadable, whole};
use crate::record::Record;
use crate::stored::type_id;
use crate::{AttrId, DeviceId, Time};

/// Version of this fold; see [`super::devices::VERSION`].
pub const VERSION: u16 = 1;

/// Descriptions of all devices. A clone shares them with the original; a device's are copied on the first change by
/// either.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Descriptions(BTreeMap<DeviceId, Arc<Described>>);

/// The descriptions of one device and its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    announced: Said,
    configured: Said,
    discovered: Said,
}

/// The descriptions by one author. Empty bytes: none. Attributes ascend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    device: Box<[u8]>,
    attributes: Vec<(AttrId, Box<[u8]>)>,
}

impl Descriptions {
    /// This fold.
    pub const ID: FoldId = FoldId { number: 3, name: "descriptions" };

    /// The descriptions of a device and its attributes.
    pub fn get(&self, device: DeviceId) -> Option<&Described> {
        self.0.get(&device).map(|described| &**described)
    }

    /// All devices that have a description, by number.
    pub fn iter(&self) -> impl Iterator<Item = (DeviceId, &Described)> {
        self.0.iter().map(|(id, described)| (*id, &**described))
    }

    /// Whether no device has a description.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn describe(&mut self, device: DeviceId, change: impl FnOnce(&mut Described) -> bool) {
        let described = Arc::make_mut(self.0.entry(device).or_default());
        change(described);
        if described.is_empty() {
            self.0.remove(&device);
        }
    }
}

impl Described {
    /// Whether there is no description.
    pub fn is_empty(&self) -> bool {
        self.all().all(|said| said.device.is_empty() && said.attributes.is_empty())
    }

    /// The device's description, merged from all authors.
    pub fn device(&self) -> DeviceDescription {
        let said = DescribedBy::ALL.into_iter().map(|by| self.device_by(by));
        said.fold(DeviceDescription::default(), DeviceDescription::or)
    }

    /// An attribute's description, merged from all authors.
    pub fn attribute(&self, attr: AttrId) -> AttributeDescription {
        let said = DescribedBy::ALL.into_iter().map(|by| self.attribute_by(by, attr));
        said.fold(AttributeDescription::default(), AttributeDescription::or)
    }

    /// The device's description by one author.
    pub fn device_by(&self, by: DescribedBy) -> DeviceDescription {
        unpack(&self.said(by).device)
    }

    /// An attribute's description by one author.
    pub fn attribute_by(&self, by: DescribedBy, attr: AttrId) -> AttributeDescription {
        let attributes = &self.said(by).attributes;
        attributes
            .binary_search_by_key(&attr, |(id, _)| *id)
            .map(|at| unpack(&attributes[at].1))
            .unwrap_or_default()
    }

    /// The attributes described by one author, ascending.
    pub fn attributes_by(&self, by: DescribedBy) -> impl ExactSizeIterator<Item = AttrId> + '_ {
        self.said(by).attributes.iter().map(|(id, _)| *id)
    }

    /// The attributes that have a description, ascending.
    pub fn attributes(&self) -> Vec<AttrId> {
        let mut all: Vec<AttrId> =
            DescribedBy::ALL.into_iter().flat_map(|by| self.attributes_by(by)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Sets one author's description of the device; returns whether it changed.
    pub fn describe_device(&mut self, by: DescribedBy, description: &DeviceDescription) -> bool {
        let packed = if description.is_empty() { Box::default() } else { pack(description) };
        let device = &mut self.said_mut(by).device;
        let differs = *device != packed;
        *device = packed;
        differs
    }

    /// Sets one author's description of an attribute; returns whether it changed.
    pub fn describe_attribute(
        &mut self,
        by: DescribedBy,
        attr: AttrId,
        description: &AttributeDescription,
    ) -> bool {
        let packed = if description.is_empty() { None } else { Some(pack(description)) };
        let attributes = &mut self.said_mut(by).attributes;
        match (attributes.binary_search_by_key(&attr, |(id, _)| *id), packed) {
            (Ok(at), Some(packed)) => {
                let differs = attributes[at].1 != packed;
                attributes[at].1 = packed;
                differs
            }
            (Ok(at), None) => {
                attributes.remove(at);
                true
            }
            (Err(at), Some(packed)) => {
                attributes.insert(at, (attr, packed));
                true
            }
            (Err(_), None) => false,
        }
    }

    /// Lengths of the stored bytes, one for each description of a device or attribute.
    pub fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.all().flat_map(|said| {
            std::iter::once(said.device.len()).chain(said.attributes.iter().map(|(_, bytes)| bytes.len()))
        })
    }

    fn all(&self) -> impl Iterator<Item = &Said> {
        [&self.announced, &self.configured, &self.discovered].into_iter()
    }

    fn said(&self, by: DescribedBy) -> &Said {
        match by {
            DescribedBy::Announcement => &self.announced,
            DescribedBy::Operator => &self.configured,
            DescribedBy::Discovery => &self.discovered,
        }
    }

    fn said_mut(&mut self, by: DescribedBy) -> &mut Said {
        match by {
            DescribedBy::Announcement => &mut self.announced,
            DescribedBy::Operator => &mut self.configured,
            DescribedBy::Discovery => &mut self.discovered,
        }
    }

    fn is_readable(&self) -> bool {
        let reads = |said: &Said| {
            (said.device.is_empty() || whole::<DeviceDescription>(&said.device).is_ok())
                && said.attributes.is_sorted_by(|(a, _), (b, _)| a < b)
                && said.attributes.iter().all(|(_, bytes)| whole::<AttributeDescription>(bytes).is_ok())
        };
        self.all().all(reads)
    }
}

/// Serialising texts and numbers into memory cannot fail.
fn pack<T: Serialize>(description: &T) -> Box<[u8]> {
    match postcard::to_extend(description, Vec::new()) {
        Ok(bytes) => bytes.into(),
        Err(error) => unreachable!("postcard into memory: {error}"),
    }
}

fn unpack<T: DeserializeOwned + Default>(bytes: &[u8]) -> T {
    whole(bytes).unwrap_or_default()
}

impl Section for Descriptions {
    fn id(&self) -> FoldId {
        Descriptions::ID
    }

    fn version(&self) -> u16 {
        VERSION
    }

    fn restore(&mut self, version: u16, bytes: &[u8]) -> Result<bool, Unreadable> {
        if version != VERSION {
            return Ok(false);
        }
        let restored: Descriptions = whole(bytes)?;
        if !restored.0.values().all(|described| described.is_readable()) {
            return Err(Unreadable);
        }
        *self = restored;
        Ok(true)
    }
}

impl Fold for Descriptions {
    #[inline]
    fn change(&mut self, _change: &Change<'_>) {}

    /// Descriptions from deleted records come again with the next announcement.
    fn miss(&mut self, _until: Time) {}

    fn other(&mut self, record: &Record<'_>) -> Result<(), FoldError> {
        if !matches!(
            record.kind.type_id,
            type_id::DEVICE_DESCRIBED | type_id::ATTRIBUTE_DESCRIBED | type_id::DEVICE_FORGOTTEN
        ) {
            return Ok(());
        }
        match record.fact()? {
            Fact::DeviceDescribed { device, by, description } => {
                self.describe(device, |described| described.describe_device(by, &description));
            }
            Fact::AttributeDescribed { device, attribute, by, description } => {
                self.describe(device, |described| described.describe_attribute(by, attribute, &description));
            }
            Fact::DeviceForgotten { device } => {
                self.0.remove(&device);
            }
            _ => {}
        }
        Ok(())
    }
}
