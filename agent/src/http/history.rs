//! `/api/v1/devices/{id}/history`: what happened to one device, oldest first.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use fieldlog_projections::{AttrId, DeviceId, Fact, Record, Seq};
use serde::Serialize;

use super::App;
use super::body::Page;
use super::devices::{find, find_attribute};
use super::event::{Entry, Names, device_of};
use super::events::Slice;
use super::params::Params;
use super::position::Validator;
use super::problem::Problem;
use super::routes::answer;
use fieldlog_wire::event::{ChangesJson, Data};
use fieldlog_wire::json::Rfc3339;

const LIMIT_DEFAULT: u64 = 500;

/// What a page says about its items.
#[derive(Serialize)]
struct Rest {
    next: Option<Seq>,
    complete: bool,
}

#[derive(Serialize)]
struct Item<'a> {
    seq: Seq,
    at: Rfc3339,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<ChangesJson<'a>>,
    /// What a record says that is not a state change.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_time: Option<Rfc3339>,
}

impl<'a> Item<'a> {
    fn new(entry: &'a Entry, names: &'a Names) -> Item<'a> {
        let (changes, data) = match &entry.fact {
            Fact::StateChanged { changes, .. } => (Some(ChangesJson(names, changes)), None),
            fact => (None, Some(Data::of(fact, names))),
        };
        let (seq, at, kind) = (entry.seq, Rfc3339(entry.time), entry.kind());
        Item { seq, at, kind, changes, data, device_time: entry.device_time.map(Rfc3339) }
    }
}

/// `GET /api/v1/devices/{id}/history`
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["attribute", "from", "to", "after", "limit"])?;
    let slice = Slice::from(&params, LIMIT_DEFAULT)?;
    let (at, device, attribute, discovered) = app.with_view(|view, at| {
        let (id, device) = find(&view.devices, &name)?;
        // Actions fire under names that are in no device's state.
        let attribute = params.text("attribute").map(|name| match view.devices.attribute_named(name) {
            Some(id) => Ok(id),
            None => find_attribute(&view.devices, device, name),
        });
        Ok((at, id, attribute.transpose()?, device.discovered.0))
    })?;
    if let Some(known) = at.not_modified(&headers) {
        return Ok(known);
    }
    // Nothing before its discovery is about it.
    let after = slice.after.max(Some(Seq(discovered.0 - 1)));
    let slice = Slice { after, ..slice };
    let (side, budget) = (app.side.clone(), app.budget.clone());
    let body = app
        .reads
        .long(move |cancel| {
            let mut page = Page::begin(&budget, at, "history")?;
            let take = |record: &Record<'_>| take(record, device, attribute);
            let put = |entry: &Entry, names: &Names| page.push(&Item::new(entry, names));
            let next = slice.read(&side, at.applied, cancel, take, put)?;
            page.end(&Rest { next, complete: next.is_none() })
        })
        .await?;
    Ok(answer(body, at, Validator::Strong))
}

/// The entry of a record about `device`; with `attribute`, only what it says about that.
fn take(record: &Record<'_>, device: DeviceId, attribute: Option<AttrId>) -> Result<Option<Entry>, Problem> {
    if device_of(record)? != Some(device) {
        return Ok(None);
    }
    let mut entry = Entry::of(record)?;
    let Some(wanted) = attribute else { return Ok(Some(entry)) };
    let about = match &mut entry.fact {
        Fact::StateChanged { changes, .. } => {
            changes.retain(|(attr, _)| *attr == wanted);
            !changes.is_empty()
        }
        Fact::ActionFired { attribute, .. } | Fact::AttributeDescribed { attribute, .. } => {
            *attribute == wanted
        }
        _ => false,
    };
    Ok(about.then_some(entry))
}
