//! Which events a sink gets.

use fieldlog_projections::stored;

use fieldlog_projections::pattern::{PatternError, Patterns};

/// The events to send; all if nothing is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Devices. An event about no device passes only if none are named.
    pub devices: Patterns,
    /// Type ids.
    pub types: Vec<u16>,
}

impl Filter {
    /// From device patterns and type names.
    ///
    /// # Errors
    /// [`FilterError`] names the first invalid entry.
    pub fn new<A: AsRef<str>, B: AsRef<str>>(devices: &[A], types: &[B]) -> Result<Filter, FilterError> {
        let named = |name: &B| {
            let name = name.as_ref();
            stored::type_named(name).ok_or_else(|| FilterError::Type { name: name.to_owned() })
        };
        Ok(Filter {
            devices: Patterns::parse(devices)?,
            types: types.iter().map(named).collect::<Result<_, _>>()?,
        })
    }

    /// Whether all events pass.
    pub fn is_all(&self) -> bool {
        self.devices.is_empty() && self.types.is_empty()
    }

    /// Whether events of this type pass the type filter.
    pub fn wants_type(&self, type_id: u16) -> bool {
        self.types.is_empty() || self.types.contains(&type_id)
    }

    /// Whether events about this device pass the device filter.
    pub fn wants_device(&self, name: Option<&str>) -> bool {
        self.devices.is_empty() || name.is_some_and(|name| self.devices.matches(name))
    }
}

/// Why a filter is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not a valid device pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// An unknown type.
    #[error("there is no event type `{name}`; `fieldlog` knows {}", type_names())]
    Type {
        /// The invalid text.
        name: String,
    },
}

fn type_names() -> String {
    let mut names: Vec<&str> = stored::KINDS.iter().map(|(_, _, name)| *name).collect();
    names.dedup();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_what_was_written() {
        let none: &[&str] = &[];
        let error = Filter::new(&["a", "b**c"], none).unwrap_err().to_string();
        assert!(error.starts_with("\"b**c\" is not a pattern"), "{error}");
        let error = Filter::new(&["a"], &["state_change"]).unwrap_err().to_string();
        assert!(error.contains("`state_change`") && error.contains("state_changed"), "{error}");
        let filter = Filter::new(&["a*"], &["booted"]).unwrap();
        assert!(!filter.wants_device(None) && !filter.is_all());
        assert!(Filter::default().wants_device(None));
    }
}
