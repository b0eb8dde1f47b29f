//! An account that a store keeps: read back, it goes on as if it had never been away.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

use fieldlog_projections::{ChainHash, Epoch, Seq};
use fieldlog_wire::account::{Account, Arrival, Fault, Taken};
use fieldlog_wire::ledger::LogReport;
use fieldlog_wire::{Lane, Manifest};

const EPOCH: Epoch = Epoch(u64::MAX - 1);

fn link(seq: u64, history: u8) -> ChainHash {
    if seq == 0 { ChainHash::origin(EPOCH) } else { ChainHash([seq as u8 ^ history; 32]) }
}

/// Takes a parcel of a history; its records are not there to compute the chain from.
fn take(account: &mut Account, first: u64, last: u64, lane: Lane, history: u8) -> Result<Taken, Fault> {
    let events: Vec<(Seq, u64)> = (first..=last).map(|seq| (Seq(seq), seq)).collect();
    let manifest = Manifest {
        gateway: "gw".into(),
        epoch: EPOCH,
        first: Seq(first),
        last: Seq(last),
        lane,
        before: link(first - 1, history),
        after: link(last, history),
        head: Seq(40),
        events: events.len() as u32,
    };
    let arrival = Arrival { manifest: &manifest, events: &events, chain: None };
    account.take_unless_forked(&arrival).map_err(|forked| forked.fault)
}

fn stored(account: &Account) -> Account {
    serde_json::from_str(&serde_json::to_string(account).unwrap()).unwrap()
}

#[test]
fn a_stored_account_goes_on() {
    let mut account = Account::new(EPOCH);
    take(&mut account, 1, 10, Lane::Live, 0).unwrap();
    take(&mut account, 21, 30, Lane::Live, 0).unwrap();
    take(&mut account, 15, 16, Lane::Priority, 0).unwrap();
    let mut read = stored(&account);
    assert_eq!(LogReport::of("gw", &read, false), LogReport::of("gw", &account, false));
    assert_eq!(read.holes(Seq(5), Seq(25)), [(Seq(11), Seq(20))]);
    let taken = take(&mut read, 9, 22, Lane::Backlog, 0).unwrap();
    assert_eq!((taken.fresh, taken.known), (vec![(Seq(11), Seq(20))], vec![Seq(15), Seq(16)]));
    let report = LogReport::of("gw", &stored(&read), false);
    assert_eq!((report.contiguous, report.chained, report.counts.events), (Seq(30), Seq(30), 30));
}

#[test]
fn a_stored_account_knows_the_chain_at_the_ends_of_its_ranges_only() {
    let mut account = Account::new(EPOCH);
    take(&mut account, 1, 5, Lane::Live, 0).unwrap();
    take(&mut account, 6, 10, Lane::Live, 0).unwrap();
    let mut read = stored(&account);
    assert_eq!(take(&mut account, 2, 5, Lane::Live, 7), Err(Fault::Fork { seq: Seq(5) }));
    assert!(take(&mut read, 2, 5, Lane::Live, 7).is_ok());
    assert_eq!(take(&mut read, 11, 12, Lane::Live, 7), Err(Fault::Fork { seq: Seq(10) }));
}
