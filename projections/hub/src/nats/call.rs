//! Requests to gateways, over the connection of a source.

use async_nats::{Client, HeaderMap, RequestErrorKind, client};
use bytes::Bytes;
use fieldlog_projections::trace;

use crate::request::{Request, Silence};

/// Asks whoever listens on `subject`.
pub(crate) async fn call(client: &Client, subject: String, request: &Request) -> Result<Bytes, Silence> {
    if !is_subject(&subject) {
        return Err(Silence::Unsaid(subject));
    }
    let Request { body, wait, traceparent, .. } = request.clone();
    let mut sent = client::Request::new().payload(body).timeout(Some(wait));
    if let Some(parent) = traceparent {
        let mut headers = HeaderMap::new();
        headers.insert(trace::NAME, parent.to_string());
        sent = sent.headers(headers);
    }
    match client.send_request(subject.clone(), sent).await {
        Ok(answer) => Ok(answer.payload),
        Err(error) if error.kind() == RequestErrorKind::NoResponders => Err(Silence::Nobody(subject)),
        Err(error) => {
            tracing::debug!("a request on {subject} was not answered: {error}");
            Err(Silence::Late(subject, wait.as_secs()))
        }
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
