//! A log that is damaged or has lost its end, with sinks that have part of it.

use std::path::Path;

use fieldlog::log::FILE_NAME;
use fieldlog_projections::Seq;
use fieldlog_tests::agent::Agent;
use fieldlog_tests::proxy::{Fault, Proxy};
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::wait::until;
use redb::{Database, ReadableTable, TableDefinition};

use super::site::{Site, forwarded, http, random};

const CHUNKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("chunks");

const CURSORS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("cursors");
const SUMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sums");

/// Changes the chunks of a log that is not open.
fn change<T>(data_dir: &Path, change: impl FnOnce(&mut redb::Table<'_, u64, &'static [u8]>) -> T) -> T {
    let db = Database::open(data_dir.join(FILE_NAME)).unwrap();
    let txn = db.begin_write().unwrap();
    let done = change(&mut txn.open_table(CHUNKS).unwrap());
    // A backup, or the rest after a crash, has no `closed` row that contradicts.
    txn.open_table(SUMS).unwrap().remove("closed").unwrap();
    txn.commit().unwrap();
    done
}

fn firsts(chunks: &redb::Table<'_, u64, &'static [u8]>) -> Vec<u64> {
    chunks.iter().unwrap().map(|entry| entry.unwrap().0.value()).collect()
}

/// Flips a bit in a chunk from the middle; first and last position of it.
pub fn damage(data_dir: &Path) -> (u64, u64) {
    change(data_dir, |chunks| {
        let firsts = firsts(chunks);
        let at = firsts.len() / 2;
        let mut bytes = chunks.get(firsts[at]).unwrap().unwrap().value().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        chunks.insert(firsts[at], bytes.as_slice()).unwrap();
        (firsts[at], firsts[at + 1] - 1)
    })
}

/// Removes the second half of the chunks; the last position that is left.
fn lose_end(data_dir: &Path) -> u64 {
    change(data_dir, |chunks| {
        let firsts = firsts(chunks);
        let from = firsts[firsts.len() / 2];
        chunks.retain(|first, _| first < from).unwrap();
        from - 1
    })
}

fn words(agent: &Agent) -> String {
    let view = agent.handle.sinks.views().remove(0);
    view.summary(&agent.handle.shared.reader, fieldlog::clock::Clock::system().wall())
}

