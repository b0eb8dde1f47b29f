//! A new configuration changes the use of the log, never the log itself.

use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;

use fieldlog::log::FILE_NAME;
use fieldlog::log::acked::AckedRanges;
use fieldlog::verify::verify;
use fieldlog_projections::{Epoch, Fact, Seq};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::wait::until;

use super::site::{Site, assert_complete, http};

/// Must not change: the file, its epoch, the records up to a position.
#[derive(Debug, PartialEq)]
struct Store {
    inode: u64,
    epoch: Epoch,
    records: Vec<(Seq, Fact)>,
}

fn store(site: &Site, agent: &Agent, until: u64) -> Store {
    let mut records = Vec::new();
    let scanned = agent.handle.shared.reader.scan(Seq(1), |chunk| {
        let mut of_chunk = chunk.records();
        while let Some(record) = of_chunk.next_record().unwrap() {
            records.push((record.seq, record.fact().unwrap()));
        }
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(scanned.unwrap(), None);
    records.truncate(until as usize);
    let inode = std::fs::metadata(site.data_dir().join(FILE_NAME)).unwrap().ino();
    Store { inode, epoch: agent.handle.shared.epoch, records }
}

/// The stored cursor; `None` before the first commit with one.
fn cursor(agent: &Agent, sink: &str) -> u64 {
    let stored = agent.handle.shared.reader.cursor(sink).unwrap();
    stored.and_then(|bytes| AckedRanges::decode(&bytes)).map_or(0, |acked| acked.contiguous().0)
}

#[tokio::test]
async fn a_reload_leaves_the_log_as_it_is() {
    let (cloud, archive) = (Receiver::http().await, Receiver::http().await);
    let mut site = Site::new().await;
    let to_cloud = |more| http(cloud.address(), more);
    let to_archive = http(archive.address(), "").replace("\"cloud\"", "\"archive\"");
    let agent = site.start(&site.config(&to_cloud(""))).await;
    let steps = [
        ("a sink more", to_cloud("") + &to_archive, true),
        (
            "a bound for the log",
            "[retention]\nbytes_max = 50000000\n".to_owned() + &to_cloud("") + &to_archive,
            true,
        ),
        ("smaller parcels", to_cloud("parcel_events_max = 10") + &to_archive, true),
        ("a sink less", to_cloud("parcel_events_max = 10\nrequired = false"), false),
        ("none", String::new(), false),
        ("both again", to_cloud("") + &to_archive, true),
    ];
    for (change, lines, with_archive) in steps {
        println!("{change}");
        site.post(50);
        site.recorded().await;
        let (head, before) = (agent.head(), cursor(&agent, "cloud"));
        let stored = store(&site, &agent, head);
        agent.reload(site.config(&lines)).await;
        until("the record of the change", || agent.head() > head).await;
        site.post(50);
        site.recorded().await;
        assert_eq!(store(&site, &agent, head), stored, "{change}");
        assert!(cursor(&agent, "cloud") >= before, "{change}: the cursor went back");
        for (receiver, configured) in [(&cloud, lines.contains("cloud")), (&archive, with_archive)] {
            if configured {
                until("everything at the receiver", || receiver.contiguous() == agent.head()).await;
            }
        }
    }
    let head = agent.head();
    agent.stop().await;
    assert_eq!(verify(&site.data_dir()).unwrap().fault, None);
    let log = Logbook::read(&site.data_dir());
    let booted = log.records.iter().filter(|(_, _, fact)| matches!(fact, Fact::Booted { .. })).count();
    let changed =
        log.records.iter().filter(|(_, _, fact)| matches!(fact, Fact::ConfigChanged { .. })).count();
    assert_eq!((booted, changed), (1, 6));
    for (name, receiver) in [("cloud", cloud), ("archive", archive)] {
        assert_eq!(log.cursor(name), Some(AckedRanges::upto(Seq(head))));
        let (received, _) = receiver.stop().await;
        assert_complete(&received, head);
        // A sink that was removed for a while continues where it was.
        assert!(received.counts.duplicate_events < head / 2, "{received}");
    }
}
