//! Scans of a log that is being written.

use std::ops::ControlFlow;

use fieldlog::log::{Log, LogOptions};
use fieldlog_projections::chunk::{Chunk, Envelope, RecordBuffer};
use fieldlog_projections::{AttrId, ChainHash, DeviceId, Epoch, Fact, Seq, Value};

use crate::rig::scratch;

fn append(log: &mut Log, records: i64) {
    let mut body = RecordBuffer::after(log.last_time());
    for n in 0..records {
        let changes = vec![(AttrId(0), Value::Int(n))];
        body.push_fact(Envelope::default(), &Fact::StateChanged { device: DeviceId(0), changes });
    }
    log.append(&body, &[]).unwrap();
}

/// The chunks and records that a scan was given.
#[derive(Default)]
struct Given {
    seqs: Vec<u64>,
    link: Option<ChainHash>,
}

impl Given {
    /// Takes a chunk, whose header must continue the previous ones.
    fn take(&mut self, chunk: &Chunk<'_>) {
        let header = &chunk.header;
        let mut link = *self.link.get_or_insert(header.place.link);
        assert_eq!(header.place.link, link, "the chain breaks before {}", header.first);
        let before = self.seqs.len();
        for record in chunk.records() {
            let record = record.unwrap();
            link = link.after(record.raw);
            self.seqs.push(record.seq.0);
        }
        let mine = &self.seqs[before..];
        assert_eq!(mine.first(), Some(&header.first.0));
        assert_eq!((mine.last(), mine.len()), (Some(&header.last().0), header.count as usize));
        self.link = Some(link);
    }
}

#[test]
fn a_chunk_that_grows_during_a_scan_is_given_on_from_where_it_had_ended() {
    let dir = scratch();
    let options = LogOptions { cache_bytes: 1 << 20, quick_repair: false, quarantine_records_max: 10 };
    let mut log = Log::open(dir.path(), options, Epoch(5)).unwrap();
    append(&mut log, 10);
    let reader = log.reader();
    // It grows within its page, then beyond, then once more in the next chunk.
    let mut more = [1, 7, 3_000, 2].into_iter();
    let mut given = Given::default();
    let ended = reader.scan(Seq(1), |chunk| {
        given.take(chunk);
        if let Some(records) = more.next() {
            append(&mut log, records);
        }
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(ended.unwrap(), None);
    assert_eq!(more.next(), None, "the log did not grow as it was meant to");
    assert_eq!(given.seqs, (1..=log.head().0).collect::<Vec<_>>());
    assert_eq!(given.link, Some(log.link()));
}

#[test]
fn the_first_chunk_of_a_scan_is_whole() {
    let dir = scratch();
    let options = LogOptions { cache_bytes: 1 << 20, quick_repair: false, quarantine_records_max: 10 };
    let mut log = Log::open(dir.path(), options, Epoch(5)).unwrap();
    append(&mut log, 10);
    let first = log.reader().scan(Seq(4), |chunk| ControlFlow::Break(chunk.header.first));
    assert_eq!(first.unwrap(), Some(Seq(1)));
}
