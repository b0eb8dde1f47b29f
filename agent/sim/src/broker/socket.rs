//! The socket of one connection: reading CONNECT, the script's actions on the wire, closing.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Duration, sleep, timeout};

use crate::broker::fault::{Action, Behaviour, Progress, Steps};
use crate::broker::router::TakenOver;
use crate::broker::wire::encode;
use crate::broker::wire::{self, Connect, ConnectError, Version, Violation};
use crate::broker::{Shared, stopped};

/// Limit for sending CONNECT.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to read the rest when the broker closes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum answers buffered for a client that does not read; beyond this, it is not read from.
const UNREAD_BYTES_MAX: usize = 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;

/// The socket and what has been read from it.
pub(crate) struct Socket {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    input: BytesMut,
    shared: Arc<Shared>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, shared: Arc<Shared>) -> Socket {
        // Every write is already a batch, so Nagle's algorithm would only delay it.
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        Socket { reader, writer, input: BytesMut::new(), shared }
    }

    /// Reads and writes, whichever is possible first; `true` if something was read.
    pub(crate) async fn exchange(&mut self, out: &mut BytesMut) -> Result<bool, End> {
        let Socket { reader, writer, input, .. } = self;
        let unread = out.len();
        tokio::select! {
            written = writer.write_buf(out), if unread > 0 => written.map(|_| false).map_err(|_| End::Lost),
            read = read(reader, input), if unread < UNREAD_BYTES_MAX => read.map(|()| true),
        }
    }

    /// Input that has been read and not processed yet.
    pub(crate) fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Writes what fits the socket's buffer at once.
    pub(crate) fn try_write(&self, out: &[u8]) {
        let _ = self.writer.try_write(out);
    }

    /// Reads CONNECT and decides whether to accept it.
    pub(crate) async fn connect(
        &mut self,
        steps: &mut Steps,
        behaviour: &Behaviour,
    ) -> Result<Connect, Refusal> {
        let connect = timeout(CONNECT_TIMEOUT, self.read_connect()).await.map_err(|_| Refusal::Silent)??;
        let version = connect.version;
        while let Some(action) = steps.take_due(&Progress::default()) {
            let mut out = BytesMut::new();
            if self.act(action, version, &mut out).await.is_err() {
                return Err(Refusal::Silent);
            }
            self.flush(&mut out).await.map_err(|_| Refusal::Silent)?;
        }
        match behaviour.refuse_connect {
            Some(code) => Err(ConnectError::Refused { version, code }.into()),
            None if !self.shared.options.admits(&connect.username, &connect.password) => {
                let code = if version == Version::V5 { 0x86 } else { 4 };
                Err(ConnectError::Refused { version, code }.into())
            }
            None => Ok(connect),
        }
    }

    async fn read_connect(&mut self) -> Result<Connect, Refusal> {
        let bytes_max = self.shared.options.packet_bytes_max;
        loop {
            if let Some(connect) = wire::decode_connect(&mut self.input, bytes_max)? {
                return Ok(connect);
            }
            let mut stop = self.shared.stop.clone();
            tokio::select! {
                read = self.reader.read_buf(&mut self.input) => match read {
                    Ok(1..) => {}
                    _ => return Err(Refusal::Silent),
                },
                () = stopped(&mut stop) => return Err(Refusal::Silent),
            }
        }
    }

    pub(crate) async fn refuse(&mut self, refusal: &Refusal) {
        let mut out = BytesMut::new();
        if let Refusal::Connect(ConnectError::Refused { version, code }) = refusal {
            encode::connack_refused(*version, *code, &mut out);
        }
        self.close(out).await;
    }

    /// Takes an action of the script. Earlier output is written first.
    pub(crate) async fn act(
        &mut self,
        action: Action,
        version: Version,
        out: &mut BytesMut,
    ) -> Result<(), End> {
        self.flush(out).await?;
        match action {
            Action::Write(bytes) => out.extend_from_slice(&bytes),
            Action::Delay(duration) => self.unless_stopped(sleep(duration)).await?,
            Action::HalfOpen => {
                self.unless_stopped(std::future::pending::<Infallible>()).await?;
            }
            Action::Close => return Err(End::Scripted),
            Action::Reset => {
                let _ = self.writer.as_ref().set_zero_linger();
                return Err(End::Reset);
            }
            Action::Disconnect(reason) => {
                encode::disconnect(version, reason, out);
                return Err(End::Scripted);
            }
        }
        Ok(())
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut stop = self.shared.stop.clone();
        tokio::select! {
            done = work => Ok(done),
            () = stopped(&mut stop) => Err(End::Stopped),
        }
    }

    async fn flush(&mut self, out: &mut BytesMut) -> Result<(), End> {
        let mut stop = self.shared.stop.clone();
        tokio::select! {
            written = self.writer.write_all_buf(out) => written.map_err(|_| End::Lost),
            () = stopped(&mut stop) => Err(End::Stopped),
        }
    }

    /// Writes the rest and closes so that the client can read all of it: closing with unread input would reset the
    /// connection.
    pub(crate) async fn close(&mut self, mut out: BytesMut) {
        let farewell = async {
            self.writer.write_all_buf(&mut out).await?;
            self.writer.shutdown().await?;
            loop {
                self.input.clear();
                if self.reader.read_buf(&mut self.input).await? == 0 {
                    return std::io::Result::Ok(());
                }
            }
        };
        let mut stop = self.shared.stop.clone();
        tokio::select! {
            _ = timeout(CLOSE_TIMEOUT, farewell) => {}
            () = stopped(&mut stop) => {}
        }
    }
}

async fn read(reader: &mut OwnedReadHalf, input: &mut BytesMut) -> Result<(), End> {
    // Messages keep their buffer alive, so it is filled before the next one is allocated.
    if input.capacity() - input.len() < READ_BYTES / 16 {
        input.reserve(READ_BYTES);
    }
    match reader.read_buf(input).await {
        Ok(1..) => Ok(()),
        _ => Err(End::Lost),
    }
}

/// How a connection ends.
#[derive(Debug)]
pub(crate) enum End {
    /// By the client's DISCONNECT.
    Disconnected { publish_will: bool, session_expiry_s: Option<u32> },
    /// By the network, or by a client without a DISCONNECT.
    Lost,
    /// Nothing arrived for one and a half times the keep-alive.
    Silent,
    /// The client opened another connection.
    TakenOver,
    /// The client broke the protocol.
    Violation(Violation),
    /// The script closed it.
    Scripted,
    /// The script reset it.
    Reset,
    /// The broker shuts down.
    Stopped,
}

impl From<TakenOver> for End {
    fn from(TakenOver: TakenOver) -> End {
        End::TakenOver
    }
}

impl From<Violation> for End {
    fn from(violation: Violation) -> End {
        End::Violation(violation)
    }
}

/// Why there was no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no CONNECT came, or the script ended the connection")]
    Silent,
}
