//! The whole agent: opens the log, brings the view to its head, starts the stages, and stops them in order.
//!
//! `fieldlog run`, the demo and the tests all start it here, with all dependencies injected.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use fieldlog_projections::fact::ClockQuality;
use fieldlog_projections::{Epoch, Fact, Seq};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::config::Config;
use crate::config::rules::RuleError;
use crate::correct;
use crate::forward::sinks::Sinks;
use crate::home_assistant::HomeAssistant;
use crate::http::{self, HttpError};
use crate::in_hand::{self, InHand};
use crate::log::{Log, LogError, LogOptions, NoJournal, directory};
use crate::lost;
use crate::notify::Notifiers;
use crate::observe::{Heard, Observer};
use crate::read_side::ReadSide;
use crate::rebuild;
use crate::recovery::{self, Recovered, RecoveryError};
use crate::retention::keeper;
use crate::shared::RebuildProgress;
use crate::shared::{Position, Shared, WriterStats};
use crate::snapshots::SnapshotStore;
use crate::sources::Sources;
use crate::writer::{self, ConfigChange, Input, Writer, WriterError};

/// A longer stop is cut short; acknowledged events are safe in any case.
const STOP_MAX: Duration = Duration::from_secs(20);

/// Progress reported to the caller.
#[derive(Debug)]
pub enum Event {
    /// The log is open and the view is at its head.
    Recovered {
        /// Snapshot it was made from; 0 if none.
        snapshot: Seq,
        /// Records folded on top of it.
        replayed: u64,
        /// Head of the log.
        head: Seq,
        /// Duration in milliseconds.
        millis: u64,
    },
    /// HTTP is being served and the sources are being connected.
    Ready(Handle),
}

/// A handle of a running agent.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Where HTTP is served.
    pub http: Option<SocketAddr>,
    /// Whether it is HTTPS.
    pub https: bool,
    /// The data of the read side.
    pub shared: Arc<Shared>,
    /// The sources and their state.
    pub sources: Arc<Sources>,
    /// The sinks and their state.
    pub sinks: Arc<Sinks>,
    /// What the writer is told, such as commands.
    pub inputs: Sender<Input>,
}

/// External requests to a running agent.
#[derive(Debug)]
pub struct Controls {
    /// True: stop.
    pub shutdown: watch::Receiver<bool>,
    /// New configurations.
    pub reload: tokio::sync::mpsc::Receiver<Reload>,
}

