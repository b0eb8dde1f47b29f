//! Sparkplug over a real broker, with third-party edge nodes: births, data, deaths, requests for births, and kills of
//! the agent in between.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fieldlog::clock::TestClock;
use fieldlog::config::Config;
use fieldlog_projections::fact::Availability;
use fieldlog_projections::{Fact, Value};
use fieldlog_sim::servers::{free_port, installed, skip};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::process::Process;
use fieldlog_tests::wait::{until, until_some};
use serde_json::json;

const TOKEN: &str = "0123456789abcdef0123";

/// Where `.ci/run tools` installs unpackaged programs.
fn tools() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")).join("tools")
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sparkplug").join(name)
}

/// PyPI `pysparkplug`: payloads by Google's Protocol Buffers, data by name.
fn pysparkplug() -> Option<Command> {
    let python = tools().join("pysparkplug/bin/python");
    if !python.exists() {
        skip("pysparkplug is not installed");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(script("pysparkplug_node.py"));
    Some(command)
}

/// npm `sparkplug-client`: payloads by protobufjs, data by alias.
fn sparkplug_client() -> Option<Command> {
    let modules = tools().join("sparkplug-client/node_modules");
    if !modules.join("sparkplug-client").exists() {
        skip("sparkplug-client is not installed");
        return None;
    }
    let mut command = Command::new("node");
    command.arg(script("client_node.js")).env("NODE_PATH", modules);
    Some(command)
}

/// PyPI `aiospb`: a node that waits for its primary host and buffers data meanwhile.
fn aiospb() -> Option<Command> {
    let python = tools().join("aiospb/bin/python");
    if !python.exists() {
        skip("aiospb is not installed");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(script("aiospb_node.py"));
    Some(command)
}

/// An edge node; killed when dropped.
struct Peer {
    child: Child,
    stdin: ChildStdin,
    said: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    fn start(mut command: Command, port: u16) -> Peer {
        command.arg(port.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (lines, heard) = (BufReader::new(child.stdout.take().unwrap()).lines(), said.clone());
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| heard.lock().unwrap().push(line))
        });
        Peer { stdin: child.stdin.take().unwrap(), child, said }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    fn has_said(&self, word: &str) -> usize {
        self.said.lock().unwrap().iter().filter(|line| *line == word).count()
    }

    /// Its connection breaks, and the broker publishes its will.
    fn die(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of an answer of a process.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn availability(agent: &Agent, name: &str) -> Option<Availability> {
    agent.view(|view| Some(view.devices.find(name)?.1.availability))
}

async fn value(agent: &Agent, device: &str, metric: &str, value: i64) {
    let what = format!("{metric} = {value} of {device}");
    until(&what, || agent.value(device, metric) == Some(Value::Int(value))).await;
}

/// The retained STATE of the host, once it is `online` or not.
async fn state(port: u16, online: bool) -> String {
    let has = format!("{{\"online\":{online},\"timestamp\":");
    let look = || {
        let port = port.to_string();
        let arguments = ["-p", &port, "-t", "spBv1.0/STATE/host", "-C", "1", "-W", "30"];
        let said = Command::new("mosquitto_sub").args(arguments).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        said.strip_prefix(&has).map(|rest| rest.trim_end_matches("}\n").to_owned())
    };
    until_some("the STATE", look).await
}

fn config(dir: &Path, http: u16, broker: u16) -> String {
    format!(
        "gateway_id = \"test\"\ndata_dir = {:?}\n[log]\ncommit_delay_ms = 20\n[http]\nlisten = \"127.0.0.1:{http}\"\n\
         [[source]]\nname = \"plant\"\naddress = \"mqtt://127.0.0.1:{broker}\"\n[source.sparkplug]\nhost_id = \"host\"\n",
        dir.join("data"),
    )
}

async fn interop(command: impl Fn() -> Option<Command>) {
    if !installed("mosquitto_sub", "--help") {
        return;
    }
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let Some(first) = command() else { return };
    let (dir, http) = (tempfile::tempdir().unwrap(), free_port());
    let text = config(dir.path(), http, mosquitto.port);
    let path = dir.path().join("fieldlog.toml");
    std::fs::write(&path, &text).unwrap();
    let config = Config::from_toml(&text, "test").unwrap();

    // The births were before the agent's start: it asks for them when it hears the node.
    let mut peer = Peer::start(first, mosquitto.port);
    until("the birth", || peer.has_said("born") == 1).await;
    let process = Process::run(&path, &[]);
    // Its birth follows its subscriptions.
    let born = state(mosquitto.port, true).await;
    peer.tell("x -5");
    let device = |path: &str, has: &str| get(http, path).is_some_and(|answer| answer.contains(has));
    until("the births", || device("/api/v1/devices/g%2Fn%2Fd", "30")).await;
    until("the present value", || device("/api/v1/devices/g%2Fn", "-5")).await;
    assert_eq!(peer.has_said("asked"), 1);
    peer.tell("z -31");
    until("the device's data", || device("/api/v1/devices/g%2Fn%2Fd", "-31")).await;
    assert!(device("/status", "\"host_id\":\"host\""), "{:?}", get(http, "/status"));
    let counted = "sparkplug_rebirth_requests_total{source=\"plant\",reason=\"no_birth\"} 1";
    assert!(device("/metrics", counted), "{:?}", get(http, "/metrics"));
    assert_eq!(process.kill().code, -9);
    assert_eq!(state(mosquitto.port, false).await, born, "the will has the time of the birth");

    // Changes while it is away are in the births that it asks for.
    peer.tell("x -6");
    let clock = TestClock::running();
    clock.set_wall(fieldlog::clock::Clock::system().wall());
    let agent = Agent::start_at(config.clone(), clock.clock()).await;
    agent.subscribed().await;
    assert_eq!(agent.value("g/n/d", "z"), Some(Value::Int(-31)));
    let open = || agent.source().status.outbox.connection().is_some();
    until("the connection", open).await;
    agent.pass(&clock, Duration::from_secs(6)).await;
    value(&agent, "g/n", "x", -6).await;
    let births = || agent.source().outcomes.sparkplug.births.load(Ordering::Relaxed);
    until("both births", || births() == 2).await;
    assert_eq!(peer.has_said("asked"), 2);
    agent.stop().await;

    // After a clean stop the session continues.
    let agent = Agent::start_at(config, clock.clock()).await;
    agent.subscribed().await;
    peer.tell("x 7");
    value(&agent, "g/n", "x", 7).await;
    peer.tell("y -8");
    value(&agent, "g/n", "y", -8).await;
    let asked: Vec<_> =
        agent.source().outcomes.sparkplug.rebirths().filter(|(_, count)| *count > 0).collect();
    assert_eq!((asked, peer.has_said("asked")), (vec![], 2), "nothing was missed");
    assert_eq!(agent.source().outcomes.quarantined.load(Ordering::Relaxed), 0);

    peer.tell("ddeath");
    until("the device's death", || availability(&agent, "g/n/d") == Some(Availability::Offline)).await;
    assert_eq!(availability(&agent, "g/n"), Some(Availability::Online));
    peer.die();
    until("the node's death", || availability(&agent, "g/n") == Some(Availability::Offline)).await;
    let Some(again) = command() else { return };
    let _peer = Peer::start(again, mosquitto.port);
    until("the node's next birth", || availability(&agent, "g/n/d") == Some(Availability::Online)).await;
    value(&agent, "g/n", "x", -1).await;
    agent.stop().await;
}

/// Asks for a value, and waits until it is reported.
async fn told(agent: &Agent, peer: &Peer, device: &str, metric: &str, to: i64) {
    let body =
        json!({"attribute": metric, "value": to, "ttl_s": 30, "idempotency_key": format!("{metric}{to}")});
    let path = format!("/api/v1/devices/{}/commands?wait=20", device.replace('/', "%2F"));
    let (status, answer) = agent.post(&path, TOKEN, &body).await;
    let command = &answer["command"];
    assert_eq!(
        (status, &command["state"], &command["closed"]),
        (200, &json!("applied"), &json!(true)),
        "{answer}"
    );
    assert_eq!(command["attempts"], 1);
    // Its words may come later than its report.
    until("what it was told", || peer.has_said(&format!("told {metric} {to}")) > 0).await;
    assert_eq!(peer.has_said(&format!("told {metric} {to}")), 1, "{:?}", peer.said.lock().unwrap());
    value(agent, device, metric, to).await;
}

/// Commands to a node and to its device, which report what they are told.
async fn obedient(command: impl Fn() -> Option<Command>, x: i64) {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let Some(command) = command() else { return };
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let http = format!("[http]\nadmin_token_file = {token:?}\n");
    let text = config(dir.path(), 0, mosquitto.port).replace("[http]\n", &http);
    let agent = Agent::start(Config::from_toml(&text, "test").unwrap()).await;
    agent.subscribed().await;
    let peer = Peer::start(command, mosquitto.port);
    value(&agent, "g/n/d", "z", 30).await;
    let set = agent.json("/api/v1/devices/g%2Fn/command-set").await;
    let names: Vec<&str> =
        set["commands"].as_array().unwrap().iter().filter_map(|c| c["name"].as_str()).collect();
    assert_eq!(names, ["x", "y"], "{set}");
    told(&agent, &peer, "g/n", "x", x).await;
    told(&agent, &peer, "g/n/d", "z", 31).await;

    let body = json!({"attribute": "x", "value": 40_000, "ttl_s": 30, "idempotency_key": "k"});
    let (status, answer) = agent.post("/api/v1/devices/g%2Fn/commands", TOKEN, &body).await;
    let words = "takes a whole number from -32768 to 32767";
    assert_eq!((status, answer["detail"].as_str().unwrap().contains(words)), (422, true), "{answer}");
    peer.die();
    until("the node's death", || availability(&agent, "g/n/d") == Some(Availability::Offline)).await;
    let body = json!({"attribute": "z", "value": 1, "ttl_s": 30, "idempotency_key": "k"});
    let (status, answer) = agent.post("/api/v1/devices/g%2Fn%2Fd/commands", TOKEN, &body).await;
    assert_eq!((status, &answer["code"]), (409, &json!("unreachable")), "{answer}");
    agent.stop().await;
}

#[tokio::test]
async fn pysparkplug_obeys() {
    // It cannot read negative numbers of 16 bits as the reference implementation writes them.
    obedient(pysparkplug, 9).await;
}

#[tokio::test]
async fn sparkplug_client_obeys() {
    obedient(sparkplug_client, -9).await;
}

#[tokio::test]
async fn pysparkplug_is_understood() {
    interop(pysparkplug).await;
}

#[tokio::test]
async fn sparkplug_client_is_understood() {
    interop(sparkplug_client).await;
}

#[tokio::test]
async fn a_node_that_waits_for_its_primary_host_reports_the_past() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let Some(command) = aiospb() else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = Config::from_toml(&config(dir.path(), 0, mosquitto.port), "test").unwrap();
    let mut peer = Peer::start(command, mosquitto.port);
    until("the peer", || peer.has_said("born") == 1).await;
    let x = |agent: &Agent, value| {
        let found = agent.value("g/n", "x");
        found == Some(Value::Float(value))
    };

    let agent = Agent::start(config.clone()).await;
    until("the birth that waited for the host", || x(&agent, 1.5)).await;
    peer.tell("x 2.5");
    until("the data", || x(&agent, 2.5)).await;
    agent.stop().await;

    // The host announces its stop: changes from now on are historical when it is back.
    for (value, seen) in [("x 3.5", 2), ("x 4.5", 3)] {
        peer.tell(value);
        until("a scan", || peer.has_said("seen") == seen).await;
    }
    let agent = Agent::start(config).await;
    until("the birth with the present value", || x(&agent, 4.5)).await;
    let historical = || agent.source().outcomes.sparkplug.historical.load(Ordering::Relaxed);
    until("the past", || historical() == 2).await;
    assert!(x(&agent, 4.5), "the past changes no state");
    let log = Logbook::read(&agent.stop().await);
    assert_eq!(log.count(|fact| matches!(fact, Fact::HistoryReported { .. })), 2);
}
