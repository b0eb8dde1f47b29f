//! `/api/v1/devices`: current state, and the state at a past moment.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use fieldlog_projections::declared::DerivedAttribute;
use fieldlog_projections::fact::Availability;
use fieldlog_projections::view::ValuesOf;
use fieldlog_projections::{
    AttrId, AttributeDescription, Described, Descriptions, Device, DeviceId, Devices, Seq, Time, Value,
    ValueRef, View,
};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::App;
use super::answer::answer;
use super::body::{Budget, Page, Pieces, encode};
use super::nearest::did_you_mean;
use super::params::Params;
use super::past::{Moment, Past};
use super::position::At;
use super::problem::Problem;
use crate::read_side::ReadSide;
use crate::recovery::past::Wanted;
use crate::sorted;
use fieldlog_wire::api::devices as api;
use fieldlog_wire::describe::{AttributeJson, DeviceJson};
use fieldlog_wire::json::{self, Rfc3339, Val};

const LIMIT_MAX: u64 = 1_000;
const LIMIT_DEFAULT: u64 = 200;

/// The device that has or had an id, or a problem with suggestions.
pub(super) fn find<'a>(devices: &'a Devices, name: &str) -> Result<(DeviceId, &'a Device), Problem> {
    devices.find_ever(name).ok_or_else(|| {
        let near = did_you_mean(name, devices.iter().map(|(_, device)| &*device.name));
        let detail =
            format!("there is no device `{name}`.{near} `fieldlog devices` and /api/v1/devices list them; in a path, a `/` in an id is written %2F");
        Problem::not_found("no-such-device", "No such device", detail)
    })
}

/// The number of an attribute that the device has or had.
pub(super) fn find_attribute(devices: &Devices, device: &Device, name: &str) -> Result<AttrId, Problem> {
    let id = devices.attribute_named(name).filter(|id| device.attributes.iter().any(|a| a.id == *id));
    id.ok_or_else(|| {
        let names = device.attributes.iter().filter_map(|a| devices.attribute_name(a.id));
        let near = did_you_mean(name, names);
        let detail =
            format!("{} has no attribute `{name}`.{near} Its current state lists those it has", device.name);
        Problem::not_found("no-such-attribute", "No such attribute", detail)
    })
}

/// A device, whose attributes serialise themselves.
fn device_json<'a, A>(
    view: &'a View,
    (id, device): (DeviceId, &'a Device),
    heard: Option<Time>,
    now: Time,
    attributes: A,
) -> api::Device<'a, A> {
    let devices = &view.devices;
    let name = |id: DeviceId| devices.get(id).map(|device| Cow::from(&*device.name));
    let (availability, because) = devices.effective_availability(device);
    let newest = heard.map_or(device.changed.1, |heard| heard.max(device.changed.1));
    api::Device {
        id: (&*device.name).into(),
        namespace: device.namespace().map(Cow::from),
        called: device.called().into(),
        former_ids: device.former.iter().map(|id| Cow::from(&**id)).collect(),
        source: (&*device.source).into(),
        description: description(view.descriptions.get(id)),
        parent: device.parent.and_then(name),
        availability: availability.into(),
        availability_cause: device.availability_cause.into(),
        availability_at: Rfc3339(device.availability_changed.1),
        offline_because: because.and_then(name),
        retired: device.retired,
        discovered_at: Rfc3339(device.discovered.1),
        changed_seq: device.changed.0,
        changed_at: Rfc3339(device.changed.1),
        device_time: device.device_time.map(Rfc3339),
        heard_at: heard.map(Rfc3339),
        data_age_s: now.micros_since(newest) as f64 / 1e6,
        events: device.events,
        attributes,
        derived: BTreeMap::new(),
        units: None,
        classes: None,
    }
}

