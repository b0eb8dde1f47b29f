//! What a metric says beside its value: properties (section 6.4.9) and the description in its metadata (section 6.4.7).

use bytes::Bytes;
use prost::{Message, Oneof};

use super::payload::Metric;

/// Longest properties or metadata of one metric that are read, in bytes.
const BYTES_MAX: usize = 65_536;

/// Whether a value can be relied on (section 6.4.9.1).
const QUALITY: &str = "Quality";
/// What the specification calls good, and OPC beside it: 192 to 255.
const GOOD: std::ops::RangeInclusive<i64> = 192..=255;

/// What is said of a metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// Its quality, if that is not a good one: 0 is bad and 500 is stale.
    pub bad_quality: Option<i64>,
    /// `engUnit`.
    pub unit: String,
    /// `engLow`.
    pub min: Option<f64>,
    /// `engHigh`.
    pub max: Option<f64>,
    /// `readOnly`.
    pub read_only: Option<bool>,
    /// The description in the metadata.
    pub description: String,
}

#[derive(Clone, PartialEq, Message)]
struct PropertySet {
    #[prost(string, repeated, tag = "1")]
    keys: Vec<String>,
    /// [`PropertyValue`]s, each as its bytes.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    values: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct PropertyValue {
    #[prost(bool, optional, tag = "2")]
    is_null: Option<bool>,
    #[prost(oneof = "Said", tags = "3, 4, 5, 6, 7, 8")]
    value: Option<Said>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Said {
    #[prost(uint32, tag = "3")]
    Int(u32),
    #[prost(uint64, tag = "4")]
    Long(u64),
    #[prost(float, tag = "5")]
    Float(f32),
    #[prost(double, tag = "6")]
    Double(f64),
    #[prost(bool, tag = "7")]
    Bool(bool),
    #[prost(string, tag = "8")]
    Text(String),
}

#[derive(Clone, PartialEq, Message)]
struct MetaData {
    #[prost(string, optional, tag = "8")]
    description: Option<String>,
}

impl Properties {
    /// Reads what a metric says. What is of a type that it should not have is not said; only a quality of which it is not
    /// known that it is good is none.
    ///
    /// # Errors
    /// [`PropertyFault`]
    pub fn read(metric: &Metric) -> Result<Properties, PropertyFault> {
        let mut properties = Properties::default();
        if let Some(metadata) = &metric.metadata {
            let metadata = MetaData::decode(bounded(metadata)?)?;
            properties.description = metadata.description.unwrap_or_default();
        }
        let Some(bytes) = &metric.properties else { return Ok(properties) };
        let PropertySet { keys, values } = PropertySet::decode(bounded(bytes)?)?;
        if keys.len() != values.len() {
            return Err(PropertyFault::Counts { keys: keys.len(), values: values.len() });
        }
        for (key, value) in keys.iter().zip(values) {
            if ![QUALITY, "engUnit", "engLow", "engHigh", "readOnly"].contains(&key.as_str()) {
                continue;
            }
            let PropertyValue { is_null, value } = PropertyValue::decode(value)?;
            if is_null == Some(true) {
                continue;
            }
            match (key.as_str(), value) {
                (QUALITY, value) => properties.bad_quality = bad(value.as_ref())?,
                ("engUnit", Some(Said::Text(unit))) => properties.unit = unit,
                ("engLow", Some(value)) => properties.min = number(&value),
                ("engHigh", Some(value)) => properties.max = number(&value),
                ("readOnly", Some(Said::Bool(flag))) => properties.read_only = Some(flag),
                _ => {}
            }
        }
        Ok(properties)
    }
}

fn bounded(bytes: &Bytes) -> Result<Bytes, PropertyFault> {
    if bytes.len() > BYTES_MAX { Err(PropertyFault::TooLong(bytes.len())) } else { Ok(bytes.clone()) }
}

/// A quality that is not good.
fn bad(value: Option<&Said>) -> Result<Option<i64>, PropertyFault> {
    let quality = match value {
        // A signed number (tck-id-payloads-propertyset-quality-value-type) of two's complement.
        Some(Said::Int(number)) => i64::from(*number as i32),
        Some(Said::Long(number)) => *number as i64,
        _ => return Err(PropertyFault::Quality),
    };
    Ok(Some(quality).filter(|quality| !GOOD.contains(quality)))
}

fn number(value: &Said) -> Option<f64> {
    let number = match value {
        Said::Int(number) => f64::from(*number as i32),
        Said::Long(number) => *number as i64 as f64,
        Said::Float(number) => number.to_string().parse().ok()?,
        Said::Double(number) => *number,
        Said::Bool(_) | Said::Text(_) => return None,
    };
    Some(number).filter(|number| number.is_finite())
}

/// Why it is not known what a metric says beside its value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PropertyFault {
    /// Not Protocol Buffers.
    #[error("its properties cannot be read: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// tck-id-payloads-propertyset-keys-array-size
    #[error("its properties have {keys} keys and {values} values")]
    Counts {
        /// Keys.
        keys: usize,
        /// Values.
        values: usize,
    },
    /// Too long.
    #[error("its properties or metadata have {0} bytes; at most {BYTES_MAX} are read")]
    TooLong(usize),
    /// tck-id-payloads-propertyset-quality-value-type
    #[error("its quality is no number")]
    Quality,
}
