//! `/api/v1/aggregates`: the named aggregates that the configuration declares.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use fieldlog_projections::aggregates::start_s;
use fieldlog_projections::declared::{NamedAggregate, Point};
use fieldlog_projections::named::{Origin, Series};
use fieldlog_projections::{Declared, Device, DeviceId, Named, Time, View};

use super::App;
use super::aggregates::seconds;
use super::answer::answer;
use super::body::{Budget, Page, Pieces, encode};
use super::devices::{find, linked};
use super::nearest::did_you_mean;
use super::params::Params;
use super::position::At;
use super::problem::Problem;
use crate::read_side::ReadSide;
use crate::shared::RebuildProgress;
use fieldlog_wire::api::named::{
    Declaration, DeclarationState, Declarations, NamedDevice, NamedPage, NamedSeries, NamedWindow,
};
use fieldlog_wire::json::Rfc3339;

const LIMIT_MAX: u64 = 1_000;
const LIMIT_DEFAULT: u64 = 200;

/// What is declared, in the configuration and in the view.
#[derive(Clone, Copy)]
struct Both<'a> {
    wanted: &'a Declared,
    folded: &'a Named,
}

impl Both<'_> {
    /// The declaration that answers under a name.
    fn find(&self, name: &str) -> Option<Declaration> {
        let Some((at, aggregate)) = self.folded.declared().aggregate(name) else {
            let (_, new) = self.wanted.aggregate(name)?;
            let state = DeclarationState::Pending;
            return Some(Declaration { declared: new.clone(), state, complete_from: None });
        };
        let current = self.wanted.same_results(name, self.folded.declared());
        let state = if current { DeclarationState::Current } else { DeclarationState::Earlier };
        let complete_from = self
            .folded
            .missing_until(at)
            .map(|time| Rfc3339(seconds(start_s(time, aggregate.window_s) + i64::from(aggregate.window_s))));
        Some(Declaration { declared: aggregate.clone(), state, complete_from })
    }

    /// All names, the configured ones first.
    fn names(&self) -> Vec<&str> {
        let folded = self.folded.declared();
        let removed = folded.aggregates.iter().filter(|old| self.wanted.aggregate(&old.name).is_none());
        self.wanted.aggregates.iter().chain(removed).map(|aggregate| &*aggregate.name).collect()
    }

    /// Why there is no answer.
    fn nothing(&self, name: &str, progress: &RebuildProgress) -> Problem {
        if self.wanted.aggregate(name).is_none() {
            let near = did_you_mean(name, self.names().into_iter());
            let detail =
                format!("no named aggregate `{name}` is declared.{near} /api/v1/aggregates lists them");
            return Problem::not_found("no-such-aggregate", "No such aggregate", detail);
        }
        let detail = if progress.failed().contains(&Named::ID) {
            format!(
                "`{name}` could not be built from the log, the agent's log says why; restart fieldlog to try again"
            )
        } else {
            format!(
                "`{name}` is new and is being built from the log; `rebuild` in /status shows how far it is. Ask again later"
            )
        };
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "rebuilding", "Not built yet", detail)
    }
}

