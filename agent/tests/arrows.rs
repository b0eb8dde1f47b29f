//! Imports between modules run one way: between the top-level modules of a crate as "Who may import whom" in
//! ARCHITECTURE.md allows, and between the files below a module without a cycle.
//!
//! This test reads the sources as text. A path that begins with `crate`, `super` or `self`, in a `use` line or
//! elsewhere in the code, is an import by the module of its file of the module that it names; comments, strings and
//! tests do not count. A re-exported name counts for the module that defines it. A parent and its children may name
//! each other. A row of the table may name only rows above it, so there is no cycle. Each fault comes with its remedy.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The segments of a module's path below its crate; none for the crate itself.
type Module = Vec<String>;
type Arrows = BTreeMap<String, BTreeSet<String>>;

#[test]
fn the_agent_imports_what_the_table_lets_it() {
    check("agent/");
}

#[test]
fn the_rules_import_what_the_table_lets_them() {
    check("agent/rules/");
}

#[test]
fn the_core_imports_what_the_table_lets_it() {
    check("projections/");
}

#[test]
fn the_wire_imports_what_the_table_lets_it() {
    check("projections/wire/");
}

#[test]
fn the_hub_imports_what_the_table_lets_it() {
    check("projections/hub/");
}

#[test]
fn the_simulation_imports_what_the_table_lets_it() {
    check("agent/sim/");
}

/// Compares a crate, given by its folder, with its table.
fn check(folder: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let allowed = table(&fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap(), folder);
    let sources = Sources::read(&root.join(folder).join("src"));
    let mut found = sources.arrows();
    let mut faults = compare(&allowed, &found.remove(&Module::new()).unwrap_or_default());
    for (parent, arrows) in found {
        if let Some(files) = circle(&arrows) {
            faults.push(format!(
                "below `{}`, {} import each other in a circle; move what they need below all of them",
                parent.join("::"),
                files.join(" → ")
            ));
        }
    }
    assert!(faults.is_empty(), "{folder}\n{}", faults.join("\n"));
}

