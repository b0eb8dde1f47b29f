//! A password or token in a file that not everyone can read.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const BYTES_MAX: u64 = 4_096;

/// Reads the secret in a file, without a line break at its end. A bare file name is a systemd credential.
pub(crate) fn read(file: &Path) -> Result<String, SecretError> {
    let path = match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(dir) if file.is_relative() => PathBuf::from(dir).join(file),
        None if file.is_relative() => return Err(SecretError::NoCredentials { name: file.to_owned() }),
        _ => file.to_owned(),
    };
    let unreadable = |source| SecretError::Unreadable { path: path.clone(), source };
    let metadata = std::fs::metadata(&path).map_err(unreadable)?;
    if metadata.mode() & 0o004 != 0 {
        return Err(SecretError::WorldReadable { path });
    }
    if metadata.len() > BYTES_MAX {
        return Err(SecretError::Form { path });
    }
    let text = std::fs::read_to_string(&path).map_err(unreadable)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err(SecretError::Form { path }) } else { Ok(text.to_owned()) }
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{p} can be read by everyone on this machine; run: chmod o-rwx {p}", p = path.display())]
    WorldReadable { path: PathBuf },
    #[error("{} is empty, or longer than 4,096 bytes; write the secret into it", path.display())]
    Form { path: PathBuf },
    #[error(
        "{n} is a systemd credential, but the service has none: add LoadCredential={n}:/path/to/file to its unit, or \
         give an absolute path",
        n = name.display()
    )]
    NoCredentials { name: PathBuf },
}
