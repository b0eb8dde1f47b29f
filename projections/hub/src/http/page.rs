//! The page and the description of the API: embedded files, with headers that keep a device's name from becoming a script.
//!
//! What shows values, charts and events is the agent's, and lies with its page.

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

/// Only the page's own files and server; no inline script or style.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// One file of the page.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

macro_rules! own {
    ($name:literal, $media_type:expr) => {
        Asset { name: $name, media_type: $media_type, text: include_str!(concat!("page/", $name)) }
    };
}

/// A file of the agent's page, with the licence of the library for charts in it.
macro_rules! shared {
    ($name:literal, $media_type:expr) => {
        Asset {
            name: $name,
            media_type: $media_type,
            text: include_str!(concat!("../../../../agent/src/http/page/", $name)),
        }
    };
}

static INDEX: Asset = own!("index.html", HTML);

/// What `/assets/` serves.
static ASSETS: [Asset; 32] = [
    shared!("answer.js", SCRIPT),
    own!("api.js", SCRIPT),
    own!("app.js", SCRIPT),
    shared!("card.js", SCRIPT),
    shared!("chart.js", SCRIPT),
    shared!("classes.js", SCRIPT),
    own!("command.js", SCRIPT),
    own!("commands.js", SCRIPT),
    shared!("describe.js", SCRIPT),
    own!("device.js", SCRIPT),
    own!("devices.js", SCRIPT),
    own!("events.js", SCRIPT),
    shared!("favicon.svg", IMAGE),
    own!("fork.js", SCRIPT),
    own!("gateway.js", SCRIPT),
    own!("gateways.js", SCRIPT),
    own!("history.js", SCRIPT),
    own!("hub.css", STYLE),
    own!("name.js", SCRIPT),
    shared!("route.js", SCRIPT),
    own!("rows.js", SCRIPT),
    own!("search.js", SCRIPT),
    own!("series.js", SCRIPT),
    own!("sources.js", SCRIPT),
    own!("standing.js", SCRIPT),
    own!("stores.js", SCRIPT),
    shared!("style.css", STYLE),
    shared!("timeline.js", SCRIPT),
    shared!("uplot.css", STYLE),
    shared!("uplot.js", SCRIPT),
    shared!("views.css", STYLE),
    shared!("words.js", SCRIPT),
];

/// One entity tag for all files: they import each other, so a changed file must not be combined with an old one.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let mut hash = DefaultHasher::new();
    for asset in ASSETS.iter().chain([&INDEX]) {
        asset.text.hash(&mut hash);
    }
    format!("\"{:016x}\"", hash.finish())
});

/// `GET /openapi.json`: what the API is. A test makes it from the types.
pub(super) async fn description() -> ([(HeaderName, &'static str); 2], &'static str) {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")];
    (headers, include_str!("openapi.json"))
}

/// Neither needs a token: the page asks for it, and the data needs it.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
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
            Problem::new(StatusCode::NOT_FOUND, "no-such-asset", "No such file", detail).into_response()
        }
    }
}

fn serve(asset: &'static Asset, request: &HeaderMap) -> Response {
    let headers: [(HeaderName, &str); 6] = [
        (CONTENT_TYPE, asset.media_type),
        (ETAG, &TAG),
        // Kept but always asked about, so that an updated hub shows the new page.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    let known = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    if known.flat_map(|tags| tags.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == *TAG) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, asset.text).into_response()
}

#[cfg(test)]
mod tests;
