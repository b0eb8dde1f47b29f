//! Records as the API shows them, and the filter of a request.

use std::collections::BTreeMap;

use fieldlog_projections::alert::Subject;
use fieldlog_projections::stored::{self, Changes, StoredError, type_id};
use fieldlog_projections::{AttrId, DeviceId, Devices, Epoch, Fact, Record, Seq, Time, View};
use fieldlog_wire::api::events::Event;
use fieldlog_wire::event::{Data, Naming};
use fieldlog_wire::json::Rfc3339;

use super::params::Params;
use super::problem::Problem;
use crate::log::Wanted;

/// A record copied from the log.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) seq: Seq,
    pub(super) time: Time,
    pub(super) wall: Time,
    pub(super) device_time: Option<Time>,
    pub(super) cause: Option<Seq>,
    pub(super) fact: Fact,
}

impl Entry {
    pub(super) fn of(record: &Record<'_>) -> Result<Entry, Problem> {
        let fact = record.fact().map_err(|e| unreadable(record, e))?;
        let Record { seq, time, wall, device_time, cause, .. } = *record;
        Ok(Entry { seq, time, wall, device_time, cause, fact })
    }

    /// Its type's name in filters and answers.
    pub(super) fn kind(&self) -> &'static str {
        let id = match &self.fact {
            Fact::StateChanged { .. } => type_id::STATE_CHANGED,
            Fact::AvailabilityChanged { .. } => type_id::AVAILABILITY_CHANGED,
            Fact::DeviceDiscovered { .. } => type_id::DEVICE_DISCOVERED,
            Fact::AttributeNamed { .. } => type_id::ATTRIBUTE_NAMED,
            Fact::DeviceRenamed { .. } => type_id::DEVICE_RENAMED,
            Fact::DeviceRetired { .. } => type_id::DEVICE_RETIRED,
            Fact::DeviceForgotten { .. } => type_id::DEVICE_FORGOTTEN,
            Fact::DeviceDescribed { .. } => type_id::DEVICE_DESCRIBED,
            Fact::AttributeDescribed { .. } => type_id::ATTRIBUTE_DESCRIBED,
            Fact::ActionFired { .. } => type_id::ACTION_FIRED,
            Fact::HistoryReported { .. } => type_id::HISTORY_REPORTED,
            Fact::MetricsDeclared { .. } => type_id::METRICS_DECLARED,
            Fact::SessionNoted { .. } => type_id::SESSION_NOTED,
            Fact::InputQuarantined { .. } => type_id::INPUT_QUARANTINED,
            Fact::QuarantineSummarised { .. } => type_id::QUARANTINE_SUMMARISED,
            Fact::Booted { .. } => type_id::BOOTED,
            Fact::ClockStepped { .. } => type_id::CLOCK_STEPPED,
            Fact::ClockCorrected { .. } => type_id::CLOCK_CORRECTED,
            Fact::ConfigChanged { .. } => type_id::CONFIG_CHANGED,
            Fact::DeadLettered { .. } => type_id::DEAD_LETTERED,
            Fact::Trimmed { .. } => type_id::TRIMMED,
            Fact::Gap { .. } => type_id::GAP,
            Fact::EpochBegun { .. } => type_id::EPOCH_BEGUN,
            Fact::RecordsLost { .. } => type_id::RECORDS_LOST,
            Fact::CommandRequested { .. } => type_id::COMMAND_REQUESTED,
            Fact::CommandRejected { .. } => type_id::COMMAND_REJECTED,
            Fact::CommandProgressed { progress, .. } => stored::step_type(progress),
            Fact::Administered { .. } => type_id::ADMINISTERED,
            Fact::QuarantineResolved { .. } => type_id::QUARANTINE_RESOLVED,
            Fact::AlertRaised(_) => type_id::ALERT_RAISED,
            Fact::AlertCleared(_) => type_id::ALERT_CLEARED,
            Fact::Unknown { kind, .. } => kind.type_id,
        };
        stored::type_name(id).unwrap_or("unknown")
    }
}

fn unreadable(record: &Record<'_>, error: StoredError) -> Problem {
    Problem::internal(format!("the record at sequence {} cannot be read: {error}", record.seq))
}

pub(super) fn device_of(record: &Record<'_>) -> Result<Option<DeviceId>, Problem> {
    record.subject().map_err(|e| unreadable(record, e))
}

