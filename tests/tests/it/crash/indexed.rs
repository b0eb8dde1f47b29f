//! The index after a crash: it must have what the chunks have.

use std::ops::ControlFlow;

use fieldlog::log::{LogReader, Wanted};
use fieldlog_projections::chunk::Envelope;
use fieldlog_projections::{AttrId, DeviceId, Fact, Seq, Value, View};
use fieldlog_tests::rng::Rng;

use super::records::{Kept, Made, kept};
use super::{Tally, add};

/// Adds records that do not compress, enough for a row.
pub fn add_large(rng: &mut Rng, view: &View, made: &mut Made) {
    let devices = view.devices.len();
    let envelope = Envelope { wall: made.body.last_time(), ..Envelope::default() };
    for _ in 0..if devices == 0 { 0 } else { rng.between(60, 90) } {
        let device = DeviceId(rng.below(devices) as u32);
        let text: String = rng.bytes(14_000).iter().map(|byte| char::from(byte & 63 | 64)).collect();
        let changes = vec![(AttrId(0), Value::Text(text.into()))];
        made.body.push_fact(envelope, &Fact::StateChanged { device, changes });
    }
}

/// Every row is right, and all records of a device and type are found.
pub fn check(reader: &LogReader, records: &[Kept], tally: &Tally) {
    add(&tally.index_rows, reader.index_size().unwrap().rows as usize);
    assert_eq!(reader.check_index().unwrap(), None);
    let Some(some) = records.get(records.len() / 2) else { return };
    let wanted = Wanted { device: some.subject(), types: vec![some.kind.type_id] };
    let fits = |record: &Kept| record.subject() == wanted.device && record.kind.type_id == some.kind.type_id;
    let mut found = Vec::new();
    let stopped = reader.scan_for(Seq(1), &wanted, |chunk| {
        found.extend(kept(chunk.records()).into_iter().filter(fits));
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(stopped.unwrap(), None);
    assert!(found.iter().eq(records.iter().filter(|record| fits(record))), "{wanted:?}");
}
