//! `/api/v1/devices/{id}/aggregates`: windowed aggregates of one attribute, from memory, or folded from log and
//! archive.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use fieldlog_projections::aggregates::start_s;
use fieldlog_projections::{Aggregates, AttrId, Bucket, DeviceId, Time, View, Window};

use super::App;
use super::answer::answer;
use super::body::encode;
use super::devices::{find, find_attribute};
use super::params::Params;
use super::past::Moment;
use super::position::At;
use super::problem::Problem;
use fieldlog_wire::api::aggregates::{self as api, AggregatesAnswer};
use fieldlog_wire::api::devices::AsOf;
use fieldlog_wire::json::Rfc3339;

mod stored;

const WINDOW_S_DEFAULT: u64 = 60;
const WINDOW_S_MAX: u64 = 31_536_000;
/// Maximum buckets in one answer.
const BUCKETS_MAX: usize = 10_000;

/// The requested series: buckets that start in `from_s..to_s`.
#[derive(Clone, Copy, Debug)]
struct Series {
    device: DeviceId,
    attr: AttrId,
    window_s: u32,
    from_s: Option<i64>,
    to_s: i64,
}

/// The buckets found.
#[derive(Clone, Debug)]
struct FoundBuckets {
    source: &'static str,
    buckets: Vec<Bucket>,
    /// Records up to this log time may be missing.
    incomplete_until: Option<Time>,
    /// Records read for them.
    read: u64,
}

impl Series {
    fn begins_after_from(&self, start_s: i64) -> bool {
        self.from_s.is_none_or(|from_s| start_s >= from_s)
    }

    /// The start of the first complete bucket, if records up to a time are missing.
    fn complete_from_s(&self, missing_until: Time) -> i64 {
        start_s(missing_until, self.window_s) + i64::from(self.window_s)
    }

    /// The window, if memory has it.
    fn window(&self, view: &View) -> Option<Window> {
        view.aggregates.windows().iter().find(|w| w.length_s == self.window_s).copied()
    }

    /// The answer at the position `at`, when log time was `now`.
    fn answer(
        &self,
        app: &App,
        at: At,
        now: Time,
        attribute: String,
        as_of: Option<AsOf>,
        found: &FoundBuckets,
    ) -> Result<Response, Problem> {
        if found.buckets.len() > BUCKETS_MAX {
            return Err(too_many());
        }
        let open = |bucket: &Bucket| seconds(bucket.start_s + i64::from(self.window_s)) > now;
        let body = AggregatesAnswer {
            position: at.into(),
            as_of,
            window_s: self.window_s,
            attribute: attribute.into(),
            source: found.source.into(),
            complete_from: found.incomplete_until.map(|time| Rfc3339(seconds(self.complete_from_s(time)))),
            buckets: found.buckets.iter().map(|bucket| bucket_json(bucket, open(bucket))).collect(),
        };
        Ok(answer(encode(&app.budget, &body)?, at))
    }

    /// The buckets, if memory has all of them.
    fn in_memory(&self, view: &View) -> Option<FoundBuckets> {
        let window = self.window(view)?;
        if view.is_stale(Aggregates::ID) {
            return None;
        }
        // Without `from`, the series begins with what memory has.
        let from_s = self.from_s.unwrap_or(i64::MIN);
        let forgotten = view.aggregates.complete_from_s(self.device, self.attr, window);
        let missing_until = view.aggregates.missing_until();
        let complete_s = forgotten.max(missing_until.map(|time| self.complete_from_s(time)));
        if self.from_s.is_some() && complete_s.is_some_and(|complete_s| complete_s > from_s) {
            return None;
        }
        let buckets = view.aggregates.buckets(self.device, self.attr, window, from_s, self.to_s);
        // With `from`, nothing is missing from there on.
        let incomplete_until = missing_until.filter(|_| self.from_s.is_none());
        Some(FoundBuckets { source: "memory", buckets, incomplete_until, read: 0 })
    }
}

/// A time in seconds since 1970.
pub(super) fn seconds(s: i64) -> Time {
    Time(s.saturating_mul(1_000_000))
}

/// `GET /api/v1/devices/{id}/aggregates`
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["attribute", "window_s", "from", "to", "at"])?;
    let window_s = params.number("window_s", 1..=WINDOW_S_MAX)?.unwrap_or(WINDOW_S_DEFAULT) as u32;
    let (from, to) = params.span()?;
    let Some(attribute) = params.text("attribute").map(str::to_owned) else {
        return Err(Problem::bad_parameter("`attribute` is required here: the name of a numeric attribute"));
    };
    let moment = params.text("at").map(|moment| Moment::parse("at", moment)).transpose()?;
    let (at, now, series, in_memory) = app.with_view(|view, at| {
        let (device, state) = find(&view.devices, &name)?;
        let attr = find_attribute(&view.devices, state, &attribute)?;
        // A bucket that begins before `from` and extends past it is included.
        let from_s = from.map(|from| start_s(from, window_s));
        let to_s =
            to.map_or(i64::MAX, |to| to.0.div_euclid(1_000_000) + i64::from(to.0.rem_euclid(1_000_000) > 0));
        let series = Series { device, attr, window_s, from_s, to_s };
        let in_memory = if moment.is_none() { series.in_memory(view) } else { None };
        Ok((at, view.time, series, in_memory))
    })?;
    if let Some(moment) = moment {
        return past(&app, at, moment, series, attribute).await;
    }
    if let Some(known) = at.not_modified(&headers) {
        return Ok(known);
    }
    let side = app.side.clone();
    let found = match in_memory {
        Some(found) => found,
        None => {
            let read = move |cancel: &_| stored::read(&side.shared.reader, series, at.applied, cancel);
            app.reads.long(read).await?
        }
    };
    series.answer(&app, at, now, attribute, None, &found)
}

/// The buckets as they were at a past time.
async fn past(
    app: &App,
    at: At,
    moment: Moment,
    series: Series,
    attribute: String,
) -> Result<Response, Problem> {
    let side = app.side.clone();
    let (found, series, as_of) = app
        .reads
        .long(move |cancel| {
            let (place, reader) = (moment.place(&side, at, cancel)?, &side.shared.reader);
            let time = place.time(reader)?;
            // Without `from`, the series begins where memory would have begun.
            let keep = side.with_view(|view, _| series.window(view)).map(|window| i64::from(window.keep));
            let begin = keep.map(|keep| start_s(time, series.window_s) - keep * i64::from(series.window_s));
            let series = Series { from_s: series.from_s.or(begin), ..series };
            let found = stored::read(reader, series, place.seq, cancel)?;
            let as_of = place.as_of(time, None, found.read);
            Ok((found, series, as_of))
        })
        .await?;
    series.answer(app, at, as_of.time.0, attribute, Some(as_of), &found)
}

fn bucket_json(bucket: &Bucket, open: bool) -> api::Bucket {
    api::Bucket {
        start: Rfc3339(seconds(bucket.start_s)),
        count: bucket.count,
        min: bucket.min,
        max: bucket.max,
        mean: bucket.mean(),
        last: bucket.last,
        open,
    }
}

fn too_many() -> Problem {
    let detail = format!(
        "more than {BUCKETS_MAX} buckets; ask for longer ones with `window_s`, or for a shorter time"
    );
    Problem::new(StatusCode::BAD_REQUEST, "too-many-buckets", "The answer would be too long", detail)
}
