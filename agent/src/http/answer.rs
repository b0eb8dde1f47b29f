//! A JSON answer with its position.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::body::Pieces;
use super::position::{At, Validator};

/// Builds a JSON answer for a position.
pub(super) fn answer(body: Pieces, at: At, validator: Validator) -> Response {
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let mut response = (json, Body::new(body)).into_response();
    at.stamp(&mut response, validator);
    response
}
