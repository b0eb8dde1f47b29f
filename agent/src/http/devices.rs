//! `/api/v1/devices`: current state, and the state at a past moment.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use fieldlog_projections::fact::Availability;
use fieldlog_projections::{AttrId, Device, DeviceId, Devices, Seq, Time, Value, View};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::App;
use super::body::{Budget, Page, Pieces, encode};
use super::nearest::did_you_mean;
use super::params::Params;
use super::past;
use super::position::{At, Validator};
use super::problem::Problem;
use super::routes::answer;
use crate::read_side::ReadSide;
use fieldlog_wire::json::{self, Rfc3339, Val};

const LIMIT_MAX: u64 = 1_000;
const LIMIT_DEFAULT: u64 = 200;

/// The device that has an id or had it before, or a problem that names those that may have been meant.
pub(super) fn find<'a>(devices: &'a Devices, name: &str) -> Result<(DeviceId, &'a Device), Problem> {
    devices.find_ever(name).ok_or_else(|| {
        let near = did_you_mean(name, devices.iter().map(|(_, device)| &*device.name));
        let detail =
            format!("there is no device `{name}`.{near} /api/v1/devices lists them; a `/` in an id is written %2F in a path");
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

/// What a page says about its devices.
#[derive(Serialize)]
struct Rest<'a> {
    next: Option<&'a str>,
}

#[derive(Serialize)]
struct One<'a> {
    position: At,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<past::AsOf>,
    device: DeviceJson<'a, Details<'a>>,
}

/// A device.
#[derive(Serialize)]
struct DeviceJson<'a, A> {
    id: &'a str,
    /// `null` if no record says so yet.
    namespace: Option<&'a str>,
    /// What its source calls it.
    called: &'a str,
    former_ids: &'a [Arc<str>],
    source: &'a str,
    parent: Option<&'a str>,
    availability: &'static str,
    availability_cause: &'static str,
    availability_at: Rfc3339,
    offline_because: Option<&'a str>,
    retired: bool,
    discovered_at: Rfc3339,
    changed_seq: Seq,
    changed_at: Rfc3339,
    device_time: Option<Rfc3339>,
    heard_at: Option<Rfc3339>,
    data_age_s: f64,
    events: u64,
    attributes: A,
}

impl<'a, A> DeviceJson<'a, A> {
    fn new(devices: &'a Devices, device: &'a Device, heard: Option<Time>, now: Time, attributes: A) -> Self {
        let name = |id: DeviceId| devices.get(id).map(|device| &*device.name);
        let (availability, because) = devices.effective_availability(device);
        let newest = heard.map_or(device.changed.1, |heard| heard.max(device.changed.1));
        DeviceJson {
            id: &device.name,
            namespace: device.namespace(),
            called: device.called(),
            former_ids: &device.former,
            source: &device.source,
            parent: device.parent.and_then(name),
            availability: json::availability(availability),
            availability_cause: json::cause(device.availability_cause),
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
        }
    }
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

/// Attributes with position and time.
struct Details<'a>(&'a Devices, &'a Device);

#[derive(Serialize)]
struct Detail<'a> {
    value: Val<'a>,
    seq: Seq,
    at: Rfc3339,
}

impl Serialize for Details<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for slot in self.1.attributes.iter().filter(|slot| slot.value != Value::Null) {
            let detail = Detail { value: Val(slot.value.borrow()), seq: slot.seq, at: Rfc3339(slot.time) };
            map.serialize_entry(self.0.attribute_name(slot.id).unwrap_or(""), &detail)?;
        }
        map.end()
    }
}

/// Which devices are listed.
#[derive(Debug)]
struct Wanted {
    after: Option<String>,
    limit: usize,
    source: Option<String>,
    availability: Option<Availability>,
    retired: bool,
}

impl Wanted {
    fn from(params: &Params) -> Result<Wanted, Problem> {
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
        Ok(Wanted {
            after: params.text("after").map(str::to_owned),
            limit: params.limit(LIMIT_MAX, LIMIT_DEFAULT)?,
            source: params.text("source").map(str::to_owned),
            availability,
            retired: params.flag("retired")?,
        })
    }

