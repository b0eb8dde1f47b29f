//! Topic templates: which topics a rule takes, and the captures from their names.
//!
//! A template is split into levels at `/`. A level is one of
//!
//! | level   | matches                                                                        |
//! |---------|--------------------------------------------------------------------------------|
//! | `+name` | one level that is not empty, captured as `name`                                |
//! | `#name` | one or more levels, captured as `name`; at most one `#` level, at any place     |
//! | `+`     | one level, possibly empty                                                      |
//! | `#`     | one or more levels; in last place, as in MQTT, also the level above it          |
//! | `text`  | itself                                                                         |
//!
//! As in MQTT, a wildcard in first place does not match topics that begin with `$`.

use std::fmt;

mod name;

pub use name::{Name, Part, Pattern};

/// Maximum length of an MQTT topic or filter, in bytes.
const TOPIC_BYTES_MAX: usize = 65_535;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Levels before the `#` level, or all of them.
    head: Vec<Level>,
    /// The `#` level and what follows it.
    tail: Option<Tail>,
    names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Literal(String),
    Any,
    Capture,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tail {
    captures: bool,
    after: Vec<Level>,
}

/// The captures of one topic; reused from topic to topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures<'t> {
    /// In the order of [`Template::captures`].
    values: Vec<&'t str>,
}

impl<'t> Captures<'t> {
    /// The captured texts, in the order of [`Template::captures`].
    pub fn values(&self) -> &[&'t str] {
        &self.values
    }
}

impl Template {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        check_length(text)?;
        let mut template = Template { head: Vec::new(), tail: None, names: Vec::new() };
        for level in text.split('/') {
            template.push(level)?;
        }
        Ok(template)
    }

    fn push(&mut self, text: &str) -> Result<(), TemplateError> {
        if let Some(name) = text.strip_prefix('#') {
            if self.tail.is_some() {
                return Err(TemplateError::SecondHash);
            }
            self.name(name)?;
            self.tail = Some(Tail { captures: !name.is_empty(), after: Vec::new() });
            return Ok(());
        }
        let level = match text.strip_prefix('+') {
            Some("") => Level::Any,
            Some(name) => {
                self.name(name)?;
                Level::Capture
            }
            None if text.contains(['+', '#']) => return Err(TemplateError::Wildcard(text.to_owned())),
            None => Level::Literal(text.to_owned()),
        };
        match &mut self.tail {
            Some(tail) => tail.after.push(level),
            None => self.head.push(level),
        }
        Ok(())
    }

    fn name(&mut self, name: &str) -> Result<(), TemplateError> {
        if name.is_empty() {
            return Ok(());
        }
        if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            return Err(TemplateError::Name(name.to_owned()));
        }
        if self.names.iter().any(|known| known == name) {
            return Err(TemplateError::Twice(name.to_owned()));
        }
        self.names.push(name.to_owned());
        Ok(())
    }

    /// Whether the template matches the topic. `captures` gets the captures; its content is undefined after `false`.
    pub fn matches<'t>(&self, topic: &'t str, captures: &mut Captures<'t>) -> bool {
        captures.values.clear();
        if topic.starts_with('$') && !matches!(self.head.first(), Some(Level::Literal(_))) {
            return false;
        }
        let mut rest = Some(topic);
        for level in &self.head {
            let Some(text) = rest else { return false };
            let (first, left) = split_first(text);
            if !level.matches(first, captures) {
                return false;
            }
            rest = left;
        }
        match &self.tail {
            None => rest.is_none(),
            Some(tail) => tail.matches(rest, captures),
        }
    }

    /// The MQTT filter whose subscription brings every topic that this template can match.
    pub fn filter(&self) -> String {
        let mut levels: Vec<&str> = self.head.iter().map(Level::filter).collect();
        if self.tail.is_some() {
            levels.push("#");
        }
        levels.join("/")
    }

    /// Names of the captures, in the order of the template.
    pub fn captures(&self) -> &[String] {
        &self.names
    }

    /// Compiles text that contains `{name}` against the captures of this template.
    ///
    /// # Errors
    /// [`TemplateError`] for an unmatched brace, an unknown capture, or an invalid JSON pointer.
    pub fn pattern(&self, text: &str) -> Result<Pattern, TemplateError> {
        Pattern::compile(self, text)
    }
}

impl Level {
    fn matches<'t>(&self, text: &'t str, captures: &mut Captures<'t>) -> bool {
        match self {
            Level::Literal(literal) => literal == text,
            Level::Any => true,
            Level::Capture => {
                captures.values.push(text);
                !text.is_empty()
            }
        }
    }

    fn filter(&self) -> &str {
        match self {
            Level::Literal(text) => text,
            Level::Any | Level::Capture => "+",
        }
    }
}

