//! Plans of what to send.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn range(at: u64, more: u64) -> (Seq, Seq) {
    (Seq(at), Seq(at + more))
}

proptest! {
    #[test]
    fn unsent_is_what_neither_set_has(
        acked in prop::collection::vec((1u64..150, 0u64..12), 0..20),
        sent in prop::collection::vec((1u64..150, 0u64..12), 0..20),
        (from, until) in (1u64..170, 1u64..170),
    ) {
        let mut plan = Plan::new(AckedRanges::default(), Order::LiveFirst, 0.5);
        let mut taken = BTreeSet::new();
        for (at, more) in acked {
            plan.acked.add(Seq(at), Seq(at + more));
            taken.extend(at..=at + more);
        }
        for (at, more) in sent {
            let (first, last) = range(at, more);
            plan.sent(Lane::Live, first, last, 1, Seq(170));
            taken.extend(at..=at + more);
        }
        let first = (from..=until).find(|seq| !taken.contains(seq));
        let last = first.map(|first| (first..=until).take_while(|seq| !taken.contains(seq)).last().unwrap_or(first));
        let expected = first.zip(last).map(|(first, last)| (Seq(first), Seq(last)));
        prop_assert_eq!(plan.unsent(Seq(from), Seq(until)), expected);
    }

    /// Whatever fails and however often, everything goes, and nothing while it is under way. Nor is anything looked
    /// through that is there or under way.
    #[test]
    fn everything_is_sent_at_last(
        events in prop::collection::vec((0u8..9, 1u64..30), 0..80),
        strict in any::<bool>(),
    ) {
        let order = if strict { Order::Strict } else { Order::LiveFirst };
        let mut plan = Plan::new(AckedRanges::default(), order, 0.5);
        let mut head = Seq(40);
        let mut under_way: Vec<(Seq, Seq)> = Vec::new();
        plan.connected(head, 10);
        for (what, size) in events {
            match what {
                0 => head.0 += size,
                1 if !under_way.is_empty() => {
                    let (first, last) = under_way.swap_remove(size as usize % under_way.len());
                    plan.acknowledged(first, last);
                }
                2 if !under_way.is_empty() => {
                    let (first, last) = under_way.swap_remove(size as usize % under_way.len());
                    plan.failed(first, last);
                }
                3 => {
                    under_way.clear();
                    plan.connected(head, 10);
                }
                4 => {
                    let Some((first, last)) = plan.next_priority(head, size % 2 == 0) else { continue };
                    prop_assert!(under_way.iter().all(|&(a, b)| last < a || b < first));
                    prop_assert_eq!(plan.acked.missing(first, last), Some((first, last)));
                    plan.looking();
                    prop_assert_eq!(plan.next_priority(head, true), None);
                    match size % 3 {
                        0 => plan.looked_through(first, last.min(Seq(first.0 + size))),
                        1 => plan.failed_priority(),
                        _ => {}
                    }
                }
                5 => plan.ask_again(Seq(size), Seq(4 * size)),
                _ => {
                    let Some((lane, first, last)) = plan.next(head) else { continue };
                    let last = last.min(Seq(first.0 + size - 1));
                    prop_assert!(under_way.iter().all(|&(a, b)| last < a || b < first));
                    plan.sent(lane, first, last, size, head);
                    under_way.push((first, last));
                }
            }
        }
        under_way.iter().for_each(|&(first, last)| plan.failed(first, last));
        while let Some((lane, first, last)) = plan.next(head) {
            plan.sent(lane, first, last, 1, head);
            plan.acknowledged(first, last);
        }
        prop_assert_eq!(plan.acked(), &AckedRanges::upto(head));
        prop_assert_eq!(plan.again_count(), 0);
        prop_assert_eq!(plan.next_priority(head, true), None);
    }
}

#[test]
fn what_is_left_of_a_backlog_does_not_become_live() {
    let mut plan = Plan::new(AckedRanges::default(), Order::LiveFirst, 0.5);
    plan.connected(Seq(1_000), 100);
    assert_eq!(plan.next(Seq(1_000)), Some((Lane::Backlog, Seq(1), Seq(1_000))));
    plan.acknowledged(Seq(1), Seq(950));
    // A live parcel that has arrived, perhaps; its answer is lost.
    assert_eq!(plan.next(Seq(1_010)).map(|(_, first, _)| first), Some(Seq(1_001)));
    plan.sent(Lane::Live, Seq(1_001), Seq(1_010), 1, Seq(1_010));
    plan.connected(Seq(1_010), 100);
    assert_eq!(plan.unsent(plan.live_from, Seq(1_010)), Some((Seq(1_001), Seq(1_010))));
    plan.acknowledged(Seq(1_001), Seq(1_010));
    assert_eq!(plan.next(Seq(1_010)), Some((Lane::Backlog, Seq(951), Seq(1_000))));
    // The same after a restart of the agent.
    let mut plan = Plan::new(plan.acked, Order::LiveFirst, 0.5);
    plan.connected(Seq(1_010), 100);
    assert_eq!(plan.next(Seq(1_010)), Some((Lane::Backlog, Seq(951), Seq(1_000))));
}

