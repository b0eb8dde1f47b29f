//! A copy of the data directory that runs beside the original: the receiver must detect the fork, refuse one of them,
//! and have every position from one history only.

use std::path::Path;
use std::sync::Arc;

use fieldlog_tests::publisher::Post;
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::rng::Rng;
use fieldlog_tests::wait::{until, until_some};
use serde_json::Value as Json;

use crate::account::Account;
use crate::receivers::{positions, sink};
use crate::site::{STATE, Site};

/// Copies a directory; links are followed.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn sink_status(site: &Site) -> Option<Json> {
    site.status().map(|status| status["sinks"][0].clone())
}

fn posts(who: &str, rng: &mut Rng) -> Vec<Post> {
    (0..rng.between(1, 60))
        .map(|_| Post::new(format!("t/{who}"), format!("{{\"n\":{}}}", rng.next_u64() >> 12)))
        .collect()
}

async fn delivered(site: &Site) -> bool {
    let Some(head) = site.head() else { return false };
    sink_status(site).is_some_and(|sink| sink["acked_upto"].as_u64() >= Some(head))
}

fn is_forked(site: &Site) -> bool {
    sink_status(site).is_some_and(|sink| sink["state"] == "forked")
}

pub async fn round(mut rng: Rng, account: &Arc<Account>) {
    let receiver = Receiver::http().await;
    let sink = sink(receiver.address(), "");
    let (original, clone) = (Site::new(account).await, Site::new(account).await);
    let unit = original.run(&[STATE], &sink).await;
    original.send(posts("common", &mut rng)).await;
    until_some("everything at the receiver", || {
        let sink = sink_status(&original)?;
        (sink["acked_upto"].as_u64() == original.head()).then_some(())
    })
    .await;
    unit.stop().await;
    copy(&original.data_dir(), &clone.data_dir());
    let sites = [&original, &clone];
    let units = [original.run(&[STATE], &sink).await, clone.run(&[STATE], &sink).await];
    for _ in 0..rng.between(2, 6) {
        let first = rng.below(2);
        for n in [first, 1 - first] {
            sites[n].send(posts(["original", "clone"][n], &mut rng)).await;
        }
    }
    until("a fork seen by one of them", || sites.iter().any(|site| is_forked(site))).await;
    let loser = usize::from(is_forked(&clone));
    assert!(!is_forked(sites[1 - loser]), "both are told to be of another history");
    let winner = sites[1 - loser];
    let mut done = false;
    for _ in 0..600 {
        done = delivered(winner).await;
        if done {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let head = winner.head();
    account.wrong(usize::from(!done), "the first history is not delivered");
    assert!(is_forked(sites[loser]), "the fork was forgotten: {:?}", sink_status(sites[loser]));
    let acked = sink_status(sites[loser]).unwrap()["acked_upto"].as_u64().unwrap();
    let told = sites.map(sink_status);
    for unit in units {
        unit.stop().await;
    }

    let (report, lines) = receiver.stop().await;
    let seqs = positions(&lines);
    account.checked(seqs.len());
    let mut once = seqs.clone();
    once.sort_unstable();
    once.dedup();
    account.repeated(seqs.len() - once.len(), "one position from two histories");
    account
        .wrong(usize::from(report.counts.refused_parcels == 0), &format!("no parcel was refused: {report}"));
    account.lost(report.missing.len(), &format!("{report}"));
    // The agent's own stop is recorded and sent as well.
    account.wrong(
        usize::from(report.newest.0 < head.unwrap()),
        &format!(
            "the log ends at {head:?}, forked is the {}: {told:?}\n{report}",
            ["original", "clone"][loser]
        ),
    );
    // The loser counts as delivered what both have in common.
    let own = |who: &str| lines.lines().filter(|line| line.contains(who)).count();
    let loser_name = ["original", "clone"][loser];
    let of_loser = own(&format!("\"{loser_name}\""));
    account.wrong(of_loser, &format!("events of the {loser_name} taken, which has {acked} acknowledged"));
}
