//! The bearer tokens that requests over TCP must carry, at most one for each grant.

use std::fmt;
use std::path::Path;

use axum::http::{HeaderMap, HeaderValue, header};
use fieldlog_wire::api::session::Grant;
use subtle::ConstantTimeEq;

use super::HttpError;
use crate::config::HttpConfig;
use crate::net::secret;

/// Shorter ones can be guessed over the network.
const BYTES: std::ops::RangeInclusive<usize> = 16..=4_096;

/// A token.
#[derive(PartialEq, Eq)]
pub(super) struct Token(Box<[u8]>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    fn read(setting: &'static str, file: &Path) -> Result<Token, HttpError> {
        let text = secret::read(setting, file)?;
        let token = text.trim();
        match BYTES.contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Token(token.as_bytes().into())),
            false => Err(HttpError::Token { setting, path: file.to_owned() }),
        }
    }

    /// The time this takes reveals only the length.
    fn is(&self, given: &[u8]) -> bool {
        given.ct_eq(&self.0).into()
    }
}

/// The tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tokens {
    /// Without one, everyone may read.
    read: Option<Token>,
    command: Option<Token>,
    /// Without one, only the Unix socket takes changes other than commands.
    admin: Option<Token>,
}

impl Tokens {
    pub(super) fn read(config: &HttpConfig) -> Result<Tokens, HttpError> {
        let read =
            |setting, file: &Option<_>| file.as_deref().map(|file| Token::read(setting, file)).transpose();
        Ok(Tokens {
            read: read("http.token_file", &config.token_file)?,
            command: read("http.command_token_file", &config.command_token_file)?,
            admin: read("http.admin_token_file", &config.admin_token_file)?,
        })
    }

    /// Whether requests that only read need a token.
    pub(super) fn guard_reading(&self) -> bool {
        self.read.is_some()
    }

    /// Whether there is a token that allows this much.
    pub(super) fn give(&self, grant: Grant) -> bool {
        let tokens =
            [(Grant::Read, &self.read), (Grant::Command, &self.command), (Grant::Admin, &self.admin)];
        tokens.iter().any(|(it, token)| *it >= grant && token.is_some())
    }

    /// What a token allows; `None` if it is none of these.
    pub(super) fn grant(&self, given: &[u8]) -> Option<Grant> {
        let is = |token: &Option<Token>| token.as_ref().is_some_and(|token| token.is(given));
        // All of them are looked at, so that the time does not tell them apart.
        let [read, command, admin] = [is(&self.read), is(&self.command), is(&self.admin)];
        let grants = [(admin, Grant::Admin), (command, Grant::Command), (read, Grant::Read)];
        grants.into_iter().find(|(is, _)| *is).map(|(_, grant)| grant)
    }
}

/// The credentials of the `Bearer` scheme, whose name is case-insensitive (RFC 9110).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, rest) =
        headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes)?.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read(content: &str, mode: u32) -> Result<Tokens, HttpError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Tokens::read(&HttpConfig { command_token_file: Some(path), ..HttpConfig::default() })
    }

    #[test]
    fn only_the_exact_token_is_admitted() {
        let tokens = read("0123456789abcdef\n", 0o600).unwrap();
        let check = |value: &str, expected: Option<Grant>| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            assert_eq!(bearer(&headers).and_then(|given| tokens.grant(given)), expected, "{value}");
        };
        check("Bearer 0123456789abcdef", Some(Grant::Command));
        check("bearer 0123456789abcdef", Some(Grant::Command));
        check("Bearer 0123456789abcdeF", None);
        check("Bearer 0123456789abcde", None);
        check("Bearer ", None);
        check("Basic 0123456789abcdef", None);
        assert_eq!(bearer(&HeaderMap::new()), None);
        assert!(tokens.give(Grant::Command) && !tokens.give(Grant::Admin) && !tokens.guard_reading());
    }

    #[test]
    fn the_same_token_for_more_allows_more() {
        let token = || Some(Token(b"0123456789abcdef".as_slice().into()));
        let tokens = Tokens { read: token(), command: None, admin: token() };
        assert_eq!(tokens.grant(b"0123456789abcdef"), Some(Grant::Admin));
    }

    #[test]
    fn a_token_that_protects_nothing_is_refused() {
        let words = |content, mode| read(content, mode).unwrap_err().to_string();
        let open = words("0123456789abcdef", 0o644);
        assert!(open.starts_with("`http.command_token_file` ") && open.contains("run: chmod 600 "), "{open}");
        for content in ["", "short", "with some spaces in it", "0123456789äbcdef"] {
            assert!(words(content, 0o600).contains("http.command_token_file"), "{content}");
        }
        let error = Tokens::read(&HttpConfig { token_file: Some("token".into()), ..HttpConfig::default() });
        let error = error.unwrap_err().to_string();
        assert!(error.contains("LoadCredential=token:"), "{error}");
    }
}
