//! A JSON answer with its position.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::body::Pieces;
use super::position::At;

/// A JSON answer of a position.
pub(super) fn answer(body: Pieces, at: At) -> Response {
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let mut response = (json, Body::new(body)).into_response();
    at.stamp(&mut response);
    response
}
