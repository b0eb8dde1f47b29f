//! Opening the TCP port and the Unix socket.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};

use super::HttpError;
use super::credentials::Credentials;
use crate::config::HttpConfig;

/// Owner and group may connect.
const SOCKET_MODE: u32 = 0o660;
/// Kernel send buffer for a TCP client that does not read. By default it would be up to 4 MB, which count as this
/// service's memory. The kernel doubles it for its own needs.
const SEND_BUFFER_BYTES: u32 = 64 * 1024;
/// Maximum connections waiting to be accepted.
const BACKLOG: u32 = 1024;

/// What is listened on, and what is asked for there.
#[derive(Debug)]
pub struct Listeners {
    pub(super) tcp: Option<TcpListener>,
    pub(super) unix: Option<(UnixListener, SocketFile)>,
    pub(super) credentials: Arc<Credentials>,
}

impl Listeners {
    /// The TCP address, with the actual port if port 0 was configured.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// The tokens and the certificate, to read them again.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.clone()
    }
}

/// Opens the configured listeners.
///
/// # Errors
/// [`HttpError`]; nothing stays open then.
pub async fn bind(config: &HttpConfig) -> Result<Listeners, HttpError> {
    let credentials = Arc::new(Credentials::load(config)?);
    let tcp = match config.listen {
        Some(address) if !address.ip().is_loopback() && !credentials.tokens().guard_reading() => {
            return Err(HttpError::TokenRequired { address });
        }
        Some(address) => Some(bind_tcp(address).map_err(|source| HttpError::Tcp { address, source })?),
        None => None,
    };
    let unix = match &config.unix_socket {
        Some(path) => Some(bind_unix(path).await?),
        None => None,
    };
    Ok(Listeners { tcp, unix, credentials })
}

/// As [`TcpListener::bind`], with small send buffers for its connections.
fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The socket gets its mode under a temporary name and is then renamed, which replaces a stale one: it never has the
/// wrong mode under its own name.
async fn bind_unix(path: &Path) -> Result<(UnixListener, SocketFile), HttpError> {
    make_way(path).await?;
    let failed = |source| HttpError::Unix { path: path.to_owned(), source };
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&new).map_err(failed)?;
    let mode = std::fs::Permissions::from_mode(SOCKET_MODE);
    std::fs::set_permissions(&new, mode).and_then(|()| std::fs::rename(&new, path)).map_err(failed)?;
    let inode = std::fs::metadata(path).map_err(failed)?.ino();
    Ok((listener, SocketFile { path: path.to_owned(), inode }))
}

/// Fails if the path is taken, except by a socket without a listener.
async fn make_way(path: &Path) -> Result<(), HttpError> {
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(HttpError::Unix { path: path.to_owned(), source }),
        Ok(metadata) => metadata,
    };
    if !metadata.file_type().is_socket() {
        return Err(HttpError::NotASocket { path: path.to_owned() });
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(HttpError::SocketInUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(source) => Err(HttpError::Unix { path: path.to_owned(), source }),
    }
}

/// The socket's path, removed when it is no longer served.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another agent may have taken over the path meanwhile.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: Option<&str>, unix_socket: Option<PathBuf>) -> HttpConfig {
        let listen = listen.map(|l| l.parse().unwrap());
        HttpConfig { listen, unix_socket, ..HttpConfig::default() }
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("http.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let first = bind(&config(None, Some(path.clone()))).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, SOCKET_MODE);
        let second = bind(&config(None, Some(path.clone()))).await;
        assert!(matches!(second, Err(HttpError::SocketInUse { .. })), "{second:?}");
        drop(first);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        let refused = bind(&config(None, Some(path.clone()))).await;
        assert!(matches!(refused, Err(HttpError::NotASocket { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
    }

    #[tokio::test]
    async fn other_machines_need_a_token() {
        let refused = bind(&config(Some("0.0.0.0:0"), None)).await.unwrap_err().to_string();
        assert!(refused.contains("http.token_file"), "{refused}");
        assert!(bind(&config(Some("127.0.0.1:0"), None)).await.unwrap().local_addr().is_some());
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let taken = bind(&config(Some("127.0.0.1:0"), None)).await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let refused = bind(&config(Some(&address), None)).await.unwrap_err().to_string();
        assert!(refused.contains(&address), "{refused}");
    }
}
