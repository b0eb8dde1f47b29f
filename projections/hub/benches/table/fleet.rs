//! Gateways, and the parcels that they send, made before anything is measured.

use std::time::{Duration, SystemTime};

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::fact::{Availability, AvailabilityCause};
use fieldlog_projections::{AttrId, ChainHash, DeviceId, Epoch, Fact, Seq, Time, Value};
use fieldlog_sim::rng::Rng;
use fieldlog_wire::compact::Encoder;
use fieldlog_wire::event::Naming;
use fieldlog_wire::{Lane, Manifest};

/// As gateways send them while they have a backlog.
pub const PARCEL_EVENTS: usize = 500;

const ATTRIBUTES: [&str; 8] =
    ["power", "energy", "voltage", "temperature", "humidity", "battery", "state", "linkquality"];

/// What the fleet is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Plants: each device says something every second.
    Busy,
    /// Homes: each device says something every 20 seconds.
    Quiet,
}

/// What the parcels are like.
pub fn describe() -> String {
    format!(
        "busy: {} gateways with {} devices at 1 event/s each; quiet: {} gateways with {} devices at 0.05 events/s each; \
         of the events 7 in 10 have 2 or 3 numbers of a meter, 2 in 10 those of a sensor, 1 in 10 a text and a number; \
         compact parcels, of {PARCEL_EVENTS} events unless it says otherwise, over HTTP",
        Kind::Busy.gateways(),
        Kind::Busy.devices(),
        Kind::Quiet.gateways(),
        Kind::Quiet.devices(),
    )
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Busy => "busy",
            Kind::Quiet => "quiet",
        }
    }

    fn gateways(self) -> usize {
        match self {
            Kind::Busy => 200,
            Kind::Quiet => 1_000,
        }
    }

    fn devices(self) -> usize {
        match self {
            Kind::Busy => 10,
            Kind::Quiet => 20,
        }
    }

    /// Between two events of a gateway.
    fn pause(self) -> Duration {
        match self {
            Kind::Busy => Duration::from_millis(100),
            Kind::Quiet => Duration::from_secs(1),
        }
    }
}

/// The gateways of one kind.
pub struct Fleet {
    kind: Kind,
    gateways: Vec<Gateway>,
}

/// The requests of each gateway, in their order.
pub struct Parcels(pub Vec<Vec<Request>>);

/// A parcel as it is posted.
pub struct Request {
    pub events: usize,
    pub body: Vec<u8>,
}

impl Parcels {
    pub fn events(&self) -> usize {
        self.0.iter().flatten().map(|request| request.events).sum()
    }
}

struct Gateway {
    name: String,
    epoch: Epoch,
    devices: Vec<String>,
    rng: Rng,
    head: u64,
    link: ChainHash,
    now: Time,
    energy: Vec<i64>,
}

impl Naming for Gateway {
    fn device(&self, id: DeviceId) -> &str {
        &self.devices[id.0 as usize]
    }

    fn attribute(&self, id: AttrId) -> &str {
        ATTRIBUTES[id.0 as usize]
    }
}

impl Fleet {
    /// Always the same one.
    pub fn new(kind: Kind) -> Fleet {
        let mut rng = Rng::new(1);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
        let start = Time((now - Duration::from_secs(2 * 3_600)).as_micros() as i64);
        let gateways = (0..kind.gateways()).map(|number| {
            let mut rng = rng.fork();
            let epoch = Epoch(rng.next_u64());
            Gateway {
                name: format!("plant-{number:04}"),
                epoch,
                devices: (0..kind.devices())
                    .map(|device| format!("hall-{}/device-{device}", device % 3))
                    .collect(),
                rng,
                head: 0,
                link: ChainHash::origin(epoch),
                now: start,
                energy: vec![0; kind.devices()],
            }
        });
        Fleet { kind, gateways: gateways.collect() }
    }

    pub fn gateways(&self) -> usize {
        self.gateways.len()
    }

    /// So many events of all gateways together, in parcels of this size.
    pub fn parcels(&mut self, events: usize, each: usize) -> Parcels {
        let of_each = (events / self.gateways.len() / each).max(1);
        let pause = self.kind.pause();
        let requests = self.gateways.iter_mut().map(|gateway| {
            (0..of_each).map(|_| Request { events: each, body: gateway.parcel(each, pause) }).collect()
        });
        Parcels(requests.collect())
    }
}

impl Gateway {
    fn parcel(&mut self, events: usize, pause: Duration) -> Vec<u8> {
        let mut records = RecordBuffer::after(self.now);
        for _ in 0..events {
            self.now.0 += self.rng.between(1, 2 * pause.as_micros() as usize) as i64;
            let fact = self.fact();
            records.push_fact(Envelope { wall: self.now, ..Envelope::default() }, &fact);
        }
        let (first, last) = (Seq(self.head + 1), Seq(self.head + events as u64));
        let manifest = Manifest {
            gateway: self.name.as_str().into(),
            epoch: self.epoch,
            first,
            last,
            lane: Lane::Live,
            before: self.link,
            after: records.link_after(self.link),
            head: last,
            events: events as u32,
        };
        (self.head, self.link) = (last.0, manifest.after);
        let mut encoder = Encoder::default();
        encoder.begin();
        for record in records.records(first) {
            encoder.push(&record.expect("a record"), first).expect("a record of this version");
        }
        encoder.finish(&manifest, self).to_vec()
    }

    fn fact(&mut self) -> Fact {
        let rng = &mut self.rng;
        let at = rng.below(self.devices.len());
        let device = DeviceId(at as u32);
        // 0 to 6 meters, 7 and 8 sensors, 9 a switch; with more devices the same again.
        let changes = match at % 10 {
            _ if rng.chance(1) => {
                let availability = *rng.pick(&[Availability::Online, Availability::Offline]);
                return Fact::AvailabilityChanged { device, availability, cause: AvailabilityCause::Topic };
            }
            0..7 => {
                self.energy[at] += rng.below(20) as i64;
                let mut changes = vec![
                    (AttrId(0), Value::Float(rng.below(30_000) as f64 / 10.0)),
                    (AttrId(1), Value::Int(self.energy[at])),
                ];
                if rng.chance(50) {
                    changes.push((AttrId(2), Value::Float(225.0 + rng.below(100) as f64 / 10.0)));
                }
                changes
            }
            7 | 8 => vec![
                (AttrId(3), Value::Float(15.0 + rng.below(150) as f64 / 10.0)),
                (AttrId(4), Value::Float(rng.below(1_000) as f64 / 10.0)),
                (AttrId(5), Value::Int(rng.below(100) as i64)),
            ],
            _ => vec![
                (AttrId(6), Value::Text((*rng.pick(&["ON", "OFF"])).into())),
                (AttrId(7), Value::Int(rng.below(255) as i64)),
            ],
        };
        Fact::StateChanged { device, changes }
    }
}
