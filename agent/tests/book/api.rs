//! The references of the HTTP APIs, of the agent and of the hub, from their descriptions.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::markdown::cell;

/// A reference, and what is made of it.
struct Reference {
    /// The description of the API, as JSON.
    description: &'static str,
    /// The title, and where the description is.
    head: &'static str,
    /// What is said before all else.
    words: &'static [&'static str],
    tags: &'static [(&'static str, &'static str)],
    /// What nearly every operation has; they are in one table.
    every_read: &'static [&'static str],
}

const AGENT: Reference = Reference {
    description: include_str!("../../src/http/openapi.json"),
    head: "# HTTP API

<!-- Made by `FIELDLOG_WRITE=1 cargo test -p fieldlog --test book` of agent/src/http/openapi.json. -->
",
    words: &[
        "Every answer states the position of the log that it is true for and how far the view is behind. `?min_seq=N` waits until the \
         view has reached a position. Lists come in pages that end at `limit`, or at 1 MiB; `next` in the answer is where the next page \
         begins: pass it as `after`, or as `before` where the newest are first. Write a `/` in a device id as `%2F`.",
        "`?at=` asks for a past moment. `as_of` in the answer says which record is the last one in it, whether it is `exact`, and if not, \
         why. A moment whose records have been deleted gives 410 with the earliest position that can still be answered.",
        "The same for programs is at `/openapi.json`. [Who may ask](look.md#who-may-ask-and-https) is decided by tokens. \
         A refusal is a [Problem](#problem).",
    ],
    tags: &[
        ("devices", "Devices"),
        ("past", "The past"),
        ("aggregates", "Named aggregates"),
        ("commands", "Commands"),
        ("alerts", "Alerts"),
        ("log", "The log"),
        ("quarantine", "The quarantine"),
        ("changes", "Changes by an administrator"),
        ("session", "Sessions of browsers"),
        ("health", "Health and status"),
    ],
    every_read: &["min_seq", "epoch", "min_seq_timeout_ms"],
};

const HUB: Reference = Reference {
    description: include_str!("../../../projections/hub/src/http/openapi.json"),
    head: "# HTTP API of the hub

<!-- Made by `FIELDLOG_WRITE=1 cargo test -p fieldlog --test book` of projections/hub/src/http/openapi.json. -->
",
    words: &[
        "[The hub](hub.md) says what it is for. Lists have up to `limit` items; `after` continues behind an item. With `gateway` and \
         `min_seq` an answer waits until everything up to that position is there. Write a `/` in a device id as `%2F`.",
        "The same for programs is at `/openapi.json`. A refusal is a [Problem](#problem).",
    ],
    tags: &[
        ("gateways", "Gateways"),
        ("devices", "Devices"),
        ("events", "Events"),
        ("commands", "Commands"),
        ("health", "Health and status"),
    ],
    every_read: &["min_seq"],
};

pub fn page() -> String {
    AGENT.page()
}

pub fn hub_page() -> String {
    HUB.page()
}

