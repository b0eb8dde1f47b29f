//! The status page at `/`: embedded static files, with headers that keep a device's name from becoming a script.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::read::GzDecoder;

use super::problem::Problem;

/// Allows only the page's own files and server, no inline script or style, so that markup in a device's name has no
/// effect even if it were parsed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// One file of the page, which `build.rs` has compressed.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    packed: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

macro_rules! asset {
    ($name:literal, $media_type:expr) => {
        Asset {
            name: $name,
            media_type: $media_type,
            packed: include_bytes!(concat!(env!("OUT_DIR"), "/page/", $name, ".gz")),
        }
    };
}

static INDEX: Asset = asset!("index.html", HTML);

/// What the API is, in OpenAPI's words; a test makes it from the types.
static DESCRIPTION: Asset = asset!("openapi.json", "application/json");

/// What `/assets/` serves.
static ASSETS: [Asset; 32] = [
    asset!("admin.js", SCRIPT),
    asset!("answer.js", SCRIPT),
    asset!("api.js", SCRIPT),
    asset!("app.js", SCRIPT),
    asset!("attention.js", SCRIPT),
    asset!("card.js", SCRIPT),
    asset!("chart.js", SCRIPT),
    asset!("classes.js", SCRIPT),
    asset!("command.js", SCRIPT),
    asset!("commands.js", SCRIPT),
    asset!("connections.js", SCRIPT),
    asset!("derived.js", SCRIPT),
    asset!("describe.js", SCRIPT),
    asset!("device.js", SCRIPT),
    asset!("devices.js", SCRIPT),
    asset!("events.js", SCRIPT),
    asset!("favicon.svg", IMAGE),
    asset!("health.js", SCRIPT),
    asset!("history.js", SCRIPT),
    asset!("overview.js", SCRIPT),
    asset!("past.js", SCRIPT),
    asset!("quarantine.js", SCRIPT),
    asset!("route.js", SCRIPT),
    asset!("series.js", SCRIPT),
    asset!("spark.js", SCRIPT),
    asset!("store.js", SCRIPT),
    asset!("style.css", STYLE),
    asset!("timeline.js", SCRIPT),
    asset!("uplot.css", STYLE),
    asset!("uplot.js", SCRIPT),
    asset!("views.css", STYLE),
    asset!("words.js", SCRIPT),
];

/// One entity tag for all files, plain and compressed: they import each other, so a changed file must not be combined
/// with an old one.
static TAGS: LazyLock<[String; 2]> = LazyLock::new(|| {
    let mut hash = DefaultHasher::new();
    for asset in ASSETS.iter().chain([&INDEX, &DESCRIPTION]) {
        asset.packed.hash(&mut hash);
    }
    let hash = hash.finish();
    [format!("\"{hash:016x}\""), format!("\"{hash:016x}-gzip\"")]
});

impl Asset {
    /// For a client that does not take it compressed.
    fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        // The agent's own bytes are intact.
        let _ = GzDecoder::new(self.packed).read_to_end(&mut plain);
        plain
    }
}

/// Routes `/` and `/assets/{name}`. Neither needs a token: the page asks for it, and the data needs it.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(index)).route("/assets/{name}", get(asset))
}

async fn index(headers: HeaderMap) -> Response {
    serve(&INDEX, &headers)
}

/// `GET /openapi.json`
pub(super) async fn description(headers: HeaderMap) -> Response {
    serve(&DESCRIPTION, &headers)
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
    let gzip = takes_gzip(request);
    let tag = &TAGS[usize::from(gzip)];
    let headers: [(HeaderName, &str); 7] = [
        (CONTENT_TYPE, asset.media_type),
        (ETAG, tag),
        (VARY, "accept-encoding"),
        // Cached but always revalidated, so that an updated agent shows the new page.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    if holds(request, tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    if !gzip {
        return (headers, asset.plain()).into_response();
    }
    let mut response = (headers, asset.packed).into_response();
    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response
}

/// The values that a header lists, with parameters.
fn listed(request: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = request.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn takes_gzip(request: &HeaderMap) -> bool {
    listed(request, ACCEPT_ENCODING).any(|coding| match coding.split_once(';') {
        None => coding.eq_ignore_ascii_case("gzip"),
        Some((coding, weight)) => {
            let weight = weight.trim().trim_start_matches("q=").parse::<f32>();
            coding.trim().eq_ignore_ascii_case("gzip") && weight.is_ok_and(|weight| weight > 0.0)
        }
    })
}

/// Whether the browser already has the current version.
fn holds(request: &HeaderMap, current: &str) -> bool {
    let mut tags = listed(request, IF_NONE_MATCH).map(|tag| tag.trim_start_matches("W/"));
    tags.any(|tag| tag == "*" || tag == current)
}

#[cfg(test)]
mod tests;
