//! The handbook in `docs/src` says what is so: its examples are run, its reference pages and the guides to presets are made of
//! what they describe, and its links lead somewhere.
//!
//! `FIELDLOG_WRITE=1 cargo test -p fieldlog --test book` writes anew what is made, and what commands print.
//!
//! In a page, a block `console` has commands behind `$ ` with exactly what they print; files that they name are the nearest block
//! `toml` or `json` above. A block `toml` is a configuration without mistakes, or the subscriptions, commands and so on of its
//! one source, or begins with `# hub.toml` and is TOML; `toml,wrong` has mistakes. A block `json` is JSON.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

mod api;
mod commands;
mod examples;
mod guides;
mod links;
mod markdown;
mod metrics;
mod preset;

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All pages, as paths below `docs/src`.
fn pages() -> Vec<String> {
    let source = root().join("docs/src");
    let mut found = Vec::new();
    let mut folders = vec![source.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(kind) if kind == "md" => {
                    found.push(path.strip_prefix(&source).unwrap().to_str().unwrap().to_owned());
                }
                _ => {}
            }
        }
    }
    found.sort();
    assert!(found.len() > 10, "the pages were not found");
    found
}

fn page(name: &str) -> String {
    let path = root().join("docs/src").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares a page with what it ought to be, or writes it. The fault, if there is one.
fn difference(name: &str, ought: &str) -> Option<String> {
    let path = root().join("docs/src").join(name);
    let is = fs::read_to_string(&path).unwrap_or_default();
    if is == ought {
        return None;
    }
    if std::env::var_os("FIELDLOG_WRITE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, ought).unwrap();
        return None;
    }
    let line = is.lines().zip(ought.lines()).take_while(|(is, ought)| is == ought).count();
    let (is, ought) =
        (is.lines().nth(line).unwrap_or("its end"), ought.lines().nth(line).unwrap_or("its end"));
    Some(format!("docs/src/{name}:{}: it has\n    {is}\nand ought to have\n    {ought}", line + 1))
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\nFIELDLOG_WRITE=1 writes anew what is made.", faults.join("\n"));
}

/// Compares a page that is made, with what its commands print.
fn check(name: &str, made: &str) {
    let (text, mut faults) = examples::run(name, made);
    faults.extend(difference(name, &text));
    none(&faults);
}

#[test]
fn examples_give_what_is_shown() {
    let mut faults = Vec::new();
    for name in pages() {
        let (text, wrong) = examples::run(&name, &page(&name));
        faults.extend(wrong);
        faults.extend(difference(&name, &text));
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    faults.extend(examples::run("README.md", &readme).1);
    none(&faults);
}

#[test]
fn the_references_of_the_apis_are_those_of_their_descriptions() {
    check("api.md", &api::page());
    check("hub-api.md", &api::hub_page());
}

#[test]
fn the_reference_of_the_command_line_is_its_help() {
    check("command-line.md", &commands::page());
}

#[test]
fn the_reference_of_the_metrics_is_what_an_agent_shows() {
    check("metrics.md", &metrics::page());
}

#[test]
fn each_preset_has_a_guide_made_of_its_rules_and_its_fixtures() {
    guides::all().iter().for_each(|(name, made)| check(name, made));
}

#[test]
fn the_overview_has_each_preset() {
    none(&guides::overview_faults());
}

#[test]
fn links_lead_somewhere() {
    none(&links::faults());
}
