//! A gateway's log, and the parcels that it sends.

use std::time::{Duration, SystemTime};

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::fact::{Availability, AvailabilityCause, ClockQuality};
use fieldlog_projections::{
    AttrId, ChainHash, DescribedBy, DeviceDescription, DeviceId, Epoch, Fact, Record, Seq, Time, Value, View,
    Window,
};
use fieldlog_sim::rng::Rng;
use fieldlog_wire::cloudevent::CloudEvents;
use fieldlog_wire::compact::Encoder;
use fieldlog_wire::event::Naming;
use fieldlog_wire::{Lane, Manifest};

/// The logs begin so long ago.
const AGE: Duration = Duration::from_secs(3 * 86_400);
const ATTRIBUTES: [&str; 5] = ["power", "energy", "mode", "linked", "list"];

/// The form in which a parcel is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    Compact,
}

/// A request that sends a parcel.
#[derive(Clone, Debug)]
pub struct Post {
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A gateway.
pub struct Gateway {
    pub name: String,
    pub epoch: Epoch,
    pub form: Form,
    body: RecordBuffer,
    /// The state that results from all records: what the tables must say.
    pub view: View,
    /// The chain after each record; the first is the one before all.
    links: Vec<ChainHash>,
    rng: Rng,
    now: Time,
}

/// Names of devices and attributes, from the view.
struct Names<'a>(&'a View);

