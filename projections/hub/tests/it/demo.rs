//! `fieldlog-hub demo`: starts everything, and leaves nothing running.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use fieldlog_sim::servers::wait::block_until;
use fieldlog_sim::servers::{Process, installed, skip};
use serde_json::Value as Json;

use crate::hub::get;

struct Demo {
    process: Process,
    said: Arc<Mutex<String>>,
}

impl Demo {
    fn start(dir: &Path, more: &[&str]) -> Demo {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldlog-hub"));
        command.arg("demo").arg("--dir").arg(dir).args(more).env_remove("FIELDLOG_LOG");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (stdout, said) = (child.stdout.take().unwrap(), Arc::new(Mutex::new(String::new())));
        let heard = said.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                heard.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Demo { process: Process(child), said }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn wait_address(&mut self) -> SocketAddr {
        block_until("the address of the hub", || {
            let said = self.said();
            assert!(self.process.0.try_wait().unwrap().is_none(), "the demo ends at once: {said}");
            let (_, rest) = said.split_once("hub         http://")?;
            rest.split_once('/')?.0.parse().ok()
        })
    }
}

fn items(address: SocketAddr, path: &str, token: &str) -> Vec<Json> {
    let answer = get(address, &format!("/api/v1/{path}"), token).unwrap();
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    serde_json::from_str::<Json>(&answer.body).unwrap()["items"].as_array().unwrap().clone()
}

/// Command lines of processes in which the directory stands.
fn running(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    let line = |entry: std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(dir).then_some(line)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(line).collect()
}

/// Whether what the demo shows is there; `fieldlog` is made by `cargo build -p fieldlog`.
fn has_everything() -> bool {
    let hub = Path::new(env!("CARGO_BIN_EXE_fieldlog-hub"));
    let gateway = hub.with_file_name("fieldlog").is_file();
    if !gateway {
        skip("there is no fieldlog beside fieldlog-hub: `cargo build -p fieldlog` makes it");
    }
    gateway && installed("nats-server", "--version") && installed("redis-server", "--version")
}

#[test]
fn a_fleet_is_shown_and_nothing_is_left_running() {
    if !has_everything() {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    // PostgreSQL may run as another user.
    std::fs::set_permissions(parent.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let dir = parent.path().join("demo");
    let mut demo = Demo::start(&dir, &["--gateways", "2"]);
    let address = demo.wait_address();
    let token = std::fs::read_to_string(dir.join("token")).unwrap();
    assert_eq!(std::fs::metadata(dir.join("token")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(get(address, "/api/v1/devices", "").unwrap().status, 401);
    // The first gateway publishes, the second one posts; both describe their devices.
    for gateway in ["plant-1", "plant-2"] {
        block_until("devices of a gateway", || {
            let devices = items(address, &format!("devices?gateway={gateway}"), &token);
            let is_described = |device: &Json| !device["description"]["model"].is_null();
            (devices.len() > 10 && devices.iter().any(is_described)).then_some(())
        });
        assert!(!items(address, &format!("search?q=plug&gateway={gateway}"), &token).is_empty());
    }
    let live = |store: &Json| store["store"] == "redis" && store["state"] == "live";
    block_until("Redis", || items(address, "stores", &token).iter().any(live).then_some(()));
    let said = demo.said();
    for words in [
        "PostgreSQL  psql",
        "NATS        nats://127.0.0.1:",
        "Redis       redis-cli -s",
        "plant-2     sends over HTTP",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let second =
        Command::new(env!("CARGO_BIN_EXE_fieldlog-hub")).arg("demo").arg("--dir").arg(&dir).output().unwrap();
    assert_eq!(second.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another demo runs in"), "{second:?}");

    // The demo, PostgreSQL, NATS, Redis and two gateways, at least.
    assert!(running(&dir).len() >= 6, "{:?}", running(&dir));
    demo.process.signal("INT");
    let status = block_until("the end of the demo", || demo.process.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{}", demo.said());
    assert_eq!(running(&dir), Vec::<String>::new());

    // It goes on with what it has, and what it has started ends with it even if it is killed.
    let mut demo = Demo::start(&dir, &["--gateways", "2"]);
    let address = demo.wait_address();
    assert!(items(address, "devices?gateway=plant-1", &token).len() > 10);
    demo.process.kill();
    block_until("the end of what the demo has started", || running(&dir).is_empty().then_some(()));
}