impl Tail {
    /// `rest` is what remains after the head; `None` if the topic ended with it.
    fn matches<'t>(&self, rest: Option<&'t str>, captures: &mut Captures<'t>) -> bool {
        let Some(mut middle) = rest else {
            return !self.captures && self.after.is_empty();
        };
        // From the end, so that `#` takes the rest. Captures must be in the template's order.
        let start = captures.values.len();
        for level in self.after.iter().rev() {
            let Some((left, last)) = middle.rsplit_once('/') else { return false };
            if !level.matches(last, captures) {
                return false;
            }
            middle = left;
        }
        if self.captures {
            captures.values.push(middle);
        }
        if let Some(added) = captures.values.get_mut(start..) {
            added.reverse();
        }
        !self.captures || !middle.is_empty()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = self.names.iter();
        let mut separator = "";
        let mut level = |f: &mut fmt::Formatter<'_>, sign: &str, named: bool| {
            let name = if named { names.next().map_or("", String::as_str) } else { "" };
            write!(f, "{separator}{sign}{name}")?;
            separator = "/";
            Ok(())
        };
        let after = self.tail.iter().flat_map(|tail| &tail.after);
        for part in &self.head {
            level(f, part.filter(), *part == Level::Capture)?;
        }
        if let Some(tail) = &self.tail {
            level(f, "#", tail.captures)?;
        }
        for part in after {
            level(f, part.filter(), *part == Level::Capture)?;
        }
        Ok(())
    }
}

/// Whether an MQTT filter matches a topic name. A wildcard in first place does not match topics that begin with `$`.
pub fn filter_matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topic = Some(topic);
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        let Some(text) = topic else { return false };
        let (first, left) = split_first(text);
        if level != "+" && level != first {
            return false;
        }
        topic = left;
    }
    topic.is_none()
}

/// Whether every topic that `inner` matches is also matched by `outer`; both are filters. A wildcard at the beginning does
/// not match topics that begin with `$` (MQTT 5, 4.7.2).
pub fn filter_covers(outer: &str, inner: &str) -> bool {
    if inner.starts_with('$') && !outer.starts_with('$') {
        return false;
    }
    let (mut outer, mut inner) = (outer.split('/'), inner.split('/'));
    loop {
        match (outer.next(), inner.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(left), Some(right)) if left == right => {}
            _ => return false,
        }
    }
}

/// Checks an MQTT filter as in MQTT 5, 4.7.1.
pub fn check_filter(filter: &str) -> Result<(), TemplateError> {
    check_length(filter)?;
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level == "#" && levels.peek().is_some() {
            return Err(TemplateError::HashNotLast);
        }
        if level.len() > 1 && level.contains(['+', '#']) {
            return Err(TemplateError::Wildcard(level.to_owned()));
        }
    }
    Ok(())
}

/// Checks the name of a topic to publish to.
pub fn check_name(topic: &str) -> Result<(), TemplateError> {
    check_length(topic)?;
    match topic.split('/').find(|level| level.contains(['+', '#'])) {
        Some(level) => Err(TemplateError::Wildcard(level.to_owned())),
        None => Ok(()),
    }
}

fn check_length(text: &str) -> Result<(), TemplateError> {
    match text.len() {
        0 => Err(TemplateError::Empty),
        1..=TOPIC_BYTES_MAX if text.contains('\0') => Err(TemplateError::Nul),
        1..=TOPIC_BYTES_MAX => Ok(()),
        bytes => Err(TemplateError::TooLong(bytes)),
    }
}

/// The first level, and what follows its `/` if there is one.
fn split_first(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (text, None),
    }
}

/// Whether a text is a JSON pointer (RFC 6901).
pub fn is_pointer(text: &str) -> bool {
    let escapes_good = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    (text.is_empty() || text.starts_with('/')) && escapes_good
}

/// Why a template, a pattern or a filter cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// Longer than MQTT allows.
    #[error("it has {0} bytes; MQTT allows 65535")]
    TooLong(usize),
    /// MQTT forbids U+0000.
    #[error("it contains a NUL character")]
    Nul,
    /// `+` or `#` inside a level.
    #[error("level \"{0}\" has a wildcard inside it; `+` and `#` must be a whole level or begin it")]
    Wildcard(String),
    /// More than one `#` level.
    #[error("it has more than one `#` level")]
    SecondHash,
    /// A filter with `#` before its end.
    #[error("`#` must be its last level")]
    HashNotLast,
    /// An invalid capture name.
    #[error("capture name \"{0}\" may have only the characters a-z, 0-9 and _")]
    Name(String),
    /// A duplicate capture.
    #[error("capture \"{0}\" appears twice")]
    Twice(String),
    /// A pattern's braces do not match.
    #[error("\"{0}\" has an unmatched brace")]
    Brace(String),
    /// An invalid JSON pointer in a pattern.
    #[error("{{{0}}} is not a JSON pointer; ~1 stands for / and ~0 for ~ in a name")]
    Pointer(String),
    /// A pattern uses an unknown capture.
    #[error("the topic has no capture \"{name}\"; it has {}", list(known))]
    Unknown {
        /// The name.
        name: String,
        /// The existing captures.
        known: Vec<String>,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests;
