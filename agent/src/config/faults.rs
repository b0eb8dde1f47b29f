//! Faults of a configuration, reported all at once, each with its key.

use std::cell::RefCell;
use std::fmt;

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
            if let Some(origin) = fault.origin.as_ref().filter(|origin| **origin != self.file) {
                write!(f, " (in {origin})")?;
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
        let origin = origin.map(str::to_owned);
        self.0.borrow_mut().push(Fault { key: key.into(), what: what.into(), hint: hint.into(), origin });
    }

    pub fn has_faults(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    pub fn into_faults(self) -> Vec<Fault> {
        self.0.into_inner()
    }
}