/// An agent's log with a backlog of many chunks for a sink that cannot be reached.
async fn with_backlog(site: &mut Site) {
    let mut rng = random();
    let proxy = Proxy::start("127.0.0.1:9".parse().unwrap(), Fault::Refuse).await;
    let agent = site.start(&site.config(&http(proxy.address, ""))).await;
    site.post_bytes(&mut rng, 300_000);
    site.recorded().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_damaged_chunk_in_a_backlog_stops_nothing_else() {
    let receiver = Receiver::http().await;
    let mut site = Site::new().await;
    with_backlog(&mut site).await;
    let (first, last) = damage(&site.data_dir());
    assert!(first > 1 && first <= last, "{first} to {last}");
    let sink = http(receiver.address(), "parcel_events_max = 10");
    let agent = site.start(&site.config(&sink)).await;
    site.post(20);
    site.recorded().await;
    let missing = [(Seq(first), Seq(last))];
    let arrived = || receiver.log().is_some_and(|log| log.newest.0 == agent.head() && log.missing == missing);
    until("everything that can be read", arrived).await;
    let said = words(&agent);
    let range = format!("sequence {first} to {last} is damaged in the log and not delivered");
    assert!(said.contains(&range) && said.contains("fieldlog verify"), "{said}");
    let details = agent.handle.sinks.views()[0].status.details();
    let error = details.last_error.unwrap().why;
    assert!(error.contains(&format!("the log is damaged at sequence {first}")), "{error}");
    // It is not delivered, and does not count as delivered.
    assert_eq!(details.acked.contiguous().0, first - 1);
    agent.stop().await;
    let (log, _) = receiver.stop().await;
    assert_eq!(log.counts.faults, 0, "{log}");
}

/// In strict order nothing is sent before the unreadable part.
#[tokio::test]
async fn in_strict_order_a_damaged_chunk_stops_the_sink() {
    let receiver = Receiver::http().await;
    let mut site = Site::new().await;
    with_backlog(&mut site).await;
    let (first, _) = damage(&site.data_dir());
    let sink = http(receiver.address(), "order = \"strict\"\nparcel_events_max = 10");
    let agent = site.start(&site.config(&sink)).await;
    let view = agent.handle.sinks.views().remove(0);
    let damaged = format!("the log is damaged at sequence {first}");
    until("the damage", || view.status.details().state.to_string().contains(&damaged)).await;
    assert_eq!(view.status.details().state.label(), "backing_off");
    assert!(receiver.newest() < first);
    agent.stop().await;
}

#[tokio::test]
async fn what_a_log_that_has_lost_its_end_records_anew_is_sent() {
    let before = Receiver::http().await;
    let mut site = Site::new().await;
    let mut rng = random();
    let agent = site.start(&site.config(&http(before.address(), ""))).await;
    site.post_bytes(&mut rng, 300_000);
    site.recorded().await;
    forwarded(&agent).await;
    let had = agent.head();
    agent.stop().await;
    let left = lose_end(&site.data_dir());
    assert!(left > 10 && left < had, "{left} of {had}");

    // The log grows past what the sink has acknowledged while nothing can be sent.
    let proxy = Proxy::start("127.0.0.1:9".parse().unwrap(), Fault::Refuse).await;
    let agent = site.start(&site.config(&http(proxy.address, ""))).await;
    let said = words(&agent);
    let ends = format!("acknowledged up to sequence {had}, but the log ends at {left}");
    assert!(said.contains(&ends) && said.contains("fieldlog verify"), "{said}");
    site.post((had - left) as usize + 100);
    site.recorded().await;
    assert!(agent.head() > had + 50);
    agent.stop().await;

    let after = Receiver::http().await;
    let agent = site.start(&site.config(&http(after.address(), ""))).await;
    forwarded(&agent).await;
    let head = agent.head();
    agent.stop().await;
    let (log, _) = after.stop().await;
    assert_eq!((log.first.0, log.newest.0), (left + 1, head), "{log}");
    assert!(log.missing.iter().all(|(_, last)| last.0 <= left), "{log}");
}

#[tokio::test]
async fn a_damaged_cursor_is_said_and_everything_is_sent_again() {
    let receiver = Receiver::http().await;
    let mut site = Site::new().await;
    let agent = site.start(&site.config(&http(receiver.address(), ""))).await;
    site.post(200);
    site.recorded().await;
    forwarded(&agent).await;
    agent.stop().await;
    receiver.stop().await;

    let db = Database::open(site.data_dir().join(FILE_NAME)).unwrap();
    let txn = db.begin_write().unwrap();
    let name = {
        let mut cursors = txn.open_table(CURSORS).unwrap();
        let (name, mut cursor) = cursors
            .first()
            .unwrap()
            .map(|(name, cursor)| (name.value().to_owned(), cursor.value().to_vec()))
            .unwrap();
        *cursor.last_mut().unwrap() ^= 1;
        cursors.insert(name.as_str(), cursor.as_slice()).unwrap();
        name
    };
    txn.commit().unwrap();
    drop(db);

    // A receiver without any events gets everything from the beginning.
    let receiver = Receiver::http().await;
    let agent = site.start(&site.config(&http(receiver.address(), ""))).await;
    let said = words(&agent);
    for part in [
        &format!("cursor of the sink \"{name}\"")[..],
        "sends it everything in the log again",
        "fieldlog verify",
    ] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    forwarded(&agent).await;
    let head = agent.head();
    agent.stop().await;
    let (log, _) = receiver.stop().await;
    assert_eq!((log.first.0, log.newest.0, log.counts.faults), (1, head, 0), "{log}");
    assert!(log.missing.is_empty(), "{log}");
}
