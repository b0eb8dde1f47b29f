//! The meaning of a server's answer for the parcel. Pure.

use std::time::Duration;

use bytes::Bytes;
use fieldlog_projections::Time;
use fieldlog_wire::api::problem::FORK;

use crate::forward::{Outcome, SLOW};

/// Longer pauses are ignored; `backoff_max_s` bounds them further.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A server's answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) location: Option<String>,
    /// The beginning of its body, for messages.
    pub(super) words: String,
    /// The problem type in its body.
    pub(super) problem: Option<String>,
    /// What it asks for again.
    pub(super) request: Option<Bytes>,
}

impl Answer {
    /// The outcome of a parcel; `name` is the sink, `bytes` what was sent.
    pub(super) fn outcome(&self, name: &str, bytes: usize) -> Outcome {
        let said = self.said(name);
        match self.status {
            200..=299 => Outcome::Acked,
            300..=399 => {
                let to = self.location.as_deref().unwrap_or("another place");
                slow(format!("{said}: it redirects to {to}; set `address` to where it belongs"), self)
            }
            401 | 403 | 407 => slow(format!("{said}: check `token_file` and what the token allows"), self),
            // These concern the URL or the kind of request, so the next parcel would get the same answer.
            404 | 405 | 410 | 421 | 426 | 501 | 505 => slow(format!("{said}: check `address`"), self),
            406 | 415 => slow(format!("{said}: check `format` and `gzip`, this server takes others"), self),
            413 => Outcome::TooLarge { why: format!("{said}: {bytes} bytes are too large for it") },
            409 if self.problem.as_deref() == Some(FORK) => Outcome::Forked { why: said },
            408 | 425 | 429 | 500.. => Outcome::Busy { after: self.retry_after, why: said },
            _ => Outcome::Refused { why: said },
        }
    }

    fn said(&self, name: &str) -> String {
        let words = if self.words.is_empty() { String::new() } else { format!(", \"{}\"", self.words) };
        let reason =
            hyper::StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        let reason = reason.map(|reason| format!(" {reason}")).unwrap_or_default();
        format!("{name} answers {}{reason}{words}", self.status)
    }
}

fn slow(why: String, answer: &Answer) -> Outcome {
    Outcome::Busy { after: Some(answer.retry_after.unwrap_or_default().max(SLOW)), why }
}

/// A `Retry-After` field: seconds, or a date.
pub(super) fn retry_after(field: &str, now: Time) -> Option<Duration> {
    let field = field.trim();
    if !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that overflows is longer than the maximum.
        let wait = field.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs);
        return Some(wait.min(RETRY_AFTER_MAX));
    }
    let at = jiff::fmt::rfc2822::parse(field).ok()?.timestamp().as_microsecond();
    let wait = at.saturating_sub(now.0).max(0);
    Some(Duration::from_micros(wait.unsigned_abs()).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after_s: Option<u64>) -> Outcome {
        let retry_after = retry_after_s.map(Duration::from_secs);
        Answer { status, retry_after, words: "so it is".into(), ..Answer::default() }.outcome("http://h/p", 9)
    }

    #[test]
    fn only_what_speaks_of_the_parcel_refuses_it() {
        for status in [200, 201, 202, 204] {
            assert_eq!(answered(status, None), Outcome::Acked);
        }
        for status in [408, 425, 429, 500, 502, 503, 504] {
            let Outcome::Busy { after, why } = answered(status, Some(7)) else { panic!("{status}") };
            assert_eq!(after, Some(Duration::from_secs(7)));
            assert!(why.starts_with(&format!("http://h/p answers {status}")), "{why}");
            assert!(matches!(answered(status, None), Outcome::Busy { after: None, .. }));
        }
        for status in [301, 308, 401, 403, 404, 405, 415, 501] {
            assert!(matches!(answered(status, Some(7)), Outcome::Busy { after: Some(SLOW), .. }), "{status}");
        }
        for status in [400, 409, 422, 451] {
            assert!(matches!(answered(status, None), Outcome::Refused { .. }), "{status}");
        }
        // Only a receiver that knows about forks reports one.
        let problem = Some(FORK.to_owned());
        let fork = Answer { status: 409, words: "as I know it".into(), problem, ..Answer::default() };
        let Outcome::Forked { why } = fork.outcome("http://h/p", 9) else { panic!() };
        assert_eq!(why, "http://h/p answers 409 Conflict, \"as I know it\"");
        let Outcome::TooLarge { why } = answered(413, None) else { panic!() };
        assert_eq!(
            why,
            "http://h/p answers 413 Payload Too Large, \"so it is\": 9 bytes are too large for it"
        );
    }

    #[test]
    fn retry_after_has_two_forms() {
        let now = Time::from_secs(784_111_777);
        assert_eq!(retry_after(" 120 ", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:40:37 GMT", now), Some(Duration::ZERO));
        for far in ["99999999", "99999999999999999999999", "Thu, 31 Dec 9998 23:59:59 GMT"] {
            assert_eq!(retry_after(far, now), Some(RETRY_AFTER_MAX), "{far}");
        }
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("", now), None);
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("-5", now), None);
    }
}
