//! Current state and availability of every device: a fold.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::fact::{Availability, AvailabilityCause, Fact, Identity};
use crate::fold::{Change, Fold, FoldError, FoldId, Section, Unreadable, whole};
use crate::record::Record;
use crate::stored::{Changes, type_id};
use crate::{AttrId, DeviceId, Seq, Time, Value};

mod names;
mod slots;

pub use names::FORMER_MAX;
use names::Names;
use slots::Slots;

/// Version of this fold. It is raised whenever the same records would give another state, or the state is stored
/// differently; snapshots of an unknown version are not used.
pub const VERSION: u16 = 3;

/// All devices, by number, and the names of attributes.
///
/// A clone shares the devices with the original; each is copied on the first change by either.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Devices {
    devices: Slots,
    attributes: Vec<Arc<str>>,
    by_name: BTreeMap<Arc<str>, DeviceId>,
    /// Former ids of devices.
    former: BTreeMap<Arc<str>, DeviceId>,
    attribute_by_name: BTreeMap<Arc<str>, AttrId>,
    /// Total over all devices that are not forgotten.
    renames: u64,
}

/// The state of one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its id.
    pub name: Arc<str>,
    /// Its identity; `None` if no record has it yet.
    #[serde(skip)]
    pub identity: Option<Box<Identity>>,
    /// Its former ids, oldest first.
    #[serde(skip)]
    pub former: Vec<Arc<str>>,
    /// Number of renames.
    #[serde(skip)]
    pub renames: u32,
    /// The source it was last discovered on.
    pub source: Box<str>,
    /// The device it is reached through.
    pub parent: Option<DeviceId>,
    /// Removed at its source; its last state is kept.
    pub retired: bool,
    /// Position and log time of its first discovery.
    pub discovered: (Seq, Time),
    /// Position and log time of its newest record.
    pub changed: (Seq, Time),
    /// The device's own time in its newest record that had one.
    pub device_time: Option<Time>,
    /// Number of records about it, except descriptions: a description is no sign of life.
    pub events: u64,
    /// Whether it is reachable, as it reported.
    pub availability: Availability,
    /// How it was determined.
    pub availability_cause: AvailabilityCause,
    /// Position and log time of that.
    pub availability_changed: (Seq, Time),
    /// Its attributes, in the order they were first seen.
    pub attributes: Vec<Attribute>,
}

/// The newest value of an attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    /// Which attribute.
    pub id: AttrId,
    /// Its value; [`Value::Null`] after it was removed.
    pub value: Value,
    /// Position of the record that set it.
    pub seq: Seq,
    /// Log time of that record.
    pub time: Time,
}

impl Section for Devices {
    fn id(&self) -> FoldId {
        Devices::ID
    }

    /// The lowest version that can hold them, so that an older fieldlog can also read the snapshot.
    fn version(&self) -> u16 {
        match (self.iter().any(|(_, device)| device.has_names()), self.forgotten()) {
            (true, _) => VERSION,
            (false, 0) => 1,
            (false, _) => 2,
        }
    }

    fn restore(&mut self, version: u16, bytes: &[u8]) -> Result<bool, Unreadable> {
        let (devices, attributes) = match version {
            1 => {
                let (devices, attributes): (Vec<Arc<Device>>, _) = whole(bytes)?;
                (devices.into_iter().map(Some).collect(), attributes)
            }
            2 => {
                let (devices, attributes): (Vec<Option<Arc<Device>>>, _) = whole(bytes)?;
                (devices.into_iter().collect(), attributes)
            }
            3 => {
                let (devices, attributes, names): (Vec<Option<Arc<Device>>>, _, Vec<Names>) = whole(bytes)?;
                let mut devices: Slots = devices.into_iter().collect();
                for Names(id, identity, former, renames) in names {
                    let device = devices.get_mut(DeviceId(id)).ok_or(Unreadable)?;
                    (device.identity, device.former, device.renames) = (identity, former, renames);
                }
                (devices, attributes)
            }
            _ => return Ok(false),
        };
        *self = Devices { devices, attributes, ..Devices::default() };
        self.index();
        Ok(true)
    }
}

impl Devices {
    /// This fold.
    pub const ID: FoldId = FoldId { number: 1, name: "devices" };

    /// The device with this number.
    pub fn get(&self, id: DeviceId) -> Option<&Device> {
        self.devices.get(id)
    }

    /// Whether a record introduced this number; the device may be forgotten.
    pub fn knows(&self, id: DeviceId) -> bool {
        (id.0 as usize) < self.devices.len()
    }

    /// Number of devices that were forgotten.
    pub fn forgotten(&self) -> usize {
        self.devices.forgotten()
    }

    /// The device with this id.
    pub fn find(&self, name: &str) -> Option<(DeviceId, &Device)> {
        let id = *self.by_name.get(name)?;
        self.get(id).map(|device| (id, device))
    }