/// Calls `visit` with each change of a state change of `device`; does nothing for other records.
pub(super) fn each_change(
    record: &Record<'_>,
    device: DeviceId,
    mut visit: impl FnMut(AttrId, fieldlog_projections::ValueRef<'_>),
) -> Result<(), Problem> {
    if record.kind.type_id != type_id::STATE_CHANGED {
        return Ok(());
    }
    let mut walk = || -> Result<(), StoredError> {
        let mut changes = Changes::parse(record.kind, record.payload)?;
        if changes.device != device {
            return Ok(());
        }
        while let Some((attr, value)) = changes.next()? {
            visit(attr, value);
        }
        Ok(())
    };
    walk().map_err(|e| unreadable(record, e))
}

/// The types that say who asked for them; the others need not be decoded.
const WITH_ACTOR: [u16; 3] = [type_id::COMMAND_REQUESTED, type_id::COMMAND_REJECTED, type_id::ADMINISTERED];

/// The filter of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    pub(super) device: Option<DeviceId>,
    /// Only the request of this command and its steps.
    command: Option<Seq>,
    /// Empty: all.
    types: Vec<u16>,
    actor: Option<Actors>,
}

/// Who must have asked for what a record says.
#[derive(Clone, Debug)]
enum Actors {
    One(String),
    /// Whose name begins with this.
    Beginning(String),
}

impl Actors {
    fn parse(text: &str) -> Actors {
        match text.strip_suffix('*') {
            Some(beginning) => Actors::Beginning(beginning.to_owned()),
            None => Actors::One(text.to_owned()),
        }
    }

    fn has(&self, actor: &str) -> bool {
        match self {
            Actors::One(name) => name == actor,
            Actors::Beginning(beginning) => actor.starts_with(beginning.as_str()),
        }
    }
}

impl Selection {
    /// From `device`, `command`, `type` and `actor`; several types are separated by commas, and an actor may end in `*`.
    pub(super) fn from(params: &Params, devices: &Devices) -> Result<Selection, Problem> {
        let of = Selection::of(devices, params.text("device"), params.text("type"))?;
        Ok(Selection {
            command: params.seq("command")?,
            actor: params.text("actor").map(Actors::parse),
            ..of
        })
    }

    /// The events of a device and of some types, separated by commas.
    pub(super) fn of(
        devices: &Devices,
        device: Option<&str>,
        types: Option<&str>,
    ) -> Result<Selection, Problem> {
        let device = device.map(|name| super::devices::find(devices, name)).transpose()?;
        let types = types.map(parse_types).transpose()?.unwrap_or_default();
        Ok(Selection { device: device.map(|(id, _)| id), types, ..Selection::default() })
    }

    /// The position before the first record that can match; 0 if any can.
    pub(super) fn before(&self) -> Seq {
        Seq(self.command.map_or(0, |command| command.0.saturating_sub(1)))
    }

    /// Whether it follows a command.
    pub(super) fn follows_command(&self) -> bool {
        self.command.is_some()
    }

    /// Which records can match.
    pub(super) fn wanted(&self) -> Wanted {
        let mut types = self.types.clone();
        if types.is_empty() && self.actor.is_some() {
            types.extend(WITH_ACTOR);
        } else if types.is_empty() && self.command.is_some() {
            let steps = type_id::COMMAND_DISPATCHED..=type_id::COMMAND_UNSENT;
            types.extend(
                steps.filter(|step| stored::is_command_step(*step)).chain([type_id::COMMAND_REQUESTED]),
            );
        }
        Wanted { device: self.device, types }
    }

    pub(super) fn has(&self, record: &Record<'_>) -> Result<bool, Problem> {
        if !self.types.is_empty() && !self.types.contains(&record.kind.type_id) {
            return Ok(false);
        }
        if let Some(wanted) = &self.actor {
            if !WITH_ACTOR.contains(&record.kind.type_id) {
                return Ok(false);
            }
            let fact = record.fact().map_err(|error| unreadable(record, error))?;
            if !fact.actor().is_some_and(|actor| wanted.has(actor)) {
                return Ok(false);
            }
        }
        if let Some(command) = self.command
            && !is_of_command(record, command)?
        {
            return Ok(false);
        }
        Ok(self.device.is_none() || device_of(record)? == self.device)
    }
}

/// Whether a record is the request of a command or one of its steps.
fn is_of_command(record: &Record<'_>, command: Seq) -> Result<bool, Problem> {
    let kind = record.kind.type_id;
    if kind == type_id::COMMAND_REQUESTED {
        return Ok(record.seq == command);
    }
    if record.seq < command || !stored::is_command_step(kind) {
        return Ok(false);
    }
    let fact = record.fact().map_err(|e| unreadable(record, e))?;
    Ok(matches!(fact, Fact::CommandProgressed { command: of, .. } if of == command))
}

