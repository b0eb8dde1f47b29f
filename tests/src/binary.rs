//! The real binaries. They belong to other packages, so Cargo does not build them for these tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Path of the binary, built on first use in the profile and target directory of the running test; `FIELDLOG_BIN` names
/// another one.
///
/// # Panics
/// If it cannot be built.
pub fn fieldlog() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| given("FIELDLOG_BIN").unwrap_or_else(|| build("fieldlog")))
}

/// The same, of `fieldlog-hub`; `FIELDLOG_HUB_BIN` names another one.
///
/// # Panics
/// If it cannot be built.
pub fn fieldlog_hub() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| given("FIELDLOG_HUB_BIN").unwrap_or_else(|| build("fieldlog-hub")))
}

fn given(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

fn build(package: &str) -> PathBuf {
    // …/<target>/<profile>/deps/it-0123456789abcdef, or …/<target>/<profile>/soak
    let test = std::env::current_exe().expect("a running test has a path");
    let dir = test.parent().expect("a file is in a directory");
    let profile_dir = if dir.ends_with("deps") { dir.parent() } else { Some(dir) };
    let profile_dir = profile_dir.expect("tests are built into <target>/<profile>/deps");
    let target_dir = profile_dir.parent().expect("a profile's directory is in a target directory");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", package, "--bin", package, "--profile", profile])
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo can be run");
    assert!(status.success(), "{package} cannot be built");
    profile_dir.join(package)
}
