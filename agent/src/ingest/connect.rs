//! From an address to a stream of bytes.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

use super::failure::Failure;
use super::tls::Tls;
use crate::config::SourceConfig;

/// A byte stream to a broker, encrypted or not.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Connects to the broker of `config`; the caller bounds the whole by `connect_timeout`.
pub(super) async fn connect(config: &SourceConfig) -> Result<Box<dyn Wire>, Failure> {
    // Before dialling: a missing certificate is found without the broker.
    let tls = if config.address.tls { Some(Tls::new(config)?) } else { None };
    let stream = dial(config).await?;
    // Acknowledgements are small packets, and each of them opens the broker's window.
    stream.set_nodelay(true).map_err(Failure::Io)?;
    match tls {
        Some(tls) => Ok(Box::new(tls.connect(stream).await?)),
        None => Ok(Box::new(stream)),
    }
}

async fn dial(config: &SourceConfig) -> Result<TcpStream, Failure> {
    let host = config.address.host.trim_start_matches('[').trim_end_matches(']');
    let unknown = |source| Failure::Resolve { host: host.to_owned(), source };
    let addresses: Vec<SocketAddr> =
        lookup_host((host, config.address.port)).await.map_err(unknown)?.collect();
    let deadline = Instant::now() + config.connect_timeout;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (index, address) in addresses.iter().enumerate() {
        // A dead first address (often IPv6) must leave time for the others.
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(Failure::Connect { address: address_of(config), source: last })
}

/// `host:port` as an operator wrote it.
pub(super) fn address_of(config: &SourceConfig) -> String {
    format!("{}:{}", config.address.host, config.address.port)
}
