//! Patterns for the names of devices and attributes, in which each `*` matches any text.

/// One pattern, parsed once and matched without allocating.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The text before the first `*`, or the whole pattern.
    head: Box<str>,
    /// The texts between two `*`, and the text after the last one, possibly empty.
    tail: Option<(Vec<Box<str>>, Box<str>)>,
}

/// The text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a pattern; it must not be empty, nor have two `*` side by side")]
pub struct PatternError {
    /// The invalid text.
    pub text: String,
}

impl Pattern {
    /// From its text.
    ///
    /// # Errors
    /// [`PatternError`] if it is empty or contains `**`.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        if text.is_empty() || text.contains("**") {
            return Err(PatternError { text: text.to_owned() });
        }
        let mut parts = text.split('*').map(Box::from);
        let head = parts.next().unwrap_or_default();
        let last = parts.next_back();
        Ok(Pattern { head, tail: last.map(|last| (parts.collect(), last)) })
    }

    /// Whether a name matches. `*` matches any text, including none and `/`.
    pub fn matches(&self, name: &str) -> bool {
        let Some((between, last)) = &self.tail else { return *name == *self.head };
        let Some(mut rest) = name.strip_prefix(&*self.head) else { return false };
        for part in between {
            let Some((_, after)) = rest.split_once(&**part) else { return false };
            rest = after;
        }
        rest.ends_with(&**last)
    }
}

/// Several patterns; a name matches if one of them does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    /// From their texts.
    ///
    /// # Errors
    /// [`PatternError`] for the first invalid pattern.
    pub fn parse(texts: &[impl AsRef<str>]) -> Result<Patterns, PatternError> {
        texts.iter().map(|text| Pattern::parse(text.as_ref())).collect::<Result<_, _>>().map(Patterns)
    }

    /// Whether there are no patterns, so that nothing matches.
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
            (
                "Button*.Action",
                &["Button1.Action", "Button.Action", "Button1.Action.Action"],
                &["Button1.Actio", "Button.Actio"],
            ),
            ("a*b*b", &["abb", "axbyb", "abxb"], &["ab", "abx"]),
            ("a*a", &["aa", "axa"], &["a"]),
            ("Ä*", &["Ä", "Äpfel"], &["ä", "A"]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            matching.iter().for_each(|name| assert!(parsed.matches(name), "{pattern} and {name}"));
            others.iter().for_each(|name| assert!(!parsed.matches(name), "{pattern} and {name}"));
        }
    }

    #[test]
    fn other_texts_are_refused_by_name() {
        for text in ["", "**", "***", "a**", "**a", "a**b"] {
            let error = Pattern::parse(text).unwrap_err().to_string();
            let words =
                format!("{text:?} is not a pattern; it must not be empty, nor have two `*` side by side");
            assert_eq!(error, words);
        }
    }

    #[test]
    fn one_of_several_suffices_and_none_match_nothing() {
        let some = Patterns::parse(&["a*", "*z"]).unwrap();
        assert!(some.matches("ab") && some.matches("xyz") && !some.matches("ba"));
        assert!(!Patterns::default().matches("a") && Patterns::default().is_empty());
        assert_eq!(Patterns::parse(&["a", "**", "b**c"]).unwrap_err().text, "**");
    }
}
