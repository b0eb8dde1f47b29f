//! `/api/v1/diff` and `/api/v1/devices/{id}/diff`: what is different between two moments.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use fieldlog_projections::view::ValuesOf;
use fieldlog_projections::{Device, DeviceId, Devices, Value, ValueRef};
use fieldlog_wire::api::devices::Availability;
use fieldlog_wire::api::diff::{AttributeDiff, DeviceChange, DeviceDiff, DiffAnswer, DiffPage, FromTo};
use fieldlog_wire::json::Rfc3339;
use serde_json::Value as Json;

use super::App;
use super::answer::answer;
use super::body::{Page, encode};
use super::devices::{Known, linked};
use super::params::Params;
use super::past::{Moment, Past};
use super::position::At;
use super::problem::Problem;
use super::reads::Cancel;
use crate::command::declared::to_json;
use crate::read_side::ReadSide;
use crate::recovery::past::Wanted;
use crate::sorted;

const LIMIT_MAX: u64 = 1_000;
const LIMIT_DEFAULT: u64 = 200;

/// The two moments of a request. Without `to`, the later one is the position of the view.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: Moment,
    to: Option<Moment>,
}

impl Span {
    fn of(params: &Params) -> Result<Span, Problem> {
        let Some(from) = params.text("from") else {
            let detail = "`from` is required here: the earlier moment, a time or a sequence number; `to` is now without it";
            return Err(Problem::bad_parameter(detail));
        };
        let to = params.text("to").map(|to| Moment::parse("to", to)).transpose()?;
        Ok(Span { from: Moment::parse("from", from)?, to })
    }

    /// The states at both moments.
    fn states(
        self,
        side: &ReadSide,
        at: At,
        values: ValuesOf,
        cancel: &Cancel,
    ) -> Result<[Past; 2], Problem> {
        let wanted = Wanted { folds: &[], values };
        let to = self.to.unwrap_or(Moment::Seq(at.applied));
        if self.from.place(side, at, cancel)?.seq > to.place(side, at, cancel)?.seq {
            return Err(Problem::bad_parameter("`from` must not be later than `to`"));
        }
        let state = |moment| Past::at(side, at, moment, wanted, cancel);
        Ok([state(self.from)?, state(to)?])
    }
}

/// `GET /api/v1/devices/{id}/diff`
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let span = Span::of(&Params::of(&uri, &["from", "to"])?)?;
    let (at, known) = app.with_view(|view, at| Ok((at, Known::find(&view.devices, &name)?)))?;
    let (side, budget) = (app.side.clone(), app.budget.clone());
    let body = app
        .reads
        .replay(move |cancel| {
            let [from, to] = span.states(&side, at, ValuesOf::Device(known.id), cancel)?;
            let both = [&from.view.devices, &to.view.devices];
            let device = diff(both, known.id).ok_or_else(|| known.not_yet())?;
            encode(&budget, &DiffAnswer { position: at.into(), from: from.as_of, to: to.as_of, device })
        })
        .await?;
    Ok(answer(body, at))
}

/// `GET /api/v1/diff`. Each page is a replay of its own.
pub(super) async fn all(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["from", "to", "after", "limit"])?;
    let (span, limit) = (Span::of(&params)?, params.limit(LIMIT_MAX, LIMIT_DEFAULT)?);
    let after = params.text("after").map(str::to_owned);
    let at = At::published(&app.side.shared);
    let (side, budget) = (app.side.clone(), app.budget.clone());
    let (body, next) = app
        .reads
        .replay(move |cancel| {
            let [from, to] = span.states(&side, at, ValuesOf::All, cancel)?;
            let both = [&from.view.devices, &to.view.devices];
            let mut found: Vec<(&str, DeviceId)> = ids(both).collect();
            found.retain(|(name, _)| after.as_deref().is_none_or(|after| *name > after));
            found.sort_unstable();
            let mut different = found
                .into_iter()
                .filter_map(|(_, id)| diff(both, id))
                .filter(|diff| diff.change != DeviceChange::None)
                .peekable();
            let (from, to) = (from.as_of, to.as_of);
            let mut rest = DiffPage { position: at.into(), from, to, devices: Vec::new(), next: None };
            let mut page = Page::begin(&budget, &rest)?;
            let mut last = None;
            for device in different.by_ref().take(limit) {
                let full = page.push(&device)?;
                last = Some(device.id);
                if full {
                    break;
                }
            }
            rest.next = last.filter(|_| different.peek().is_some());
            let next = rest.next.as_deref().map(str::to_owned);
            Ok((page.end(&rest)?, next))
        })
        .await?;
    // All pages are about the same two moments.
    let uri = match (span.to, uri.query()) {
        (None, Some(query)) => format!("{}?{query}&to={}", uri.path(), at.applied).parse().unwrap_or(uri),
        _ => uri,
    };
    Ok(linked(answer(body, at), &uri, next))
}

