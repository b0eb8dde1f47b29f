//! The digest of a state is that of its content, however it came about.

use fieldlog_projections::digest::StateDigest;
use fieldlog_projections::fold::Fold;
use fieldlog_projections::{Epoch, Seq, Time, View, snapshot};
use proptest::prelude::*;

use crate::given::{WINDOWS, history, layout_1};

fn digest(view: &View) -> StateDigest {
    StateDigest::of(view).unwrap().unwrap()
}

#[test]
fn golden_digest() {
    let mut view = View::new(Vec::new());
    (view.seq, view.time) = (Seq(0x0102), Time(0x0304));
    let fold = |number: u8, version: u8, bytes: &[u8]| {
        [&[number, version, 0][..], &(bytes.len() as u64).to_le_bytes(), bytes].concat()
    };
    let head = [&[2, 1, 0, 0, 0, 0, 0, 0][..], &[4, 3, 0, 0, 0, 0, 0, 0], &[0; 16]].concat();
    let folds = [fold(1, 1, &[0, 0]), fold(3, 1, &[0]), fold(5, 1, &[0]), fold(6, 3, &[0; 21])].concat();
    let hash = blake3::derive_key("fieldlog 1 state digest", &[head, folds].concat());
    assert_eq!(digest(&view).to_string(), format!("258:{}", blake3::Hash::from_bytes(hash).to_hex()));
}

#[test]
fn a_state_that_is_being_rebuilt_has_none() {
    let view = snapshot::decode(&layout_1(&View::new(Vec::new())), &[]).unwrap();
    assert_eq!(StateDigest::of(&view).unwrap(), None);
}

proptest! {
    #[test]
    fn it_is_of_the_records_and_not_of_windows_or_snapshots(body in history(1..60)) {
        let fold = |windows: &[fieldlog_projections::Window], until: u64| {
            let mut view = View::new(windows.to_vec());
            view.apply_records(body.records(Seq(1)), Seq(until)).unwrap();
            view
        };
        let (whole, other) = (fold(&WINDOWS, u64::MAX), fold(&[], u64::MAX));
        prop_assert_eq!(digest(&whole), digest(&other));
        let restored = snapshot::decode(&snapshot::encode(&whole, Epoch(1)).unwrap(), &WINDOWS).unwrap();
        prop_assert_eq!(digest(&restored), digest(&whole));
        let mut missing = whole.clone();
        missing.aggregates.miss(Time(5));
        prop_assert_eq!(digest(&missing), digest(&whole));
        let shorter = fold(&WINDOWS, body.len() as u64 - 1);
        prop_assert_ne!(digest(&shorter), digest(&whole));
    }
}
