//! Topics and payloads with placeholders, such as `cmnd/{device}/{attribute}`.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use crate::config::command::PLACEHOLDERS;

/// What placeholders stand for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fill<'a> {
    /// `{device}`: what the source calls the device, without the prefix of its preset.
    pub(super) device: &'a str,
    /// `{attribute}`; `{attribute/}` is the same with a slash for each dot.
    pub(super) attribute: &'a str,
    /// `{*}`: what the `*` of the attribute pattern stands for.
    pub(super) star: &'a str,
    /// `{value}`: the value as text.
    pub(super) value: &'a str,
    /// `{json}`: the value as JSON. `{document}` is a document in which it is at the attribute's path.
    pub(super) json: &'a Json,
    /// `{id}`: the number of the command.
    pub(super) id: u64,
    /// `{reply}`: the topic on which the device answers.
    pub(super) reply: &'a str,
    /// `{client_id}`: of the source.
    pub(super) client_id: &'a str,
    /// Placeholders of the block: parts of the device's name.
    pub(super) captures: &'a [(&'a str, &'a str)],
}

/// Fills a template in. Texts get the escapes of a JSON string if the template is a JSON object or list. Braces around
/// anything else than a placeholder stay as they are.
pub(super) fn fill(template: &str, fill: &Fill<'_>) -> String {
    let quoted = template.trim_start().starts_with(['{', '['])
        && !names(fill).any(|name| template.trim_start().starts_with(&format!("{{{name}}}")));
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let (before, braced) = rest.split_at(at);
        out.push_str(before);
        let found = names(fill).find_map(|name| {
            let after = braced.strip_prefix('{')?.strip_prefix(name)?.strip_prefix('}')?;
            Some((name, after))
        });
        match found {
            Some((name, after)) => {
                put(&mut out, name, fill, quoted);
                rest = after;
            }
            None => {
                out.push('{');
                rest = &braced[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn names<'f>(fill: &'f Fill<'_>) -> impl Iterator<Item = &'f str> {
    PLACEHOLDERS.into_iter().chain(fill.captures.iter().map(|(name, _)| *name))
}

fn put(out: &mut String, name: &str, fill: &Fill<'_>, quoted: bool) {
    let mut text = |text: &str| match quoted {
        true => out.push_str(escaped(text).as_str()),
        false => out.push_str(text),
    };
    match name {
        "device" => text(fill.device),
        "attribute" => text(fill.attribute),
        "attribute/" => text(&fill.attribute.replace('.', "/")),
        "*" => text(fill.star),
        "value" => text(fill.value),
        "reply" => text(fill.reply),
        "client_id" => text(fill.client_id),
        "json" => {
            let _ = write!(out, "{}", fill.json);
        }
        "document" => {
            let _ = write!(out, "{}", document(fill.attribute, fill.json));
        }
        "id" => {
            let _ = write!(out, "{}", fill.id);
        }
        _ => text(fill.captures.iter().find(|(known, _)| *known == name).map_or("", |(_, part)| part)),
    }
}

/// A document in which a value is at the path of an attribute, levels joined by dots.
fn document(path: &str, value: &Json) -> Json {
    path.rsplit('.').fold(value.clone(), |inner, level| json!({ level: inner }))
}

/// A text as it stands between the quotes of a JSON string.
fn escaped(text: &str) -> String {
    let quoted = Json::String(text.to_owned()).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str, attribute: &str, json: &Json) -> String {
        let value = match json {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        };
        let values = Fill {
            device: "a\"b",
            attribute,
            star: "0",
            value: &value,
            json,
            id: 41,
            reply: "us/rpc",
            client_id: "us",
            captures: &[("bridge", "zb")],
        };
        fill(template, &values)
    }

    #[test]
    fn placeholders_are_filled_in_and_other_braces_stay() {
        let on = Json::Bool(true);
        let check =
            |template: &str, expected: &str| assert_eq!(filled(template, "switch:0.output", &on), expected);
        check("{device}/command/switch:{*}", "a\"b/command/switch:0");
        check("x/{attribute/}/set", "x/switch:0/output/set");
        check("{value}", "true");
        check(
            r#"{"id":{id},"src":"{reply}","method":"Switch.Set","params":{"id":{*},"on":{json}},"d":"{device}"}"#,
            r#"{"id":41,"src":"us/rpc","method":"Switch.Set","params":{"id":0,"on":true},"d":"a\"b"}"#,
        );
        check("{unknown} {", "{unknown} {");
        check("cmnd/{bridge}/ZbSend", "cmnd/zb/ZbSend");
    }

    #[test]
    fn a_document_has_the_value_at_the_path_of_the_attribute() {
        let check = |attribute: &str, value: Json, expected: &str| {
            assert_eq!(filled("{document}", attribute, &value), expected);
        };
        check("state", "ON".into(), r#"{"state":"ON"}"#);
        check("color.x", 0.25.into(), r#"{"color":{"x":0.25}}"#);
        check("say", "a \"b\"".into(), r#"{"say":"a \"b\""}"#);
    }
}
