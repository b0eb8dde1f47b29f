//! Bearer tokens, and what each of them allows.

use std::fmt;

use axum::http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use subtle::ConstantTimeEq;

/// Shorter ones can be guessed over the network.
const BYTES: std::ops::RangeInclusive<usize> = 16..=4_096;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// Send parcels.
    Ingest,
    /// Read everything.
    Read,
    /// Send commands to devices.
    Command,
    /// Read everything, and decide about gateways.
    Admin,
}

impl Scope {
    /// As it is written in the configuration.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Scope::Ingest => "ingest",
            Scope::Read => "read",
            Scope::Command => "command",
            Scope::Admin => "admin",
        }
    }
}

/// A token.
pub(crate) struct Token {
    secret: Box<[u8]>,
    scopes: Vec<Scope>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:?})", self.scopes)
    }
}

impl Token {
    /// `None` if the secret cannot be one.
    pub(crate) fn new(secret: &str, scopes: &[Scope]) -> Option<Token> {
        let usable = BYTES.contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_graphic());
        usable.then(|| Token { secret: secret.as_bytes().into(), scopes: scopes.to_vec() })
    }

    /// What it allows.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = Scope> {
        self.scopes.iter().copied()
    }

    fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || (scope == Scope::Read && self.scopes.contains(&Scope::Admin))
    }
}

/// Whether a request may do what needs this scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may.
    Admitted,
    /// It has no token, or an unknown one.
    Unknown,
    /// Its token does not allow it.
    Forbidden,
}

/// Looks at the token of a request; without any tokens, everyone is admitted. The time this takes reveals only lengths.
pub(crate) fn admit(tokens: &[Token], headers: &HeaderMap, scope: Scope) -> Admission {
    if tokens.is_empty() {
        return Admission::Admitted;
    }
    let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer);
    let Some(given) = given else { return Admission::Unknown };
    let mut admission = Admission::Unknown;
    for token in tokens {
        if bool::from(given.ct_eq(&token.secret)) {
            admission = if token.allows(scope) { Admission::Admitted } else { Admission::Forbidden };
        }
    }
    admission
}

/// The credentials of the `Bearer` scheme, whose name is case-insensitive (RFC 9110).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_allows_what_its_scopes_say() {
        let token = |secret: &str, scope| Token::new(secret, &[scope]).unwrap();
        let tokens = [
            token("ingest-0123456789", Scope::Ingest),
            token("admin-0123456789", Scope::Admin),
            token("command-0123456789", Scope::Command),
        ];
        let check = |authorization: &str, expected: [Admission; 4]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(authorization).unwrap());
            let scopes = [Scope::Ingest, Scope::Read, Scope::Command, Scope::Admin];
            assert_eq!(scopes.map(|scope| admit(&tokens, &headers, scope)), expected, "{authorization}");
            assert_eq!(admit(&[], &headers, Scope::Admin), Admission::Admitted);
        };
        use Admission::{Admitted, Forbidden, Unknown};
        check("Bearer ingest-0123456789", [Admitted, Forbidden, Forbidden, Forbidden]);
        check("bearer admin-0123456789", [Forbidden, Admitted, Forbidden, Admitted]);
        check("Bearer command-0123456789", [Forbidden, Forbidden, Admitted, Forbidden]);
        check("Bearer admin-012345678", [Unknown; 4]);
        check("Basic admin-0123456789", [Unknown; 4]);
        assert!(Token::new("with a space inside", &[Scope::Read]).is_none());
    }
}
