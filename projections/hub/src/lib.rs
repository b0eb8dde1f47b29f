//! The fleet side of fieldlog: takes what gateways forward and keeps it in PostgreSQL, each event once, together with the
//! positions that it proves to have.
//!
//! [`parcel`] reads what a gateway sends, [`changes`] folds it into the read models; both are pure. `writer` puts them
//! into `postgres`, rows and positions in one transaction. [`run`] starts everything.

mod ask;
mod calls;
pub mod changes;
pub mod check;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod follow;
mod gaps;
mod http;
mod intake;
mod kafka;
pub mod load;
mod metrics;
mod mqtt;
mod nats;
pub mod parcel;
mod postgres;
pub mod rebuild;
mod request;
pub mod run;
mod source;
mod text;
mod tls;
mod token;
mod wanted;
pub mod words;
mod writer;