/// All devices of either state, with their newest ids.
fn ids([from, to]: [&Devices; 2]) -> impl Iterator<Item = (&str, DeviceId)> {
    let gone = from.iter().filter(move |(id, _)| to.get(*id).is_none());
    to.iter().chain(gone).map(|(id, device)| (&*device.name, id))
}

/// What is different about a device; none if it is in neither state.
fn diff<'a>(both: [&'a Devices; 2], id: DeviceId) -> Option<DeviceDiff<'a>> {
    let [from, to] = both.map(|devices| devices.get(id));
    let (events, fields) =
        (|device: Option<&Device>| device.map_or(0, |device| device.events), fields(both, id));
    let attributes = attributes(both, [from, to]);
    let change = match (from, to) {
        (None, None) => return None,
        (None, Some(_)) => DeviceChange::Discovered,
        (Some(_), None) => DeviceChange::Forgotten,
        _ if fields.is_empty() && attributes.is_empty() => DeviceChange::None,
        _ => DeviceChange::Changed,
    };
    let name = &*to.or(from)?.name;
    let events = events(to).saturating_sub(events(from));
    Some(DeviceDiff { id: name.into(), change, events, fields, attributes })
}

/// The fields that are different.
fn fields<'a>(both: [&Devices; 2], id: DeviceId) -> BTreeMap<Cow<'a, str>, FromTo> {
    let [from, to] = both.map(|devices| devices.get(id).map(|device| values_of(devices, device)));
    let names = ["id", "source", "parent", "retired", "availability", "offline_because"];
    let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
    let both = names.into_iter().zip(from.into_iter().zip(to));
    let different = both.filter(|(_, (from, to))| from != to);
    sorted::map(different.map(|(name, (from, to))| (name.into(), FromTo { from, to })))
}

/// In the order of the names in [`fields`].
fn values_of(devices: &Devices, device: &Device) -> [Json; 6] {
    let name = |id: DeviceId| devices.get(id).map(|device| Json::from(&*device.name));
    let (availability, because) = devices.effective_availability(device);
    let availability = serde_json::to_value(Availability::from(availability)).unwrap_or_default();
    [
        (&*device.name).into(),
        (&*device.source).into(),
        device.parent.and_then(name).unwrap_or_default(),
        device.retired.into(),
        availability,
        because.and_then(name).unwrap_or_default(),
    ]
}

/// The attributes whose value is different.
fn attributes<'a>(
    both: [&'a Devices; 2],
    [from, to]: [Option<&Device>; 2],
) -> BTreeMap<Cow<'a, str>, AttributeDiff> {
    let value = |device: Option<&'_ Device>, attr| {
        let slot = device.and_then(|device| device.value(attr));
        slot.map_or(Value::Null, |slot| slot.value.clone())
    };
    let slots = [from, to].into_iter().flatten().flat_map(|device| &device.attributes);
    let mut attrs: Vec<_> = slots.map(|slot| slot.id).collect();
    attrs.sort_unstable();
    attrs.dedup();
    let mut different = BTreeMap::new();
    for attr in attrs {
        let values = [value(from, attr), value(to, attr)];
        let [before, after]: [ValueRef<'_>; 2] = [values[0].borrow(), values[1].borrow()];
        let name = both.into_iter().rev().find_map(|devices| devices.attribute_name(attr));
        if let (false, Some(name)) = (before.same(after), name) {
            let slot = to.and_then(|device| device.attributes.iter().find(|slot| slot.id == attr));
            let (seq, at) = slot.map(|slot| (slot.seq, Rfc3339(slot.time))).unzip();
            let (from, to) = (to_json(before), to_json(after));
            different.insert(name.into(), AttributeDiff { from, to, seq, at });
        }
    }
    different
}
