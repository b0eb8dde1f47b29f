//! A disk with less free space than `retention.free_bytes_min`.

use std::time::Duration;

use fieldlog::clock::TestClock;
use fieldlog::verify::verify;
use fieldlog_projections::Value;
use fieldlog_tests::agent::Agent;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::proxy::{Fault, Proxy};
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::tmpfs::Tmpfs;
use fieldlog_tests::wait::until;

use super::site::{Site, arrived, assert_complete, http};

const MIB: usize = 1 << 20;
/// Of a disk of 40 MiB; more than an empty log has.
const MIN: usize = 16 * MIB;
/// What takes it below that.
const FILLER: usize = 30 * MIB;

fn retention() -> String {
    format!("[retention]\nfree_bytes_min = {MIN}\n")
}

fn blocked(agent: &Agent) -> Option<String> {
    agent.handle.shared.stats.blocked()
}

/// Fills the disk, and publishes messages that must wait for space.
async fn block(site: &mut Site, disk: &Tmpfs, agent: &Agent) {
    disk.fill(FILLER);
    until("the end of acknowledging", || blocked(agent).is_some()).await;
    site.post(100);
    until("a full window", || site.session().in_flight == 20).await;
    let recorded = agent.head();
    // Commits come 20 ms after the first message.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let session = site.session();
    assert_eq!((session.in_flight, session.queued), (20, 80), "messages were acknowledged without room");
    assert_eq!(agent.head(), recorded);
}

/// Each of the devices has the last value that was posted for it.
fn assert_values(agent: &Agent, posted: i64) {
    for n in posted - 19..=posted {
        let value = agent.value(&format!("d{}", n % 20), "value");
        assert_eq!(value, Some(Value::Int(n)));
    }
}

#[tokio::test]
async fn messages_are_taken_again_when_there_is_room() {
    let mut site = Site::new().await;
    let Some(disk) = Tmpfs::mount(&site.data_dir(), "40M") else { return };
    let agent = site.start(&site.config(&retention())).await;
    site.post(10);
    site.recorded().await;
    block(&mut site, &disk, &agent).await;
    let why = blocked(&agent).unwrap();
    assert!(why.contains("retention.free_bytes_min") && why.contains("Make room"), "{why}");

    disk.clear();
    until("messages taken again", || blocked(&agent).is_none()).await;
    site.recorded().await;
    assert_values(&agent, 110);
    agent.stop().await;
    assert_eq!(verify(&site.data_dir()).unwrap().fault, None);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_acknowledgements_that_cannot_come() {
    let mut site = Site::new().await;
    let Some(disk) = Tmpfs::mount(&site.data_dir(), "40M") else { return };
    let config = site.config(&retention());
    let clock = TestClock::running();
    let agent = site.start_at(&config, &clock).await;
    block(&mut site, &disk, &agent).await;
    // From now on, waiting for time to pass never ends.
    clock.stand();
    agent.stop().await;
    assert_eq!(site.session().in_flight + site.session().queued, 100);

    disk.clear();
    let agent = site.start(&config).await;
    site.recorded().await;
    assert_values(&agent, 100);
    agent.stop().await;
    assert_eq!(Logbook::read(&site.data_dir()).changes().count(), 100, "each is recorded once");
}

/// Stored events are forwarded although no more can be stored.
#[tokio::test]
async fn forwarding_goes_on_while_messages_wait_for_room() {
    let receiver = Receiver::http().await;
    let proxy = Proxy::start(receiver.address(), Fault::Refuse).await;
    let mut site = Site::new().await;
    let Some(disk) = Tmpfs::mount(&site.data_dir(), "40M") else { return };
    let agent = site.start(&site.config(&(retention() + &http(proxy.address, "")))).await;
    site.post(500);
    site.recorded().await;
    block(&mut site, &disk, &agent).await;
    proxy.set(Fault::Pass);
    arrived(&agent, &receiver).await;
    assert!(blocked(&agent).is_some());
    assert_eq!(site.session().in_flight, 20);

    disk.clear();
    until("messages taken again", || blocked(&agent).is_none()).await;
    site.recorded().await;
    arrived(&agent, &receiver).await;
    let head = agent.head();
    agent.stop().await;
    assert_eq!(Logbook::read(&site.data_dir()).changes().count(), 600);
    assert_complete(&receiver.stop().await.0, head);
}
