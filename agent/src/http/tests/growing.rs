//! Reads while records are being committed: every record once, in order.

use std::sync::atomic::{AtomicBool, Ordering};

use super::client::Events;
use super::*;

/// Records of each commit; small, so that the last chunk stays open and grows.
const PER_COMMIT: i64 = 3;
/// Followed to here, over as many rounds as the disk needs.
const RECORDS: u64 = 300;

/// Commits until it is told to stop.
fn writer(agent: &Arc<Agent>, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let (agent, stop) = (agent.clone(), stop.clone());
    std::thread::spawn(move || {
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            agent.commit((0..PER_COMMIT).map(|at| (100, changed(1, vec![(0, Value::Int(n + at))]))));
            n += PER_COMMIT;
        }
    })
}

/// Follows a list to its end, page by page, starting after `after`; returns the last position.
async fn follow(agent: &Agent, path: &str, member: &str, mut after: u64) -> u64 {
    loop {
        let page = agent.json(&format!("{path}?limit=400&after={after}")).await;
        for seq in seqs(&page[member]) {
            assert_eq!(seq, after + 1, "{path}: {:?}", seqs(&page[member]));
            after = seq;
        }
        if page["next"].is_null() {
            assert_eq!(page["position"]["applied"], after, "{path} ends early");
            return after;
        }
        assert_eq!(page["next"], after, "{path}");
    }
}

#[tokio::test]
async fn no_record_is_read_twice_or_left_out_while_others_are_committed() {
    let agent = Arc::new(Agent::start().await);
    agent.commit_house();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = writer(&agent, &stop);
    let mut stream = Events::open(&agent.tcp, "/api/v1/events/stream?after=9", &[]).await;
    stream.next().await;
    let (mut pages, mut history, mut streamed) = (9, 9, 9);
    while pages < RECORDS {
        pages = follow(&agent, "/api/v1/events", "events", pages).await;
        history = follow(&agent, "/api/v1/devices/kitchen%2Flamp/history", "history", history).await;
        while streamed < pages {
            let event = stream.next().await;
            streamed += 1;
            assert!(event.contains(&format!("id: 000000000000feed-{streamed}\n")), "{streamed}: {event}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    writing.join().unwrap();
    drop(stream);
    Arc::into_inner(agent).unwrap().stop().await;
}
