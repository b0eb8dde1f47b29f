//! The description of the API, `src/http/openapi.json`, is made from the types that are sent, and has every route.
//!
//! `FIELDLOG_WRITE=1 cargo test -p fieldlog --test openapi` writes it anew.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fieldlog_wire::openapi;
use operations::document;

mod operations;

fn source(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_description_is_that_of_the_types() {
    let (made, path) = (document().text().unwrap(), "src/http/openapi.json");
    if std::env::var_os("FIELDLOG_WRITE").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(path), &made).unwrap();
    }
    let differs =
        source(path).lines().zip(made.lines()).find(|(is, ought)| is != ought).map(|(is, _)| is.to_owned());
    assert!(
        source(path) == made,
        "{path} is out of date at {differs:?}; write it anew with FIELDLOG_WRITE=1"
    );
}

#[test]
fn every_route_is_described() {
    let text = source("src/http/routes.rs");
    let routes = openapi::routes(&text);
    assert!(routes.len() > 30, "{routes:?}");
    let document = document();
    let described: BTreeMap<&str, BTreeSet<&str>> =
        document.operations().map(|(path, methods)| (path, methods.into_iter().collect())).collect();
    assert_eq!(described, routes);
}
