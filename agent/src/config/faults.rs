//! Faults of a configuration, reported all at once, each with its key.

use std::cell::RefCell;
use std::fmt;

use super::lines;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: `log.commit_delay_ms`, or `source[0] "home" receive_window`.
    pub key: String,
    /// What is wrong. Never contains a secret.
    pub what: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// The file, or `the environment`; `None` if the key is absent.
    pub origin: Option<String>,
    /// The line in that file; of the block, if the key is absent from it. `None` if unknown.
    pub line: Option<usize>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)?;
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

/// All faults; never empty when returned as an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// In the order of the keys in the documentation.
    pub faults: Vec<Fault>,
    /// The main configuration file.
    pub file: String,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.faults.len() == 1 { "" } else { "s" };
        write!(f, "{}: {} fault{plural} in the configuration", self.file, self.faults.len())?;
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
            // The main file is not named.
            match (fault.origin.as_ref().filter(|origin| **origin != self.file), fault.line) {
                (Some(origin), Some(line)) => write!(f, " (in {origin}, line {line})")?,
                (Some(origin), None) => write!(f, " (in {origin})")?,
                (None, Some(line)) => write!(f, " (line {line})")?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Collects faults from all readers of one configuration.
#[derive(Debug, Default)]
pub(super) struct Collector(RefCell<Vec<Fault>>);

impl Collector {
    pub fn add(
        &self,
        key: impl Into<String>,
        origin: Option<&str>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (file, line) = origin.map(lines::place).unzip();
        self.0.borrow_mut().push(Fault {
            key: key.into(),
            what: what.into(),
            hint: hint.into(),
            origin: file.map(str::to_owned),
            line: line.flatten(),
        });
    }

    pub fn has_faults(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    pub fn into_faults(self) -> Vec<Fault> {
        self.0.into_inner()
    }
}