/// Runs `read` with the declarations and the view.
fn with<T>(side: &ReadSide, read: impl FnOnce(Both<'_>, &View, At) -> T) -> T {
    let wanted = side.config.borrow().folds().declared;
    side.with_view(|view, at| read(Both { wanted: &wanted, folded: &view.named }, view, at))
}

/// `GET /api/v1/aggregates`
pub(super) async fn list(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    Params::of(&uri, &[])?;
    let (body, at) = with(&app.side, |both, _, at| {
        let aggregates = both.names().into_iter().filter_map(|name| both.find(name)).collect();
        let derived_attributes = app.side.config.borrow().derived.clone();
        let body = Declarations { position: at.into(), aggregates, derived_attributes };
        encode(&app.budget, &body).map(|body| (body, at))
    })?;
    Ok(uncached(answer(body, at)))
}

/// A rebuild changes the answer, but not the position.
fn uncached(mut response: Response) -> Response {
    response.headers_mut().remove(header::ETAG);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Which windows of which devices.
#[derive(Debug)]
struct Wanted {
    device: Option<String>,
    attribute: Option<String>,
    from: Option<Time>,
    to: Option<Time>,
    after: Option<String>,
    limit: usize,
}

/// `GET /api/v1/aggregates/{name}`
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["device", "attribute", "from", "to", "after", "limit"])?;
    let (from, to) = params.span()?;
    let text = |name| params.text(name).map(str::to_owned);
    let (device, attribute, after) = (text("device"), text("attribute"), text("after"));
    let wanted =
        Wanted { device, attribute, from, to, after, limit: params.limit(LIMIT_MAX, LIMIT_DEFAULT)? };
    let (side, budget) = (app.side.clone(), app.budget.clone());
    let read = move |_: &_| page(&side, &budget, &name, &wanted);
    let (body, at, next) = app.reads.short(read).await?;
    Ok(linked(uncached(answer(body, at)), &uri, next))
}

fn page(
    side: &ReadSide,
    budget: &Budget,
    name: &str,
    wanted: &Wanted,
) -> Result<(Pieces, At, Option<String>), Problem> {
    with(side, |both, view, at| {
        let nothing = || both.nothing(name, &side.shared.rebuild);
        let (place, _) = view.named.declared().aggregate(name).ok_or_else(nothing)?;
        let aggregate = both.find(name).ok_or_else(nothing)?;
        let mut rest = NamedPage { position: at.into(), devices: Vec::new(), next: None, aggregate };
        let mut page = Page::begin(budget, &rest)?;
        let only = wanted.device.as_deref().map(|name| find(&view.devices, name)).transpose()?;
        let all = only.is_none().then(|| view.devices.by_name_after(wanted.after.as_deref()));
        let devices = only.into_iter().chain(all.into_iter().flatten());
        let mut found = devices.filter_map(|device| wanted.item(view, place, device)).peekable();
        let mut last = None;
        for item in found.by_ref().take(wanted.limit) {
            last = Some(item.id.clone());
            if page.push(&item)? {
                break;
            }
        }
        rest.next = last.filter(|_| found.peek().is_some());
        let next = rest.next.as_deref().map(str::to_owned);
        Ok((page.end(&rest)?, at, next))
    })
}

impl Wanted {
    /// One device, if it has anything that is wanted.
    fn item<'a>(
        &self,
        view: &'a View,
        place: usize,
        (id, device): (DeviceId, &'a Device),
    ) -> Option<NamedDevice<'a>> {
        let aggregate = &view.named.declared().aggregates[place];
        let series: Vec<NamedSeries<'a>> = view
            .named
            .series(id, place)
            .filter_map(|series| self.series(view, aggregate, series))
            .filter(|series| !series.windows.is_empty())
            .collect();
        (!series.is_empty()).then(|| NamedDevice { id: (&*device.name).into(), series })
    }

    fn series<'a>(
        &self,
        view: &'a View,
        aggregate: &NamedAggregate,
        series: &Series,
    ) -> Option<NamedSeries<'a>> {
        let (attribute, derived) = match series.origin() {
            Origin::Recorded(attr) => (view.devices.attribute_name(attr)?, false),
            Origin::Derived(at) => (&*view.named.declared().derived.get(usize::from(at))?.name, true),
        };
        if self.attribute.as_deref().is_some_and(|wanted| wanted != attribute) {
            return None;
        }
        let end = |point: &Point| seconds(point.start_s + i64::from(aggregate.window_s));
        let windows = series
            .points()
            // A window that begins before `from` and extends past it is included.
            .filter(|point| self.from.is_none_or(|from| end(point) > from))
            .filter(|point| self.to.is_none_or(|to| seconds(point.start_s) < to))
            .map(|point| NamedWindow {
                start: Rfc3339(seconds(point.start_s)),
                count: point.count,
                value: aggregate.result(point),
                open: end(point) > view.time,
            })
            .collect();
        Some(NamedSeries { attribute: attribute.into(), derived, windows })
    }
}
