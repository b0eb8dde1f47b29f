//! A minimal broker that sends one client QoS 1 messages as fast as its window allows.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Pre-encoded MQTT 5 PUBLISH packets.
pub struct Feed {
    bytes: Vec<u8>,
    /// End of each packet, and the place of its packet identifier.
    marks: Vec<(usize, usize)>,
    payload_bytes: usize,
}

impl Feed {
    /// `messages` messages of `devices` devices in turn: four values that vary like a sensor's, each different from the
    /// previous one.
    pub fn new(devices: usize, messages: usize) -> Feed {
        let mut seed = 0x9E37_79B9_7F4A_7C15u64;
        let mut random = move |n: i64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % n as u64) as i64
        };
        let mut state: Vec<[i64; 4]> = (0..devices)
            .map(|_| [1500 + random(1000), 3000 + random(4000), 9900 + random(300), 40 + random(60)])
            .collect();
        let mut feed = Feed { bytes: Vec::new(), marks: Vec::new(), payload_bytes: 0 };
        for n in 0..messages {
            let values = &mut state[n % devices];
            for (value, step) in values.iter_mut().zip([12, 25, 4, 3]) {
                let by = 1 + random(step);
                *value += if random(2) == 0 { by } else { -by };
            }
            let [t, h, p, l] = *values;
            let decimal = |v: i64, scale: i64| v as f64 / scale as f64;
            let payload = format!(
                "{{\"temperature\":{},\"humidity\":{},\"pressure\":{},\"linkquality\":{}}}",
                decimal(t, 100),
                decimal(h, 100),
                decimal(p, 10),
                l.rem_euclid(255)
            );
            feed.push(&format!("bench/device{:04}", n % devices), &payload);
        }
        feed
    }

    /// Two messages of each device, with this many numbers, all of them new.
    pub fn wide(devices: usize, attributes: usize) -> Feed {
        let mut feed = Feed { bytes: Vec::new(), marks: Vec::new(), payload_bytes: 0 };
        for round in 0..2 {
            for device in 0..devices {
                let value = |n: usize| format!("\"attribute{n}\":{}", round * 100 + (device + n) % 100);
                let payload = (0..attributes).map(value).collect::<Vec<_>>().join(",");
                feed.push(&format!("bench/device{device:05}"), &format!("{{{payload}}}"));
            }
        }
        feed
    }

    fn push(&mut self, topic: &str, payload: &str) {
        let remaining = 2 + topic.len() + 2 + 1 + payload.len();
        self.bytes.push(0x32);
        assert!((128..16_384).contains(&remaining) || remaining < 128);
        if remaining < 128 {
            self.bytes.push(remaining as u8);
        } else {
            self.bytes.extend([(remaining % 128) as u8 | 0x80, (remaining / 128) as u8]);
        }
        self.bytes.extend((topic.len() as u16).to_be_bytes());
        self.bytes.extend(topic.as_bytes());
        let pkid_at = self.bytes.len();
        self.bytes.extend([0, 0, 0]);
        self.bytes.extend(payload.as_bytes());
        self.payload_bytes += payload.len();
        self.marks.push((self.bytes.len(), pkid_at));
    }

    /// One packet, with this packet identifier.
    pub fn one(topic: &str, payload: &str, pkid: u16) -> Vec<u8> {
        let mut feed = Feed { bytes: Vec::new(), marks: Vec::new(), payload_bytes: 0 };
        feed.push(topic, payload);
        let at = feed.marks[0].1;
        feed.bytes[at..at + 2].copy_from_slice(&pkid.to_be_bytes());
        feed.bytes
    }

    /// The first packets, each with an identifier of its own as far as there are any.
    pub fn packets(&self, count: usize) -> Vec<Vec<u8>> {
        let mut start = 0;
        let packets = self.marks.iter().take(count).enumerate().map(|(n, &(end, pkid_at))| {
            let mut packet = self.bytes[start..end].to_vec();
            packet[pkid_at - start..pkid_at - start + 2]
                .copy_from_slice(&((n % 60_000) as u16 + 5).to_be_bytes());
            start = end;
            packet
        });
        packets.collect()
    }

    pub fn payload_bytes(&self) -> f64 {
        self.payload_bytes as f64 / self.marks.len() as f64
    }
}

pub struct Stub {
    listener: TcpListener,
}

impl Stub {
    pub fn start() -> Stub {
        Stub { listener: TcpListener::bind("127.0.0.1:0").expect("a free port") }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().expect("an address").port()
    }

    /// The client that connects, once it has subscribed.
    pub fn accept(&self) -> TcpStream {
        let (mut stream, _) = self.listener.accept().expect("a client");
        stream.set_nodelay(true).expect("nodelay");
        handshake(&mut stream);
        stream
    }

