//! The `fieldlog` binary.
fn main() {}
