//! How the stores are doing, for those who ask this process.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What a store does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// It is not configured.
    #[default]
    Off,
    /// It begins anew, or catches up with what it has never had.
    Rebuilding,
    /// It has what the tables have, or is about to.
    Live,
    /// It is not written at the moment.
    Failing,
}

impl State {
    /// As people and programs read it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Off => "off",
            State::Rebuilding => "rebuilding",
            State::Live => "live",
            State::Failing => "failing",
        }
    }
}

/// How a store is doing, as far as this process's gateways go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) state: State,
    /// Why it is failing.
    pub(crate) why: Option<String>,
    /// Logs of gateways that this process holds.
    pub(crate) gateways: usize,
    /// Events of them in PostgreSQL.
    pub(crate) events: i64,
    /// How many of these the store lacks.
    pub(crate) lag_events: i64,
    /// For how long it has not had everything.
    pub(crate) behind_s: f64,
    /// While it is rebuilding: how long that will take at the speed that it has had.
    pub(crate) eta_s: Option<f64>,
    pub(crate) generation: i64,
    /// Documents that the store would not take as they are, and that it has without their content.
    pub(crate) reduced: u64,
}

/// The standings by the names of the stores.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<BTreeMap<&'static str, Entry>>);

#[derive(Debug)]
struct Entry {
    standing: Standing,
    /// When it last had everything, or when it was first looked at.
    complete: Instant,
    /// The generation in which it has had everything once, and where the way there began.
    complete_in: Option<i64>,
    began: Option<(Instant, i64)>,
}

impl Board {
    /// Tells how a store is doing that works.
    pub(crate) fn set(&self, store: &'static str, standing: Standing) {
        self.change(store, |entry| {
            let (now, generation) = (Instant::now(), standing.generation);
            let is_first = entry.complete_in != Some(generation);
            entry.standing = standing;
            let standing = &mut entry.standing;
            if standing.lag_events == 0 {
                (entry.complete, entry.complete_in, entry.began) = (now, Some(generation), None);
            }
            standing.state =
                if is_first && standing.lag_events > 0 { State::Rebuilding } else { State::Live };
            if standing.state == State::Rebuilding {
                let (began, lag) = *entry.began.get_or_insert((now, standing.lag_events));
                let done = (lag - standing.lag_events) as f64;
                let eta = began.elapsed().as_secs_f64() * standing.lag_events as f64 / done;
                standing.eta_s = Some(eta).filter(|eta| done > 0.0 && eta.is_finite());
            }
        });
    }

    /// Tells why a store is not written.
    pub(crate) fn fail(&self, store: &'static str, why: &str, reduced: u64) {
        self.change(store, |entry| {
            let standing = &mut entry.standing;
            (standing.state, standing.why, standing.eta_s) = (State::Failing, Some(why.to_owned()), None);
            standing.reduced = reduced;
        });
    }

    /// How a store is doing.
    pub(crate) fn of(&self, store: &str) -> Standing {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(store).map_or_else(Standing::default, |entry| {
            let is_behind = entry.standing.lag_events > 0 || entry.standing.state == State::Failing;
            let behind_s = if is_behind { entry.complete.elapsed().as_secs_f64() } else { 0.0 };
            Standing { behind_s, ..entry.standing.clone() }
        })
    }

    fn change(&self, store: &'static str, change: impl FnOnce(&mut Entry)) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let new = || Entry { standing: Standing::default(), complete: now, complete_in: None, began: None };
        change(entries.entry(store).or_insert_with(new));
    }
}
