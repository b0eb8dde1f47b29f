//! Decides what may be deleted from the front of the log, and what to do if that is not enough. Pure; the writer
//! carries it out, a slice per commit.

pub mod age;
pub mod keeper;
pub mod reserve;
pub mod rollup;

use crate::config::WhenFull;
use fieldlog_projections::Seq;

/// The positions up to which the configured limits would delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionScan {
    /// Everything before this position is too old.
    pub by_age: Seq,
    /// Everything before this position exceeds `retention.bytes_max`.
    pub by_bytes: Seq,
    /// Nothing from this position on is old enough to be deleted for `bytes_max`, unless the operator chose
    /// `drop-oldest`.
    pub history_min: Seq,
}

/// A need for records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// In words, for the operator: `sink "cloud"`, `the oldest snapshot`.
    pub who: String,
    /// The first position that is needed.
    pub from: Seq,
    /// Yields to `drop-oldest`.
    pub yields: bool,
}

/// What to do about the front of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetentionPlan {
    /// Nothing may be deleted, and nothing has to be.
    Keep,
    /// Records before this position may be deleted: nobody needs them.
    Trim(Seq),
    /// Records before this position must be deleted although `lost_by` need them.
    Drop {
        /// The first position that is kept.
        before: Seq,
        /// The first needed position; nobody loses anything before it.
        lost_from: Seq,
        /// Who loses records.
        lost_by: Vec<String>,
    },
    /// The log is full until `by` no longer needs its front.
    Full {
        /// Who needs it.
        by: String,
        /// Records before this position may still be deleted; the log's first one if none may.
        trim: Seq,
    },
}

/// Decides about the front of a log that begins at `first`.
pub fn decide(first: Seq, scan: RetentionScan, needs: &[Need], when_full: WhenFull) -> RetentionPlan {
    let floor = |needs: &mut dyn Iterator<Item = &Need>| needs.map(|n| n.from).min().unwrap_or(Seq(u64::MAX));
    let needed_from = floor(&mut needs.iter());
    let by_age = scan.by_age.min(needed_from);
    let by_bytes = scan.by_bytes.min(scan.history_min).min(needed_from);
    let may_go = by_age.max(by_bytes).max(first);
    if may_go >= scan.by_bytes {
        return if may_go > first { RetentionPlan::Trim(may_go) } else { RetentionPlan::Keep };
    }
    // Deletable records are not enough. A sink's slow progress must not keep making a little room for ever.
    let hard_floor = floor(&mut needs.iter().filter(|n| !n.yields));
    let before = scan.by_bytes.min(hard_floor);
    if when_full == WhenFull::DropOldest && before > may_go {
        let lost_by = needs.iter().filter(|n| n.from < before).map(|n| n.who.clone()).collect();
        return RetentionPlan::Drop { before, lost_from: may_go, lost_by };
    }
    // A snapshot can be replaced by a newer one, so name somebody else if there is one.
    let gives_way = |n: &Need| n.yields && when_full == WhenFull::DropOldest;
    let in_the_way = needs.iter().filter(|n| n.from < scan.by_bytes && !gives_way(n));
    let by = match in_the_way.min_by_key(|n| (!n.yields, n.from)) {
        Some(need) => need.who.clone(),
        None => "retention.history_min_s".into(),
    };
    RetentionPlan::Full { by, trim: may_go }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(who: &str, from: u64, yields: bool) -> Need {
        Need { who: who.into(), from: Seq(from), yields }
    }

    fn scan(by_age: u64, by_bytes: u64, history_min: u64) -> RetentionScan {
        RetentionScan { by_age: Seq(by_age), by_bytes: Seq(by_bytes), history_min: Seq(history_min) }
    }

    #[track_caller]
    fn check(scan: RetentionScan, needs: &[Need], when_full: WhenFull, expected: &RetentionPlan) {
        assert_eq!(&decide(Seq(100), scan, needs, when_full), expected);
    }

    #[test]
    fn nothing_wanted_keeps_all() {
        check(scan(0, 0, 500), &[need("a", 1000, true)], WhenFull::Block, &RetentionPlan::Keep);
        check(scan(100, 100, 500), &[], WhenFull::DropOldest, &RetentionPlan::Keep);
    }

    #[test]
    fn age_and_bytes_stop_before_what_is_needed() {
        let needs = [need("snapshot", 300, false), need("sink", 250, true)];
        check(scan(200, 0, 900), &needs, WhenFull::Block, &RetentionPlan::Trim(Seq(200)));
        check(scan(280, 0, 900), &needs, WhenFull::Block, &RetentionPlan::Trim(Seq(250)));
        check(scan(0, 250, 900), &needs, WhenFull::DropOldest, &RetentionPlan::Trim(Seq(250)));
    }

    #[test]
    fn the_minimum_history_limits_bytes_not_age() {
        let full = |trim| RetentionPlan::Full { by: "retention.history_min_s".into(), trim: Seq(trim) };
        check(scan(0, 400, 150), &[], WhenFull::Block, &full(150));
        check(scan(400, 0, 150), &[], WhenFull::Block, &RetentionPlan::Trim(Seq(400)));
        check(scan(0, 400, 100), &[], WhenFull::Block, &full(100));
    }

    #[test]
    fn a_full_log_blocks_and_says_for_whom() {
        let full = |trim| RetentionPlan::Full { by: "sink \"cloud\"".into(), trim: Seq(trim) };
        let needs = |cloud| [need("the oldest snapshot", 150, false), need("sink \"cloud\"", cloud, true)];
        check(scan(0, 400, 900), &needs(100), WhenFull::Block, &full(100));
        check(scan(0, 400, 900), &needs(160), WhenFull::Block, &full(150));
        let snapshot = RetentionPlan::Full { by: "the oldest snapshot".into(), trim: Seq(150) };
        check(scan(0, 400, 900), &needs(400), WhenFull::Block, &snapshot);
    }

    #[test]
    fn a_sink_that_crawls_makes_no_room() {
        let needs = [need("snapshot", 390, false), need("cloud", 110, true)];
        let full = RetentionPlan::Full { by: "cloud".into(), trim: Seq(110) };
        check(scan(0, 400, 900), &needs, WhenFull::Block, &full);
        let drop =
            RetentionPlan::Drop { before: Seq(390), lost_from: Seq(110), lost_by: vec!["cloud".into()] };
        check(scan(0, 400, 900), &needs, WhenFull::DropOldest, &drop);
    }

    #[test]
    fn dropping_stops_before_what_does_not_yield() {
        let needs = [need("snapshot", 300, false), need("cloud", 100, true)];
        let lost_by = vec!["cloud".into()];
        check(
            scan(0, 400, 900),
            &needs,
            WhenFull::DropOldest,
            &RetentionPlan::Drop { before: Seq(300), lost_from: Seq(100), lost_by },
        );
        let needs = [need("snapshot", 100, false)];
        check(
            scan(0, 400, 900),
            &needs,
            WhenFull::DropOldest,
            &RetentionPlan::Full { by: "snapshot".into(), trim: Seq(100) },
        );
        let needs = [need("snapshot", 100, false), need("cloud", 100, true)];
        check(
            scan(0, 400, 900),
            &needs,
            WhenFull::DropOldest,
            &RetentionPlan::Full { by: "snapshot".into(), trim: Seq(100) },
        );
    }
}
