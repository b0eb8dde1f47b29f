//! A whole log, read after the agent has stopped, with names in place of numbers.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;

use fieldlog::log::acked::AckedRanges;
use fieldlog::log::{Log, LogOptions};
use fieldlog_projections::{AttrId, DeviceId, Epoch, Fact, Seq, Time, Value};

/// Every record of a log.
#[derive(Debug)]
pub struct Logbook {
    /// The records in order.
    pub records: Vec<(Seq, Time, Fact)>,
    devices: HashMap<DeviceId, String>,
    attributes: HashMap<AttrId, String>,
    log: Log,
}

impl Logbook {
    /// Reads the log in a data directory; no other process may have it open.
    ///
    /// # Panics
    /// If it cannot be read, or breaks an invariant: positions without gaps from 1 on, log time that never goes back,
    /// names before their use.
    pub fn read(data_dir: &Path) -> Logbook {
        let options = LogOptions { cache_bytes: 1 << 22, quick_repair: false, quarantine_records_max: 1000 };
        assert!(data_dir.join(fieldlog::log::FILE_NAME).exists(), "there is no log in {data_dir:?}");
        let log = Log::open(data_dir, options, Epoch(0)).unwrap();
        let mut records = Vec::new();
        let none = log.reader().scan(Seq(1), |chunk| {
            let mut of_chunk = chunk.records();
            while let Some(record) = of_chunk.next_record().unwrap() {
                records.push((record.seq, record.time, record.fact().unwrap()));
            }
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(none.unwrap(), None);
        let mut book = Logbook { records, devices: HashMap::new(), attributes: HashMap::new(), log };
        book.check();
        book
    }

    fn check(&mut self) {
        let mut before = (Seq(0), Time(i64::MIN));
        for (seq, time, fact) in &self.records {
            assert_eq!(*seq, before.0.next(), "positions have no gaps");
            let corrected = matches!(fact, Fact::ClockCorrected { .. });
            assert!(*time >= before.1 || corrected, "log time goes back at {seq}");
            before = (*seq, *time);
            match fact {
                Fact::DeviceDiscovered { device, name, .. } => {
                    let known = self.devices.insert(*device, name.clone());
                    assert!(known.is_none_or(|known| known == *name), "two names of one device at {seq}");
                }
                Fact::DeviceRenamed { device, name, .. } => {
                    self.devices.insert(*device, name.clone());
                }
                Fact::AttributeNamed { attribute, name } => {
                    assert!(self.attributes.insert(*attribute, name.clone()).is_none());
                }
                _ => {}
            }
            assert!(fact.device().is_none_or(|device| self.devices.contains_key(&device)), "at {seq}");
        }
    }

    /// The stored cursor of a sink.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn cursor(&self, sink: &str) -> Option<AckedRanges> {
        AckedRanges::decode(&self.log.reader().cursor(sink).unwrap()?)
    }

    /// Every value an attribute took, in order: position, device, attribute, value.
    pub fn changes(&self) -> impl Iterator<Item = (Seq, &str, &str, &Value)> {
        self.records.iter().flat_map(move |(seq, _, fact)| {
            let (device, changes) = match fact {
                Fact::StateChanged { device, changes } => (Some(device), changes.as_slice()),
                _ => (None, &[][..]),
            };
            let device = device.map_or("", |device| self.devices[device].as_str());
            changes.iter().map(move |(attr, value)| (*seq, device, self.attributes[attr].as_str(), value))
        })
    }

    /// Every action: device, attribute, value.
    pub fn actions(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        self.records.iter().filter_map(|(_, _, fact)| match fact {
            Fact::ActionFired { device, attribute, value } => {
                Some((self.devices[device].as_str(), self.attributes[attribute].as_str(), value))
            }
            _ => None,
        })
    }

    /// Everything quarantined: topic, reason, and the bytes that were kept.
    pub fn quarantined(&self) -> Vec<(&str, &str, Vec<u8>)> {
        let mut found = Vec::new();
        for (seq, _, fact) in &self.records {
            if let Fact::InputQuarantined { topic, reason, .. } = fact {
                let payload = self.log.reader().quarantined(*seq).unwrap().unwrap_or_default();
                found.push((topic.as_str(), reason.as_str(), payload));
            }
        }
        found
    }

    /// Number of records that satisfy `is`.
    pub fn count(&self, is: impl Fn(&Fact) -> bool) -> usize {
        self.records.iter().filter(|(_, _, fact)| is(fact)).count()
    }

    /// The state that results from the changes: device → attribute → value, without removed ones.
    pub fn state(&self) -> BTreeMap<&str, BTreeMap<&str, &Value>> {
        let mut state: BTreeMap<&str, BTreeMap<&str, &Value>> = BTreeMap::new();
        for (_, device, attribute, value) in self.changes() {
            let attributes = state.entry(device).or_default();
            match value {
                Value::Null => attributes.remove(attribute),
                value => attributes.insert(attribute, value),
            };
        }
        state
    }

    /// Checks that no value equals the previous one, except for the attributes in `every`.
    ///
    /// # Panics
    /// If there is one.
    pub fn assert_no_equal_values(&self, every: &[&str]) {
        let mut last: HashMap<(&str, &str), &Value> = HashMap::new();
        for (seq, device, attribute, value) in self.changes() {
            let before = last.insert((device, attribute), value);
            let same = before.is_some_and(|before| before.borrow().same(value.borrow()));
            assert!(!same || every.contains(&attribute), "{device} {attribute} = {value:?} again at {seq}");
        }
    }
}
