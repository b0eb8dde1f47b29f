//! Opens the files that a configuration names: secrets, certificates and keys.

use std::error::Error;
use std::io;
use std::path::Path;

use crate::config::{Config, NotifyConfig, NotifyTarget, SinkConfig, SinkTarget, SourceConfig, TlsConfig};
use crate::net::failure::causes;
use crate::net::secret::{self, SecretError};
use crate::net::tls;

/// What was found out about something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    /// It cannot be judged from here, or needs attention without being wrong.
    Unknown,
    Bad,
}

/// What was found out, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) verdict: Verdict,
    /// Such as `source "home"`.
    pub(crate) place: String,
    pub(crate) words: String,
}

impl Finding {
    pub(crate) fn new(verdict: Verdict, place: &str, words: impl Into<String>) -> Finding {
        Finding { verdict, place: place.to_owned(), words: words.into() }
    }
}

/// The place of a finding about a source or a sink.
pub(crate) fn place_of(kind: &str, name: &str) -> String {
    format!("{kind} {name:?}")
}

/// Opens every file that is named.
pub(crate) fn examine(config: &Config) -> Vec<Finding> {
    let http = &config.http;
    let http = [
        secret("http", "token_file", http.token_file.as_deref()),
        secret("http", "command_token_file", http.command_token_file.as_deref()),
        secret("http", "admin_token_file", http.admin_token_file.as_deref()),
        of_server(http.cert_file.as_deref(), http.key_file.as_deref()),
    ];
    let sources = config.sources.iter().flat_map(of_source);
    let sinks = config.sinks.iter().flat_map(of_sink);
    let notify = config.notify.iter().flat_map(of_notify);
    http.into_iter().flatten().chain(sources).chain(sinks).chain(notify).collect()
}

/// The certificate of the page and its key.
fn of_server(cert_file: Option<&Path>, key_file: Option<&Path>) -> Option<Finding> {
    let (cert_file, key_file) = (cert_file?, key_file?);
    let paths = secret::locate("cert_file", cert_file)
        .and_then(|cert| Ok((cert, secret::locate_guarded("key_file", key_file)?)));
    let (verdict, words) = match paths {
        Ok((cert, key)) => match tls::ServerTls::new(&cert, &key) {
            Ok(_) => (Verdict::Good, "the certificate and its key can be read".to_owned()),
            Err(error) => refused(&error),
        },
        Err(SecretError::NoCredentials { setting, name }) => credential(setting, &name),
        Err(error) => refused(&error),
    };
    Some(Finding::new(verdict, "http", words))
}

fn of_source(source: &SourceConfig) -> Vec<Finding> {
    let place = place_of("source", &source.name);
    let password = secret(&place, "password_file", source.password_file.as_deref());
    password.into_iter().chain(certificates(&place, source.address.tls, &source.tls)).collect()
}

fn of_sink(sink: &SinkConfig) -> Vec<Finding> {
    let place = place_of("sink", &sink.name);
    let secret = |setting, file: &Option<_>| secret(&place, setting, file.as_deref());
    let (secrets, tls) = match &sink.target {
        SinkTarget::Mqtt(mqtt) => {
            (vec![secret("password_file", &mqtt.password_file)], (mqtt.address.tls, &mqtt.tls))
        }
        SinkTarget::Http(http) => {
            (vec![secret("token_file", &http.token_file)], (http.address.tls, &http.tls))
        }
        SinkTarget::Nats(nats) => (
            vec![
                secret("credentials_file", &nats.credentials_file),
                secret("token_file", &nats.token_file),
                secret("password_file", &nats.password_file),
            ],
            (nats.address.tls, &nats.tls),
        ),
        SinkTarget::Kafka(kafka) => {
            (vec![secret("password_file", &kafka.password_file)], (kafka.is_tls(), &kafka.tls))
        }
    };
    secrets.into_iter().flatten().chain(certificates(&place, tls.0, tls.1)).collect()
}

fn of_notify(notify: &NotifyConfig) -> Vec<Finding> {
    let NotifyTarget::Webhook(server) = &notify.target else { return Vec::new() };
    let place = place_of("notify", &notify.name);
    let token = secret(&place, "token_file", server.token_file.as_deref());
    token.into_iter().chain(certificates(&place, server.address.tls, &server.tls)).collect()
}

fn secret(place: &str, setting: &'static str, file: Option<&Path>) -> Option<Finding> {
    let file = file?;
    let (verdict, words) = match secret::read(setting, file) {
        Ok(_) => (Verdict::Good, format!("`{setting}` {} can be read", file.display())),
        Err(SecretError::NoCredentials { setting, name }) => credential(setting, &name),
        Err(error) => refused(&error),
    };
    Some(Finding::new(verdict, place, words))
}

fn credential(setting: &str, name: &Path) -> (Verdict, String) {
    let name = name.display();
    let words =
        format!("`{setting}` {name} is a systemd credential, which only the service has; it was not read");
    (Verdict::Unknown, words)
}

fn certificates(place: &str, wanted: bool, config: &TlsConfig) -> Option<Finding> {
    if !wanted {
        return None;
    }
    let (verdict, words) = match tls::check(config) {
        Ok(()) => (Verdict::Good, "the certificates can be read".to_owned()),
        Err(error) => refused(&error),
    };
    Some(Finding::new(verdict, place, words))
}

/// A file that this user may not read may be readable for the service.
fn refused(error: &(dyn Error + 'static)) -> (Verdict, String) {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let denied = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if denied == Some(io::ErrorKind::PermissionDenied) {
            let words = format!("{}; run this as root, or as the user of the service", causes(error));
            return (Verdict::Unknown, words);
        }
        cause = error.source();
    }
    (Verdict::Bad, causes(error))
}
