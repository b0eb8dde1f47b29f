//! The source against a real broker. Skipped aloud where mosquitto is not installed; a failure there instead with
//! `FIELDLOG_TEST_REQUIRE_SERVERS=1`.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::*;

/// A process that ends with its test, also when the test fails.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Mosquitto {
    child: Process,
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
}

/// Whether `program` can be run; says so if not.
pub(crate) fn available(program: &str, argument: &str) -> bool {
    let found =
        Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    let required = std::env::var_os("FIELDLOG_TEST_REQUIRE_SERVERS").is_some_and(|value| value == "1");
    assert!(found || !required, "FIELDLOG_TEST_REQUIRE_SERVERS=1, but {program} is not installed");
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

impl Mosquitto {
    /// Starts a broker with these lines after its `listener`; `None` if it is not installed.
    pub(crate) async fn start(listener: &str) -> Option<Mosquitto> {
        if !available("mosquitto", "-h") || !available("mosquitto_pub", "--help") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let listener = listener.replace("DIR", &dir.path().display().to_string());
        let lines = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
             {listener}\n",
            dir.path().display()
        );
        std::fs::write(dir.path().join("mosquitto.conf"), lines).unwrap();
        std::fs::write(dir.path().join("nobody"), "").unwrap();
        let child = Mosquitto::spawn(dir.path());
        let broker = Mosquitto { child, dir, port };
        broker.ready().await;
        Some(broker)
    }

    fn spawn(dir: &Path) -> Process {
        let config = dir.join("mosquitto.conf");
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
        Process(command.spawn().unwrap())
    }

    async fn ready(&self) {
        let connected = async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, connected).await.expect("mosquitto does not start");
    }

    fn publish(&self, topic: &str, payload: &str, more: &[&str]) {
        let port = self.port.to_string();
        let fixed = ["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", topic, "-m", payload];
        let status = Command::new("mosquitto_pub").args(fixed).args(more).status().unwrap();
        assert!(status.success());
    }

    /// Ends the broker with SIGTERM, on which it saves its sessions.
    fn terminate(&mut self) {
        assert!(Command::new("kill").arg(self.child.0.id().to_string()).status().unwrap().success());
        self.child.0.wait().unwrap();
    }
}

async fn connected(source: &Running) {
    source.until("subscription", |status| !status.details().granted.is_empty()).await;
}

/// Ends a source as a crash would: no DISCONNECT, no acknowledgements.
async fn crash(source: Running) {
    source.task.abort();
    let _ = source.task.await;
}

#[tokio::test]
async fn what_was_not_released_comes_again() {
    for protocol in [Protocol::V4, Protocol::V5] {
        let Some(broker) = Mosquitto::start("").await else { return };
        let mut config = config(broker.port);
        config.protocol = protocol;

        let mut source = Running::start(config.clone());
        connected(&source).await;
        assert!(!source.status.details().session_present);
        broker.publish("t/1", "one", &[]);
        broker.publish("t/2", "two", &[]);
        let messages = source.messages(2).await;
        assert_eq!(payloads(&messages), ["one", "two"]);
        release(&messages[..1]);
        source.until("PUBACK", |status| status.pubacks.get() == 1).await;
        // The broker handles our packets in order: once it answers a second subscriber's message, it has seen the PUBACK.
        broker.publish("t/3", "three", &[]);
        source.messages(1).await;
        crash(source).await;

        let mut source = Running::start(config.clone());
        let again = source.messages(2).await;
        assert_eq!(payloads(&again), ["two", "three"]);
        assert!(again[0].0.dup);
        assert!(source.status.details().session_present);
        release(&again);
        source.until("PUBACKs", |status| status.pubacks.get() == 2).await;
        source.stop().await;

        let mut source = Running::start(config);
        connected(&source).await;
        broker.publish("t/4", "four", &[]);
        assert_eq!(payloads(&source.messages(1).await), ["four"]);
        crash(source).await;
    }
}

#[tokio::test]
async fn a_restarted_broker_is_found_again_with_its_session() {
    let Some(mut broker) = Mosquitto::start("").await else { return };
    let mut source = Running::start(config(broker.port));
    connected(&source).await;
    broker.publish("t/1", "before", &[]);
    assert_eq!(payloads(&source.messages(1).await), ["before"]);
    broker.terminate();
    source.until("the loss", |status| status.details().failures.values().sum::<u64>() > 0).await;
    broker.child = Mosquitto::spawn(broker.dir.path());
    broker.ready().await;
    // Not released, so it comes again; on the new connection it can be acknowledged.
    let again = source.messages(1).await;
    assert_eq!(payloads(&again), ["before"]);
    release(&again);
    source.until("PUBACK", |status| status.pubacks.get() == 1).await;
    assert!(source.status.details().session_present);

    // Killed, it forgets; the source subscribes anew.
    broker.child.0.kill().unwrap();
    broker.child.0.wait().unwrap();
    source.until("the loss", |status| status.details().state.label() != "connected").await;
    broker.child = Mosquitto::spawn(broker.dir.path());
    broker.ready().await;
    source.until("subscription", |status| status.details().state.label() == "connected").await;
    connected(&source).await;
    broker.publish("t/1", "after", &["-r"]);
    while payloads(&source.messages(1).await) != ["after"] {}
}

