//! Errors: problem details, RFC 9457.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fieldlog_projections::Seq;
use fieldlog_wire::api::commands::{RemoteAnswer, refusal};
use fieldlog_wire::api::problem;

/// Why a request failed, and what to do.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: Cow<'static, str>,
    title: &'static str,
    detail: String,
    changed_seq: Option<Seq>,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Problem {
        Problem { status, code: code.into(), title, detail: detail.into(), changed_seq: None }
    }

    pub(super) fn bad_parameter(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-parameter", "A parameter cannot be used", detail)
    }

    /// A gateway refuses a command, in its words.
    pub(super) fn refused(answer: &RemoteAnswer<'_>) -> Problem {
        let (status, title) = refusal(&answer.code);
        Problem {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::CONFLICT),
            code: answer.code.to_string().into(),
            title,
            detail: answer.detail.to_string(),
            changed_seq: answer.changed_seq,
        }
    }

    /// The database does not answer, or not in time.
    pub(super) fn database(why: &str) -> Problem {
        tracing::warn!("a request could not be answered: {why}");
        let detail = format!("PostgreSQL does not answer: {why}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "database", "The tables cannot be read", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = problem::Problem {
            kind: format!("urn:fieldlog:problem:{}", self.code).into(),
            title: self.title.into(),
            status: self.status.as_u16(),
            detail: self.detail.into(),
            instance: "".into(),
            code: self.code,
            position: None,
            changed_seq: self.changed_seq,
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let headers = [(header::CONTENT_TYPE, problem::CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")];
        let mut response = (self.status, headers, body).into_response();
        let mut add = |name, value| {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        };
        match self.status {
            StatusCode::UNAUTHORIZED => add(header::WWW_AUTHENTICATE, "Bearer realm=\"fieldlog\""),
            StatusCode::SERVICE_UNAVAILABLE => add(header::RETRY_AFTER, "1"),
            _ => {}
        }
        response
    }
}