#[test]
fn what_is_refused_is_passed_and_offered_by_turns() {
    let mut plan = Plan::new(AckedRanges::default(), Order::LiveFirst, 0.5);
    plan.connected(Seq(20), 100);
    for seq in [3, 7, 9] {
        plan.sent(Lane::Live, Seq(seq), Seq(seq), 1, Seq(20));
        plan.refused(Seq(seq), Seq(seq));
    }
    let mut sent = Vec::new();
    while let Some((lane, first, last)) = plan.next(Seq(20)) {
        plan.sent(lane, first, last, 1, Seq(20));
        plan.acknowledged(first, last);
        sent.push((first.0, last.0));
    }
    assert_eq!(sent, [(1, 2), (4, 6), (8, 8), (10, 20)]);
    assert_eq!((plan.acked().contiguous(), plan.acked().missing_count(Seq(20))), (Seq(2), 3));
    let mut offer = || {
        let (first, last) = plan.next_refused().unwrap();
        plan.offered(first, last);
        assert_ne!(plan.next_refused(), Some((first, last)));
        plan.failed(first, last);
        first.0
    };
    assert_eq!([offer(), offer(), offer(), offer()], [3, 7, 9, 3]);
    plan.acknowledged(Seq(7), Seq(7));
    assert_eq!(plan.next_refused(), Some((Seq(9), Seq(9))));
    // What a sink has stored last says nothing about what it had refused before.
    plan.acknowledged_but_refused(Seq(1), Seq(20));
    assert_eq!(plan.acked().refused_count(), 2);
}

#[test]
fn what_is_asked_for_again_comes_behind_the_backlog_and_changes_nothing() {
    let mut acked = AckedRanges::upto(Seq(100));
    acked.add(Seq(151), Seq(200));
    let mut plan = Plan::new(acked.clone(), Order::LiveFirst, 0.5);
    plan.connected(Seq(200), 10);
    plan.ask_again(Seq(91), Seq(160));
    plan.ask_again(Seq(190), Seq(1_000));
    assert_eq!(plan.again_count(), 10 + 10 + 11, "what is not acknowledged is sent anyway");
    assert_eq!(plan.backlog(), Some((Seq(101), Seq(150))));
    assert!(!plan.is_again(Seq(101)));
    plan.sent(Lane::Backlog, Seq(101), Seq(150), 1, Seq(200));
    assert_eq!(plan.next(Seq(201)), Some((Lane::Live, Seq(201), Seq(201))));
    assert_eq!(plan.next(Seq(200)), Some((Lane::Backlog, Seq(91), Seq(100))));
    assert!(plan.is_again(Seq(91)));
    plan.sent(Lane::Backlog, Seq(91), Seq(95), 1, Seq(200));
    assert_eq!(
        plan.next(Seq(200)),
        Some((Lane::Backlog, Seq(96), Seq(100))),
        "the rest can be under way, too"
    );
    plan.failed(Seq(91), Seq(95));
    assert_eq!(plan.next(Seq(200)), Some((Lane::Backlog, Seq(91), Seq(100))));
    plan.acknowledged(Seq(91), Seq(100));
    plan.not_again(Seq(151), Seq(160));
    assert_eq!(plan.next(Seq(200)), Some((Lane::Backlog, Seq(190), Seq(200))));
    plan.acknowledged(Seq(190), Seq(200));
    assert_eq!((plan.next(Seq(200)), plan.acked()), (None, &acked));
}

#[test]
fn what_cannot_be_read_stops_nothing_else() {
    let mut plan = Plan::new(AckedRanges::default(), Order::LiveFirst, 0.5);
    plan.connected(Seq(1_000), 100);
    plan.unreadable(Seq(301), Seq(350));
    assert_eq!(plan.next(Seq(1_001)), Some((Lane::Live, Seq(1_001), Seq(1_001))));
    assert_eq!(plan.backlog(), Some((Seq(1), Seq(300))));
    plan.acknowledged(Seq(1), Seq(300));
    assert_eq!(plan.next(Seq(1_000)), Some((Lane::Backlog, Seq(351), Seq(1_000))));
    plan.acknowledged(Seq(351), Seq(1_000));
    assert_eq!(plan.next(Seq(1_000)), None);
    assert_eq!(plan.acked().contiguous(), Seq(300));
}

#[test]
fn nothing_goes_ahead_where_nothing_waits() {
    let mut plan = Plan::new(AckedRanges::upto(Seq(10)), Order::LiveFirst, 0.5);
    plan.connected(Seq(50), 100);
    assert_eq!(plan.next_priority(Seq(50), false), None);
    // The next parcel has to wait, for the bandwidth.
    assert_eq!(plan.next_priority(Seq(50), true), Some((Seq(11), Seq(50))));
    plan.sent(Lane::Live, Seq(11), Seq(50), 1, Seq(50));
    assert_eq!(plan.next_priority(Seq(60), false), None);
    plan.sent(Lane::Live, Seq(51), Seq(55), 1, Seq(60));
    assert_eq!(plan.next_priority(Seq(60), false), Some((Seq(56), Seq(60))));
    plan.sent(Lane::Live, Seq(56), Seq(60), 1, Seq(60));
    assert_eq!(plan.next_priority(Seq(70), false), None);
}

#[test]
fn what_was_looked_through_is_not_again() {
    let mut plan = Plan::new(AckedRanges::default(), Order::LiveFirst, 0.5);
    plan.connected(Seq(1_000), 100);
    assert_eq!(plan.next_priority(Seq(1_000), false), Some((Seq(1), Seq(1_000))));
    plan.looking();
    plan.looked_through(Seq(1), Seq(400));
    assert!(plan.turn_of_others());
    plan.sent(Lane::Live, Seq(401), Seq(500), 1, Seq(1_000));
    assert!(!plan.turn_of_others());
    // That under way arrives as soon as a copy would.
    assert_eq!(plan.next_priority(Seq(1_000), false), Some((Seq(501), Seq(1_000))));
    plan.looked_through(Seq(501), Seq(1_000));
    assert_eq!(plan.next_priority(Seq(1_001), false), Some((Seq(1_001), Seq(1_001))));
    // If it was lost, it waits behind the backlog now.
    plan.connected(Seq(1_001), 100);
    assert_eq!(plan.next_priority(Seq(1_001), false), Some((Seq(401), Seq(500))));
}
