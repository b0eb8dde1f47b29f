//! Power cuts, full disks and I/O errors at a random operation of the log: points of the tests' crash matrix, with
//! other seeds.

use crate::account::Account;
use crate::it::crash::{Tally, point};

/// One point.
pub fn round(seed: u64, account: &Account) {
    let tally = Tally::default();
    point(seed, &tally);
    account.checked(tally.records());
}
