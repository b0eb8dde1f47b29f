//! A rule as TOML.

use super::super::show::{Doc, quoted};
use super::{ActionFields, Arrays, Decoder, Each, Rename, Rule, TimeFormat, Update, types, when};

pub(in super::super) fn show(doc: &mut Doc, rule: &Rule) {
    doc.header("[[source.subscription]]");
    doc.text("topic", &rule.topic);
    doc.raw("qos", rule.qos);
    doc.text("decoder", decoder(rule.decoder));
    if rule.also {
        doc.raw("also", true);
    }
    if !rule.when.is_empty() {
        doc.raw("when", when::shown(&rule.when));
    }
    match rule.device.as_slice() {
        [] => {}
        [device] => doc.text("device", device),
        devices => doc.texts("device", devices),
    }
    doc.text("attribute", &rule.attribute);
    if rule.decoder.is_document() {
        show_document(doc, rule);
    }
    if !rule.types.is_empty() {
        doc.raw("types", types::shown(&rule.types));
    }
    if rule.decoder == Decoder::Availability {
        doc.texts("online", &rule.online);
        doc.texts("offline", &rule.offline);
    }
    if let Some(namespace) = &rule.namespace {
        doc.text("namespace", namespace);
    }
    doc.texts("redact", &rule.redact);
    doc.text("parent", rule.parent.as_deref().unwrap_or_default());
}

fn show_document(doc: &mut Doc, rule: &Rule) {
    doc.text("root", &rule.root);
    if let Some(each) = rule.each {
        doc.text("each", if each == Each::Members { "members" } else { "elements" });
    }
    if let Some(pointer) = &rule.value {
        doc.text("value", pointer);
    }
    match &rule.arrays {
        Arrays::Json => doc.text("arrays", "json"),
        Arrays::Index => doc.text("arrays", "index"),
        Arrays::Field(name) => doc.text("arrays", name),
    }
    doc.text("update", if rule.update == Update::Replace { "replace" } else { "merge" });
    if let Some(time) = &rule.time {
        let (pointer, format) = (quoted(&time.pointer), quoted(time_format(time.format)));
        doc.raw("time", format_args!("{{ pointer = {pointer}, format = {format} }}"));
    }
    doc.texts("only", &rule.only);
    doc.texts("actions", &rule.actions);
    if rule.action_fields == ActionFields::Together {
        doc.text("action_fields", "together");
    }
    doc.texts("ignore", &rule.ignore);
    if !rule.rename.is_empty() {
        let one = |r: &Rename| format!("{{ from = {}, to = {} }}", quoted(&r.from), quoted(&r.to));
        doc.raw("rename", format_args!("[{}]", rule.rename.iter().map(one).collect::<Vec<_>>().join(", ")));
    }
    if let Some(pointer) = &rule.idempotent_by {
        doc.text("idempotent_by", pointer);
    }
}

fn decoder(decoder: Decoder) -> &'static str {
    match decoder {
        Decoder::Json => "json",
        Decoder::Scalar => "scalar",
        Decoder::Availability => "availability",
        Decoder::Action => "action",
        Decoder::Ignore => "ignore",
    }
}

fn time_format(format: TimeFormat) -> &'static str {
    match format {
        TimeFormat::Auto => "auto",
        TimeFormat::Rfc3339 => "rfc3339",
        TimeFormat::UnixS => "unix_s",
        TimeFormat::UnixMs => "unix_ms",
        TimeFormat::Local => "local",
    }
}
