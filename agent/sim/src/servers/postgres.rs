//! A real PostgreSQL (`apt install postgresql`), with an empty database.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::tls::Certificates;
use super::wait::block_until;
use super::{Process, free_port, skip};

/// Where Debian installs it, one directory for each major version.
const INSTALLED: &str = "/usr/lib/postgresql";
/// The user and the database that [`PostgresServer::address`] names.
const NAME: &str = "fieldlog";

/// A running PostgreSQL; killed when dropped.
pub struct PostgresServer {
    process: Process,
    bin: PathBuf,
    dir: TempDir,
    settings: Vec<String>,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl PostgresServer {
    /// Starts one; `None` if it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Option<PostgresServer> {
        PostgresServer::with(&[])
    }

    /// Starts one with these settings, each as `name=value`; `None` if it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn with(settings: &[&str]) -> Option<PostgresServer> {
        PostgresServer::of(settings, None)
    }

    /// Starts one that speaks TLS, too; `None` if it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn with_tls(certificates: &Certificates) -> Option<PostgresServer> {
        PostgresServer::of(
            &["ssl=on", "ssl_cert_file=../server.pem", "ssl_key_file=../server.key"],
            Some(certificates),
        )
    }

    fn of(settings: &[&str], certificates: Option<&Certificates>) -> Option<PostgresServer> {
        let Some(bin) = installed() else {
            skip("PostgreSQL is not installed");
            return None;
        };
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        // It refuses to run as root, and wants its directory to be its own.
        if let Some((user, group)) = someone() {
            std::os::unix::fs::chown(dir.path(), Some(user), Some(group)).unwrap();
        }
        for file in certificates.iter().flat_map(|made| [made.cert_file(), made.key_file()]) {
            let own = dir.path().join(file.file_name().unwrap());
            std::fs::copy(&file, &own).unwrap();
            std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = someone() {
                std::os::unix::fs::chown(&own, Some(user), Some(group)).unwrap();
            }
        }
        let data = dir.path().join("data");
        let initdb = run(as_someone(&bin.join("initdb"))
            .args([
                "--username",
                NAME,
                "--auth",
                "trust",
                "--encoding",
                "UTF8",
                "--locale",
                "C",
                "--no-sync",
                "-D",
            ])
            .arg(&data));
        assert!(initdb.status.success(), "initdb: {}", String::from_utf8_lossy(&initdb.stderr));
        let settings: Vec<String> = settings.iter().map(|setting| format!("-c{setting}")).collect();
        let process = spawn(&bin, dir.path(), port, &settings);
        let mut server = PostgresServer { process, bin, dir, settings, port };
        server.wait_ready();
        server.sql_at("postgres", &format!("CREATE DATABASE {NAME}"));
        Some(server)
    }

    /// The number of its first process, the parent of the others.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    fn wait_ready(&mut self) {
        let ready = || {
            let ended = self.process.0.try_wait().unwrap();
            assert!(ended.is_none(), "PostgreSQL ends at once");
            let answer = run(self.psql("postgres").args(["-c", "SELECT 1"]));
            answer.status.success().then_some(())
        };
        block_until("PostgreSQL", ready);
    }

    /// How to connect to its database.
    pub fn address(&self) -> String {
        format!("postgresql://{NAME}@127.0.0.1:{}/{NAME}", self.port)
    }

    /// The rows of a query, one line each, with `|` between columns.
    ///
    /// # Panics
    /// If it cannot be run.
    pub fn sql(&self, query: &str) -> String {
        self.sql_at(NAME, query)
    }

    fn sql_at(&self, database: &str, query: &str) -> String {
        let answer = run(self.psql(database).args(["-c", query]));
        assert!(answer.status.success(), "{query}: {}", String::from_utf8_lossy(&answer.stderr));
        String::from_utf8(answer.stdout).unwrap()
    }

    fn psql(&self, database: &str) -> Command {
        let mut command = Command::new(self.bin.join("psql"));
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]);
        command.args(["--host", "127.0.0.1", "--username", NAME, "--dbname", database]);
        command.args(["--port", &self.port.to_string()]);
        command
    }

    /// SIGKILL, of all its processes.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn kill(&mut self) {
        // The others notice that the first one is gone, and end.
        self.process.kill();
    }

    /// Starts it again on the same port, with its data.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        // It refuses to start beside what is left of the killed one.
        block_until("the end of the killed PostgreSQL", || {
            self.process = spawn(&self.bin, self.dir.path(), self.port, &self.settings);
            std::thread::sleep(std::time::Duration::from_millis(200));
            self.process.0.try_wait().unwrap().is_none().then_some(())
        });
        self.wait_ready();
    }
}

/// The newest version that is installed.
fn installed() -> Option<PathBuf> {
    let versions = std::fs::read_dir(INSTALLED).ok()?.flatten();
    let newest = versions.filter_map(|entry| {
        let version = entry.file_name().to_str()?.parse::<u32>().ok()?;
        let bin = entry.path().join("bin");
        bin.join("initdb").exists().then_some((version, bin))
    });
    newest.max().map(|(_, bin)| bin)
}

fn spawn(bin: &Path, dir: &Path, port: u16, settings: &[String]) -> Process {
    let mut command = as_someone(&bin.join("postgres"));
    command.arg("-D").arg(dir.join("data")).arg("-k").arg(dir).args([
        "-h",
        "127.0.0.1",
        "-p",
        &port.to_string(),
    ]);
    command.args(settings);
    Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Runs a program of PostgreSQL as a user who is not root.
fn as_someone(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = someone() {
        command.uid(user).gid(group);
    }
    // It has to be able to read where it is.
    command.current_dir("/");
    command
}

/// The user and group that Debian makes for PostgreSQL, if the test runs as root.
fn someone() -> Option<(u32, u32)> {
    let id = |option: &str, user: &[&str]| -> io::Result<Option<u32>> {
        let output = Command::new("id").arg(option).args(user).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
    };
    if id("-u", &[]).ok()?? != 0 {
        return None;
    }
    Some((id("-u", &["postgres"]).ok()??, id("-g", &["postgres"]).ok()??))
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}
