//! Asks a sink, without sending it an event.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper::header::{AUTHORIZATION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ANSWER_MAX;
use super::broker::Login;
use crate::check::files::{Finding, Verdict, place_of};
use crate::config::{HttpSink, SinkConfig, SinkTarget};
use crate::forward::transport::log_in;
use crate::net::connect::{self, Endpoint};
use crate::net::failure::causes;
use crate::net::secret;

/// Asks a sink in its protocol.
pub(super) async fn examine(sink: &SinkConfig) -> Vec<Finding> {
    let place = place_of("sink", &sink.name);
    let (verdict, words) = match &sink.target {
        SinkTarget::Mqtt(mqtt) => {
            let login = Login {
                address: &mqtt.address,
                tls: &mqtt.tls,
                protocol: mqtt.protocol,
                username: mqtt.username.as_deref(),
                password_file: mqtt.password_file.as_deref(),
                connect_timeout: sink.connect_timeout,
            };
            match login.attempt().await {
                Err(words) => (Verdict::Bad, words),
                Ok(welcome) if welcome.qos_max == Some(0) => (
                    Verdict::Bad,
                    format!(
                        "{}: the broker offers QoS 0 only, so it never says what it has; use another broker",
                        mqtt.address
                    ),
                ),
                Ok(_) => (Verdict::Good, format!("the broker at {} lets this client in", mqtt.address)),
            }
        }
        SinkTarget::Http(http) => {
            let asked = timeout(sink.connect_timeout.min(ANSWER_MAX), ask(http));
            let late = |_| Err("it has not answered in time".to_owned());
            match asked.await.unwrap_or_else(late) {
                Ok(status) => judged(http, status),
                Err(why) if why.contains(&http.address.to_string()) => (Verdict::Bad, why),
                Err(why) => (Verdict::Bad, format!("{}: {why}", http.address)),
            }
        }
        SinkTarget::Nats(_) | SinkTarget::Kafka(_) => {
            match timeout(sink.connect_timeout.min(ANSWER_MAX), log_in(sink)).await {
                Ok(Ok(())) => {
                    (Verdict::Good, format!("{} lets this client in; no event was sent", sink.target))
                }
                Ok(Err(unreachable)) => (Verdict::Bad, unreachable.why),
                Err(_) => (Verdict::Bad, format!("{} has not answered in time", sink.target)),
            }
        }
    };
    vec![Finding::new(verdict, &place, words)]
}

/// The status of the answer to a HEAD with the token.
async fn ask(http: &HttpSink) -> Result<u16, String> {
    let mut request = Request::head(&http.path)
        .header(HOST, http.address.host_and_port())
        .header(USER_AGENT, concat!("fieldlog/", env!("CARGO_PKG_VERSION")));
    if let Some(file) = &http.token_file {
        let token = secret::read("token_file", file).map_err(|error| causes(&error))?;
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    // The error of a token that cannot be sent would repeat it.
    let request =
        request.body(Empty::<Bytes>::new()).map_err(|_| "`token_file` holds no token".to_owned())?;
    let endpoint = Endpoint { address: &http.address, tls: &http.tls, connect_timeout: ANSWER_MAX };
    let stream = connect::connect(&endpoint).await.map_err(|error| causes(&error))?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| causes(&error))?;
    let mut driver = JoinSet::new();
    driver.spawn(async { drop(connection.await) });
    let answer = sender.send_request(request).await.map_err(|error| {
        format!("it does not answer in HTTP: {}; is it a port with TLS (https://)?", causes(&error))
    })?;
    Ok(answer.status().as_u16())
}

fn judged(http: &HttpSink, status: u16) -> (Verdict, String) {
    let address = &http.address;
    match status {
        401 | 403 | 407 => (
            Verdict::Bad,
            format!("{address} answers {status}: check `token_file` and what the token allows"),
        ),
        404 => (
            Verdict::Unknown,
            format!("{address} answers 404 to HEAD: if events are refused, too, check the path in `address`"),
        ),
        500.. => (Verdict::Bad, format!("{address} answers {status}: look into its log")),
        300..=399 => {
            (Verdict::Bad, format!("{address} answers {status}: give the address that it redirects to"))
        }
        // Most servers take only POST there.
        _ => (Verdict::Good, format!("{address} answers; no event was sent")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        let text = "[[sink]]\nname = \"cloud\"\naddress = \"http://cloud.example/in?key=hunter2\"\n";
        let sink = crate::config::Config::from_toml(text, "test").unwrap().sinks.remove(0);
        let SinkTarget::Http(http) = &sink.target else { panic!("{sink:?}") };
        for (status, verdict, part) in [
            (200, Verdict::Good, "no event was sent"),
            (405, Verdict::Good, "no event was sent"),
            (401, Verdict::Bad, "check `token_file`"),
            (404, Verdict::Unknown, "check the path"),
            (308, Verdict::Bad, "redirects to"),
            (503, Verdict::Bad, "look into its log"),
        ] {
            let (found, words) = judged(http, status);
            assert_eq!(found, verdict, "{status}");
            assert!(words.contains(part) && !words.contains("hunter2"), "{words}");
        }
    }
}
