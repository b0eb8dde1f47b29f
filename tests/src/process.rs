//! The agent or the receiver as a separate process, for tests of signals, exit codes and stderr.

#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub use fieldlog_sim::servers::{free_port, signal};

use crate::binary;
use crate::wait::{block_until, until_some};

/// A running `fieldlog`; killed when dropped.
pub struct Process {
    child: Child,
    words: Arc<Mutex<String>>,
    printed: Arc<Mutex<String>>,
    reading: Vec<JoinHandle<()>>,
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code, or the signal as a negative number.
    pub code: i32,
    /// What it wrote to stderr.
    pub words: String,
    /// What it wrote to stdout.
    pub printed: String,
}

impl Process {
    /// `fieldlog run --config <config>`, with these additional environment variables.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run(config: &Path, environment: &[(&str, &str)]) -> Process {
        let mut command = command();
        command.arg("run").arg("--config").arg(config).envs(environment.iter().copied());
        Process::spawn(command)
    }

    /// `fieldlog run --new-epoch --config <config>`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run_anew(config: &Path) -> Process {
        let mut command = command();
        command.args(["run", "--new-epoch", "--config"]).arg(config);
        Process::spawn(command)
    }

    /// `fieldlog run`, with a limit on writable memory; allocations beyond it fail.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run_within(config: &Path, memory_bytes: usize) -> Process {
        let mut shell = command_of("sh");
        shell.args(["-c", "ulimit -d \"$0\" && exec \"$@\""]).arg((memory_bytes >> 10).to_string());
        shell.arg(binary::fieldlog()).arg("run").arg("--config").arg(config);
        // As in the unit: per-thread heaps would take unused memory. A backtrace would take a lot.
        shell.env("MALLOC_ARENA_MAX", "1").env_remove("RUST_BACKTRACE");
        shell.env("RUNTIME_DIRECTORY", config.parent().unwrap());
        Process::spawn(shell)
    }

    /// `fieldlog receive`, with these arguments.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn receive(arguments: &[String]) -> Process {
        let mut command = command();
        command.arg("receive").args(arguments);
        Process::spawn(command)
    }

    /// `fieldlog demo`, with these arguments.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn demo(arguments: &[&str]) -> Process {
        let mut command = command();
        command.arg("demo").args(arguments);
        Process::spawn(command)
    }

    /// `fieldlog` with these arguments.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn of(arguments: &[&str]) -> Process {
        let mut command = command();
        command.args(arguments);
        Process::spawn(command)
    }

    /// Its stdout so far.
    ///
    /// # Panics
    /// Never, unless a test already has.
    pub fn printed(&self) -> String {
        self.printed.lock().unwrap().clone()
    }

    fn spawn(mut command: Command) -> Process {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (words, heard) = hear(child.stderr.take().unwrap());
        let (printed, read) = hear(child.stdout.take().unwrap());
        Process { child, words, printed, reading: vec![heard, read] }
    }

    /// Its stderr so far.
    ///
    /// # Panics
    /// Never, unless a test already has.
    pub fn words(&self) -> String {
        self.words.lock().unwrap().clone()
    }

    /// Waits until stderr contains `words` after the first `from` bytes; returns its length.
    pub async fn says(&self, words: &str, from: usize) -> usize {
        let said =
            || self.words().get(from..).is_some_and(|said| said.contains(words)).then(|| self.words().len());
        let what = format!("{words:?} on stderr");
        until_some(&what, said).await
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Peak resident memory so far, in bytes.
    ///
    /// # Panics
    /// If the process has ended.
    pub fn peak_resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Sends a signal by its name.
    ///
    /// # Panics
    /// If the process has ended.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Panics
    /// If the process has ended.
    pub fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.end()
    }

    /// Whether it is still running.
    ///
    /// # Panics
    /// If its state cannot be read.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end while a broker in this thread keeps running.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn ended(mut self) -> Ended {
        until_some("the end of the process", || self.child.try_wait().unwrap()).await;
        self.end()
    }

    fn end(&mut self) -> Ended {
        let status = block_until("the end of the process", || self.child.try_wait().unwrap());
        for reading in self.reading.drain(..) {
            reading.join().unwrap();
        }
        let printed = self.printed.lock().unwrap().clone();
        Ended { code: code(status), words: self.words(), printed }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads all output on a thread.
fn hear(mut from: impl Read + Send + 'static) -> (Arc<Mutex<String>>, JoinHandle<()>) {
    let text = Arc::new(Mutex::new(String::new()));
    let heard = text.clone();
    let reading = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            heard.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    });
    (text, reading)
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
}

fn command() -> Command {
    command_of(binary::fieldlog())
}

fn command_of(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in [
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "JOURNAL_STREAM",
        "FIELDLOG_LOG",
        "RUNTIME_DIRECTORY",
        "COLUMNS",
    ] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    command
}

/// Runs `fieldlog` with these arguments to its end; returns exit code, stdout and stderr.
///
/// # Panics
/// If it cannot be started.
pub fn call(arguments: &[&str]) -> (i32, String, String) {
    call_with(&[], arguments)
}

/// The same with these environment variables.
///
/// # Panics
/// If it cannot be started.
pub fn call_with(environment: &[(&str, &str)], arguments: &[&str]) -> (i32, String, String) {
    let output = command().args(arguments).envs(environment.iter().copied()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (code(output.status), text(&output.stdout), text(&output.stderr))
}
