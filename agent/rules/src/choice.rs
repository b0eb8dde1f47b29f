//! Settings that are one of a few words: each word, and what it stands for, is written once.

use fieldlog_projections::command::OnOffline;
use fieldlog_projections::description::DataType;

/// A setting that is one of a few words.
pub trait Choice: Copy + PartialEq + 'static {
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
#[macro_export]
macro_rules! choice {
    ($type:ident { $($word:literal => $value:expr),+ $(,)? }) => {
        impl $crate::choice::Choice for $type {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $value)),+];
        }

        impl $crate::choice::serde::Serialize for $type {
            fn serialize<S: $crate::choice::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str($crate::choice::Choice::word(*self))
            }
        }
    };
}

#[doc(hidden)]
pub use serde;

impl Choice for DataType {
    const WORDS: &'static [(&'static str, DataType)] = &[
        (DataType::Text.word(), DataType::Text),
        (DataType::Number.word(), DataType::Number),
        (DataType::Integer.word(), DataType::Integer),
        (DataType::Boolean.word(), DataType::Boolean),
        (DataType::Enum.word(), DataType::Enum),
        (DataType::Json.word(), DataType::Json),
    ];
}

impl Choice for OnOffline {
    const WORDS: &'static [(&'static str, OnOffline)] = &[
        (OnOffline::Reject.word(), OnOffline::Reject),
        (OnOffline::Hold.word(), OnOffline::Hold),
        (OnOffline::LatestWins.word(), OnOffline::LatestWins),
    ];
}
