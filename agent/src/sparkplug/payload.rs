//! The payload (section 6.4), as far as a host application needs it. Fields by number and wire type; unlisted ones are
//! skipped.
//!
//! Potentially long parts stay bytes here, so that a decoded payload takes at most a few times its own size in memory.

use bytes::Bytes;
use prost::{Message, Oneof};

/// A payload with more metrics is refused: they cannot all become attributes.
pub const METRICS_MAX: usize = 65_536;

/// A message that contains a compressed payload, as some libraries send it; not part of the specification.
const COMPRESSED: &str = "SPBV1.0_COMPRESSED";

/// The metric with the session number; births and deaths of edge nodes have it.
pub const BDSEQ: &str = "bdSeq";

/// A payload.
#[derive(Clone, PartialEq, Message)]
pub struct Payload {
    /// When it was sent, in milliseconds since 1970.
    #[prost(uint64, optional, tag = "1")]
    pub timestamp: Option<u64>,
    /// [`Metric`]s, each as its bytes.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub metrics: Vec<Bytes>,
    /// Its number in the edge node's session, 0 to 255.
    #[prost(uint64, optional, tag = "3")]
    pub seq: Option<u64>,
    /// `SPBV1.0_COMPRESSED` if the body is a compressed payload.
    #[prost(string, optional, tag = "4")]
    pub uuid: Option<String>,
}

/// A metric.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// Its name; births have it.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// A number that replaces the name.
    #[prost(uint64, optional, tag = "2")]
    pub alias: Option<u64>,
    /// When it had the value, in milliseconds since 1970.
    #[prost(uint64, optional, tag = "3")]
    pub timestamp: Option<u64>,
    /// Its data type; births have it.
    #[prost(uint32, optional, tag = "4")]
    pub datatype: Option<u32>,
    /// The value is not the current one.
    #[prost(bool, optional, tag = "5")]
    pub is_historical: Option<bool>,
    /// The value must not be stored.
    #[prost(bool, optional, tag = "6")]
    pub is_transient: Option<bool>,
    /// There is no value.
    #[prost(bool, optional, tag = "7")]
    pub is_null: Option<bool>,
    /// What a value of several parts is, and a description; see [`super::property`].
    #[prost(bytes = "bytes", optional, tag = "8")]
    pub metadata: Option<Bytes>,
    /// Unit, quality and the like; see [`super::property`].
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub properties: Option<Bytes>,
    /// The value.
    #[prost(oneof = "Raw", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19")]
    pub value: Option<Raw>,
}

/// A value on the wire; the data type determines its meaning.
#[derive(Clone, PartialEq, Oneof)]
pub enum Raw {
    /// Up to 32 bits, signed ones as two's complement.
    #[prost(uint32, tag = "10")]
    Int(u32),
    /// Up to 64 bits, signed ones as two's complement.
    #[prost(uint64, tag = "11")]
    Long(u64),
    /// Float.
    #[prost(float, tag = "12")]
    Float(f32),
    /// Double.
    #[prost(double, tag = "13")]
    Double(f64),
    /// Boolean.
    #[prost(bool, tag = "14")]
    Bool(bool),
    /// String, Text, UUID.
    #[prost(string, tag = "15")]
    Text(String),
    /// Bytes, File, and arrays.
    #[prost(bytes = "bytes", tag = "16")]
    Bytes(Bytes),
    /// A [`DataSet`].
    #[prost(bytes = "bytes", tag = "17")]
    DataSet(Bytes),
    /// A template; not supported.
    #[prost(bytes = "bytes", tag = "18")]
    Template(Bytes),
    /// An extension; not supported.
    #[prost(bytes = "bytes", tag = "19")]
    Extension(Bytes),
}

/// A table.
#[derive(Clone, PartialEq, Message)]
pub struct DataSet {
    /// Names of the columns.
    #[prost(string, repeated, tag = "2")]
    pub columns: Vec<String>,
    /// Data types of the columns.
    #[prost(uint32, repeated, packed = "false", tag = "3")]
    pub types: Vec<u32>,
    /// [`Row`]s, each as its bytes.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub rows: Vec<Bytes>,
}

/// A row of a table.
#[derive(Clone, PartialEq, Message)]
pub struct Row {
    /// One element per column.
    #[prost(message, repeated, tag = "1")]
    pub elements: Vec<Element>,
}

/// A value in a table; an empty one is null.
#[derive(Clone, PartialEq, Message)]
pub struct Element {
    /// The value.
    #[prost(oneof = "Cell", tags = "1, 2, 3, 4, 5, 6")]
    pub value: Option<Cell>,
}

/// See [`Raw`].
#[derive(Clone, PartialEq, Oneof)]
#[allow(missing_docs)] // as those of Raw
pub enum Cell {
    #[prost(uint32, tag = "1")]
    Int(u32),
    #[prost(uint64, tag = "2")]
    Long(u64),
    #[prost(float, tag = "3")]
    Float(f32),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(bool, tag = "5")]
    Bool(bool),
    #[prost(string, tag = "6")]
    Text(String),
}

/// A payload with parsed metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Certificate {
    /// See [`Payload::timestamp`].
    pub timestamp: Option<u64>,
    /// See [`Payload::seq`]. Absent means 0, since some writers omit zeros.
    pub seq: u8,
    /// The metrics.
    pub metrics: Vec<Metric>,
}

impl Certificate {
    /// Reads a payload.
    ///
    /// # Errors
    /// [`PayloadFault`]
    pub fn decode(bytes: Bytes) -> Result<Certificate, PayloadFault> {
        let payload = Payload::decode(bytes)?;
        if payload.uuid.as_deref() == Some(COMPRESSED) {
            return Err(PayloadFault::Compressed);
        }
        let count = payload.metrics.len();
        if count > METRICS_MAX {
            return Err(PayloadFault::Metrics(count));
        }
        let seq = payload.seq.unwrap_or(0);
        let seq = u8::try_from(seq).map_err(|_| PayloadFault::Seq(seq))?;
        let metrics = payload.metrics.into_iter().map(Metric::decode).collect::<Result<_, _>>()?;
        Ok(Certificate { timestamp: payload.timestamp, seq, metrics })
    }

    /// The session number, in the birth or death certificate of an edge node.
    pub fn birth(&self) -> Option<u64> {
        let metric = self.metrics.iter().find(|metric| metric.name.as_deref() == Some(BDSEQ))?;
        match metric.value {
            Some(Raw::Int(number)) => Some(u64::from(number)),
            Some(Raw::Long(number)) => Some(number),
            _ => None,
        }
    }
}

/// Why a payload is rejected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PayloadFault {
    /// Not Protocol Buffers.
    #[error("it is not a Sparkplug B payload: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// Compressed.
    #[error(
        "it is compressed, which Sparkplug 3.0 does not know; let the edge node publish without compression"
    )]
    Compressed,
    /// Too many metrics.
    #[error("it has {0} metrics; at most {METRICS_MAX} are taken")]
    Metrics(usize),
    /// Out of range.
    #[error("its seq is {0}; Sparkplug counts from 0 to 255")]
    Seq(u64),
}