/// Has files read again: the page's tokens and certificate, and the configuration.
#[derive(Debug)]
pub struct Reload {
    /// The configuration, already checked; it may be the same.
    pub config: Config,
    /// Who has it loaded, for the log.
    pub actor: String,
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// [`RunError`]. Nothing acknowledged is lost by any of them.
pub async fn run(
    config: Config,
    clock: Clock,
    mut controls: Controls,
    mut report: impl FnMut(Event),
) -> Result<(), RunError> {
    let begin = clock.now();
    let (mut log, recovered) = open(&config)?;
    if let Some(advice) = correct::advice(log.last_time(), clock.wall(), &config.data_dir) {
        tracing::warn!("{advice}");
    }
    report(Event::Recovered {
        snapshot: recovered.snapshot,
        replayed: recovered.replayed,
        head: log.head(),
        millis: clock.since(begin).as_millis() as u64,
    });
    let listeners = http::bind(&config.http).await?;
    let (address, credentials) = (listeners.local_addr(), listeners.credentials());
    let heard = Arc::new(Heard::default());
    let sources = Arc::new(Sources::new(&config, clock.clone()));
    let observer = Observer::new(&config, &recovered.view, heard.clone(), &sources.outcomes(), clock.wall())?;
    let lost = recovered.lost.map(records_lost);
    let shared = share(&log, recovered, &config)?;
    set_up_journal(&mut log, &config, &shared)?;
    let runtime_directory = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
    let note_dir = in_hand::dir(runtime_directory.as_deref()).unwrap_or_else(|| config.data_dir.clone());
    let in_hand = InHand::open(&note_dir, log.epoch(), boot_id());
    let mut writer = Writer::new(log, shared.clone(), observer, config.clone(), clock.clone())
        .with_in_hand(in_hand)
        .with_commands(boot_id());
    for fact in lost.into_iter().chain([booted(&clock)]) {
        writer.record(&fact)?;
    }
    let (inputs, inbox) = channel();
    let (ended, mut writer_ended) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("writer".into())
        .spawn(move || {
            let _ = ended.send(writer.run(&inbox));
        })
        .map_err(RunError::Thread)?;

    let (stop, stopping) = watch::channel(false);
    let (config_tx, config_rx) = watch::channel(Arc::new(config.clone()));
    let sinks = Arc::new(Sinks::new(shared.clone(), inputs.clone(), &config.gateway_id, clock.clone()));
    let notifiers =
        Arc::new(Notifiers::new(shared.clone(), sources.clone(), &config.gateway_id, clock.clone()));
    let read_side = Arc::new(ReadSide {
        shared: shared.clone(),
        config: config_rx,
        heard,
        sources: sources.clone(),
        sinks: sinks.clone(),
        notifiers: notifiers.clone(),
        started: clock.wall(),
        clock: clock.clone(),
        inputs: inputs.clone(),
    });
    let mut http = JoinSet::new();
    let home_assistant = HomeAssistant::new(read_side.clone());
    http.spawn(http::serve(listeners, read_side, stopping));
    sources.start(&config, &inputs);
    sinks.configure(&config).await;
    notifiers.configure(&config).await;
    home_assistant.configure(&config).await;
    let handle = Handle {
        http: address,
        https: config.http.cert_file.is_some(),
        shared: shared.clone(),
        sources: sources.clone(),
        sinks: sinks.clone(),
        inputs: inputs.clone(),
    };
    report(Event::Ready(handle));

    let mut current = config;
    let outcome = loop {
        tokio::select! {
            ended = &mut writer_ended => break ended.unwrap_or(Err(WriterError::Panicked)),
            () = asked(&mut controls.shutdown) => {
                notifiers.stop().await;
                home_assistant.stop().await;
                break stop_writer(&clock, &sources, &sinks, &inputs, &mut writer_ended).await;
            }
            Some(Reload { config: new, actor }) = controls.reload.recv() => {
                credentials.renew(&current.http);
                if new == current {
                    continue;
                }
                let keys: Vec<String> = current.diff(&new).into_iter().map(|c| c.key).collect();
                let with_ids = sources.configure(&new);
                let change = ConfigChange { config: with_ids, outcomes: sources.outcomes(), keys, actor };
                let input = Input::Configure(Box::new(change));
                if inputs.send(input).is_ok() {
                    sources.restart_changed(&current, &new, &inputs);
                }
                sinks.configure(&new).await;
                notifiers.configure(&new).await;
                config_tx.send_replace(Arc::new(new.clone()));
                home_assistant.configure(&new).await;
                current = new;
            }
        }
    };
    stop.send_replace(true);
    sources.abort();
    sinks.stop().await;
    notifiers.stop().await;
    home_assistant.stop().await;
    if clock.within(STOP_MAX, http.join_all()).await.is_none() {
        tracing::warn!(
            "some HTTP requests were still in progress after {} s; stopping without them",
            STOP_MAX.as_secs()
        );
    }
    drop(inputs);
    // The thread has sent its result; joining only waits for its stack to unwind.
    let _ = thread.join();
    Ok(outcome?)
}

/// Sources stop first, so that nothing new arrives, then sinks, so that no cursor moves; then the writer commits,
/// acknowledges, writes a snapshot and closes the log.
async fn stop_writer(
    clock: &Clock,
    sources: &Sources,
    sinks: &Sinks,
    inputs: &Sender<Input>,
    writer_ended: &mut oneshot::Receiver<Result<(), WriterError>>,
) -> Result<(), WriterError> {
    let _ = inputs.send(Input::Drain);
    if clock.within(STOP_MAX, sources.stop()).await.is_none() {
        tracing::warn!(
            "a source did not disconnect from its broker within {} s; stopping without it",
            STOP_MAX.as_secs()
        );
    }
    if clock.within(STOP_MAX, sinks.stop()).await.is_none() {
        tracing::warn!(
            "a sink did not stop within {} s; it will resume from its cursor at the next start",
            STOP_MAX.as_secs()
        );
    }
    let _ = inputs.send(Input::Stop);
    writer_ended.await.unwrap_or(Err(WriterError::Panicked))
}

async fn asked(shutdown: &mut watch::Receiver<bool>) {
    // The sender is dropped only with the program that started us.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

fn options(config: &Config) -> LogOptions {
    LogOptions {
        cache_bytes: config.log.cache_bytes,
        quick_repair: config.log.quick_repair,
        quarantine_records_max: config.limits.quarantine_records_max as u64,
    }
}

/// Begins a new log in place of a lost one, for [`run`] to use; `actor` is who does it.
///
/// # Errors
/// [`RunError`]: a log exists, or none can be created.
pub fn begin_anew(config: &Config, actor: &str) -> Result<lost::Begun, RunError> {
    let dir = &config.data_dir;
    directory::make_dir(dir).map_err(|source| RunError::DataDir { dir: dir.clone(), source })?;
    Ok(lost::begin_anew(dir, options(config), new_epoch()?, Clock::system().wall(), actor)?)
}

/// Opens the log and brings a view to its head.
fn open(config: &Config) -> Result<(Log, Recovered), RunError> {
    let (dir, options) = (&config.data_dir, options(config));
    directory::make_dir(dir).map_err(|source| RunError::DataDir { dir: dir.clone(), source })?;
    if let Some(advice) = directory::advice(dir) {
        tracing::warn!("data directory {}: {advice}", dir.display());
    }
    keeper::make_room_to_open(config);
    let log = lost::open(dir, options, new_epoch()?)?;
    let store = SnapshotStore::open(dir).map_err(|source| RunError::DataDir { dir: dir.clone(), source })?;
    let windows = crate::config::windows(&config.aggregates);
    let recovered = recovery::recover(&store, &log.reader(), log.epoch(), &windows)?;
    for note in &recovered.notes {
        tracing::warn!("{note}");
    }
    Ok((log, recovered))
}

fn share(log: &Log, recovered: Recovered, config: &Config) -> Result<Arc<Shared>, RunError> {
    let dir = &config.data_dir;
    let snapshots =
        SnapshotStore::open(dir).map_err(|source| RunError::DataDir { dir: dir.clone(), source })?;
    let stats = WriterStats::default();
    stats.snapshot_seq.store(recovered.snapshot.0, Ordering::Relaxed);
    let position = Position { head: log.head(), applied: recovered.view.seq };
    let settings = config.folds();
    let outdated = recovered.view.outdated(&settings);
    let shared = Arc::new(Shared {
        epoch: log.epoch(),
        view: recovered.view.into(),
        position: watch::channel(position).0,
        reader: log.reader(),
        disk: log.disk().clone(),
        snapshots,
        stats,
        rebuild: RebuildProgress::default(),
        alerts: watch::channel(Seq(0)).0,
    });
    if !outdated.is_empty() {
        tracing::info!(
            "the snapshot lacks these parts in their current form, so they are being rebuilt from the log: {}",
            rebuild::names(&outdated)
        );
        rebuild::start(&shared, &outdated, settings);
    }
    Ok(shared)
}

fn set_up_journal(log: &mut Log, config: &Config, shared: &Shared) -> Result<(), RunError> {
    let used = match config.log.journal {
        true => log.use_journal(&config.data_dir, writer::journal_bounds(&config.log))?,
        false => {
            log.leave_journal(&config.data_dir)?;
            Err(NoJournal::SwitchedOff)
        }
    };
    let found = log.disk().journal_found.load(Ordering::Relaxed);
    if found > 0 {
        tracing::info!(
            "took {found} commits from the journal into the log, which had not got them before the last end"
        );
    }
    if let Err(why) = used {
        if why != NoJournal::SwitchedOff {
            tracing::warn!(
                "small commits go straight to the log, which writes more, and not to a journal: {why}"
            );
        }
        // Nothing else sets it.
        let _ = shared.stats.no_journal.set(why);
    }
    Ok(())
}

fn new_epoch() -> Result<Epoch, RunError> {
    lost::new_epoch().map_err(|error| RunError::Random(error.to_string()))
}

/// The kernel's boot id; zeros if unknown.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes()
}

/// The kernel's boot id, and whether it takes its clock for synchronised.
fn booted(clock: &Clock) -> Fact {
    let boot_id = boot_id();
    let clock =
        if clock.is_synchronised() { ClockQuality::Synchronised } else { ClockQuality::Unsynchronised };
    Fact::Booted { boot_id, version: env!("CARGO_PKG_VERSION").into(), clock }
}

/// For receivers that had these records or count on them: their positions are assigned again.
fn records_lost((first, last): (Seq, Seq)) -> Fact {
    tracing::error!(
        "{} acknowledged records are missing from the log: {first} to {last}, as its snapshots show. The loss is \
         recorded, and new records will reuse these positions; restore the log from a backup if \
         it holds the missing ones",
        last.0.saturating_sub(first.0) + 1
    );
    let reason = "a snapshot is ahead of the log, which was restored from an older copy or has lost its end";
    Fact::RecordsLost { first, last, reason: reason.into() }
}

/// Why the agent did not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory.
    #[error("cannot use the data directory {}: {source}; create it and give it to the user that runs fieldlog", dir.display())]
    DataDir {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// No view could be built from it.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The writer had to end.
    #[error(transparent)]
    Writer(#[from] WriterError),
    /// HTTP cannot be served.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Rules that passed the checks do not compile.
    #[error("the rules cannot be used: {0}")]
    Rules(#[from] RuleError),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// No random number for a new epoch.
    #[error("cannot get random numbers from the operating system: {0}")]
    Random(String),
}

impl RunError {
    /// The exit code, as in sysexits.h.
    pub fn exit_code(&self) -> u8 {
        match self {
            // The request cannot be applied to this log.
            RunError::Log(LogError::NotLost { .. }) => 64,
            // A restart does not fix these, and the unit prevents one.
            RunError::Log(log)
            | RunError::Recovery(RecoveryError::Log(log))
            | RunError::Writer(WriterError::Log(log))
                if log.is_lasting() =>
            {
                65
            }
            RunError::Recovery(RecoveryError::Fold { .. } | RecoveryError::NoBase { .. }) => 65,
            RunError::Writer(WriterError::Fold(_)) => 65,
            RunError::DataDir { .. } | RunError::Log(_) | RunError::Recovery(_) | RunError::Writer(_) => 74,
            RunError::Http(_) => 69,
            RunError::Rules(_) => 78,
            RunError::Thread(_) | RunError::Random(_) => 71,
        }
    }
}
