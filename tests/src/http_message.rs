//! HTTP messages as bytes, for proxies between a sender and a receiver: their bodies may be compressed.

#![allow(clippy::unwrap_used)]

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;

/// A request or an answer with a content length.
#[derive(Debug)]
pub struct Message {
    /// All of it, as it came.
    pub bytes: Vec<u8>,
    head: usize,
}

impl Message {
    /// Reads the next one; `None` at the end of the connection, even within a message.
    ///
    /// # Panics
    /// If its length cannot be read.
    pub async fn read(stream: &mut BufReader<TcpStream>) -> Option<Message> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            stream.read_until(b'\n', &mut bytes).await.ok().filter(|read| *read > 0)?;
        }
        let head = bytes.len();
        let mut message = Message { bytes, head };
        let length = message.field("content-length").map_or(0, |length| length.parse().unwrap());
        message.bytes.resize(head + length, 0);
        stream.read_exact(message.bytes.get_mut(head..)?).await.ok()?;
        Some(message)
    }

    /// A header field; the name is case-insensitive.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut lines = std::str::from_utf8(&self.bytes[..self.head]).ok()?.lines();
        lines.find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The bytes after the head.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.head..]
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn messages_are_read_one_by_one_whatever_is_in_their_bodies() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut receiver = BufReader::new(listener.accept().await.unwrap().0);
        let first = b"POST / HTTP/1.1\r\nContent-Length: 6\r\nFieldlog-First:  7 \r\n\r\n\r\n\r\n\xff\x1f";
        sender.write_all(first).await.unwrap();
        sender
            .write_all(b"HTTP/1.1 204 So\r\n\r\nHTTP/1.1 200 So\r\ncontent-length: 9\r\n\r\ncut")
            .await
            .unwrap();
        drop(sender);
        let message = Message::read(&mut receiver).await.unwrap();
        assert_eq!((&message.bytes[..], message.body()), (&first[..], &b"\r\n\r\n\xff\x1f"[..]));
        assert_eq!((message.field("fieldlog-first"), message.field("x")), (Some("7"), None));
        assert!(Message::read(&mut receiver).await.unwrap().body().is_empty());
        assert!(Message::read(&mut receiver).await.is_none(), "a message that was cut off");
    }
}
