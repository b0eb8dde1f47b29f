//! The host application's own STATE (sections 5.3, 5.13 and 5.14): a birth and a death certificate under one topic.

use fieldlog_projections::Time;
use serde::Deserialize;

use super::NAMESPACE;

/// Topic of a host application's STATE.
pub fn topic(host_id: &str) -> String {
    format!("{NAMESPACE}/STATE/{host_id}")
}

/// A certificate. The birth after a CONNECT has the time of that CONNECT's will.
pub fn certificate(online: bool, at: Time) -> String {
    format!("{{\"online\":{online},\"timestamp\":{}}}", millis(at))
}

/// Whether a payload under our own topic says that we are offline: the death certificate of a former connection.
pub fn says_offline(payload: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Certificate {
        online: bool,
    }
    serde_json::from_slice::<Certificate>(payload).is_ok_and(|certificate| !certificate.online)
}

/// Milliseconds since 1970, the time format of Sparkplug.
pub(super) fn millis(at: Time) -> u64 {
    u64::try_from(at.0 / 1_000).unwrap_or(0)
}
