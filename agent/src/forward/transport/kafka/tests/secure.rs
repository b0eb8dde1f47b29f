//! TLS and a password, with the mock cluster, which supports neither: a proxy before it handles TLS and SASL PLAIN, and
//! forwards everything after that. It replaces the mock's port by its own in all answers, so that no connection
//! bypasses it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use fieldlog_sim::servers::tls::Certificates;

const SASL_HANDSHAKE: i16 = 17;
const API_VERSIONS: i16 = 18;
const SASL_AUTHENTICATE: i16 = 36;
const SASL_AUTHENTICATION_FAILED: i16 = 58;

struct Front {
    acceptor: TlsAcceptor,
    mock: String,
    port: u16,
}

impl Front {
    /// A front with these certificates; the port that it listens on.
    async fn start(certificates: &Certificates, mock: &str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = certificates.acceptor();
        let front = Arc::new(Front { acceptor, mock: mock.to_owned(), port });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let front = front.clone();
                // It ends with its connection.
                tokio::spawn(async move { front.serve(stream).await });
            }
        });
        port
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut client = self.acceptor.accept(stream).await?;
        let mut mock = TcpStream::connect(&self.mock).await?;
        let mut known = false;
        loop {
            let request = frame(&mut client).await?;
            let number = |at: usize| i16::from_be_bytes([request[at], request[at + 1]]);
            let answer = match number(0) {
                SASL_HANDSHAKE => [&request[4..8], &[0, 0, 0, 0, 0, 1, 0, 5], b"PLAIN"].concat(),
                SASL_AUTHENTICATE => {
                    known = request.ends_with(b"\0someone\0a secret");
                    let code = if known { 0 } else { SASL_AUTHENTICATION_FAILED };
                    [&request[4..8], &code.to_be_bytes(), &[0xff, 0xff], &[0; 4]].concat()
                }
                key if known || key == API_VERSIONS => {
                    mock.write_all(&u32::try_from(request.len()).unwrap().to_be_bytes()).await?;
                    mock.write_all(&request).await?;
                    let mut answer = frame(&mut mock).await?;
                    if key == API_VERSIONS {
                        offer_sasl(&mut answer, number(2));
                    }
                    self.readdress(answer)
                }
                // A broker closes the connection of an unknown user.
                _ => return Ok(()),
            };
            client.write_all(&u32::try_from(answer.len()).unwrap().to_be_bytes()).await?;
            client.write_all(&answer).await?;
            client.flush().await?;
        }
    }

    fn readdress(&self, mut answer: Vec<u8>) -> Vec<u8> {
        let (host, port) = self.mock.split_once(':').unwrap();
        let with = |port: u16| [host.as_bytes(), &u32::from(port).to_be_bytes()].concat();
        let (theirs, ours) = (with(port.parse().unwrap()), with(self.port));
        for at in 0..answer.len().saturating_sub(theirs.len() - 1) {
            if answer[at..].starts_with(&theirs) {
                answer[at..at + ours.len()].copy_from_slice(&ours);
            }
        }
        answer
    }
}

async fn frame(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<Vec<u8>> {
    let size = stream.read_u32().await?;
    let mut frame = vec![0; size as usize];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

/// Adds the two SASL requests to a broker's list of supported ones: correlation, error, count, and entries of key,
/// lowest and highest version. From version 3 on the count is one byte (one more than the entries), and an entry ends
/// with a zero.
fn offer_sasl(answer: &mut Vec<u8>, version: i16) {
    if answer[4..6] != [0, 0] {
        return;
    }
    let entries = [(SASL_HANDSHAKE, 1_i16), (SASL_AUTHENTICATE, 0)];
    let at = if version < 3 {
        let count = u32::from_be_bytes(answer[6..10].try_into().unwrap()) + 2;
        answer[6..10].copy_from_slice(&count.to_be_bytes());
        10
    } else {
        answer[6] += 2;
        assert!(answer[6] < 0x80);
        7
    };
    let mut added = Vec::new();
    for (key, version_max) in entries {
        added.extend([key.to_be_bytes(), [0, 0], version_max.to_be_bytes()].concat());
        added.extend((version >= 3).then_some(0));
    }
    answer.splice(at..at, added);
}

#[tokio::test]
async fn a_cluster_with_tls_and_a_password() {
    let Some(cluster) = Cluster::start() else { return };
    let Some(certificates) = Certificates::make() else { return };
    let port = Front::start(&certificates, &cluster.0.address).await;
    let password_file = certificates.dir().join("password");
    let write = |password: &str| {
        std::fs::write(&password_file, password).unwrap();
        std::fs::set_permissions(&password_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("a secret\n");
    let mut target = cluster.target();
    target.sink.brokers = vec![Address { host: "127.0.0.1".into(), port, tls: true }];
    target.sink.username = Some("someone".into());
    target.sink.password_file = Some(password_file.clone());
    target.sink.tls = tls_of(certificates.dir(), "ca.pem");
    let mut sink = target.open().await.unwrap();
    assert_eq!(send(&mut sink, parcel(1, 50)).await, Outcome::Acked);
    sink.close().await;
    assert_eq!(coverage::all(&cluster.target()).await.len(), 50);

    // Each attempt uses a new connection, at long intervals: only an operator can help.
    let refused = |target: KafkaTarget, key: &'static str| async move {
        let unreachable = target.open().await.err().unwrap();
        assert!(unreachable.pace == Pace::Slow && unreachable.why.contains(key), "{unreachable}");
    };
    write("another secret");
    refused(target.clone(), "`username`, `password_file` and `sasl`").await;
    write("a secret");
    let mut scram = target.clone();
    scram.sink.sasl = SaslMechanism::ScramSha256;
    refused(scram, "`sasl`").await;
    target.sink.tls = tls_of(certificates.dir(), "none.pem");
    refused(target.clone(), "none.pem").await;
    let other = Certificates::make().unwrap();
    target.sink.tls = tls_of(other.dir(), "ca.pem");
    refused(target, "`ca_file`").await;
}

fn tls_of(dir: &Path, ca: &str) -> TlsConfig {
    TlsConfig { ca_file: Some(dir.join(ca)), ..TlsConfig::default() }
}
