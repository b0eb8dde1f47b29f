//! The status page and the description of the API: embedded files, with headers that keep a device's name from becoming a script.

use axum::Router;
use axum::http::HeaderName;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::routing::get;

/// Only the page's own files and server; no inline script or style.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// `GET /openapi.json`: what the API is. A test makes it from the types.
pub(super) async fn description() -> ([(HeaderName, &'static str); 2], &'static str) {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")];
    (headers, include_str!("openapi.json"))
}

/// Neither needs a token: the page asks for it, and the data needs it.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let file = |media_type: &'static str, content: &'static str| {
        get(move || async move {
            let headers: [(HeaderName, &str); 5] = [
                (CONTENT_TYPE, media_type),
                (CACHE_CONTROL, "no-cache"),
                (CONTENT_SECURITY_POLICY, POLICY),
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (REFERRER_POLICY, "no-referrer"),
            ];
            (headers, content)
        })
    };
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("page/index.html")))
        .route("/assets/page.js", file("text/javascript; charset=utf-8", include_str!("page/page.js")))
        .route("/assets/style.css", file("text/css; charset=utf-8", include_str!("page/style.css")))
}
