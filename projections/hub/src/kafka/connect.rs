//! Connects to a cluster, and says why it cannot in words that an operator can act on.

use std::sync::Arc;
use std::time::Duration;

use rskafka::BackoffConfig;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder, Credentials, SaslConfig};
use tokio::time::timeout;

use crate::config::{Kafka, Login, Sasl, read_secret};
use crate::postgres::chain;
use crate::source::Ended;
use crate::tls;

/// For the connection and the first questions together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The partitions of the topic, in order.
pub(super) async fn partitions(kafka: &Kafka) -> Result<Vec<Arc<PartitionClient>>, Ended> {
    let late = |_| {
        // A broker takes the beginning of TLS for the length of a request, and waits for the rest.
        let or = if kafka.tls { "; or is it a port without TLS?" } else { "" };
        format!("no answer within {} s: {ADDRESS}{or}", CONNECT_TIMEOUT.as_secs())
    };
    timeout(CONNECT_TIMEOUT, ask(kafka)).await.map_err(late)?
}

async fn ask(kafka: &Kafka) -> Result<Vec<Arc<PartitionClient>>, Ended> {
    let client = client(kafka).await?;
    let topics = client.list_topics().await.map_err(|error| words(&error))?;
    let topic = topics.into_iter().find(|topic| topic.name == kafka.topic).ok_or_else(|| {
        format!(
            "there is no topic `{}`, or this user may not see it: create it, or check `kafka.topic`",
            kafka.topic
        )
    })?;
    let mut partitions = Vec::new();
    for partition in topic.partitions {
        let opening = client.partition_client(&kafka.topic, partition, UnknownTopicHandling::Error).await;
        partitions.push(Arc::new(opening.map_err(|error| words(&error))?));
    }
    Ok(partitions)
}

async fn client(kafka: &Kafka) -> Result<Client, Ended> {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(1),
        base: 2.0,
        // Total of the pauses: enough for a leader that has just changed. Longer waits are the source's.
        deadline: Some(Duration::from_millis(500)),
    };
    let mut builder =
        ClientBuilder::new(kafka.brokers.clone()).client_id("fieldlog-hub").backoff_config(backoff);
    if kafka.tls {
        builder = builder.tls_config(tls::client_config(kafka.ca_file.as_deref())?);
    }
    if let Some(Login { username, password_file }) = &kafka.login {
        let credentials = Credentials::new(username.clone(), read_secret(password_file)?);
        builder = builder.sasl_config(match kafka.sasl {
            Sasl::Plain => SaslConfig::Plain(credentials),
            Sasl::ScramSha256 => SaslConfig::ScramSha256(credentials),
            Sasl::ScramSha512 => SaslConfig::ScramSha512(credentials),
        });
    }
    Ok(builder.build().await.map_err(|error| words(&error))?)
}

/// What most often is wrong.
const ADDRESS: &str = "check `kafka.address`, that the brokers run, that the firewall allows the connection, and whether they \
                       want TLS (kafkas://) or a user name";

/// An error, and what to do about it; the client's errors cannot be told apart otherwise than by their words.
pub(super) fn words(error: &Error) -> String {
    if let Error::ServerError { protocol_error, .. } = error {
        // The whole error repeats the request.
        return match protocol_error {
            ProtocolError::TopicAuthorizationFailed | ProtocolError::ClusterAuthorizationFailed => {
                format!("{protocol_error}: allow this user to read the topic")
            }
            _ => protocol_error.to_string(),
        };
    }
    let said = chain(error);
    format!("{} ({said})", hint(&said))
}

fn hint(said: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&["sasl", "Sasl", "SASL"]) {
        "the cluster does not take the user: check `kafka.username`, `password_file` and `sasl`"
    } else if says(&["certificate"]) {
        "check `kafka.ca_file`, and that the brokers' certificates are for the hosts that the cluster names"
    } else if says(&["InvalidContentType", "corrupt message"]) {
        "it does not answer in TLS: it is a port without TLS, as it seems; give the port with TLS, or write kafka://"
    } else {
        ADDRESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_names_keys_that_are_there() {
        for (said, keys) in [
            (
                "Sasl handshake failed: SaslAuthenticationFailed",
                "`kafka.username`, `password_file` and `sasl`",
            ),
            ("invalid peer certificate: UnknownIssuer", "`kafka.ca_file`"),
            ("received corrupt message of type InvalidContentType", "without TLS"),
            ("Connection refused (os error 111)", "`kafka.address`"),
        ] {
            assert!(hint(said).contains(keys), "{said}");
        }
    }
}
