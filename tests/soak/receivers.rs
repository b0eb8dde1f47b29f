//! Receivers that refuse, disconnect, lie or send garbage, varying all the time, while events arrive. Once they work
//! again they must get everything that they did not acknowledge, and the log must have few records about it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fieldlog_projections::Fact;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::publisher::Post;
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::rng::Rng;
use fieldlog_tests::wait::until;

use crate::account::Account;
use crate::clones::sink_status;
use crate::front::{Front, Manner};
use crate::site::{STATE, Site};

/// For one sink, per hour.
const DEAD_LETTERS_MAX: usize = 60;

/// A sink with short retries.
pub fn sink(address: SocketAddr, more: &str) -> String {
    format!(
        "[[sink]]\nname = \"cloud\"\naddress = \"http://{address}/events\"\nconnect_timeout_s = 1\n\
         answer_timeout_s = 1\nbackoff_max_s = 1\nparcel_delay_ms = 20\n{more}\n"
    )
}

/// Positions of the receiver's lines.
pub fn positions(lines: &str) -> Vec<u64> {
    let position = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        event["sequence"].as_str().unwrap().parse().unwrap()
    };
    lines.lines().map(position).collect()
}

pub async fn round(mut rng: Rng, account: &Arc<Account>) {
    let receiver = Receiver::http().await;
    let front = Front::start(receiver.address(), rng.fork()).await;
    let more = [
        format!("parcel_events_max = {}", rng.pick(&[1, 3, 20, 500])),
        format!("format = {}", rng.pick(&["\"json\"", "\"compact\""])),
        format!("order = {}", rng.pick(&["\"live-first\"", "\"strict\""])),
    ];
    let sink = sink(front.address, &more.join("\n"));
    let site = Site::new(account).await;
    let mut unit = site.run(&[STATE], &sink).await;
    let mut sent = 0;
    for _ in 0..rng.between(4, 12) {
        front.set(Manner::random(&mut rng));
        for _ in 0..rng.between(2, 10) {
            let posts = (0..rng.below(20)).map(|n| {
                sent += 1;
                Post::new(format!("t/d{n}"), format!("{{\"n\":{sent}}}"))
            });
            site.publisher.post(posts);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if rng.chance(15) {
            unit.kill();
            unit = site.run(&[STATE], &sink).await;
        }
        unit.look();
    }
    front.set(Manner::Honest);
    site.publisher.idle().await;
    site.recorded().await;
    site.check_real(sent).await;
    until("everything acknowledged by the receiver", || {
        let (sink, head) = (sink_status(&site), site.head());
        sink.is_some_and(|sink| sink["refused_events"] == 0 && sink["acked_upto"].as_u64() == head)
    })
    .await;
    let head = site.head().unwrap();
    unit.stop().await;
    check(&site, account, receiver, &front.kept(), head, sent).await;
}

async fn check(
    site: &Site,
    account: &Account,
    receiver: Receiver,
    kept: &BTreeSet<u64>,
    head: u64,
    sent: usize,
) {
    let (report, lines) = receiver.stop().await;
    let seqs = positions(&lines);
    let once: BTreeSet<u64> = seqs.iter().copied().collect();
    account.checked(once.len());
    account.repeated(seqs.len() - once.len(), "events with two lines at the receiver");
    let lost: Vec<u64> = (1..=head).filter(|seq| !once.contains(seq) && !kept.contains(seq)).collect();
    account.lost(lost.len(), &format!("missing at the receiver, first {:?}: {report}", lost.first()));
    account.wrong(report.counts.faults as usize, &format!("{report}"));

    let log = Logbook::read(&site.data_dir());
    let dead = log.count(|fact| matches!(fact, Fact::DeadLettered { .. }));
    account.wrong(dead.saturating_sub(DEAD_LETTERS_MAX), &format!("{dead} dead letters"));
    let events = log.changes().count();
    account.lost((sent + 1).saturating_sub(events), "values that are not in the log");
    // One more per start of the agent, and a few for names.
    let other = log.records.len() - events - dead;
    account.wrong(other.saturating_sub(200), &format!("{other} records beside {events} changes"));
}