/// The derived attributes of a device that can be computed from its values.
fn derived<'a>(
    declared: &'a [DerivedAttribute],
    devices: &Devices,
    device: &Device,
) -> BTreeMap<Cow<'a, str>, api::Derived<'a>> {
    let compute = |one: &'a DerivedAttribute| {
        let slots: Vec<_> =
            one.of.iter().map(|name| device.value(devices.attribute_named(name)?)).collect::<Option<_>>()?;
        let numbers = slots.iter().map(|slot| slot.value.borrow().as_number());
        let value = match one.value(numbers)? {
            Value::Bool(on) => api::DerivedValue::Bool(on),
            value => api::DerivedValue::Number(value.borrow().as_number()?),
        };
        let newest = slots.iter().max_by_key(|slot| slot.seq)?;
        let (unit, seq, at) = ((&*one.unit).into(), newest.seq, Rfc3339(newest.time));
        Some(((&*one.name).into(), api::Derived { value, unit, seq, at }))
    };
    sorted::map(declared.iter().filter_map(compute))
}

/// A device's description, if it has one.
fn description(described: Option<&Described>) -> Option<DeviceJson<'static>> {
    let said = described?.device();
    (!said.is_empty()).then(|| DeviceJson::of(&said).into_owned())
}

/// Texts by the attributes' names; `None` if there are none.
type Texts<'a> = Option<BTreeMap<Cow<'a, str>, String>>;

/// Units and device classes of the attributes that have a value.
fn units_and_classes<'a>(view: &'a View, id: DeviceId, device: &Device) -> (Texts<'a>, Texts<'a>) {
    let (mut units, mut classes) = (BTreeMap::new(), BTreeMap::new());
    let Some(described) = view.descriptions.get(id) else { return (None, None) };
    for slot in device.attributes.iter().filter(|slot| slot.value != Value::Null) {
        let Some(name) = view.devices.attribute_name(slot.id) else { continue };
        let AttributeDescription { unit, device_class, .. } = described.attribute(slot.id);
        for (texts, text) in [(&mut units, unit), (&mut classes, device_class)] {
            if !text.is_empty() {
                texts.insert(Cow::from(name), text);
            }
        }
    }
    let some = |texts: BTreeMap<_, _>| (!texts.is_empty()).then_some(texts);
    (some(units), some(classes))
}

/// Attributes with their values only.
struct Values<'a>(&'a Devices, &'a Device);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for slot in self.1.attributes.iter().filter(|slot| slot.value != Value::Null) {
            map.serialize_entry(self.0.attribute_name(slot.id).unwrap_or(""), &Val(slot.value.borrow()))?;
        }
        map.end()
    }
}

/// Attributes with position, time and description. One without a value is included if it is described: it may be
/// write-only.
struct Details<'a> {
    devices: &'a Devices,
    device: &'a Device,
    described: Option<&'a Described>,
}

impl Serialize for Details<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut put = |id: AttrId, value, seq, at: Option<Time>| {
            let description = self.described.map(|described| described.attribute(id)).unwrap_or_default();
            let description = AttributeJson::of(&description);
            let attribute = api::Attribute { value: Val(value), seq, at: at.map(Rfc3339), description };
            map.serialize_entry(self.devices.attribute_name(id).unwrap_or(""), &attribute)
        };
        let with_value = || self.device.attributes.iter().filter(|slot| slot.value != Value::Null);
        for slot in with_value() {
            put(slot.id, slot.value.borrow(), Some(slot.seq), Some(slot.time))?;
        }
        let described = self.described.map(Described::attributes).unwrap_or_default();
        for id in described.into_iter().filter(|id| !with_value().any(|slot| slot.id == *id)) {
            put(id, ValueRef::Null, None, None)?;
        }
        map.end()
    }
}

/// The requested devices.
#[derive(Debug)]
struct DeviceFilter {
    after: Option<String>,
    limit: usize,
    source: Option<String>,
    availability: Option<Availability>,
    retired: bool,
}

