//! Sends parcels as gateways do: each over its own connection, the next after the answer.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::fleet::{Parcels, Request};

/// Sends everything as fast as it is taken, the gateways in turn to these hubs.
pub async fn send(hubs: &[SocketAddr], parcels: &Parcels) {
    let gateways = parcels.0.iter().enumerate();
    let gateways = gateways.map(|(at, requests)| async move {
        let mut stream = connect(hubs[at % hubs.len()]).await;
        for request in requests {
            post(&mut stream, request).await;
        }
    });
    futures_util::future::join_all(gateways).await;
}

/// Sends a parcel of each gateway in every period. Returns how long each took from when it was due to its answer.
pub async fn send_steadily(hub: SocketAddr, parcels: &Parcels, period: Duration) -> Vec<Duration> {
    let begin = Instant::now();
    let count = parcels.0.len() as u32;
    let gateways = (0..).zip(&parcels.0).map(|(at, requests)| async move {
        let mut stream = connect(hub).await;
        let mut took = Vec::new();
        for (number, request) in (0..).zip(requests) {
            let due = begin + period * number + period * at / count;
            tokio::time::sleep_until(due).await;
            post(&mut stream, request).await;
            took.push(due.elapsed());
        }
        took
    });
    futures_util::future::join_all(gateways).await.concat()
}

async fn connect(hub: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(hub).await.expect("a connection");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

async fn post(stream: &mut TcpStream, request: &Request) {
    let head =
        format!("POST /events HTTP/1.1\r\nhost: hub\r\ncontent-length: {}\r\n\r\n", request.body.len());
    stream.write_all(head.as_bytes()).await.expect("a connection");
    stream.write_all(&request.body).await.expect("a connection");
    let (mut answer, mut filled) = ([0; 512], 0);
    while !answer[..filled].ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut answer[filled..]).await.expect("an answer");
        assert!(read > 0, "the hub closes the connection");
        filled += read;
    }
    assert!(answer.starts_with(b"HTTP/1.1 204 "), "{}", String::from_utf8_lossy(&answer[..filled]));
}
