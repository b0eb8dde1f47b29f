//! Messages that would need more memory than there is: the agent survives and quarantines what it cannot process.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use fieldlog::config::Config;
use fieldlog::in_hand;
use fieldlog_projections::Value;
use fieldlog_sim::broker::{Broker, Options, Qos};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::process::{Process, free_port};
use fieldlog_tests::publisher::{Post, Publisher};
use fieldlog_tests::wait::until;

const MIB: usize = 1 << 20;

struct Site {
    dir: tempfile::TempDir,
    config: PathBuf,
    http: u16,
    publisher: Publisher,
    _mosquitto: Mosquitto,
}

impl Site {
    /// A broker that already has the agent's session; `None` without mosquitto.
    async fn new(limits: &str, source: &str) -> Option<Site> {
        let mosquitto = Mosquitto::start("")?;
        let dir = tempfile::tempdir().unwrap();
        let (config, http) = (dir.path().join("fieldlog.toml"), free_port());
        let text = format!(
            "gateway_id = \"test\"\ndata_dir = {:?}\n[log]\ncommit_delay_ms = 20\n\
             [http]\nlisten = \"127.0.0.1:{http}\"\n[limits]\n{limits}\n[[source]]\nname = \"plant\"\n\
             address = \"mqtt://127.0.0.1:{}\"\nbackoff_max_s = 1\n{source}\n\
             [[source.subscription]]\ntopic = \"t/+device\"\ndecoder = \"json\"\n",
            dir.path().join("data"),
            mosquitto.port
        );
        std::fs::write(&config, &text).unwrap();
        let agent = Agent::start(Config::from_toml(&text, "test").unwrap()).await;
        agent.subscribed().await;
        agent.stop().await;
        let publisher = Publisher::start(mosquitto.port);
        Some(Site { dir, config, http, publisher, _mosquitto: mosquitto })
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    async fn publish(&self, posts: impl IntoIterator<Item = Post>) {
        self.publisher.post(posts);
        self.publisher.idle().await;
    }

    /// Waits until a process has recorded a device that is published now, stops it, and reads its log.
    async fn recorded(&self, mut process: Process, last: &str) -> Logbook {
        self.publish([Post::new(format!("t/{last}"), r#"{"n":1}"#)]).await;
        until("the last message", || {
            assert!(process.is_running(), "it has died: {}", process.words());
            knows(self.http, last)
        })
        .await;
        process.signal("TERM");
        let ended = process.ended().await;
        assert_eq!(ended.code, 0, "{}", ended.words);
        Logbook::read(&self.data_dir())
    }
}

/// Whether the agent knows a device.
fn knows(port: u16, device: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let request =
        format!("GET /api/v1/devices/{device} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    let asked = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
    asked.is_ok() && answer.starts_with("HTTP/1.1 200")
}

fn notes(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("in-hand")).count()
}

/// 100 KB of which decoding made 300 MB: one long name above 6,000 values.
#[tokio::test]
async fn a_long_name_above_many_values_kills_nobody() {
    let Some(site) = Site::new("", "").await else { return };
    let leaves: Vec<String> = (0..6_000).map(|n| format!("\"{n}\":1")).collect();
    let poison = format!("{{\"{}\":{{{}}}}}", "k".repeat(50_000), leaves.join(","));
    site.publish([Post::new("t/poison", poison), Post::new("t/good", r#"{"n":1}"#)]).await;
    // As the unit's MemoryMax.
    let process = Process::run_within(&site.config, 256 * MIB);
    let log = site.recorded(process, "last").await;
    assert_eq!(log.state().keys().collect::<Vec<_>>(), [&"good", &"last"]);
    let quarantined = log.quarantined();
    let [("t/poison", reason, payload)] = &quarantined[..] else { panic!("{quarantined:?}") };
    assert!(reason.contains("a name of 50000 bytes") && reason.contains("name_bytes_max"), "{reason}");
    assert!(payload.starts_with(b"{\"kkkk"));
}

/// An operator has allowed packets for whose values there is not the memory. The message is well-formed, so only what became
/// of the process before can tell.
#[tokio::test]
async fn a_message_that_killed_twice_is_not_read_by_the_third_start() {
    let source = format!("packet_bytes_max = {}", 64 * MIB);
    let Some(site) = Site::new(&format!("text_bytes_max = {MIB}"), &source).await else { return };
    let texts: Vec<String> = (0..34).map(|n| format!("\"{n}\":\"{}\"", "x".repeat(MIB))).collect();
    let poison = format!("{{{}}}", texts.join(","));
    site.publish([Post::new("t/before", r#"{"n":1}"#), Post::new("t/poison", poison)]).await;
    site.publish([Post::new("t/after", r#"{"n":1}"#)]).await;
    // Enough for the packet, and not for its values beside it.
    let memory = 80 * MIB;
    for death in 1..=2 {
        let ended = Process::run_within(&site.config, memory).ended().await;
        assert!(ended.code < 0, "death {death} is none: {} {}", ended.code, ended.words);
        assert!(ended.words.contains("memory allocation of"), "{}", ended.words);
        assert_eq!(notes(site.dir.path()), 1);
    }
    let process = Process::run_within(&site.config, memory);
    process.says(in_hand::REASON, 0).await;
    let log = site.recorded(process, "last").await;
    assert_eq!(log.state().keys().collect::<Vec<_>>(), [&"after", &"before", &"last"]);
    let quarantined = log.quarantined();
    let [("t/poison", in_hand::REASON, payload)] = &quarantined[..] else { panic!("{quarantined:?}") };
    assert!(payload.starts_with(b"{\"0\":\"xxx") && payload.len() == 4_096);
    assert_eq!(notes(site.dir.path()), 0, "an orderly end leaves no note");
}

/// Names that are made from topics are bounded like those in documents, and so are the reasons.
#[tokio::test]
async fn long_names_from_topics_are_quarantined() {
    let broker = Broker::bind("127.0.0.1:0", Options::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "gateway_id = \"test\"\ndata_dir = {:?}\n[limits]\nname_bytes_max = 64\n[log]\ncommit_delay_ms = 20\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[[source]]\nname = \"s\"\naddress = \"mqtt://{}\"\n\
         [[source.subscription]]\ntopic = \"t/+device/+attribute\"\ndecoder = \"scalar\"\n\
         [[source.subscription]]\ntopic = \"j/+device/+part\"\ndecoder = \"json\"\nattribute = \"{{part}}\"\n\
         [[source.subscription]]\ntopic = \"l/#rest/+device\"\ndecoder = \"json\"\n",
        dir.path(),
        broker.local_addr()
    );
    let agent = Agent::start(Config::from_toml(&text, "test").unwrap()).await;
    agent.subscribed().await;
    let (fits, long) = ("n".repeat(64), "n".repeat(65));
    let messages = [
        (format!("t/{fits}/{fits}"), "1".to_owned()),
        (format!("t/{long}/a"), "1".to_owned()),
        (format!("t/d/{long}"), "1".to_owned()),
        ("j/d/part".to_owned(), format!("{{\"{}\":1}}", "n".repeat(59))),
        ("j/d/part".to_owned(), format!("{{\"{}\":1,\"b\":2}}", "n".repeat(60))),
        // A long topic is as good as any, as long as the names in it are short.
        (format!("l/{}/far", "x/".repeat(2_000)), "{\"a\":1}".to_owned()),
        (format!("l/{}/far", "x/".repeat(2_000)), "{\"a\":2}".to_owned()),
        ("l/x/d".to_owned(), format!("\"{}\"", "q".repeat(100_000))),
    ];
    for (topic, payload) in &messages {
        broker.publish(topic, payload.clone(), false, Qos::AtLeastOnce).unwrap();
    }
    until("PUBACKs", || broker.stats().pubacks_in >= messages.len() as u64).await;
    assert_eq!(agent.value("far", "a"), Some(Value::Int(2)));
    assert_eq!(agent.value("d", "part.b"), Some(Value::Int(2)));
    let log = Logbook::read(&agent.stop().await);
    assert!(log.state().contains_key(&*fits) && log.changes().all(|change| change.2.len() <= 64));
    let reasons: Vec<String> =
        log.quarantined().iter().map(|(_, reason, _)| reason.chars().take(90).collect()).collect();
    let name = |bytes: usize, begins: &str| {
        format!("a name of {bytes} bytes, it begins with \"{begins}\"; limits.name_bytes_max is 64")
    };
    let part = format!("part.{}", "n".repeat(35));
    let expected = [name(65, &"n".repeat(40)), name(65, &"n".repeat(40)), name(65, &part)];
    let expected = expected.map(|reason| reason.chars().take(90).collect::<String>());
    assert_eq!(reasons[..3], expected);
    assert!(
        reasons[3].starts_with("not the JSON object that was expected: invalid type: string"),
        "{reasons:?}"
    );
    assert!(log.quarantined().iter().all(|(_, reason, _)| reason.len() <= 1_024));
    assert_eq!(log.quarantined().len(), 4);
}
