//! From an address to a session: TCP, TLS and the broker's CONNACK, within one time limit.

use bytes::BytesMut;
use tokio::time::timeout;

use super::failure::Failure;
use super::handshake::{self, Hello, Welcome};
use crate::net::connect::{self, Endpoint, Wire, is_tls, speaks_tls};

/// A stream with the broker's answer, and the bytes that followed that.
pub(crate) type Opened = (Box<dyn Wire>, BytesMut, Welcome);

/// Connects and introduces this client. Bytes that follow the CONNACK are in a buffer with `room`.
pub(crate) async fn open(endpoint: &Endpoint<'_>, hello: &Hello<'_>, room: usize) -> Result<Opened, Failure> {
    let limit = endpoint.connect_timeout;
    let mut input = BytesMut::with_capacity(room);
    let opening = async {
        let mut stream = connect::connect(endpoint).await?;
        let welcome = handshake::introduce(&mut *stream, hello, &mut input).await?;
        Ok((stream, welcome))
    };
    let late = |_| Failure::TimedOut { address: endpoint.address.to_string(), limit };
    match timeout(limit, opening).await.map_err(late).flatten() {
        Ok((stream, welcome)) => Ok((stream, input, welcome)),
        Err(failure) if is_of_tls_port(&failure, &input, endpoint).await => {
            Err(Failure::TlsPort { address: endpoint.address.to_string() })
        }
        Err(failure) => Err(failure),
    }
}

/// Whether CONNECT failed because the port wants TLS: such a server answers with an alert, or hangs up.
async fn is_of_tls_port(failure: &Failure, input: &[u8], endpoint: &Endpoint<'_>) -> bool {
    if endpoint.address.tls {
        return false;
    }
    match failure {
        Failure::Closed | Failure::Io(_) if input.is_empty() => speaks_tls(endpoint).await,
        _ => is_tls(input),
    }
}