impl DeviceFilter {
    fn from(params: &Params) -> Result<DeviceFilter, Problem> {
        let availability = match params.text("availability") {
            None => None,
            Some("online") => Some(Availability::Online),
            Some("offline") => Some(Availability::Offline),
            Some("unknown") => Some(Availability::Unknown),
            Some(other) => {
                let detail = format!("`availability={other}` must be online, offline or unknown");
                return Err(Problem::bad_parameter(detail));
            }
        };
        Ok(DeviceFilter {
            after: params.text("after").map(str::to_owned),
            limit: params.limit(LIMIT_MAX, LIMIT_DEFAULT)?,
            source: params.text("source").map(str::to_owned),
            availability,
            retired: params.flag("retired")?,
        })
    }

    fn matches(&self, devices: &Devices, device: &Device) -> bool {
        (self.retired || !device.retired)
            && self.source.as_deref().is_none_or(|source| *source == *device.source)
            && self.availability.is_none_or(|wanted| devices.effective_availability(device).0 == wanted)
    }
}

/// `GET /api/v1/devices`
pub(super) async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["after", "limit", "source", "availability", "retired", "at"])?;
    let filter = DeviceFilter::from(&params)?;
    if let Some(moment) = params.text("at") {
        let moment = Moment::parse("at", moment)?;
        return list_at(&app, &uri, filter, moment).await;
    }
    if let Some(known) = At::published(&app.side.shared).not_modified(&headers) {
        return Ok(known);
    }
    let (side, budget) = (app.side.clone(), app.budget.clone());
    let read = move |_: &_| side.with_view(|view, at| page(&side, &budget, view, at, &filter, None));
    let (body, at, next) = app.reads.short(read).await?;
    Ok(linked(answer(body, at), &uri, next))
}

/// Adds a link to the next page.
pub(super) fn linked(mut response: Response, uri: &Uri, next: Option<String>) -> Response {
    if let Some(link) = next.and_then(|next| next_link(uri, &next)) {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

/// The devices at a past time. Each page is a replay of its own.
async fn list_at(app: &App, uri: &Uri, filter: DeviceFilter, moment: Moment) -> Result<Response, Problem> {
    let at = At::published(&app.side.shared);
    let (side, budget) = (app.side.clone(), app.budget.clone());
    let (body, at, next) = app
        .reads
        .replay(move |cancel| {
            let wanted = Wanted { folds: &[Descriptions::ID], values: ValuesOf::All };
            let past = Past::at(&side, at, moment, wanted, cancel)?;
            page(&side, &budget, &past.view, at, &filter, Some(past.as_of))
        })
        .await?;
    Ok(linked(answer(body, at), uri, next))
}

fn page(
    side: &ReadSide,
    budget: &Budget,
    view: &View,
    at: At,
    filter: &DeviceFilter,
    as_of: Option<api::AsOf>,
) -> Result<(Pieces, At, Option<String>), Problem> {
    let (devices, config) = (&view.devices, side.config.borrow().clone());
    let now = as_of.map_or_else(|| side.now(), |as_of| as_of.time.0);
    let mut rest = api::DevicePage { position: at.into(), as_of, devices: Vec::new(), next: None };
    let mut page = Page::begin(budget, &rest)?;
    let mut found = devices
        .by_name_after(filter.after.as_deref())
        .filter(|(_, device)| filter.matches(devices, device))
        .peekable();
    let mut last = None;
    for (id, device) in found.by_ref().take(filter.limit) {
        last = Some(&*device.name);
        let heard = side.heard.get(id).filter(|_| as_of.is_none());
        let json = device_json(view, (id, device), heard, now, Values(devices, device));
        let (units, classes) = units_and_classes(view, id, device);
        let derived = derived(&config.derived, devices, device);
        if page.push(&api::Device { units, classes, derived, ..json })? {
            break;
        }
    }
    let next = last.filter(|_| found.peek().is_some());
    rest.next = next.map(Cow::from);
    Ok((page.end(&rest)?, at, next.map(str::to_owned)))
}

/// RFC 8288: the same request, after the last device of this page.
fn next_link(uri: &Uri, next: &str) -> Option<HeaderValue> {
    let kept = uri.query().unwrap_or("").split('&').filter(|p| !p.is_empty() && !p.starts_with("after="));
    let after = format!("after={}", json::percent(next));
    let query = kept.chain([after.as_str()]).collect::<Vec<_>>().join("&");
    HeaderValue::from_str(&format!("<{}?{query}>; rel=\"next\"", uri.path())).ok()
}

/// `GET /api/v1/devices/{id}`
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["at"])?;
    if let Some(moment) = params.text("at") {
        let moment = Moment::parse("at", moment)?;
        return at_moment(&app, name, moment).await;
    }
    if let Some(known) = At::published(&app.side.shared).not_modified(&headers) {
        return Ok(known);
    }
    let (now, config) = (app.side.now(), app.side.config.borrow().clone());
    let (body, at) = app.with_view(|view, at| {
        let (id, device) = find(&view.devices, &name)?;
        let heard = app.side.heard.get(id);
        let single = single(view, (id, device), heard, now, &config.derived, at, None);
        Ok((encode(&app.budget, &single)?, at))
    })?;
    Ok(answer(body, at))
}

