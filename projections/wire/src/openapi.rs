//! Makes the description of an HTTP API, OpenAPI 3.1, from the types that are sent and a list of the operations. For the
//! tests that write and check `openapi.json`: there is nothing of it in a program.

pub mod parameters;

mod document;

use std::collections::{BTreeMap, BTreeSet};

pub use document::{Document, Head, Operation};

/// The routes that the source of a router has, each with its methods.
pub fn routes(source: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let routes = source.split(".route(\"").skip(1).filter_map(|route| {
        let (path, rest) = route.split_once('"')?;
        let handlers = rest.split("\n        .").next()?;
        let has = |method: &str| handlers.contains(&format!("{method}("));
        Some((path, ["get", "post", "delete"].into_iter().filter(|method| has(method)).collect()))
    });
    routes.collect()
}
