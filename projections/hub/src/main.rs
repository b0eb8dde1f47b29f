//! The `fieldlog-hub` binary: command line, signals, exit codes.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fieldlog_hub::check::check_config;
use fieldlog_hub::config::Config;
#[cfg(feature = "demo")]
use fieldlog_hub::demo::{DemoArgs, demo};
use fieldlog_hub::words::say;
use fieldlog_hub::{follow, load, rebuild, run};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Exit code for an invalid configuration (`EX_CONFIG`); systemd is told not to restart on it.
const EX_CONFIG: u8 = 78;
/// Exit code when the system does not give what every program needs (`EX_OSERR`).
const EX_OSERR: u8 = 71;

/// Exit code when PostgreSQL cannot be asked (`EX_UNAVAILABLE`).
const EX_UNAVAILABLE: u8 = 69;
/// Exit code for arguments that do not fit together (`EX_USAGE`).
const EX_USAGE: u8 = 64;
/// The store that the others follow.
const POSTGRES: &str = "postgres";

/// Keeps what fieldlog gateways send in PostgreSQL, each event once.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    /// How much to log: error, warn, info or debug [default: info; warn for the demo].
    #[arg(long, global = true, env = "FIELDLOG_LOG", value_name = "LEVEL")]
    log: Option<Level>,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the hub in the foreground.
    Run {
        /// The configuration file.
        #[arg(long, default_value = "/etc/fieldlog/hub.toml", value_name = "FILE")]
        config: PathBuf,
    },
    /// Make what a store has anew from the events in PostgreSQL, while hubs run.
    ///
    /// Redis and OpenSearch begin anew within seconds. The tables of PostgreSQL are made in a second schema, which takes the
    /// place of the first once it has all events; this command stays until then, and can be started again if it was stopped.
    Rebuild {
        /// The configuration file.
        #[arg(long, default_value = "/etc/fieldlog/hub.toml", value_name = "FILE")]
        config: PathBuf,
        /// Which one.
        #[arg(long, value_parser = [POSTGRES, follow::STORES[0], follow::STORES[1]])]
        store: String,
        /// Instead, remove what a rebuild of PostgreSQL that has not ended has left.
        #[arg(long)]
        abandon: bool,
    },
    /// Bring the logs of gateways from files into PostgreSQL, while hubs run: after the database was lost, for instance.
    ///
    /// `fieldlog export --format parcels` makes the files, one of each log. Events that are there already are recognised, so a
    /// file can be loaded twice, and loading can be stopped and started again.
    Load {
        /// The files; those of one gateway from its oldest log to its newest.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The files are of logs that came before those that PostgreSQL has, which stay the current ones of their gateways.
        #[arg(long)]
        older: bool,
        /// The configuration file.
        #[arg(long, default_value = "/etc/fieldlog/hub.toml", value_name = "FILE")]
        config: PathBuf,
    },
    /// Start everything on this machine: PostgreSQL, what else is installed, the hub, and gateways with simulated devices.
    #[cfg(feature = "demo")]
    Demo(DemoArgs),
    /// Check the configuration: list every fault in it, or what it says.
    CheckConfig {
        /// The configuration file.
        #[arg(long, default_value = "/etc/fieldlog/hub.toml", value_name = "FILE")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let level = cli.log.unwrap_or(cli.command.log());
    // What Kafka's client has to say comes as an error, too, in words of ours.
    let filter = Targets::new().with_default(level).with_target("rskafka", LevelFilter::OFF);
    let layer =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(color).with_target(false);
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    match cli.command {
        Verb::Run { config } => match self::config(&config) {
            Ok(config) => start(config),
            Err(code) => code,
        },
        Verb::Rebuild { config, store, abandon } => match self::config(&config) {
            Ok(config) => rebuild(&config, &store, abandon),
            Err(code) => code,
        },
        Verb::Load { files, older, config } => match self::config(&config) {
            Ok(config) => load(&config, &files, older),
            Err(code) => code,
        },
        #[cfg(feature = "demo")]
        Verb::Demo(args) => show(&args),
        Verb::CheckConfig { config } => check(&config),
    }
}

