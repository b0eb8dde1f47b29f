//! Where the view is, in answers, as a validator, and as something to wait for.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fieldlog_projections::{Epoch, Seq, View};
use fieldlog_wire::api::position::{Position, parse_epoch};

use super::params::Params;
use super::problem::Problem;
use super::{App, WAITS_MAX, stopped};
use crate::shared::Shared;

const WAIT_DEFAULT_MS: u64 = 2_000;
const WAIT_MAX_MS: u64 = 10_000;

/// A position, as every answer carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) epoch: Epoch,
    pub(super) applied: Seq,
    pub(super) head: Seq,
}

impl From<At> for Position {
    fn from(at: At) -> Position {
        Position::new(at.epoch, at.applied, at.head)
    }
}

impl At {
    /// The position of a view that is locked.
    pub(super) fn of(shared: &Shared, view: &View) -> At {
        let head = shared.position.borrow().head.max(view.seq);
        At { epoch: shared.epoch, applied: view.seq, head }
    }

    /// The position that has been published.
    pub(super) fn published(shared: &Shared) -> At {
        let position = *shared.position.borrow();
        let head = position.head.max(position.applied);
        At { epoch: shared.epoch, applied: position.applied, head }
    }

    /// `<epoch>-<applied>`, which names the state.
    pub(super) fn tag(&self) -> String {
        format!("{}-{}", self.epoch, self.applied)
    }

    /// 304, if the client has the answer of this position already.
    pub(super) fn not_modified(&self, headers: &HeaderMap) -> Option<Response> {
        let tag = self.tag();
        let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
        let same = |given: &str| given.trim().trim_start_matches("W/").trim_matches('"') == tag;
        if !known.flat_map(|value| value.split(',')).any(same) {
            return None;
        }
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        self.stamp(&mut response, Validator::Strong);
        Some(response)
    }

    /// Adds the validator to an answer.
    pub(super) fn stamp(&self, response: &mut Response, validator: Validator) {
        let weak = if validator == Validator::Weak { "W/" } else { "" };
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&format!("{weak}\"{}\"", self.tag())) {
            headers.insert(header::ETAG, value);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
}

/// How much two answers with one tag have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validator {
    /// Every byte.
    Strong,
    /// The state; the ages in it are of the moment.
    Weak,
}

/// `?min_seq=`: what a client wants to see in the answer.
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
                "`min_seq={text}` is no position; give a sequence number, or `<epoch>-<seq>` as in an ETag"
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

/// Reads `<epoch>-<seq>`.
pub(super) fn parse_tag(text: &str) -> Option<(Epoch, Seq)> {
    let (epoch, seq) = text.split_once('-')?;
    let digits = !seq.is_empty() && seq.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| Some((parse_epoch(epoch)?, Seq(seq.parse().ok()?))))?
}

/// Waits until the view has what the request wants to see.
pub(super) async fn reach(app: &App, params: &Params) -> Result<(), Problem> {
    let Some(min_seq) = MinSeq::from(params)? else { return Ok(()) };
    let shared = &app.side.shared;
    if let Some(epoch) = min_seq.epoch
        && epoch != shared.epoch
    {
        let title = "Another epoch";
        let detail = format!(
            "the position is of epoch {epoch}, this log is epoch {}: it was begun anew. Read the state again without \
             `min_seq`, and continue from its position",
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

#[cfg(test)]
mod tests {
    use super::*;

    const AT: At = At { epoch: Epoch(0xab), applied: Seq(7), head: Seq(9) };

    #[test]
    fn a_position_says_how_far_behind_it_is() {
        let json = serde_json::to_string(&Position::from(AT)).unwrap();
        assert_eq!(json, r#"{"epoch":"00000000000000ab","applied":7,"head":9,"lag":2}"#);
    }

    #[test]
    fn tags_are_compared_weakly_and_in_lists() {
        let check = |value: &str, same: bool| {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, value.parse().unwrap())]);
            assert_eq!(AT.not_modified(&headers).is_some(), same, "{value}");
        };
        check("\"00000000000000ab-7\"", true);
        check("W/\"00000000000000ab-7\"", true);
        check("\"x\", \"00000000000000ab-7\"", true);
        check("\"00000000000000ab-8\"", false);
    }

    #[test]
    fn tags_are_read_strictly() {
        assert_eq!(parse_tag("00000000000000ab-7"), Some((Epoch(0xab), Seq(7))));
        for text in [
            "ab-7",
            "00000000000000ab-",
            "00000000000000ab-+7",
            "00000000000000ab",
            "-7",
            "+0000000000000ab-7",
        ] {
            assert_eq!(parse_tag(text), None, "{text}");
        }
    }
}
