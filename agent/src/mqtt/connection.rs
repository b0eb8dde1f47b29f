//! One open connection to a broker: bytes in and out, pings, and the farewell.
//!
//! Its owner decides what is sent and what a received frame means. Nothing here outlives the connection.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::DisconnectReasonCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::failure::Failure;
use super::frame::{Cut, Cutter};
use super::handshake;
use super::liveness::{Liveness, Verdict};
use crate::config::Protocol;
use crate::net::connect::{Wire, write_some};

const PINGREQ: [u8; 2] = [0xc0, 0];

/// A stream on which the broker has answered CONNECT.
pub(crate) struct Connection {
    reader: ReadHalf<Box<dyn Wire>>,
    writer: WriteHalf<Box<dyn Wire>>,
    input: BytesMut,
    cutter: Cutter,
    out: BytesMut,
    unflushed: bool,
    liveness: Liveness,
    /// PINGREQs that are not answered.
    pings: usize,
}

/// The result of [`Connection::step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// This many bytes have arrived.
    Read(usize),
    /// Part of the output was written.
    Wrote,
}

impl Connection {
    /// Takes over a stream after its CONNACK; `input` has the bytes that followed it. `packet_bytes_max` bounds the
    /// packets that are received as a whole, `keep_alive` is our interval, `server_keep_alive` the one in the CONNACK,
    /// in seconds.
    pub(crate) fn new(
        stream: Box<dyn Wire>,
        input: BytesMut,
        packet_bytes_max: u32,
        keep_alive: Duration,
        server_keep_alive: Option<u16>,
    ) -> Connection {
        let (reader, writer) = tokio::io::split(stream);
        Connection {
            reader,
            writer,
            input,
            cutter: Cutter::new(packet_bytes_max),
            out: BytesMut::new(),
            unflushed: false,
            liveness: Liveness::new(keep_alive, server_keep_alive, Instant::now()),
            pings: 0,
        }
    }

    /// Writes some of the output, or reads if `read` allows it. Does not return while there is neither to do. Nothing
    /// is lost if the future is dropped.
    ///
    /// # Errors
    /// [`Failure::Closed`] and [`Failure::Io`]
    pub(crate) async fn step(&mut self, read: bool) -> Result<Step, Failure> {
        tokio::select! {
            biased;
            wrote = write_some(&mut self.writer, &mut self.out), if self.unflushed => {
                self.unflushed = wrote.map_err(Failure::Io)?;
                self.liveness.wrote(!self.unflushed, Instant::now());
                Ok(Step::Wrote)
            }
            read = self.reader.read_buf(&mut self.input), if read => match read.map_err(Failure::Io)? {
                0 => Err(Failure::Closed),
                bytes => {
                    self.liveness.heard();
                    Ok(Step::Read(bytes))
                }
            },
            else => std::future::pending().await,
        }
    }

    /// Writes all of the output.
    ///
    /// # Errors
    /// [`Failure::Io`]
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        while self.unflushed {
            self.unflushed = write_some(&mut self.writer, &mut self.out).await.map_err(Failure::Io)?;
        }
        Ok(())
    }

    /// The next complete frames.
    ///
    /// # Errors
    /// [`Failure::Frame`]
    pub(crate) fn cut(&mut self) -> Result<Cut, Failure> {
        Ok(self.cutter.cut(&mut self.input)?)
    }

    /// The buffer that is read into.
    pub(crate) fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Lets `write` append packets to the output, and returns its result.
    pub(crate) fn send<R>(&mut self, write: impl FnOnce(&mut BytesMut) -> R) -> R {
        let before = self.out.len();
        let written = write(&mut self.out);
        if self.out.len() > before {
            self.unflushed = true;
            self.liveness.queued(Instant::now());
        }
        written
    }

    /// Bytes waiting to be written.
    pub(crate) fn unwritten(&self) -> usize {
        self.out.len()
    }

    /// Whether everything has been written and flushed.
    pub(crate) fn is_flushed(&self) -> bool {
        !self.unflushed
    }

    /// Frees an output buffer larger than `kept_max` bytes, once it is empty.
    pub(crate) fn shrink(&mut self, kept_max: usize) {
        if !self.unflushed && self.out.capacity() > kept_max {
            self.out = BytesMut::new();
        }
    }

    /// How often to call [`Connection::check`].
    pub(crate) fn tick(&self) -> Duration {
        self.liveness.tick()
    }

    /// Sends a ping when one is due. `reading` says whether the broker's answers are being read.
    ///
    /// # Errors
    /// [`Failure::NoAnswer`] and [`Failure::WriteStalled`]
    pub(crate) fn check(&mut self, reading: bool, now: Instant) -> Result<(), Failure> {
        match self.liveness.check(reading, now) {
            Verdict::Fine => Ok(()),
            Verdict::Ping => {
                self.ping();
                Ok(())
            }
            Verdict::NoAnswer(waited) => Err(Failure::NoAnswer { waited }),
            Verdict::WriteStalled(waited) => Err(Failure::WriteStalled { waited }),
        }
    }

    /// Sends a PINGREQ.
    pub(crate) fn ping(&mut self) {
        self.pings += 1;
        self.send(|out| out.extend_from_slice(&PINGREQ));
    }

    /// Takes in a PINGRESP, and returns whether none is awaited any more.
    pub(crate) fn ping_answered(&mut self) -> bool {
        self.pings = self.pings.saturating_sub(1);
        self.pings == 0
    }

    /// Writes the remaining output and a DISCONNECT, within `limit`. Errors are ignored: the broker sees the connection
    /// close in any case.
    pub(crate) async fn hang_up(&mut self, code: DisconnectReasonCode, protocol: Protocol, limit: Duration) {
        if handshake::disconnect(code, protocol, &mut self.out).is_ok() {
            let write = async {
                self.writer.write_all_buf(&mut self.out).await?;
                self.writer.shutdown().await
            };
            let _ = timeout(limit, write).await;
        }
    }
}
