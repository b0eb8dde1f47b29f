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
    pack_page()?;
    pack_presets()
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

/// The page is served as it is packed: without comments, which nobody reads there.
fn pack_page() -> io::Result<()> {
    let to = out_dir().join("page");
    fs::create_dir_all(&to)?;
    for path in files(PAGE, &["css", "html", "js", "svg"])? {
        let (text, name) = (fs::read_to_string(&path)?, file_name(&path));
        let is_ours = name != "uplot.js" && (name.ends_with(".js") || name.ends_with(".css"));
        let text = if is_ours { without_comments(&text) } else { text };
        fs::write(to.join(format!("{name}.gz")), packed(&text)?)?;
    }
    println!("cargo::rerun-if-changed={DESCRIPTION}");
    let text = fs::read_to_string(manifest_dir().join(DESCRIPTION))?;
    // Texts in JSON have no line breaks.
    let text: String = text.lines().map(str::trim_start).collect();
    fs::write(to.join("openapi.json.gz"), packed(&text)?)
}

/// The presets are much alike, so they take less room together.
fn pack_presets() -> io::Result<()> {
    let mut all = String::new();
    for path in files(PRESETS, &["toml"])? {
        all += &format!("{}\0{}\0", file_name(&path), fs::read_to_string(&path)?);
    }
    fs::write(out_dir().join("presets.gz"), packed(&all)?)
}

/// Leaves out lines that are comments, from their first character to their last, comments behind what ends a statement or
/// an argument, and what lines begin with.
fn without_comments(text: &str) -> String {
    let (mut kept, mut is_open) = (String::new(), false);
    for line in text.lines().map(str::trim) {
        let line = match line.rsplit_once(" // ") {
            // With a quotation mark behind them, the slashes may be in a string.
            Some((code, comment))
                if code.ends_with([';', ',', '{', ')']) && !comment.contains(['\'', '"', '`']) =>
            {
                code
            }
            _ => line,
        };
        is_open |= line.starts_with("/*") && line.find("*/").is_none_or(|end| end + 2 == line.len());
        if !is_open && !line.starts_with("//") && !line.is_empty() {
            kept += line;
            kept.push('\n');
        }
        is_open &= !line.ends_with("*/");
    }
    kept
}

/// The files of a folder with one of these endings, by name.
fn files(folder: &str, kinds: &[&str]) -> io::Result<Vec<PathBuf>> {
    println!("cargo::rerun-if-changed={folder}");
    let entries = fs::read_dir(manifest_dir().join(folder))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| {
        path.extension().and_then(|kind| kind.to_str()).is_some_and(|kind| kinds.contains(&kind))
    });
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn manifest_dir() -> PathBuf {
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default())
}

fn out_dir() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default())
}

fn packed(text: &str) -> io::Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(text.as_bytes())?;
    packed.finish()
}
