//! `/api/v1/devices/{id}/history`: the records about one device, oldest first.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use fieldlog_projections::{AttrId, DeviceId, Fact, Record, Seq};

use super::App;
use super::answer::answer;
use super::body::Page;
use super::devices::{find, find_attribute};
use super::event::{Entry, Names, device_of};
use super::events::Slice;
use super::params::Params;
use super::problem::Problem;
use crate::log::Wanted;
use fieldlog_wire::api::history::{HistoryItem, HistoryPage};
use fieldlog_wire::event::{ChangesJson, Data};
use fieldlog_wire::json::Rfc3339;

const LIMIT_DEFAULT: u64 = 500;

fn item<'a>(entry: &'a Entry, names: &'a Names) -> HistoryItem<'a, ChangesJson<'a>, Data<'a>> {
    let (changes, data) = match &entry.fact {
        Fact::StateChanged { changes, .. } => (Some(ChangesJson(names, changes)), None),
        fact => (None, Some(Data::of(fact, names))),
    };
    let (seq, at, kind) = (entry.seq, Rfc3339(entry.time), entry.kind().into());
    HistoryItem { seq, at, kind, changes, data, device_time: entry.device_time.map(Rfc3339) }
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
        // Actions have attribute names that may be in no device's state.
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
            let mut rest =
                HistoryPage { position: at.into(), history: Vec::new(), next: None, complete: true };
            let mut page = Page::begin(&budget, &rest)?;
            let wanted = Wanted { device: Some(device), types: Vec::new() };
            let select = |record: &Record<'_>| about(record, device, attribute);
            let put = |entry: &Entry, names: &Names| page.push(&item(entry, names));
            rest.next = slice.read(&side, at.applied, &wanted, cancel, select, put)?;
            rest.complete = rest.next.is_none();
            page.end(&rest)
        })
        .await?;
    Ok(answer(body, at))
}

/// The entry of a record about `device`; with `attribute`, only its part about that.
fn about(record: &Record<'_>, device: DeviceId, attribute: Option<AttrId>) -> Result<Option<Entry>, Problem> {
    if device_of(record)? != Some(device) {
        return Ok(None);
    }
    let mut entry = Entry::of(record)?;
    let Some(wanted) = attribute else { return Ok(Some(entry)) };
    let about = match &mut entry.fact {
        Fact::StateChanged { changes, .. } | Fact::HistoryReported { changes, .. } => {
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