/// Differences between the rows of a table and the imports between top-level modules.
fn compare(allowed: &[(String, BTreeSet<String>)], found: &Arrows) -> Vec<String> {
    let mut faults = Vec::new();
    for (row, (from, may)) in allowed.iter().enumerate() {
        let above = &allowed[..row];
        for to in may.iter().filter(|to| !above.iter().any(|(module, _)| module == *to)) {
            faults.push(format!("`{from}` may import `{to}`, which is not above it: that leads to a circle"));
        }
    }
    for (from, targets) in found {
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
    faults
}

/// The rows of a crate's table: the first cell names the module, the second what it may import.
fn table(document: &str, folder: &str) -> Vec<(String, BTreeSet<String>)> {
    let (_, after) = document.split_once("### Who may import whom").expect("ARCHITECTURE.md has the tables");
    let section = after.split("\n## ").next().unwrap_or(after);
    let heading = format!("\n#### `{folder}`\n");
    let (_, after) = section.split_once(&heading).unwrap_or_else(|| panic!("{folder} has no table"));
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

/// Modules that form an import cycle, with the first one again at the end.
fn circle(arrows: &Arrows) -> Option<Vec<String>> {
    fn walk(at: &str, arrows: &Arrows, way: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        if let Some(begin) = way.iter().position(|module| module == at) {
            way.drain(..begin);
            way.push(at.to_owned());
            return true;
        }
        if !done.insert(at.to_owned()) {
            return false;
        }
        way.push(at.to_owned());
        if arrows.get(at).into_iter().flatten().any(|to| walk(to, arrows, way, done)) {
            return true;
        }
        way.pop();
        false
    }
    let (mut way, mut done) = (Vec::new(), BTreeSet::new());
    arrows.keys().any(|from| walk(from, arrows, &mut way, &mut done)).then_some(way)
}

/// The code of each module, without parts in which no import can begin.
struct Sources(BTreeMap<Module, String>);

impl Sources {
    fn read(src: &Path) -> Sources {
        let mut sources = Sources(BTreeMap::new());
        sources.add(src, &Module::new());
        assert!(sources.0.len() > 3, "the sources were not found in {}", src.display());
        sources
    }

    fn add(&mut self, dir: &Path, parent: &Module) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let module = [&parent[..], &[name.to_owned()]].concat();
            match name {
                // Tests may use whatever helps them.
                "tests" | "fixture" | "main" => {}
                _ if path.is_dir() => self.add(&path, &module),
                _ => {
                    let module = if name == "lib" { Module::new() } else { module };
                    self.0.insert(module, without_tests(&bare(&fs::read_to_string(&path).unwrap())));
                }
            }
        }
    }

    /// The imports between the children of each module.
    fn arrows(&self) -> BTreeMap<Module, Arrows> {
        let mut arrows: BTreeMap<Module, Arrows> = BTreeMap::new();
        for (from, code) in self.0.iter().filter(|(from, _)| !from.is_empty()) {
            let (child, parent) = from.split_last().unwrap();
            arrows.entry(parent.to_vec()).or_default().entry(child.clone()).or_default();
            for path in paths(code, &["crate", "super", "self"]) {
                let Some(to) = self.absolute(from, &path.segments) else { continue };
                let to = self.home(&to, 0);
                let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                if let (Some(a), Some(b)) = (from.get(common), to.get(common)) {
                    let siblings = arrows.entry(from[..common].to_vec()).or_default();
                    siblings.entry(a.clone()).or_default().insert(b.clone());
                }
            }
        }
        arrows
    }

    /// A path seen from a module, starting at the crate; `None` if it leads out of the crate.
    fn absolute(&self, from: &[String], path: &[String]) -> Option<Vec<String>> {
        let mut base = from.to_vec();
        let mut rest = path;
        while let Some((first, behind)) = rest.split_first() {
            match first.as_str() {
                "crate" => base.clear(),
                "super" => drop(base.pop()?),
                "self" => {}
                _ => break,
            }
            rest = behind;
        }
        let child = || self.0.contains_key(&[&base[..], &rest[..1]].concat());
        if rest.len() == path.len() && !(rest.len() > 1 && child()) {
            return None;
        }
        Some([base, rest.to_vec()].concat())
    }

    /// The module that defines what a path names, beyond re-exports.
    fn home(&self, path: &[String], depth: usize) -> Module {
        let len = (0..=path.len()).rev().find(|len| self.0.contains_key(&path[..*len])).unwrap_or(0);
        let (module, rest) = path.split_at(len);
        let exported = rest.first().filter(|_| depth < 8).and_then(|name| {
            let imports =
                paths(self.0.get(module)?, &["use"]).into_iter().filter(|import| import.name == *name);
            imports.filter_map(|import| self.absolute(module, &import.segments)).next()
        });
        match exported {
            Some(target) => self.home(&[&target[..], &rest[1..]].concat(), depth + 1),
            None => module.to_vec(),
        }
    }
}

/// A path, and the name under which a `use` imports it.
struct Named {
    segments: Vec<String>,
    name: String,
}

/// The paths that begin with one of these words, or follow `use`; groups are expanded.
fn paths(code: &str, words: &[&str]) -> Vec<Named> {
    let mut found = Vec::new();
    for word in words {
        for (at, _) in code.match_indices(word) {
            let before = code[..at].chars().next_back();
            let after = &code[at + word.len()..];
            if before.is_some_and(|char| is_name(char) || char == ':') || after.starts_with(is_name) {
                continue;
            }
            if *word == "use" {
                tree(after, &[], &mut found);
            } else if after.trim_start().starts_with("::") {
                tree(&code[at..], &[], &mut found);
            }
        }
    }
    found
}

/// Reads one path or group; returns the rest.
fn tree<'a>(text: &'a str, prefix: &[String], found: &mut Vec<Named>) -> &'a str {
    let mut text = text.trim_start();
    let mut segments = prefix.to_vec();
    loop {
        if let Some(group) = text.strip_prefix('{') {
            text = group.trim_start();
            while !text.is_empty() && !text.starts_with('}') {
                let behind = tree(text, &segments, found).trim_start();
                // Anything unreadable ends it.
                let Some(behind) = behind.strip_prefix(',').or(behind.starts_with('}').then_some(behind))
                else {
                    return behind;
                };
                text = behind.trim_start();
            }
            return text.get(1..).unwrap_or("");
        }
        let end = text.find(|char| !is_name(char)).unwrap_or(text.len());
        let (name, behind) = text.split_at(end);
        if !(name.is_empty() || name == "self" && !segments.is_empty()) {
            segments.push(name.to_owned());
        }
        text = behind.trim_start();
        match text.strip_prefix("::") {
            Some(behind) if !name.is_empty() => text = behind.trim_start(),
            _ => break,
        }
    }
    let mut name = segments.last().cloned().unwrap_or_default();
    if let Some(alias) = text.strip_prefix("as ") {
        let alias = alias.trim_start();
        let end = alias.find(|char| !is_name(char)).unwrap_or(alias.len());
        name = alias[..end].to_owned();
        text = &alias[end..];
    }
    found.push(Named { segments, name });
    text.strip_prefix('*').unwrap_or(text)
}

