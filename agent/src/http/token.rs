//! The bearer tokens that requests over TCP must carry: one to read, when there is one, and one to change something.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use axum::http::{HeaderMap, HeaderValue, header};
use subtle::ConstantTimeEq;

/// Shorter ones can be guessed over the network.
const BYTES_MIN: usize = 16;
const BYTES_MAX: u64 = 4_096;

/// The tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    /// Lets read; `None`: everyone may.
    pub(super) read: Option<Token>,
    /// Lets read and change; `None`: nobody may change anything over TCP.
    pub(super) admin: Option<Token>,
}

impl Tokens {
    /// Whether a request may read.
    pub(super) fn may_read(&self, headers: &HeaderMap) -> bool {
        self.read.as_ref().is_none_or(|token| token.admits(headers)) || self.may_change(headers)
    }

    /// Whether a request may change something.
    pub(super) fn may_change(&self, headers: &HeaderMap) -> bool {
        self.admin.as_ref().is_some_and(|token| token.admits(headers))
    }
}

/// A token.
pub(super) struct Token(Box<[u8]>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// Reads the token. A bare file name is a systemd credential, looked for in `credentials_dir`.
    pub(super) fn read(
        key: &'static str,
        file: &Path,
        credentials_dir: Option<&Path>,
    ) -> Result<Token, TokenError> {
        let path = match credentials_dir {
            _ if file.is_absolute() => file.to_owned(),
            Some(dir) => dir.join(file),
            None => return Err(TokenError::NoCredentials { key, name: file.to_owned() }),
        };
        let unreadable = |source| TokenError::Unreadable { key, path: path.clone(), source };
        let metadata = std::fs::metadata(&path).map_err(unreadable)?;
        if metadata.mode() & 0o004 != 0 {
            return Err(TokenError::WorldReadable { key, path });
        }
        if metadata.len() > BYTES_MAX {
            return Err(TokenError::Form { key, path });
        }
        let bytes = std::fs::read(&path).map_err(unreadable)?;
        let token = bytes.trim_ascii();
        if token.len() < BYTES_MIN || !token.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::Form { key, path });
        }
        Ok(Token(token.into()))
    }

    /// Whether a request has it. The time this takes reveals only the length.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer);
        given.is_some_and(|given| bool::from(given.ct_eq(&self.0)))
    }
}

/// The credentials of the `Bearer` scheme, whose name is case-insensitive (RFC 9110).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file.
    #[error("cannot read `http.{key}` {}: {source}", path.display())]
    Unreadable {
        /// The key that names it.
        key: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is open to everyone.
    #[error("`http.{key}` {p} can be read by everyone on this machine; run: chmod o-rwx {p}", p = path.display())]
    WorldReadable {
        /// The key that names it.
        key: &'static str,
        /// Which.
        path: PathBuf,
    },
    /// The content.
    #[error(
        "`http.{key}` {p} must hold 16 to 4,096 visible ASCII characters without spaces; to make one, run: \
         head -c 24 /dev/urandom | base64 > {p}", p = path.display()
    )]
    Form {
        /// The key that names it.
        key: &'static str,
        /// Which.
        path: PathBuf,
    },
    /// A credential that no service manager passes.
    #[error(
        "`http.{key}` names the systemd credential {n}, but the service has none: add \
         LoadCredential={n}:/path/to/file to its unit, or give an absolute path", n = name.display()
    )]
    NoCredentials {
        /// The key that names it.
        key: &'static str,
        /// Its name.
        name: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read(content: &str, mode: u32) -> Result<Token, TokenError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Token::read("token_file", &path, None)
    }

    #[test]
    fn only_the_exact_token_is_admitted() {
        let token = read("0123456789abcdef\n", 0o600).unwrap();
        let check = |value: &str, admitted: bool| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            assert_eq!(token.admits(&headers), admitted, "{value}");
        };
        check("Bearer 0123456789abcdef", true);
        check("bearer 0123456789abcdef", true);
        check("Bearer 0123456789abcdeF", false);
        check("Bearer 0123456789abcde", false);
        check("Bearer ", false);
        check("Basic 0123456789abcdef", false);
        assert!(!token.admits(&HeaderMap::new()));
    }

    #[test]
    fn a_token_that_protects_nothing_is_refused() {
        assert!(matches!(read("0123456789abcdef", 0o644), Err(TokenError::WorldReadable { .. })));
        for content in ["", "short", "with some spaces in it"] {
            assert!(matches!(read(content, 0o600), Err(TokenError::Form { .. })), "{content}");
        }
        let error = Token::read("token_file", Path::new("token"), None).unwrap_err().to_string();
        assert!(error.contains("LoadCredential=token:"), "{error}");
    }
}
