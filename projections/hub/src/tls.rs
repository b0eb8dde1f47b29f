//! TLS to brokers and stores, with rustls and ring.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error, RootCertStore, crypto};

/// The settings of a connection: whom to trust is read anew for each, so that a renewed file needs no restart.
pub(crate) fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(ca_file)?)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Speaks TLS with a store on a connection that is there. The server's certificate must be for `host`; `section` is the
/// part of the configuration that has `address` and `ca_file`.
pub(crate) async fn connect(
    stream: TcpStream,
    host: &str,
    ca_file: Option<&Path>,
    section: &str,
) -> Result<TlsStream<TcpStream>, String> {
    let config = client_config(ca_file)?;
    let host = ServerName::try_from(host.to_owned()).map_err(|error| {
        format!("`{section}.address` has no name that a certificate could be for: {error}")
    })?;
    TlsConnector::from(config).connect(host, stream).await.map_err(|error| words(&error, section))
}

/// Why there is no TLS, and what to do about it.
fn words(error: &io::Error, section: &str) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    let hint = match cause {
        // The second one is that of an authority that has the name of one that is trusted.
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            format!(
                "nobody whom this hub trusts has signed its certificate: name who has in `{section}.ca_file`"
            )
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => format!("its certificate is for another host: write a name that it has in `{section}.address`"),
        Some(Error::InvalidCertificate(_)) => "its certificate cannot be used: give it a new one".into(),
        Some(Error::InvalidMessage(_)) => without_tls(section),
        None if error.kind() == io::ErrorKind::UnexpectedEof => without_tls(section),
        _ => return format!("TLS: {error}"),
    };
    format!("{hint} ({error})")
}

/// What to do about a server that does not greet with TLS.
pub(crate) fn without_tls(section: &str) -> String {
    format!(
        "it does not speak TLS at this port: write that of its TLS in `{section}.address`, or leave TLS out of it"
    )
}

/// The certificates in a file, or those that this machine trusts.
pub(crate) fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(file) = ca_file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return match roots.is_empty() {
            true => {
                Err("this machine trusts no certificates: install `ca-certificates`, or set `ca_file`".into())
            }
            false => Ok(roots),
        };
    };
    let unusable = |why: &dyn std::fmt::Display| format!("{} cannot be used: {why}", file.display());
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    match roots.is_empty() {
        true => Err(unusable(&"there is no PEM certificate in it")),
        false => Ok(roots),
    }
}
