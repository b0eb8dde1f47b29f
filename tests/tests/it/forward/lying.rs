//! An upstream that acknowledges what it does not keep: the agent cannot detect this, but the receiver must.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use fieldlog_tests::http_message::Message;
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::process::free_port;
use fieldlog_tests::rng::Rng;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::parts::Keeper;
use super::site::{Site, forwarded, http, random, sink};

#[tokio::test]
async fn a_broker_that_forgets_what_it_acknowledged_is_found_out() {
    // It saves only when told to.
    let Some(mut broker) = Mosquitto::start("") else { return };
    let address = format!("mqtt://127.0.0.1:{}", broker.port);
    let mut keeper = Keeper::start("--mqtt", &address).await;
    let mut site = Site::new().await;
    let agent = site.start(&site.config(&sink(&address, ""))).await;
    let mut heads = Vec::new();
    for part in 0..3 {
        site.post(100);
        site.recorded().await;
        forwarded(&agent).await;
        heads.push(agent.head());
        match part {
            0 => {
                keeper.has(heads[0]).await;
                broker.save();
                keeper.kill();
            }
            1 => {
                broker.kill();
                broker.restart();
                keeper.run();
            }
            _ => keeper.has(heads[2]).await,
        }
    }
    agent.stop().await;
    let verdict = keeper.stop().await;
    assert_eq!(verdict.check(heads[2]), (heads[0] + 1..=heads[1]).collect());
}

/// A relay to a receiver that answers 200 to some parcels and keeps them to itself.
pub struct Liar {
    pub address: SocketAddr,
    /// Positions it has kept; nothing more is added once `honest`.
    pub kept: Arc<Mutex<BTreeSet<u64>>>,
    pub honest: Arc<Mutex<bool>>,
}

impl Liar {
    /// One that keeps so many of a hundred parcels, and all that are sent again.
    pub async fn start(server: SocketAddr, rng: Rng, percent: usize) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (kept, honest) = (Arc::default(), Arc::default());
        let liar = Liar { address, kept: Arc::clone(&kept), honest: Arc::clone(&honest) };
        let rng = Arc::new(Mutex::new(rng));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(relay(stream, server, (rng.clone(), percent), kept.clone(), honest.clone()));
            }
        });
        liar
    }
}

async fn relay(
    client: TcpStream,
    server: SocketAddr,
    (rng, percent): (Arc<Mutex<Rng>>, usize),
    kept: Arc<Mutex<BTreeSet<u64>>>,
    honest: Arc<Mutex<bool>>,
) {
    let mut client = BufReader::new(client);
    // The server may be killed; the client's connection then breaks, too.
    let Ok(server) = TcpStream::connect(server).await else { return };
    let mut server = BufReader::new(server);
    while let Some(request) = Message::read(&mut client).await {
        let is_again = request.field("fieldlog-resend").is_some();
        let keeps = !*honest.lock().unwrap() && (is_again || rng.lock().unwrap().chance(percent));
        let answer = if keeps {
            let field = |name| request.field(name).unwrap().parse::<u64>().unwrap();
            kept.lock().unwrap().extend(field("fieldlog-first")..=field("fieldlog-last"));
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()
        } else {
            if server.write_all(&request.bytes).await.is_err() {
                return;
            }
            let Some(answer) = Message::read(&mut server).await else { return };
            answer.bytes
        };
        if client.write_all(&answer).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_relay_that_keeps_parcels_to_itself_is_found_out() {
    let mut rng = random();
    let port = free_port();
    let keeper = Keeper::start("--http", &format!("127.0.0.1:{port}")).await;
    let liar = Liar::start(SocketAddr::from(([127, 0, 0, 1], port)), rng.fork(), 30).await;
    let mut site = Site::new().await;
    let agent = site.start(&site.config(&http(liar.address, "parcel_events_max = 10"))).await;
    for _ in 0..10 {
        site.post(rng.between(5, 60));
        site.recorded().await;
        forwarded(&agent).await;
    }
    *liar.honest.lock().unwrap() = true;
    site.post(1);
    site.recorded().await;
    forwarded(&agent).await;
    let head = agent.head();
    agent.stop().await;
    let verdict = keeper.stop().await;
    let kept = liar.kept.lock().unwrap().clone();
    assert!(!kept.is_empty());
    assert_eq!(verdict.check(head), kept);
}
