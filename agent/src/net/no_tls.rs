//! Replaces TLS in a build without it.

use std::io;
use std::path::Path;

use tokio::net::TcpStream;

use crate::config::{Address, TlsConfig};

/// Never made.
pub(crate) enum Tls {}

impl Tls {
    pub(crate) fn new(_: &TlsConfig, _: &str) -> Result<Tls, TlsError> {
        Err(TlsError::Unsupported)
    }

    pub(crate) async fn connect(self, _: TcpStream, _: &Address) -> Result<TcpStream, TlsError> {
        match self {}
    }
}

/// Never made.
#[derive(Clone)]
pub(crate) enum ServerTls {}

impl ServerTls {
    pub(crate) fn new(_: &Path, _: &Path) -> Result<ServerTls, TlsError> {
        Err(TlsError::Unsupported)
    }

    pub(crate) async fn accept<I>(&self, _: I) -> io::Result<I> {
        match *self {}
    }
}

/// Cannot be known.
pub(crate) fn check(_: &TlsConfig) -> Result<(), TlsError> {
    Err(TlsError::Unsupported)
}

/// Unknown without TLS.
pub(crate) fn first_flight(_: &str) -> Option<Vec<u8>> {
    None
}

/// Why a TLS connection failed. The other variants exist in the build with TLS.
#[allow(dead_code)]
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(
        "this build of fieldlog has no TLS: use an address without TLS, or a build with the feature `tls`"
    )]
    Unsupported,
    #[error("cannot use `{setting}`")]
    File { setting: &'static str },
    #[error("TLS: {0}")]
    Config(String),
}
