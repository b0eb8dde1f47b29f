//! A proxy before an HTTP receiver that can treat each request differently: refuse it, cut it off, or answer and keep
//! it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fieldlog_tests::http_message::Message;
use fieldlog_tests::rng::Rng;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// How requests are treated.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// They reach the receiver.
    Honest,
    /// They are answered with this status and `Retry-After`, if any.
    Refuses(u16, Option<&'static str>),
    /// 200, but the receiver never gets them.
    Lies,
    /// The connection ends before the answer.
    CutsBefore,
    /// The receiver gets them, and the connection ends during the answer.
    CutsAfter,
    /// No answer within the agent's timeout.
    Silent,
    /// An answer that is not HTTP.
    Babbles,
    /// One of the above, chosen per request.
    Any,
}

const STATUSES: [u16; 15] = [400, 401, 403, 404, 409, 413, 415, 422, 429, 302, 307, 500, 502, 503, 504];
const RETRY_AFTER: [Option<&str>; 7] = [
    None,
    Some("0"),
    Some("1"),
    Some("-1"),
    Some("99999999999999999999"),
    Some("Wed, 21 Oct 2099 07:28:00 GMT"),
    Some("soon"),
];

impl Manner {
    pub fn random(rng: &mut Rng) -> Manner {
        match rng.below(9) {
            0 => Manner::Honest,
            1 => Manner::Lies,
            2 => Manner::CutsBefore,
            3 => Manner::CutsAfter,
            4 => Manner::Silent,
            5 => Manner::Babbles,
            6 => Manner::Any,
            _ => Manner::Refuses(*rng.pick(&STATUSES), *rng.pick(&RETRY_AFTER)),
        }
    }

    fn of_request(self, rng: &mut Rng) -> Manner {
        let mut manner = self;
        while matches!(manner, Manner::Any) {
            manner = Manner::random(rng);
        }
        manner
    }
}

struct Shared {
    manner: Mutex<Manner>,
    rng: Mutex<Rng>,
    /// Positions that were acknowledged in the receiver's name but never delivered.
    kept: Mutex<BTreeSet<u64>>,
}

pub struct Front {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Front {
    pub async fn start(receiver: SocketAddr, rng: Rng) -> Front {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let manner = Mutex::new(Manner::Honest);
        let shared = Arc::new(Shared { manner, rng: Mutex::new(rng), kept: Mutex::default() });
        let of_tasks = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, receiver, Arc::clone(&of_tasks)));
            }
        });
        Front { address, shared }
    }

    pub fn set(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
    }

    pub fn kept(&self) -> BTreeSet<u64> {
        self.shared.kept.lock().unwrap().clone()
    }
}

async fn serve(client: TcpStream, receiver: SocketAddr, shared: Arc<Shared>) -> Option<()> {
    let mut client = BufReader::new(client);
    let mut server = None;
    loop {
        let request = Message::read(&mut client).await?;
        let manner = *shared.manner.lock().unwrap();
        let manner = manner.of_request(&mut shared.rng.lock().unwrap());
        match manner {
            Manner::Honest | Manner::Any => {
                let answer = ask(&mut server, receiver, &request).await?;
                client.write_all(&answer.bytes).await.ok()?;
            }
            Manner::Refuses(status, retry) => client.write_all(&refusal(status, retry)).await.ok()?,
            Manner::Lies => {
                let field = |name| request.field(name)?.parse::<u64>().ok();
                shared.kept.lock().unwrap().extend(field("fieldlog-first")?..=field("fieldlog-last")?);
                client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok()?;
            }
            Manner::CutsBefore => return None,
            Manner::CutsAfter => {
                let answer = ask(&mut server, receiver, &request).await?;
                let begin = &answer.bytes[..answer.bytes.len().min(9)];
                client.write_all(begin).await.ok()?;
                return None;
            }
            Manner::Silent => tokio::time::sleep(Duration::from_secs(2)).await,
            Manner::Babbles => {
                let noise = shared.rng.lock().unwrap().bytes(300);
                client.write_all(&noise).await.ok()?;
                return None;
            }
        }
    }
}

async fn ask(
    server: &mut Option<BufReader<TcpStream>>,
    receiver: SocketAddr,
    request: &Message,
) -> Option<Message> {
    if server.is_none() {
        *server = Some(BufReader::new(TcpStream::connect(receiver).await.ok()?));
    }
    let server = server.as_mut()?;
    server.write_all(&request.bytes).await.ok()?;
    Message::read(server).await
}

fn refusal(status: u16, retry: Option<&str>) -> Vec<u8> {
    let retry = retry.map_or(String::new(), |after| format!("retry-after: {after}\r\n"));
    let location = if status / 100 == 3 { "location: http://127.0.0.1:1/elsewhere\r\n" } else { "" };
    format!("HTTP/1.1 {status} So\r\n{retry}{location}content-length: 0\r\n\r\n").into_bytes()
}
