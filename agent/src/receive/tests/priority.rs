//! Priority copies: handed on at once, accounted for by the covering parcels, and never twice.

use std::collections::BTreeSet;

use fieldlog_projections::ChainHash;

use super::*;
use fieldlog_wire::Lane;
use fieldlog_wire::ledger::Arrival;

/// Priority copies of the events of some devices, in parcels of both formats.
fn copies() -> &'static Vec<Received> {
    static COPIES: OnceLock<Vec<Received>> = OnceLock::new();
    COPIES.get_or_init(|| {
        let fixture = Fixture::new(EVENTS);
        let mut copies = Vec::new();
        for (format, events_max) in [(Format::Json, 20), (Format::Compact, 35)] {
            let filter = Filter::new(&["*sensor 7", "*sensor 1*"], &["state_changed"]).unwrap();
            let mut builder = fixture.builder(filter, format);
            let mut from = Seq(1);
            while from <= fixture.log.head() {
                let head = fixture.log.head();
                let parcel = fixture.parcel_of(Lane::Priority, &mut builder, from, head, events_max).unwrap();
                assert_eq!(parcel.manifest.lane, Lane::Priority);
                from = parcel.manifest.last.next();
                copies.push(received(&parcel));
            }
        }
        assert!(copies.len() > 100);
        copies
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn in_any_order_each_event_is_handed_on_once(
        which in 0usize..4,
        arrivals in prop::collection::vec((any::<bool>(), any::<Index>()), 0..120),
        rest in any::<bool>(),
    ) {
        let (tilings, head) = tilings();
        let tiling = &tilings[which];
        let pick = |(priority, at): &(bool, Index)| if *priority { at.get(copies()) } else { at.get(tiling) };
        let mut arrivals: Vec<&Received> = arrivals.iter().map(pick).collect();
        if rest {
            arrivals.extend(tiling);
        }
        let mut ledger = Ledger::new(false);
        let (mut handed_on, mut ahead, mut covered) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (mut duplicates, mut priority_events) = (0, 0);
        for received in &arrivals {
            let taken = ledger.record(&received.arrival());
            prop_assert_eq!(&taken.faults, &vec![]);
            let priority = received.manifest.lane == Lane::Priority;
            for (seq, _) in &received.events {
                prop_assert_eq!(taken.is_new(*seq), handed_on.insert(*seq), "{}", seq);
                let again = covered.contains(seq) || (priority && !ahead.insert(*seq));
                duplicates += u64::from(again);
                priority_events += u64::from(priority && !again);
            }
            if !priority {
                covered.extend((received.manifest.first.0..=received.manifest.last.0).map(Seq));
            }
        }
        let Some(log) = ledger.report().logs.pop() else { return Ok(()) };
        let missing: u64 = log.missing.iter().map(|(a, b)| b.0 - a.0 + 1).sum();
        let newest = covered.last().map_or(0, |seq| seq.0);
        prop_assert_eq!(missing, newest - covered.len() as u64, "copies fill no gap and make none");
        prop_assert_eq!(log.counts.events, handed_on.len() as u64);
        prop_assert_eq!(log.counts.duplicate_events, duplicates);
        prop_assert_eq!(log.counts.priority_events, priority_events);
        prop_assert_eq!(log.uncovered, ahead.difference(&covered).count() as u64);
        if rest {
            prop_assert!(log.is_clean());
            prop_assert_eq!((log.contiguous, log.chained, log.uncovered), (*head, *head, 0));
        }
    }
}

#[test]
fn what_a_copy_says_must_be_what_the_log_says() {
    let copy = &copies()[0];
    let mut events = copy.events.clone();
    events[3].1 ^= 1;
    let mut ledger = Ledger::new(true);
    ledger.record(&Arrival { events: &events, ..copy.arrival() });
    let (tilings, _) = tilings();
    let faults: Vec<Fault> = tilings[0].iter().flat_map(|r| ledger.record(&r.arrival()).faults).collect();
    assert_eq!(faults, vec![Fault::Content { seq: events[3].0 }]);
    assert_eq!(ledger.record(&copy.arrival()).faults, faults);
}

#[test]
fn copies_beyond_the_bound_are_left_for_the_parcel_that_covers_them() {
    const BOUND: u64 = 65_536;
    let events: Vec<(Seq, u64)> = (1..=BOUND + 10).map(|seq| (Seq(seq), seq)).collect();
    let manifest = Manifest {
        gateway: "plant-7".into(),
        epoch: EPOCH,
        first: Seq(1),
        last: Seq(BOUND + 10),
        lane: Lane::Priority,
        before: ChainHash::origin(EPOCH),
        after: ChainHash([1; 32]),
        head: Seq(BOUND + 10),
        events: events.len() as u32,
    };
    let mut ledger = Ledger::new(false);
    let taken = ledger.record(&Arrival { manifest: &manifest, events: &events, chain: None });
    assert_eq!((taken.ahead.len() as u64, taken.is_new(Seq(BOUND + 1))), (BOUND, false));
    assert!(only(&ledger).to_string().contains("cover 65536 of them are still to come"));
    let covering = Manifest { lane: Lane::Backlog, ..manifest };
    let taken = ledger.record(&Arrival { manifest: &covering, events: &events, chain: None });
    let new: Vec<u64> = events.iter().filter(|(seq, _)| taken.is_new(*seq)).map(|(seq, _)| seq.0).collect();
    assert_eq!(new, (BOUND + 1..=BOUND + 10).collect::<Vec<_>>());
    let log = only(&ledger);
    assert!(log.is_clean(), "{log}");
    assert_eq!((log.counts.events, log.counts.duplicate_events, log.uncovered), (BOUND + 10, 0, 0));
}