fn single<'a>(
    view: &'a View,
    (id, device): (DeviceId, &'a Device),
    heard: Option<Time>,
    now: Time,
    declared: &'a [DerivedAttribute],
    position: At,
    as_of: Option<api::AsOf>,
) -> api::DeviceAnswer<'a, Details<'a>> {
    let attributes = Details { devices: &view.devices, device, described: view.descriptions.get(id) };
    let derived = derived(declared, &view.devices, device);
    let device = api::Device { derived, ..device_json(view, (id, device), heard, now, attributes) };
    api::DeviceAnswer { position: position.into(), as_of, device }
}

/// A device whose past is asked for. It must be known now, so that a misspelt id does not cause a replay.
#[derive(Clone, Debug)]
pub(super) struct Known {
    name: String,
    pub(super) id: DeviceId,
    discovered: (Seq, Time),
}

impl Known {
    pub(super) fn find(devices: &Devices, name: &str) -> Result<Known, Problem> {
        let (id, device) = find(devices, name)?;
        Ok(Known { name: name.to_owned(), id, discovered: device.discovered })
    }

    /// The device that is meant: itself, whatever its id was then; before it was known, the one that had its id then.
    fn then(&self, devices: &Devices) -> Result<DeviceId, Problem> {
        let same = devices.get(self.id).map(|_| self.id);
        let other = || devices.find(&self.name).map(|(id, _)| id);
        same.or_else(other).ok_or_else(|| self.not_yet())
    }

    pub(super) fn not_yet(&self) -> Problem {
        let time = serde_json::to_string(&Rfc3339(self.discovered.1)).unwrap_or_default();
        let detail = format!(
            "`{}` was not known at that time; it was first seen at {}, sequence {}",
            self.name,
            time.trim_matches('"'),
            self.discovered.0
        );
        Problem::not_found("no-such-device", "No such device at that time", detail)
    }
}

/// The device at a past time.
async fn at_moment(app: &App, name: String, moment: Moment) -> Result<Response, Problem> {
    let (at, known) = app.with_view(|view, at| Ok((at, Known::find(&view.devices, &name)?)))?;
    let (side, budget) = (app.side.clone(), app.budget.clone());
    let body = app
        .reads
        .replay(move |cancel| {
            let past = |id| {
                let wanted = Wanted { folds: &[Descriptions::ID], values: ValuesOf::Device(id) };
                Past::at(&side, at, moment, wanted, cancel)
            };
            let mut then = past(known.id)?;
            let id = known.then(&then.view.devices)?;
            if id != known.id {
                then = past(id)?;
            }
            let Past { view, as_of } = &then;
            let device = view.devices.get(id).ok_or_else(|| known.not_yet())?;
            let config = side.config.borrow().clone();
            encode(
                &budget,
                &single(view, (id, device), None, as_of.time.0, &config.derived, at, Some(*as_of)),
            )
        })
        .await?;
    Ok(answer(body, at))
}
