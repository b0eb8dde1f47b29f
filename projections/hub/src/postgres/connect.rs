//! A connection.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{self, Postgres};
use crate::tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For TCP and the greeting together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection of which nothing arrives for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// A statement that takes longer has failed.
const STATEMENT_S: u32 = 120;

/// A connection; closed when dropped.
pub(crate) struct Link {
    pub(crate) client: Client,
    driver: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("`postgres.password_file`: {0}")]
    Secret(String),
    #[error("PostgreSQL cannot be reached: {0}")]
    Connect(String),
}

impl Link {
    /// Connects. A transaction that is left alone for `idle` is ended by the server, with all that it has locked.
    pub(crate) async fn open(postgres: &Postgres, idle: Duration) -> Result<Link, LinkError> {
        let mut options = postgres.connect.clone();
        if let Some(file) = &postgres.password_file {
            options
                .password(config::read_secret(file).map_err(|error| LinkError::Secret(error.to_string()))?);
        }
        options.application_name("fieldlog-hub").connect_timeout(CONNECT_TIMEOUT);
        // A network that swallows packets says nothing, and the kernel would wait for a quarter of an hour.
        options
            .tcp_user_timeout(SILENCE_MAX)
            .keepalives_idle(SILENCE_MAX / 2)
            .keepalives_interval(SILENCE_MAX / 8);
        let link = match options.get_ssl_mode() {
            SslMode::Require => {
                let config = tls::client_config(postgres.ca_file.as_deref()).map_err(LinkError::Connect)?;
                connect(&options, MakeRustlsConnect::new(Arc::unwrap_or_clone(config))).await?
            }
            _ => connect(&options, NoTls).await?,
        };
        let schema = &postgres.schema;
        let settings = format!(
            "SET search_path TO {schema}; SET TimeZone TO 'UTC'; SET statement_timeout TO '{STATEMENT_S}s'; \
             SET idle_in_transaction_session_timeout TO '{}ms'",
            idle.as_millis()
        );
        link.client.batch_execute(&settings).await.map_err(|error| LinkError::Connect(chain(&error)))?;
        Ok(link)
    }
}

async fn connect<T>(options: &tokio_postgres::Config, tls: T) -> Result<Link, LinkError>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let connecting = tokio::time::timeout(OPEN_TIMEOUT, options.connect(tls)).await;
    let connected = connecting
        .map_err(|_| LinkError::Connect(format!("no greeting within {} s", OPEN_TIMEOUT.as_secs())))?;
    let (client, connection) = connected.map_err(|error| LinkError::Connect(words(&error)))?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a connection to PostgreSQL ended: {}", chain(&error));
        }
    });
    Ok(Link { client, driver: driver.abort_handle() })
}

/// Why there is no connection, and what to do about it where that is not plain.
fn words(error: &tokio_postgres::Error) -> String {
    let said = chain(error);
    if said.contains("certificate") {
        format!(
            "{said}; check `postgres.ca_file`, and that the server's certificate is for the host in `postgres.address`"
        )
    } else if said.contains("does not support TLS") {
        format!("{said}; switch `ssl` on there, or leave `sslmode=require` out of `postgres.address`")
    } else {
        said
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        // Writing to a String does not fail.
        let _ = write!(words, ": {next}");
        cause = next.source();
    }
    words
}