#[tokio::test]
async fn an_oversized_retained_message_does_not_lock_out_mqtt_3_1_1() {
    let Some(broker) = Mosquitto::start("").await else { return };
    let large = broker.dir.path().join("large");
    std::fs::write(&large, vec![b'x'; 300_000]).unwrap();
    let port = broker.port.to_string();
    let arguments = ["-h", "127.0.0.1", "-p", &port, "-q", "1", "-r", "-t", "t/large", "-f"];
    assert!(Command::new("mosquitto_pub").args(arguments).arg(&large).status().unwrap().success());

    let mut config = config(broker.port);
    config.protocol = Protocol::V4;
    let mut source = Running::start(config);
    let (message, acks) = source.messages(1).await.remove(0);
    let Some(WireFault::TooLarge { size }) = message.fault else { panic!("{message:?}") };
    assert!(size > 300_000 && message.retain && message.payload.len() <= 4096);
    acks.release(1, message.pkid.as_slice());
    broker.publish("t/1", "next", &[]);
    assert_eq!(payloads(&source.messages(1).await), ["next"]);
    assert!(source.status.details().failures.is_empty());
}

#[tokio::test]
async fn thousands_of_messages_are_taken_and_acknowledged() {
    let Some(broker) = Mosquitto::start("max_queued_messages 0").await else { return };
    let mut source = Running::start(config(broker.port));
    connected(&source).await;
    let lines: String = (0..5000).map(|number| format!("{number}\n")).collect();
    let file = broker.dir.path().join("lines");
    std::fs::write(&file, lines).unwrap();
    let port = broker.port.to_string();
    let publisher = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", "t/x", "-l"])
        .stdin(std::fs::File::open(&file).unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut publisher = Process(publisher);
    let mut received = 0;
    while received < 5000 {
        let messages = source.messages(1).await;
        let expected: Vec<_> =
            (received..received + messages.len()).map(|number| number.to_string()).collect();
        assert_eq!(payloads(&messages), expected);
        received += messages.len();
        release(&messages);
    }
    assert!(publisher.0.wait().unwrap().success());
    source.until("all PUBACKs", |status| status.pubacks.get() == 5000).await;
    assert_eq!((source.status.received_qos1.get(), source.status.dup.get()), (5000, 0));
}

#[tokio::test]
async fn a_wrong_password_is_said() {
    let Some(broker) = Mosquitto::start("password_file DIR/nobody\nallow_anonymous false").await else {
        return;
    };
    let mut config = config(broker.port);
    config.username = Some("someone".into());
    for protocol in [Protocol::V4, Protocol::V5] {
        config.protocol = protocol;
        let source = Running::start(config.clone());
        source.until("refusal", |status| status.details().failures.contains_key("not_authorized")).await;
        source.stop().await;
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_is_checked_against_the_ca_file() {
    if !available("openssl", "version") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let path = dir.path().display();
    let listener = format!("cafile {path}/ca.pem\ncertfile {path}/server.pem\nkeyfile {path}/server.key");
    let Some(broker) = Mosquitto::start(&listener).await else { return };
    let mut config = config(broker.port);
    config.address.tls = true;
    config.tls.ca_file = Some(dir.path().join("ca.pem"));
    let source = Running::start(config.clone());
    connected(&source).await;
    source.stop().await;

    config.tls.server_name = Some("elsewhere".into());
    let source = Running::start(config.clone());
    source.until("wrong name", |status| status.details().failures.contains_key("tls")).await;
    let why = source.status.details().last_error.unwrap();
    assert!(why.contains("`elsewhere`") && why.contains("certificate"), "{why}");
    source.stop().await;

    config.tls.ca_file = Some(dir.path().join("server.key"));
    let source = Running::start(config);
    source.until("no certificate", |status| status.details().failures.contains_key("tls")).await;
    let why = source.status.details().last_error.unwrap();
    assert!(why.contains("`ca_file`") && why.contains("server.key"), "{why}");
    source.stop().await;
}

#[cfg(feature = "tls")]
pub(crate) fn certificates(dir: &Path) {
    std::fs::write(dir.join("san"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for line in [
        format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=fieldlog-test-ca"),
        format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"),
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile san".to_owned(),
    ] {
        let output = Command::new("openssl").args(line.split(' ')).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
