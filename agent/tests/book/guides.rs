//! A guide for each preset: made of the preset, of messages in the fixtures, and of what `docs/guides.toml` says.

use std::fmt::Write;
use std::fs;

use fieldlog::config::{Config, PRESETS};
use fieldlog::trial::Trial;
use fieldlog_projections::Time;
use fieldlog_rules::decode::Zone;
use fieldlog_wire::api::commands::CommandBody;
use jiff::tz::TimeZone;
use serde::Deserialize;
use toml::Table;

use super::examples::quoted;
use super::markdown::cell;
use super::preset::{Block, Preset};
use super::root;

/// Payloads longer than this are shown as files.
const LINE_MAX: usize = 100;

/// What `docs/guides.toml` says of a preset.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Guide {
    preset: String,
    title: String,
    /// What is to be done at the other side, and what to know.
    note: String,
    /// The fixture, by its case, and which of its messages; else the first ones of the first case.
    case: Option<String>,
    messages: Option<Vec<usize>>,
    /// The whole configuration, where the preset alone is not enough.
    config: Option<String>,
    /// A message in place of a fixture.
    example: Option<Post>,
}

#[derive(Deserialize)]
struct Document {
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    source: String,
    preset: Option<String>,
    base: Option<String>,
    messages: Vec<Post>,
    #[serde(default)]
    commands: Vec<Table>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Post {
    topic: String,
    payload: Option<String>,
    hex: Option<String>,
    json: Option<serde_json::Value>,
    #[serde(default)]
    retain: bool,
}

/// Paths below `docs/src`, and texts.
pub fn all() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("docs/guides.toml")).unwrap();
    let mut guides: Vec<Guide> = toml::from_str::<Table>(&text).unwrap()["guide"].clone().try_into().unwrap();
    let mut made = Vec::new();
    // This is `tasmota` with another order of the topic, and is in its guide.
    for name in PRESETS.iter().filter(|name| **name != "tasmota-topic-first") {
        let at = guides.iter().position(|guide| guide.preset == *name);
        let guide =
            guides.remove(at.unwrap_or_else(|| panic!("docs/guides.toml has no [[guide]] for {name}")));
        let text = fs::read_to_string(root().join(format!("config/presets/{name}.toml"))).unwrap();
        made.push((format!("presets/{name}.md"), guide.page(&Preset::read(&text))));
    }
    let left: Vec<String> = guides.into_iter().map(|guide| guide.preset).collect();
    assert!(left.is_empty(), "docs/guides.toml has guides for presets that are not there: {left:?}");
    made
}

/// Rows of the overview, docs/src/presets.md, that do not have a preset with its base.
pub fn overview_faults() -> Vec<String> {
    let overview = super::page("presets.md");
    let mut faults = Vec::new();
    for name in PRESETS {
        let file = name.trim_end_matches("-topic-first");
        let text = fs::read_to_string(root().join(format!("config/presets/{file}.toml"))).unwrap();
        let base = shown_base(&Preset::read(&text));
        let row = |line: &str| {
            line.contains(&format!("`{name}`"))
                && line.contains(&format!("(presets/{file}.md)"))
                && line.ends_with(&format!("| {base} |"))
        };
        if !overview.lines().any(row) {
            faults.push(format!(
                "docs/src/presets.md has no row for {name} with its guide and its base, {base}"
            ));
        }
    }
    faults
}

fn shown_base(preset: &Preset) -> String {
    if preset.base.is_empty() { "none".to_owned() } else { format!("`{}`", preset.base) }
}

/// The cases that read messages with a preset.
fn cases(preset: &str) -> Vec<Case> {
    let folder = root().join("tests/fixtures/devices");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path| toml::from_str::<Document>(&fs::read_to_string(path).unwrap()).unwrap().case;
    paths.into_iter().flat_map(read).filter(|case| case.preset.as_deref() == Some(preset)).collect()
}

impl Guide {
    fn page(&self, preset: &Preset) -> String {
        let mut text = format!(
            "# {}\n\n<!-- Made by `FIELDLOG_WRITE=1 cargo test -p fieldlog --test book`; what is not of the preset is in docs/guides.toml. -->\n\n",
            self.title
        );
        let base = shown_base(preset);
        writeln!(text, "{}\n\n{}\n", cell(&preset.about), self.note.trim()).unwrap();
        writeln!(text, "`base`: {base}. [The overview](../presets.md) says what the keys and tables mean.")
            .unwrap();
        text += "\n## Configuration\n\n```toml\n";
        text += &self.config.clone().unwrap_or_else(|| self.configuration());
        text += "```\n";
        self.examples(&mut text);
        topics(&mut text, preset);
        left_out(&mut text, preset);
        commands(&mut text, preset);
        self.command(&mut text, preset);
        text
    }

    fn configuration(&self) -> String {
        format!(
            "[[source]]\nname = \"home\"\naddress = \"mqtt://127.0.0.1:1883\"\n\n[[source.subscription]]\npreset = \"{}\"\n",
            self.preset
        )
    }

