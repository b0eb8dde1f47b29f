//! Parts of a view, and their compressed snapshots: what is asked for is as in the whole view, wherever it starts.

use std::io::Cursor;

use fieldlog_projections::chunk::RecordBuffer;
use fieldlog_projections::fold::FoldId;
use fieldlog_projections::snapshot::{self, HEADER_BYTES, ReadError, SnapshotError};
use fieldlog_projections::view::{FoldError, ValuesOf};
use fieldlog_projections::{Aggregates, Alerts, Commands, Descriptions, Epoch, Named, Seq, Sessions, View};
use proptest::prelude::*;

use crate::given::{WINDOWS, history};

const FOLDS: [FoldId; 4] = [Descriptions::ID, Sessions::ID, Commands::ID, Alerts::ID];

fn folded(body: &RecordBuffer, until: Seq) -> View {
    let mut view = View::new(WINDOWS.to_vec());
    view.apply_records(body.records(Seq(1)), until).unwrap();
    view
}

fn compressed(view: &View) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let length = snapshot::write_compressed(view, Epoch(1), &mut out).unwrap();
    assert_eq!(length, out.get_ref().len() as u64);
    out.into_inner()
}

fn read(bytes: &[u8], folds: &[FoldId]) -> Result<View, ReadError> {
    snapshot::read_part(Cursor::new(bytes), folds)
}

fn same_without_aggregates(part: &View, whole: &View) -> bool {
    let bytes = |view: &View| snapshot::encode(&view.share_without_aggregates(), Epoch(1)).unwrap();
    bytes(part) == bytes(whole) && part.is_stale(Aggregates::ID)
}

proptest! {
    #[test]
    fn a_part_is_as_in_the_whole_view_from_wherever_it_starts(
        body in history(1..60),
        (base, until) in any::<(prop::sample::Index, prop::sample::Index)>(),
    ) {
        let until = Seq(until.index(body.len() + 1) as u64);
        let base = Seq(base.index(until.0 as usize + 1) as u64);
        let (whole, snapshot) = (folded(&body, until), compressed(&folded(&body, base)));
        let replayed = |folds: &[FoldId], values| {
            let mut part = read(&snapshot, folds).unwrap();
            part.apply_part(body.records(Seq(1)), until, values).unwrap();
            assert_eq!((part.seq, part.time), (whole.seq, whole.time));
            part
        };
        prop_assert!(same_without_aggregates(&replayed(&FOLDS, ValuesOf::All), &whole));
        let commands = replayed(&[Commands::ID], ValuesOf::None);
        prop_assert!(commands.commands == whole.commands);
        prop_assert!(commands.is_stale(Descriptions::ID) && !commands.is_stale(Commands::ID));
        for (id, device) in whole.devices.iter() {
            let one = replayed(&[Descriptions::ID], ValuesOf::Device(id));
            prop_assert_eq!(one.devices.get(id), Some(device));
            prop_assert_eq!(one.descriptions.get(id), whole.descriptions.get(id));
            // And what it is behind: its ancestors' availability.
            let effective = (one.devices.effective_availability(device), whole.devices.effective_availability(device));
            prop_assert_eq!(effective.0, effective.1);
        }
    }

    #[test]
    fn any_damage_to_a_compressed_snapshot_is_noticed(body in history(1..20), at: prop::sample::Index, bit in 0..8) {
        let whole = compressed(&folded(&body, Seq(u64::MAX)));
        let (intact, at) = (read(&whole, &FOLDS).unwrap(), at.index(whole.len()));
        let mut damaged = whole.clone();
        damaged[at] ^= 1_u8 << bit;
        for bytes in [&damaged[..], &whole[..at]] {
            match read(bytes, &FOLDS) {
                // Only what says nothing about the content may be missing or differ: the mark at the end of the frame.
                Ok(view) => prop_assert!(view == intact && at >= HEADER_BYTES),
                Err(error) => prop_assert!(matches!(error, ReadError::Content(_)), "{error}"),
            }
        }
    }
}

#[test]
fn a_missing_record_is_refused() {
    let mut view = View::part(&FOLDS);
    let mut body = RecordBuffer::after(fieldlog_projections::Time(0));
    let name = |n| fieldlog_projections::Fact::AttributeNamed {
        attribute: fieldlog_projections::AttrId(n),
        name: format!("a{n}"),
    };
    body.push_fact(Default::default(), &name(0));
    let gap = view.apply_part(body.records(Seq(2)), Seq(9), ValuesOf::All);
    assert_eq!(gap, Err(FoldError::Missing { have: Seq(0), found: Seq(2) }));
}

#[test]
fn a_snapshot_of_an_older_layout_gives_a_part_too() {
    let view = View::new(WINDOWS.to_vec());
    let bytes = snapshot::encode(&view, Epoch(1)).unwrap();
    let part = read(&bytes, &[Commands::ID]).unwrap();
    assert!(part.is_stale(Aggregates::ID) && part.is_stale(Sessions::ID) && !part.is_stale(Commands::ID));
}

/// Layout 3 as it was first written. Never change it: it must be read for ever.
const FIRST: &[u8] = &[
    70, 76, 83, 78, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 64, 66, 15, 0, 0, 0, 0, 0,
    83, 0, 0, 0, 0, 0, 0, 0, 222, 76, 97, 171, 151, 129, 110, 203, 4, 34, 77, 24, 96, 64, 130, 64, 0, 0, 0,
    27, 7, 1, 0, 242, 9, 1, 1, 1, 31, 1, 4, 108, 97, 109, 112, 1, 115, 0, 0, 2, 128, 137, 122, 2, 128, 137,
    122, 0, 1, 12, 0, 246, 6, 0, 1, 2, 111, 110, 3, 1, 1, 0, 5, 1, 1, 0, 6, 2, 21, 0, 0, 0, 0, 0, 66, 0, 96,
    7, 7, 7, 7, 7, 7, 0, 0, 0, 0,
];

#[test]
fn layout_3_is_read_as_it_was_first_written() {
    let view = read(FIRST, &FOLDS).unwrap();
    assert_eq!(FIRST[4..6], [3, 0]);
    assert_eq!((view.seq, view.boot_id), (Seq(3), [7; 16]));
    let (_, device) = view.devices.find("lamp").unwrap();
    assert_eq!(
        (device.events, view.devices.attribute_name(fieldlog_projections::AttrId(0))),
        (1, Some("on"))
    );
    // It has an older version of the commands, which are rebuilt.
    assert_eq!(view.stale(), [Aggregates::ID, Named::ID, Commands::ID]);
    let error = read(&FIRST[..FIRST.len() - 9], &FOLDS).unwrap_err();
    assert!(matches!(error, ReadError::Content(SnapshotError::Cut)), "{error}");
}
