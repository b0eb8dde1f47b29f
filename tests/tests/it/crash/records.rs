//! Records for the tests: valid for the folds, of every type and of many sizes.

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::fact::{Availability, AvailabilityCause, ClockQuality, Fact};
use fieldlog_projections::stored::encode_state_changed_v1;
use fieldlog_projections::{AttrId, DeviceId, Seq, Time, Value, View};
use fieldlog_projections::{Kind, Record, Records};
use fieldlog_tests::rng::Rng;

/// A record on its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub seq: Seq,
    pub time: Time,
    pub wall: Time,
    pub device_time: Option<Time>,
    pub cause: Option<Seq>,
    pub kind: Kind,
    pub payload: Vec<u8>,
}

impl From<Record<'_>> for Kept {
    fn from(record: Record<'_>) -> Kept {
        let Record { seq, time, wall, device_time, cause, kind, payload, .. } = record;
        Kept { seq, time, wall, device_time, cause, kind, payload: payload.to_vec() }
    }
}

impl Kept {
    pub fn subject(&self) -> Option<DeviceId> {
        fieldlog_projections::stored::decode(self.kind, &self.payload).unwrap().device()
    }
}

pub fn kept(records: Records<'_>) -> Vec<Kept> {
    records.map(|record| record.unwrap().into()).collect()
}

/// A batch: records that follow what `view` was folded from, and payloads for the quarantine.
#[derive(Debug)]
pub struct Made {
    pub body: RecordBuffer,
    pub quarantine: Vec<(usize, Vec<u8>)>,
}

/// Makes records; knows only how many devices and attributes there are.
pub struct Maker<'a> {
    rng: &'a mut Rng,
    devices: u32,
    attributes: u32,
    wall: Time,
    made: Made,
}

/// Makes `count` records that follow `view`.
pub fn make(rng: &mut Rng, view: &View, count: usize, text_max: usize) -> Made {
    let mut maker = Maker {
        devices: view.devices.len() as u32,
        attributes: view.devices.attribute_names().len() as u32,
        wall: Time(view.time.0.max(1_700_000_000_000_000)),
        made: Made { body: RecordBuffer::after(view.time), quarantine: Vec::new() },
        rng,
    };
    (0..count).for_each(|_| maker.one(text_max));
    maker.made
}

impl Maker<'_> {
    fn one(&mut self, text_max: usize) {
        self.wall.0 += match self.rng.below(20) {
            0 => -(self.rng.below(100_000_000) as i64),
            1 => self.rng.below(4_000_000_000) as i64,
            _ => self.rng.below(10_000_000) as i64,
        };
        let mut envelope = Envelope { wall: self.wall, ..Envelope::default() };
        if self.rng.chance(20) {
            envelope.device_time = Some(Time(self.wall.0 + self.rng.below(2_000_000) as i64 - 1_000_000));
        }
        if self.rng.chance(5) {
            envelope.cause = Some(Seq(self.rng.next_u64() >> 20));
        }
        if self.devices > 0 && self.rng.chance(3) {
            let changes = [(AttrId(self.rng.below(40) as u32), self.value(text_max))];
            let device = DeviceId(self.rng.below(self.devices as usize) as u32);
            self.made.body.push(envelope, |out| encode_state_changed_v1(device, &changes, out));
            return;
        }
        let fact = self.fact(text_max);
        if let Fact::InputQuarantined { .. } = fact {
            let len = self.rng.below(200);
            let payload = self.rng.bytes(len);
            self.made.quarantine.push((self.made.body.len(), payload));
        }
        self.made.body.push_fact(envelope, &fact);
    }

    fn fact(&mut self, text_max: usize) -> Fact {
        if self.devices == 0 || (self.devices < 30 && self.rng.chance(5)) {
            self.devices += 1;
            let parent = self.rng.chance(30).then(|| DeviceId(self.rng.below(self.devices as usize) as u32));
            return Fact::DeviceDiscovered {
                device: DeviceId(self.devices - 1),
                name: format!("device/{}", self.devices - 1),
                source: "test".into(),
                parent,
                identity: None,
            };
        }
        let device = DeviceId(self.rng.below(self.devices as usize) as u32);
        match self.rng.below(24) {
            0 => Fact::AvailabilityChanged {
                device,
                availability: *self.rng.pick(&[Availability::Online, Availability::Offline]),
                cause: *self.rng.pick(&[AvailabilityCause::Topic, AvailabilityCause::Silence]),
            },
            1 if self.attributes < 40 => {
                self.attributes += 1;
                let attribute = AttrId(self.attributes - 1);
                Fact::AttributeNamed { attribute, name: format!("attribute{}", attribute.0) }
            }
            2 => Fact::DeviceRetired { device },
            3 => Fact::ActionFired {
                device,
                attribute: AttrId(self.rng.below(40) as u32),
                value: self.value(text_max),
            },
            4 => Fact::InputQuarantined {
                source: "test".into(),
                topic: "t".into(),
                reason: "r".into(),
                size: self.rng.next_u64(),
            },
            5 => Fact::Booted {
                boot_id: [self.rng.next_u64() as u8; 16],
                version: "0".into(),
                clock: *self.rng.pick(&[ClockQuality::Unsynchronised, ClockQuality::Synchronised]),
            },
            6 => Fact::ClockStepped { expected: self.wall, found: Time(0) },
            7 => Fact::ConfigChanged { keys: vec!["log.commit_delay_ms".into()] },
            8 => Fact::Unknown {
                kind: Kind { type_id: 900, version: 3 },
                payload: self.rng.bytes(text_max.min(40)),
            },
            _ => {
                let changes = 1 + self.rng.below(4);
                let first = self.rng.below(36) as u32;
                let changes =
                    (0..changes as u32).map(|n| (AttrId(first + n), self.value(text_max))).collect();
                Fact::StateChanged { device, changes }
            }
        }
    }

    fn value(&mut self, text_max: usize) -> Value {
        match self.rng.below(12) {
            0 => Value::Null,
            1 => Value::Bool(self.rng.chance(50)),
            2 => Value::Uint(u64::MAX - self.rng.below(10) as u64),
            3 => {
                let len = self.rng.below(text_max);
                let text = (0..len).map(|_| char::from(33 + self.rng.below(94) as u8)).collect::<String>();
                Value::Text(text.into())
            }
            4 => Value::Json("[1,2]".into()),
            5 => Value::Float(self.rng.next_u64() as f64 / 7.0),
            6..9 => Value::Float(self.rng.below(10_000) as f64 / 100.0),
            _ => Value::Int(self.rng.below(1_000) as i64 - 500),
        }
    }
}
