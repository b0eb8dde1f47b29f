//! `?min_seq=`: waits for a position.

use std::time::Duration;

use axum::http::StatusCode;
use fieldlog_projections::{Epoch, Seq};
use fieldlog_wire::api::position::parse_epoch;

use super::params::Params;
use super::position::{At, parse_tag};
use super::problem::Problem;
use super::{App, WAITS_MAX, stopped};

const WAIT_DEFAULT_MS: u64 = 2_000;
const WAIT_MAX_MS: u64 = 10_000;

/// `?min_seq=`: the position that the answer must include.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MinSeq {
    epoch: Option<Epoch>,
    seq: Seq,
    wait: Duration,
}

impl MinSeq {
    fn from(params: &Params) -> Result<Option<MinSeq>, Problem> {
        let epoch = params.text("epoch").map(|text| parse_epoch(text).ok_or_else(bad_epoch)).transpose()?;
        let wait = params.number("min_seq_timeout_ms", 0..=WAIT_MAX_MS)?.unwrap_or(WAIT_DEFAULT_MS);
        let Some(text) = params.text("min_seq") else {
            return Ok(epoch.map(|epoch| MinSeq { epoch: Some(epoch), seq: Seq(0), wait: Duration::ZERO }));
        };
        let bad = || {
            Problem::bad_parameter(format!(
                "`min_seq={text}` is not a position; give a sequence number, or `<epoch>-<seq>` as in an ETag"
            ))
        };
        let (epoch, seq) = match text.rsplit_once('-') {
            Some(_) => parse_tag(text).map(|(epoch, seq)| (Some(epoch), seq)).ok_or_else(bad)?,
            None => (epoch, Seq(text.parse().map_err(|_| bad())?)),
        };
        Ok(Some(MinSeq { epoch, seq, wait: Duration::from_millis(wait) }))
    }
}

fn bad_epoch() -> Problem {
    Problem::bad_parameter("`epoch` must be 16 hex digits, as `position.epoch` has them")
}

/// Waits until the view has the requested position.
pub(super) async fn reach(app: &App, params: &Params) -> Result<(), Problem> {
    let Some(min_seq) = MinSeq::from(params)? else { return Ok(()) };
    let shared = &app.side.shared;
    if let Some(epoch) = min_seq.epoch
        && epoch != shared.epoch
    {
        let title = "Another epoch";
        let detail = format!(
            "the position is of epoch {epoch}, but this log has epoch {}: the log was replaced. Read the state again \
             without `min_seq`, and continue from its position",
            shared.epoch
        );
        return Err(
            Problem::new(StatusCode::CONFLICT, "other-epoch", title, detail).at(At::published(shared))
        );
    }
    if At::published(shared).applied >= min_seq.seq {
        return Ok(());
    }
    let _waiting = app.waits.try_acquire().map_err(|_| {
        Problem::busy(format!(
            "{WAITS_MAX} requests wait for the position they want to see, which is the most at a time; try again"
        ))
    })?;
    let mut position = shared.position.subscribe();
    let mut stop = app.stop.clone();
    let reached = tokio::select! {
        reached = tokio::time::timeout(min_seq.wait, position.wait_for(|p| p.applied >= min_seq.seq)) => reached.is_ok(),
        () = stopped(&mut stop) => return Err(Problem::stopping()),
    };
    if reached {
        return Ok(());
    }
    let at = At::published(shared);
    let detail = format!(
        "sequence {} is not in the view yet, which is at {}; try again, or wait longer with `min_seq_timeout_ms` (at most \
         {WAIT_MAX_MS})",
        min_seq.seq, at.applied
    );
    let title = "The position was not reached in time";
    Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, "position-not-reached", title, detail).at(at))
}
