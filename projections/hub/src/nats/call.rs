//! Requests to gateways, over the connections of the sources.

use std::time::Duration;

use async_nats::client::Request;
use async_nats::{Client, HeaderMap, RequestErrorKind};
use bytes::Bytes;
use fieldlog_projections::{TraceParent, trace};
use tokio::sync::watch;

use crate::config::Nats;

/// The way to the gateways.
#[derive(Debug, Default)]
pub(crate) struct Calls(Vec<Line>);

/// A server, and the subjects of commands there.
#[derive(Debug)]
struct Line {
    /// With `{gateway}`, and without the `>` at its end.
    subject: String,
    client: watch::Receiver<Option<Client>>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Silence {
    /// It has certainly not arrived.
    #[error("no gateway listens on `{0}`: it is away, or its sink has no [sink.commands] for that subject")]
    Nobody(String),
    /// There is no server to ask.
    #[error("this hub is not connected to a NATS server over which gateways take commands")]
    Unconnected,
    /// Whether it has arrived is unknown.
    #[error("nobody has answered on `{0}` within {1} s")]
    Late(String, u64),
    /// The subject cannot be one.
    #[error("`{0}` cannot be a subject of NATS")]
    Subject(String),
}

impl Calls {
    /// Adds a server; what is returned gets its connection.
    pub(crate) fn add(&mut self, nats: &Nats) -> watch::Sender<Option<Client>> {
        let (sender, client) = watch::channel(None);
        self.0.push(Line { subject: nats.commands.trim_end_matches('>').to_owned(), client });
        sender
    }

    /// Asks a gateway; `rest` is the rest of the subject. Goes to the next server only where nobody has got it.
    pub(crate) async fn ask(
        &self,
        gateway: &str,
        rest: &str,
        body: Bytes,
        wait: Duration,
        traceparent: Option<TraceParent>,
    ) -> Result<Bytes, Silence> {
        let mut headers = HeaderMap::new();
        traceparent.into_iter().for_each(|parent| headers.insert(trace::NAME, parent.to_string()));
        let mut silence = Silence::Unconnected;
        for line in &self.0 {
            let Some(client) = line.client.borrow().clone() else { continue };
            // A gateway is one token.
            let subject = line.subject.replace("{gateway}", &gateway.replace('.', "_")) + rest;
            if !is_subject(&subject) {
                return Err(Silence::Subject(subject));
            }
            let mut request = Request::new().payload(body.clone()).timeout(Some(wait));
            if !headers.is_empty() {
                request = request.headers(headers.clone());
            }
            match client.send_request(subject.clone(), request).await {
                Ok(answer) => return Ok(answer.payload),
                Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                    silence = Silence::Nobody(subject);
                }
                Err(error) => {
                    tracing::debug!("a request on {subject} was not answered: {error}");
                    return Err(Silence::Late(subject, wait.as_secs()));
                }
            }
        }
        Err(silence)
    }
}

/// Whether nothing in it means something else to the server.
fn is_subject(subject: &str) -> bool {
    let fits = |token: &str| {
        !token.is_empty()
            && token.chars().all(|char| !char.is_whitespace() && !char.is_control() && !"*>".contains(char))
    };
    subject.split('.').all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_no_wildcards_and_no_empty_tokens() {
        for good in ["a", "a.b/c.$resend", "a.müller"] {
            assert!(is_subject(good), "{good}");
        }
        for bad in ["", "a.", "a..b", "a.*", "a.b>", "a b", "a\tb", "a\u{0}b"] {
            assert!(!is_subject(bad), "{bad:?}");
        }
    }
}
