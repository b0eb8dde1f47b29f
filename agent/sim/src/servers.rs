//! Real servers as processes of a test or benchmark, on free ports of 127.0.0.1, killed when their handle is dropped.
//! If a server is not installed, its tests print that they are skipped; with `FIELDLOG_TEST_REQUIRE_SERVERS=1` they
//! fail instead.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

pub mod firewall;
pub mod kafka_mock;
pub mod metrics;
pub mod mosquitto;
pub mod nats;
pub mod opensearch;
pub mod postgres;
pub mod prometheus;
pub mod redis;
pub mod tansu;
pub mod tls;
pub mod wait;

use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use wait::block_until;

/// A child process; killed when dropped, also when its test fails.
pub struct Process(pub Child);

impl Process {
    /// SIGKILL, and waits for its end.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Sends a signal by name.
    ///
    /// # Panics
    /// If the process has ended.
    pub fn signal(&self, name: &str) {
        signal(self.0.id(), name);
    }

    /// Waits until it listens on this port of 127.0.0.1.
    ///
    /// # Panics
    /// If it ends instead, or times out.
    pub fn wait_listening(&mut self, name: &str, port: u16) {
        block_until(name, || {
            assert!(self.0.try_wait().unwrap().is_none(), "{name} ends at once");
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone if the test has ended it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Prints that a test is skipped, or fails if it is required.
///
/// # Panics
/// With `FIELDLOG_TEST_REQUIRE_SERVERS=1`.
pub fn skip(why: &str) {
    let required = std::env::var_os("FIELDLOG_TEST_REQUIRE_SERVERS").is_some_and(|value| value == "1");
    assert!(!required, "FIELDLOG_TEST_REQUIRE_SERVERS=1, but {why}");
    eprintln!("SKIPPED: {why}");
}

/// Whether a program can be run, with an argument that makes it exit at once. If not, prints that the test is skipped.
///
/// # Panics
/// As [`skip`].
pub fn installed(program: &str, argument: &str) -> bool {
    let found = quiet(program, |command| command.arg(argument)).and_then(|mut child| child.wait()).is_ok();
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// A server with its configuration in a file.
fn server(program: &str, config: &Path) -> io::Result<Process> {
    quiet(program, |command| command.arg("-c").arg(config)).map(Process)
}

/// Starts a program without output. Also looks where Debian installs servers, outside the users' path.
fn quiet(program: &str, arguments: impl Fn(&mut Command) -> &mut Command) -> io::Result<Child> {
    let spawn = |program: &str| {
        let mut command = Command::new(program);
        arguments(&mut command).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    };
    spawn(program).or_else(|_| spawn(&format!("/usr/sbin/{program}")))
}

/// The path that a line of Python prints, such as where a package of PyPI has put its program.
fn from_python(line: &str) -> Option<String> {
    let output = Command::new("python3").args(["-c", line]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && Path::new(&path).is_file()).then_some(path)
}

/// A free port of this machine, for a server that cannot choose one itself.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Sends a signal to a process that the test has started.
///
/// # Panics
/// If there is no such process.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}
