//! Layout 2, with a fold that is not in the view. Of the view's folds, only those of layout 1 take part.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

use serde::Serialize;

use super::*;

/// Stored as one byte, in version 3.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Third(u8);

const THIRD: FoldId = FoldId { number: 7, name: "third" };

impl Section for Third {
    fn id(&self) -> FoldId {
        THIRD
    }

    fn version(&self) -> u16 {
        3
    }

    fn restore(&mut self, version: u16, bytes: &[u8]) -> Result<bool, Unreadable> {
        if let (3, [byte]) = (version, bytes) {
            self.0 = *byte;
        }
        Ok(version == 3)
    }
}

fn encode_with_third(view: &View, third: u8) -> Vec<u8> {
    let (third, mut out) = (Third(third), Cursor::new(Vec::new()));
    let mut folds = first_two(view);
    folds.push(&third);
    write_folds(view, &folds, Epoch(1), &mut out).unwrap();
    out.into_inner()
}

fn first_two(view: &View) -> Vec<&dyn Section> {
    view.sections().into_iter().filter(|fold| fold.id().number <= UNNUMBERED).collect()
}

/// The third fold, and the stale folds, as read by a version that has it.
fn decode_with_third(bytes: &[u8]) -> (Third, Vec<FoldId>) {
    let (mut view, mut third) = (View::new(Vec::new()), Third(0));
    let mut folds = view.sections_mut();
    folds.retain(|fold| fold.id().number <= UNNUMBERED);
    folds.push(&mut third);
    let found = read_folds(Cursor::new(bytes), &mut folds).unwrap();
    (third, found.stale)
}

/// Writes correct checksums into a forged snapshot.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let header = header(&bytes).unwrap();
    let payload_crc = crc32fast::hash(&bytes[HEADER_BYTES..]);
    let payload_bytes = (bytes.len() - HEADER_BYTES) as u64;
    let head = Header { payload_bytes, payload_crc, ..header }.sealed();
    bytes[..HEADER_BYTES].copy_from_slice(&head);
    bytes
}

#[test]
fn a_third_fold_makes_layout_2() {
    let bytes = encode_with_third(&View::new(Vec::new()), 9);
    assert_eq!(bytes[..8], *b"FLSN\x02\0\0\0");
    // Boot id and clock, then number, version, length and bytes of each fold. Never change a byte.
    let golden = [&[0; 17][..], &[1, 1, 2, 0, 0], &[2, 2, 3, 0, 0, 0], &[7, 3, 1, 9]].concat();
    assert_eq!(bytes[HEADER_BYTES..], golden);
    assert_eq!(decode_with_third(&bytes), (Third(9), Vec::new()));
}

#[test]
fn a_snapshot_without_a_fold_makes_that_one_stale() {
    let (view, mut out) = (View::new(Vec::new()), Cursor::new(Vec::new()));
    write_folds(&view, &first_two(&view), Epoch(1), &mut out).unwrap();
    let before = out.into_inner();
    assert_eq!(header(&before).unwrap().layout, VERSION_UNNUMBERED);
    assert_eq!(decode_with_third(&before), (Third(0), vec![THIRD]));
}

#[test]
fn another_version_of_a_fold_makes_that_one_stale() {
    let mut bytes = encode_with_third(&View::new(Vec::new()), 9);
    let version = bytes.len() - 3;
    bytes[version] = 4;
    assert_eq!(decode_with_third(&sealed(bytes)), (Third(0), vec![THIRD]));
}

#[test]
fn a_fold_that_is_not_known_is_passed_over() {
    let mut view = View::new(Vec::new());
    view.boot_id = [5; 16];
    let mut restored = decode(&encode_with_third(&view, 9), &[]).unwrap();
    assert!(!restored.is_stale(crate::Aggregates::ID));
    restored.stale.clear();
    assert_eq!(restored, view);
}

#[test]
fn the_devices_must_be_there_and_numbers_must_ascend() {
    let view = View::new(Vec::new());
    let check = |payload: &[&[u8]]| {
        let head = encode_with_third(&view, 9)[..HEADER_BYTES].to_vec();
        let bytes = sealed([head, vec![0; 17], payload.concat()].concat());
        decode(&bytes, &[]).map(|view| view.is_stale(crate::Aggregates::ID))
    };
    let (devices, aggregates): (&[u8], &[u8]) = (&[1, 1, 2, 0, 0], &[2, 2, 3, 0, 0, 0]);
    assert_eq!(check(&[devices, aggregates]), Ok(false));
    assert_eq!(check(&[devices]), Ok(true));
    for wrong in [&[][..], &[aggregates], &[aggregates, devices], &[devices, devices]] {
        assert_eq!(check(wrong), Err(SnapshotError::Payload));
    }
}
