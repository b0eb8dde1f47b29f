//! What a server with TLS needs: a certificate, its key, and the authority that clients must know.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

use super::installed;

/// A certificate authority `ca.pem` and a certificate of it for 127.0.0.1 and localhost, `server.pem` with `server.key`, in
/// a directory that goes with it.
pub struct Certificates {
    dir: TempDir,
}

impl Certificates {
    /// Makes them with openssl; `None` if that is not installed.
    ///
    /// # Panics
    /// If openssl cannot make them.
    pub fn make() -> Option<Certificates> {
        Certificates::make_for("DNS:localhost,IP:127.0.0.1")
    }

    /// The same, for other hosts, as openssl writes alternative names.
    ///
    /// # Panics
    /// If openssl cannot make them.
    pub fn make_for(hosts: &str) -> Option<Certificates> {
        if !installed("openssl", "version") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("san"), format!("subjectAltName={hosts}\n")).unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        for line in [
            format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=fieldlog-test-ca"),
            format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"),
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile san"
                .to_owned(),
        ] {
            let output = Command::new("openssl").args(line.split(' ')).current_dir(&dir).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Some(Certificates { dir })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The certificate of the authority.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The server's certificate.
    pub fn cert_file(&self) -> PathBuf {
        self.dir.path().join("server.pem")
    }

    /// The server's key.
    pub fn key_file(&self) -> PathBuf {
        self.dir.path().join("server.key")
    }

    /// The lines of a listener of mosquitto.
    pub fn mosquitto(&self) -> String {
        let (ca, cert, key) = (self.ca_file(), self.cert_file(), self.key_file());
        format!("cafile {}\ncertfile {}\nkeyfile {}", ca.display(), cert.display(), key.display())
    }

    /// The block of a nats-server.
    pub fn nats(&self) -> String {
        let (cert, key) = (self.cert_file(), self.key_file());
        format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", cert.display(), key.display())
    }

    /// Takes connections of a server in this process.
    ///
    /// # Panics
    /// If they cannot be read.
    pub fn acceptor(&self) -> TlsAcceptor {
        let chain = CertificateDer::pem_file_iter(self.cert_file()).unwrap().map(Result::unwrap);
        let key = PrivateKeyDer::from_pem_file(self.key_file()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.collect(), key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Speaks TLS at a port before a server on 127.0.0.1 that does not, as long as it is polled.
pub async fn relay(listener: TcpListener, acceptor: TlsAcceptor, server: u16) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        // It ends with its connection.
        tokio::spawn(async move {
            // Whoever does not speak TLS is hung up on.
            let mut stream = acceptor.accept(stream).await?;
            let mut behind = TcpStream::connect(("127.0.0.1", server)).await?;
            tokio::io::copy_bidirectional(&mut stream, &mut behind).await
        });
    }
}

/// Speaks TLS before a server that does not; ends when dropped.
pub struct TlsProxy {
    _alive: oneshot::Sender<()>,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl TlsProxy {
    /// Starts one before the port of a server on 127.0.0.1.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(certificates: &Certificates, server: u16) -> TlsProxy {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let (port, acceptor) = (listener.local_addr().unwrap().port(), certificates.acceptor());
        let (alive, dropped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = relay(listener, acceptor, server) => {}
                    _ = dropped => {}
                }
            });
        });
        TlsProxy { _alive: alive, port }
    }
}
