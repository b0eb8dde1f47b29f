//! The tables in PostgreSQL, and all statements that touch them.

mod connect;
mod follow;
mod gaps;
mod hold;
mod migrate;
mod offsets;
mod partitions;
mod read;
mod rebuild;
mod registry;
mod rows;
mod write;

pub(crate) use connect::{Link, chain};
pub(crate) use follow::{
    Arrived, DeviceRow, FollowError, Log, Snapshot, Step, adopt, begin_anew, generation, led, step,
};
pub(crate) use gaps::{Gapped, gapped, gaps, keep_gaps};
pub(crate) use hold::{Held, enter_older, hold, other_event};
pub(crate) use migrate::{MigrateError, migrate, refuse_newer};
pub(crate) use offsets::{Place, is_stored, note_offsets, take_partitions};
pub(crate) use partitions::{Partitions, drop_minutes, drop_partitions};
pub(crate) use read::Readers;
pub(crate) use rebuild::{LogToFill, Names, RebuildError, fill};
pub(crate) use registry::{alive, current_log, forget, identity, register, renew};
pub(crate) use rows::Statements as RowStatements;
pub(crate) use write::{Batch, Entry, Statements, WriteError, write};
