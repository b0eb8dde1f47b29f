//! Payloads of real devices, and the facts recorded from them: `tests/fixtures/devices/*.toml`.
//!
//! A case is one situation: the origin of the payloads (`source`), the `preset` (with its `base`) or the `rules` that
//! read them, the `messages` in order of arrival, and all resulting `facts` in the notation of `fieldlog try`. In
//! `ignored: …` and `quarantined: …` a fact may omit the reason.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use fieldlog::config::{CommandRule, Config, PRESETS};
use fieldlog::trial::Trial;
use fieldlog_projections::Time;
use fieldlog_rules::decode::Zone;
use fieldlog_wire::api::commands::CommandBody;
use jiff::tz::TimeZone;
use serde::Deserialize;

/// 2026-11-28T12:00:00Z.
const NOW: Time = Time(1_795_867_200_000_000);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// URL, or repository and path, of the payloads.
    source: String,
    preset: Option<String>,
    base: Option<String>,
    /// `[[rule]]` tables, each a `[[source.subscription]]`.
    rules: Option<String>,
    messages: Vec<Post>,
    facts: Option<Vec<String>>,
    #[serde(default)]
    commands: Vec<Asked>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    device: String,
    attribute: Option<String>,
    operation: Option<String>,
    #[serde(default)]
    value: serde_json::Value,
    topic: Option<String>,
    payload: Option<String>,
    /// Words of the refusal.
    refused: Option<String>,
    #[serde(default)]
    answers: Vec<Post>,
    /// Of all answers, what they say of the command, without its number.
    #[serde(default)]
    says: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Post {
    topic: String,
    payload: Option<String>,
    hex: Option<String>,
    json: Option<serde_json::Value>,
    #[serde(default)]
    retain: bool,
}

impl Post {
    fn bytes(&self) -> Vec<u8> {
        match (&self.payload, &self.hex, &self.json) {
            (Some(text), None, None) => text.clone().into_bytes(),
            (None, Some(hex), None) => {
                let digits: Vec<u8> = hex
                    .chars()
                    .filter(|c| !c.is_whitespace())
                    .map(|c| c.to_digit(16).unwrap() as u8)
                    .collect();
                assert_eq!(digits.len() % 2, 0, "{hex}");
                digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
            }
            (None, None, Some(json)) => json.to_string().into_bytes(),
            _ => panic!("{}: give one of payload, hex and json", self.topic),
        }
    }
}

impl Case {
    fn config(&self) -> Config {
        let mut text =
            "[[source]]\nname = \"home\"\naddress = \"mqtt://localhost\"\nclient_id = \"us\"\n".to_owned();
        match (&self.preset, &self.rules) {
            (Some(preset), None) => {
                write!(text, "[[source.subscription]]\npreset = {preset:?}\n").unwrap();
                self.base.iter().for_each(|base| writeln!(text, "base = {base:?}").unwrap());
            }
            (None, Some(rules)) => text += &rules.replace("[[rule]]", "[[source.subscription]]"),
            _ => panic!("{}: give one of preset and rules", self.name),
        }
        Config::from_toml(&text, &self.name).unwrap_or_else(|faults| panic!("{}: {faults}", self.name))
    }

    fn found(&self) -> (Vec<String>, Trial) {
        let zone = Zone(|| TimeZone::UTC);
        let mut trial = Trial::new(self.config(), None, NOW, zone).unwrap();
        let mut of = |post: &Post| trial.observe(&post.topic, &post.bytes(), post.retain).unwrap();
        (self.messages.iter().flat_map(&mut of).collect(), trial)
    }

    /// The differences, line by line; `None` if there are none.
    fn difference(&self, covered: &mut BTreeSet<(String, usize)>) -> Option<String> {
        let blocks = self.config().sources.remove(0).commands;
        let preset = self.preset.clone().unwrap_or_default();
        let (found, mut trial) = self.found();
        let facts = match &self.facts {
            Some(facts) => facts.clone(),
            None if !self.commands.is_empty() => found.clone(),
            None => panic!("{}: give facts", self.name),
        };
        if facts.len() != found.len() || facts.iter().zip(&found).any(|(a, b)| !same(a, b)) {
            return Some(difference(&facts, &found));
        }
        let mut text = String::new();
        let mut count = 0;
        for asked in &self.commands {
            covered.extend(asked.block(&trial, &blocks).map(|block| (preset.clone(), block)));
            let (expected, found) = asked.run(&mut trial, &mut count);
            if expected != found {
                let name = asked.attribute.as_ref().or(asked.operation.as_ref()).unwrap();
                write!(text, "  {} {name}\n{}", asked.device, difference(&expected, &found)).unwrap();
            }
        }
        Some(text).filter(|text| !text.is_empty())
    }
}

impl Asked {
    /// Which block it is sent by.
    fn block(&self, trial: &Trial, blocks: &[CommandRule]) -> Option<usize> {
        let declared = trial.declared(&self.device).ok()?;
        let name = self.attribute.as_ref().or(self.operation.as_ref())?;
        let found = declared.iter().find(|declared| {
            declared.name == *name && declared.rule.is_operation() == self.operation.is_some()
        })?;
        self.topic.as_ref().and_then(|_| blocks.iter().position(|block| block == found.rule))
    }

