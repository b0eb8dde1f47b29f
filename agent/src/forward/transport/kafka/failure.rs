//! Kafka errors in words that an operator can act on.

use rskafka::client::error::{Error, ProtocolError};

use crate::forward::{Outcome, Pace, SLOW, Unreachable};
use crate::net::failure::causes;

/// Why there is no connection.
pub(super) fn connect(name: &str, error: &Error) -> Unreachable {
    let said = causes(error);
    let (hint, pace) = hint(&said);
    Unreachable { why: format!("{name}: cannot connect: {hint} ({said})"), pace }
}

/// What to do, derived from the client's message: its errors cannot be distinguished otherwise.
fn hint(said: &str) -> (&'static str, Pace) {
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&["sasl", "Sasl", "SASL"]) {
        return ("check `username`, `password_file` and `sasl`", Pace::Slow);
    }
    if says(&["certificate"]) {
        let hint =
            "check `ca_file`, and that the brokers' certificates are for the hosts that the cluster names";
        return (hint, Pace::Slow);
    }
    let hint = "check `address`, that the brokers run, that the firewall allows the connection, and whether they want TLS \
                (kafkas://) or a user name";
    (hint, Pace::Soon)
}

/// The outcome for the records of one partition.
pub(super) fn produce(name: &str, topic: &str, error: &Error) -> Outcome {
    let Error::ServerError { protocol_error, .. } = error else {
        return Outcome::Lost { why: format!("{name}: {}", causes(error)) };
    };
    // The full error repeats the request.
    let why = format!("{name}: topic `{topic}`: {protocol_error}");
    match protocol_error {
        ProtocolError::MessageTooLarge | ProtocolError::RecordListTooLarge => Outcome::TooLarge { why },
        ProtocolError::InvalidRecord | ProtocolError::InvalidTimestamp => Outcome::Refused { why },
        ProtocolError::TopicAuthorizationFailed | ProtocolError::ClusterAuthorizationFailed => {
            Outcome::Busy { after: Some(SLOW), why: format!("{why}; allow this user to write to it") }
        }
        ProtocolError::UnknownTopicOrPartition | ProtocolError::NotLeaderOrFollower => {
            // A new connection learns the current leaders.
            Outcome::Lost { why }
        }
        _ => Outcome::Busy { after: None, why },
    }
}

/// The outcome of a parcel whose parts differ: a loss takes precedence, and a deferred parcel is not divided.
pub(super) fn worse(one: Outcome, other: Outcome) -> Outcome {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Acked => 0,
        Outcome::Refused { .. } => 1,
        Outcome::TooLarge { .. } => 2,
        Outcome::Busy { .. } => 3,
        Outcome::Forked { .. } => 4,
        Outcome::Lost { .. } => 5,
    };
    if rank(&other) > rank(&one) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_names_keys_that_are_there() {
        for (said, keys, pace) in [
            (
                "Sasl handshake failed: API error: SaslAuthenticationFailed",
                "`username`, `password_file` and `sasl`",
                Pace::Slow,
            ),
            ("unsupported sasl mechanism", "`sasl`", Pace::Slow),
            ("invalid peer certificate: UnknownIssuer", "`ca_file`", Pace::Slow),
            ("Connection refused (os error 111)", "`address`", Pace::Soon),
        ] {
            let (hint, found) = hint(said);
            assert!(hint.contains(keys) && found == pace, "{said}: {hint}");
        }
    }
}
