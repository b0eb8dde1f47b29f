//! Packets of a connection other than messages.

use bytes::Bytes;

use super::SourceSession;
use crate::mqtt::failure::Failure;
use crate::mqtt::frame::Frame;
use crate::mqtt::handshake;

impl<F> SourceSession<'_, F> {
    pub(super) fn take_control(&mut self, chunk: &Bytes, frame: &Frame) -> Result<(), Failure> {
        let body = &chunk[frame.body.clone()];
        match frame.packet_type() {
            13 => {
                if self.connection.ping_answered() {
                    self.queue.answered();
                }
                Ok(())
            }
            // UNSUBACK answers nothing of ours and harms nobody.
            11 => Ok(()),
            4 => self.take_puback(chunk, frame),
            9 => {
                self.take_suback(body)?;
                self.subscribed()
            }
            // PUBREL, of a QoS 2 message that an earlier client of this session received: must be answered with
            // PUBCOMP, or it is sent again on every connection.
            6 => match body {
                &[high, low, ..] => {
                    self.send(&[0x70, 2, high, low]);
                    Ok(())
                }
                _ => Err(Failure::Malformed("PUBREL")),
            },
            14 => {
                let code = body.first().copied().unwrap_or(0);
                Err(Failure::Disconnected {
                    code,
                    detail: handshake::detail_of(&chunk.slice(frame.whole.clone())),
                })
            }
            15 => {
                Err(Failure::Unexpected("AUTH, although fieldlog has not asked for extended authentication"))
            }
            2 => Err(Failure::Unexpected("a second CONNACK")),
            5 | 7 => {
                Err(Failure::Unexpected("an answer to a QoS 2 message, although fieldlog has sent none"))
            }
            _ => Err(Failure::Unexpected("a packet that only clients send")),
        }
    }

    fn take_suback(&mut self, body: &[u8]) -> Result<(), Failure> {
        let source = &self.source.config.name;
        for ((filter, asked), answer) in
            handshake::suback(body, &mut self.waiting, self.source.config.protocol)?
        {
            match answer {
                Ok(granted) => {
                    if granted < asked {
                        tracing::warn!(%source, %filter, asked, granted, "the broker grants a lower QoS than asked for");
                    }
                    self.source.status.update(|details| details.granted.push((filter, granted)));
                }
                Err(reason) => {
                    tracing::error!(
                        %source, %filter, reason,
                        "the broker refuses a subscription: nothing from it is recorded until the broker's access \
                         rules allow it"
                    );
                    self.source.status.update(|details| details.refused.push((filter, reason)));
                }
            }
        }
        Ok(())
    }
}
