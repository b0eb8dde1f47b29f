//! What a Sparkplug host application publishes about itself. Tests are named after statements of the Sparkplug 3.0.0
//! specification.

use super::*;
use crate::config::SparkplugConfig;
use crate::message::{Publication, Unpublished};

fn host(mut config: SourceConfig, protocol: Protocol) -> SourceConfig {
    config.protocol = protocol;
    config.session_expiry = Duration::ZERO;
    config.rules = Vec::new();
    config.sparkplug = Some(SparkplugConfig {
        host_id: "gateway-1".into(),
        groups: vec!["plant".into()],
        reorder_timeout: Duration::from_secs(2),
        commands: true,
    });
    config
}

/// The time in a certificate somewhere in these bytes.
fn timestamp(bytes: &[u8], online: bool) -> u64 {
    let text = String::from_utf8_lossy(bytes);
    let (_, rest) =
        text.split_once(&format!("{{\"online\":{online},\"timestamp\":")).expect("no certificate");
    rest.split_once('}').unwrap().0.parse().unwrap()
}

/// A PUBLISH of QoS 0 under our own topic.
fn state(protocol: Protocol, payload: &str) -> Vec<u8> {
    let topic = "spBv1.0/STATE/gateway-1";
    let mut body = vec![0, u8::try_from(topic.len()).unwrap()];
    body.extend(topic.bytes());
    body.extend((protocol == Protocol::V5).then_some(0));
    body.extend(payload.bytes());
    [vec![0x30, u8::try_from(body.len()).unwrap()], body].concat()
}

/// The broker's side up to the SUBSCRIBE; returns the content of CONNECT and SUBSCRIBE.
async fn subscribed(listener: &TcpListener, protocol: Protocol) -> (Peer, Vec<u8>, Vec<u8>) {
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.expect("nobody connects").unwrap();
    let mut peer = Peer(stream);
    let (first, connect) = peer.frame().await;
    assert_eq!(first, 0x10);
    peer.send(if protocol == Protocol::V5 { &CONNACK } else { &[0x20, 2, 0, 0] }).await;
    let (first, subscribe) = peer.frame().await;
    assert_eq!(first, 0x82);
    (peer, connect, subscribe)
}

async fn grant(peer: &mut Peer, protocol: Protocol) {
    let codes = [0, 0, 1, 0, 0, 0, 1];
    let head: &[u8] = if protocol == Protocol::V5 { &[0x90, 10, 0, 1, 0] } else { &[0x90, 9, 0, 1] };
    peer.send(&[head, &codes].concat()).await;
}

/// `tck-id-operational-behavior-host-application-connect-will` to `-connect-birth-retained`, `-death-…`,
/// `tck-id-message-flow-phid-sparkplug-clean-session-311` and `-50`, `-subscription`, `-state-publish` and
/// `tck-id-message-flow-hid-sparkplug-state-message-delivered`.
#[tokio::test]
async fn tck_id_operational_behavior_host_application_connect() {
    for protocol in [Protocol::V4, Protocol::V5] {
        let (listener, config) = listen().await;
        let source = Running::start(host(config, protocol));
        let (mut peer, connect, subscribe) = subscribed(&listener, protocol).await;
        // Clean session, will, will QoS 1, will retained.
        assert_eq!(connect[7] & 0x3e, 0x2e, "{protocol:?}");
        if protocol == Protocol::V5 {
            assert_ne!(connect[11], 0x11, "a session expiry interval");
        }
        let text = String::from_utf8_lossy(&subscribe).into_owned();
        assert!(
            text.contains("spBv1.0/STATE/gateway-1") && text.contains("spBv1.0/plant/DDATA/+/+"),
            "{text}"
        );
        // Before the subscriptions are answered nothing is published, not even in response to this.
        peer.send(&state(protocol, r#"{"online":false,"timestamp":1}"#)).await;
        let unready = source.status.outbox.publish(Publication::untracked("t", "x"));
        assert_eq!(unready, Err(Unpublished::NotConnected));
        grant(&mut peer, protocol).await;
        let (first, birth) = peer.frame().await;
        assert_eq!(first, 0x33, "QoS 1 and retained");
        assert_eq!(timestamp(&birth, true), timestamp(&connect, false), "{protocol:?}");
        assert!(String::from_utf8_lossy(&birth[2..]).starts_with("spBv1.0/STATE/gateway-1"));

        peer.send(&state(protocol, r#"{"online":true,"timestamp":1}"#)).await;
        peer.send(&state(protocol, r#"{"online":false,"timestamp":1}"#)).await;
        assert_eq!(peer.frame().await, (0x33, birth));

        source.until("an outbox", |status| status.outbox.connection().is_some()).await;
        source.status.outbox.publish(Publication::untracked("c", "x")).unwrap();
        let published: &[u8] = if protocol == Protocol::V5 { b"\0\x01c\0x" } else { b"\0\x01cx" };
        assert_eq!(peer.frame().await, (0x30, published.to_vec()));

        source.stop.send(true).unwrap();
        let (first, death) = peer.frame().await;
        assert_eq!(first, 0x33);
        assert!(timestamp(&death, false) >= timestamp(&connect, false), "the time now");
        assert_eq!(peer.frame().await.0, 0xe0);
        peer.closed().await;
        timeout(PATIENCE, source.task).await.unwrap().unwrap().unwrap();
        let closed = source.status.outbox.publish(Publication::untracked("c", "x"));
        assert_eq!(closed, Err(Unpublished::NotConnected));
    }
}

#[tokio::test]
async fn other_subscriptions_of_a_host_application_are_warned_of() {
    let (listener, config) = listen().await;
    let mut config = host(config, Protocol::V5);
    config.rules = vec![rule("t/#")];
    let source = Running::start(config);
    let _peer = Peer::accept(&listener, &CONNACK).await;
    source.until("a warning", |status| !status.details().warnings.is_empty()).await;
    assert!(source.status.details().warnings[0].contains("[[source]] of their own"));
}
