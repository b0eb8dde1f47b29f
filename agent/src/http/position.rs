//! The position of the view, in answers and as a validator.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fieldlog_projections::{Epoch, Seq, View};
use fieldlog_wire::api::position::{Position, parse_epoch};

use crate::shared::Shared;

/// The position in every answer.
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
    /// The position of a locked view.
    pub(super) fn of(shared: &Shared, view: &View) -> At {
        let head = shared.position.borrow().head.max(view.seq);
        At { epoch: shared.epoch, applied: view.seq, head }
    }

    /// The published position.
    pub(super) fn published(shared: &Shared) -> At {
        let position = *shared.position.borrow();
        let head = position.head.max(position.applied);
        At { epoch: shared.epoch, applied: position.applied, head }
    }

    /// `<epoch>-<applied>`, which identifies the state.
    pub(super) fn tag(&self) -> String {
        format!("{}-{}", self.epoch, self.applied)
    }

    /// 304, if the client already has the answer of this position.
    pub(super) fn not_modified(&self, headers: &HeaderMap) -> Option<Response> {
        let tag = self.tag();
        let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
        let same = |given: &str| given.trim().trim_start_matches("W/").trim_matches('"') == tag;
        if !known.flat_map(|value| value.split(',')).any(same) {
            return None;
        }
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        self.stamp(&mut response);
        Some(response)
    }

    /// Adds the validator to an answer. It is a weak one, because two answers of one state may differ in some bytes: the newest
    /// position that is known, the ages of devices, and the words for what has happened, such as a unit that is announced while
    /// a page is read.
    pub(super) fn stamp(&self, response: &mut Response) {
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&format!("W/\"{}\"", self.tag())) {
            headers.insert(header::ETAG, value);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
}

/// Reads `<epoch>-<seq>`.
pub(super) fn parse_tag(text: &str) -> Option<(Epoch, Seq)> {
    let (epoch, seq) = text.split_once('-')?;
    let digits = !seq.is_empty() && seq.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| Some((parse_epoch(epoch)?, Seq(seq.parse().ok()?))))?
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