    /// What is expected of it, and what is so; `count` is how many commands of the trial were not refused.
    fn run(&self, trial: &mut Trial, count: &mut u64) -> (Vec<String>, Vec<String>) {
        let body = CommandBody {
            attribute: self.attribute.clone(),
            operation: self.operation.clone(),
            value: self.value.clone(),
            idempotency_key: "k".to_owned(),
            ttl_s: 60,
            expected: None,
            reason: String::new(),
        };
        match (&self.refused, &self.topic, trial.command(&self.device, &body)) {
            (Some(words), None, Err(rejected)) => {
                assert!(!words.is_empty() && self.answers.is_empty());
                let found = if rejected.reason.contains(words) { words.clone() } else { rejected.reason };
                (vec![words.clone()], vec![found])
            }
            (Some(words), None, Ok(publish)) => {
                *count += 1;
                (vec![words.clone()], vec![format!("{} {}", publish.topic, said(&publish.payload))])
            }
            (None, Some(topic), Ok(publish)) => {
                *count += 1;
                let payload = self.payload.as_ref().unwrap();
                let mut expected = vec![format!("{topic} {}", payload.replace("{id}", &count.to_string()))];
                expected.extend(self.says.clone());
                let mut found = vec![format!("{} {}", publish.topic, said(&publish.payload))];
                for post in &self.answers {
                    let bytes = said(&post.bytes()).replace("{id}", &count.to_string());
                    let lines = trial.observe(&post.topic, bytes.as_bytes(), post.retain).unwrap();
                    let ours = format!("{}  command {count} ", self.device);
                    found.extend(lines.iter().filter_map(|line| line.strip_prefix(&ours)).map(str::to_owned));
                }
                (expected, found)
            }
            (None, Some(topic), Err(rejected)) => (vec![topic.clone()], vec![rejected.reason]),
            _ => panic!("{}: give either topic and payload, or refused", self.device),
        }
    }
}

fn said(payload: &[u8]) -> String {
    String::from_utf8(payload.to_vec()).unwrap()
}

/// Whether a line is the expected one, which may omit a reason.
fn same(expected: &str, found: &str) -> bool {
    let open = ["ignored", "quarantined"].contains(&expected);
    expected == found || (open && found.split_once(": ").is_some_and(|(word, _)| word == expected))
}

/// The longest common subsequence of lines, with missing (`-`) and additional (`+`) ones.
fn difference(expected: &[String], found: &[String]) -> String {
    let mut lengths = vec![vec![0; found.len() + 1]; expected.len() + 1];
    for i in (0..expected.len()).rev() {
        for j in (0..found.len()).rev() {
            let either = lengths[i + 1][j].max(lengths[i][j + 1]);
            lengths[i][j] = if same(&expected[i], &found[j]) { lengths[i + 1][j + 1] + 1 } else { either };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < expected.len() || j < found.len() {
        let both = i < expected.len() && j < found.len();
        if both && same(&expected[i], &found[j]) {
            writeln!(text, "    {}", found[j]).unwrap();
            (i, j) = (i + 1, j + 1);
        } else if i < expected.len() && (j == found.len() || lengths[i + 1][j] >= lengths[i][j + 1]) {
            writeln!(text, "  - {}", expected[i]).unwrap();
            i += 1;
        } else {
            writeln!(text, "  + {}", found[j]).unwrap();
            j += 1;
        }
    }
    text
}

fn fixtures() -> Vec<(PathBuf, Document)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/devices");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let document = toml::from_str(&fs::read_to_string(&path).unwrap());
        let document = document.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, document)
    };
    paths.into_iter().map(read).collect()
}

/// `FIELDLOG_CASE` selects a file or a case, by a part of its name.
#[test]
fn real_payloads_become_the_facts_that_a_person_would_write_down() {
    let wanted = std::env::var("FIELDLOG_CASE").unwrap_or_default();
    let (mut faults, mut names, mut covered) = (String::new(), BTreeSet::new(), BTreeSet::new());
    for (path, document) in fixtures() {
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        for case in document.case {
            assert!(!case.source.is_empty() && !case.messages.is_empty(), "{file}: {}", case.name);
            assert!(names.insert((file.clone(), case.name.clone())), "{file}: {} is there twice", case.name);
            if !file.contains(&wanted) && !case.name.contains(&wanted) {
                continue;
            }
            if let Some(difference) = case.difference(&mut covered) {
                write!(faults, "\n{file}: {}   (- expected, + found)\n{difference}", case.name).unwrap();
            }
        }
    }
    assert!(names.len() > 10, "the fixtures were not found");
    assert!(faults.is_empty(), "\n{faults}");
    if wanted.is_empty() {
        all_blocks_are_covered(&covered);
    }
}

/// Each block of each preset publishes something in a case.
fn all_blocks_are_covered(covered: &BTreeSet<(String, usize)>) {
    let mut missing = String::new();
    for preset in PRESETS {
        let text = format!(
            "[[source]]\nname = \"home\"\naddress = \"mqtt://localhost\"\n[[source.subscription]]\npreset = {preset:?}\n"
        );
        let blocks = Config::from_toml(&text, preset).unwrap().sources.remove(0).commands;
        for (index, block) in blocks.iter().enumerate() {
            // The other order of the topics is the same set.
            if preset != "tasmota-topic-first" && !covered.contains(&(preset.to_owned(), index)) {
                writeln!(missing, "  {preset} {} {}", block.name(), block.topic).unwrap();
            }
        }
    }
    assert!(missing.is_empty(), "no case for these blocks:\n{missing}");
}

#[test]
fn a_difference_is_shown_line_by_line() {
    let lines = |text: &str| text.split('|').map(str::to_owned).collect::<Vec<_>>();
    let text = difference(&lines("a|b|ignored|d"), &lines("a|x|ignored: no rule|d|e"));
    assert_eq!(text, "    a\n  - b\n  + x\n    ignored: no rule\n    d\n  + e\n");
}