    /// `fieldlog try`, up to the messages.
    fn tried(&self, base: Option<&str>) -> String {
        let base = base.map(|base| format!(" --base {}", quoted(base))).unwrap_or_default();
        match self.config {
            Some(_) => "$ fieldlog try --config fieldlog.toml".to_owned(),
            None => format!("$ fieldlog try --preset {}{base}", self.preset),
        }
    }

    fn examples(&self, text: &mut String) {
        *text += "\n## What becomes of a message\n";
        if let Some(post) = &self.example {
            return post.alone(text, &self.tried(None));
        }
        let cases = cases(&self.preset);
        let wanted = |case: &&Case| self.case.as_ref().is_none_or(|name| case.name == *name);
        let case =
            cases.iter().find(wanted).unwrap_or_else(|| panic!("{}: there is no such case", self.preset));
        let chosen: Vec<&Post> = match &self.messages {
            Some(indices) => indices.iter().map(|index| &case.messages[*index]).collect(),
            None => case.messages.iter().take(4).collect(),
        };
        let tried = self.tried(case.base.as_deref());
        if chosen.iter().all(|post| post.fits_a_line()) {
            *text += "\n```console\n";
            *text += &together(&tried, &chosen);
            *text += "\n```\n";
        } else {
            chosen.iter().for_each(|post| post.alone(text, &tried));
        }
        writeln!(text, "\nFrom {}.", sources(&case.source)).unwrap();
    }