impl Naming for Names<'_> {
    fn device(&self, id: DeviceId) -> &str {
        self.0.devices.get(id).map_or("", |device| &device.name)
    }

    fn attribute(&self, id: AttrId) -> &str {
        self.0.devices.attribute_name(id).unwrap_or_default()
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

/// A random number generator whose seed is printed.
pub fn random() -> Rng {
    let clock = since_1970().as_nanos() as u64;
    let seed = std::env::var("FIELDLOG_SEED").ok().map_or(clock, |text| text.parse().unwrap());
    println!("FIELDLOG_SEED={seed}");
    Rng::new(seed)
}

impl Gateway {
    /// A log with this many devices, some of which are described, and nothing said by them yet.
    pub fn new(name: &str, form: Form, devices: u32, mut rng: Rng) -> Gateway {
        let epoch = Epoch(rng.next_u64());
        let windows = [(60, 10_000), (3_600, 1_000), (86_400, 100)];
        let windows = windows.map(|(length_s, keep)| Window { length_s, keep }).to_vec();
        let mut gateway = Gateway {
            name: name.into(),
            epoch,
            form,
            body: RecordBuffer::after(Time(0)),
            view: View::new(windows),
            links: vec![ChainHash::origin(epoch)],
            rng,
            now: Time((since_1970() - AGE).as_micros() as i64),
        };
        let clock = ClockQuality::Synchronised;
        gateway.record(&Fact::Booted { boot_id: [1; 16], version: "1".into(), clock });
        for (name, attribute) in ATTRIBUTES.iter().zip(0..) {
            gateway.record(&Fact::AttributeNamed { attribute: AttrId(attribute), name: (*name).into() });
        }
        for number in 0..devices {
            let (device, name) = (DeviceId(number), format!("hall/{number}"));
            let parent = (number > 0).then_some(DeviceId(0));
            gateway.record(&Fact::DeviceDiscovered {
                device,
                name,
                source: "plant".into(),
                parent,
                identity: None,
            });
            if number % 3 == 1 {
                let description =
                    DeviceDescription { model: format!("M{number}"), ..DeviceDescription::default() };
                gateway.record(&Fact::DeviceDescribed { device, by: DescribedBy::Discovery, description });
                let description = DeviceDescription {
                    area: "hall".into(),
                    model: "said".into(),
                    ..DeviceDescription::default()
                };
                gateway.record(&Fact::DeviceDescribed { device, by: DescribedBy::Operator, description });
            }
        }
        gateway
    }

    /// Appends a record a while after the last one.
    pub fn record(&mut self, fact: &Fact) {
        self.now.0 += self.rng.between(1_000, 40_000_000) as i64;
        let before = self.body.bytes();
        self.body.push_fact(Envelope { wall: self.now, ..Envelope::default() }, fact);
        let link = *self.links.last().unwrap();
        self.links.push(link.after(&self.body.body()[before..]));
        let records = self.body.records(Seq(1));
        let last = records.map(Result::unwrap).nth(self.body.len() - 1).unwrap();
        self.view.apply(&last).unwrap();
    }

    /// Appends this many random records.
    pub fn live(&mut self, records: usize) {
        for _ in 0..records {
            let devices = self.view.devices.len();
            let device = DeviceId(self.rng.below(devices) as u32);
            let fact = match self.rng.below(20) {
                0 => Fact::AvailabilityChanged {
                    device,
                    availability: *self.rng.pick(&[Availability::Online, Availability::Offline]),
                    cause: AvailabilityCause::Topic,
                },
                1 => Fact::ActionFired { device, attribute: AttrId(2), value: Value::Text("press".into()) },
                2 => Fact::DeviceRetired { device },
                _ => Fact::StateChanged { device, changes: self.changes() },
            };
            self.record(&fact);
        }
    }

    /// Values whose types change, too.
    fn changes(&mut self) -> Vec<(AttrId, Value)> {
        let rng = &mut self.rng;
        let number = rng.below(10_000) as i64;
        let mut changes = vec![(AttrId(0), Value::Float(number as f64 / 8.0))];
        match rng.below(6) {
            0 => changes.push((AttrId(1), Value::Int(number))),
            1 => changes.push((AttrId(1), Value::Text("unknown".into()))),
            2 => changes.push((AttrId(1), Value::Null)),
            3 => changes.push((AttrId(2), Value::Text(format!("m{number}").into()))),
            4 => changes.push((AttrId(3), Value::Bool(number % 2 == 0))),
            _ => changes.push((AttrId(4), Value::Json(format!("[{number}, \"a\"]").into()))),
        }
        changes
    }

    /// Newest position.
    pub fn head(&self) -> u64 {
        self.body.len() as u64
    }

    /// The chain after a position.
    pub fn link(&self, seq: u64) -> ChainHash {
        self.links[seq as usize]
    }

    /// A copy that goes its own way from here on: a clone, or a backup that is put back later.
    pub fn copy(&self, rng: Rng) -> Gateway {
        let mut body = RecordBuffer::after(Time(0));
        self.body.records(Seq(1)).map(Result::unwrap).for_each(|record| body.push_record(&record));
        let (name, links) = (self.name.clone(), self.links.clone());
        Gateway {
            name,
            epoch: self.epoch,
            form: self.form,
            body,
            view: self.view.clone(),
            links,
            rng,
            now: self.now,
        }
    }

    /// The log of a new epoch that takes over from this one: it has its records, and says where they come from.
    pub fn successor(&self, mut rng: Rng) -> Gateway {
        let epoch = Epoch(rng.next_u64());
        let (mut body, mut links) = (RecordBuffer::after(Time(0)), vec![ChainHash::origin(epoch)]);
        for record in self.body.records(Seq(1)) {
            let before = body.bytes();
            body.push_record(&record.unwrap());
            let link = *links.last().unwrap();
            links.push(link.after(&body.body()[before..]));
        }
        let (name, view) = (self.name.clone(), self.view.clone());
        let mut next = Gateway { name, epoch, form: self.form, body, view, links, rng, now: self.now };
        next.record(&Fact::EpochBegun { previous: Some(self.epoch), reason: "restored".into() });
        next
    }

    /// The positions from `first` on, in parcels of random sizes.
    pub fn split(&mut self, first: u64) -> Vec<(u64, u64)> {
        let (mut parts, mut first) = (Vec::new(), first);
        while first <= self.head() {
            let last = (first + self.rng.below(40) as u64).min(self.head());
            parts.push((first, last));
            first = last + 1;
        }
        parts
    }

    /// The parcel of these positions.
    pub fn parcel(&self, (first, last): (u64, u64), lane: Lane) -> Post {
        self.filtered((first, last), lane, |_| true)
    }

    /// The same, without the events that do not pass.
    pub fn filtered(
        &self,
        (first, last): (u64, u64),
        lane: Lane,
        pass: impl Fn(&Record<'_>) -> bool,
    ) -> Post {
        let records = self.body.records(Seq(1)).map(Result::unwrap);
        let records: Vec<Record<'_>> =
            records.filter(|record| (first..=last).contains(&record.seq.0) && pass(record)).collect();
        let manifest = Manifest {
            gateway: self.name.as_str().into(),
            epoch: self.epoch,
            first: Seq(first),
            last: Seq(last),
            lane,
            before: self.link(first - 1),
            after: self.link(last),
            head: Seq(self.head()),
            events: records.len() as u32,
        };
        let names = Names(&self.view);
        let body = match self.form {
            Form::Compact => {
                let mut encoder = Encoder::default();
                encoder.begin();
                records.iter().for_each(|record| encoder.push(record, Seq(first)).unwrap());
                encoder.finish(&manifest, &names).to_vec()
            }
            Form::Json => {
                let mut events = CloudEvents::new(&self.name, self.epoch);
                let mut body = b"[".to_vec();
                for record in &records {
                    if body.len() > 1 {
                        body.push(b',');
                    }
                    let device = record.subject().unwrap().map(|id| names.device(id));
                    events.write(record, device, &names, &mut body).unwrap();
                }
                body.push(b']');
                body
            }
        };
        let fields = manifest.fields().into_iter();
        let headers = fields.map(|(name, value)| (format!("fieldlog-{name}"), value)).collect();
        Post { headers, body }
    }
}