impl Reference {
    fn page(&self) -> String {
        let all: Value = serde_json::from_str(self.description).unwrap();
        let mut text = format!("{}\n{}\n", self.head, cell(all["info"]["description"].as_str().unwrap()));
        for words in self.words {
            writeln!(text, "\n{words}").unwrap();
        }
        text += "\n## Parameters of every read\n";
        let common: Vec<Value> =
            self.every_read.iter().map(|name| all["components"]["parameters"][name].clone()).collect();
        table(&mut text, &all, &common);
        let mut described = 0;
        for (tag, title) in self.tags {
            writeln!(text, "\n## {title}").unwrap();
            for (path, methods) in all["paths"].as_object().unwrap() {
                for (method, operation) in methods.as_object().unwrap() {
                    if operation["tags"][0] == *tag {
                        described += 1;
                        let title = format!("{} {path}", method.to_uppercase());
                        say(&mut text, &all, &title, operation, self.every_read);
                    }
                }
            }
        }
        let operations =
            all["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len());
        assert_eq!(described, operations.sum::<usize>(), "an operation has a tag without a title here");
        text += "\n## Types\n\nWhat answers and bodies consist of. A field that is not always there is marked with `?`.\n";
        for (name, schema) in all["components"]["schemas"].as_object().unwrap() {
            kind_of(&mut text, name, schema);
        }
        text
    }
}

fn say(text: &mut String, all: &Value, title: &str, operation: &Value, every_read: &[&str]) {
    writeln!(text, "\n### {title}\n\n{}.", cell(operation["summary"].as_str().unwrap())).unwrap();
    let mut parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let count = parameters.len();
    parameters.retain(|parameter| {
        !every_read.iter().any(|name| parameter["$ref"] == format!("#/components/parameters/{name}"))
    });
    let common = count > parameters.len();
    table(text, all, &parameters);
    if common {
        text.push_str("\nAlso [those of every read](#parameters-of-every-read).\n");
    }
    body_and_answers(text, operation);
}

fn table(text: &mut String, all: &Value, parameters: &[Value]) {
    if !parameters.is_empty() {
        text.push_str("\n| parameter | | |\n|---|---|---|\n");
    }
    for parameter in parameters {
        let named = parameter["$ref"].as_str().and_then(|name| all.pointer(&name[1..]));
        let parameter = named.unwrap_or(parameter);
        let word = |name: &str| parameter[name].as_str().unwrap_or_default().to_owned();
        let wanted =
            if parameter["required"] == true && parameter["in"] != "path" { ", required" } else { "" };
        let within = if parameter["in"] == "query" { String::new() } else { format!(" ({})", word("in")) };
        let about = cell(&word("description"));
        writeln!(text, "| `{}`{within} | {}{wanted} | {about} |", word("name"), kind(&parameter["schema"]))
            .unwrap();
    }
}

fn body_and_answers(text: &mut String, operation: &Value) {
    if let Some(body) = operation.get("requestBody") {
        let may = if body["required"] == true { "" } else { ", which may be left out" };
        writeln!(text, "\nBody: {}{may}.", content(body)).unwrap();
    }
    text.push('\n');
    for (status, answer) in operation["responses"].as_object().unwrap() {
        if status != "default" {
            let said = cell(answer["description"].as_str().unwrap());
            let content = content(answer);
            let content = if content.is_empty() { content } else { format!(": {content}") };
            writeln!(text, "- {status}{content}. {}", if said == "The answer." { "" } else { &said })
                .unwrap();
        }
    }
    *text = text.replace(". \n", ".\n");
}

fn content(of: &Value) -> String {
    let Some(content) = of["content"].as_object() else { return String::new() };
    let one = |(media, value): (&String, &Value)| match value.get("schema") {
        Some(schema) if media == "application/json" => kind(schema),
        Some(schema) => format!("{}, as `{media}`", kind(schema)),
        None => format!("`{media}`"),
    };
    content.iter().map(one).collect::<Vec<_>>().join(" or ")
}

fn kind_of(text: &mut String, name: &str, schema: &Value) {
    let about = cell(schema["description"].as_str().unwrap_or_default());
    writeln!(text, "\n### {name}\n\n{about}").unwrap();
    if let Some(properties) = schema["properties"].as_object().filter(|properties| !properties.is_empty()) {
        fields(text, properties, schema);
    } else if let Some(choices) = schema["oneOf"].as_array() {
        text.push_str("\n| value | |\n|---|---|\n");
        for choice in choices {
            writeln!(
                text,
                "| {} | {} |",
                kind(choice),
                cell(choice["description"].as_str().unwrap_or_default())
            )
            .unwrap();
        }
    } else if schema["type"] != "object" {
        writeln!(text, "\nThis is: {}.", kind(schema)).unwrap();
    }
}

fn fields(text: &mut String, properties: &Map<String, Value>, of: &Value) {
    let required = of["required"].as_array().cloned().unwrap_or_default();
    text.push_str("\n| field | | |\n|---|---|---|\n");
    for (name, schema) in properties {
        let mark = if required.iter().any(|wanted| wanted == name) { "" } else { "?" };
        let about = cell(schema["description"].as_str().unwrap_or_default());
        writeln!(text, "| `{name}`{mark} | {} | {about} |", kind(schema)).unwrap();
    }
}

/// What values a schema has, in a few words.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(all) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        return all.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    match &schema["type"] {
        Value::Array(all) => all.iter().map(|word| simple(word, schema)).collect::<Vec<_>>().join(" or "),
        Value::Null => "any value".to_owned(),
        word => simple(word, schema),
    }
}

fn simple(word: &Value, schema: &Value) -> String {
    match word.as_str().unwrap() {
        "string" if schema["format"] == "date-time" => "time".to_owned(),
        "string" => {
            schema["pattern"].as_str().map_or("text".to_owned(), |form| format!("text `{}`", cell(form)))
        }
        "integer" => match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
            (Some(min), Some(max)) if max < u64::MAX / 2 => format!("integer, {min} to {max}"),
            _ => "integer".to_owned(),
        },
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" => match schema.get("additionalProperties") {
            Some(inner) if inner.is_object() => format!("object with {} for each name", kind(inner)),
            _ => "object".to_owned(),
        },
        other => other.to_owned(),
    }
}
