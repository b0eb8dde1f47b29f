//! A log file that is removed under a running agent, and the settings of the unit.

use std::time::Duration;

use fieldlog_sim::broker::{Broker, Options, Qos};
use fieldlog_tests::process::Process;
use fieldlog_tests::wait::until;

use crate::rig::scratch;

/// Runs `take_away` under a running agent, and checks that the agent ends without acknowledging anything more.
async fn check(take_away: impl FnOnce(&std::path::Path)) {
    let dir = scratch();
    let data_dir = dir.path().join("data");
    let broker = Broker::bind("127.0.0.1:0", Options::default()).await.unwrap();
    let config = dir.path().join("fieldlog.toml");
    let text = format!(
        "data_dir = {data_dir:?}\n[log]\ncommit_delay_ms = 20\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [retention]\nfree_bytes_min = 0\n\
         [[source]]\nname = \"plant\"\naddress = \"mqtt://{}\"\n\
         [[source.subscription]]\ntopic = \"d/+device\"\ndecoder = \"json\"\ndevice = \"{{device}}\"\n",
        broker.local_addr()
    );
    std::fs::write(&config, text).unwrap();
    let process = Process::run(&config, &[]);
    // Retained, so that it arrives with the subscription.
    let publish = |n: u32| {
        broker.publish("d/one", format!("{{\"n\":{n}}}"), true, Qos::AtLeastOnce).unwrap();
    };
    publish(1);
    until("a PUBACK", || broker.stats().pubacks_in == 1).await;
    take_away(&data_dir);
    publish(2);
    let ended = process.ended().await;
    assert_eq!(ended.code, 74, "{}", ended.words);
    for part in ["log.redb", "was deleted, moved or replaced", "start fieldlog again"] {
        assert!(ended.words.contains(part), "{part:?} is not in: {}", ended.words);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(broker.stats().pubacks_in, 1, "a message was acknowledged into a file that is gone");
}

#[tokio::test]
async fn a_log_that_is_deleted_ends_the_agent() {
    check(|data_dir| std::fs::remove_file(data_dir.join("log.redb")).unwrap()).await;
}

#[tokio::test]
async fn a_log_that_is_replaced_ends_the_agent() {
    check(|data_dir| {
        let log = data_dir.join("log.redb");
        std::fs::copy(&log, data_dir.join("other")).unwrap();
        std::fs::rename(data_dir.join("other"), log).unwrap();
    })
    .await;
}

#[test]
fn the_unit_sets_each_variable_once() {
    let unit = include_str!("../../../systemd/fieldlog.service");
    let mut names: Vec<_> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("Environment=")?.split_once('='))
        .map(|(name, _)| name)
        .collect();
    assert!(names.contains(&"MALLOC_ARENA_MAX"));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "the second of two wins: {names:?}");
    assert!(unit.contains("Environment=MALLOC_ARENA_MAX=1\n"));
}
