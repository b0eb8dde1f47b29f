//! A rule as TOML.

use super::super::show::{Doc, quoted};
use super::read::DECODERS;
use super::{Decoder, Rule, TimeFormat, Update};

pub(in super::super) fn show(doc: &mut Doc, rule: &Rule) {
    doc.header("[[source.subscription]]");
    doc.text("topic", &rule.topic);
    doc.raw("qos", rule.qos);
    doc.text("decoder", decoder(rule.decoder));
    if !matches!(rule.decoder, Decoder::Announcement(_)) {
        doc.text("device", &rule.device);
        doc.text("attribute", &rule.attribute);
    }
    match rule.decoder {
        Decoder::Json => show_json(doc, rule),
        Decoder::Availability => {
            doc.texts("online", &rule.online);
            doc.texts("offline", &rule.offline);
        }
        Decoder::Scalar | Decoder::Action | Decoder::Ignore | Decoder::Announcement(_) => {}
    }
    if let Some(namespace) = &rule.namespace {
        doc.text("namespace", namespace);
    }
    doc.texts("redact", &rule.redact);
    doc.text("parent", rule.parent.as_deref().unwrap_or_default());
}

fn show_json(doc: &mut Doc, rule: &Rule) {
    doc.text("root", &rule.root);
    if let Some(when) = &rule.when {
        let (pointer, equals) = (quoted(&when.pointer), quoted(&when.equals));
        doc.raw("when", format_args!("{{ pointer = {pointer}, equals = {equals} }}"));
    }
    doc.text("update", if rule.update == Update::Replace { "replace" } else { "merge" });
    if let Some(time) = &rule.time {
        let (pointer, format) = (quoted(&time.pointer), quoted(time_format(time.format)));
        doc.raw("time", format_args!("{{ pointer = {pointer}, format = {format} }}"));
    }
    doc.texts("actions", &rule.actions);
    doc.texts("ignore", &rule.ignore);
    if let Some(pointer) = &rule.idempotent_by {
        doc.text("idempotent_by", pointer);
    }
}

fn decoder(decoder: Decoder) -> &'static str {
    DECODERS.iter().find(|(_, known)| *known == decoder).map_or("", |(word, _)| word)
}

fn time_format(format: TimeFormat) -> &'static str {
    match format {
        TimeFormat::Rfc3339 => "rfc3339",
        TimeFormat::UnixS => "unix_s",
        TimeFormat::UnixMs => "unix_ms",
        TimeFormat::Local => "local",
    }
}
