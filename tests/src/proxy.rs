//! A TCP proxy on loopback that behaves like a bad network, with a fault that can change at any time.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::rng::Rng;

const BUFFER: usize = 16 * 1024;

/// The fault applied to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No fault.
    Pass,
    /// Nobody listens; existing connections are reset.
    Refuse,
    /// Nothing gets through, without any error. Connections that exist meanwhile stay dead, as after a router has
    /// forgotten them.
    BlackHole,
    /// Connections are reset, new ones as soon as they are accepted.
    Reset,
    /// Connections are closed after this many more bytes in one direction, in the middle of data.
    CloseAfter(usize),
    /// One direction ends as if its sender had closed it; the other continues.
    HalfClose(Towards),
    /// Everything is delayed by this.
    Delay(Duration),
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// From the client.
    Server,
    /// From the server.
    Client,
}

impl Fault {
    /// One of them.
    pub fn random(rng: &mut Rng) -> Fault {
        match rng.below(10) {
            0 => Fault::Refuse,
            1 => Fault::BlackHole,
            2 => Fault::Reset,
            3 | 4 => Fault::CloseAfter(rng.between(1, 60_000)),
            5 => Fault::HalfClose(*rng.pick(&[Towards::Server, Towards::Client])),
            6 => Fault::Delay(Duration::from_millis(rng.between(1, 60) as u64)),
            _ => Fault::Pass,
        }
    }
}

/// A proxy before one server; ends when dropped.
pub struct Proxy {
    /// Its address, reserved even while it refuses connections.
    pub address: SocketAddr,
    fault: watch::Sender<Fault>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts one before `server`.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start(server: SocketAddr, fault: Fault) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, faults) = watch::channel(fault);
        let task = tokio::spawn(serve(listener, address, server, faults));
        Proxy { address, fault: sender, task }
    }

    /// Applies this fault from now on.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Applies a random fault every 100 to 800 ms for this time, then none.
    pub async fn flap(&self, rng: &mut Rng, duration: Duration) {
        let end = tokio::time::Instant::now() + duration;
        while tokio::time::Instant::now() < end {
            self.set(Fault::random(rng));
            tokio::time::sleep(Duration::from_millis(rng.between(100, 800) as u64)).await;
        }
        self.set(Fault::Pass);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    first: TcpListener,
    address: SocketAddr,
    server: SocketAddr,
    mut faults: watch::Receiver<Fault>,
) {
    let mut listener = Some(first);
    let mut connections = JoinSet::new();
    loop {
        let fault = *faults.borrow_and_update();
        if fault == Fault::Refuse {
            drop(listener.take());
            // Bound but not listening: connections are refused, and the port stays reserved.
            let reserved = bind(address).await;
            let left = faults.wait_for(|fault| *fault != Fault::Refuse).await.is_ok();
            if !left {
                return;
            }
            listener = Some(reserved.listen(128).unwrap());
            continue;
        }
        let Some(open) = &listener else { return };
        tokio::select! {
            accepted = open.accept() => if let Ok((client, _)) = accepted {
                connections.spawn(carry(client, server, faults.clone()));
            },
            changed = faults.changed() => if changed.is_err() { return },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn bind(address: SocketAddr) -> TcpSocket {
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        if socket.bind(address).is_ok() {
            return socket;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How a connection ends.
enum End {
    Closed,
    Reset,
    Dead,
}

async fn carry(mut client: TcpStream, server: SocketAddr, mut faults: watch::Receiver<Fault>) {
    let fault = *faults.borrow_and_update();
    if fault == Fault::BlackHole {
        swallow(&mut client).await;
        return;
    }
    let reset = matches!(fault, Fault::Reset | Fault::Refuse);
    let Ok(server) = (if reset { Err(()) } else { TcpStream::connect(server).await.map_err(|_| ()) }) else {
        let _ = client.set_zero_linger();
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let end = tokio::select! {
        end = pump(&mut from_client, &mut to_server, Towards::Server, faults.clone()) => end,
        end = pump(&mut from_server, &mut to_client, Towards::Client, faults.clone()) => end,
    };
    let (Ok(mut client), Ok(server)) = (from_client.reunite(to_client), from_server.reunite(to_server))
    else {
        return;
    };
    match end {
        End::Closed => {}
        End::Reset => {
            let _ = client.set_zero_linger();
            let _ = server.set_zero_linger();
        }
        End::Dead => swallow(&mut client).await,
    }
}

/// Reads until the client closes; the other connection stays open meanwhile.
async fn swallow(client: &mut TcpStream) {
    let mut buffer = [0; BUFFER];
    while let Ok(1..) = client.read(&mut buffer).await {}
}

async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    towards: Towards,
    mut faults: watch::Receiver<Fault>,
) -> End {
    let mut buffer = vec![0; BUFFER];
    faults.mark_changed();
    let (mut delay, mut left) = (Duration::ZERO, usize::MAX);
    loop {
        tokio::select! {
            biased;
            changed = faults.changed() => {
                if changed.is_err() {
                    return End::Closed;
                }
                (delay, left) = (Duration::ZERO, usize::MAX);
                let fault = *faults.borrow_and_update();
                match fault {
                    Fault::Pass => {}
                    Fault::Refuse | Fault::Reset => return End::Reset,
                    Fault::BlackHole => return End::Dead,
                    Fault::CloseAfter(bytes) => left = bytes,
                    Fault::HalfClose(end) if end == towards => {
                        let _ = to.shutdown().await;
                        // Until the other direction ends too.
                        std::future::pending::<()>().await;
                    }
                    Fault::HalfClose(_) => {}
                    Fault::Delay(by) => delay = by,
                }
            }
            read = from.read(&mut buffer) => {
                let Ok(read @ 1..) = read else { return End::Closed };
                tokio::time::sleep(delay).await;
                let passed = read.min(left);
                left -= passed;
                if to.write_all(&buffer[..passed]).await.is_err() || left == 0 {
                    return End::Closed;
                }
            }
        }
    }
}
