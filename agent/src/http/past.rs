//! The state at a past moment, as `?at=`, `?from=` and `?to=` name it.

use std::ops::ControlFlow;

use axum::http::StatusCode;
use axum::response::Response;
use fieldlog_projections::fold::FoldId;
use fieldlog_projections::{Seq, Time, View};

use super::App;
use super::answer::answer;
use super::body::{Budget, Pieces};
use super::params::Params;
use super::position::At;
use super::problem::Problem;
use super::reads::Cancel;
use crate::log::LogReader;
use crate::read_side::ReadSide;
use crate::recovery::RecoveryError;
use crate::recovery::past::{PastState, Wanted, earliest, state_at};
use fieldlog_wire::api::devices::{AsOf, Inexact};
use fieldlog_wire::json::{self, Rfc3339};

/// Records of a moment may be committed this much later: the maximum commit delay.
const SETTLED_MICROS: i64 = 10_000_000;

/// Answers from the view, or from the state at the moment `at`; that state has only what is `wanted`.
pub(super) async fn at_moment<F>(
    app: &App,
    params: &Params,
    wanted: Wanted<'static>,
    read: F,
) -> Result<Response, Problem>
where
    F: FnOnce(&View, At, Option<AsOf>, &Budget) -> Result<Pieces, Problem> + Send + 'static,
{
    let Some(moment) = params.text("at") else {
        let (at, body) = app.with_view(|view, at| {
            ready(view, wanted.folds)?;
            Ok((at, read(view, at, None, &app.budget)?))
        })?;
        return Ok(answer(body, at));
    };
    let moment = Moment::parse("at", moment)?;
    let at = At::published(&app.side.shared);
    let (side, budget) = (app.side.clone(), app.budget.clone());
    let body = app
        .reads
        .replay(move |cancel| {
            let past = Past::at(&side, at, moment, wanted, cancel)?;
            read(&past.view, at, Some(past.as_of), &budget)
        })
        .await?;
    Ok(answer(body, at))
}

/// Refuses while one of these folds is being rebuilt.
pub(super) fn ready(view: &View, folds: &[FoldId]) -> Result<(), Problem> {
    match folds.iter().find(|fold| view.is_stale(**fold)) {
        Some(fold) => {
            Err(Problem::busy(format!("the {} are being rebuilt from the log; try again", fold.name)))
        }
        None => Ok(()),
    }
}

/// The value of `?at=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Seq(Seq),
    Time(Time),
}

/// Where a moment is in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The last record of it.
    pub(super) seq: Seq,
    /// The time that was asked for; none if a position was.
    time: Option<Time>,
    inexact: Option<Inexact>,
}

impl Moment {
    /// Reads the text of the parameter `name`.
    pub(super) fn parse(name: &str, text: &str) -> Result<Moment, Problem> {
        if let Ok(seq) = text.parse() {
            return Ok(Moment::Seq(Seq(seq)));
        }
        json::parse_time(text).map(Moment::Time).ok_or_else(|| {
            Problem::bad_parameter(format!(
                "`{name}={text}` must be a time with an offset, such as 2026-11-23T10:00:00Z, or a sequence number"
            ))
        })
    }

    /// The last record of it; `at` is the position of the current view.
    pub(super) fn last(self, reader: &LogReader, at: At, cancel: &Cancel) -> Result<Seq, Problem> {
        match self {
            Moment::Seq(seq) if seq > at.applied => Err(ahead(seq, at)),
            Moment::Seq(seq) => Ok(seq),
            Moment::Time(time) => {
                reader.last_at(time, at.applied, &|| cancel.is_set())?.ok_or_else(Problem::stopping)
            }
        }
    }

