//! A real log in a temporary directory, for the tests of both ends.

use std::ops::ControlFlow;
use std::sync::{Arc, RwLock};

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::fact::{Availability, AvailabilityCause, ClockQuality, Fact};
use fieldlog_projections::{AttrId, DeviceId, Epoch, Seq, Time, Value, View, stored};

use super::Parcel;
use super::filter::Filter;
use super::parcel::{Builder, Format, Limits, Span};
use crate::log::{Commit, Log, LogOptions};
use fieldlog_wire::Lane;

pub(crate) const EPOCH: Epoch = Epoch(0xfeed_0000_0000_0007);
const DEVICES: u32 = 20;
const ATTRIBUTES: [&str; 4] = ["temperature", "humidity", "link.quality", "state"];

pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) log: Log,
    pub(crate) view: RwLock<View>,
    made: u64,
    /// Changes what is recorded, so that two logs can differ.
    pub(crate) salt: i64,
}

impl Fixture {
    /// A log with names, and `events` state changes of four values, in commits of 1 to 500.
    pub(crate) fn new(events: u64) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        Fixture::open(dir, events)
    }

    /// Continues the log in a directory.
    pub(crate) fn open(dir: tempfile::TempDir, events: u64) -> Fixture {
        let options = LogOptions { cache_bytes: 1 << 24, quick_repair: false, quarantine_records_max: 10 };
        let log = Log::open(dir.path(), options, EPOCH).unwrap();
        let mut fixture = Fixture { dir, log, view: RwLock::default(), made: 0, salt: 0 };
        if fixture.log.head() == Seq(0) {
            fixture.introduce();
        }
        fixture.made = fixture.log.head().0;
        fixture.fold();
        fixture.record(events);
        fixture
    }

    fn introduce(&mut self) {
        let mut facts =
            vec![Fact::Booted { boot_id: [7; 16], version: "0.1".into(), clock: ClockQuality::Synchronised }];
        for (id, name) in (0..).zip(ATTRIBUTES) {
            facts.push(Fact::AttributeNamed { attribute: AttrId(id), name: name.into() });
        }
        for id in 0..DEVICES {
            let parent = (id > 0).then_some(DeviceId(0));
            let (device, name, source) = (DeviceId(id), format!("plant/sensor {id}"), "z2m".into());
            facts.push(Fact::DeviceDiscovered { device, name, source, parent, identity: None });
        }
        facts.push(Fact::AvailabilityChanged {
            device: DeviceId(3),
            availability: Availability::Offline,
            cause: AvailabilityCause::Silence,
        });
        let (device, attribute) = (DeviceId(4), AttrId(3));
        facts.push(Fact::ActionFired { device, attribute, value: Value::Text("push \"1\"".into()) });
        facts.push(Fact::ConfigChanged { keys: vec!["a".into(), "b".into()] });
        let mut body = RecordBuffer::after(self.log.last_time());
        for fact in &facts {
            body.push_fact(Envelope { wall: Time(1_763_892_000_000_000), ..Envelope::default() }, fact);
        }
        self.log.commit(&Commit::of(&body)).unwrap();
    }

    /// Records more.
    pub(crate) fn record(&mut self, events: u64) {
        let until = self.made + events;
        while self.made < until {
            let mut body = RecordBuffer::after(self.log.last_time());
            for _ in 0..(1 + self.made % 500).min(until - self.made) {
                self.made += 1;
                self.push(&mut body);
            }
            self.log.commit(&Commit::of(&body)).unwrap();
        }
        self.fold();
    }

    /// Records that a device is there, or not.
    pub(crate) fn availability(&mut self, device: u32, availability: Availability) -> Seq {
        let (device, cause) = (DeviceId(device), AvailabilityCause::Topic);
        let mut body = RecordBuffer::after(self.log.last_time());
        let fact = Fact::AvailabilityChanged { device, availability, cause };
        body.push_fact(Envelope { wall: self.log.last_time(), ..Envelope::default() }, &fact);
        self.log.commit(&Commit::of(&body)).unwrap();
        self.fold();
        self.log.head()
    }

    fn push(&self, body: &mut RecordBuffer) {
        let n = self.made as i64;
        let wall = Time(1_763_892_000_000_000 + n * 1_700);
        let device_time = (n % 3 == 0).then_some(Time(wall.0 - 1_000_000));
        let values = [
            Value::Float(20.0 + ((n * 7 + self.salt) % 900) as f64 / 100.0),
            Value::Float(((n * 3) % 1000) as f64 / 10.0),
            Value::Int(n % 255),
            Value::Text(if n % 2 == 0 { "ON" } else { "OFF" }.into()),
        ];
        let device = DeviceId((n as u32 * 7) % DEVICES);
        let changes = values.iter().enumerate().map(|(at, value)| (AttrId(at as u32), value.borrow()));
        body.push(Envelope { wall, device_time, cause: None }, |out| {
            stored::encode_changes(device, changes, out)
        });
    }

    fn fold(&mut self) {
        let mut view = self.view.write().unwrap();
        let from = view.seq.next();
        let broken = self.log.reader().scan(from, |chunk| match view.apply_chunk(chunk) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        });
        assert_eq!(broken.unwrap(), None);
    }

    pub(crate) fn builder(&self, filter: Filter, format: Format) -> Builder {
        Builder::new(Arc::from("plant-7"), self.log.epoch(), filter, format)
    }

    /// All parcels from `first` on, of at most `events_max` events.
    pub(crate) fn parcels(
        &self,
        filter: Filter,
        format: Format,
        first: Seq,
        events_max: usize,
    ) -> Vec<Parcel> {
        let mut builder = self.builder(filter, format);
        let mut parcels: Vec<Parcel> = Vec::new();
        let mut from = first;
        while from <= self.log.head() {
            let parcel = self.parcel(&mut builder, from, self.log.head(), events_max).unwrap();
            from = parcel.manifest.last.next();
            parcels.push(parcel);
        }
        parcels
    }

    pub(crate) fn parcel(
        &self,
        builder: &mut Builder,
        first: Seq,
        last_max: Seq,
        events_max: usize,
    ) -> Option<Parcel> {
        self.parcel_of(Lane::Live, builder, first, last_max, events_max)
    }

    pub(crate) fn parcel_of(
        &self,
        lane: Lane,
        builder: &mut Builder,
        first: Seq,
        last_max: Seq,
        events_max: usize,
    ) -> Option<Parcel> {
        let limits = Limits { events_max, bytes_max: 1 << 20 };
        let span = Span { lane, first, last_max, head: self.log.head(), limits };
        builder.build(&self.log.reader(), &self.view, &span).unwrap()
    }
}

/// The body of a JSON batch.
pub(crate) fn batch(parcel: &Parcel) -> Vec<u8> {
    let mut body = vec![b'['];
    for item in &parcel.items {
        if body.len() > 1 {
            body.push(b',');
        }
        body.extend_from_slice(&item.json);
    }
    body.push(b']');
    body
}
