//! Alerts that are open, now or at a past moment.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use fieldlog_projections::alert::Severity;
use fieldlog_projections::alerts::OpenAlert;
use fieldlog_projections::view::ValuesOf;
use fieldlog_projections::{Alerts, DeviceId, Seq, View};
use fieldlog_wire::api::alerts::{AlertJson, AlertPage};
use fieldlog_wire::api::devices::AsOf;
use fieldlog_wire::json::Rfc3339;

use super::body::{Budget, Pieces, encode};
use super::params::Params;
use super::past::at_moment;
use super::position::At;
use super::problem::Problem;
use super::{App, devices};
use crate::command::declared::to_json;
use crate::recovery::past::Wanted;

const LIMIT_MAX: u64 = 1_000;
const LIMIT_DEFAULT: u64 = 100;

/// Which alerts.
#[derive(Clone, Debug)]
struct Selection {
    device: Option<DeviceId>,
    rule: Option<String>,
    severity: Option<Severity>,
    before: Option<Seq>,
    limit: usize,
}

/// `GET /api/v1/alerts`
pub(super) async fn list(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["device", "rule", "severity", "limit", "before", "at"])?;
    let device = params
        .text("device")
        .map(|name| app.with_view(|view, _| Ok(devices::find(&view.devices, name)?.0)))
        .transpose()?;
    let selection = Selection {
        device,
        rule: params.text("rule").map(str::to_owned),
        severity: params.text("severity").map(severity).transpose()?,
        before: params.seq("before")?,
        limit: params.limit(LIMIT_MAX, LIMIT_DEFAULT)?,
    };
    let wanted = Wanted { folds: &[Alerts::ID], values: ValuesOf::None };
    at_moment(&app, &params, wanted, move |view, at, as_of, budget| page(&selection, view, at, as_of, budget))
        .await
}

fn severity(name: &str) -> Result<Severity, Problem> {
    Severity::ALL.into_iter().find(|severity| severity.word() == name).ok_or_else(|| {
        let names = Severity::ALL.map(Severity::word).join(" and ");
        Problem::bad_parameter(format!("no severity is called `{name}`; there are {names}"))
    })
}

fn page(
    selection: &Selection,
    view: &View,
    position: At,
    as_of: Option<AsOf>,
    budget: &Budget,
) -> Result<Pieces, Problem> {
    let mut found = view.alerts.iter().rev().filter(|(seq, open)| selection.has(*seq, open)).peekable();
    let alerts: Vec<AlertJson<'_>> =
        found.by_ref().take(selection.limit).map(|(seq, open)| json(view, seq, open)).collect();
    let next = alerts.last().map(|alert| alert.id).filter(|_| found.peek().is_some());
    encode(budget, &AlertPage { position: position.into(), as_of, alerts, next })
}

impl Selection {
    fn has(&self, seq: Seq, open: &OpenAlert) -> bool {
        let alert = &open.alert;
        self.before.is_none_or(|before| seq < before)
            && self.device.is_none_or(|device| alert.subject.device() == Some(device))
            && self.rule.as_ref().is_none_or(|rule| *rule == alert.rule)
            && self.severity.is_none_or(|severity| severity == alert.severity)
    }
}

fn json<'a>(view: &'a View, seq: Seq, open: &'a OpenAlert) -> AlertJson<'a> {
    let alert = &open.alert;
    let device = alert.subject.device().and_then(|id| view.devices.get(id));
    let attribute = alert.subject.attribute().and_then(|id| view.devices.attribute_name(id));
    AlertJson {
        id: seq,
        rule: alert.rule.as_str().into(),
        severity: alert.severity,
        device: device.map(|device| (&*device.name).into()),
        attribute: attribute.map(Into::into),
        sink: alert.subject.sink().map(Into::into),
        condition: alert.condition.word().into(),
        threshold: to_json(alert.threshold.borrow()),
        value: to_json(alert.value.borrow()),
        raised_at: Rfc3339(open.raised),
    }
}
