//! `/api/v1/aggregates`.

use std::borrow::Cow;

use fieldlog_projections::declared::{DerivedAttribute, NamedAggregate};
use serde::{Deserialize, Serialize};

use super::position::Position;
use crate::json::Rfc3339;

/// `GET /api/v1/aggregates`: what is declared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Declarations {
    /// The position of the view.
    pub position: Position,
    /// The named aggregates.
    pub aggregates: Vec<Declaration>,
    /// The derived attributes.
    pub derived_attributes: Vec<DerivedAttribute>,
}

/// A named aggregate, as declared in the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Declaration {
    /// The declaration that answers are made with.
    #[serde(flatten)]
    pub declared: NamedAggregate,
    /// Whether it is the one of the configuration.
    pub state: DeclarationState,
    /// Windows before this time may lack deleted records; absent if none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_from: Option<Rfc3339>,
}

/// See [`Declaration::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeclarationState {
    /// It is.
    Current,
    /// It has been changed or removed. The earlier one answers until the new one has been built from the log.
    Earlier,
    /// It is new, and has no answers until it has been built from the log.
    Pending,
}

/// `GET /api/v1/aggregates/{name}`: one named aggregate, by device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NamedPage<'a> {
    /// The position of the view.
    pub position: Position,
    /// The devices that have values in it, by id.
    pub devices: Vec<NamedDevice<'a>>,
    /// The last id of this page: pass it as `after` to get the next one; null on the last page.
    pub next: Option<Cow<'a, str>>,
    /// The aggregate.
    pub aggregate: Declaration,
}

/// One device in a named aggregate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NamedDevice<'a> {
    /// Its id.
    pub id: Cow<'a, str>,
    /// Its attributes that the aggregate includes: recorded ones, then derived ones.
    pub series: Vec<NamedSeries<'a>>,
}

/// One attribute in a named aggregate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NamedSeries<'a> {
    /// Its name.
    pub attribute: Cow<'a, str>,
    /// Whether it is a derived attribute.
    pub derived: bool,
    /// The windows that have values, oldest first.
    pub windows: Vec<NamedWindow>,
}

/// One window of a named aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NamedWindow {
    /// Its start, a multiple of its length since 1970, UTC.
    pub start: Rfc3339,
    /// Values, at least 1.
    pub count: u32,
    /// The result of the function, scaled.
    pub value: f64,
    /// Whether values can still be added to it.
    pub open: bool,
}
