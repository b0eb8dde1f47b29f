//! The source with a real broker.

use std::process::{Command, Stdio};

use fieldlog_sim::servers::mosquitto::Mosquitto;
use fieldlog_sim::servers::{Process, installed};

use super::*;

/// A broker, and something to publish with.
fn broker(lines: &str) -> Option<Mosquitto> {
    if installed("mosquitto_pub", "--help") { Mosquitto::start(lines) } else { None }
}

fn publish(broker: &Mosquitto, topic: &str, payload: &str, more: &[&str]) {
    let port = broker.port.to_string();
    let fixed = ["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", topic, "-m", payload];
    let status = Command::new("mosquitto_pub").args(fixed).args(more).status().unwrap();
    assert!(status.success());
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
        let Some(broker) = broker("") else { return };
        let mut config = config(broker.port);
        config.protocol = protocol;

        let mut source = Running::start(config.clone());
        connected(&source).await;
        assert!(!source.status.details().session_present);
        publish(&broker, "t/1", "one", &[]);
        publish(&broker, "t/2", "two", &[]);
        let messages = source.messages(2).await;
        assert_eq!(payloads(&messages), ["one", "two"]);
        release(&messages[..1]);
        source.until("PUBACK", |status| status.pubacks.get() == 1).await;
        // The broker handles our packets in order: once it answers a second subscriber's message, it has seen the PUBACK.
        publish(&broker, "t/3", "three", &[]);
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
        publish(&broker, "t/4", "four", &[]);
        assert_eq!(payloads(&source.messages(1).await), ["four"]);
        crash(source).await;
    }
}

#[tokio::test]
async fn a_restarted_broker_is_found_again_with_its_session() {
    let Some(mut broker) = broker("") else { return };
    let mut source = Running::start(config(broker.port));
    connected(&source).await;
    publish(&broker, "t/1", "before", &[]);
    assert_eq!(payloads(&source.messages(1).await), ["before"]);
    broker.terminate();
    source.until("the loss", |status| status.details().failures.values().sum::<u64>() > 0).await;
    broker.restart();
    // Not released, so it comes again; on the new connection it can be acknowledged.
    let again = source.messages(1).await;
    assert_eq!(payloads(&again), ["before"]);
    release(&again);
    source.until("PUBACK", |status| status.pubacks.get() == 1).await;
    assert!(source.status.details().session_present);

    // When killed, it loses its state; the source subscribes again.
    broker.kill();
    source.until("the loss", |status| status.details().state.label() != "connected").await;
    broker.restart();
    source.until("subscription", |status| status.details().state.label() == "connected").await;
    connected(&source).await;
    publish(&broker, "t/1", "after", &["-r"]);
    while payloads(&source.messages(1).await) != ["after"] {}
}

#[tokio::test]
async fn an_oversized_retained_message_does_not_lock_out_mqtt_3_1_1() {
    let Some(broker) = broker("") else { return };
    let large = broker.dir().join("large");
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
    publish(&broker, "t/1", "next", &[]);
    assert_eq!(payloads(&source.messages(1).await), ["next"]);
    assert!(source.status.details().failures.is_empty());
}

