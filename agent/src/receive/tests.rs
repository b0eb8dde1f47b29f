//! The receiver with parcels of real logs.

use std::sync::OnceLock;

use fieldlog_projections::Seq;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::forward::Parcel;
use crate::forward::filter::Filter;
use crate::forward::fixture::{EPOCH, Fixture, batch};
use crate::forward::parcel::Format;
use fieldlog_wire::Manifest;
use fieldlog_wire::ledger::{Fault, Ledger, LogReport};
use fieldlog_wire::received::Received;

#[cfg(feature = "demo")]
mod mqtt;
#[cfg(feature = "nats")]
mod nats;
mod priority;
mod serving;

const EVENTS: u64 = 3_000;

/// A parcel as it arrives.
fn received(parcel: &Parcel) -> Received {
    if !parcel.compact.is_empty() {
        return Received::read(&parcel.compact, |_| None).unwrap();
    }
    let fields = parcel.manifest.fields();
    let field = |name: &str| fields.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
    Received::read(&batch(parcel), field).unwrap()
}

/// The same log divided into parcels in several ways and both formats, and its head.
fn tilings() -> &'static (Vec<Vec<Received>>, Seq) {
    static TILINGS: OnceLock<(Vec<Vec<Received>>, Seq)> = OnceLock::new();
    TILINGS.get_or_init(|| {
        let fixture = Fixture::new(EVENTS);
        let tiling = |(format, events_max)| {
            let parcels = fixture.parcels(Filter::default(), format, Seq(1), events_max);
            parcels.iter().map(received).collect()
        };
        let kinds = [(Format::Json, 300), (Format::Compact, 300), (Format::Json, 170), (Format::Compact, 97)];
        (kinds.into_iter().map(tiling).collect(), fixture.log.head())
    })
}

fn only(ledger: &Ledger) -> LogReport {
    ledger.report().logs.remove(0)
}

