//! `fieldlog demo`: an embedded broker, simulated devices, the agent and its upstream receiver in one process.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fieldlog_projections::Seq;
use fieldlog_sim::broker::{Broker, Options};
use fieldlog_sim::devices::{Fleet, FleetOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::config::Config;
use crate::daemon;
use crate::log::{FILE_NAME, JOURNAL_FILE_NAME, Log, directory};
use crate::receive::{self, ReceiveError, ReceiveOptions};
use crate::run::{self, Controls, Event, Handle, RunError};
use crate::words::{complain, number, say};

mod commands;

/// The preferred port of the status page.
const PORT: u16 = 8687;
/// File with the token for commands, in the demo's directory.
const TOKEN_FILE: &str = "admin-token";
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Arguments of `fieldlog demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Begin a new log; without it, the log of the last demo is continued.
    #[arg(long)]
    fresh: bool,
    /// Where the demo keeps its log [default: fieldlog-demo in $XDG_STATE_HOME or ~/.local/state].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Port of the status page on 127.0.0.1; 0 takes any free one [default: 8687, or any free one if it is taken].
    #[arg(long)]
    port: Option<u16>,
    /// Speed of the simulated devices: 2 is twice as fast.
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Stop after this many seconds.
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    if (0.1..=50.0).contains(&speed) { Ok(speed) } else { Err("must be 0.1 to 50".into()) }
}

/// Runs the demo until Ctrl-C.
pub fn main(args: &DemoArgs) -> ExitCode {
    let runtime = match daemon::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            return ExitCode::from(71);
        }
    };
    let result = runtime.block_on(demo(args));
    runtime.shutdown_timeout(Duration::from_secs(2));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

async fn demo(args: &DemoArgs) -> Result<(), DemoError> {
    let dir = data_dir(args)?;
    let broker = Broker::bind("127.0.0.1:0", Options::default()).await.map_err(DemoError::Broker)?;
    let token = directory::make_dir(&dir)
        .and_then(|()| commands::token(&dir.join(TOKEN_FILE)))
        .map_err(|source| DemoError::Token { dir: dir.clone(), source })?;
    let upstream = Upstream::start().await?;
    let config = config(args, &dir, broker.local_addr(), upstream.address).await?;
    let (shutdown, shutdown_rx) = watch::channel(false);
    let (_reload, reload_rx) = mpsc::channel(1);
    let controls = Controls { shutdown: shutdown_rx, reload: reload_rx };
    let (ready_tx, ready_rx) = oneshot::channel();
    let mut ready_tx = Some(ready_tx);
    // Owns everything, so that `ready_tx` is dropped when the agent ends and nobody waits for ever.
    let report = move |event| match event {
        Event::Recovered { snapshot, replayed, head, millis } => {
            say(&format!("log         {}\n", dir.join(FILE_NAME).display()));
            match head {
                Seq(0) => say("begun       as a new log\n"),
                _ => say(&format!(
                    "continued   at sequence {head} (snapshot {snapshot}, {} replayed, {millis} ms)\n",
                    number(replayed, "record")
                )),
            }
        }
        Event::Ready(handle) => {
            if let Some(ready) = ready_tx.take() {
                let _ = ready.send(handle);
            }
        }
    };
    let agent = run::run(config, Clock::system(), controls, report);
    let side = beside(args, broker, upstream.address, &token, ready_rx, shutdown);
    let (agent, side) = tokio::join!(agent, side);
    let received = upstream.stop().await;
    agent?;
    side?;
    say(&format!("\nwhat has arrived upstream:\n{}", received?));
    Ok(())
}

/// The receiver that the demo's agent forwards to, equivalent to `fieldlog receive`; ends with the demo.
struct Upstream {
    address: SocketAddr,
    shutdown: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<fieldlog_wire::ledger::Report, ReceiveError>>,
}

impl Upstream {
    async fn start() -> Result<Upstream, DemoError> {
        let options = ReceiveOptions {
            http: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            // It does not have what earlier demos forwarded.
            joined_late: true,
            ..ReceiveOptions::default()
        };
        let (shutdown, stopped) = watch::channel(false);
        let (address_tx, address) = oneshot::channel();
        let task = tokio::spawn(receive::run(options, stopped, |handle| {
            let _ = address_tx.send(handle.http);
        }));
        match address.await {
            Ok(Some(address)) => Ok(Upstream { address, shutdown, task }),
            _ => Err(ended(task.await).err().unwrap_or(DemoError::NoReceiver)),
        }
    }

    async fn stop(self) -> Result<fieldlog_wire::ledger::Report, DemoError> {
        self.shutdown.send_replace(true);
        ended(self.task.await)
    }
}

fn ended(
    result: Result<Result<fieldlog_wire::ledger::Report, ReceiveError>, tokio::task::JoinError>,
) -> Result<fieldlog_wire::ledger::Report, DemoError> {
    result.map_err(|_| DemoError::NoReceiver)?.map_err(DemoError::Receiver)
}

/// The demo except the agent: devices, terminal output, Ctrl-C.
async fn beside(
    args: &DemoArgs,
    broker: Broker,
    upstream: SocketAddr,
    token: &str,
    ready: oneshot::Receiver<Handle>,
    shutdown: watch::Sender<bool>,
) -> Result<(), DemoError> {
    // Dropped without a message only if the agent did not start; the agent's own error is reported then.
    let Ok(handle) = ready.await else { return Ok(()) };
    if let Some(address) = handle.http {
        say(&format!("status page http://{address}/\n"));
    }
    say(&format!("broker      mqtt://{} (any MQTT client may join)\n", broker.local_addr()));
    say(&format!("receiver    http://{upstream}/report (what is forwarded arrives here, in this process)\n"));
    if let Some(address) = handle.http {
        say(&commands::hint(address, token));
    }
    say("Ctrl-C stops the demo; the next start continues from there (--fresh starts over)\n\n");
    let fleet =
        Fleet::start(broker.local_addr(), &FleetOptions { speed: args.speed, ..FleetOptions::default() });
    tokio::select! {
        ended = asked_to_stop() => ended.map_err(DemoError::Signal)?,
        () = limit(args.seconds) => {}
        () = lines(&handle, &fleet) => {}
        () = commands::send_rounds(&handle) => {}
    }
    say("\nstopping\n");
    fleet.stop().await;
    shutdown.send_replace(true);
    // The agent disconnects from the broker before the broker stops.
    let gone = async {
        while handle.sources.views().iter().any(|v| v.status.is_connected()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), gone).await;
    broker.shutdown().await;
    Ok(())
}

/// Ctrl-C in the terminal, or `kill`.
async fn asked_to_stop() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        ended = tokio::signal::ctrl_c() => ended,
    }
}

async fn limit(seconds: Option<u64>) {
    match seconds {
        Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
        None => std::future::pending().await,
    }
}

/// A line with rates, updated in place on a terminal.
async fn lines(handle: &Handle, fleet: &Fleet) {
    let terminal = std::io::stdout().is_terminal();
    let mut last = (Instant::now(), Counts::read(handle, fleet));
    loop {
        tokio::time::sleep(LINE_EVERY).await;
        let now = (Instant::now(), Counts::read(handle, fleet));
        let seconds = now.0.duration_since(last.0).as_secs_f64();
        let rate = |a: u64, b: u64| (b - a) as f64 / seconds;
        let line = format!(
            "{:5.1} published/s  {:5.1} recorded/s  {:4.1} commits/s  {:6.1} KB/s to disk  {}",
            rate(last.1.published, now.1.published),
            rate(last.1.events, now.1.events),
            rate(last.1.commits, now.1.commits),
            rate(last.1.bytes, now.1.bytes) / 1000.0,
            position(handle)
        );
        let mut out = std::io::stdout();
        let written = if terminal { write!(out, "\r\x1b[K{line}") } else { writeln!(out, "{line}") };
        if written.and_then(|()| out.flush()).is_err() {
            // Nobody reads any more, as in `fieldlog demo | head`: end the demo.
            return;
        }
        last = now;
    }
}

fn position(handle: &Handle) -> String {
    let acked = handle.sinks.views().first().map_or(Seq(0), |v| v.status.details().acked.contiguous());
    format!("sequence {}, upstream has {acked}", handle.shared.position.borrow().head)
}

struct Counts {
    published: u64,
    events: u64,
    commits: u64,
    bytes: u64,
}

impl Counts {
    fn read(handle: &Handle, fleet: &Fleet) -> Counts {
        let shared = &handle.shared;
        Counts {
            published: fleet.published(),
            events: shared.stats.events.load(Ordering::Relaxed),
            commits: shared.stats.commits(),
            bytes: shared.disk.bytes_written.load(Ordering::Relaxed),
        }
    }
}

fn data_dir(args: &DemoArgs) -> Result<PathBuf, DemoError> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => state_dir().join("fieldlog-demo"),
    };
    if args.fresh {
        Log::refuse_if_in_use(&dir).map_err(|error| DemoError::Run(error.into()))?;
        // Delete only files that a demo made, whatever directory was given.
        let log = dir.join(FILE_NAME);
        let snapshots = dir.join(crate::snapshots::DIR_NAME);
        let gone = |result: std::io::Result<()>| match result {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        gone(std::fs::remove_file(&log))
            .and_then(|()| gone(std::fs::remove_file(dir.join(JOURNAL_FILE_NAME))))
            .and_then(|()| gone(std::fs::remove_dir_all(&snapshots)))
            .map_err(|source| DemoError::Fresh { dir: dir.clone(), source })?;
    }
    Ok(dir)
}

fn state_dir() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("XDG_STATE_HOME")
        .or_else(|| Some(set("HOME")?.join(".local/state")))
        .unwrap_or_else(std::env::temp_dir)
}

async fn config(
    args: &DemoArgs,
    dir: &std::path::Path,
    broker: SocketAddr,
    upstream: SocketAddr,
) -> Result<Config, DemoError> {
    let wanted = args.port.unwrap_or(PORT);
    let listen = SocketAddr::from(([127, 0, 0, 1], wanted));
    let taken = tokio::net::TcpListener::bind(listen).await.is_err();
    let port = if taken && args.port.is_none() { 0 } else { wanted };
    // A relative path would be taken for a credential of systemd.
    let token = std::path::absolute(dir.join(TOKEN_FILE))
        .map_err(|source| DemoError::Token { dir: dir.to_owned(), source })?;
    let text = format!(
        "gateway_id = \"demo\"\n\
         data_dir = {dir:?}\n\
         [http]\n\
         listen = \"127.0.0.1:{port}\"\n\
         admin_token_file = {token:?}\n\
         [[source]]\n\
         name = \"demo\"\n\
         address = \"mqtt://{broker}\"\n\
         [[source.subscription]]\n\
         preset = \"zigbee2mqtt\"\n\
         [[source.subscription]]\n\
         preset = \"tasmota\"\n\
         [[source.subscription]]\n\
         preset = \"shelly-gen2\"\n\
         [[sink]]\n\
         name = \"receiver\"\n\
         address = \"http://{upstream}/\"\n\
         format = \"compact\"\n\
         [[derived_attribute]]\n\
         name = \"apparent_power\"\n\
         formula = \"product\"\n\
         of = [\"switch:0.voltage\", \"switch:0.current\"]\n\
         unit = \"VA\"\n\
         [[named_aggregate]]\n\
         name = \"load-minutely\"\n\
         attributes = [\"apparent_power\"]\n\
         function = \"mean\"\n\
         window_s = 60\n\
         unit = \"VA\"\n"
    );
    Config::from_toml(&text, "demo").map_err(|faults| DemoError::Config(faults.to_string()))
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No port for the broker.
    #[error("cannot start the embedded broker on 127.0.0.1: {0}")]
    Broker(std::io::Error),
    /// `--fresh` could not delete.
    #[error("cannot delete the old demo log in {}: {source}; is another demo running?", dir.display())]
    Fresh {
        /// Where.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The token for commands.
    #[error("cannot keep the token for commands in the data directory {}: {source}", dir.display())]
    Token {
        /// Where.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The demo's own configuration.
    #[error("the demo's configuration is wrong, which is a bug:\n{0}")]
    Config(String),
    /// The receiver upstream.
    #[error("the demo's receiver: {0}")]
    Receiver(ReceiveError),
    /// It ended without saying why.
    #[error("the demo's receiver ended, which is a bug")]
    NoReceiver,
    /// Signals.
    #[error("cannot listen for Ctrl-C: {0}")]
    Signal(std::io::Error),
    /// The agent.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl DemoError {
    fn exit_code(&self) -> u8 {
        match self {
            DemoError::Run(error) => error.exit_code(),
            DemoError::Broker(_) | DemoError::Receiver(_) => 69,
            DemoError::Fresh { .. } | DemoError::Token { .. } => 74,
            DemoError::Config(_) => 78,
            DemoError::Signal(_) | DemoError::NoReceiver => 71,
        }
    }
}
