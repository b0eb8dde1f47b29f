//! NATS errors in words that an operator can act on.

use std::error::Error;
use std::io;

use async_nats::jetstream::context::{PublishError, PublishErrorKind, RequestError, RequestErrorKind};
use async_nats::{ConnectError, ConnectErrorKind};
use tokio_rustls::rustls;

use super::NatsTarget;
use crate::forward::{Outcome, Pace, SLOW, Unreachable};
use crate::net::backoff::unreached;
use crate::net::failure::causes;

const NO_TLS: &str = "no TLS connection: check `ca_file`, and that the server offers TLS";

/// Why there is no connection.
pub(super) fn connect(url: &str, error: &ConnectError) -> Unreachable {
    let or_unreached = if cause(error).is_some_and(unreached) { Pace::Unreached } else { Pace::Soon };
    let (hint, pace) = match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => (
            "the server refuses the credentials: check `credentials_file`, `token_file` or `password_file`",
            Pace::Slow,
        ),
        ConnectErrorKind::Tls => (NO_TLS, Pace::Slow),
        ConnectErrorKind::Dns => {
            ("the name has no address: check `address` and this machine's name resolution", or_unreached)
        }
        ConnectErrorKind::ServerParse => ("not a NATS address: give one like nats://host:4222", Pace::Slow),
        _ if is_tls(error) => (NO_TLS, Pace::Slow),
        _ => (
            "cannot connect: check that the server runs and that the firewall allows the connection",
            or_unreached,
        ),
    };
    Unreachable { why: format!("{url}: {hint} ({})", causes(error)), pace }
}

/// An untrusted certificate is reported as an IO error.
fn is_tls(error: &ConnectError) -> bool {
    cause(error).and_then(io::Error::get_ref).is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>)
}

fn cause(error: &ConnectError) -> Option<&io::Error> {
    error.source().and_then(|cause| cause.downcast_ref::<io::Error>())
}

/// When to query JetStream again. A missing answer may be a broken link, which is no reason to wait long.
pub(super) fn pace(error: &(dyn Error + 'static)) -> Pace {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(request) = error.downcast_ref::<RequestError>() {
            let answered = request.kind() == RequestErrorKind::NoResponders;
            return if answered { Pace::Slow } else { Pace::Soon };
        }
        cause = error.source();
    }
    Pace::Slow
}

/// The outcome of a message that was not acknowledged; `complaint` is the server's error report meanwhile.
pub(super) fn publish(
    target: &NatsTarget,
    subject: &str,
    error: &PublishError,
    complaint: Option<String>,
    payload_bytes_max: usize,
) -> Outcome {
    let (url, stream) = (target.sink.url(), &target.sink.stream);
    let said = causes(error);
    let slow = |what: String| Outcome::Busy { after: Some(SLOW), why: format!("{url}: {what}") };
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => {
            let why = format!("{url}: larger than the server's `max_payload` of {payload_bytes_max} bytes");
            Outcome::TooLarge { why }
        }
        PublishErrorKind::WrongLastSequence | PublishErrorKind::WrongLastMessageId => Outcome::Lost {
            why: format!(
                "{url}: the last message of `{subject}` is not the one this gateway has written. Asking again what is \
                 stored; if this repeats, somebody else writes to the subject, perhaps a copy of this gateway ({said})"
            ),
        },
        PublishErrorKind::StreamNotFound => {
            slow(format!("no stream takes messages on `{subject}`: add it to the subjects of `{stream}`"))
        }
        PublishErrorKind::TimedOut => match complaint {
            Some(complaint) => slow(format!("the server refuses `{subject}`: {complaint}")),
            // Whether it is stored is unknown; the next connection queries this.
            None => Outcome::Lost {
                why: format!(
                    "{url}: no acknowledgement within {} s (see `answer_timeout_s`)",
                    target.answer_timeout.as_secs_f32()
                ),
            },
        },
        PublishErrorKind::BrokenPipe => {
            Outcome::Lost { why: format!("{url}: the connection broke ({said})") }
        }
        _ => refused(&url, stream, &said),
    }
}

/// JetStream's own refusals have no error kind.
fn refused(url: &str, stream: &str, said: &str) -> Outcome {
    let lower = said.to_ascii_lowercase();
    let why = format!("{url}: stream `{stream}`: {said}");
    if lower.contains("message size exceeds") {
        Outcome::TooLarge { why }
    } else if lower.contains("expected stream does not match") {
        let why = format!(
            "{url}: another stream than `{stream}` takes the subject; set `stream` to its name ({said})"
        );
        Outcome::Busy { after: Some(SLOW), why }
    } else {
        // Full, without a leader, or out of resources.
        Outcome::Busy { after: None, why }
    }
}
