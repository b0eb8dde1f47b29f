use std::io::Read;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Every text between `before` and the next `"` or `'`.
fn quoted_after(text: &str, before: &str) -> Vec<String> {
    let rests = text.split(before).skip(1);
    rests.filter_map(|rest| rest.split(['"', '\'']).next()).map(str::to_owned).collect()
}

/// The library for charts is not ours.
const FOREIGN: &str = "uplot.js";

fn text(asset: &Asset) -> String {
    String::from_utf8(asset.plain()).unwrap()
}

/// Names and texts of our scripts.
fn scripts() -> impl Iterator<Item = (&'static str, String)> {
    let scripts = ASSETS.iter().filter(|asset| asset.media_type == SCRIPT && asset.name != FOREIGN);
    scripts.map(|asset| (asset.name, text(asset)))
}

#[test]
fn every_file_referred_to_is_served_and_every_file_served_is_referred_to() {
    let from_scripts = scripts().flat_map(|(_, script)| quoted_after(&script, "from './"));
    let mut referred: Vec<String> =
        quoted_after(&text(&INDEX), "/assets/").into_iter().chain(from_scripts).collect();
    referred.sort_unstable();
    referred.dedup();
    let served: Vec<&str> = ASSETS.iter().map(|asset| asset.name).collect();
    assert_eq!(referred, served, "ASSETS is sorted by name");
}

/// The policy makes the browser refuse them, and the operator would see a broken page.
#[test]
fn the_page_has_no_inline_script_style_or_handler_and_nothing_foreign() {
    let html = text(&INDEX);
    for tag in html.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        for attribute in tag.split_whitespace().skip(1) {
            assert!(!attribute.starts_with("on"), "a handler in <{tag}>");
            assert!(!attribute.starts_with("style="), "a style in <{tag}>");
        }
        assert!(!tag.starts_with("style"), "<{tag}>");
        assert!(!tag.starts_with("script") || tag.contains("src=\"/assets/"), "<{tag}>");
        assert!(!tag.contains("//"), "a foreign address in <{tag}>");
    }
}

/// Anyone who can publish to the broker chooses names and values.
#[test]
fn scripts_never_parse_markup_or_code() {
    let scripts =
        scripts().chain(ASSETS.iter().filter(|asset| asset.name == FOREIGN).map(|a| (a.name, text(a))));
    for (name, script) in scripts {
        for sink in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "srcdoc"]
        {
            assert!(!script.contains(sink), "{sink} in {name}");
        }
    }
}

/// Every element a script looks for by a literal id is in the page.
#[test]
fn every_id_looked_up_exists() {
    let html = text(&INDEX);
    for (name, script) in scripts() {
        for id in quoted_after(&script, "$('") {
            assert!(html.contains(&format!("id=\"{id}\"")), "no #{id} for {name}");
        }
    }
}

#[test]
fn the_page_stays_small() {
    let sent: usize = ASSETS.iter().chain([&INDEX]).map(|asset| asset.packed.len()).sum();
    // A third of a second at 2 Mbit/s.
    assert!(sent < 85_000, "{sent} bytes");
}

/// One request over a real connection: head and body of the answer.
async fn fetch(path: &str, header: &str) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, router::<()>()).await });
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    server.abort();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let mut body = String::new();
    if head.contains("content-encoding: gzip") && answer.len() > end + 4 {
        flate2::read::GzDecoder::new(&answer[end + 4..]).read_to_string(&mut body).unwrap();
    } else {
        body = String::from_utf8(answer[end + 4..].to_vec()).unwrap();
    }
    (head, body)
}

#[tokio::test]
async fn the_page_comes_with_its_policy() {
    let (head, body) = fetch("/", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    for line in [
        "content-type: text/html; charset=utf-8",
        "cache-control: no-cache",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ] {
        assert!(head.contains(line), "{line} not in {head}");
    }
    assert_eq!(body, text(&INDEX));
}

#[tokio::test]
async fn every_asset_is_served_with_its_type() {
    for asset in &ASSETS {
        let (head, body) = fetch(&format!("/assets/{}", asset.name), "").await;
        assert!(head.starts_with("http/1.1 200"), "{}: {head}", asset.name);
        assert!(head.contains(&format!("content-type: {}", asset.media_type)), "{}: {head}", asset.name);
        assert_eq!(body, text(asset), "{}", asset.name);
    }
}

#[tokio::test]
async fn a_browser_that_holds_the_page_gets_no_body() {
    let [tag, packed] = &*TAGS;
    for (header, status) in [
        (format!("If-None-Match: {tag}\r\n"), "304"),
        (format!("If-None-Match: {packed}\r\n"), "200"),
        (format!("If-None-Match: {packed}\r\nAccept-Encoding: gzip\r\n"), "304"),
        (format!("If-None-Match: {tag}\r\nAccept-Encoding: gzip\r\n"), "200"),
        (format!("If-None-Match: \"other\", W/{tag}\r\n"), "304"),
        ("If-None-Match: \"other\"\r\n".to_string(), "200"),
    ] {
        let (head, body) = fetch("/assets/app.js", &header).await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{header}{head}");
        assert_eq!(body.is_empty(), status == "304", "{header}");
    }
}

#[tokio::test]
async fn the_page_comes_packed_to_whoever_can_unpack_it() {
    for (header, packed) in [
        ("", false),
        ("Accept-Encoding: br, identity\r\n", false),
        ("Accept-Encoding: gzip;q=0\r\n", false),
        ("Accept-Encoding: gzip, deflate, br\r\n", true),
        ("Accept-Encoding: br;q=1.0, gzip;q=0.8\r\n", true),
    ] {
        let (head, body) = fetch("/assets/style.css", header).await;
        assert_eq!(head.contains("content-encoding: gzip"), packed, "{header}{head}");
        assert!(head.contains("vary: accept-encoding"), "{head}");
        let style = ASSETS.iter().find(|asset| asset.name == "style.css").unwrap();
        assert_eq!(body, text(style), "{header}");
    }
}

#[tokio::test]
async fn other_names_are_not_found() {
    for path in ["/assets/index.htm", "/assets/..%2Fpage.rs", "/assets/"] {
        let (head, _) = fetch(path, "").await;
        assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
    }
}
