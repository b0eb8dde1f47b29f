//! A password or token, read from its file at each attempt, so that it can be changed without a restart.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Longest string MQTT can carry.
const BYTES_MAX: u64 = 65_535;

/// Reads the secret from the file in `setting`. A bare file name is a systemd credential.
pub(crate) fn read(setting: &'static str, file: &Path) -> Result<String, SecretError> {
    read_in(setting, file, credentials_dir().as_deref())
}

/// The same. A bare file name is a systemd credential, looked for in `credentials_dir`.
fn read_in(
    setting: &'static str,
    file: &Path,
    credentials_dir: Option<&Path>,
) -> Result<String, SecretError> {
    let path = guarded(setting, locate_in(setting, file, credentials_dir)?)?;
    let unreadable = |source| SecretError::Unreadable { setting, path: path.clone(), source };
    if std::fs::metadata(&path).map_err(unreadable)?.len() > BYTES_MAX {
        return Err(SecretError::TooLong { setting, path });
    }
    let bytes = std::fs::read(&path).map_err(unreadable)?;
    let mut text =
        String::from_utf8(bytes).map_err(|_| SecretError::NotText { setting, path: path.clone() })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() { Err(SecretError::Empty { setting, path }) } else { Ok(text) }
}

/// Where a secret of the configuration is, unless everyone may read it.
pub(crate) fn locate_guarded(setting: &'static str, file: &Path) -> Result<PathBuf, SecretError> {
    guarded(setting, locate(setting, file)?)
}

fn guarded(setting: &'static str, path: PathBuf) -> Result<PathBuf, SecretError> {
    match std::fs::metadata(&path) {
        Err(source) => Err(SecretError::Unreadable { setting, path, source }),
        Ok(metadata) if metadata.mode() & 0o004 != 0 => Err(SecretError::WorldReadable { setting, path }),
        Ok(_) => Ok(path),
    }
}

/// Where a file of the configuration is. A bare file name is a systemd credential.
pub(crate) fn locate(setting: &'static str, file: &Path) -> Result<PathBuf, SecretError> {
    locate_in(setting, file, credentials_dir().as_deref())
}

fn credentials_dir() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

fn locate_in(
    setting: &'static str,
    file: &Path,
    credentials_dir: Option<&Path>,
) -> Result<PathBuf, SecretError> {
    if file.is_absolute() {
        return Ok(file.to_owned());
    }
    match credentials_dir {
        Some(dir) => Ok(dir.join(file)),
        None => Err(SecretError::NoCredentials { setting, name: file.to_owned() }),
    }
}

/// Why a secret cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("cannot read `{setting}` {}", path.display())]
    Unreadable { setting: &'static str, path: PathBuf, source: io::Error },
    #[error("`{setting}` {p} can be read by everyone on this machine; run: chmod 600 {p}", p = path.display())]
    WorldReadable { setting: &'static str, path: PathBuf },
    #[error("`{setting}` {} is longer than 65,535 bytes", path.display())]
    TooLong { setting: &'static str, path: PathBuf },
    #[error("`{setting}` {} is not UTF-8 text", path.display())]
    NotText { setting: &'static str, path: PathBuf },
    #[error("`{setting}` {} is empty; write the secret into it, or remove the setting", path.display())]
    Empty { setting: &'static str, path: PathBuf },
    #[error(
        "`{setting}` names the systemd credential {n}, but the service has none: add LoadCredential={n}:/path/to/file \
         to its unit, or give an absolute path", n = name.display()
    )]
    NoCredentials { setting: &'static str, name: PathBuf },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn write(dir: &Path, content: &[u8], mode: u32) -> PathBuf {
        let path = dir.join("password");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn one_trailing_newline_is_not_part_of_the_password() {
        let dir = tempfile::tempdir().unwrap();
        for (content, expected) in [("a b\n", "a b"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")] {
            let path = write(dir.path(), content.as_bytes(), 0o600);
            assert_eq!(read_in("password_file", &path, None).unwrap(), expected);
        }
    }

    #[test]
    fn a_bare_name_is_a_credential() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), b"secret", 0o440);
        assert_eq!(read_in("password_file", Path::new("password"), Some(dir.path())).unwrap(), "secret");
        let error = read_in("password_file", Path::new("password"), None).unwrap_err().to_string();
        assert!(error.contains("LoadCredential=password:"), "{error}");
    }

    #[test]
    fn a_password_for_everyone_is_refused_with_the_command_that_helps() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), b"secret", 0o644);
        let error = read_in("password_file", &path, None).unwrap_err().to_string();
        assert!(error.ends_with(&format!("chmod 600 {}", path.display())), "{error}");
    }

    #[test]
    fn what_is_no_password_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let read =
            |content: &[u8]| read_in("password_file", &write(dir.path(), content, 0o600), None).unwrap_err();
        assert!(matches!(read(b"\n"), SecretError::Empty { .. }));
        assert!(matches!(read(b"\xff"), SecretError::NotText { .. }));
        assert!(matches!(read(&[b'a'; 70_000]), SecretError::TooLong { .. }));
        assert!(matches!(
            read_in("password_file", &dir.path().join("none"), None),
            Err(SecretError::Unreadable { .. })
        ));
    }
}
