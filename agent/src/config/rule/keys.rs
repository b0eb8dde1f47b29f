//! The keys of a rule, and which decoders read each.

use super::super::raw::Table;
use super::Decoder;

/// The decoders that read a key.
#[derive(Clone, Copy)]
enum Readers {
    All,
    Documents,
    DocumentsAndScalar,
    DocumentsAndAvailability,
    Availability,
    /// All that take something of a message.
    Recording,
    /// All that make devices.
    Naming,
}

/// All keys of a rule but `namespace`, which a preset's subscription may have, too.
const KEYS: [(&str, Readers); 26] = [
    ("topic", Readers::All),
    ("qos", Readers::All),
    ("decoder", Readers::All),
    ("when", Readers::All),
    ("redact", Readers::All),
    ("keep_alive", Readers::All),
    ("parent", Readers::All),
    ("root", Readers::Documents),
    ("each", Readers::Documents),
    ("value", Readers::DocumentsAndAvailability),
    ("arrays", Readers::Documents),
    ("update", Readers::Documents),
    ("time", Readers::Documents),
    ("only", Readers::Documents),
    ("actions", Readers::Documents),
    ("action_fields", Readers::Documents),
    ("ignore", Readers::Documents),
    ("rename", Readers::Documents),
    ("idempotent_by", Readers::Documents),
    ("order_by", Readers::Documents),
    ("types", Readers::DocumentsAndScalar),
    ("online", Readers::Availability),
    ("offline", Readers::Availability),
    ("also", Readers::Recording),
    ("device", Readers::Naming),
    ("attribute", Readers::Naming),
];

impl Readers {
    fn include(self, decoder: Decoder) -> bool {
        match self {
            Readers::All => true,
            Readers::Documents => decoder.is_document(),
            Readers::DocumentsAndScalar => decoder.is_document() || decoder == Decoder::Scalar,
            Readers::DocumentsAndAvailability => decoder.is_document() || decoder == Decoder::Availability,
            Readers::Availability => decoder == Decoder::Availability,
            Readers::Recording => decoder != Decoder::Ignore,
            Readers::Naming => !matches!(decoder, Decoder::Announcement(_)),
        }
    }

    /// Why another decoder does not read it, and what to do.
    fn fault(self) -> (&'static str, &'static str) {
        let change = "remove it, or change the decoder";
        match self {
            Readers::All => ("", ""),
            Readers::Documents | Readers::DocumentsAndAvailability => {
                ("only decoders of documents, such as \"json\", read it", change)
            }
            Readers::DocumentsAndScalar => {
                ("only decoders of documents, such as \"json\", and the decoder \"scalar\" read it", change)
            }
            Readers::Availability => ("only the decoder \"availability\" reads it", change),
            Readers::Recording => ("a rule that ignores a message takes nothing of it", change),
            Readers::Naming => (
                "an announcement is about the devices that the other subscriptions make of their topics",
                "remove it",
            ),
        }
    }
}

/// All keys of a rule; a preset's subscription must not have them.
pub(in super::super) fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.into_iter().map(|(key, _)| key)
}

/// Whether a decoder reads a key.
pub(super) fn reads(decoder: Decoder, key: &str) -> bool {
    KEYS.into_iter().find(|(known, _)| *known == key).is_none_or(|(_, readers)| readers.include(decoder))
}

/// Notes the keys that the decoder does not read.
pub(super) fn check(table: &Table<'_>, decoder: Decoder) {
    for (key, readers) in KEYS.into_iter().filter(|(key, _)| table.has(key)) {
        if !readers.include(decoder) {
            let (what, hint) = readers.fault();
            table.fault(key, what, hint);
        }
    }
}
