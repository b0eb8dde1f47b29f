//! `/status`: an overview for operators.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::Response;
use fieldlog_projections::alert::Severity;
use fieldlog_projections::digest::StateDigest;
use fieldlog_projections::{Seq, Time};

use super::App;
use super::answer::answer;
use super::body::{Budget, Pieces, encode};
use super::params::Params;
use super::position::At;
use super::problem::Problem;
use crate::correct;
use crate::forward::backlog::Backlog;
use crate::forward::sinks::SinkView;
use crate::ingest::status::State as Connection;
use crate::log::{FILE_NAME, LogError, LogReader};
use crate::metrics::process;
use crate::notify::NotifyView;
use crate::observe::StateUse;
use crate::read_side::{ReadSide, count_devices};
use crate::retention::reserve::free_bytes;
use crate::sorted;
use crate::sources::SourceView;
use fieldlog_wire::api::session::Grant;
use fieldlog_wire::api::status as api;
use fieldlog_wire::json::Rfc3339;

fn sink(view: &SinkView, reader: &LogReader) -> Result<api::Sink, Problem> {
    let (status, details) = (&view.status, view.status.details());
    let connected_at = details.state.connected_since().map(Rfc3339);
    let waiting = details.state.waiting().map(|(until, why)| (Rfc3339(until), why.to_owned()));
    let (waiting_until, waiting_why) = waiting.unzip();
    let backlog = Backlog::of(&details.acked, reader)?;
    let (last_error, last_error_at) =
        details.last_error.map(|failure| (failure.why, Rfc3339(failure.at))).unzip();
    Ok(api::Sink {
        name: view.name.clone(),
        address: view.address.clone(),
        required: view.required,
        state: details.state.label().into(),
        state_text: details.state.to_string(),
        connected: connected_at.is_some(),
        connected_at,
        waiting_until,
        waiting_why,
        acked_upto: details.acked.contiguous(),
        backlog_events: backlog.events,
        backlog_bytes: backlog.bytes,
        backlog_oldest: backlog.oldest.map(Rfc3339),
        events_per_s: status.events_per_s(),
        events_acked: get(&status.events_acked),
        priority_acked: get(&status.priority_acked),
        parcels_acked: get(&status.parcels_acked),
        bytes_acked: get(&status.bytes_acked),
        parcels_retried: get(&status.parcels_retried),
        dead_letters: get(&status.dead_letters),
        refused_events: details.acked.refused_count(),
        resend_requests: get(&status.resend_requests),
        events_resent: get(&status.events_resent),
        resend_events: details.resend_events,
        connections: get(&status.connections),
        warning: details.warning,
        last_error,
        last_error_at,
    })
}

