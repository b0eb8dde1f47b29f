//! The state at a past time: the nearest snapshot before it, and a replay from there.

use std::ops::ControlFlow;

use axum::http::StatusCode;
use fieldlog_projections::{Seq, Time};

use super::position::At;
use super::problem::Problem;
use super::reads::{Cancel, Stretch, scan};
use crate::read_side::ReadSide;
use crate::recovery::{self, RecoveryError};
use fieldlog_wire::api::devices::AsOf;
use fieldlog_wire::json::{self, Rfc3339};

/// Records of a moment may be committed this much later: the maximum commit delay.
const SETTLED_MICROS: i64 = 10_000_000;

/// The value of `?at=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Seq(Seq),
    Time(Time),
}

impl Moment {
    pub(super) fn parse(text: &str) -> Result<Moment, Problem> {
        if let Ok(seq) = text.parse() {
            return Ok(Moment::Seq(Seq(seq)));
        }
        json::parse_time(text).map(Moment::Time).ok_or_else(|| {
            Problem::bad_parameter(format!(
                "`at={text}` must be a time with an offset, such as 2026-11-23T10:00:00Z, or a sequence number"
            ))
        })
    }
}

/// A past state.
pub(super) struct Past {
    pub(super) view: fieldlog_projections::View,
    pub(super) as_of: AsOf,
}

impl Past {
    /// The state at `moment`; `at` is the position of the current view.
    pub(super) fn at(side: &ReadSide, at: At, moment: Moment, cancel: &Cancel) -> Result<Past, Problem> {
        let (seq, exact) = match moment {
            Moment::Seq(seq) if seq > at.applied => return Err(ahead(seq, at)),
            Moment::Seq(seq) => (seq, true),
            Moment::Time(time) => {
                let seq = last_before(side, at, time, cancel)?;
                (seq, seq < at.applied || side.now().micros_since(time) > SETTLED_MICROS)
            }
        };
        let shared = &side.shared;
        // Aggregates are not requested, so none are folded.
        let give_up = || cancel.is_set();
        let recovered = recovery::recover_unless(
            &shared.snapshots,
            &shared.reader,
            shared.epoch,
            &[],
            Some(seq),
            &give_up,
        )
        .map_err(refused)?;
        let time = match moment {
            Moment::Seq(_) => recovered.view.time,
            Moment::Time(time) => time,
        };
        let as_of =
            AsOf { seq: recovered.view.seq, time: Rfc3339(time), exact, replayed: recovered.replayed };
        Ok(Past { view: recovered.view, as_of })
    }
}

/// The last record at or before `time`. Records from a clock that was ahead count as no later than its correction.
pub(super) fn last_before(side: &ReadSide, at: At, time: Time, cancel: &Cancel) -> Result<Seq, Problem> {
    let reader = &side.shared.reader;
    let from = reader.seek_time(time)?;
    let mut last = Seq(from.0.saturating_sub(1));
    let stretch = Stretch { from, until: at.applied, records_max: u64::MAX };
    scan(reader, stretch, cancel, |record| {
        if reader.moment(record.seq, record.time) > time {
            return Ok(ControlFlow::Break(()));
        }
        last = record.seq;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(last)
}

pub(super) fn ahead(seq: Seq, at: At) -> Problem {
    Problem::bad_parameter(format!(
        "`at={seq}` has not happened yet, the view is at {}; leave `at` out for the current state, or wait with \
         `min_seq={seq}`",
        at.applied
    ))
}

fn refused(error: RecoveryError) -> Problem {
    match error {
        RecoveryError::NoBase { first, .. } => {
            let detail =
                format!("the log begins at sequence {first}, and no snapshot before that moment is kept");
            Problem::new(StatusCode::GONE, "trimmed", "The log no longer covers that moment", detail)
        }
        RecoveryError::GivenUp => Problem::stopping(),
        error => Problem::internal(error.to_string()),
    }
}
