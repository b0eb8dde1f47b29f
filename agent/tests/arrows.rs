//! Imports between modules run one way, and only where ARCHITECTURE.md says so in "Who may import whom".
//!
//! Reads the sources as text: `crate::name` outside of comments and tests is an arrow from the file's top-level module to
//! `name`. A row may name rows above it only, so there is no circle. Each fault is
//! said with what to do.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Arrows = BTreeMap<String, BTreeSet<String>>;

#[test]
fn modules_import_what_the_table_lets_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let allowed = table(&fs::read_to_string(root.join("../ARCHITECTURE.md")).unwrap());
    let found = arrows(&root.join("src"));
    assert!(found.len() > 20, "the sources were not found: {found:?}");
    let mut faults = Vec::new();
    for (row, (from, may)) in allowed.iter().enumerate() {
        let above = &allowed[..row];
        for to in may.iter().filter(|to| !above.iter().any(|(module, _)| module == *to)) {
            faults.push(format!("`{from}` may import `{to}`, which is not above it: that leads to a circle"));
        }
    }
    for (from, targets) in &found {
        let Some((_, may)) = allowed.iter().find(|(module, _)| module == from) else {
            faults.push(format!("`{from}` has no row; add one that names what it may import"));
            continue;
        };
        for to in targets.difference(may) {
            faults.push(format!(
                "`{from}` imports `{to}`; move what both need below both, or change the table"
            ));
        }
        for to in may.difference(targets) {
            faults.push(format!("`{from}` may import `{to}` and does not; take it out of the table"));
        }
    }
    for (from, _) in allowed.iter().filter(|(from, _)| !found.contains_key(from)) {
        faults.push(format!("there is no module `{from}`; take its row out of the table"));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn arrows_are_read_from_use_lines_groups_and_paths() {
    let read = |text: &str| names(text).into_iter().collect::<Vec<_>>();
    assert_eq!(read("use crate::log::{Log, LogError};"), ["log"]);
    assert_eq!(read("use crate::{config::{self, Config}, net};"), ["config", "net"]);
    assert_eq!(read("let x = crate::clock::wall(); // crate::http"), ["clock"]);
    assert_eq!(read("pub(crate) fn f() {} // nothing"), Vec::<String>::new());
    assert_eq!(read("#[cfg(test)]\nmod tests {\n use crate::http;\n}"), Vec::<String>::new());
}

/// The rows between the heading and the next one: the first cell names the module, the second what it may import.
fn table(document: &str) -> Vec<(String, BTreeSet<String>)> {
    let (_, after) = document.split_once("### Who may import whom").expect("ARCHITECTURE.md has the table");
    let section = after.split("\n#").next().unwrap_or(after);
    let codes = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut rows = Vec::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.trim_matches('|').split('|');
        let (Some(from), Some(to)) = (cells.next(), cells.next()) else { continue };
        rows.extend(codes(from).into_iter().map(|from| (from, codes(to).into_iter().collect())));
    }
    rows
}

/// What each top-level module imports, tests aside.
fn arrows(src: &Path) -> Arrows {
    let mut arrows = Arrows::new();
    for file in sources(src) {
        let inside = file.strip_prefix(src).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if matches!(module, "lib" | "main") {
            continue;
        }
        let targets = arrows.entry(module.to_owned()).or_default();
        let mut names = names(&fs::read_to_string(&file).unwrap());
        names.remove(module);
        targets.extend(names);
    }
    arrows
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        // Tests may use whatever helps them.
        if matches!(name, "tests" | "fixture") {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The top-level modules that a source names by `crate::`.
fn names(source: &str) -> BTreeSet<String> {
    let lines: Vec<&str> = source.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
    let code = lines.join("\n");
    let code = match code.find("#[cfg(test)]\nmod ").or(code.find("#[cfg(test)]\npub(crate) mod ")) {
        Some(tests) => &code[..tests],
        None => &code[..],
    };
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|char| char.is_alphanumeric() || char == '_' || char == ':') {
            continue;
        }
        let after = &code[at + "crate::".len()..];
        match after.strip_prefix('{') {
            Some(group) => names.extend(members(group)),
            None => names.extend(identifier(after)),
        }
    }
    names
}

/// The first identifiers of the members of a group, up to its closing brace.
fn members(group: &str) -> Vec<String> {
    let (mut depth, mut found, mut fresh) = (0, Vec::new(), true);
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if fresh && depth == 0 && !char.is_whitespace() => {
                fresh = false;
                found.extend(identifier(&group[at..]));
            }
            _ => {}
        }
    }
    found
}

fn identifier(text: &str) -> Option<String> {
    let end = text.find(|char: char| !(char.is_alphanumeric() || char == '_')).unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}
