//! `POST /api/v1/snapshot`: the state is written to disk now.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use fieldlog_projections::Seq;
use fieldlog_wire::api::administer::{Nothing, SnapshotDone};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::App;
use super::administer::read;
use super::answer::answer;
use super::body::encode;
use super::problem::Problem;
use crate::writer::Input;

/// How long the writing may take.
const WRITTEN_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether it is written: a thread of the writer does that, and answers nobody.
const LOOK: Duration = Duration::from_millis(20);

/// Commits what is pending, writes a snapshot, and answers when it is on disk. No record is made of it: it changes nothing
/// that the log does not have.
pub(super) async fn make(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    let Nothing {} = read(request, "{}").await?;
    let stats = &app.side.shared.stats;
    let busy = |detail: &str| {
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not possible now", detail))
    };
    let errors = stats.snapshot_errors.load(Ordering::Relaxed);
    let end = Instant::now() + WRITTEN_MAX;
    let (reply, answered) = oneshot::channel();
    app.side.inputs.send(Input::Snapshot(reply)).map_err(|_| Problem::stopping())?;
    let seq = match tokio::time::timeout_at(end, answered).await {
        Ok(answered) => answered.map_err(|_| Problem::stopping())?,
        Err(_) => return busy("the writer is busy; try again"),
    };
    loop {
        let written = Seq(stats.snapshot_seq.load(Ordering::Relaxed));
        if written >= seq {
            let bytes = stats.snapshot_bytes.load(Ordering::Relaxed);
            let at = app.with_view(|_, at| Ok(at))?;
            let json = SnapshotDone { position: at.into(), seq: written, bytes };
            return Ok(answer(encode(&app.budget, &json)?, at));
        }
        if stats.snapshot_errors.load(Ordering::Relaxed) > errors {
            return Err(Problem::internal("the snapshot could not be written; the agent's log says why"));
        }
        if app.side.shared.rebuild.running() {
            return busy(
                "the state is being rebuilt from the log, and no snapshot is written meanwhile; try again later",
            );
        }
        if Instant::now() >= end {
            return busy("another snapshot was being written; try again");
        }
        tokio::time::sleep(LOOK).await;
    }
}
