//! The payloads of all kinds except `StateChanged`. A released struct never changes.

use serde::{Deserialize, Serialize};

use super::value::ValueV2;
use crate::description::{DataType, DescribedBy};
use crate::fact::{Availability, AvailabilityCause, ClockQuality};

#[derive(Serialize, Deserialize)]
pub(super) struct AvailabilityChangedV1 {
    pub device: u32,
    pub availability: Availability,
    pub cause: AvailabilityCause,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeviceDiscoveredV1<'a> {
    pub device: u32,
    pub name: &'a str,
    pub source: &'a str,
    pub parent: Option<u32>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeviceDiscoveredV2<'a> {
    pub device: u32,
    pub id: &'a str,
    pub source: &'a str,
    pub parent: Option<u32>,
    /// The namespace, and the name in it if it differs from the id.
    #[serde(borrow)]
    pub identity: Option<(&'a str, Option<&'a str>)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeviceRenamedV1<'a> {
    pub device: u32,
    pub id: &'a str,
    pub called: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct QuarantineSummarisedV1<'a> {
    pub source: &'a str,
    pub topic: &'a str,
    pub reason: &'a str,
    pub size: u64,
    pub count: u64,
    pub first: i64,
    pub last: i64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AttributeNamedV1<'a> {
    pub attribute: u32,
    pub name: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeviceRetiredV1 {
    pub device: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeviceForgottenV1 {
    pub device: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ActionFiredV1<'a> {
    pub device: u32,
    pub attribute: u32,
    #[serde(borrow)]
    pub value: ValueV2<'a>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct InputQuarantinedV1<'a> {
    pub source: &'a str,
    pub topic: &'a str,
    pub reason: &'a str,
    pub size: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct BootedV1<'a> {
    pub boot_id: [u8; 16],
    pub version: &'a str,
    pub clock: ClockQuality,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ClockSteppedV1 {
    pub expected: i64,
    pub found: i64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ClockCorrectedV1 {
    pub before: i64,
    pub after: i64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ConfigChangedV1<'a> {
    #[serde(borrow)]
    pub keys: Vec<&'a str>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeadLetteredV1<'a> {
    pub sink: &'a str,
    pub first: u64,
    pub last: u64,
    pub reason: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct TrimmedV1 {
    pub first: u64,
    pub last: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct GapV1<'a> {
    pub first: u64,
    pub last: u64,
    #[serde(borrow)]
    pub lost_by: Vec<&'a str>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct EpochBegunV1<'a> {
    pub previous: Option<u64>,
    pub reason: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RecordsLostV1<'a> {
    pub first: u64,
    pub last: u64,
    pub reason: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeviceDescribedV1<'a> {
    pub device: u32,
    pub by: DescribedBy,
    pub stable_id: &'a str,
    pub name: &'a str,
    pub model: &'a str,
    pub manufacturer: &'a str,
    pub area: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AttributeDescribedV1<'a> {
    pub device: u32,
    pub attribute: u32,
    pub by: DescribedBy,
    pub name: &'a str,
    pub unit: &'a str,
    pub device_class: &'a str,
    pub data_type: DataType,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub step: Option<f64>,
    #[serde(borrow)]
    pub values: Vec<&'a str>,
    pub writable: Option<bool>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct HistoryReportedV1<'a> {
    pub device: u32,
    #[serde(borrow)]
    pub changes: Vec<(u32, ValueV2<'a>)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct MetricsDeclaredV1 {
    pub device: u32,
    /// Attribute, alias and data type of each.
    pub metrics: Vec<(Option<u32>, Option<u64>, u32)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SessionNotedV1 {
    pub device: u32,
    pub birth: Option<u64>,
    pub seq: Option<u8>,
}
