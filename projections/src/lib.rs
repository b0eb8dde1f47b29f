//! The pure core of fieldlog: facts, their stored form, and the folds over them.
//!
//! Nothing in this crate does IO, reads a clock or draws a random number; time is an argument. The same records give
//! the same [`View`], byte for byte. `FORMAT.md` describes the bytes, `ARCHITECTURE.md` the flow.

pub mod alert;
pub mod chain;
pub mod chunk;
pub mod command;
pub mod declared;
pub mod description;
pub mod digest;
pub mod fact;
pub mod fold;
pub mod folds;
mod ids;
mod kind;
pub mod pattern;
pub mod record;
pub mod rollup;
pub mod snapshot;
pub mod stored;
pub mod trace;
pub mod value;
pub mod varint;
pub mod view;

pub use alert::{Alert, AlertCleared, Severity};
pub use chain::{Anchor, ChainHash};
pub use chunk::Chunk;
pub use command::{CommandRequest, CommandState};
pub use declared::Declared;
pub use description::{AttributeDescription, DataType, DescribedBy, DeviceDescription};
pub use fact::Fact;
pub use fold::FoldError;
pub use folds::aggregates::{Aggregates, Bucket, Window};
pub use folds::alerts::Alerts;
pub use folds::commands::Commands;
pub use folds::descriptions::{Described, Descriptions};
pub use folds::devices::{Device, Devices};
pub use folds::named::Named;
pub use folds::sessions::Sessions;
pub use folds::{aggregates, alerts, commands, descriptions, devices, named, sessions};
pub use ids::{AttrId, DeviceId, Epoch, Seq, Time};
pub use kind::Kind;
pub use record::{Record, Records};
pub use trace::TraceParent;
pub use value::{Value, ValueRef};
pub use view::{Settings, View};
