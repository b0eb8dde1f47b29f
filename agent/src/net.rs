//! Turns an address into a byte stream: name resolution, TCP, TLS, secrets from files, back-off.
//!
//! Sources and all kinds of sinks use this; nothing here depends on the protocol above.

pub mod backoff;
pub(crate) mod connect;
pub(crate) mod failure;
pub(crate) mod secret;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(not(feature = "tls"))]
#[path = "net/no_tls.rs"]
pub(crate) mod tls;
