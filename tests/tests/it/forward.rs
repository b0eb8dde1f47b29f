//! Forwarding end to end: a source broker, the agent, a failing network, and a receiver that keeps accounts.
//!
//! `FIELDLOG_SEED=n` replays the faults of a run.

mod answers;
mod clock;
mod commands;
mod damaged;
mod disk_full;
mod drop_oldest;
mod flapping;
mod fork;
mod hub;
mod hub_commands;
mod lying;
mod nats;
mod orders;
mod parts;
mod priority;
mod refusing;
mod reload;
mod resend;
mod restart;
mod retention;
mod site;
mod status;
mod watermark;
mod will;
