//! Links the program so that it is smaller, and compresses the files of the status page and the description of the API,
//! so that the binary holds what browsers get, and the presets.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use flate2::Compression;
use flate2::write::GzEncoder;

const PAGE: &str = "src/http/page";
const DESCRIPTION: &str = "src/http/openapi.json";
const PRESETS: &str = "../config/presets";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    pack_relocations();
    fold_functions();
    compress_all(PAGE, "page")?;
    compress_one(DESCRIPTION, "page")?;
    compress_all(PRESETS, "presets")
}

fn pack_relocations() {
    let is = |key: &str, value: &str| env::var(key).is_ok_and(|found| found == value);
    // Packed relocations, 350 KB less: glibc reads them since 2.36 (Debian 12). An older linker warns and leaves them as they are.
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Functions with the same code, and constants with the same content, are there once, 100 KB less. Only LLD does that. Rust brings it for this target since 1.90, unless
/// a distribution has packaged Rust without it.
fn fold_functions() {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let var = |key: &str| env::var(key).unwrap_or_default();
    let usual =
        var("TARGET") == TARGET && var("HOST") == TARGET && !var("CARGO_ENCODED_RUSTFLAGS").contains("link");
    let sysroot = Command::new(var("RUSTC")).args(["--print", "sysroot"]).output().ok();
    let sysroot = sysroot.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let lld = Path::new(sysroot.trim()).join(format!("lib/rustlib/{TARGET}/bin/gcc-ld/ld.lld"));
    if usual && var("PROFILE") == "release" && lld.is_file() {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
        // Nothing tells constants apart by their addresses.
        println!("cargo::rustc-link-arg-bins=-Wl,--ignore-data-address-equality");
    }
}

/// Compresses the files of a folder into one of `OUT_DIR`.
fn compress_all(from: &str, to: &str) -> io::Result<()> {
    println!("cargo::rerun-if-changed={from}");
    let dir = |key: &str| PathBuf::from(env::var_os(key).unwrap_or_default());
    let (from, to) = (dir("CARGO_MANIFEST_DIR").join(from), dir("OUT_DIR").join(to));
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        if ["css", "html", "js", "svg", "toml"].contains(&kind) {
            compress(&path, &to)?;
        }
    }
    Ok(())
}

fn compress_one(file: &str, to: &str) -> io::Result<()> {
    println!("cargo::rerun-if-changed={file}");
    let dir = |key: &str| PathBuf::from(env::var_os(key).unwrap_or_default());
    compress(&dir("CARGO_MANIFEST_DIR").join(file), &dir("OUT_DIR").join(to))
}

fn compress(path: &Path, to: &Path) -> io::Result<()> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&fs::read(path)?)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    fs::write(to.join(format!("{name}.gz")), packed.finish()?)
}