    /// Finds its place; `at` is the position of the current view.
    pub(super) fn place(self, side: &ReadSide, at: At, cancel: &Cancel) -> Result<Place, Problem> {
        let reader = &side.shared.reader;
        let seq = self.last(reader, at, cancel)?;
        let Moment::Time(time) = self else { return Ok(Place { seq, time: None, inexact: None }) };
        let (first, before) = begin_of(reader)?;
        let inexact = if seq.next() == first && time < before {
            if first > Seq(1) {
                return Err(gone(side, first));
            }
            Some(Inexact::BeforeLog)
        } else {
            let settled = seq < at.applied || side.now().micros_since(time) > SETTLED_MICROS;
            (!settled).then_some(Inexact::Unsettled)
        };
        Ok(Place { seq, time: Some(time), inexact })
    }
}

impl Place {
    /// For an answer of the state at this place, of which the last record has the log time `time`.
    pub(super) fn as_of(&self, time: Time, base: Option<Seq>, replayed: u64) -> AsOf {
        AsOf {
            seq: self.seq,
            time: Rfc3339(self.time.unwrap_or(time)),
            exact: self.inexact.is_none(),
            inexact_because: self.inexact,
            base,
            replayed,
        }
    }

    /// The time that was asked for, or that of the record.
    pub(super) fn time(&self, reader: &LogReader) -> Result<Time, Problem> {
        if let Some(time) = self.time {
            return Ok(time);
        }
        // It is in the first chunk, if it is in the log.
        let time = reader.scan(self.seq, |chunk| {
            let mut records = chunk.records().map_while(Result::ok);
            ControlFlow::Break(records.find(|record| record.seq == self.seq).map(|record| record.time))
        })?;
        Ok(time.flatten().unwrap_or_default())
    }
}

/// A past state.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) view: View,
    pub(super) as_of: AsOf,
}

impl Past {
    /// What is wanted of the state at `moment`; `at` is the position of the current view.
    pub(super) fn at(
        side: &ReadSide,
        at: At,
        moment: Moment,
        wanted: Wanted<'_>,
        cancel: &Cancel,
    ) -> Result<Past, Problem> {
        let place = moment.place(side, at, cancel)?;
        let shared = &side.shared;
        let give_up = || cancel.is_set();
        let PastState { view, base, replayed } =
            state_at(&shared.snapshots, &shared.reader, shared.epoch, place.seq, wanted, &give_up)
                .map_err(|error| refused(side, error))?;
        let as_of = place.as_of(view.time, Some(base), replayed);
        Ok(Past { view, as_of })
    }
}

/// The first record of the log, and the moment before which the log says nothing: that of the record before it, or that
/// of the first one if there is none before it.
fn begin_of(reader: &LogReader) -> Result<(Seq, Time), Problem> {
    let begin = reader.scan(Seq(0), |chunk| {
        let (first, mut before) = (chunk.header.first, chunk.header.base_time);
        if first == Seq(1)
            && let Ok(Some(record)) = chunk.records().next_record()
        {
            before = reader.moment(record.seq, record.time);
        } else {
            before = reader.moment_before(first, before);
        }
        ControlFlow::Break((first, before))
    })?;
    Ok(begin.unwrap_or((Seq(1), Time(i64::MAX))))
}

fn ahead(seq: Seq, at: At) -> Problem {
    Problem::bad_parameter(format!(
        "sequence {seq} has not happened yet, the view is at {}; leave it out for the current state, or wait with \
         `min_seq={seq}`",
        at.applied
    ))
}

fn gone(side: &ReadSide, first: Seq) -> Problem {
    let shared = &side.shared;
    let rest = match earliest(&shared.snapshots, &shared.reader, shared.epoch) {
        Ok(Some(seq)) => format!("the earliest state that can be given is that at sequence {seq}"),
        _ => "no snapshot of a state that it continues is kept".to_owned(),
    };
    let detail = format!("the log begins at sequence {first}; {rest}");
    Problem::new(StatusCode::GONE, "trimmed", "The log no longer covers that moment", detail)
}

fn refused(side: &ReadSide, error: RecoveryError) -> Problem {
    match error {
        RecoveryError::NoPast { first } => gone(side, first),
        RecoveryError::GivenUp => Problem::stopping(),
        error => Problem::internal(error.to_string()),
    }
}
