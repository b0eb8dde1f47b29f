//! The agent under measurement: the release binary in a separate process.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fieldlog::log::{Log, LogOptions};
use fieldlog_projections::{Epoch, Seq, View, Window};

pub const BINARY: &str = env!("CARGO_BIN_EXE_fieldlog");

/// Lets change something.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

pub struct Agent {
    child: Child,
    http: u16,
}

pub struct Usage {
    pub cpu_s: f64,
    pub peak_rss: u64,
    pub rss: u64,
}

pub struct Boot {
    pub took: Duration,
    pub replayed: u64,
}

impl Agent {
    /// Starts the agent on a broker at `port` and waits until it is ready.
    pub fn start(data: &Path, port: u16, window: u16) -> Agent {
        Agent::start_with(data, port, window, "")
    }

    /// The same with additional configuration.
    pub fn start_with(data: &Path, port: u16, window: u16, more: &str) -> Agent {
        Agent::spawn(data, port, window, more).0
    }

    fn spawn(data: &Path, port: u16, window: u16, more: &str) -> (Agent, Duration) {
        std::fs::create_dir_all(data).expect("a data directory");
        let http = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let (config, token) = (data.join("bench.toml"), data.join("bench.token"));
        std::fs::write(&token, TOKEN).expect("a token");
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).expect("its mode");
        let text = format!(
            "data_dir = {data:?}\n\
             [http]\nlisten = \"127.0.0.1:{http}\"\nadmin_token_file = {token:?}\n\
             [[source]]\nname = \"bench\"\naddress = \"mqtt://127.0.0.1:{port}\"\nreceive_window = {window}\n\
             [[source.subscription]]\ntopic = \"bench/+device\"\ndecoder = \"json\"\n{more}"
        );
        std::fs::write(&config, text).expect("a configuration");
        let notify = Notify::new();
        let begin = Instant::now();
        let child = Command::new(BINARY)
            .args(["--log", "error", "run", "--config"])
            .arg(&config)
            .env("NOTIFY_SOCKET", &notify.path)
            // As in the unit.
            .env("MALLOC_ARENA_MAX", "1")
            .stdout(Stdio::null())
            .spawn()
            .expect("the agent starts");
        notify.wait_ready();
        (Agent { child, http }, begin.elapsed())
    }

    /// Starts the agent on an existing log, measures the time to READY, and kills it.
    pub fn boot(data: &Path) -> Boot {
        let (agent, took) = Agent::spawn(data, 1, 1000, "");
        let status = agent.status();
        let replayed = status["boot"]["replayed"].as_u64().unwrap_or(0);
        agent.kill();
        Boot { took, replayed }
    }

    pub fn status(&self) -> serde_json::Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).expect("the agent's HTTP");
        stream
            .write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body.trim()).unwrap_or_else(|e| panic!("/status: {e}: {answer}"))
    }

    /// Port of its HTTP.
    pub fn http(&self) -> u16 {
        self.http
    }

    /// The entry of a sink in /status.
    pub fn sink(&self, name: &str) -> serde_json::Value {
        let sinks = self.status()["sinks"].take();
        let found = sinks.as_array().and_then(|sinks| sinks.iter().find(|sink| sink["name"] == name));
        found.cloned().unwrap_or_default()
    }

    pub fn wait_for_events(&self, events: u64) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.status()["position"]["applied"].as_u64().unwrap_or(0) < events {
            assert!(Instant::now() < deadline, "the agent did not record {events} events");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn usage(&self) -> Usage {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = std::fs::read_to_string(proc.join("status")).expect("/proc/PID/status");
        let bytes = |field: &str| -> u64 {
            let kib =
                status.lines().find_map(|line| line.strip_prefix(field)).expect("a field of the status");
            kib.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
        };
        let (peak_rss, rss) = (bytes("VmHWM:"), bytes("VmRSS:"));
        Usage { cpu_s: cpu_seconds(&proc.join("stat")), peak_rss, rss }
    }

    pub fn stop(mut self) {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(killed.is_ok_and(|s| s.success()), "kill -TERM");
        assert!(self.child.wait().expect("the agent ends").success(), "a clean stop");
    }

    fn kill(mut self) {
        self.child.kill().expect("kill -9");
        let _ = self.child.wait();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Already gone, unless a run was aborted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time of a process or thread, in seconds; ticks are 10 ms on every relevant Linux.
pub fn cpu_seconds(stat: &Path) -> f64 {
    let stat = std::fs::read_to_string(stat).expect("/proc stat");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a stat line").1.split_whitespace().collect();
    let ticks = |i: usize| fields[i].parse::<f64>().expect("ticks");
    (ticks(11) + ticks(12)) / 100.0
}

/// Disk space used by a file: the store's file is sparse.
pub fn blocks_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.blocks() * 512)
}

/// Folds the whole log from its first record.
pub fn replay(data: &Path) -> (u64, Duration) {
    let options = LogOptions { cache_bytes: 4 << 20, quick_repair: false, quarantine_records_max: 1000 };
    let log = Log::open(data, options, Epoch(1)).expect("the log");
    let windows = [(60, 60), (3600, 48), (86_400, 35)];
    let windows = windows.iter().map(|&(length_s, keep)| Window { length_s, keep }).collect();
    let mut view = View::new(windows);
    let begin = Instant::now();
    let failed = log.reader().scan(Seq(1), |chunk| match view.apply_chunk(chunk) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    });
    let took = begin.elapsed();
    assert!(failed.expect("a readable log").is_none());
    let events = view.seq.0;
    log.close().expect("a clean close");
    (events, took)
}

/// systemd's side of the notification socket.
struct Notify {
    path: PathBuf,
    socket: UnixDatagram,
    _dir: tempfile::TempDir,
}

impl Notify {
    fn new() -> Notify {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a notification socket");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        Notify { path, socket, _dir: dir }
    }

    fn wait_ready(&self) {
        let mut buffer = [0; 4096];
        loop {
            let size = self.socket.recv(&mut buffer).expect("READY=1 within 30 s");
            if String::from_utf8_lossy(&buffer[..size]).lines().any(|l| l == "READY=1") {
                return;
            }
        }
    }
}
