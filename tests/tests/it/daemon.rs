//! `fieldlog run` as systemd sees it: notifications, signals, a second instance.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use fieldlog_sim::broker::{Broker, Options, Qos};
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::process::Process;
use fieldlog_tests::wait::until;
use tempfile::TempDir;

/// A directory with a configuration, a broker, and the socket of systemd.
pub struct Site {
    pub dir: TempDir,
    pub broker: Broker,
    socket: UnixDatagram,
    states: Vec<String>,
}

impl Site {
    pub async fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let broker =
            Broker::bind("127.0.0.1:0", Options { record_acks: true, ..Options::default() }).await.unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Site { dir, broker, socket, states: Vec::new() }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Writes the configuration with additional lines at the top and in its source.
    pub fn configure(&self, top: &str, source: &str) -> PathBuf {
        let text = format!(
            "gateway_id = \"test\"\n{top}\n[http]\nlisten = \"127.0.0.1:0\"\n[log]\ncommit_delay_ms = 20\n\
             [[source]]\nname = \"plant\"\naddress = \"mqtt://{}\"\nbackoff_max_s = 1\n\
             [[source.subscription]]\ntopic = \"t/+device/state\"\ndecoder = \"json\"\n{source}\n",
            self.broker.local_addr()
        );
        let path = self.dir.path().join("fieldlog.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The usual configuration.
    pub fn configure_usual(&self) -> PathBuf {
        self.configure(&format!("data_dir = {:?}", self.data_dir()), "")
    }

    pub fn run(&self, config: &std::path::Path) -> Process {
        let socket = self.dir.path().join("notify");
        let socket = socket.to_str().unwrap();
        Process::run(config, &[("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "1500000")])
    }

    /// Waits for a later systemd notification for which `is` holds; returns it.
    pub async fn told(&mut self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let Site { socket, states, .. } = self;
        let mut buffer = [0; 4096];
        let found = fieldlog_tests::wait::until_some(what, || {
            while let Ok(read) = socket.recv(&mut buffer) {
                states.extend(String::from_utf8_lossy(&buffer[..read]).lines().map(str::to_owned));
            }
            states.iter().position(|state| is(state))
        });
        let found = found.await;
        let line = states[found].clone();
        states.drain(..=found);
        line
    }

    pub async fn ready(&mut self) {
        self.told("READY=1", |state| state == "READY=1").await;
        self.told("a connection", |state| state.starts_with("STATUS=1/1 sources connected")).await;
    }

    /// Publishes a value and waits for its acknowledgement.
    pub async fn publish(&self, topic: &str, payload: &str) {
        let before = self.broker.stats().pubacks_in;
        self.broker.publish(topic, payload.to_owned(), false, Qos::AtLeastOnce).unwrap();
        until("PUBACK", || self.broker.stats().pubacks_in > before).await;
    }
}

#[tokio::test]
async fn systemd_is_told_everything() {
    let mut site = Site::new().await;
    let config = site.configure_usual();
    let process = site.run(&config);
    site.told("READY=1", |state| state == "READY=1").await;
    let status = site.told("STATUS=", |state| state.starts_with("STATUS=")).await;
    assert!(status.contains("sources connected") && status.contains("sequence"), "{status}");
    site.told("the watchdog", |state| state == "WATCHDOG=1").await;
    site.told("a connection", |state| state.starts_with("STATUS=1/1 sources connected, 0 devices")).await;
    site.publish("t/a/state", r#"{"n":1}"#).await;
    site.told("a device", |state| state.starts_with("STATUS=1/1 sources connected, 1 device (0 offline)"))
        .await;
    site.told("the watchdog again", |state| state == "WATCHDOG=1").await;

    process.signal("TERM");
    site.told("STOPPING=1", |state| state == "STOPPING=1").await;
    let ended = process.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.words);
    assert!(!ended.words.contains("ERROR"), "{}", ended.words);
    assert!(ended.words.contains("every acknowledged message is in the log"), "{}", ended.words);
    let snapshots = std::fs::read_dir(site.data_dir().join("snapshots")).unwrap();
    let names: Vec<_> = snapshots.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.len() == 1 && names[0].ends_with(".snap"), "{names:?}");
    assert_eq!(Logbook::read(&site.data_dir()).changes().count(), 1);
}

#[tokio::test]
async fn a_supervisor_that_reads_nothing_stops_nothing() {
    let mut site = Site::new().await;
    let config = site.configure_usual();
    let process = site.run(&config);
    site.ready().await;
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"X=1", site.dir.path().join("notify")).is_ok() {}
    // Longer than its notification interval.
    for n in 0..30 {
        site.publish("t/a/state", &format!(r#"{{"n":{n}}}"#)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    process.signal("TERM");
    assert_eq!(process.ended().await.code, 0);
    assert_eq!(Logbook::read(&site.data_dir()).changes().count(), 30);
}

#[tokio::test]
async fn ctrl_c_stops_it_as_well() {
    let mut site = Site::new().await;
    let config = site.configure_usual();
    let process = site.run(&config);
    site.ready().await;
    process.signal("INT");
    assert_eq!(process.ended().await.code, 0);
}

#[tokio::test]
async fn without_systemd_it_just_runs() {
    let site = Site::new().await;
    let config = site.configure_usual();
    let process = Process::run(&config, &[]);
    process.says("connected", 0).await;
    process.signal("TERM");
    assert_eq!(process.ended().await.code, 0);
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_no_reason_to_end() {
    let mut site = Site::new().await;
    site.broker.shutdown().await;
    let config = site.configure_usual();
    let mut process = site.run(&config);
    site.told("READY=1", |state| state == "READY=1").await;
    site.told("no connection", |state| state.starts_with("STATUS=0/1 sources connected")).await;
    process.says("cannot connect", 0).await;
    assert!(process.is_running());
    process.signal("TERM");
    let ended = process.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.words);
}

#[tokio::test]
async fn a_second_instance_is_refused_and_harms_nobody() {
    let mut site = Site::new().await;
    let config = site.configure_usual();
    let first = site.run(&config);
    site.ready().await;
    let second = Process::run(&config, &[]).ended().await;
    assert_eq!(second.code, 74, "{}", second.words);
    assert!(second.words.contains("log.redb") && second.words.contains("another"), "{}", second.words);
    site.publish("t/a/state", r#"{"n":1}"#).await;
    first.signal("TERM");
    assert_eq!(first.ended().await.code, 0);
}