fn is_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// The code without comments, strings and characters.
fn bare(source: &str) -> String {
    let (mut code, mut rest) = (String::new(), source);
    while let Some(char) = rest.chars().next() {
        let in_name = code.ends_with(is_name);
        let raw = rest.strip_prefix('r').map(|behind| behind.trim_start_matches('#'));
        let hashes = raw.map_or(0, |behind| rest.len() - 1 - behind.len());
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if raw.is_some_and(|behind| behind.starts_with('"')) && (!in_name || code.ends_with('b')) {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = hashes + 2;
            rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len())
        } else if char == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|char| {
                let ends = char == '"' && !escaped;
                escaped = char == '\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("'\\") {
            rest[3..].find('\'').map_or(rest.len(), |end| end + 4)
        } else if char == '\'' && rest.chars().nth(2) == Some('\'') {
            rest.chars().take(3).map(char::len_utf8).sum()
        } else {
            code.push(char);
            rest = &rest[char.len_utf8()..];
            continue;
        };
        rest = &rest[length..];
    }
    code
}

/// The code without items that exist only for tests.
fn without_tests(code: &str) -> String {
    const TEST: &str = "#[cfg(test)]";
    let (mut kept, mut rest) = (String::new(), code);
    while let Some((before, item)) = rest.split_once(TEST) {
        kept.push_str(before);
        let mut depth = 0;
        let end = item.find(|char| {
            match char {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0 && matches!(char, ';' | '}')
        });
        rest = end.map_or("", |end| &item[end + 1..]);
    }
    kept + rest
}

#[test]
fn arrows_are_read_from_use_lines_groups_and_paths() {
    let check = |code: &str, expected: &[&str]| {
        let code = without_tests(&bare(code));
        let found = paths(&code, &["crate", "super", "self"]);
        assert_eq!(found.iter().map(|p| p.segments.join(" ")).collect::<Vec<_>>(), expected, "{code}");
    };
    check("use crate::log::{Log, LogError};", &["crate log Log", "crate log LogError"]);
    check(
        "use crate::{config::{self, Config as C}, net::*};",
        &["crate config", "crate config Config", "crate net"],
    );
    check("let x = crate::clock::wall(); // crate::http", &["crate clock wall"]);
    check("pub(crate) fn f() { super::super::g::<u8>() } // nothing", &["super super g"]);
    check("let x = [\"\\\"crate::a\", r#\"\"crate::b\"#]; let y = ['\"', '\\'']; /* crate::c */", &[]);
    check(
        "#[cfg(test)]\nmod tests;\nuse crate::a;\n#[cfg(test)]\nmod more { fn f() {} use crate::b; }\nuse super::c;",
        &["crate a", "super c"],
    );
}

#[test]
fn arrows_lead_to_where_a_name_comes_from() {
    let source = |module: &str, code: &str| {
        let module = module.split(' ').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        (module, code.to_owned())
    };
    let sources = Sources(BTreeMap::from([
        source("", "mod a; mod b; pub use a::deep::Thing as Other;"),
        source("a", "mod deep; mod flat; use deep::inner; fn f() { crate::a::deep::g() }"),
        source("a deep", "use super::flat::h;"),
        source("a flat", "fn f() { super::inner(); crate::b::c() }"),
        source("b", "use crate::Other;"),
    ]));
    let arrows = sources.arrows();
    let to = |parent: &[&str], from: &str| {
        let parent: Module = parent.iter().map(|part| (*part).to_owned()).collect();
        arrows[&parent][from].iter().cloned().collect::<Vec<_>>()
    };
    assert_eq!((to(&[], "a"), to(&[], "b")), (vec!["b".to_owned()], vec!["a".to_owned()]));
    assert_eq!(to(&["a"], "flat"), ["deep"]);
    let a: Module = vec!["a".to_owned()];
    assert_eq!(circle(&arrows[&a]).unwrap(), ["deep", "flat", "deep"]);
    assert_eq!(circle(&Arrows::from([("x".into(), BTreeSet::from(["y".into()]))])), None);
}
