//! The status page at `/`: static files in the binary, and the headers that keep a device's name from becoming a script.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::problem::Problem;

/// Nothing but the page's own files and its own server; no inline script or style, so that markup which comes in
/// with a device's name could do nothing even if it were ever parsed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// One file of the page.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    content: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

macro_rules! asset {
    ($name:literal, $media_type:expr) => {
        Asset { name: $name, media_type: $media_type, content: include_str!(concat!("page/", $name)) }
    };
}

const INDEX: Asset = asset!("index.html", HTML);

/// What `/assets/` serves.
const ASSETS: &[Asset] = &[
    asset!("api.js", SCRIPT),
    asset!("app.js", SCRIPT),
    asset!("chart.js", SCRIPT),
    asset!("devices.js", SCRIPT),
    asset!("favicon.svg", IMAGE),
    asset!("feed.js", SCRIPT),
    asset!("health.js", SCRIPT),
    asset!("panel.js", SCRIPT),
    asset!("style.css", STYLE),
    asset!("words.js", SCRIPT),
];

/// One tag for all files: they import each other, so one that changes must not meet an old other one.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let mut hash = DefaultHasher::new();
    for asset in ASSETS.iter().chain([&INDEX]) {
        asset.content.hash(&mut hash);
    }
    format!("\"{:016x}\"", hash.finish())
});

/// Routes `/` and `/assets/{name}`. Neither needs a token: the page asks for it, the data behind it does.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(index)).route("/assets/{name}", get(asset))
}

async fn index(headers: HeaderMap) -> Response {
    serve(&INDEX, &headers)
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => serve(asset, &headers),
        None => {
            let detail = format!("the page has no file `{name}`");
            Problem::not_found("no-such-asset", "No such file", detail).into_response()
        }
    }
}

fn serve(asset: &'static Asset, request: &HeaderMap) -> Response {
    let headers: [(HeaderName, &str); 6] = [
        (CONTENT_TYPE, asset.media_type),
        (ETAG, &TAG),
        // Kept, but asked about each time: after an update of the agent the page is the new one.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    if holds_current(request) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, asset.content).into_response()
}

/// Whether the request says that the browser has what would be sent.
fn holds_current(request: &HeaderMap) -> bool {
    request
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag == TAG.as_str())
}

#[cfg(test)]
mod tests;
