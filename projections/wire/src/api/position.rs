//! The position of the view, which every answer has.

use fieldlog_projections::{Epoch, Seq};
use serde::{Deserialize, Serialize};

/// A position of the view and of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Position {
    /// The epoch of the log, as 16 hexadecimal digits. Positions of different epochs cannot be compared.
    #[serde(with = "epoch")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub epoch: Epoch,
    /// The last record that the answer includes; 0 for none.
    pub applied: Seq,
    /// The last durable record, at least `applied`.
    pub head: Seq,
    /// `head` minus `applied`.
    pub lag: u64,
}

impl Position {
    /// The position of a view with the records up to `applied`, of a log with those up to `head`.
    pub fn new(epoch: Epoch, applied: Seq, head: Seq) -> Position {
        Position { epoch, applied, head, lag: head.0.saturating_sub(applied.0) }
    }
}

mod epoch {
    use std::borrow::Cow;

    use fieldlog_projections::Epoch;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(epoch: &Epoch, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(epoch)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Epoch, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        super::parse_epoch(&text).ok_or_else(|| D::Error::custom("an epoch is 16 hexadecimal digits"))
    }
}

/// Reads an epoch: 16 hexadecimal digits.
pub fn parse_epoch(text: &str) -> Option<Epoch> {
    let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| u64::from_str_radix(text, 16).ok().map(Epoch))?
}
