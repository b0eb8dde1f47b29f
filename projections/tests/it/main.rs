//! Tests of the core through its public interface.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

mod aggregate;
mod alerts;
mod chunk;
mod commands;
mod descriptions;
mod digest;
mod forgotten;
mod given;
mod named;
mod names;
mod part;
mod rollup;
mod sessions;
mod snapshot;
mod stored;
mod view;
