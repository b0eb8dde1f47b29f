//! From an address to a stream of bytes: name resolution, TCP, TLS, secrets from files, and when to try again.
//!
//! Sources and all kinds of sinks stand on this; nothing in here knows what is spoken over the stream.

pub mod backoff;
pub(crate) mod connect;
pub(crate) mod failure;
pub(crate) mod secret;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(not(feature = "tls"))]
#[path = "net/no_tls.rs"]
pub(crate) mod tls;