    fn wants(&self, devices: &Devices, device: &Device) -> bool {
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
    let params = Params::of(&uri, &["after", "limit", "source", "availability", "retired"])?;
    let wanted = Wanted::from(&params)?;
    if let Some(known) = At::published(&app.side.shared).not_modified(&headers) {
        return Ok(known);
    }
    let (side, budget) = (app.side.clone(), app.budget.clone());
    let read = move |_: &_| side.with_view(|view, at| page(&side, &budget, view, at, &wanted));
    let (body, at, next) = app.reads.short(read).await?;
    let mut response = answer(body, at, Validator::Weak);
    if let Some(link) = next.and_then(|next| next_link(&uri, &next)) {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

fn page(
    side: &ReadSide,
    budget: &Budget,
    view: &View,
    at: At,
    wanted: &Wanted,
) -> Result<(Pieces, At, Option<String>), Problem> {
    let (devices, now) = (&view.devices, side.now());
    let mut page = Page::begin(budget, at, "devices")?;
    let mut found = devices
        .by_name_after(wanted.after.as_deref())
        .filter(|(_, device)| wanted.wants(devices, device))
        .peekable();
    let mut last = None;
    for (id, device) in found.by_ref().take(wanted.limit) {
        last = Some(&*device.name);
        let heard = side.heard.get(id);
        if page.push(&DeviceJson::new(devices, device, heard, now, Values(devices, device)))? {
            break;
        }
    }
    let next = last.filter(|_| found.peek().is_some());
    Ok((page.end(&Rest { next })?, at, next.map(str::to_owned)))
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
        let moment = past::Moment::parse(moment)?;
        return at_moment(&app, name, moment).await;
    }
    if let Some(known) = At::published(&app.side.shared).not_modified(&headers) {
        return Ok(known);
    }
    let now = app.side.now();
    let (body, at) = app.with_view(|view, at| {
        let (id, device) = find(&view.devices, &name)?;
        let heard = app.side.heard.get(id);
        Ok((encode(&app.budget, &single(view, device, heard, now, at, None))?, at))
    })?;
    Ok(answer(body, at, Validator::Weak))
}

fn single<'a>(
    view: &'a View,
    device: &'a Device,
    heard: Option<Time>,
    now: Time,
    position: At,
    as_of: Option<past::AsOf>,
) -> One<'a> {
    let attributes = Details(&view.devices, device);
    One { position, as_of, device: DeviceJson::new(&view.devices, device, heard, now, attributes) }
}

/// The device as it was. The device must be known now, so that a misspelt id costs no replay.
async fn at_moment(app: &App, name: String, moment: past::Moment) -> Result<Response, Problem> {
    let (at, id, discovered) = app.with_view(|view, at| {
        let (id, device) = find(&view.devices, &name)?;
        Ok((at, id, device.discovered))
    })?;
    let (side, budget) = (app.side.clone(), app.budget.clone());
    let body = app
        .reads
        .replay(move |cancel| {
            let past = past::View::at(&side, at, moment, cancel)?;
            // By its number, because it may have had another id; before that, another device may have been called so.
            let devices = &past.view.devices;
            let then = devices.get(id).or_else(|| devices.find(&name).map(|(_, device)| device));
            let Some(device) = then else { return Err(not_yet(&name, discovered)) };
            encode(&budget, &single(&past.view, device, None, past.as_of.time(), at, Some(past.as_of)))
        })
        .await?;
    Ok(answer(body, at, Validator::Weak))
}

fn not_yet(name: &str, discovered: (Seq, Time)) -> Problem {
    let time = serde_json::to_string(&Rfc3339(discovered.1)).unwrap_or_default();
    let detail = format!(
        "`{name}` was not known at that time; it was first seen at {}, sequence {}",
        time.trim_matches('"'),
        discovered.0
    );
    Problem::not_found("no-such-device", "No such device at that time", detail)
}
