//! NATS JetStream, with a real nats-server.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fieldlog_tests::nats::NatsServer;
use fieldlog_tests::proxy::{Fault, Proxy};
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::wait::until;

use super::flapping::{self, FLAPPING};
use super::orders;
use super::parts::Between;
use super::site::{Site, arrived, assert_complete, complete, random, sink};

/// Stored, but the acknowledgement is lost: the event is not in the stream twice, although the server soon forgets
/// message ids.
#[tokio::test]
async fn a_lost_acknowledgement() {
    const TIMES: u64 = 4;
    let Some(server) = NatsServer::with_stream() else { return };
    let receiver = Receiver::nats(server.port, "receiver").await;
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], server.port)), Fault::Pass).await;
    let mut site = Site::new().await;
    let agent = site.start(&site.config(&sink(&format!("nats://{}", proxy.address), ""))).await;
    for _ in 0..TIMES {
        site.post(5);
        site.recorded().await;
        arrived(&agent, &receiver).await;
        let before = server.messages();
        // The acknowledgement takes as long as the message.
        proxy.set(Fault::Delay(Duration::from_millis(300)));
        site.post(5);
        until("the message in the stream", || server.messages() > before).await;
        proxy.set(Fault::Reset);
        tokio::time::sleep(Duration::from_millis(200)).await;
        proxy.set(Fault::Pass);
    }
    site.recorded().await;
    arrived(&agent, &receiver).await;
    let connections = &agent.handle.sinks.views()[0].status.connections;
    assert!(connections.load(Ordering::Relaxed) > TIMES, "nothing was lost");
    let head = agent.head();
    agent.stop().await;
    let (log, _) = receiver.stop().await;
    assert_complete(&log, head);
    assert_eq!(log.counts.duplicate_events, 0, "{log}");
}

#[tokio::test]
async fn a_flapping_link() {
    let Some(server) = NatsServer::with_stream() else { return };
    let receiver = Receiver::nats(server.port, "receiver").await;
    let address = SocketAddr::from(([127, 0, 0, 1], server.port));
    let sink =
        |proxy: SocketAddr| sink(&format!("nats://{proxy}"), "format = \"compact\"\nparcel_events_max = 5");
    let log = flapping::check(receiver, address, sink, true, true).await;
    assert_eq!(log.counts.duplicate_events, 0, "{log}");
}

/// Messages that the receiver has not acknowledged come again, and are recognised.
#[tokio::test]
async fn a_flapping_link_to_the_receiver() {
    let Some(server) = NatsServer::with_stream() else { return };
    let address = SocketAddr::from(([127, 0, 0, 1], server.port));
    let proxy = Proxy::start(address, Fault::Pass).await;
    let receiver = Receiver::nats(proxy.address.port(), "receiver").await;
    let mut site = Site::new().await;
    let agent = site.start(&site.config(&sink(&format!("nats://{address}"), "parcel_events_max = 5"))).await;
    let mut rng = random();
    tokio::join!(proxy.flap(&mut rng, FLAPPING), site.post_for(FLAPPING));
    site.recorded().await;
    complete(agent, receiver).await;
}

#[tokio::test]
async fn killed_in_every_order() {
    let Some(server) = NatsServer::with_stream() else { return };
    let (verdict, between, head) = orders::check(Between::Nats(server)).await;
    assert!(verdict.check(head).is_empty());
    // Whatever was sent a second time to a receiver that was killed: the stream has it once.
    let Between::Nats(server) = between else { unreachable!() };
    let again = Receiver::nats(server.port, "from-the-beginning").await;
    until("all of the stream", || again.contiguous() == head).await;
    let (log, _) = again.stop().await;
    println!("{log}");
    assert!(log.is_clean() && log.counts.duplicate_events == 0, "{log}");
}
