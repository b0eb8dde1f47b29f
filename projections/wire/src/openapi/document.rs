//! The description, operation by operation.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

use super::parameters::{position, reference, some_text};
use crate::api::problem::{CONTENT_TYPE as PROBLEM, Problem};

const JSON: &str = "application/json";

/// What a description says about the API as a whole.
pub struct Head {
    /// Its name.
    pub title: &'static str,
    /// What it is for, in one line.
    pub summary: &'static str,
    /// What is so everywhere.
    pub description: &'static str,
    /// Parameters that operations refer to, by name.
    pub parameters: Value,
    /// Those that every operation takes which is not [`Operation::alone`].
    pub every: &'static [&'static str],
}

/// The description, as far as it is made.
pub struct Document {
    head: Head,
    paths: BTreeMap<String, Map<String, Value>>,
    answered: SchemaGenerator,
    taken: SchemaGenerator,
}

/// One operation.
pub struct Operation {
    method: &'static str,
    path: &'static str,
    tag: &'static str,
    summary: String,
    parameters: Vec<Value>,
    body: Option<Body>,
    answer: Option<(String, String, Option<SchemaOf>)>,
    also: Vec<(u16, &'static str)>,
    empty: Vec<(u16, &'static str)>,
    revalidates: bool,
    is_alone: bool,
    refuses_in_words: bool,
}

/// What an operation takes: its media types, each with what is known of it.
struct Body {
    is_required: bool,
    content: Vec<(&'static str, Option<SchemaOf>)>,
}

type SchemaOf = fn(&mut SchemaGenerator) -> Value;

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

impl Operation {
    /// An operation with this summary.
    pub fn get(path: &'static str, tag: &'static str, summary: &str) -> Operation {
        Operation::new("get", path, tag, summary)
    }

    /// The same.
    pub fn post(path: &'static str, tag: &'static str, summary: &str) -> Operation {
        Operation::new("post", path, tag, summary)
    }

    /// The same.
    pub fn delete(path: &'static str, tag: &'static str, summary: &str) -> Operation {
        Operation::new("delete", path, tag, summary)
    }

    fn new(method: &'static str, path: &'static str, tag: &'static str, summary: &str) -> Operation {
        let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameters = names.map(|name| match name {
            "command" => {
                json!({"name": name, "in": "path", "required": true, "schema": position(i64::MAX as u64),
                   "description": "The id of the command: the position of its request."})
            }
            name => json!({"name": name, "in": "path", "required": true, "schema": some_text(),
                   "description": format!("{}; a `/` in it is written %2F.", described(name))}),
        });
        Operation {
            method,
            path,
            tag,
            summary: summary.into(),
            parameters: parameters.collect(),
            body: None,
            answer: None,
            also: Vec::new(),
            empty: Vec::new(),
            revalidates: false,
            is_alone: false,
            refuses_in_words: false,
        }
    }

    /// It takes these parameters.
    pub fn query(mut self, parameters: impl IntoIterator<Item = Value>) -> Operation {
        self.parameters.extend(parameters);
        self
    }

    /// It takes this header.
    pub fn header(mut self, name: &str, description: &str) -> Operation {
        self.parameters.push(
            json!({"name": name, "in": "header", "schema": {"type": "string"}, "description": description}),
        );
        self
    }

    /// It takes no parameters that every operation takes.
    pub fn alone(mut self) -> Operation {
        self.is_alone = true;
        self
    }

    /// It takes this, as JSON.
    pub fn takes<T: JsonSchema>(mut self, is_required: bool) -> Operation {
        self.body = Some(Body { is_required, content: vec![(JSON, Some(schema_of::<T>))] });
        self
    }

    /// It takes a body of one of these media types.
    pub fn takes_any(mut self, media_types: &[&'static str]) -> Operation {
        let content = media_types.iter().map(|media_type| (*media_type, None)).collect();
        self.body = Some(Body { is_required: true, content });
        self
    }

    /// It answers with this, as JSON.
    pub fn answers<T: JsonSchema>(self) -> Operation {
        self.answers_as::<T>(JSON)
    }

    /// The same, with a media type of its own.
    pub fn answers_as<T: JsonSchema>(mut self, media_type: &str) -> Operation {
        self.answer = Some((media_type.into(), "The answer.".into(), Some(schema_of::<T>)));
        self
    }

    /// It answers with what has no schema.
    pub fn streams(mut self, media_type: &str, description: &str) -> Operation {
        self.answer = Some((media_type.into(), description.into(), None));
        self
    }

    /// Another status code with the same body.
    pub fn also(mut self, status: u16, description: &'static str) -> Operation {
        self.also.push((status, description));
        self
    }

    /// Another status code without a body.
    pub fn also_empty(mut self, status: u16, description: &'static str) -> Operation {
        self.empty.push((status, description));
        self
    }

    /// What it refuses, it refuses with a line of text.
    pub fn refuses_in_words(mut self) -> Operation {
        self.refuses_in_words = true;
        self
    }

    /// `If-None-Match` with the `ETag` of an earlier answer is answered 304 as long as nothing is recorded.
    pub fn revalidates(mut self) -> Operation {
        self.revalidates = true;
        self
    }
}

fn described(parameter: &str) -> &'static str {
    match parameter {
        "id" => "The id",
        "name" => "The name",
        "seq" => "The position of its record",
        "gateway" => "The id of the gateway",
        "device" => "The id of the device",
        _ => "The attribute",
    }
}

impl Document {
    /// Without operations yet.
    pub fn new(head: Head) -> Document {
        let settings = || {
            SchemaSettings::draft2020_12().with(|s| {
                s.meta_schema = None;
                s.definitions_path = "/components/schemas".into();
            })
        };
        Document {
            head,
            paths: BTreeMap::new(),
            answered: settings().for_serialize().into_generator(),
            taken: settings().for_deserialize().into_generator(),
        }
    }

    /// Adds an operation.
    pub fn add(&mut self, operation: Operation) {
        let mut parameters = operation.parameters;
        if !operation.is_alone {
            parameters.extend(self.head.every.iter().map(|name| reference(name)));
        }
        let mut responses = Map::new();
        if let Some((media_type, description, schema)) = operation.answer {
            let content = match schema {
                Some(schema) => json!({media_type: {"schema": schema(&mut self.answered)}}),
                None => json!({media_type: {}}),
            };
            for (status, description) in [(200, description.as_str())].into_iter().chain(operation.also) {
                responses.insert(status.to_string(), json!({"description": description, "content": content}));
            }
        }
        if operation.revalidates {
            responses.insert(
                "304".into(),
                json!({"description": "Nothing has been recorded since the answer with this `ETag`."}),
            );
        }
        for (status, description) in operation.empty {
            responses.insert(status.to_string(), json!({"description": description}));
        }
        let refusal = match operation.refuses_in_words {
            true => {
                json!({"description": "What is wrong, in a line.", "content": {"text/plain": {}, PROBLEM: {}}})
            }
            false => json!({"$ref": "#/components/responses/problem"}),
        };
        responses.insert("default".into(), refusal);
        let name: Vec<&str> = operation.path.split(['/', '{', '}']).filter(|part| !part.is_empty()).collect();
        let mut value = json!({
            "operationId": format!("{}-{}", operation.method, name.join("-").replace("api-v1-", "")),
            "tags": [operation.tag],
            "summary": operation.summary,
            "responses": responses,
        });
        if !parameters.is_empty() {
            value["parameters"] = parameters.into();
        }
        if let Some(Body { is_required, content }) = operation.body {
            let content: Map<String, Value> = content
                .into_iter()
                .map(|(media_type, schema)| {
                    let schema = schema.map(|schema| json!({"schema": schema(&mut self.taken)}));
                    (media_type.to_owned(), schema.unwrap_or_else(|| json!({})))
                })
                .collect();
            value["requestBody"] = json!({"required": is_required, "content": content});
        }
        self.paths.entry(operation.path.into()).or_default().insert(operation.method.into(), value);
    }

    /// Methods by path.
    pub fn operations(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.paths.iter().map(|(path, methods)| (path.as_str(), methods.keys().map(String::as_str).collect()))
    }

    /// The whole description, as text.
    ///
    /// # Errors
    /// If it cannot be written as JSON, or not as UTF-8.
    pub fn text(mut self) -> std::io::Result<String> {
        let problem = schema_of::<Problem<'_>>(&mut self.answered);
        let mut schemas = self.taken.take_definitions(true);
        schemas.append(&mut self.answered.take_definitions(true));
        let mut document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": self.head.title,
                "version": "1",
                "summary": self.head.summary,
                "description": self.head.description,
                "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "security": [{"token": []}, {}],
            "paths": self.paths,
            "components": {
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
                "parameters": self.head.parameters,
                "responses": {"problem": {
                    "description": "What is wrong and what to do (RFC 9457). 503 comes with `Retry-After`.",
                    "content": {PROBLEM: {"schema": problem}},
                }},
                "schemas": schemas,
            },
        });
        plain(&mut document);
        let mut text = Vec::new();
        let layout = PrettyFormatter::with_indent(b" ");
        document.serialize(&mut Serializer::with_formatter(&mut text, layout))?;
        text.push(b'\n');
        String::from_utf8(text).map_err(std::io::Error::other)
    }
}

/// Links between the types' comments are words for whoever reads the description.
fn plain(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let link = members
                .get("description")
                .and_then(Value::as_str)
                .is_some_and(|text| text.starts_with("See [`"));
            if link {
                members.remove("description");
            }
            for (name, member) in members {
                match member {
                    Value::String(text) if name == "description" => {
                        *text = text.replace("[`", "`").replace("`]", "`")
                    }
                    member => plain(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        _ => {}
    }
}
