//! Names of devices and attributes: text with parts from the topic and from the document.

use std::fmt;

use super::{Captures, Template, TemplateError, is_pointer};

/// Text with captures, such as `{component}/{name}`, compiled against one [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Capture(usize),
    Part(Part),
}

/// A name for one topic: parts from the topic are filled in, parts from the document are still to be resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    parts: Vec<Part>,
}

/// A part of a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Fixed text.
    Text(String),
    /// The value at this JSON pointer (RFC 6901) in the document.
    Pointer(String),
    /// The key of the document within its parent.
    Key,
}

impl Pattern {
    /// `{key}` is the member's key, unless the template has a capture of that name.
    pub(super) fn compile(template: &Template, text: &str) -> Result<Pattern, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (literal, braced) = rest.split_at(at);
            let unbalanced = || TemplateError::Brace(text.to_owned());
            let (name, after) =
                braced.strip_prefix('{').and_then(|inner| inner.split_once('}')).ok_or_else(unbalanced)?;
            if !literal.is_empty() {
                parts.push(Piece::Part(Part::Text(literal.to_owned())));
            }
            parts.push(piece(template, name)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Piece::Part(Part::Text(rest.to_owned())));
        }
        Ok(Pattern { parts })
    }

    /// Inserts the captures. They must be from the template that the pattern was compiled against.
    pub fn expand(&self, captures: &Captures<'_>) -> Name {
        let mut name = Name::default();
        for piece in &self.parts {
            match piece {
                &Piece::Capture(index) => name.push(captures.values.get(index).copied().unwrap_or_default()),
                Piece::Part(Part::Text(text)) => name.push(text),
                Piece::Part(part) => name.parts.push(part.clone()),
            }
        }
        name
    }

    /// Whether it expands to nothing.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether part of it comes from the document.
    pub fn needs_document(&self) -> bool {
        self.parts.iter().any(|piece| matches!(piece, Piece::Part(Part::Pointer(_) | Part::Key)))
    }

    /// Whether part of it is the key of a member.
    pub fn needs_key(&self) -> bool {
        self.parts.contains(&Piece::Part(Part::Key))
    }
}

fn piece(template: &Template, name: &str) -> Result<Piece, TemplateError> {
    if name.starts_with('/') {
        let pointer = is_pointer(name).then(|| Part::Pointer(name.to_owned()));
        return pointer.map(Piece::Part).ok_or_else(|| TemplateError::Pointer(name.to_owned()));
    }
    match template.captures().iter().position(|known| known == name) {
        Some(index) => Ok(Piece::Capture(index)),
        None if name == "key" => Ok(Piece::Part(Part::Key)),
        None => Err(TemplateError::Unknown { name: name.to_owned(), known: template.captures().to_vec() }),
    }
}

impl Name {
    /// A name of fixed text.
    pub fn text(text: &str) -> Name {
        let mut name = Name::default();
        name.push(text);
        name
    }

    fn push(&mut self, text: &str) {
        match self.parts.last_mut() {
            Some(Part::Text(before)) => before.push_str(text),
            _ if text.is_empty() => {}
            _ => self.parts.push(Part::Text(text.to_owned())),
        }
    }

    /// The whole name, if no part of it comes from the document.
    pub fn fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Its parts, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Bytes of its texts and pointers.
    pub fn bytes(&self) -> usize {
        let bytes = |part: &Part| match part {
            Part::Text(text) | Part::Pointer(text) => size_of::<Part>() + text.len(),
            Part::Key => size_of::<Part>(),
        };
        self.parts.iter().map(bytes).sum()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Pointer(pointer) => write!(f, "{{{pointer}}}"),
            Part::Key => f.write_str("{key}"),
        })
    }
}
