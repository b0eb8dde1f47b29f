//! Asking a gateway to send again what its receiver does not have.

use fieldlog_projections::{Epoch, Seq};
use serde::{Deserialize, Serialize};

use crate::manifest::Manifest;

/// What stands in place of the device in the subject of such a request over NATS.
pub const SUBJECT: &str = "$resend";
/// The field, beside those of its manifest, of a parcel that answers a request: the position from which it was asked for. If
/// the parcel begins later, the gateway has no record before it any more.
pub const FIELD: &str = "resend";
/// Content type of a [`Request`] over HTTP.
pub const CONTENT_TYPE: &str = "application/vnd.fieldlog.resend+json";
/// Ranges in one request; a gateway ignores further ones.
pub const RANGES_MAX: usize = 16;

/// What a receiver asks for: over HTTP in its answer 200 to a parcel, over NATS as a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Request {
    /// What is wanted.
    pub resend: Resend,
}

/// What is to be sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Resend {
    /// The gateway.
    pub gateway: String,
    /// The epoch of its log, in 16 hexadecimal digits.
    pub epoch: String,
    /// Ranges of positions, inclusive, up to [`RANGES_MAX`].
    pub ranges: Vec<(Seq, Seq)>,
}

/// The gateway's answer to a request over NATS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it sends what it has of the ranges.
    #[serde(default)]
    pub accepted: bool,
    /// Why not; absent if it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Resend {
    /// The ranges.
    ///
    /// # Errors
    /// Why they cannot be sent by this gateway from this log.
    pub fn ranges_of(&self, gateway: &str, epoch: Epoch) -> Result<&[(Seq, Seq)], String> {
        if self.gateway != gateway {
            return Err(format!("it asks `{}`, and this gateway is `{gateway}`", self.gateway));
        }
        if self.epoch != epoch.to_string() {
            return Err(format!("it asks for epoch {}, and the log of this gateway is {epoch}", self.epoch));
        }
        let ranges = &self.ranges[..self.ranges.len().min(RANGES_MAX)];
        match ranges.iter().find(|(first, last)| first.0 == 0 || last < first || last.0 == u64::MAX) {
            Some((first, last)) => Err(format!("{first} to {last} is no range of positions")),
            None => Ok(ranges),
        }
    }
}

/// The positions that the gateway has no records of any more, as a parcel with this [`FIELD`] says.
pub fn lost(manifest: &Manifest, field: Option<&str>) -> Option<(Seq, Seq)> {
    let asked: u64 = field?.parse().ok()?;
    (1..manifest.first.0).contains(&asked).then(|| (Seq(asked), Seq(manifest.first.0 - 1)))
}

#[cfg(test)]
mod tests {
    use fieldlog_projections::ChainHash;

    use super::*;
    use crate::manifest::Lane;

    fn resend(first: u64, last: u64) -> Resend {
        Resend {
            gateway: "plant-7".into(),
            epoch: "00000000000000aa".into(),
            ranges: vec![(Seq(3), Seq(4)), (Seq(first), Seq(last))],
        }
    }

    #[test]
    fn only_ranges_of_this_log_are_sent() {
        let (json, request) = (
            r#"{"resend":{"gateway":"plant-7","epoch":"00000000000000aa","ranges":[[3,4],[7,7]]}}"#,
            Request { resend: resend(7, 7) },
        );
        assert_eq!(serde_json::to_string(&request).unwrap(), json);
        assert_eq!(serde_json::from_str::<Request>(json).unwrap(), request);
        let ranges = |resend: &Resend, gateway: &str, epoch| {
            resend.ranges_of(gateway, Epoch(epoch)).map(<[(Seq, Seq)]>::to_vec)
        };
        assert_eq!(ranges(&resend(7, 7), "plant-7", 0xaa), Ok(vec![(Seq(3), Seq(4)), (Seq(7), Seq(7))]));
        let refused = |resend: &Resend, gateway: &str, epoch, words: &str| {
            let said = ranges(resend, gateway, epoch).unwrap_err();
            assert!(said.contains(words), "{said}");
        };
        refused(&resend(7, 7), "plant-8", 0xaa, "asks `plant-7`, and this gateway is `plant-8`");
        refused(&resend(7, 7), "plant-7", 0xab, "the log of this gateway is 00000000000000ab");
        refused(&resend(0, 7), "plant-7", 0xaa, "0 to 7 is no range");
        refused(&resend(7, 6), "plant-7", 0xaa, "7 to 6 is no range");
        refused(&resend(7, u64::MAX), "plant-7", 0xaa, "is no range");
        let many = Resend { ranges: vec![(Seq(1), Seq(1)); RANGES_MAX + 1], ..resend(1, 1) };
        assert_eq!(ranges(&many, "plant-7", 0xaa).unwrap().len(), RANGES_MAX);
    }

    #[test]
    fn a_parcel_that_begins_late_says_what_is_lost() {
        let manifest = Manifest {
            gateway: "plant-7".into(),
            epoch: Epoch(0xaa),
            first: Seq(11),
            last: Seq(20),
            lane: Lane::Backlog,
            before: ChainHash([1; 32]),
            after: ChainHash([2; 32]),
            head: Seq(99),
            events: 4,
        };
        assert_eq!(lost(&manifest, Some("3")), Some((Seq(3), Seq(10))));
        for nothing in [None, Some("0"), Some("11"), Some("12"), Some("x")] {
            assert_eq!(lost(&manifest, nothing), None, "{nothing:?}");
        }
    }
}