#[test]
fn both_formats_give_the_same_lines() {
    let (tilings, _) = tilings();
    let lines = |tiling: &[Received]| tiling.iter().flat_map(|r| r.lines.clone()).collect::<Vec<u8>>();
    assert_eq!(
        String::from_utf8(lines(&tilings[0])).unwrap(),
        String::from_utf8(lines(&tilings[1])).unwrap()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_order_and_duplication_is_complete(
        which in 0usize..4,
        order in prop::collection::vec(any::<Index>(), 0..60),
        others in prop::collection::vec((0usize..4, any::<Index>()), 0..20),
        rest in any::<bool>(),
    ) {
        let (tilings, head) = tilings();
        let tiling = &tilings[which];
        let mut ledger = Ledger::new(false);
        let mut arrived = std::collections::BTreeSet::new();
        let mut arrivals: Vec<&Received> = order.iter().map(|at| at.get(tiling)).collect();
        arrivals.extend(others.iter().map(|(which, at)| at.get(&tilings[*which])));
        if rest {
            arrivals.extend(tiling);
        }
        for received in &arrivals {
            let taken = ledger.record(&received.arrival());
            prop_assert_eq!(&taken.faults, &vec![]);
            for seq in received.manifest.first.0..=received.manifest.last.0 {
                prop_assert_eq!(taken.is_fresh(Seq(seq)), arrived.insert(seq));
            }
        }
        let Some(newest) = arrived.last() else { return Ok(()) };
        let log = only(&ledger);
        let missing: Vec<u64> = log.missing.iter().flat_map(|(a, b)| a.0..=b.0).collect();
        let expected: Vec<u64> = (1..=*newest).filter(|seq| !arrived.contains(seq)).collect();
        prop_assert_eq!(missing, expected);
        prop_assert_eq!(log.counts.events, arrived.len() as u64);
        let all: u64 = arrivals.iter().map(|r| r.events.len() as u64).sum();
        prop_assert_eq!(log.counts.duplicate_events, all - log.counts.events);
        if rest {
            prop_assert!(log.is_clean());
            prop_assert_eq!((log.contiguous, log.chained), (*head, *head));
            // Only the records themselves allow recomputing the chain.
            if which % 2 == 1 && others.is_empty() {
                prop_assert_eq!(log.recomputed, *head);
            }
        }
    }
}

/// Two histories with one identity: equal up to `common` events, then different. Parcels of the first from the
/// beginning, of the second from `from` on.
fn histories(
    format: Format,
    sizes: (usize, usize),
    from_common: bool,
) -> (Vec<Received>, Vec<Received>, Seq) {
    let mut first = Fixture::new(1_000);
    let common = first.log.head();
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(first.dir.path().join(crate::log::FILE_NAME), copy.path().join(crate::log::FILE_NAME))
        .unwrap();
    first.record(500);
    let mut second = Fixture::open(copy, 0);
    second.salt = 5;
    second.record(800);
    let all = |fixture: &Fixture, from, events_max| -> Vec<Received> {
        fixture.parcels(Filter::default(), format, from, events_max).iter().map(received).collect()
    };
    let from = if from_common { common.next() } else { Seq(common.0 - 30) };
    (all(&first, Seq(1), sizes.0), all(&second, from, sizes.1), common)
}

#[test]
fn a_restored_backup_is_found() {
    let check = |format, sizes, from_common| {
        let (before, after, common) = histories(format, sizes, from_common);
        let mut ledger = Ledger::new(false);
        for received in &before {
            assert_eq!(ledger.record(&received.arrival()).faults, vec![]);
        }
        assert!(ledger.report().is_clean());
        for received in &after {
            ledger.record(&received.arrival());
        }
        let log = only(&ledger);
        assert!(log.counts.faults > 0, "{format:?} {sizes:?} {from_common}");
        let first = match log.faults[0] {
            Fault::Fork { seq } | Fault::Content { seq } => seq,
            altered @ Fault::Altered { .. } => panic!("{altered}"),
        };
        assert!(first > common, "{first} {common}");
        assert!(log.missing.is_empty());
    };
    for format in [Format::Json, Format::Compact] {
        for sizes in [(100, 100), (100, 333), (1_000, 10_000), (70, 1)] {
            check(format, sizes, true);
            check(format, sizes, false);
        }
    }
}

#[test]
fn a_clone_is_found_while_both_go_on() {
    let (one, two, common) = histories(Format::Json, (50, 50), true);
    let mut ledger = Ledger::new(false);
    let (shared, rest) = one.split_at(one.iter().position(|r| r.manifest.last > common).unwrap());
    for received in shared {
        ledger.record(&received.arrival());
    }
    let mut found = 0;
    for (mine, theirs) in rest.iter().zip(&two) {
        found += ledger.record(&mine.arrival()).faults.len() + ledger.record(&theirs.arrival()).faults.len();
    }
    assert!(found >= rest.len() / 2, "{found}");
}

#[test]
fn a_changed_record_is_found() {
    let fixture = Fixture::new(400);
    let parcels = fixture.parcels(Filter::default(), Format::Compact, Seq(1), 1_000);
    let good = received(&parcels[0]);
    let bytes = crate::forward::tests::recompressed(&parcels[0].compact, |plain| {
        let at = plain.len() - 3;
        assert!(
            plain[at..].starts_with(b"OF")
                || plain[at..].starts_with(b"FF")
                || plain[at..].starts_with(b"\x02ON")
        );
        let last = plain.len() - 1;
        plain[last] = b'X';
    });
    let changed = Received::read(&bytes, |_| None).unwrap();
    let mut ledger = Ledger::new(false);
    let altered = Fault::Altered { first: good.manifest.first, last: good.manifest.last };
    assert_eq!(ledger.record(&changed.arrival()).faults, vec![altered]);
    let log = only(&ledger);
    assert!(!log.is_clean());
    assert_eq!(log.recomputed, Seq(0));
    // After the real one, its content also reveals it.
    let mut ledger = Ledger::new(false);
    assert_eq!(ledger.record(&good.arrival()).faults, vec![]);
    let faults = ledger.record(&changed.arrival()).faults;
    assert!(
        faults.contains(&altered) && faults.contains(&Fault::Content { seq: good.manifest.last }),
        "{faults:?}"
    );
}

#[test]
fn an_event_that_comes_again_must_be_the_same() {
    let (tilings, _) = tilings();
    let received = &tilings[0][3];
    let mut ledger = Ledger::new(true);
    ledger.record(&received.arrival());
    let mut events = received.events.clone();
    events[5].1 ^= 1;
    let again = fieldlog_wire::ledger::Arrival { events: &events, ..received.arrival() };
    assert_eq!(ledger.record(&again).faults, vec![Fault::Content { seq: events[5].0 }]);
}

#[test]
fn what_is_before_the_first_parcel_is_missing_unless_joined_late() {
    let (tilings, head) = tilings();
    let later = &tilings[1][4..];
    for joined_late in [false, true] {
        let mut ledger = Ledger::new(joined_late);
        later.iter().for_each(|r| {
            ledger.record(&r.arrival());
        });
        let (log, first) = (only(&ledger), later[0].manifest.first);
        assert_eq!(log.is_clean(), joined_late);
        if joined_late {
            assert_eq!((log.contiguous, log.recomputed), (*head, *head));
        } else {
            assert_eq!((log.contiguous, &log.missing[..]), (Seq(0), &[(Seq(1), Seq(first.0 - 1))][..]));
            assert!(log.to_string().contains(&format!("MISSING 1 to {}", first.0 - 1)), "{log}");
        }
    }
}

#[test]
fn malformed_messages_are_refused_with_a_reason() {
    let parcel = &Fixture::new(5).parcels(Filter::default(), Format::Json, Seq(1), 100)[0];
    let check = |body: &[u8], change: fn(&mut Manifest), part: &str| {
        let mut manifest = parcel.manifest.clone();
        change(&mut manifest);
        let fields = manifest.fields();
        let field = |name: &str| fields.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
        let error = Received::read(body, field).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let body = batch(parcel);
    check(&body, |m| m.events -= 1, "events and says");
    check(&body, |m| m.last.0 -= 1, "`events`");
    check(&body, |m| m.last.0 = 0, "no range");
    check(&body, |m| m.epoch.0 += 1, "is not one of this parcel");
    check(&body, |m| m.gateway = "other".into(), "is not one of this parcel");
    check(b"[{}]", |m| m.events = 1, "cannot be read");
    check(b"hello", |_| {}, "neither");
    check(b"", |_| {}, "neither");
    check(b"FLC1", |_| {}, "uncompressed");
    assert!(Received::read(&body, |_| None).unwrap_err().to_string().contains("`gateway`"));
    assert_eq!(EPOCH, parcel.manifest.epoch);
}
