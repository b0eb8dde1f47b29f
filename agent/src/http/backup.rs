//! `POST /api/v1/backup`: a copy of the log, made while the agent goes on.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use fieldlog_projections::Seq;
use fieldlog_wire::api::administer::{BackupBody, BackupDone};

use super::App;
use super::administer::{bad, order, read};
use super::answer::answer;
use super::body::encode;
use super::gate::Actor;
use super::problem::Problem;
use crate::copy::{self, Copied};
use crate::log::LogError;
use crate::writer::Call;

/// Writes the copy. Only a user of this machine may have it written somewhere: the agent writes with its own rights.
pub(super) async fn make(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<Response, Problem> {
    if !actor.0.starts_with("uid:") {
        let detail = "a backup is written on the gateway, so it is made over the Unix socket only; run `fieldlog backup` there";
        return Err(Problem::new(StatusCode::FORBIDDEN, "only-local", "Only on the gateway", detail));
    }
    let body: BackupBody = read(request, "{\"to\": \"/mnt/usb/backup-1\"}").await?;
    let to = PathBuf::from(&body.to);
    if !to.is_absolute() {
        return Err(bad(format!("`to` is {:?}; give the absolute path of a directory", body.to)));
    }
    // Before it is recorded that a backup was wanted: what cannot be made is not.
    let place = to.clone();
    app.reads.backup(move |_| copy::make_empty(&place).map_err(|error| refused(&error))).await?;
    let done = order(&app, actor, Call::Backup(body.to.clone()), body.reason).await?;
    let side = app.side.clone();
    let copied = app
        .reads
        .backup(move |cancel| {
            let shared = &side.shared;
            // The record of the call is in it.
            let reader = shared.reader.pinned()?;
            let give_up = || cancel.is_set();
            let copied = copy::copy(&reader, shared.epoch, &shared.snapshots, &to, &give_up);
            copied.map_err(|error| refused(&error))?.ok_or_else(Problem::stopping)
        })
        .await?;
    let Copied { range, bytes, .. } = copied;
    let (first, last) = range.unwrap_or((Seq(1), Seq(0)));
    let at = app.with_view(|_, at| Ok(at))?;
    let seq = done.seq.unwrap_or_default();
    let json = BackupDone { position: at.into(), seq, to: body.to.into(), first, last, bytes };
    Ok(answer(encode(&app.budget, &json)?, at))
}

fn refused(error: &LogError) -> Problem {
    match error {
        LogError::NotEmpty { .. } => {
            Problem::new(StatusCode::CONFLICT, "not-empty", "There is something already", error.to_string())
        }
        LogError::File { path, source } => {
            let detail = format!(
                "cannot write to {}: {source}. The agent itself writes the backup: its user needs to be allowed to, and \
                 under systemd the directory must be in the unit's ReadWritePaths",
                path.display()
            );
            Problem::new(StatusCode::CONFLICT, "cannot-write", "The backup cannot be written", detail)
        }
        error => Problem::internal(format!("the backup was not made: {error}")),
    }
}
