//! Error answers: RFC 9457 problem details, whose `detail` says what to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fieldlog_projections::Seq;
use fieldlog_wire::api::problem;

use super::position::At;
use crate::log::LogError;

/// A problem. [`Problem::render`] makes its body, when the path is known.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    title: &'static str,
    detail: String,
    position: Option<At>,
    changed_seq: Option<Seq>,
    /// When to ask again, in seconds.
    retry_after: Option<u16>,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Problem {
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        Problem { status, code, title, detail: detail.into(), position: None, changed_seq: None, retry_after }
    }

    /// What is wrong and what to do, without a request.
    pub(super) fn words(self) -> String {
        self.detail
    }

    pub(super) fn bad_parameter(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-parameter", "A parameter cannot be used", detail)
    }

    pub(super) fn not_found(code: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, code, title, detail)
    }

    pub(super) fn busy(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Too much at once", detail)
    }

    pub(super) fn stopping() -> Problem {
        let detail = "fieldlog is being stopped; try again when it has been started again";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "Being stopped", detail)
    }

    /// A bug, or a failing disk.
    pub(super) fn internal(detail: impl Into<String>) -> Problem {
        let detail = detail.into();
        tracing::error!("an HTTP request could not be answered: {detail}");
        let title = "The server could not answer the request";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", title, detail)
    }

    /// Adds the position of the view.
    pub(super) fn at(self, position: At) -> Problem {
        Problem { position: Some(position), ..self }
    }

    /// Says when to ask again.
    pub(super) fn retry_after(self, seconds: u16) -> Problem {
        Problem { retry_after: Some(seconds), ..self }
    }

    /// Adds the present version of the device.
    pub(super) fn with_changed_seq(self, changed_seq: Option<Seq>) -> Problem {
        Problem { changed_seq, ..self }
    }

    /// The answer to a request for `path`.
    pub(super) fn render(&self, path: &str) -> Response {
        let body = problem::Problem {
            kind: format!("urn:fieldlog:problem:{}", self.code).into(),
            title: self.title.into(),
            status: self.status.as_u16(),
            detail: (&self.detail).into(),
            instance: path.into(),
            code: self.code.into(),
            position: self.position.map(Into::into),
            changed_seq: self.changed_seq,
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        let mut response = (self.status, headers, body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"fieldlog\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Problem {
        Problem::internal(error.to_string())
    }
}
