//! A disk with less space than `bytes_max` allows for.

use std::time::Duration;

use fieldlog::clock::TestClock;
use fieldlog::verify::verify;
use fieldlog_tests::agent::Agent;
use fieldlog_tests::tmpfs::Tmpfs;
use fieldlog_tests::wait::until;

use super::site::{Site, random};

const MIB: usize = 1 << 20;

fn blocked(agent: &Agent) -> Option<String> {
    agent.handle.shared.stats.blocked()
}

/// With `drop-oldest`, a small disk holds the newest records, and messages are accepted without end.
#[tokio::test]
async fn drop_oldest_makes_room_on_a_disk_that_is_smaller_than_bytes_max() {
    let mut rng = random();
    let mut site = Site::new().await;
    let Some(_disk) = Tmpfs::mount(&site.data_dir(), "24M") else { return };
    let retention = format!(
        "[retention]\nwhen_full = \"drop-oldest\"\nfree_bytes_min = {}\n[snapshots]\nevents = 2000\nkeep = 1\n",
        12 * MIB
    );
    let clock = TestClock::running();
    let agent = site.start_at(&site.config(&retention), &clock).await;
    // Four times what the disk has, in parts as they come in a few seconds.
    for _ in 0..24 {
        site.post_bytes(&mut rng, 2 * MIB);
        site.recorded().await;
        agent.pass(&clock, Duration::from_secs(1)).await;
        assert_eq!(blocked(&agent), None);
    }
    let first = || agent.first().0;
    until("dropped records", || first() > 1_000).await;
    agent.stop().await;
    assert_eq!(verify(&site.data_dir()).unwrap().fault, None);
}

/// A blocked log is blocked from the first message on, also after a restart.
#[tokio::test]
async fn a_restart_lets_nothing_into_a_blocked_log() {
    let mut site = Site::new().await;
    let Some(disk) = Tmpfs::mount(&site.data_dir(), "40M") else { return };
    let config = site.config(&format!("[retention]\nfree_bytes_min = {}\n", 16 * MIB));
    let agent = site.start(&config).await;
    disk.fill(30 * MIB);
    until("the end of acknowledging", || blocked(&agent).is_some()).await;
    site.post(100);
    until("a full window", || site.session().in_flight == 20).await;
    agent.stop().await;
    for _ in 0..2 {
        let clock = TestClock::running();
        let agent = site.start_at(&config, &clock).await;
        until("a full window", || site.session().in_flight == 20).await;
        agent.pass(&clock, Duration::from_secs(6)).await;
        assert!(blocked(&agent).is_some());
        let session = site.session();
        assert_eq!((session.in_flight, session.queued), (20, 80), "a restart let messages in");
        agent.stop().await;
    }
}
