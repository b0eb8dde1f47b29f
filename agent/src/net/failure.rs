//! Why no stream could be opened, in words for the operator.

use std::error::Error;
use std::io;

use super::backoff::{Pace, unreached};
use super::tls::TlsError;

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot find the address of `{host}`: check `address` and this machine's name resolution")]
    Resolve { host: String, source: io::Error },
    #[error(
        "cannot connect to {address}: check that the server runs and that the firewall allows the connection"
    )]
    Connect { address: String, source: io::Error },
    #[error("the connection broke")]
    Io(#[source] io::Error),
}

impl ConnectError {
    /// The reason as one word, for metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            ConnectError::Tls(_) => "tls",
            ConnectError::Resolve { .. } => "resolve",
            ConnectError::Connect { .. } => "connect",
            ConnectError::Io(_) => "io",
        }
    }

    /// When to try again.
    pub(crate) fn pace(&self) -> Pace {
        match self {
            ConnectError::Tls(TlsError::File { .. } | TlsError::Config(_) | TlsError::Unsupported) => {
                Pace::Slow
            }
            ConnectError::Resolve { source, .. } | ConnectError::Connect { source, .. }
                if unreached(source) =>
            {
                Pace::Unreached
            }
            _ => Pace::Soon,
        }
    }
}

/// An error with its causes, in one line. Repetitions are left out.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
