//! Settings that are one of a few words: each word, and what it stands for, is written once.

/// A setting that is one of a few words.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// The words, in the order in which they are offered.
    const WORDS: &'static [(&'static str, Self)];

    /// The word of a setting.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map(|(word, _)| *word).unwrap_or_default()
    }

    /// All words.
    fn words() -> Vec<&'static str> {
        Self::WORDS.iter().map(|(word, _)| *word).collect()
    }
}

/// Gives a type its words, which it is also written with.
macro_rules! choice {
    ($type:ident { $($word:literal => $value:expr),+ $(,)? }) => {
        impl $crate::config::choice::Choice for $type {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $value)),+];
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str($crate::config::choice::Choice::word(*self))
            }
        }
    };
}

pub(super) use choice;
