//! `fieldlog run`: signals, systemd notifications and watchdog, exit codes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fieldlog_projections::fact::Availability;
use futures_util::FutureExt;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::Config;
use crate::correct;
use crate::lost::Begun;
use crate::run::{self, Controls, Event, Handle, Reload, RunError};
use crate::words::number;

/// Name of the Unix socket in the runtime directory.
const SOCKET_NAME: &str = "http.sock";
/// How often systemd's status line is refreshed.
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// Limit for the last notification to systemd.
const NOTIFY_MAX: Duration = Duration::from_secs(1);
/// The writer loop iterates at least once a second; after this long without an iteration it counts as stuck.
const BEAT_MAX_MICROS: i64 = 10_000_000;
/// Exit code for an invalid configuration (`EX_CONFIG`); systemd is told not to restart on it.
const EX_CONFIG: u8 = 78;

/// Runs the agent until SIGTERM or SIGINT; with `new_epoch`, on a new log in place of a lost one.
pub fn main(path: &Path, new_epoch: bool) -> ExitCode {
    let loaded = match Config::load(path) {
        Ok(loaded) => with_socket(loaded.config),
        Err(faults) => {
            tracing::error!("the configuration cannot be used:\n{faults}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    if loaded.sources.is_empty() {
        tracing::error!("{} has no [[source]]: there is nothing to record; add one", path.display());
        return ExitCode::from(EX_CONFIG);
    }
    if new_epoch && let Err(error) = begin_anew(&loaded) {
        tracing::error!("{error} (data directory {})", loaded.data_dir.display());
        return ExitCode::from(error.exit_code());
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            return ExitCode::from(71);
        }
    };
    let code = runtime.block_on(supervise(path, loaded));
    // Running blocking reads of the log are not awaited: they change nothing.
    runtime.shutdown_timeout(Duration::from_secs(2));
    code
}

/// The configuration, with the Unix socket in the runtime directory that systemd has made, if it names none.
fn with_socket(mut config: Config) -> Config {
    if let (None, Some(dir)) = (&config.http.unix_socket, std::env::var_os("RUNTIME_DIRECTORY")) {
        // Of several, the first is the unit's own.
        let dir = dir.to_string_lossy().split(':').next().map(PathBuf::from);
        config.http.unix_socket = dir.map(|dir| dir.join(SOCKET_NAME));
    }
    config
}

/// Who runs this process, for the log.
pub fn actor() -> String {
    format!("uid:{}", rustix::process::getuid().as_raw())
}

fn begin_anew(config: &Config) -> Result<(), RunError> {
    let Begun { epoch, previous, absence, snapshots } = run::begin_anew(config, &actor())?;
    let previous = previous.map_or("unknown".to_owned(), |epoch| epoch.to_string());
    tracing::warn!(
        "starting a new log with epoch {epoch}: the previous log {absence}. Its epoch was {previous}; its {snapshots} \
         snapshots are now called *.old-epoch"
    );
    Ok(())
}

/// One thread does all waiting; a few more read the log for HTTP and resolve names.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()
}

async fn supervise(path: &Path, config: Config) -> ExitCode {
    let (shutdown, shutdown_rx) = watch::channel(false);
    let (reload, reload_rx) = mpsc::channel(1);
    let (ready_tx, ready_rx) = watch::channel(None);
    let controls = Controls { shutdown: shutdown_rx, reload: reload_rx };
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("cannot listen for signals: {error}");
            return ExitCode::from(71);
        }
    };
    tokio::spawn(signals.serve(path.to_owned(), config.clone(), shutdown, reload).boxed());
    tokio::spawn(keep_notifying(ready_rx).boxed());
    let data_dir = config.data_dir.clone();
    let result = run::run(config, Clock::system(), controls, |event| report(event, &ready_tx)).await;
    match result {
        Ok(()) => {
            tracing::info!("stopped; every acknowledged message is in the log");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error} (data directory {})", data_dir.display());
            let told = notify(&[NotifyState::Status(&format!("failed: {error}"))]);
            let _ = tokio::time::timeout(NOTIFY_MAX, told).await;
            ExitCode::from(error.exit_code())
        }
    }
}

fn report(event: Event, ready: &watch::Sender<Option<Handle>>) {
    match event {
        Event::Recovered { snapshot, replayed, head, millis } => tracing::info!(
            "log open at sequence {head}: snapshot {snapshot}, {replayed} records replayed, {millis} ms"
        ),
        Event::Ready(handle) => {
            if let Some(address) = handle.http {
                let scheme = if handle.https { "https" } else { "http" };
                tracing::info!("status page at {scheme}://{address}/");
            }
            notify(&[NotifyState::Ready, NotifyState::Status(&status_line(&handle))]);
            ready.send_replace(Some(handle));
        }
    }
}

