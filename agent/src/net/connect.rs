//! Turns an address into a byte stream.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::failure::ConnectError;
use super::tls::{self, Tls};
use crate::config::{Address, TlsConfig};

/// After this time, another attempt to connect is made in parallel.
const AGAIN: Duration = Duration::from_secs(1);

/// A byte stream to a server, encrypted or not.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Where to connect to, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint<'a> {
    pub(crate) address: &'a Address,
    /// Used only if the address has TLS.
    pub(crate) tls: &'a TlsConfig,
    /// Divided among the addresses of the host name.
    pub(crate) connect_timeout: Duration,
}

/// Connects; the caller limits the total time to `connect_timeout`.
pub(crate) async fn connect(endpoint: &Endpoint<'_>) -> Result<Box<dyn Wire>, ConnectError> {
    // Before dialling: a missing certificate is detected without the broker.
    let tls = if endpoint.address.tls { Some(Tls::new(endpoint.tls, &endpoint.address.host)?) } else { None };
    let stream = dial(endpoint).await?;
    // Acknowledgements are small packets, and each of them opens the broker's window.
    stream.set_nodelay(true).map_err(ConnectError::Io)?;
    match tls {
        Some(tls) => Ok(Box::new(tls.connect(stream, endpoint.address).await?)),
        None => Ok(Box::new(stream)),
    }
}

/// Whether these are the first bytes of a TLS server: a record with an alert or a handshake.
pub(crate) fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15 | 0x16, 0x03, ..])
}

/// Whether the server answers TLS at a port where the address has none. Asked on a connection of its own, after a failure
/// that this would explain.
pub(crate) async fn speaks_tls(endpoint: &Endpoint<'_>) -> bool {
    let asked = async {
        let hello = tls::first_flight(&endpoint.address.host)?;
        let mut stream = dial(endpoint).await.ok()?;
        stream.write_all(&hello).await.ok()?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.ok()?;
        Some(is_tls(&answer))
    };
    timeout(endpoint.connect_timeout, asked).await.ok().flatten().unwrap_or(false)
}

async fn dial(endpoint: &Endpoint<'_>) -> Result<TcpStream, ConnectError> {
    let host = endpoint.address.host.trim_start_matches('[').trim_end_matches(']');
    let unknown = |source| ConnectError::Resolve { host: host.to_owned(), source };
    let addresses: Vec<SocketAddr> =
        lookup_host((host, endpoint.address.port)).await.map_err(unknown)?.collect();
    let deadline = Instant::now() + endpoint.connect_timeout;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (index, address) in addresses.iter().enumerate() {
        // A dead first address (often IPv6) must leave time for the others.
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        match timeout(share, insist(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(ConnectError::Connect { address: endpoint.address.to_string(), source: last })
}

/// Connects, with another parallel attempt every second: the kernel repeats its own packets at growing intervals and
/// would notice late that a link is back. The first answer counts, even a refusal.
async fn insist(address: SocketAddr) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    loop {
        attempts.spawn(TcpStream::connect(address));
        match timeout(AGAIN, attempts.join_next()).await {
            Ok(Some(Ok(answer))) => return answer,
            Ok(ended) => return Err(io::Error::other(format!("connecting ended badly: {ended:?}"))),
            Err(_) => {}
        }
    }
}

/// Writes or flushes a part; returns whether something is left to do. Nothing is lost if it is dropped midway.
pub(crate) async fn write_some(
    writer: &mut WriteHalf<Box<dyn Wire>>,
    out: &mut BytesMut,
) -> io::Result<bool> {
    if out.has_remaining() {
        if writer.write_buf(out).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if out.has_remaining() {
            return Ok(true);
        }
    }
    writer.flush().await?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    /// A listener with a full queue drops connection attempts, as a broken link does.
    #[tokio::test]
    async fn a_way_that_opens_is_found_before_the_system_would_try_again() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = timeout(AGAIN / 2, TcpStream::connect(address)).await {
            queued.push(stream.unwrap());
        }
        assert!(!queued.is_empty());
        let knocking = tokio::spawn(insist(address));
        // Linux repeats its packet after 7 and 15 seconds; since 6.5 after 7 and 11.
        tokio::time::sleep(Duration::from_millis(7_300)).await;
        assert!(!knocking.is_finished());
        listener.accept().await.unwrap();
        let connected = timeout(Duration::from_millis(3_000), knocking).await;
        connected.expect("within 3 s").unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer() {
        let (_taken, port) = crate::ingest::tests::refusing_port();
        let refused = insist(([127, 0, 0, 1], port).into()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
