//! Which events a sink gets.

use fieldlog_projections::stored;

/// What is sent; nothing named means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Devices. An event about no device passes only if none are named.
    pub devices: Vec<Pattern>,
    /// Type ids.
    pub types: Vec<u16>,
}

impl Filter {
    /// From device patterns and type names.
    ///
    /// # Errors
    /// [`FilterError`] names the first that cannot be.
    pub fn new<A: AsRef<str>, B: AsRef<str>>(devices: &[A], types: &[B]) -> Result<Filter, FilterError> {
        let named = |name: &B| {
            let name = name.as_ref();
            stored::type_named(name).ok_or_else(|| FilterError::Type { name: name.to_owned() })
        };
        Ok(Filter {
            devices: devices.iter().map(|text| Pattern::parse(text.as_ref())).collect::<Result<_, _>>()?,
            types: types.iter().map(named).collect::<Result<_, _>>()?,
        })
    }

    /// Whether everything passes.
    pub fn is_all(&self) -> bool {
        self.devices.is_empty() && self.types.is_empty()
    }

    /// Whether events of this type pass, as far as that goes.
    pub fn wants_type(&self, type_id: u16) -> bool {
        self.types.is_empty() || self.types.contains(&type_id)
    }

    /// Whether events about this device pass, as far as that goes.
    pub fn wants_device(&self, name: Option<&str>) -> bool {
        let matches = |name| self.devices.iter().any(|pattern| pattern.matches(name));
        self.devices.is_empty() || name.is_some_and(matches)
    }
}

/// A device name, with `*` for anything at its start, its end, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    open_start: bool,
    open_end: bool,
}

impl Pattern {
    /// From its text.
    ///
    /// # Errors
    /// [`FilterError::Pattern`] if it is empty or has a `*` elsewhere.
    pub fn parse(pattern: &str) -> Result<Pattern, FilterError> {
        let fault = || FilterError::Pattern { pattern: pattern.to_owned() };
        if pattern == "*" {
            return Ok(Pattern { text: "".into(), open_start: true, open_end: true });
        }
        let text = pattern.strip_prefix('*');
        let open_start = text.is_some();
        let text = text.unwrap_or(pattern);
        let (text, open_end) = text.strip_suffix('*').map_or((text, false), |text| (text, true));
        if text.is_empty() || text.contains('*') {
            return Err(fault());
        }
        Ok(Pattern { text: text.into(), open_start, open_end })
    }

    /// Whether a name is one of those meant.
    pub fn matches(&self, name: &str) -> bool {
        match (self.open_start, self.open_end) {
            (false, false) => *name == *self.text,
            (false, true) => name.starts_with(&*self.text),
            (true, false) => name.ends_with(&*self.text),
            (true, true) => name.contains(&*self.text),
        }
    }
}

/// What is wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not a device pattern.
    #[error(
        "`{pattern}` is no device pattern; write a device's name, with `*` at its start or end for anything"
    )]
    Pattern {
        /// What was written.
        pattern: String,
    },
    /// Not a type.
    #[error("there is no event type `{name}`; `fieldlog` knows {}", type_names())]
    Type {
        /// What was written.
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
    fn stars_stand_for_anything() {
        let check = |pattern: &str, name: &str, matches: bool| {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(name), matches, "{pattern} {name}");
        };
        check("z2m/lamp", "z2m/lamp", true);
        check("z2m/lamp", "z2m/lamp2", false);
        check("z2m/*", "z2m/lamp", true);
        check("z2m/*", "x/z2m/lamp", false);
        check("*lamp", "z2m/lamp", true);
        check("*lamp", "z2m/lamp2", false);
        check("*lamp*", "z2m/lamp2", true);
        check("*", "", true);
    }

    #[test]
    fn faults_name_what_was_written() {
        for pattern in ["", "a*b", "**", "***"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
        let error = Filter::new(&["a"], &["state_change"]).unwrap_err().to_string();
        assert!(error.contains("`state_change`") && error.contains("state_changed"), "{error}");
        let filter = Filter::new(&["a*"], &["booted"]).unwrap();
        assert!(!filter.wants_device(None) && !filter.is_all());
        assert!(Filter::default().wants_device(None));
    }
}
