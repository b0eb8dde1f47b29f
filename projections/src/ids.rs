//! Identifiers. A position is always called [`Seq`].

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub struct $name(pub $inner);
    };
}

id!(
    /// Position of a record in the log: 1 for the first record of an epoch, then without gaps. 0 means "before the first".
    Seq(u64)
);
id!(
    /// One incarnation of a log. A position is meaningful only together with its epoch.
    Epoch(u64)
);
id!(
    /// A device's number in this log, assigned by its `DeviceDiscovered` record; dense from 0.
    DeviceId(u32)
);
id!(
    /// An attribute name's number in this log, assigned by its `AttributeNamed` record; dense from 0.
    AttrId(u32)
);
id!(
    /// A point in time: microseconds since 1970-01-01T00:00:00Z.
    Time(i64)
);

impl Seq {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Time {
    /// From whole seconds since 1970.
    pub const fn from_secs(secs: i64) -> Time {
        Time(secs * 1_000_000)
    }

    /// Microseconds since `earlier`; 0 if `earlier` is later.
    pub fn micros_since(self, earlier: Time) -> i64 {
        self.0.saturating_sub(earlier.0).max(0)
    }
}
