//! Links of the handbook and of the documents beside it.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::markdown::{anchors, links};
use super::{page, pages, root};

/// Documents at the root.
const DOCUMENTS: [&str; 5] = ["README.md", "ARCHITECTURE.md", "FORMAT.md", "SECURITY.md", "CHANGELOG.md"];

pub fn faults() -> Vec<String> {
    let pages = pages();
    let mut faults = Vec::new();
    for name in pages.iter().map(|name| format!("docs/src/{name}")).chain(DOCUMENTS.map(str::to_owned)) {
        let text = text(&root().join(&name)).unwrap();
        for target in links(&text) {
            faults.extend(fault(&name, &text, &target).map(|what| format!("{name}: {target} {what}")));
        }
    }
    let contents = links(&page("SUMMARY.md"));
    let missing = pages.iter().filter(|name| *name != "SUMMARY.md" && !contents.contains(name));
    faults.extend(missing.map(|name| format!("docs/src/SUMMARY.md does not have {name}")));
    faults
}

/// A document with what it includes.
fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let included = text.lines().find_map(|line| line.strip_prefix("{{#include ")?.strip_suffix("}}"));
    match included {
        Some(other) if other.ends_with(".md") => {
            Some(text.clone() + &fs::read_to_string(path.parent()?.join(other)).ok()?)
        }
        _ => Some(text),
    }
}

fn fault(name: &str, text_of_it: &str, target: &str) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = root().join(name).parent().unwrap().join(file);
    let known = match file {
        "" => text_of_it.to_owned(),
        _ if !path.exists() => return Some("is not there"),
        _ if name.starts_with("docs/src/") && !plain(&path).starts_with(plain(&root().join("docs/src"))) => {
            return Some("leads out of the book, where readers of the built book have nothing");
        }
        _ if file.ends_with(".md") => text(&path).unwrap(),
        _ => return None,
    };
    let there = anchor.is_none_or(|anchor| anchors(&known).contains(anchor));
    if there { None } else { Some("has no such heading") }
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    assert_eq!(fault("README.md", "", "nothing.md"), Some("is not there"));
    assert_eq!(fault("README.md", "", "FORMAT.md#nothing"), Some("has no such heading"));
    assert_eq!(fault("README.md", "", "FORMAT.md#parcels"), None);
    assert!(fault("docs/src/SUMMARY.md", "", "../../FORMAT.md").unwrap().contains("out of the book"));
}
