//! `POST /api/v1/sinks/{name}/retry`: a sink that waits tries again now.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use fieldlog_wire::api::administer::{Nothing, RetryDone};

use super::App;
use super::administer::read;
use super::answer::answer;
use super::body::encode;
use super::nearest::did_you_mean;
use super::problem::Problem;

/// Wakes the sink. No record is made of it: it changes nothing that the log has.
pub(super) async fn retry(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let Nothing {} = read(request, "{}").await?;
    let views = app.side.sinks.views();
    let Some(sink) = views.iter().find(|sink| sink.name == name) else {
        let near = did_you_mean(&name, views.iter().map(|sink| &*sink.name));
        let detail = format!("there is no sink `{name}`.{near} `fieldlog sinks` and /status list them");
        return Err(Problem::not_found("no-such-sink", "No such sink", detail));
    };
    let waited = sink.status.details().state.to_string();
    sink.status.retry_now();
    let at = app.with_view(|_, at| Ok(at))?;
    let done = RetryDone { position: at.into(), sink: name.into(), waited: waited.into() };
    Ok(answer(encode(&app.budget, &done)?, at))
}
