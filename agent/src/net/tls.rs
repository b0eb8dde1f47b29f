//! TLS with rustls and ring: as a client, for `mqtts://` and the sinks, and as a server, for the page. A client reads its
//! files at each attempt, so that certificates can be renewed without a restart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig, crypto};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config::{Address, TlsConfig};

/// The TLS settings of one attempt, loaded before dialling.
pub(crate) struct Tls {
    connector: TlsConnector,
    server_name: ServerName<'static>,
}

impl Tls {
    pub(crate) fn new(tls: &TlsConfig, host: &str) -> Result<Tls, TlsError> {
        let name = tls.server_name.as_deref().unwrap_or(host);
        // An IPv6 address has brackets in an address, but not in a certificate.
        let bare = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        let server_name = ServerName::try_from(bare)
            .map_err(|_| TlsError::Config(format!("`{name}` is not a server name; set `server_name`")))?;
        Ok(Tls { connector: TlsConnector::from(Arc::new(client_config(tls)?)), server_name })
    }

    pub(crate) async fn connect(
        self,
        stream: TcpStream,
        address: &Address,
    ) -> Result<TlsStream<TcpStream>, TlsError> {
        let server_name = self.server_name.to_str().into_owned();
        let connecting = self.connector.connect(self.server_name, stream);
        connecting.await.map_err(|source| match is_of_plain_port(&source) {
            true => TlsError::PlainPort { address: address.to_string(), source },
            false if is_of_unknown_authority(&source) => TlsError::UnknownAuthority { server_name },
            false => TlsError::Handshake { server_name, source },
        })
    }
}

/// The server's side of TLS, with a certificate.
#[derive(Clone)]
pub(crate) struct ServerTls(TlsAcceptor);

impl ServerTls {
    /// Reads the certificate, with those that lead to its root, and its key.
    pub(crate) fn new(cert_file: &Path, key_file: &Path) -> Result<ServerTls, TlsError> {
        let chain = certificates("http.cert_file", cert_file)?;
        let key = PrivateKeyDer::from_pem_file(key_file)
            .map_err(|error| TlsError::file("http.key_file", key_file, &error))?;
        let builder = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Config(error.to_string()))?;
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(|error| {
            let (cert, key) = (cert_file.display(), key_file.display());
            TlsError::Config(format!(
                "`http.cert_file` {cert} and `http.key_file` {key} do not go together: {error}"
            ))
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(ServerTls(TlsAcceptor::from(Arc::new(config))))
    }

    /// Waits for the client's part of the handshake.
    pub(crate) async fn accept<I: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: I,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + use<I>> {
        self.0.accept(stream).await
    }
}

/// Whether the server's certificate is of an authority that is not trusted here; perhaps one with the name of one that is.
fn is_of_unknown_authority(error: &io::Error) -> bool {
    use rustls::CertificateError::{BadSignature, UnknownIssuer};
    matches!(
        error.get_ref().and_then(|inner| inner.downcast_ref()),
        Some(rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature))
    )
}

/// Whether a handshake failed as it does at a server without TLS: it answers in its own protocol, or hangs up at once.
fn is_of_plain_port(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => true,
        Some(_) => false,
        None => matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof),
    }
}

/// The first bytes of a client that wants TLS, to see whether a server answers them.
pub(crate) fn first_flight(host: &str) -> Option<Vec<u8>> {
    let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned()).ok()?;
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut bytes = Vec::new();
    rustls::ClientConnection::new(Arc::new(config), name).ok()?.write_tls(&mut bytes).ok()?;
    Some(bytes)
}

pub(crate) fn client_config(tls: &TlsConfig) -> Result<ClientConfig, TlsError> {
    let rejected = |error: tokio_rustls::rustls::Error| TlsError::Config(error.to_string());
    let roots = match &tls.ca_file {
        Some(path) => roots_of(path)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(rejected)?
        .with_root_certificates(roots);
    let (Some(cert_file), Some(key_file)) = (&tls.cert_file, &tls.key_file) else {
        return Ok(builder.with_no_client_auth());
    };
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|error| TlsError::file("key_file", key_file, &error))?;
    builder.with_client_auth_cert(certificates("cert_file", cert_file)?, key).map_err(|error| {
        let (cert, key) = (cert_file.display(), key_file.display());
        TlsError::Config(format!("`cert_file` {cert} and `key_file` {key} do not go together: {error}"))
    })
}

/// Whether the certificates and the key can be used.
pub(crate) fn check(tls: &TlsConfig) -> Result<(), TlsError> {
    client_config(tls).map(drop)
}

fn roots_of(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca_file", path)? {
        roots.add(certificate).map_err(|error| TlsError::file("ca_file", path, &error))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let hint = "no trusted certificates on this machine: install `ca-certificates`, or set `ca_file`";
        return Err(TlsError::Config(hint.to_owned()));
    }
    Ok(roots)
}

fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, PemError>>();
    let certificates = read().map_err(|error| TlsError::file(setting, path, &error))?;
    if certificates.is_empty() {
        return Err(TlsError::file(setting, path, &"there is no PEM certificate in it"));
    }
    Ok(certificates)
}

impl TlsError {
    fn file(setting: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
        TlsError::File { setting, path: path.to_owned(), reason: reason.to_string() }
    }
}

/// Why a TLS connection failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot use `{setting}` {}: {reason}", path.display())]
    File { setting: &'static str, path: PathBuf, reason: String },
    #[error("TLS: {0}")]
    Config(String),
    #[error("TLS with `{server_name}` failed; see `ca_file` and `server_name`")]
    Handshake { server_name: String, source: io::Error },
    /// Never constructed without the feature.
    #[allow(dead_code)]
    #[error(
        "the certificate of `{server_name}` is from an authority that is not known here; `ca_file` must name the certificate \
         of that authority"
    )]
    UnknownAuthority { server_name: String },
    #[error(
        "{address} does not answer in TLS: it is a port without TLS, as it seems. In `address`, give the port with TLS (MQTT: \
         8883), or begin it with `mqtt://`, `http://` or the like, without TLS"
    )]
    PlainPort { address: String, source: io::Error },
    /// Never constructed with the feature; present so that both builds have the same errors.
    #[allow(dead_code)]
    #[error(
        "this build of fieldlog has no TLS: use an address without TLS, or a build with the feature `tls`"
    )]
    Unsupported,
}