fn parse_types(text: &str) -> Result<Vec<u16>, Problem> {
    let parse = |name: &str| {
        stored::type_named(name).ok_or_else(|| {
            let mut names: Vec<&str> = stored::KINDS.iter().map(|(_, _, name)| *name).collect();
            names.dedup();
            Problem::bad_parameter(format!(
                "no event type is called `{name}`; the types are {}",
                names.join(", ")
            ))
        })
    };
    let mut types = text.split(',').map(parse).collect::<Result<Vec<u16>, _>>()?;
    // Each record is compared with all of them, even if a client repeats one.
    types.sort_unstable();
    types.dedup();
    Ok(types)
}

/// The names that some records need, so that they can be serialised without the view.
#[derive(Debug, Default)]
pub(super) struct Names {
    devices: BTreeMap<DeviceId, Box<str>>,
    attributes: BTreeMap<AttrId, Box<str>>,
    /// Unit and display name of an attribute; empty if unknown.
    described: BTreeMap<(DeviceId, AttrId), (Box<str>, Box<str>)>,
}

impl Names {
    /// Adds the names that an entry needs.
    pub(super) fn learn(&mut self, view: &View, entry: &Entry) {
        let devices = &view.devices;
        if let Some(id) = entry.fact.device() {
            self.learn_device(devices, id);
        }
        match &entry.fact {
            Fact::StateChanged { device, changes } => changes.iter().for_each(|(attr, _)| {
                self.learn_attribute(devices, *attr);
                self.learn_description(view, *device, *attr);
            }),
            Fact::HistoryReported { changes, .. } => {
                changes.iter().for_each(|(attr, _)| self.learn_attribute(devices, *attr));
            }
            Fact::ActionFired { attribute, .. } | Fact::AttributeDescribed { attribute, .. } => {
                self.learn_attribute(devices, *attribute)
            }
            Fact::MetricsDeclared { metrics, .. } => {
                let attributes = metrics.iter().filter_map(|metric| metric.attribute);
                attributes.for_each(|attr| self.learn_attribute(devices, attr));
            }
            Fact::DeviceDiscovered { parent: Some(parent), .. } => self.learn_device(devices, *parent),
            Fact::AlertRaised(alert) => self.learn_subject(devices, &alert.subject),
            Fact::AlertCleared(cleared) => self.learn_subject(devices, &cleared.subject),
            _ => {}
        }
    }

    fn learn_subject(&mut self, devices: &Devices, subject: &Subject) {
        subject.attribute().into_iter().for_each(|attr| self.learn_attribute(devices, attr));
    }

    fn learn_device(&mut self, devices: &Devices, id: DeviceId) {
        let name =
            || devices.get(id).map_or_else(|| format!("#{}", id.0).into(), |device| Box::from(&*device.name));
        self.devices.entry(id).or_insert_with(name);
    }

    /// The current description, which may be newer than the event.
    fn learn_description(&mut self, view: &View, device: DeviceId, attr: AttrId) {
        let Some(described) = view.descriptions.get(device) else { return };
        self.described.entry((device, attr)).or_insert_with(|| {
            let description = described.attribute(attr);
            (description.unit.into(), description.name.into())
        });
    }

    fn learn_attribute(&mut self, devices: &Devices, id: AttrId) {
        let name = || devices.attribute_name(id).map_or_else(|| format!("#{}", id.0).into(), Box::from);
        self.attributes.entry(id).or_insert_with(name);
    }
}

impl Naming for Names {
    fn device(&self, id: DeviceId) -> &str {
        self.devices.get(&id).map_or("", |name| name)
    }

    fn attribute(&self, id: AttrId) -> &str {
        self.attributes.get(&id).map_or("", |name| name)
    }

    fn described(&self, device: DeviceId, attribute: AttrId) -> (&str, &str) {
        self.described.get(&(device, attribute)).map_or(("", ""), |(unit, name)| (unit, name))
    }
}

/// A record as an event.
pub(super) fn event_json<'a>(
    entry: &'a Entry,
    names: &'a Names,
    gateway: &str,
    epoch: Epoch,
) -> Event<'a, Data<'a>> {
    Event {
        id: format!("{gateway}/{epoch}/{}", entry.seq).into(),
        seq: entry.seq,
        kind: entry.kind().into(),
        time: Rfc3339(entry.time),
        wall_time: (entry.wall != entry.time).then_some(Rfc3339(entry.wall)),
        device_time: entry.device_time.map(Rfc3339),
        cause: entry.cause,
        device: entry.fact.device().map(|id| names.device(id).into()),
        data: Data::of(&entry.fact, names),
    }
}
