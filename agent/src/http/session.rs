//! Sessions of browsers that have logged in with a token. They are only in memory: a restart ends them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use fieldlog_wire::api::session::Grant;
use subtle::ConstantTimeEq;

use super::App;

/// Where browsers log in and out; needs no token.
pub(super) const PATH: &str = "/api/v1/session";
/// Sessions at a time; one more ends the oldest.
const SESSIONS_MAX: usize = 64;
/// How long a session lasts.
pub(super) const LIFETIME: Duration = Duration::from_secs(7 * 86_400);
const ID_BYTES: usize = 32;

struct Session {
    id: String,
    grant: Grant,
    until: Instant,
}

/// The open sessions, the oldest first.
#[derive(Default)]
pub(super) struct Sessions(Mutex<VecDeque<Session>>);

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions(…)")
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session and returns its id, 256 random bits.
    pub(super) fn open(&self, grant: Grant, now: Instant) -> Result<String, getrandom::Error> {
        let mut bytes = [0; ID_BYTES];
        getrandom::fill(&mut bytes)?;
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut sessions = self.lock();
        while sessions.len() >= SESSIONS_MAX || sessions.front().is_some_and(|session| session.until <= now) {
            sessions.pop_front();
        }
        sessions.push_back(Session { id: id.clone(), grant, until: now + LIFETIME });
        Ok(id)
    }

    /// What the session with this id allows.
    pub(super) fn grant(&self, id: &str, now: Instant) -> Option<Grant> {
        let sessions = self.lock();
        let found = sessions.iter().find(|session| is(session, id));
        found.filter(|session| session.until > now).map(|session| session.grant)
    }

    /// Ends one session.
    pub(super) fn close(&self, id: &str) {
        self.lock().retain(|session| !is(session, id));
    }

    /// Ends all sessions.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }
}

fn is(session: &Session, id: &str) -> bool {
    session.id.as_bytes().ct_eq(id.as_bytes()).into()
}

/// The name of the cookie. Browsers share cookies among all ports of a host, and so among gateways that are reached through
/// tunnels.
pub(super) fn cookie_name(gateway_id: &str) -> String {
    format!("fieldlog-{gateway_id}")
}

/// The value of a cookie of the request.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// What the session of a request allows.
pub(super) fn grant(app: &App, headers: &HeaderMap) -> Option<Grant> {
    app.credentials.sessions.grant(id(app, headers)?, app.side.clock.now())
}

/// The id that a request has.
pub(super) fn id<'h>(app: &App, headers: &'h HeaderMap) -> Option<&'h str> {
    cookie(headers, &name(app))
}

/// The name of the cookie of this gateway.
pub(super) fn name(app: &App) -> String {
    cookie_name(&app.side.config.borrow().gateway_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lasts_for_its_time_and_until_it_is_closed() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let id = sessions.open(Grant::Read, now).unwrap();
        assert_eq!(id.len(), 64);
        assert_eq!(sessions.grant(&id, now + LIFETIME - Duration::from_secs(1)), Some(Grant::Read));
        assert_eq!(sessions.grant(&id, now + LIFETIME), None);
        assert_eq!(sessions.grant(&id[1..], now), None);
        let other = sessions.open(Grant::Admin, now).unwrap();
        assert_ne!(id, other);
        sessions.close(&id);
        assert_eq!((sessions.grant(&id, now), sessions.grant(&other, now)), (None, Some(Grant::Admin)));
        sessions.clear();
        assert_eq!(sessions.grant(&other, now), None);
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_ends() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let ids: Vec<_> = (0..=SESSIONS_MAX).map(|_| sessions.open(Grant::Read, now).unwrap()).collect();
        assert_eq!((sessions.grant(&ids[0], now), sessions.grant(&ids[1], now)), (None, Some(Grant::Read)));
        sessions.open(Grant::Read, now + LIFETIME).unwrap();
        assert_eq!(sessions.lock().len(), 1, "those that are over stay");
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=1; fieldlog-gw=x=y;b=2".parse().unwrap());
        headers.append(header::COOKIE, "c=3".parse().unwrap());
        let check = |name: &str, expected| assert_eq!(cookie(&headers, name), expected, "{name}");
        check("fieldlog-gw", Some("x=y"));
        check("c", Some("3"));
        check("fieldlog-g", None);
        assert_eq!(cookie_name("gw"), "fieldlog-gw");
    }
}
