//! Runs the examples of a page.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use fieldlog::config::Config;

use super::markdown::{Block, Piece, pieces};

/// What begins the configuration of which an example shows a part.
const SOURCE: &str = "[[source]]\nname = \"home\"\naddress = \"mqtt://127.0.0.1:1883\"\n\n";

/// The page with what its commands print now, and what is wrong with the rest.
pub fn run(name: &str, text: &str) -> (String, Vec<String>) {
    let mut page = Page { name, files: BTreeMap::new(), faults: Vec::new() };
    let mut made = String::new();
    for piece in pieces(text) {
        match piece {
            Piece::Line(line) => made += &format!("{line}\n"),
            Piece::Block(block) => made += &format!("```{}\n{}```\n", block.info, page.block(&block)),
        }
    }
    (made, page.faults)
}

struct Page<'a> {
    name: &'a str,
    /// The nearest block of each kind above.
    files: BTreeMap<&'static str, String>,
    faults: Vec<String>,
}

impl Page<'_> {
    fn block(&mut self, block: &Block<'_>) -> String {
        let text: String = block.lines.iter().map(|line| format!("{line}\n")).collect();
        match block.info {
            "console" => return self.console(&block.lines),
            "toml" if !text.starts_with("# hub.toml") => self.configuration(&text, true),
            "toml,wrong" => self.configuration(&text, false),
            "toml" => {
                if let Err(error) = toml::from_str::<toml::Table>(&text) {
                    self.fault(&text, &error.to_string());
                }
            }
            "json" => {
                if let Err(error) = serde_json::from_str::<serde_json::Value>(&text) {
                    self.fault(&text, &error.to_string());
                }
                self.files.insert("json", text.clone());
            }
            "text" | "sh" | "http" => {}
            other => self.fault(&text, &format!("`{other}` is no kind of block")),
        }
        text
    }

    fn fault(&mut self, text: &str, what: &str) {
        self.faults.push(format!("{}: {what}; in\n{text}", self.name));
    }

    fn configuration(&mut self, text: &str, right: bool) {
        let first = text.lines().find(|line| line.starts_with('['));
        let part = first.is_some_and(|line| line.starts_with("[[source."));
        let whole = if part { format!("{SOURCE}{text}") } else { text.to_owned() };
        match Config::from_toml(&whole, self.name) {
            Ok(_) if !right => self.fault(text, "this ought to have a mistake"),
            Err(faults) if right => self.fault(text, &faults.to_string()),
            _ => {}
        }
        self.files.insert("toml", whole);
    }

    fn console(&mut self, lines: &[&str]) -> String {
        let (mut made, mut lines) = (String::new(), lines.iter().peekable());
        while let Some(line) = lines.next() {
            let Some(first) = line.strip_prefix("$ ") else { continue };
            let mut command = first.to_owned();
            made += &format!("{line}\n");
            while command.ends_with('\\') {
                let more = lines.next().unwrap();
                command.truncate(command.len() - 1);
                command += more;
                made += &format!("{more}\n");
            }
            made += &self.output(&command);
        }
        made
    }

    fn output(&mut self, command: &str) -> String {
        let words = words(command);
        let Some((program, arguments)) = words.split_first().filter(|(program, _)| *program == "fieldlog")
        else {
            self.fault(command, "only fieldlog is run; write other commands in a block `sh`");
            return String::new();
        };
        let folder = tempfile::tempdir().unwrap();
        for argument in arguments {
            let kind = Path::new(argument).extension().and_then(|kind| kind.to_str()).unwrap_or_default();
            if let Some(text) = self.files.get(kind) {
                std::fs::write(folder.path().join(argument), text).unwrap();
            }
        }
        assert_eq!(program, "fieldlog");
        let done = Command::new(env!("CARGO_BIN_EXE_fieldlog"))
            .args(arguments)
            .current_dir(folder.path())
            .env("TZ", "UTC")
            .env_remove("FIELDLOG_LOG")
            .output()
            .unwrap();
        String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap()
    }
}

/// The words of a command, as a shell reads them: white space between them, and quotation marks.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in command.chars() {
        match quote {
            Some(mark) if c == mark => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '\'' || c == '"' => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// A word that a shell reads as this text.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_.:-+=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    assert!(!text.contains('\n'), "{text:?} is better a file");
    let mark = if text.contains('\'') { '"' } else { '\'' };
    assert!(!text.contains(mark), "{text} has both kinds of quotation marks");
    format!("{mark}{text}{mark}")
}

#[test]
fn words_are_those_of_a_shell() {
    assert_eq!(words("a  'b \"c\"' \"d'\" '' e"), ["a", "b \"c\"", "d'", "", "e"]);
    assert_eq!(words(&format!("{} {}", quoted("a b"), quoted(""))), ["a b", ""]);
}

#[test]
fn what_is_wrong_with_a_page_is_found() {
    let (_, faults) = run("p", "```toml\n[[source.subscription]]\npreset = \"nope\"\n```\n");
    assert!(faults[0].contains("nope"), "{faults:?}");
    let (_, faults) = run("p", "```toml,wrong\n[[source.subscription]]\npreset = \"wled\"\n```\n");
    assert!(faults[0].contains("ought to have a mistake"), "{faults:?}");
    let (text, faults) =
        run("p", "```console\n$ fieldlog try --preset wled --topic wled/a/g --payload 1\nno\n```\n");
    assert!(faults.is_empty() && text.contains("a  brightness = 1\n") && !text.contains("no\n"), "{text}");
}
