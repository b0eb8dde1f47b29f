//! Makes the description: OpenAPI 3.1.

use std::collections::BTreeMap;

use fieldlog_wire::api::problem::{CONTENT_TYPE as PROBLEM, Problem};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

const JSON: &str = "application/json";

/// The description, as far as it is made.
pub struct Document {
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
    body: Option<(bool, SchemaOf)>,
    answer: Option<(String, String, Option<SchemaOf>)>,
    also: Vec<(u16, &'static str)>,
    revalidates: bool,
    waits: bool,
}

type SchemaOf = fn(&mut SchemaGenerator) -> Value;

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

impl Operation {
    pub fn get(path: &'static str, tag: &'static str, summary: &str) -> Operation {
        Operation::new("get", path, tag, summary)
    }

    pub fn post(path: &'static str, tag: &'static str, summary: &str) -> Operation {
        Operation::new("post", path, tag, summary)
    }

    pub fn delete(path: &'static str, tag: &'static str, summary: &str) -> Operation {
        Operation::new("delete", path, tag, summary)
    }

    fn new(method: &'static str, path: &'static str, tag: &'static str, summary: &str) -> Operation {
        let parameters = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(|name| {
            json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1},
                   "description": format!("{}; a `/` in it is written %2F.", described(name))})
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
            revalidates: false,
            waits: true,
        }
    }

    pub fn query(mut self, parameters: impl IntoIterator<Item = Value>) -> Operation {
        self.parameters.extend(parameters);
        self
    }

    pub fn header(mut self, name: &str, description: &str) -> Operation {
        self.parameters.push(
            json!({"name": name, "in": "header", "schema": {"type": "string"}, "description": description}),
        );
        self
    }

    /// It has no parameters of every read.
    pub fn alone(mut self) -> Operation {
        self.waits = false;
        self
    }

    pub fn takes<T: JsonSchema>(mut self, required: bool) -> Operation {
        self.body = Some((required, schema_of::<T>));
        self
    }

    pub fn answers<T: JsonSchema>(self) -> Operation {
        self.answers_as::<T>(JSON)
    }

    pub fn answers_as<T: JsonSchema>(mut self, media_type: &str) -> Operation {
        self.answer = Some((media_type.into(), "The answer.".into(), Some(schema_of::<T>)));
        self
    }

    pub fn streams(mut self, media_type: &str, description: &str) -> Operation {
        self.answer = Some((media_type.into(), description.into(), None));
        self
    }

    /// Another status code with the same body.
    pub fn also(mut self, status: u16, description: &'static str) -> Operation {
        self.also.push((status, description));
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
        _ => "The attribute",
    }
}

impl Document {
    pub fn new() -> Document {
        let settings = || {
            SchemaSettings::draft2020_12().with(|s| {
                s.meta_schema = None;
                s.definitions_path = "/components/schemas".into();
            })
        };
        Document {
            paths: BTreeMap::new(),
            answered: settings().for_serialize().into_generator(),
            taken: settings().for_deserialize().into_generator(),
        }
    }

    pub fn add(&mut self, operation: Operation) {
        let mut parameters = operation.parameters;
        if operation.waits {
            let common = ["min_seq", "epoch", "min_seq_timeout_ms"];
            parameters.extend(common.map(|name| json!({"$ref": format!("#/components/parameters/{name}")})));
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
        responses.insert("default".into(), json!({"$ref": "#/components/responses/problem"}));
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
        if let Some((required, schema)) = operation.body {
            value["requestBody"] =
                json!({"required": required, "content": {JSON: {"schema": schema(&mut self.taken)}}});
        }
        self.paths.entry(operation.path.into()).or_default().insert(operation.method.into(), value);
    }

    /// Methods by path.
    pub fn operations(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.paths.iter().map(|(path, methods)| (path.as_str(), methods.keys().map(String::as_str).collect()))
    }

    /// The whole description, as text.
    pub fn text(mut self) -> String {
        let problem = schema_of::<Problem<'_>>(&mut self.answered);
        let mut schemas = self.taken.take_definitions(true);
        schemas.append(&mut self.answered.take_definitions(true));
        let mut document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "fieldlog",
                "version": "1",
                "summary": "State, history and commands of the devices of one gateway.",
                "description": "Answers say with `position` which records they include. Times are RFC 3339 in UTC. A parameter that \
                                is misspelt, given twice or out of range is refused; an empty one counts as absent. What changes something needs a token that allows it; \
                                over the Unix socket no token is needed.",
                "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "security": [{"token": []}, {}],
            "paths": self.paths,
            "components": {
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
                "parameters": common(),
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
        document.serialize(&mut Serializer::with_formatter(&mut text, layout)).unwrap();
        text.push(b'\n');
        String::from_utf8(text).unwrap()
    }
}

/// The parameters that stand in several operations.
fn common() -> Value {
    let moment = |description: &str| {
        json!({"description": description, "schema": {"anyOf": [
            {"type": "integer", "format": "uint64", "minimum": 0}, {"type": "string", "format": "date-time"}]}})
    };
    let query = |name: &str, required: bool, mut value: Value| {
        value["name"] = name.into();
        value["in"] = "query".into();
        value[if required { "required" } else { "allowEmptyValue" }] = true.into();
        value
    };
    let number = json!({"type": "integer", "minimum": 0, "maximum": 10_000});
    json!({
        "at": query("at", false, moment("The state at this moment: a time with an offset, or a position.")),
        "earlier": query("from", true, moment("The earlier moment: a time with an offset, or a position.")),
        "later": query("to", false, moment("The later moment, in the same form; now by default.")),
        "min_seq": query("min_seq", false, json!({
            "description": "Wait until the answer includes this position: a number, or `<epoch>-<seq>` as in an `ETag`.",
            "schema": {"type": "string", "pattern": "^([0-9a-f]{16}-)?[0-9]+$"}})),
        "epoch": query("epoch", false, json!({
            "description": "The epoch that the position is of; 409 if the log has another one.",
            "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$"}})),
        "min_seq_timeout_ms": query("min_seq_timeout_ms", false, json!({
            "description": "How long to wait for it, in milliseconds; 2000 by default. Then 504.", "schema": number})),
    })
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
