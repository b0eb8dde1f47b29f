//! As much of Markdown as the handbook uses.

use std::collections::{BTreeMap, BTreeSet};

/// A fenced block: its info string, and its lines.
pub struct Block<'a> {
    pub info: &'a str,
    pub lines: Vec<&'a str>,
}

/// A piece of a page.
pub enum Piece<'a> {
    Line(&'a str),
    Block(Block<'a>),
}

/// The pieces of a page, in order.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        match line.strip_prefix("```") {
            Some(info) => {
                let inner = lines.by_ref().take_while(|line| *line != "```").collect();
                pieces.push(Piece::Block(Block { info, lines: inner }));
            }
            None => pieces.push(Piece::Line(line)),
        }
    }
    pieces
}

/// Lines outside of blocks, without code.
fn prose(text: &str) -> impl Iterator<Item = String> {
    pieces(text).into_iter().filter_map(|piece| match piece {
        Piece::Line(line) if !line.starts_with("    ") => Some(line.split('`').step_by(2).collect()),
        _ => None,
    })
}

/// Targets of all links.
pub fn links(text: &str) -> Vec<String> {
    let targets = |line: String| {
        let parts: Vec<String> = line.split("](").skip(1).map(str::to_owned).collect();
        parts.into_iter().filter_map(|part| Some(part.split_once(')')?.0.to_owned()))
    };
    prose(text).flat_map(targets).collect()
}

/// Names of all headings, as links have them.
pub fn anchors(text: &str) -> BTreeSet<String> {
    let mut counts = BTreeMap::new();
    let mut named = |heading: &str| {
        let name = anchor(heading);
        let count: &mut u32 = counts.entry(name.clone()).or_default();
        *count += 1;
        if *count == 1 { name } else { format!("{name}-{}", *count - 1) }
    };
    pieces(text)
        .into_iter()
        .filter_map(|piece| match piece {
            Piece::Line(line) if line.starts_with('#') => Some(named(line.trim_start_matches('#').trim())),
            _ => None,
        })
        .collect()
}

fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || ['-', '_', ' '].contains(c);
    heading.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Text as it is, in a cell of a table.
pub fn cell(text: &str) -> String {
    let mut escaped = String::new();
    for (index, part) in text.split('`').enumerate() {
        if index > 0 {
            escaped.push('`');
        }
        let part = part.replace('|', "\\|");
        // Code is taken as it is.
        let part = if index % 2 == 0 { part.replace('*', "\\*").replace('<', "&lt;") } else { part };
        escaped += &part;
    }
    escaped.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn links_and_anchors_are_found_outside_of_code() {
    let text = "# A `b` c!\n[x](y.md#z) `[no](no)` [w](http://v)\n```sh\n# [no](no)\n```\n## a b c\n";
    assert_eq!(links(text), ["y.md#z", "http://v"]);
    assert_eq!(anchors(text).into_iter().collect::<Vec<_>>(), ["a-b-c", "a-b-c-1"]);
    assert_eq!(cell("a|b *c* `d*`\ne"), "a\\|b \\*c\\* `d*` e");
}
