//! `/api/v1/devices/{id}/aggregates`: windowed aggregates of one attribute, from memory or folded from the log.

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use fieldlog_projections::{AttrId, Bucket, DeviceId, Seq, Time, View};
use serde::Serialize;

use super::devices::{find, find_attribute};
use super::event::each_change;
use super::events::encode;
use super::json::Rfc3339;
use super::params::Params;
use super::position::{At, Validator};
use super::problem::Problem;
use super::reads::{Cancel, Stretch, scan};
use super::routes::answer;
use super::{App, ReadSide};

const WINDOW_S_DEFAULT: u64 = 60;
const WINDOW_S_MAX: u64 = 31_536_000;
/// Buckets in one answer.
const BUCKETS_MAX: usize = 10_000;

#[derive(Serialize)]
struct Body<'a> {
    position: At,
    window_s: u32,
    attribute: &'a str,
    source: &'static str,
    buckets: Vec<BucketJson>,
}

#[derive(Serialize)]
struct BucketJson {
    start: Rfc3339,
    count: u32,
    min: f64,
    max: f64,
    mean: f64,
    last: f64,
    /// Values can still be added.
    open: bool,
}

/// A series of buckets that begin in `from_s..to_s`.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    device: DeviceId,
    attr: AttrId,
    window_s: u32,
    from_s: Option<i64>,
    to_s: i64,
}

impl Wanted {
    fn start_s(&self, time: Time) -> i64 {
        floor(time, self.window_s)
    }

    /// The buckets, if memory has all of them.
    fn in_memory(&self, side: &ReadSide, view: &View) -> Option<Vec<Bucket>> {
        let window = *view.aggregates.windows().iter().find(|w| w.length_s == self.window_s)?;
        if side.shared.rebuild.running() {
            return None;
        }
        // Without `from`, what memory has is what is wanted.
        let from_s = self.from_s.unwrap_or(i64::MIN);
        let forgotten = view.aggregates.complete_from_s(self.device, self.attr, window);
        let reaches = self.from_s.is_none() || forgotten.is_none_or(|oldest_s| oldest_s <= from_s);
        reaches.then(|| view.aggregates.buckets(self.device, self.attr, window, from_s, self.to_s))
    }

    /// Folds the buckets from the log.
    fn in_log(&self, side: &ReadSide, until: Seq, cancel: &Cancel) -> Result<Vec<Bucket>, Problem> {
        let from = self.from_s.map_or(Ok(Seq(1)), |s| side.shared.reader.seek_time(seconds(s)))?;
        let mut buckets: Vec<Bucket> = Vec::new();
        let stretch = Stretch { from, until, records_max: u64::MAX };
        scan(&side.shared.reader, stretch, cancel, |record| {
            let start_s = self.start_s(record.time);
            if start_s >= self.to_s {
                return Ok(ControlFlow::Break(()));
            }
            if self.from_s.is_some_and(|from_s| start_s < from_s) {
                return Ok(ControlFlow::Continue(()));
            }
            each_change(record, |device, attr, value| {
                if let (true, Some(number)) = ((device, attr) == (self.device, self.attr), value.as_number())
                {
                    add(&mut buckets, start_s, number);
                }
            })?;
            // One more, so that the answer knows there are too many.
            let enough = buckets.len() > BUCKETS_MAX;
            Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(buckets)
    }
}

/// Log time does not go back: a value belongs to the last bucket or to one after it.
fn add(buckets: &mut Vec<Bucket>, start_s: i64, value: f64) {
    match buckets.last_mut() {
        Some(last) if last.start_s == start_s => {
            last.count = last.count.saturating_add(1);
            (last.min, last.max) = (last.min.min(value), last.max.max(value));
            last.sum += value;
            last.last = value;
        }
        _ => buckets.push(Bucket { start_s, count: 1, min: value, max: value, sum: value, last: value }),
    }
}

/// The begin of the window that `time` is in, in seconds since 1970.
fn floor(time: Time, window_s: u32) -> i64 {
    let seconds = time.0.div_euclid(1_000_000);
    seconds - seconds.rem_euclid(i64::from(window_s))
}

fn seconds(s: i64) -> Time {
    Time(s.saturating_mul(1_000_000))
}

/// `GET /api/v1/devices/{id}/aggregates`
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["attribute", "window_s", "from", "to"])?;
    let window_s = params.number("window_s", 1..=WINDOW_S_MAX)?.unwrap_or(WINDOW_S_DEFAULT) as u32;
    let (from, to) = params.span()?;
    let Some(attribute) = params.text("attribute").map(str::to_owned) else {
        return Err(Problem::bad_parameter("`attribute` is required here: the name of a numeric attribute"));
    };
    let (at, now, wanted, in_memory) = app.with_view(|view, at| {
        let (device, state) = find(&view.devices, &name)?;
        let attr = find_attribute(&view.devices, state, &attribute)?;
        // A bucket that begins before `from` and reaches into it is wanted, too.
        let from_s = from.map(|from| floor(from, window_s));
        let to_s =
            to.map_or(i64::MAX, |to| to.0.div_euclid(1_000_000) + i64::from(to.0.rem_euclid(1_000_000) > 0));
        let wanted = Wanted { device, attr, window_s, from_s, to_s };
        Ok((at, view.time, wanted, wanted.in_memory(&app.side, view)))
    })?;
    if let Some(known) = at.not_modified(&headers) {
        return Ok(known);
    }
    let side = app.side.clone();
    let (source, buckets) = match in_memory {
        Some(buckets) => ("memory", buckets),
        None => ("log", app.reads.long(move |cancel| wanted.in_log(&side, at.applied, cancel)).await?),
    };
    if buckets.len() > BUCKETS_MAX {
        return Err(too_many());
    }
    let open = |bucket: &Bucket| seconds(bucket.start_s + i64::from(window_s)) > now;
    let buckets = buckets.iter().map(|bucket| BucketJson::new(bucket, open(bucket))).collect();
    let body = Body { position: at, window_s, attribute: &attribute, source, buckets };
    Ok(answer(encode(&body)?, at, Validator::Strong))
}

impl BucketJson {
    fn new(bucket: &Bucket, open: bool) -> BucketJson {
        BucketJson {
            start: Rfc3339(seconds(bucket.start_s)),
            count: bucket.count,
            min: bucket.min,
            max: bucket.max,
            mean: bucket.mean(),
            last: bucket.last,
            open,
        }
    }
}

fn too_many() -> Problem {
    let detail = format!(
        "more than {BUCKETS_MAX} buckets; ask for longer ones with `window_s`, or for a shorter time"
    );
    Problem::new(StatusCode::BAD_REQUEST, "too-many-buckets", "The answer would be too long", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_window_share_a_bucket() {
        let mut buckets = Vec::new();
        for (second, value) in [(59, 1.0), (60, 5.0), (61, 3.0), (180, 2.0)] {
            add(&mut buckets, floor(Time::from_secs(second), 60), value);
        }
        let starts: Vec<_> = buckets.iter().map(|b| (b.start_s, b.count, b.min, b.max, b.last)).collect();
        assert_eq!(starts, [(0, 1, 1.0, 1.0, 1.0), (60, 2, 3.0, 5.0, 3.0), (180, 1, 2.0, 2.0, 2.0)]);
        assert_eq!(floor(Time(-1), 60), -60);
    }
}
