//! Connects to a broker as a client of its own, and looks at what the broker allows. It subscribes to nothing.

use std::path::Path;
use std::time::Duration;

use crate::check::files::{Finding, Verdict, place_of};
use crate::config::{Address, Protocol, SourceConfig, TlsConfig};
use crate::mqtt::failure::Failure;
use crate::mqtt::handshake::{Hello, Welcome};
use crate::mqtt::open::open;
use crate::net::connect::Endpoint;

use super::ANSWER_MAX;

/// Room for the CONNACK.
const READ_BYTES: usize = 4 * 1024;
/// Packets that are taken; none is expected.
const PACKET_BYTES_MAX: u32 = 65_536;

/// How to log in.
pub(super) struct Login<'a> {
    pub(super) address: &'a Address,
    pub(super) tls: &'a TlsConfig,
    pub(super) protocol: Protocol,
    pub(super) username: Option<&'a str>,
    pub(super) password_file: Option<&'a Path>,
    pub(super) connect_timeout: Duration,
}

/// Connects to the broker of a source.
pub(super) async fn examine_source(source: &SourceConfig) -> Vec<Finding> {
    let place = place_of("source", &source.name);
    let login = Login {
        address: &source.address,
        tls: &source.tls,
        protocol: source.protocol,
        username: source.username.as_deref(),
        password_file: source.password_file.as_deref(),
        connect_timeout: source.connect_timeout,
    };
    match login.attempt().await {
        Err(words) => vec![Finding::new(Verdict::Bad, &place, words)],
        Ok(welcome) => {
            let words = format!("the broker at {} lets this client in", source.address);
            let limits = limits(source, &welcome).into_iter();
            let limits = limits.map(|(verdict, words)| Finding::new(verdict, &place, words));
            [Finding::new(Verdict::Good, &place, words)].into_iter().chain(limits).collect()
        }
    }
}

/// What the broker does not offer, and the source needs.
fn limits(source: &SourceConfig, welcome: &Welcome) -> Vec<(Verdict, String)> {
    let mut found = Vec::new();
    if welcome.qos_max == Some(0) {
        let words = "the broker offers QoS 0 only: what it sends while fieldlog is away is lost; use another broker, or allow \
                     QoS 1 in its configuration";
        found.push((Verdict::Bad, words.to_owned()));
    }
    let is_wild = |topic: &str| topic.contains(['+', '#']);
    if welcome.no_wildcards && source.rules.iter().any(|rule| is_wild(&rule.topic)) {
        let words = "the broker allows no wildcard subscriptions, and the rules need them";
        found.push((Verdict::Bad, words.to_owned()));
    }
    let asked = source.session_expiry.as_secs();
    if let Some(kept) = welcome.session_expiry_s.filter(|kept| u64::from(*kept) < asked) {
        let words = format!(
            "the broker keeps a session for {kept} s instead of `session_expiry_s` = {asked}: what comes after that while \
             fieldlog is away is lost"
        );
        found.push((Verdict::Unknown, words));
    }
    if let Some(limit) =
        welcome.server_keep_alive.filter(|limit| u64::from(*limit) < source.keep_alive.as_secs())
    {
        found.push((
            Verdict::Unknown,
            format!("the broker asks for a keep-alive of {limit} s, which fieldlog follows"),
        ));
    }
    found
}

impl Login<'_> {
    /// Connects and hangs up.
    pub(super) async fn attempt(&self) -> Result<Welcome, String> {
        let client_id = format!("fieldlog-doctor-{:08x}", std::process::id());
        let endpoint = Endpoint {
            address: self.address,
            tls: self.tls,
            connect_timeout: self.connect_timeout.min(ANSWER_MAX),
        };
        let hello = Hello {
            protocol: self.protocol,
            client_id: &client_id,
            username: self.username,
            password_file: self.password_file,
            keep_alive: Duration::from_secs(30),
            session_expiry: None,
            receive_window: 1,
            packet_bytes_max: PACKET_BYTES_MAX,
            will: None,
        };
        match open(&endpoint, &hello, READ_BYTES).await {
            // A closed connection ends a clean session; nothing waits for it.
            Ok((_, _, welcome)) => Ok(welcome),
            Err(failure) => Err(self.words(&failure, &client_id)),
        }
    }

    fn words(&self, failure: &Failure, client_id: &str) -> String {
        let why = failure.chain(client_id);
        let address = self.address.to_string();
        let why = if why.contains(&address) { why } else { format!("the broker at {address}: {why}") };
        match failure {
            Failure::Refused { .. } => format!("{why} (it was asked with client_id `{client_id}`)"),
            _ => why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_the_broker_lacks_is_said() {
        let text = "[[source]]\nname = \"home\"\naddress = \"mqtt://localhost\"\n[[source.subscription]]\npreset = \"tasmota\"";
        let source = Config::from_toml(text, "test").unwrap().sources.remove(0);
        assert_eq!(limits(&source, &Welcome::default()), []);
        let poor = Welcome {
            qos_max: Some(0),
            no_wildcards: true,
            session_expiry_s: Some(60),
            server_keep_alive: Some(10),
            ..Welcome::default()
        };
        let found = limits(&source, &poor);
        let verdicts: Vec<_> = found.iter().map(|(verdict, _)| *verdict).collect();
        assert_eq!(verdicts, [Verdict::Bad, Verdict::Bad, Verdict::Unknown, Verdict::Unknown]);
        for (part, (_, words)) in
            ["QoS 0 only", "no wildcard", "for 60 s instead", "keep-alive of 10 s"].iter().zip(&found)
        {
            assert!(words.contains(part), "{words}");
        }
    }
}
