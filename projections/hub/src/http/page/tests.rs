use super::*;

/// Every text between `before` and the next `"` or `'`.
fn quoted_after(text: &str, before: &str) -> Vec<String> {
    let rests = text.split(before).skip(1);
    rests.filter_map(|rest| rest.split(['"', '\'']).next()).map(str::to_owned).collect()
}

/// The library for charts is not ours.
const FOREIGN: &str = "uplot.js";

/// Our scripts.
fn scripts() -> impl Iterator<Item = &'static Asset> {
    ASSETS.iter().filter(|asset| asset.media_type == SCRIPT && asset.name != FOREIGN)
}

#[test]
fn every_file_referred_to_is_served_and_every_file_served_is_referred_to() {
    let from_scripts = scripts().flat_map(|script| quoted_after(script.text, "from './"));
    let mut referred: Vec<String> =
        quoted_after(INDEX.text, "/assets/").into_iter().chain(from_scripts).collect();
    referred.sort_unstable();
    referred.dedup();
    let served: Vec<&str> = ASSETS.iter().map(|asset| asset.name).collect();
    assert_eq!(referred, served, "ASSETS is sorted by name");
}

/// The policy makes the browser refuse them, and the operator would see a broken page.
#[test]
fn the_page_has_no_inline_script_style_or_handler_and_nothing_foreign() {
    for tag in INDEX.text.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        for attribute in tag.split_whitespace().skip(1) {
            assert!(!attribute.starts_with("on"), "a handler in <{tag}>");
            assert!(!attribute.starts_with("style="), "a style in <{tag}>");
        }
        assert!(!tag.starts_with("style"), "<{tag}>");
        assert!(!tag.starts_with("script") || tag.contains("src=\"/assets/"), "<{tag}>");
        assert!(!tag.contains("//"), "a foreign address in <{tag}>");
    }
}

/// Anyone who can publish to a gateway's broker chooses names and values.
#[test]
fn scripts_never_parse_markup_or_code() {
    for script in ASSETS.iter().filter(|asset| asset.media_type == SCRIPT) {
        for sink in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "srcdoc"]
        {
            assert!(!script.text.contains(sink), "{sink} in {}", script.name);
        }
    }
}

/// Every element a script looks for by a literal id is in the page.
#[test]
fn every_id_looked_up_exists() {
    for script in scripts() {
        for id in quoted_after(script.text, "$('") {
            assert!(INDEX.text.contains(&format!("id=\"{id}\"")), "no #{id} for {}", script.name);
        }
    }
}

#[test]
fn a_browser_that_holds_the_page_gets_no_body() {
    let status = |held: &str| {
        let headers = HeaderMap::from_iter([(IF_NONE_MATCH, held.parse().unwrap())]);
        serve(&INDEX, &headers).status()
    };
    assert_eq!(status(&TAG), StatusCode::NOT_MODIFIED);
    assert_eq!(status(&format!("\"other\", W/{}", *TAG)), StatusCode::NOT_MODIFIED);
    assert_eq!(status("\"other\""), StatusCode::OK);
}
