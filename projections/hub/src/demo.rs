//! `fieldlog-hub demo`: PostgreSQL, what else is installed of NATS and Redis, the hub, and gateways with simulated devices
//! that forward to it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::{Config, ConfigError};
use crate::postgres::Readers;
use crate::run::{self, RunError};
use crate::words::say;

mod gateways;
mod programs;
mod servers;

use gateways::Site;
use programs::{Owner, ProgramError};
use servers::Servers;

/// Made in the demo's directory: whoever has it locked is the running demo.
const LOCK_FILE: &str = "demo.lock";
const TOKEN_FILE: &str = "token";
const CONFIG_FILE: &str = "hub.toml";
/// What [`DemoArgs::fresh`] deletes.
const DIRS: [&str; 5] = ["postgres", "nats", "redis", "gateways", "logs"];
/// Unix sockets have names of at most 107 bytes, and the longest here is `DIR/postgres/.s.PGSQL.5432`.
const DIR_BYTES_MAX: usize = 80;
const LOOK_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Arguments of `fieldlog-hub demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Begin anew; without it, the demo continues with what the last one has left.
    #[arg(long)]
    fresh: bool,
    /// Where the demo keeps everything [default: fieldlog-hub-demo in $XDG_STATE_HOME or ~/.local/state, for root in /var/lib].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Port of the hub on 127.0.0.1; 0 takes any free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// How many gateways there are, each with devices of its own.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=20))]
    gateways: u16,
    /// Stop after this many seconds.
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
}

/// Runs the demo until `stopped`.
///
/// # Errors
/// [`DemoError`] if something of it cannot be started, or ends by itself.
pub async fn demo(args: &DemoArgs, mut stopped: watch::Receiver<bool>) -> Result<(), DemoError> {
    let dir = Dir::open(args)?;
    let servers = tokio::select! {
        servers = Servers::start(&dir) => servers?,
        _ = stopped.wait_for(|stop| *stop) => return Ok(()),
    };
    let result = with_servers(args, &dir, &servers, stopped).await;
    say("\nstopping\n");
    servers.stop().await;
    result
}

async fn with_servers(
    args: &DemoArgs,
    dir: &Dir,
    servers: &Servers,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), DemoError> {
    let hub = tokio::select! {
        hub = Hub::start(args, dir, servers) => hub?,
        _ = stopped.wait_for(|stop| *stop) => return Ok(()),
    };
    let sites = match gateways::start(args.gateways, dir, hub.address, servers.nats.as_ref()).await {
        Ok(sites) => sites,
        Err(error) => {
            hub.stop().await?;
            return Err(error);
        }
    };
    say("Ctrl-C stops everything; the next start continues from there (--fresh begins anew)\n\n");
    let ended = tokio::select! {
        ended = watch_over(servers, &hub, &sites) => ended,
        _ = stopped.wait_for(|stop| *stop) => Ok(()),
        () = limit(args.seconds) => Ok(()),
    };
    // Whoever sends stops first, so that the last events arrive.
    gateways::stop(sites).await;
    hub.stop().await.and(ended)
}

async fn limit(seconds: Option<u64>) {
    match seconds {
        Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
        None => std::future::pending().await,
    }
}

/// Says now and then what has arrived; returns when something has ended that should not.
async fn watch_over(servers: &Servers, hub: &Hub, sites: &[Site]) -> Result<(), DemoError> {
    let (mut last, mut next) = (String::new(), Instant::now());
    loop {
        let children = servers.children().chain(sites.iter().map(|site| &site.gateway));
        for child in children {
            child.check()?;
        }
        if hub.task.is_finished() {
            return Ok(());
        }
        // The database answers only as long as it runs, which was just looked at.
        if next <= Instant::now()
            && let Ok(line) = hub.line().await
        {
            if line != last {
                say(&line);
            }
            (last, next) = (line, Instant::now() + LINE_EVERY);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The demo's directory, which this process alone uses.
struct Dir {
    path: PathBuf,
    /// Who runs PostgreSQL, if this process may not.
    owner: Option<Owner>,
    _lock: File,
}

impl Dir {
    fn open(args: &DemoArgs) -> Result<Dir, DemoError> {
        let owner = Owner::needed()?;
        let path = args.dir.clone().unwrap_or_else(|| state_dir(owner.is_some()).join("fieldlog-hub-demo"));
        let failed = |source| DemoError::Dir { dir: path.clone(), source };
        let path = std::path::absolute(&path).map_err(failed)?;
        if path.as_os_str().len() > DIR_BYTES_MAX {
            return Err(DemoError::Long { dir: path });
        }
        let failed = |source| DemoError::Dir { dir: path.clone(), source };
        // Another user, who runs PostgreSQL, has to find the way to its directory.
        let mode = if owner.is_some() { 0o711 } else { 0o700 };
        DirBuilder::new().recursive(true).mode(mode).create(&path).map_err(failed)?;
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).mode(0o600).open(path.join(LOCK_FILE));
        let lock = lock.map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => DemoError::Runs { dir: path.clone() },
            TryLockError::Error(source) => failed(source),
        })?;
        if args.fresh {
            // Only what a demo has made, whatever directory was given.
            for made in DIRS {
                match std::fs::remove_dir_all(path.join(made)) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
                    _ => {}
                }
            }
        }
        let dir = Dir { path, owner, _lock: lock };
        dir.make("logs")?;
        dir.token().map_err(|source| DemoError::Dir { dir: dir.path.clone(), source })?;
        Ok(dir)
    }

    /// Makes a directory in it, unless it is there.
    fn make(&self, name: &str) -> Result<PathBuf, DemoError> {
        let path = self.path.join(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|source| DemoError::Dir { dir: path.clone(), source })?;
        Ok(path)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.path.join("logs").join(format!("{name}.log"))
    }

    fn token_file(&self) -> PathBuf {
        self.path.join(TOKEN_FILE)
    }

    /// The token that allows everything; made when it is not there.
    fn token(&self) -> io::Result<String> {
        let file = self.token_file();
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
        match made {
            Ok(mut file) => {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
                let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                file.write_all(text.as_bytes()).map(|()| text)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                std::fs::read_to_string(file).map(|text| text.trim().to_owned())
            }
            Err(error) => Err(error),
        }
    }
}

fn state_dir(is_root: bool) -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if is_root {
        // What root has at home, nobody else can reach.
        return "/var/lib".into();
    }
    let home = || Some(set("HOME")?.join(".local/state"));
    set("XDG_STATE_HOME").or_else(home).unwrap_or_else(std::env::temp_dir)
}

/// The hub, in this process.
struct Hub {
    address: SocketAddr,
    readers: Readers,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), RunError>>,
}

impl Hub {
    async fn start(args: &DemoArgs, dir: &Dir, servers: &Servers) -> Result<Hub, DemoError> {
        let file = dir.path.join(CONFIG_FILE);
        let token = dir.token_file();
        let text = format!(
            "# Of the demo, and written anew by the next one.\nname = \"demo\"\n[http]\nlisten = \"127.0.0.1:{}\"\n\
             [[token]]\nfile = {token:?}\nscopes = [\"ingest\", \"read\", \"command\", \"admin\"]\n{}",
            args.port,
            servers.config(&token)
        );
        std::fs::write(&file, text).map_err(|source| DemoError::Dir { dir: file.clone(), source })?;
        let config = Config::load(&file)?;
        let readers = Readers::new(config.postgres.clone(), config.lease);
        let (stop, stopped) = watch::channel(false);
        let (ready, address) = oneshot::channel();
        let task = tokio::spawn(run::run(config, stopped, |address| {
            let _ = ready.send(address);
        }));
        let Ok(address) = address.await else {
            return Err(ended(task).await.err().unwrap_or(DemoError::Hub));
        };
        say(&format!("hub         http://{address}/ (the API: http://{address}/openapi.json)\n"));
        say(&format!("token       {} (the page asks for it)\n", token.display()));
        say(&format!("settings    {}\n", file.display()));
        Ok(Hub { address, readers, stop, task })
    }

    /// What has arrived.
    async fn line(&self) -> Result<String, String> {
        let count = "SELECT (SELECT count(*) FROM gateways), (SELECT count(*) FROM devices),
            (SELECT coalesce(sum(events), 0)::bigint FROM logs),
            (SELECT coalesce(sum(lag_events), 0)::bigint FROM gateway_lag)";
        let rows = self.readers.query(count, &[]).await?;
        let row = rows.first().ok_or("no counts")?;
        let [gateways, devices, events, lag] = [0, 1, 2, 3].map(|at| row.get::<_, i64>(at));
        Ok(format!("{gateways} gateways, {devices} devices, {events} events; {lag} events to go\n"))
    }

    async fn stop(self) -> Result<(), DemoError> {
        self.stop.send_replace(true);
        ended(self.task).await
    }
}

async fn ended(task: JoinHandle<Result<(), RunError>>) -> Result<(), DemoError> {
    task.await.map_err(|_| DemoError::Hub)?.map_err(DemoError::Run)
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Its directory.
    #[error("{} cannot be used: {source}; name another directory with --dir", dir.display())]
    Dir {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its directory has too long a name.
    #[error("{} is too long a path for the sockets in it; name a directory of up to 80 bytes with --dir", dir.display())]
    Long {
        /// Which.
        dir: PathBuf,
    },
    /// Another demo uses the directory.
    #[error("another demo runs in {}; stop that one, or name another directory with --dir", dir.display())]
    Runs {
        /// Which.
        dir: PathBuf,
    },
    /// PostgreSQL is not installed.
    #[error(
        "PostgreSQL is not installed, and without it there is no hub: `apt install postgresql` (neither initdb nor \
         /usr/lib/postgresql was found)"
    )]
    NoPostgres,
    /// A program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A broker for simulated devices.
    #[error("cannot start a broker for simulated devices on 127.0.0.1: {0}")]
    Broker(io::Error),
    /// The hub's configuration.
    #[error("the demo's configuration is wrong, which is a bug: {0}")]
    Config(#[from] ConfigError),
    /// The hub.
    #[error(transparent)]
    Run(RunError),
    /// The hub ended without saying why.
    #[error("the hub ended, which is a bug")]
    Hub,
}

impl DemoError {
    /// The exit code of the process, as in `sysexits.h`.
    pub fn exit_code(&self) -> u8 {
        match self {
            DemoError::Run(error) => error.exit_code(),
            DemoError::NoPostgres | DemoError::Program(_) | DemoError::Broker(_) | DemoError::Runs { .. } => {
                69
            }
            DemoError::Dir { .. } | DemoError::Long { .. } => 74,
            DemoError::Config(_) => 78,
            DemoError::Hub => 71,
        }
    }
}

/// A path as a text of TOML.
fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}