/// Notifies systemd from a separate thread: the socket blocks a sender while nobody reads it, and a stuck supervisor
/// must not stop the agent.
fn notify(states: &[NotifyState<'_>]) -> JoinHandle<()> {
    let lines: Vec<String> = states.iter().map(NotifyState::to_string).collect();
    tokio::task::spawn_blocking(move || tell(&[NotifyState::Custom(&lines.join("\n"))]))
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}

/// Feeds the watchdog while the writer makes progress, and refreshes the status line.
async fn keep_notifying(mut ready: watch::Receiver<Option<Handle>>) {
    let Ok(handle) = ready.wait_for(Option::is_some).await.map(|h| h.clone()) else { return };
    let Some(handle) = handle else { return };
    let watchdog = sd_notify::watchdog_enabled();
    let every = watchdog.map_or(STATUS_EVERY, |limit| (limit / 3).min(STATUS_EVERY));
    let mut telling: Option<JoinHandle<()>> = None;
    loop {
        tokio::time::sleep(every).await;
        let beat = handle.shared.stats.beat.load(Ordering::Relaxed);
        let still = Clock::system().wall().0 - beat;
        // Negative for a while if the clock was set back, which proves nothing; then the beat is fresh again.
        if still <= BEAT_MAX_MICROS {
            let _ = notify(&[NotifyState::Watchdog]).await;
        } else {
            tracing::error!(
                "the writer has made no progress for {} s; the systemd watchdog is not notified until it does",
                still / 1_000_000
            );
        }
        // Not awaited: a slow disk must not trigger the watchdog.
        if telling.as_ref().is_none_or(JoinHandle::is_finished) {
            let seen = handle.clone();
            telling =
                Some(tokio::task::spawn_blocking(move || tell(&[NotifyState::Status(&status_line(&seen))])));
        }
    }
}

/// One line for `systemctl status`. Blocking: reads the log for sinks with a backlog.
pub fn status_line(handle: &Handle) -> String {
    let views = handle.sources.views();
    let connected = views.iter().filter(|v| v.status.is_connected()).count();
    let position = *handle.shared.position.borrow();
    let (devices, offline, log_time) = {
        let view = handle.shared.view.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let offline = view
            .devices
            .iter()
            .filter(|(_, d)| !d.retired && view.devices.effective_availability(d).0 == Availability::Offline)
            .count();
        (view.devices.iter().filter(|(_, d)| !d.retired).count(), offline, view.time)
    };
    let devices = number(devices as u64, "device");
    let mut line = format!(
        "{connected}/{} sources connected, {devices} ({offline} offline), sequence {}",
        views.len(),
        position.head
    );
    for sink in handle.sinks.views() {
        let _ = write!(line, "; {}", sink.summary(&handle.shared.reader, Clock::system().wall()));
    }
    let data_dir = handle.shared.snapshots.dir().parent().unwrap_or(Path::new("DIR"));
    if let Some(advice) = correct::advice(log_time, Clock::system().wall(), data_dir) {
        let _ = write!(line, "; CLOCK: {advice}");
    }
    if let Some(why) = handle.shared.stats.blocked() {
        let _ = write!(line, "; BLOCKED: {why}");
    }
    line
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn serve(
        mut self,
        path: std::path::PathBuf,
        mut current: Config,
        shutdown: watch::Sender<bool>,
        reload: mpsc::Sender<Reload>,
    ) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => {
                    if let Some(new) = reloaded(&path, &current) {
                        current = new.clone();
                        // The kernel does not tell who has sent the signal.
                        let _ = reload.send(Reload { config: new, actor: "signal:SIGHUP".into() }).await;
                    }
                }
            }
        }
        tracing::info!("stopping: committing pending messages and writing a snapshot");
        notify(&[NotifyState::Stopping]);
        shutdown.send_replace(true);
        // A second signal ends the wait.
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        tracing::warn!(
            "stopped at once; every acknowledged message is in the log, but the next start will replay more records"
        );
        std::process::exit(130);
    }
}

/// The new configuration, except the keys that cannot change while running; `None` if it has faults.
fn reloaded(path: &Path, current: &Config) -> Option<Config> {
    let new = match Config::load(path) {
        Ok(new) => with_socket(new.config),
        Err(faults) => {
            tracing::error!(
                "reload refused; the old configuration stays in effect. Correct these faults, then reload again:\n{faults}"
            );
            return None;
        }
    };
    let changes = current.diff(&new);
    if changes.is_empty() {
        tracing::info!("reload: nothing has changed in the configuration");
    }
    for change in &changes {
        match change.reloadable {
            true => tracing::info!("reload: {} changed", change.key),
            false => {
                tracing::warn!("reload: {} has changed, but takes effect only after a restart", change.key)
            }
        }
    }
    Some(keep_fixed(new, current))
}

fn keep_fixed(mut new: Config, current: &Config) -> Config {
    new.gateway_id.clone_from(&current.gateway_id);
    new.data_dir.clone_from(&current.data_dir);
    new.http = current.http.clone();
    new.log.cache_bytes = current.log.cache_bytes;
    new.log.quick_repair = current.log.quick_repair;
    new.log.journal = current.log.journal;
    new
}
