//! What the port shows (its certificate) and asks for (tokens), read from files at the start and with each reload.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::HttpError;
use super::attempts::Attempts;
use super::session::Sessions;
use super::token::Tokens;
use crate::config::HttpConfig;
use crate::net::secret;
use crate::net::tls::ServerTls;

/// What is read from files.
struct Read {
    tokens: Arc<Tokens>,
    tls: Option<ServerTls>,
}

/// Tokens and certificate, and who has shown the tokens or was wrong about them.
pub struct Credentials {
    read: RwLock<Read>,
    /// Whether cookies are for HTTPS only.
    pub(super) secure: bool,
    pub(super) sessions: Sessions,
    pub(super) attempts: Attempts,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    pub(super) fn load(config: &HttpConfig) -> Result<Credentials, HttpError> {
        let read = read(config)?;
        Ok(Credentials {
            secure: read.tls.is_some(),
            read: read.into(),
            sessions: Sessions::default(),
            attempts: Attempts::default(),
        })
    }

    /// Reads the files again. If one cannot be used, all stays as it was. New tokens end all sessions.
    pub fn renew(&self, config: &HttpConfig) {
        match read(config) {
            Ok(new) => {
                if *new.tokens != *self.tokens() {
                    self.sessions.clear();
                }
                *self.read.write().unwrap_or_else(PoisonError::into_inner) = new;
            }
            Err(error) => {
                tracing::error!("the tokens and the certificate of the page stay as they were: {error}");
            }
        }
    }

    pub(super) fn tokens(&self) -> Arc<Tokens> {
        self.read.read().unwrap_or_else(PoisonError::into_inner).tokens.clone()
    }

    pub(super) fn tls(&self) -> Option<ServerTls> {
        self.read.read().unwrap_or_else(PoisonError::into_inner).tls.clone()
    }
}

fn read(config: &HttpConfig) -> Result<Read, HttpError> {
    let tls = match (&config.cert_file, &config.key_file) {
        (Some(cert_file), Some(key_file)) => {
            let cert_file = secret::locate("http.cert_file", cert_file)?;
            let key_file = secret::locate_guarded("http.key_file", key_file)?;
            Some(ServerTls::new(&cert_file, &key_file)?)
        }
        _ => None,
    };
    Ok(Read { tokens: Arc::new(Tokens::read(config)?), tls })
}
