//! Events as lines of text.

use std::collections::BTreeMap;
use std::io::{self, Write};

use fieldlog_wire::api::events::Event;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The form of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// The JSON of one event on each line.
    Ndjson,
    /// Comma-separated values (RFC 4180), with a head.
    Csv,
}

/// The columns of CSV. The first eight are those of the event.
const HEAD: &str = "id,seq,type,time,wall_time,device_time,cause,device,attribute,value,data";

/// Where the events go.
pub(super) struct Output<W> {
    format: Format,
    out: W,
    begun: bool,
}

/// The parts of an event's content that have columns of their own, as they are written.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    changes: Option<BTreeMap<String, &'a RawValue>>,
    #[serde(borrow)]
    attribute: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

impl<W: Write> Output<W> {
    pub(super) fn new(format: Format, out: W) -> Output<W> {
        Output { format, out, begun: false }
    }

    /// Writes an event.
    pub(super) fn put(&mut self, json: &str) -> io::Result<()> {
        self.begin()?;
        match self.format {
            Format::Ndjson => writeln!(self.out, "{json}"),
            Format::Csv => self.rows(json),
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.begin()?;
        self.out.flush()
    }

    /// The head, also where there are no events.
    fn begin(&mut self) -> io::Result<()> {
        match (self.format, std::mem::replace(&mut self.begun, true)) {
            (Format::Csv, false) => write!(self.out, "{HEAD}\r\n"),
            _ => Ok(()),
        }
    }

    fn rows(&mut self, json: &str) -> io::Result<()> {
        let event: Event<'_, &RawValue> = serde_json::from_str(json)?;
        let text = |part: Option<&dyn std::fmt::Display>| part.map(ToString::to_string).unwrap_or_default();
        let time = |time: &Option<fieldlog_wire::json::Rfc3339>| text(time.as_ref().map(|time| time as _));
        let head = [
            event.id.to_string(),
            event.seq.to_string(),
            event.kind.to_string(),
            event.time.to_string(),
            time(&event.wall_time),
            time(&event.device_time),
            text(event.cause.as_ref().map(|cause| cause as _)),
            event.device.map(String::from).unwrap_or_default(),
        ];
        // The content of other types has other forms, some of them without these parts.
        let parts = serde_json::from_str::<Parts<'_>>(event.data.get());
        match parts {
            Ok(Parts { changes: Some(changes), .. }) => changes
                .iter()
                .try_for_each(|(attribute, value)| self.row(&head, [attribute, &plain(value), ""])),
            Ok(Parts { attribute: Some(attribute), value: Some(value), .. }) => {
                self.row(&head, [&plain(attribute), &plain(value), ""])
            }
            _ => self.row(&head, ["", "", event.data.get()]),
        }
    }

    fn row(&mut self, head: &[String], rest: [&str; 3]) -> io::Result<()> {
        let mut cells = head.iter().map(String::as_str).chain(rest);
        cells.next().map_or(Ok(()), |first| self.cell(first))?;
        for cell in cells {
            self.out.write_all(b",")?;
            self.cell(cell)?;
        }
        self.out.write_all(b"\r\n")
    }

    fn cell(&mut self, text: &str) -> io::Result<()> {
        match text.contains(['"', ',', '\r', '\n']) {
            true => write!(self.out, "\"{}\"", text.replace('"', "\"\"")),
            false => self.out.write_all(text.as_bytes()),
        }
    }
}

/// A value as the text of a cell: a string without its quotes, nothing for null, anything else as its JSON.
fn plain(value: &RawValue) -> String {
    match serde_json::from_str::<Option<String>>(value.get()) {
        Ok(text) => text.unwrap_or_default(),
        Err(_) => value.get().to_owned(),
    }
}
