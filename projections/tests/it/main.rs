//! The pure core, from outside.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

mod aggregate;
mod archive;
mod chunk;
mod descriptions;
mod forgotten;
mod given;
mod names;
mod sessions;
mod snapshot;
mod stored;
mod view;