    /// Sends `messages` messages to the client that connects, and returns how long it took until the last was
    /// acknowledged.
    pub fn feed(&self, feed: &Feed, messages: u64) -> Duration {
        let (mut stream, _) = self.listener.accept().expect("a client");
        stream.set_nodelay(true).expect("nodelay");
        let window = handshake(&mut stream);
        let begin = Instant::now();
        let mut acks = Acks::default();
        let (mut sent, mut next) = (0u64, 0usize);
        let mut out = Vec::with_capacity(256 * 1024);
        while acks.count < messages {
            out.clear();
            while sent < messages && sent - acks.count < window && out.len() < 128 * 1024 {
                let (end, pkid_at) = feed.marks[next];
                let start = if next == 0 { 0 } else { feed.marks[next - 1].0 };
                let at = out.len() + pkid_at - start;
                out.extend_from_slice(&feed.bytes[start..end]);
                out[at..at + 2].copy_from_slice(&((sent % 65_535) as u16 + 1).to_be_bytes());
                next = (next + 1) % feed.marks.len();
                sent += 1;
            }
            stream.write_all(&out).expect("the client is there");
            acks.read(&mut stream, sent == messages || sent - acks.count >= window);
        }
        let took = begin.elapsed();
        std::thread::spawn(move || linger(stream));
        took
    }

    /// Sends `per_second` messages a second to the client that connects, until told to stop or it has gone.
    pub fn trickle(&self, feed: &Feed, per_second: u64, stop: &AtomicBool) {
        let (mut stream, _) = self.listener.accept().expect("a client");
        stream.set_nodelay(true).expect("nodelay");
        handshake(&mut stream);
        let mut acks = Acks::default();
        let (begin, mut start) = (Instant::now(), 0);
        for (n, &(end, pkid_at)) in feed.marks.iter().enumerate() {
            let due = begin + Duration::from_micros(n as u64 * 1_000_000 / per_second);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let mut message = feed.bytes[start..end].to_vec();
            message[pkid_at - start..pkid_at - start + 2]
                .copy_from_slice(&((n % 65_535) as u16 + 1).to_be_bytes());
            start = end;
            stream.write_all(&message).expect("the client is there");
            acks.read(&mut stream, false);
        }
        std::thread::spawn(move || linger(stream));
    }
}

/// Answers CONNECT and SUBSCRIBE; returns the client's Receive Maximum.
fn handshake(stream: &mut TcpStream) -> u64 {
    let connect = packet(stream);
    assert_eq!(connect[0] >> 4, 1, "CONNECT");
    // Fixed variable header of 10 bytes, then the property length (one byte here), then properties.
    let properties = &connect[connect.len().min(2 + 11)..];
    let window = properties
        .windows(3)
        .take(24)
        .find(|w| w[0] == 0x21)
        .map_or(65_535, |w| u16::from_be_bytes([w[1], w[2]]));
    stream.write_all(&[0x20, 3, 0, 0, 0]).expect("CONNACK");
    loop {
        let packet = packet(stream);
        match packet[0] >> 4 {
            8 => {
                stream.write_all(&[0x90, 4, packet[2], packet[3], 0, 1]).expect("SUBACK");
                return u64::from(window);
            }
            12 => stream.write_all(&[0xd0, 0]).expect("PINGRESP"),
            _ => {}
        }
    }
}

pub fn packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut packet = vec![0; 2];
    stream.read_exact(&mut packet).expect("a packet");
    let mut remaining = usize::from(packet[1] & 0x7f);
    if packet[1] & 0x80 != 0 {
        let mut more = [0];
        stream.read_exact(&mut more).expect("a length");
        remaining += usize::from(more[0]) * 128;
    }
    let start = packet.len();
    packet.resize(start + remaining, 0);
    stream.read_exact(&mut packet[start..]).expect("a body");
    packet
}

/// Counts PUBACKs; other packets (pings) are not answered, since the runs are short.
#[derive(Default)]
struct Acks {
    count: u64,
    rest: Vec<u8>,
}

impl Acks {
    fn read(&mut self, stream: &mut TcpStream, block: bool) {
        let mut buffer = [0; 64 * 1024];
        stream.set_nonblocking(!block).expect("blocking mode");
        let size = match stream.read(&mut buffer) {
            Ok(0) => panic!("the client has gone"),
            Ok(size) => size,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        };
        stream.set_nonblocking(false).expect("blocking mode");
        self.rest.extend_from_slice(&buffer[..size]);
        let mut at = 0;
        while self.rest.len() - at >= 2 && self.rest.len() - at >= 2 + usize::from(self.rest[at + 1]) {
            self.count += u64::from(self.rest[at] >> 4 == 4);
            at += 2 + usize::from(self.rest[at + 1]);
        }
        self.rest.drain(..at);
    }
}

/// Keeps the connection until the client closes it, so that it has no reason to reconnect.
fn linger(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
        if buffer[0] >> 4 == 12 && stream.write_all(&[0xd0, 0]).is_err() {
            break;
        }
    }
}
