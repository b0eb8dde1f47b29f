//! Patterns for the names of devices and attributes: a name, with `*` at its start, its end, or both for any text.

/// One pattern, parsed once and matched without allocating.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    open_start: bool,
    open_end: bool,
}

/// The text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a pattern; `*` may stand only at the start or the end")]
pub struct PatternError {
    /// What was written.
    pub text: String,
}

impl Pattern {
    /// From its text.
    ///
    /// # Errors
    /// [`PatternError`] if it is empty, has a `*` elsewhere, or is `**`.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        let (head, open_end) = text.strip_suffix('*').map_or((text, false), |head| (head, true));
        let (inner, open_start) = head.strip_prefix('*').map_or((head, false), |inner| (inner, true));
        if inner.contains('*') || (inner.is_empty() && text != "*") {
            return Err(PatternError { text: text.to_owned() });
        }
        Ok(Pattern { text: inner.into(), open_start, open_end })
    }

    /// Whether text before the rest matches, too: there is a `*` at the start, other than a single one.
    pub fn is_open_at_start(&self) -> bool {
        self.open_start
    }

    /// Whether a name matches. `*` stands for any text, none and `/` included.
    pub fn matches(&self, name: &str) -> bool {
        match (self.open_start, self.open_end) {
            (false, false) => *name == *self.text,
            (false, true) => name.starts_with(&*self.text),
            (true, false) => name.ends_with(&*self.text),
            (true, true) => name.contains(&*self.text),
        }
    }
}

/// Several patterns; a name matches if one of them does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    /// From their texts.
    ///
    /// # Errors
    /// [`PatternError`] for the first that is not a pattern.
    pub fn parse(texts: &[impl AsRef<str>]) -> Result<Patterns, PatternError> {
        texts.iter().map(|text| Pattern::parse(text.as_ref())).collect::<Result<_, _>>().map(Patterns)
    }

    /// Whether there are none: nothing matches.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them matches.
    pub fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, matching, others) in [
            ("z2m/lamp", &["z2m/lamp"][..], &["z2m/lamp2", "x/z2m/lamp", "", "z2m/LAMP"][..]),
            ("z2m/*", &["z2m/", "z2m/lamp", "z2m/a/b", "z2m/*"], &["x/z2m/lamp", "z2m"]),
            ("*lamp", &["lamp", "z2m/lamp", "a/b/lamp"], &["z2m/lamp2", "amp"]),
            ("*lamp*", &["lamp", "z2m/lamp2", "lamp/x"], &["lam/p", ""]),
            ("*", &["", "a", "a/b", "*"], &[]),
            ("Ä*", &["Ä", "Äpfel"], &["ä", "A"]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            matching.iter().for_each(|name| assert!(parsed.matches(name), "{pattern} and {name}"));
            others.iter().for_each(|name| assert!(!parsed.matches(name), "{pattern} and {name}"));
        }
    }

    #[test]
    fn other_texts_are_refused_by_name() {
        for text in ["", "**", "***", "a*b", "a**", "**a", "*a*b*"] {
            let error = Pattern::parse(text).unwrap_err().to_string();
            let words = format!("{text:?} is not a pattern; `*` may stand only at the start or the end");
            assert_eq!(error, words);
        }
    }

    #[test]
    fn only_a_star_before_a_text_opens_the_start() {
        let open = |text| Pattern::parse(text).unwrap().is_open_at_start();
        assert!(open("*a") && open("*a*"));
        assert!(!open("a*") && !open("a") && !open("*"));
    }

    #[test]
    fn one_of_several_suffices_and_none_match_nothing() {
        let some = Patterns::parse(&["a*", "*z"]).unwrap();
        assert!(some.matches("ab") && some.matches("xyz") && !some.matches("ba"));
        assert!(!Patterns::default().matches("a") && Patterns::default().is_empty());
        assert_eq!(Patterns::parse(&["a", "**", "b*c"]).unwrap_err().text, "**");
    }
}
