use fieldlog_projections::{ChainHash, Epoch};
use fieldlog_wire::Lane;

use super::*;

fn manifest(first: u64, last: u64, events: u32) -> Manifest {
    Manifest {
        gateway: "plant".into(),
        epoch: Epoch(7),
        first: Seq(first),
        last: Seq(last),
        lane: Lane::Live,
        before: ChainHash([1; 32]),
        after: ChainHash([2; 32]),
        head: Seq(last),
        events,
    }
}

/// Enters the event at a position; a position of 0 is a parcel without events.
fn add(
    assembler: &mut Assembler,
    (partition, offset): (usize, i64),
    manifest: &Manifest,
    seq: u64,
) -> Result<Option<Whole>, String> {
    let fields = manifest.fields().into_iter();
    let mut headers: BTreeMap<String, Vec<u8>> =
        fields.map(|(name, value)| (format!("fieldlog-{name}"), value.into_bytes())).collect();
    if seq > 0 {
        headers.insert("ce_id".into(), format!("plant/0000000000000007/{seq}").into_bytes());
    }
    let value = if seq > 0 { seq.to_string().into_bytes() } else { Vec::new() };
    assembler.add(Record { partition, offset, headers: &headers }, value, Instant::now())
}

fn body(whole: Result<Option<Whole>, String>) -> String {
    String::from_utf8(whole.unwrap().unwrap().body.to_vec()).unwrap()
}

#[test]
fn a_parcel_is_whole_with_its_last_event() {
    let mut assembler = Assembler::new([100, 200].into_iter());
    let parcel = manifest(5, 9, 3);
    assert!(add(&mut assembler, (0, 100), &parcel, 9).unwrap().is_none());
    // Sent again after a lost answer, with a newer head.
    let again = Manifest { head: Seq(40), ..parcel.clone() };
    assert!(add(&mut assembler, (0, 101), &again, 9).unwrap().is_none());
    assert!(add(&mut assembler, (1, 200), &parcel, 5).unwrap().is_none());
    assert_eq!((assembler.stored(0), assembler.stored(1)), (100, 200));
    let whole = add(&mut assembler, (1, 203), &parcel, 7).unwrap().unwrap();
    assert_eq!(&*whole.body, b"[5,7,9]");
    assert_eq!(whole.manifest.head, Seq(40));
    // It is read, and not stored yet.
    assert_eq!((assembler.next(0), assembler.next(1)), (102, 204));
    assert_eq!((assembler.stored(0), assembler.stored(1)), (100, 200));
    assembler.done(&whole);
    assert_eq!((assembler.stored(0), assembler.stored(1)), (102, 204));
    assert_eq!((assembler.bytes(), assembler.incomplete()), (0, 0));
}

#[test]
fn nothing_behind_the_first_unstored_record_counts_as_stored() {
    let mut assembler = Assembler::new([0].into_iter());
    let first = add(&mut assembler, (0, 0), &manifest(1, 1, 1), 1).unwrap().unwrap();
    let second = add(&mut assembler, (0, 1), &manifest(2, 2, 1), 2).unwrap().unwrap();
    assembler.done(&second);
    assert_eq!(assembler.stored(0), 0);
    assembler.done(&first);
    assert_eq!(assembler.stored(0), 2);
}

#[test]
fn one_that_is_given_up_holds_nothing_back() {
    let mut assembler = Assembler::new([0, 0].into_iter());
    let parcel = manifest(1, 4, 4);
    add(&mut assembler, (0, 0), &parcel, 1).unwrap();
    add(&mut assembler, (0, 1), &parcel, 2).unwrap();
    // All of it is in the first partition, so what is missing must be in the second.
    assert!(!assembler.is_behind(0) && assembler.is_behind(1));
    assert!(assembler.older_than(Duration::from_secs(60), Instant::now()).is_empty());
    let incomplete = assembler.older_than(Duration::ZERO, Instant::now()).remove(0);
    assert_eq!(incomplete.found, 2);
    assembler.give_up(&incomplete);
    assert_eq!((assembler.stored(0), assembler.bytes(), assembler.incomplete()), (2, 0, 0));
    // Divided otherwise, it is another parcel.
    assert_eq!(body(add(&mut assembler, (1, 0), &manifest(1, 1, 1), 1)), "[1]");
}

#[test]
fn a_parcel_without_events_is_whole_at_once() {
    let mut assembler = Assembler::new([0].into_iter());
    assert_eq!(body(add(&mut assembler, (0, 3), &manifest(1, 50, 0), 0)), "[]");
    assert_eq!(assembler.next(0), 4);
}

#[test]
fn what_is_no_record_of_a_parcel_is_passed_over() {
    let mut assembler = Assembler::new([0].into_iter());
    let none = BTreeMap::new();
    let said = assembler.add(Record { partition: 0, offset: 0, headers: &none }, Vec::new(), Instant::now());
    assert!(said.unwrap_err().contains("no field `gateway`; is the sender a fieldlog?"));
    let said = add(&mut assembler, (0, 1), &manifest(5, 9, 2), 4).unwrap_err();
    assert!(said.contains("its `ce_id` is none of its parcel"), "{said}");
    let said = add(&mut assembler, (0, 2), &manifest(5, 9, 2), 0).unwrap_err();
    assert!(said.contains("no header `ce_id`"), "{said}");
    assert_eq!((assembler.stored(0), assembler.incomplete()), (3, 0));
}

/// A topic that was made anew begins before what was read of the old one.
#[test]
fn reading_can_go_on_elsewhere() {
    let mut assembler = Assembler::new([0].into_iter());
    assembler.skip_to(0, 1_000);
    add(&mut assembler, (0, 1_000), &manifest(1, 2, 2), 1).unwrap();
    assembler.skip_to(0, 3);
    assert_eq!((assembler.next(0), assembler.stored(0)), (3, 3));
}