    /// One command of the fixtures, with what it publishes.
    fn command(&self, text: &mut String, preset: &Preset) {
        let cases = cases(&self.preset);
        let found = cases.iter().filter(|case| case.messages.iter().all(Post::fits_many)).find_map(|case| {
            let asked = case.commands.iter().find(|asked| asked.contains_key("topic"))?;
            Some((case, asked))
        });
        let Some((case, asked)) = found.filter(|_| !preset.commands.is_empty()) else { return };
        let mut body = Table::new();
        for key in ["attribute", "operation", "value"] {
            body.extend(asked.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        let device = asked["device"].as_str().unwrap();
        let posts = case.needed(device, &body);
        let body = serde_json::to_string(&body).unwrap();
        let tried = format!(
            "{} --device {} \\\n    --command {}",
            self.tried(case.base.as_deref()),
            quoted(device),
            quoted(&body)
        );
        writeln!(text, "\nA command, after messages that introduce the device; the last line is what it publishes:\n\n```console\n{}\n```", together(&tried, &posts)).unwrap();
    }
}

impl Case {
    /// The messages without which the command would be refused, or published elsewhere.
    fn needed(&self, device: &str, body: &Table) -> Vec<&Post> {
        let mut body = serde_json::to_value(body).unwrap();
        body["idempotency_key"] = "k".into();
        body["ttl_s"] = 60.into();
        let body: CommandBody = serde_json::from_value(body).unwrap();
        let published = |posts: &[&Post]| {
            let base = self.base.iter().map(|base| format!("base = {base:?}\n")).collect::<String>();
            let text = format!(
                "[[source]]\nname = \"home\"\naddress = \"mqtt://localhost\"\nclient_id = \"us\"\n[[source.subscription]]\npreset = {:?}\n{base}",
                self.preset.as_ref().unwrap()
            );
            let config = Config::from_toml(&text, "guide").unwrap_or_else(|faults| panic!("{faults}"));
            let mut trial = Trial::new(config, None, Time(0), Zone(|| TimeZone::UTC)).unwrap();
            for post in posts {
                trial.observe(&post.topic, post.text().unwrap().as_bytes(), false).unwrap();
            }
            trial.command(device, &body).ok().map(|publish| (publish.topic, publish.payload))
        };
        let mut posts: Vec<&Post> = self.messages.iter().collect();
        let wanted = published(&posts);
        assert!(wanted.is_some(), "{}: {body:?} is refused", self.name);
        for index in (0..posts.len()).rev() {
            let post = posts.remove(index);
            if published(&posts) != wanted {
                posts.insert(index, post);
            }
        }
        posts
    }
}

/// One call for several messages.
fn together(tried: &str, posts: &[&Post]) -> String {
    let lines: Vec<String> = posts.iter().map(|post| post.line()).collect();
    format!("{tried} \\\n    {}", lines.join(" \\\n    "))
}

/// What the fixtures name as their origin, with links.
fn sources(text: &str) -> String {
    let one = |source: &str| match source.split_once(' ') {
        _ if !source.starts_with("http") => cell(source),
        Some((address, rest)) => format!("<{address}> {}", cell(rest)),
        None => format!("<{source}>"),
    };
    text.split("; ").map(one).collect::<Vec<_>>().join("; ")
}

impl Post {
    fn text(&self) -> Option<String> {
        self.payload.clone().or(self.json.as_ref().map(ToString::to_string))
    }

    fn fits_many(&self) -> bool {
        let both = |text: &String| text.contains('\n') || (text.contains('\'') && text.contains('"'));
        self.hex.is_some() || self.text().is_some_and(|text| !both(&text))
    }

    fn fits_a_line(&self) -> bool {
        self.line().len() < LINE_MAX + self.topic.len() && self.fits_many()
    }

    /// The arguments for this message.
    fn line(&self) -> String {
        let topic = quoted(&self.topic);
        match (&self.hex, self.text()) {
            (Some(hex), _) => format!("--topic {topic} --payload-hex {}", quoted(hex)),
            (None, Some(text)) if self.fits_many() => format!("--topic {topic} --payload {}", quoted(&text)),
            (None, text) => format!("--topic {topic} {}", text.unwrap_or_default()),
        }
    }

    /// A call of its own, with the payload as a file.
    fn alone(&self, text: &mut String, tried: &str) {
        let payload = self.text().unwrap_or_default();
        let retain = if self.retain { " --retain" } else { "" };
        match serde_json::from_str::<serde_json::Value>(&payload) {
            Ok(json @ (serde_json::Value::Object(_) | serde_json::Value::Array(_))) => {
                let pretty = serde_json::to_string_pretty(&json).unwrap();
                let topic = quoted(&self.topic);
                writeln!(text, "\nA message on the topic `{}`:\n\n```json\n{pretty}\n```\n\n```console\n{tried}{retain} \\\n    --topic {topic} --payload-file message.json\n```", self.topic).unwrap();
            }
            _ => writeln!(text, "\n```console\n{tried}{retain} \\\n    {}\n```", self.line()).unwrap(),
        }
    }
}

fn topics(text: &mut String, preset: &Preset) {
    *text += "\n## Topics\n\nThe first row that fits takes a message; where it says *also*, the next ones get it, too.\n\n| topic | what is recorded | |\n|---|---|---|\n";
    for rule in &preset.rules {
        let topic = preset.topic(rule.text("topic").unwrap());
        let what = match rule.text("decoder").unwrap() {
            "ignore" => "nothing",
            "json" | "cbor" | "msgpack" => "a document",
            "scalar" => "one value",
            "availability" => "availability",
            "action" => "an action",
            _ => "descriptions",
        };
        let also = if rule.keys.contains_key("also") { ", *also*" } else { "" };
        writeln!(text, "| `{topic}` | {what}{also} | {} |", cell(&rule.about)).unwrap();
    }
}

fn left_out(text: &mut String, preset: &Preset) {
    let mut lines = String::new();
    for (key, words) in [
        ("ignore", "these attributes are left out"),
        ("only", "only these attributes are taken"),
        ("redact", "of these only the change is recorded, never the value"),
    ] {
        // The same list of several rules is one line.
        let mut lists: Vec<(String, Vec<String>)> = Vec::new();
        for rule in preset.rules.iter().filter(|rule| !rule.list(key).is_empty()) {
            let list = rule.list(key).iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let topic = format!("`{}`", preset.topic(rule.text("topic").unwrap()));
            match lists.iter_mut().find(|(known, _)| *known == list) {
                Some((_, topics)) if topics.contains(&topic) => {}
                Some((_, topics)) => topics.push(topic),
                None => lists.push((list, vec![topic])),
            }
        }
        for (list, topics) in lists {
            writeln!(lines, "- {}: {words}: {list}.", topics.join(", ")).unwrap();
        }
    }
    if !lines.is_empty() {
        *text += "\n## What is left out of documents\n\n";
        *text += &lines;
    }
}

fn commands(text: &mut String, preset: &Preset) {
    *text += "\n## Commands\n\n";
    if preset.commands.is_empty() {
        *text +=
            "This preset has none. `[[source.command]]` can declare some: see [Commands](../commands.md).\n";
        return;
    }
    *text += "Sets attributes, or carries out operations. `*` stands for any text, `{json}` and `{value}` for the value.\n\n";
    *text += "| | values | published | |\n|---|---|---|---|\n";
    for command in &preset.commands {
        let name = match (command.text("attribute"), command.text("operation")) {
            (Some(attribute), _) => format!("`{attribute}`"),
            (_, Some(operation)) => format!("operation `{operation}`"),
            _ => panic!("a command without a name"),
        };
        let payload = command.text("payload").map(|payload| format!(" `{payload}`")).unwrap_or_default();
        let topic = preset.topic(command.text("topic").unwrap());
        writeln!(
            text,
            "| {name} | {} | `{topic}`{} | {} |",
            values(command),
            payload.replace('|', "\\|"),
            cell(&command.about)
        )
        .unwrap();
    }
}

/// What a command takes.
fn values(command: &Block) -> String {
    let announced = command.keys.contains_key("announced");
    let mut said = Vec::new();
    match (command.text("type"), command.list("values")) {
        (_, values) if !values.is_empty() => {
            said.push(values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", "));
        }
        (Some(kind), _) => said.push(kind.to_owned()),
        (None, _) if announced => said.push("as the device announces".to_owned()),
        (None, _) if command.text("operation").is_some() => said.push("none".to_owned()),
        (None, _) => {}
    }
    match (command.number("min"), command.number("max")) {
        (Some(min), Some(max)) => said.push(format!("{min} to {max}")),
        (Some(min), None) => said.push(format!("from {min}")),
        (None, Some(max)) => said.push(format!("up to {max}")),
        (None, None) => {}
    }
    said.extend(command.text("unit").map(str::to_owned));
    said.join(" ")
}
