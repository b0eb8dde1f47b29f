//! A broker, an agent in a separate process with the unit's memory limit, and its HTTP interface.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fieldlog_sim::broker::{Broker, Options};
use fieldlog_tests::memory_limit::{CGROUP_ROOT, MemoryLimit};
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::process::{Ended, Process, free_port};
use fieldlog_tests::publisher::{Post, Publisher};
use fieldlog_tests::wait::until;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::account::{Account, MEMORY_BYTES_MAX};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A subscription to `t/<device>` with JSON.
pub const STATE: &str = "topic = \"t/+device\"\ndecoder = \"json\"";

/// mosquitto if installed, otherwise the broker of the demo.
enum Upstream {
    Mosquitto(#[expect(dead_code, reason = "it ends when dropped")] Mosquitto),
    Embedded(#[expect(dead_code, reason = "it ends when dropped")] Broker),
}

pub struct Site {
    pub dir: TempDir,
    pub publisher: Publisher,
    pub port: u16,
    pub http: u16,
    account: Arc<Account>,
    _upstream: Upstream,
}

/// A running agent, watched.
pub struct Unit {
    /// `None` once its end was observed.
    process: Option<Process>,
    account: Arc<Account>,
    _limit: Option<MemoryLimit>,
}

impl Site {
    pub async fn new(account: &Arc<Account>) -> Site {
        let (upstream, port) = match Mosquitto::start("") {
            Some(broker) => {
                let port = broker.port;
                (Upstream::Mosquitto(broker), port)
            }
            None => {
                let options =
                    Options { queue_max: 1_000_000, packet_bytes_max: 2 << 20, ..Options::default() };
                let broker = Broker::bind("127.0.0.1:0", options).await.unwrap();
                let port = broker.local_addr().port();
                (Upstream::Embedded(broker), port)
            }
        };
        Site {
            dir: crate::rig::scratch(),
            publisher: Publisher::start(port),
            port,
            http: free_port(),
            account: Arc::clone(account),
            _upstream: upstream,
        }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts an agent with these subscriptions and additional lines, and waits until it is connected.
    pub async fn run(&self, rules: &[&str], more: &str) -> Unit {
        let unit = self.start(rules, more);
        until("the agent's connection", || {
            self.status().is_some_and(|s| s["sources"][0]["connected"] == true)
        })
        .await;
        unit
    }

    /// The same, without waiting.
    pub fn start(&self, rules: &[&str], more: &str) -> Unit {
        let rules: String = rules.iter().map(|rule| format!("[[source.subscription]]\n{rule}\n")).collect();
        let text = format!(
            "gateway_id = \"test\"\ndata_dir = {:?}\n[log]\ncommit_delay_ms = 20\n\
             [http]\nlisten = \"127.0.0.1:{}\"\n[snapshots]\nevents = 1000\n[retention]\nfree_bytes_min = 0\n\
             [[source]]\nname = \"plant\"\naddress = \"mqtt://127.0.0.1:{}\"\nbackoff_max_s = 1\n{rules}{more}\n",
            self.data_dir(),
            self.http,
            self.port
        );
        let path = self.dir.path().join("fieldlog.toml");
        std::fs::write(&path, text).unwrap();
        Unit::start(&path, &self.account)
    }

    /// An answer's status and body; `None` if there is none.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        get(self.http, path)
    }

    pub fn json(&self, path: &str) -> Option<Json> {
        let (status, body) = self.get(path)?;
        if status == 200 { serde_json::from_str(&body).ok() } else { None }
    }

    pub fn status(&self) -> Option<Json> {
        self.json("/status")
    }

    /// Position of the last record.
    pub fn head(&self) -> Option<u64> {
        self.json("/api/v1/devices?limit=1")?["position"]["head"].as_u64()
    }

    pub fn messages(&self) -> u64 {
        self.status().and_then(|s| s["sources"][0]["messages"].as_u64()).unwrap_or(0)
    }

    /// Publishes, and waits until the agent has processed that many more messages and acknowledged all.
    pub async fn send(&self, posts: Vec<Post>) {
        let taken = self.messages() + posts.len() as u64;
        self.publisher.post(posts);
        self.publisher.idle().await;
        until("the agent to take all", || self.messages() >= taken).await;
        self.recorded().await;
    }

    /// Waits until the agent has acknowledged, and so recorded, all that it has received.
    pub async fn recorded(&self) {
        until("the agent to acknowledge all", || {
            self.status().is_some_and(|status| status["sources"][0]["unacked"] == 0)
        })
        .await;
    }

    /// Checks that a device's message becomes state.
    pub async fn check_real(&self, value: usize) {
        self.send(vec![Post::new("t/real", format!("{{\"number\":{value}}}"))]).await;
        until("the real device's value", || self.value("real", "number") == Some(value.into())).await;
    }

    pub fn value(&self, device: &str, attribute: &str) -> Option<Json> {
        let found = self.json(&format!("/api/v1/devices/{device}"))?;
        Some(found["device"]["attributes"][attribute]["value"].clone())
    }

    /// All devices' attributes by name.
    pub fn devices(&self) -> BTreeMap<String, Json> {
        let mut all = BTreeMap::new();
        let mut query = String::new();
        loop {
            let page = self.json(&format!("/api/v1/devices{query}")).expect("a page of devices");
            for device in page["devices"].as_array().unwrap() {
                all.insert(device["id"].as_str().unwrap().to_owned(), values(&device["attributes"]));
            }
            let Some(next) = page["next"].as_str() else { return all };
            query = format!("?after={next}");
        }
    }
}

/// Values without the times and positions beside them.
fn values(attributes: &Json) -> Json {
    let found = attributes.as_object().unwrap().iter();
    Json::Object(found.map(|(name, attribute)| (name.clone(), attribute["value"].clone())).collect())
}

pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

impl Unit {
    /// Starts an agent.
    pub fn start(config: &Path, account: &Arc<Account>) -> Unit {
        let runtime_dir = config.parent().unwrap().to_str().unwrap();
        // As the unit has it.
        let process = Process::run(
            config,
            &[("MALLOC_ARENA_MAX", "1"), ("RUST_BACKTRACE", "0"), ("RUNTIME_DIRECTORY", runtime_dir)],
        );
        // Without a limit, only the peak is checked.
        let limit = MemoryLimit::put(Path::new(CGROUP_ROOT), process.id(), MEMORY_BYTES_MAX);
        Unit { process: Some(process), account: Arc::clone(account), _limit: limit }
    }

    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// Notes its memory.
    pub fn look(&mut self) {
        if let Some(process) = &mut self.process
            && process.is_running()
        {
            self.account.peak(process.peak_resident_bytes());
        }
    }

    /// Its end, if it ended by itself.
    pub async fn ended(mut self) -> Ended {
        self.process.take().unwrap().ended().await
    }

    /// SIGKILL. If it had ended before, that counts as a death.
    pub fn kill(mut self) {
        self.look();
        // The kernel also uses SIGKILL when too much memory is used.
        if self.is_running() {
            let ended = self.process.take().unwrap().kill();
            self.expect(&ended, -9);
        }
    }

    /// SIGTERM. Any exit code except 0 counts as a death.
    pub async fn stop(mut self) {
        self.look();
        let mut process = self.process.take().unwrap();
        if process.is_running() {
            process.signal("TERM");
        }
        self.expect(&process.ended().await, 0);
    }

    fn expect(&self, ended: &Ended, code: i32) {
        if ended.code != code {
            self.account.died(&format!("it ended with {}: {}", ended.code, tail(&ended.words)));
        }
    }
}

/// A round that fails because its agent has died should say so.
impl Drop for Unit {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take()
            && !process.is_running()
        {
            self.account.died(&format!("it has ended: {}", tail(&process.words())));
        }
    }
}

/// The end of an agent's output.
pub fn tail(words: &str) -> String {
    let skip = words.chars().count().saturating_sub(1_000);
    words.chars().skip(skip).collect()
}