    /// All devices that are not forgotten, including retired ones, by number.
    pub fn iter(&self) -> impl Iterator<Item = (DeviceId, &Device)> {
        self.devices.iter()
    }

    /// All devices that are not forgotten, by name, after `after`.
    pub fn by_name_after<'a>(
        &'a self,
        after: Option<&str>,
    ) -> impl Iterator<Item = (DeviceId, &'a Device)> + 'a {
        use std::ops::Bound;
        let start = after.map_or(Bound::Unbounded, |name| Bound::Excluded(Arc::<str>::from(name)));
        self.by_name.range((start, Bound::Unbounded)).filter_map(|(_, id)| Some((*id, self.get(*id)?)))
    }

    /// Number of devices ever seen, which is also the number of the next one.
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Whether no device was ever seen.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Name of an attribute.
    pub fn attribute_name(&self, id: AttrId) -> Option<&str> {
        self.attributes.get(id.0 as usize).map(|name| &**name)
    }

    /// Number of an attribute name.
    pub fn attribute_named(&self, name: &str) -> Option<AttrId> {
        self.attribute_by_name.get(name).copied()
    }

    /// Names of all attributes, by number.
    pub fn attribute_names(&self) -> &[Arc<str>] {
        &self.attributes
    }

    /// Whether a device is reachable, and the ancestor because of which it is not: a device behind an offline bridge is
    /// offline, whatever it reported last.
    pub fn effective_availability(&self, device: &Device) -> (Availability, Option<DeviceId>) {
        let mut parent = device.parent;
        // Parents come from the configuration; a loop there must not loop here.
        for _ in 0..8 {
            let Some(id) = parent else { break };
            let Some(ancestor) = self.get(id) else { break };
            if ancestor.availability == Availability::Offline {
                return (Availability::Offline, Some(id));
            }
            parent = ancestor.parent;
        }
        (device.availability, None)
    }

    /// A copy for a snapshot, sharing devices with the original.
    pub(crate) fn share(&self) -> Devices {
        let (devices, attributes) = (self.devices.clone(), self.attributes.clone());
        Devices { devices, attributes, renames: self.renames, ..Devices::default() }
    }

    /// Rebuilds the indexes that a snapshot does not hold.
    fn index(&mut self) {
        self.by_name = self.devices.iter().map(|(id, device)| (device.name.clone(), id)).collect();
        let former = |(id, device): (_, &Device)| {
            device.former.iter().map(|name| (name.clone(), id)).collect::<Vec<_>>()
        };
        self.former = self.devices.iter().flat_map(former).collect();
        self.renames = self.devices.iter().map(|(_, device)| u64::from(device.renames)).sum();
        self.attribute_by_name =
            self.attributes.iter().zip(0..).map(|(name, id)| (name.clone(), AttrId(id))).collect();
    }

    /// Applies a record to another fold, using these devices, which are folded up to the record or further.
    ///
    /// # Errors
    /// [`FoldError`] if it cannot be read, or refers to an unknown device or attribute.
    pub fn apply_to(&self, fold: &mut impl Fold, record: &Record<'_>) -> Result<(), FoldError> {
        if record.kind.type_id != type_id::STATE_CHANGED {
            return fold.other(record);
        }
        let mut changes = Changes::parse(record.kind, record.payload)?;
        let (id, names) = (changes.device, &*self.attributes);
        let Some(device) = self.get(id) else {
            let unknown = FoldError::UnknownDevice { seq: record.seq, device: id };
            return if self.knows(id) { Ok(()) } else { Err(unknown) };
        };
        let mut hint = 0;
        while let Some((attr, value)) = changes.next()? {
            let at = device.place(attr, hint);
            hint = at + 1;
            fold.change(&Change { device: id, at, attr, names, time: record.time, value });
        }
        fold.changed(id, record.time);
        Ok(())
    }

    /// Applies a state change; each change is also given to `observe`. Returns the device; `None` for a forgotten one.
    #[inline]
    pub(crate) fn apply_changes(
        &mut self,
        record: &Record<'_>,
        mut observe: impl FnMut(&Change<'_>),
    ) -> Result<Option<DeviceId>, FoldError> {
        let mut changes = Changes::parse(record.kind, record.payload)?;
        let (id, names) = (changes.device, &*self.attributes);
        let Some(device) = self.devices.touched(record, id)? else { return Ok(None) };
        let mut hint = 0;
        while let Some((attr, value)) = changes.next()? {
            let at = device.place(attr, hint);
            hint = at + 1;
            match device.attributes.get_mut(at) {
                Some(slot) => {
                    value.store(&mut slot.value);
                    (slot.seq, slot.time) = (record.seq, record.time);
                }
                None => device.attributes.push(Attribute {
                    id: attr,
                    value: value.to_owned(),
                    seq: record.seq,
                    time: record.time,
                }),
            }
            observe(&Change { device: id, at, attr, names, time: record.time, value });
        }
        Ok(Some(id))
    }

    /// Applies any other record.
    pub(crate) fn apply(&mut self, record: &Record<'_>) -> Result<(), FoldError> {
        if !matches!(
            record.kind.type_id,
            type_id::AVAILABILITY_CHANGED
                | type_id::DEVICE_DISCOVERED
                | type_id::DEVICE_RENAMED
                | type_id::ATTRIBUTE_NAMED
                | type_id::DEVICE_RETIRED
                | type_id::ACTION_FIRED
                | type_id::DEVICE_FORGOTTEN
                | type_id::HISTORY_REPORTED
        ) {
            return Ok(());
        }
        match record.fact()? {
            Fact::DeviceDiscovered { device, name, source, parent, identity } => {
                self.discover(record, device, &name, &source, parent, identity)
            }
            Fact::DeviceRenamed { device, name, called } => self.rename(record, device, &name, called),
            Fact::AttributeNamed { attribute, name } => self.name(record, attribute, &name),
            Fact::AvailabilityChanged { device, availability, cause } => {
                let at = (record.seq, record.time);
                if let Some(device) = self.devices.touched(record, device)? {
                    (device.availability, device.availability_cause) = (availability, cause);
                    device.availability_changed = at;
                }
                Ok(())
            }
            Fact::DeviceRetired { device } => {
                if let Some(device) = self.devices.touched(record, device)? {
                    device.retired = true;
                }
                Ok(())
            }
            Fact::DeviceForgotten { device } => self.forget(record, device),
            Fact::ActionFired { device, .. } => self.devices.touched(record, device).map(|_| ()),
            // Its device time is in the past; the device's own time does not go back to it.
            Fact::HistoryReported { device, .. } => {
                self.devices.touched(&Record { device_time: None, ..*record }, device).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    fn forget(&mut self, record: &Record<'_>, id: DeviceId) -> Result<(), FoldError> {
        if !self.knows(id) {
            return Err(FoldError::UnknownDevice { seq: record.seq, device: id });
        }
        let Some(device) = self.devices.forget(id) else { return Ok(()) };
        self.renames -= u64::from(device.renames);
        device.former.iter().chain([&device.name]).for_each(|name| self.own(name));
        Ok(())
    }

    fn discover(
        &mut self,
        record: &Record<'_>,
        id: DeviceId,
        name: &str,
        source: &str,
        parent: Option<DeviceId>,
        identity: Option<Identity>,
    ) -> Result<(), FoldError> {
        let at = (record.seq, record.time);
        if let Some(device) = self.devices.get_mut(id) {
            device.touch(record);
            (device.source, device.parent, device.retired) = (source.into(), parent, false);
            if identity.is_some() {
                device.identity = identity.map(Box::new);
            }
            return Ok(());
        }
        if id.0 as usize != self.devices.len() {
            return Err(FoldError::Numbering { seq: record.seq });
        }
        let name: Arc<str> = name.into();
        self.by_name.insert(name.clone(), id);
        self.devices.push(Device {
            name,
            identity: identity.map(Box::new),
            former: Vec::new(),
            renames: 0,
            source: source.into(),
            parent,
            retired: false,
            discovered: at,
            changed: at,
            device_time: record.device_time,
            events: 1,
            availability: Availability::Unknown,
            availability_cause: AvailabilityCause::Topic,
            availability_changed: at,
            attributes: Vec::new(),
        });
        Ok(())
    }

    fn name(&mut self, record: &Record<'_>, id: AttrId, name: &str) -> Result<(), FoldError> {
        if id.0 as usize != self.attributes.len() {
            return Err(FoldError::Numbering { seq: record.seq });
        }
        let name: Arc<str> = name.into();
        self.attributes.push(name.clone());
        self.attribute_by_name.insert(name, id);
        Ok(())
    }
}

impl Device {
    fn touch(&mut self, record: &Record<'_>) {
        self.changed = (record.seq, record.time);
        self.events += 1;
        if record.device_time.is_some() {
            self.device_time = record.device_time;
        }
    }

    /// The index of `attr`, or the end. Devices repeat the order of their attributes, so `hint` is nearly always right.
    #[inline]
    pub(crate) fn place(&self, attr: AttrId, hint: usize) -> usize {
        if self.attributes.get(hint).is_some_and(|slot| slot.id == attr) {
            return hint;
        }
        self.attributes.iter().position(|slot| slot.id == attr).unwrap_or(self.attributes.len())
    }

    /// The newest value of an attribute, if it has one.
    pub fn value(&self, attr: AttrId) -> Option<&Attribute> {
        self.attributes.iter().find(|slot| slot.id == attr && slot.value != Value::Null)
    }
}