impl Verb {
    /// How much is logged if nothing else is said.
    fn log(&self) -> Level {
        match self {
            #[cfg(feature = "demo")]
            Verb::Demo(_) => Level::WARN,
            _ => Level::INFO,
        }
    }
}

fn check(path: &Path) -> ExitCode {
    match check_config(path) {
        Ok(words) => {
            say(&words);
            ExitCode::SUCCESS
        }
        Err(faults) => {
            eprintln!("{faults}");
            eprintln!("Nothing was started. Correct this and run `fieldlog-hub check-config` again.");
            ExitCode::from(EX_CONFIG)
        }
    }
}

#[cfg(feature = "demo")]
fn show(args: &DemoArgs) -> ExitCode {
    until_down(async |down| match demo(args, down).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    })
}

/// Runs something that ends when it is told to.
fn until_down(work: impl AsyncFnOnce(watch::Receiver<bool>) -> ExitCode) -> ExitCode {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    runtime.block_on(async {
        match signals() {
            Ok(down) => work(down).await,
            Err(code) => code,
        }
    })
}

/// Becomes true at SIGTERM or Ctrl-C.
fn signals() -> Result<watch::Receiver<bool>, ExitCode> {
    let (shutdown, down) = watch::channel(false);
    let signals = signal(SignalKind::terminate())
        .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
    let (mut terminate, mut interrupt) = signals.map_err(|error| {
        tracing::error!("cannot listen for signals: {error}");
        ExitCode::from(EX_OSERR)
    })?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.send_replace(true);
    });
    Ok(down)
}

fn config(path: &Path) -> Result<Config, ExitCode> {
    Config::load(path).map_err(|error| {
        tracing::error!("{error}");
        ExitCode::from(EX_CONFIG)
    })
}

fn runtime() -> Result<Runtime, ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        tracing::error!("cannot start: {error}");
        ExitCode::from(EX_OSERR)
    })
}

fn rebuild(config: &Config, store: &str, abandon: bool) -> ExitCode {
    if abandon && store != POSTGRES {
        tracing::error!("--abandon is for --store {POSTGRES}; {store} has nothing that could be removed");
        return ExitCode::from(EX_USAGE);
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let done = runtime.block_on(async {
        match store {
            POSTGRES if abandon => rebuild::abandon(config).await.map(|was_there| match was_there {
                true => "what was made of the new tables is removed".to_owned(),
                false => "there is nothing to remove: no rebuild has been begun".to_owned(),
            }),
            POSTGRES => rebuild::rebuild(config).await.map(|rebuilt| rebuilt.to_string()),
            _ => follow::rebuild(config, store).await.map(|()| {
                format!("{store} begins anew in every running hub that has it in its configuration")
            }),
        }
    });
    match done {
        Ok(words) => {
            tracing::info!("{words}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            tracing::error!("{why}");
            ExitCode::from(EX_UNAVAILABLE)
        }
    }
}

fn load(config: &Config, files: &[PathBuf], older: bool) -> ExitCode {
    until_down(async |down| {
        match load::load(config, files, older, down, |words| tracing::info!("{words}")).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error}");
                ExitCode::from(error.exit_code())
            }
        }
    })
}

fn start(config: Config) -> ExitCode {
    until_down(async |down| {
        let ready = |address| tracing::info!("ready: gateways post to http://{address}/events");
        match run::run(config, down, ready).await {
            Ok(()) => {
                tracing::info!("stopped; every acknowledged parcel is stored");
                ExitCode::SUCCESS
            }
            Err(error) => {
                tracing::error!("{error}");
                ExitCode::from(error.exit_code())
            }
        }
    })
}
