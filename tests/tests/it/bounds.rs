//! Attacks on the memory of the real binary: its state must stay within the limit of the service's unit, whatever is
//! sent, and real devices must be recorded.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::process::{Process, free_port};
use fieldlog_tests::publisher::{Post, Publisher};
use fieldlog_tests::wait::until;
use serde_json::Value;
use tempfile::TempDir;

/// `MemoryMax` of the service's unit.
const MEMORY_MAX: u64 = 256 << 20;

struct Site {
    dir: TempDir,
    broker: Mosquitto,
    publisher: Publisher,
    http: u16,
}

impl Site {
    fn new() -> Option<Site> {
        let broker = Mosquitto::start("")?;
        let publisher = Publisher::start(broker.port);
        Some(Site { dir: super::rig::scratch(), broker, publisher, http: free_port() })
    }

    fn config(&self, rule: &str) -> PathBuf {
        let text = format!(
            "gateway_id = \"test\"\ndata_dir = {:?}\n[http]\nlisten = \"127.0.0.1:{}\"\n\
             [snapshots]\ninterval_s = 10\n[retention]\nfree_bytes_min = 0\n\
             [[source]]\nname = \"plant\"\naddress = \"mqtt://127.0.0.1:{}\"\nbackoff_max_s = 1\n\
             [[source.subscription]]\n{rule}\n",
            self.dir.path().join("data"),
            self.http,
            self.broker.port
        );
        let path = self.dir.path().join("fieldlog.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn run(&self, rule: &str) -> Process {
        let process = Process::run(&self.config(rule), &[]);
        until("the agent's connection", || {
            self.status().is_some_and(|s| s["sources"][0]["connected"] == true)
        })
        .await;
        process
    }

    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        if head.starts_with("HTTP/1.1 200") { serde_json::from_str(body).ok() } else { None }
    }

    fn status(&self) -> Option<Value> {
        self.get("/status")
    }

    /// Publishes, and waits until the agent has processed all of it, `sent` messages since its start.
    async fn send(&self, posts: impl IntoIterator<Item = Post>, sent: usize) {
        self.publisher.post(posts);
        self.publisher.idle().await;
        let taken =
            || self.status().is_some_and(|s| s["sources"][0]["messages"].as_u64() >= Some(sent as u64));
        until("the agent to take all", taken).await;
    }

    /// Checks that a device's message becomes state.
    async fn check_real(&self, device: &str, sent: usize) {
        self.send([Post::new(format!("t/{device}"), "{\"temperature\":21.5}")], sent).await;
        let path = format!("/api/v1/devices/{device}");
        let value = |d: Value| d["device"]["attributes"]["temperature"]["value"] == 21.5;
        until("the real device's value", || self.get(&path).is_some_and(value)).await;
    }
}

fn check_peak(process: &Process, what: &str) {
    let peak = process.peak_resident_bytes();
    println!("peak RSS after {what}: {} MiB", peak >> 20);
    assert!(peak < MEMORY_MAX, "{} MiB after {what}", peak >> 20);
}

/// A document of a megabyte, the maximum for a device.
fn fat(device: usize) -> Post {
    let attribute = |n: usize| format!("\"a{n}\":\"{}\"", "x".repeat(4_000 + device % 50));
    let attributes: Vec<String> = (0..255).map(attribute).collect();
    Post::new(format!("t/fat{device}"), format!("{{{}}}", attributes.join(",")))
}

const STATE: &str = "topic = \"t/+device\"\ndecoder = \"json\"";

#[tokio::test]
async fn fat_devices_do_not_fill_the_memory() {
    let Some(site) = Site::new() else { return };
    let process = site.run(STATE).await;
    site.send([Post::new("t/real", "{\"temperature\":20}")], 1).await;
    let before = site.status().unwrap()["snapshot"]["written"].as_u64();
    site.send((0..140).map(fat), 141).await;
    check_peak(&process, "140 devices of a megabyte");
    let state = site.status().unwrap()["state"].clone();
    println!("{state}");
    assert!(
        state["bytes"].as_u64() <= state["bytes_max"].as_u64() && state["refused"].as_u64() > Some(0),
        "{state}"
    );
    process.says("the state is full: limits.state_bytes_max", 0).await;
    // Known devices still work, and retiring devices makes room.
    site.check_real("real", 142).await;
    // A slow machine has written one by now, and a second one so large is not due for long.
    until("a snapshot", || site.status().is_some_and(|s| s["snapshot"]["written"].as_u64() > before)).await;
    check_peak(&process, "a snapshot");
    process.signal("TERM");
    assert_eq!(process.ended().await.code, 0);

    let process = site.run(STATE).await;
    site.check_real("real", 1).await;
    check_peak(&process, "a restart from the snapshot");
    site.send((0..20).map(|n| Post::new(format!("t/fat{n}"), "")), 21).await;
    site.check_real("new", 22).await;
    site.send((200..240).map(fat), 62).await;
    check_peak(&process, "more of them in place of retired ones");
    assert!(site.status().unwrap()["state"]["devices_forgotten"].as_u64() > Some(0));
    drop(process.kill());

    let process = site.run(STATE).await;
    site.check_real("new", 1).await;
    check_peak(&process, "a restart after a crash");
}

#[tokio::test]
async fn invented_actions_do_not_fill_the_memory() {
    let Some(site) = Site::new() else { return };
    let rule = "topic = \"t/+device\"\ndecoder = \"json\"\nactions = [\"n*\"]";
    let process = site.run(rule).await;
    let document = |from: usize| {
        let names: Vec<String> = (from..from + 250).map(|n| format!("\"n{n}\":1")).collect();
        format!("{{{}}}", names.join(","))
    };
    let posts = (0..1_000).map(|n| Post::new(format!("t/d{n}"), document(n * 250)));
    site.send(posts, 1_000).await;
    println!("{}", site.status().unwrap()["state"]);
    check_peak(&process, "250,000 names of actions");
    site.check_real("real", 1_001).await;
    drop(process.kill());
    let process = site.run(rule).await;
    site.check_real("real", 1).await;
    check_peak(&process, "a restart after a crash");
}

#[tokio::test]
async fn invented_and_retired_devices_do_not_keep_real_ones_out() {
    let Some(site) = Site::new() else { return };
    let process = site.run(STATE).await;
    let posts = (0..10_000).flat_map(|n| {
        let topic = format!("t/invented{n}");
        [Post::new(topic.clone(), "{\"x\":\"on\"}"), Post::new(topic, "")]
    });
    site.send(posts, 20_000).await;
    site.check_real("real", 20_001).await;
    println!("{}", site.status().unwrap()["state"]);
    check_peak(&process, "10,000 retired devices");
    drop(process.kill());
    let process = site.run(STATE).await;
    site.check_real("real", 1).await;
    assert_eq!(site.status().unwrap()["devices"]["retired"], 9_999);
    check_peak(&process, "a restart after a crash");
}