/// `GET /status`
pub(super) async fn status(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let with_digest = Params::of(&uri, &["state_digest"])?.flag("state_digest")?;
    let taken = app.credentials.tokens().give(Grant::Command);
    let (side, budget) = (app.side.clone(), app.budget.clone());
    let (body, at) = app.reads.short(move |_| collect(&side, &budget, taken, with_digest)).await?;
    let mut response = answer(body, at);
    // Its counters move without the position.
    response.headers_mut().remove(header::ETAG);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn collect(
    side: &ReadSide,
    budget: &Budget,
    commands_taken: bool,
    with_digest: bool,
) -> Result<(Pieces, At), Problem> {
    let (devices, position, log_time) =
        side.with_view(|view, at| (count_devices(&view.devices), at, view.time));
    let uptime_s = side.now().micros_since(side.started) as f64 / 1e6;
    let progress = &side.shared.rebuild;
    let status = api::Status {
        position: position.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        gateway_id: side.config.borrow().gateway_id.clone(),
        started_at: Rfc3339(side.started),
        uptime_s,
        log: log(side)?,
        devices,
        state: state(side),
        state_digest: if with_digest { digest(side)? } else { None },
        commands: commands(side, commands_taken),
        alerts: alerts(side),
        notify: side.notifiers.views().iter().map(notify).collect(),
        snapshot: snapshot(side),
        rebuild: api::Rebuild {
            running: progress.running(),
            applied: get(&progress.applied),
            folds: progress.folds().iter().map(|fold| fold.name.into()).collect(),
        },
        sources: side.sources.views().iter().map(source).collect(),
        sinks: sinks(side)?,
        blocked: side.shared.stats.blocked(),
        clock_synchronised: side.clock.is_synchronised(),
        clock_advice: correct::advice(log_time, side.now(), &side.config.borrow().data_dir),
        process: process::usage(),
    };
    Ok((encode(budget, &status)?, position))
}

/// Encodes the whole state, so only if it is asked for. The writer copies what it changes meanwhile.
fn digest(side: &ReadSide) -> Result<Option<String>, Problem> {
    let view = side.with_view(|view, _| view.share());
    let digest = StateDigest::of(&view).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(digest.map(|digest| digest.to_string()))
}

fn sinks(side: &ReadSide) -> Result<Vec<api::Sink>, Problem> {
    side.sinks.views().iter().map(|view| sink(view, &side.shared.reader)).collect()
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn log(side: &ReadSide) -> Result<api::Log, Problem> {
    let (stats, disk) = (&side.shared.stats, &side.shared.disk);
    let config = side.config.borrow().clone();
    let path = config.data_dir.join(FILE_NAME);
    let (bytes_written, events) = (get(&disk.bytes_written), get(&stats.events));
    let commits = api::Commits {
        delay: get(&stats.commits_delay),
        bytes: get(&stats.commits_bytes),
        window: get(&stats.commits_window),
        internal: get(&stats.commits_internal),
    };
    let all = commits.delay + commits.bytes + commits.window + commits.internal;
    let ratio = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
    let per_day = side.bytes_written_per_day();
    let endurance = config.log.endurance_tb as f64 * 1e12;
    Ok(api::Log {
        first_seq: side.shared.reader.range()?.map(|(first, _)| first),
        file_bytes: std::fs::metadata(path).ok().map(|m| m.len()),
        bytes_max: config.retention.bytes_max,
        disk_free_bytes: free_bytes(&config.data_dir),
        disk_free_bytes_min: config.retention.free_bytes_min,
        journal: api::Journal {
            used: stats.no_journal.get().is_none(),
            unused_because: stats.no_journal.get().map(ToString::to_string),
            commits: get(&disk.journal_commits),
        },
        bytes_written,
        bytes_per_event: ratio(bytes_written as f64, events as f64),
        bytes_written_per_day: per_day,
        endurance_years: per_day.and_then(|per_day| ratio(endurance / 365.25, per_day)),
        syncs: get(&disk.syncs),
        commits,
        commit_ms_mean: ratio(get(&stats.commit_micros) as f64 / 1e3, all as f64),
        commit_ms_max: get(&stats.commit_micros_max) as f64 / 1e3,
        events,
        archive: rollups(&side.shared.reader).ok(),
    })
}

fn rollups(reader: &LogReader) -> Result<api::Archive, LogError> {
    let (size, end) = (reader.rollups_size()?, reader.rollups_end()?.map(|end| end.period));
    Ok(api::Archive {
        rows: size.rows,
        bytes: size.bytes,
        upto_seq: end.map(|period| period.last),
        upto: end.map(|period| Rfc3339(period.last_time)),
    })
}

fn state(side: &ReadSide) -> api::State {
    let StateUse { bytes, bytes_max, refused, forgotten } = side.shared.stats.state.get();
    api::State { bytes, bytes_max, refused, devices_forgotten: forgotten }
}

fn commands(side: &ReadSide, taken: bool) -> api::Commands {
    let stats = &side.shared.stats.commands;
    api::Commands {
        open: side.open_commands(),
        admin_token: taken,
        by_state: sorted::map(stats.by_state().map(|(state, count)| (state.word().into(), count))),
        rejected: sorted::map(
            stats
                .by_rejection()
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(code, count)| (code.into(), count)),
        ),
    }
}

fn alerts(side: &ReadSide) -> api::AlertCounts {
    let (stats, open) = (&side.shared.stats.alerts, side.open_alerts());
    let of = |severity: Severity| open.map(|open| open[severity as usize] as usize);
    api::AlertCounts {
        rules: side.config.borrow().alerts.len(),
        open: open.map(|open| open.iter().sum::<u64>() as usize),
        critical: of(Severity::Critical),
        raised: stats.raised.iter().map(get).sum(),
        beyond: get(&stats.beyond),
    }
}

fn notify(view: &NotifyView) -> api::Notify {
    let status = &view.status;
    api::Notify {
        name: view.name.clone(),
        target: view.target.clone(),
        told: get(&status.told),
        failures: get(&status.failures),
        refused: get(&status.refused),
        last_error: status.last_error(),
    }
}

fn snapshot(side: &ReadSide) -> api::Snapshot {
    let stats = &side.shared.stats;
    let at = Time(stats.snapshot_time.load(Ordering::Relaxed));
    api::Snapshot {
        seq: Seq(get(&stats.snapshot_seq)),
        at: (at.0 != 0).then_some(Rfc3339(at)),
        bytes: get(&stats.snapshot_bytes),
        written: get(&stats.snapshots),
        errors: get(&stats.snapshot_errors),
        past: api::PastSnapshots {
            count: get(&stats.past),
            bytes: get(&stats.past_bytes),
            bytes_max: side.config.borrow().snapshots.past_bytes_max,
        },
    }
}

fn source(view: &SourceView) -> api::Source {
    let (details, status, outcomes) = (view.status.details(), &view.status, &view.outcomes);
    let since = match details.state {
        Connection::Connected { since } => Some(since),
        _ => None,
    };
    api::Source {
        name: view.name.clone(),
        address: view.address.clone(),
        state: details.state.label().into(),
        state_text: details.state.to_string(),
        connected: since.is_some(),
        connected_at: since.map(Rfc3339),
        session_present: details.session_present,
        reconnects: status.connections.get().saturating_sub(1),
        last_error: details.last_error,
        advice: details.advice,
        warnings: details.warnings,
        messages: get(&outcomes.messages),
        qos0: status.received_qos0.get(),
        events: get(&outcomes.events),
        unchanged: get(&outcomes.unchanged),
        retained_repeats: get(&outcomes.retained_repeats),
        suppressed: get(&outcomes.suppressed),
        quarantined: get(&outcomes.quarantined),
        summarised: get(&outcomes.summarised),
        name_clashes: get(&outcomes.clashes),
        ignored: get(&outcomes.ignored),
        unacked: status.unacked.get(),
        refused_filters: details
            .refused
            .into_iter()
            .map(|(filter, reason)| api::RefusedFilter { filter, reason: reason.into() })
            .collect(),
        sparkplug: sparkplug(view),
    }
}

fn sparkplug(view: &SourceView) -> Option<api::SparkplugHost> {
    let counts = &view.outcomes.sparkplug;
    Some(api::SparkplugHost {
        host_id: view.host_id.clone()?,
        nodes_online: get(&counts.nodes_online),
        nodes_stale: get(&counts.nodes_stale),
        nodes_offline: get(&counts.nodes_offline),
        births: get(&counts.births),
        deaths: get(&counts.deaths),
        gaps: get(&counts.gaps),
        rebirth_requests: sorted::map(counts.rebirths().map(|(reason, count)| (reason.into(), count))),
    })
}