#[tokio::test]
async fn thousands_of_messages_are_taken_and_acknowledged() {
    let Some(broker) = broker("") else { return };
    let mut source = Running::start(config(broker.port));
    connected(&source).await;
    let lines: String = (0..5000).map(|number| format!("{number}\n")).collect();
    let file = broker.dir().join("lines");
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
    let Some(broker) = broker("password_file DIR/nobody\nallow_anonymous false") else {
        return;
    };
    let mut config = config(broker.port);
    config.username = Some("someone".into());
    for protocol in [Protocol::V4, Protocol::V5] {
        config.protocol = protocol;
        let source = Running::start(config.clone());
        source.until("refusal", |status| status.details().failures.contains_key("not_authorized")).await;
        let why = source.status.details().last_error.unwrap();
        assert!(why.contains("not authorized: check `username` and `password_file`"), "{why}");
        source.stop().await;
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_is_checked_against_the_ca_file() {
    use fieldlog_sim::servers::tls::Certificates;

    let Some(certificates) = Certificates::make() else { return };
    let Some(broker) = broker(&certificates.mosquitto()) else { return };
    let mut config = config(broker.port);
    config.address.tls = true;
    config.tls.ca_file = Some(certificates.ca_file());
    let source = Running::start(config.clone());
    connected(&source).await;
    source.stop().await;

    config.tls.server_name = Some("elsewhere".into());
    let source = Running::start(config.clone());
    source.until("wrong name", |status| status.details().failures.contains_key("tls")).await;
    let why = source.status.details().last_error.unwrap();
    assert!(why.contains("`elsewhere`") && why.contains("certificate"), "{why}");
    source.stop().await;

    config.tls.ca_file = Some(certificates.key_file());
    let source = Running::start(config);
    source.until("no certificate", |status| status.details().failures.contains_key("tls")).await;
    let why = source.status.details().last_error.unwrap();
    assert!(why.contains("`ca_file`") && why.contains("server.key"), "{why}");
    source.stop().await;
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_port_with_tls_where_none_is_asked_for_is_said_and_the_other_way_round() {
    use fieldlog_sim::servers::tls::Certificates;

    let Some(certificates) = Certificates::make() else { return };
    let Some(with_tls) = broker(&certificates.mosquitto()) else { return };
    let Some(plain) = broker("") else { return };
    for protocol in [Protocol::V4, Protocol::V5] {
        let mut config = config(with_tls.port);
        config.protocol = protocol;
        let source = Running::start(config.clone());
        source.until("TLS port", |status| status.details().failures.contains_key("tls")).await;
        let why = source.status.details().last_error.unwrap();
        let words = format!("127.0.0.1:{} speaks TLS, and the address asks for none", with_tls.port);
        assert!(why.starts_with(&words) && why.contains("`mqtts://`"), "{why}");
        source.stop().await;

        config.address.port = plain.port;
        config.address.tls = true;
        config.tls.ca_file = Some(certificates.ca_file());
        let source = Running::start(config);
        source.until("plain port", |status| status.details().failures.contains_key("tls")).await;
        let why = source.status.details().last_error.unwrap();
        let words = format!("127.0.0.1:{} does not answer in TLS", plain.port);
        assert!(why.starts_with(&words) && why.contains("`mqtt://`") && !why.contains("ca_file"), "{why}");
        source.stop().await;
    }
}

#[tokio::test]
async fn what_the_broker_had_queued_may_be_old_and_what_comes_after_it_is_not() {
    for protocol in [Protocol::V4, Protocol::V5] {
        // Fewer in flight than are queued, so that the queue is delivered in several parts.
        let Some(broker) = broker("max_inflight_messages 20") else { return };
        let mut config = config(broker.port);
        config.protocol = protocol;
        let mut source = Running::start(config.clone());
        connected(&source).await;
        publish(&broker, "t/x", "first", &[]);
        let first = source.delivery().await;
        assert!(!first.may_be_old, "a new session has no queue");
        first.acks.release(1, first.messages[0].pkid.as_slice());
        source.until("PUBACK", |status| status.pubacks.get() == 1).await;
        crash(source).await;
        let lines: String = (0..50).map(|number| format!("{number}\n")).collect();
        let file = broker.dir().join("lines");
        std::fs::write(&file, lines).unwrap();
        let port = broker.port.to_string();
        let queued = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", "t/x", "-l"])
            .stdin(std::fs::File::open(&file).unwrap())
            .status();
        assert!(queued.unwrap().success());

        let mut source = Running::start(config);
        let mut old = 0;
        while old < 50 {
            let delivery = source.delivery().await;
            assert!(delivery.may_be_old, "{old} were delivered, and 50 are queued");
            old += delivery.messages.len();
            let pkids: Vec<u16> = delivery.messages.iter().filter_map(|message| message.pkid).collect();
            delivery.acks.release(delivery.messages.len(), &pkids);
        }
        source.until("PUBACKs", |status| status.pubacks.get() == 50).await;
        let mut tries = 0;
        loop {
            publish(&broker, "t/x", "new", &[]);
            let delivery = source.delivery().await;
            delivery.acks.release(1, delivery.messages[0].pkid.as_slice());
            if !delivery.may_be_old {
                break;
            }
            // The answer to the PINGREQ may not have been read yet.
            tries += 1;
            assert!(tries < 20, "the end of the queue is never noticed");
        }
        source.stop().await;
    }
}
