//! One HTTP connection.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::NAME;
use crate::config::{self, OpenSearch as Settings};
use crate::tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// A connection, opened when it is needed.
pub(super) struct Http {
    settings: Settings,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Http {
    pub(super) fn new(settings: Settings) -> Http {
        Http { settings, sender: None }
    }

    /// Sends a request; status and body of the answer.
    pub(super) async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<(StatusCode, Value), String> {
        let answer = self.attempt(method, path, body).await;
        if answer.is_err() {
            self.sender = None;
        }
        answer.map_err(|why| format!("OpenSearch at {}: {why}", self.settings.authority))
    }

    /// As [`Http::call`]; an answer other than 2xx is an error.
    pub(super) async fn need(&mut self, method: Method, path: &str, body: String) -> Result<Value, String> {
        let (status, answer) = self.call(method, path, body).await?;
        if status.is_success() {
            return Ok(answer);
        }
        Err(format!(
            "OpenSearch at {} answers {path} with {status}: {}",
            self.settings.authority,
            reason(&answer)
        ))
    }

    async fn attempt(
        &mut self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<(StatusCode, Value), String> {
        let media_type = if path == "/_bulk" { "application/x-ndjson" } else { "application/json" };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.settings.authority)
            .header(header::CONTENT_TYPE, media_type);
        if let (Some(user), Some(file)) = (&self.settings.user, &self.settings.password_file) {
            let secret =
                config::read_secret(file).map_err(|error| format!("`opensearch.password_file`: {error}"))?;
            let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{secret}")));
            request = request.header(header::AUTHORIZATION, basic);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
        let open = match self.sender.take() {
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let sender = match open {
            Some(sender) => self.sender.insert(sender),
            None => self.sender.insert(connect(&self.settings).await?),
        };
        let has_tls = self.settings.tls;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|error| unanswered(&error, has_tls))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            // What is no JSON comes from something in between.
            let text = || Value::from(String::from_utf8_lossy(&body).chars().take(300).collect::<String>());
            Ok((status, serde_json::from_slice(&body).unwrap_or_else(|_| text())))
        };
        let late = |_| format!("no answer within {} s", ANSWER_TIMEOUT.as_secs());
        tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.map_err(late)?
    }
}

/// A port with TLS answers with an alert, or hangs up.
fn unanswered(error: &hyper::Error, has_tls: bool) -> String {
    match !has_tls && (error.is_parse() || error.is_incomplete_message()) {
        true => format!("{error}; is it a port with TLS? Then write https:// in `opensearch.address`"),
        false => error.to_string(),
    }
}

async fn connect(settings: &Settings) -> Result<SendRequest<Full<Bytes>>, String> {
    let opening = async {
        let stream = TcpStream::connect(&settings.authority).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        if !settings.tls {
            return speak(stream).await;
        }
        let host = settings.authority.rsplit_once(':').map_or("", |(host, _)| host);
        let host = host.trim_matches(['[', ']']);
        speak(tls::connect(stream, host, settings.ca_file.as_deref(), NAME).await?).await
    };
    let late = |_| format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
    tokio::time::timeout(CONNECT_TIMEOUT, opening).await.map_err(late)?
}

async fn speak<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a connection to OpenSearch ended: {error}");
        }
    });
    Ok(sender)
}

/// Its words for an error.
pub(super) fn reason(answer: &Value) -> String {
    let error = answer.get("error").unwrap_or(answer);
    let words = error.get("reason").unwrap_or(error);
    let words = words.as_str().map_or_else(|| words.to_string(), str::to_owned);
    words.chars().take(300).collect()
}
