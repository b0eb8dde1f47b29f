//! Forwarding as a whole: a source broker, the agent, a network that fails, and somebody who keeps the accounts.
//!
//! `FIELDLOG_SEED=n` replays the faults of a run.

mod answers;
mod clock;
mod damaged;
mod disk_full;
mod drop_oldest;
mod flapping;
mod fork;
mod lying;
#[cfg(feature = "nats")]
mod nats;
mod orders;
mod parts;
mod priority;
mod refusing;
mod reload;
mod restart;
mod retention;
mod site;
mod status;
mod watermark;
mod will;
