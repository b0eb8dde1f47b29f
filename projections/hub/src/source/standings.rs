//! How the sources are doing, for those who ask this process.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// What this process does with a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// It has not reached it yet.
    #[default]
    Connecting,
    /// It reads it.
    Reading,
    /// Another process reads it.
    Waiting,
    /// It cannot read it at the moment, and tries again.
    Failing,
}

impl State {
    /// As people and programs read it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Connecting => "connecting",
            State::Reading => "reading",
            State::Waiting => "waiting",
            State::Failing => "failing",
        }
    }
}

/// How a source is doing here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) state: State,
    /// The last error of this process, and when that was.
    pub(crate) error: Option<(Timestamp, String)>,
    /// Subjects of NATS that are this process's and that it does not take, with the reasons.
    pub(crate) stopped: BTreeMap<String, String>,
    /// Records of Kafka that this process has not read yet.
    pub(crate) lag_records: Option<u64>,
    /// Parcels of which records of Kafka are missing so far.
    pub(crate) incomplete: Option<u64>,
}

impl Standing {
    /// It is this process's turn. What has failed goes on to be said until it is read.
    pub(crate) fn connect(&mut self) {
        if self.state == State::Waiting {
            self.state = State::Connecting;
        }
    }

    /// The source is read from now on.
    pub(crate) fn read(&mut self) {
        self.state = State::Reading;
    }

    /// Another process reads it from now on.
    pub(crate) fn wait(&mut self) {
        *self = Standing { state: State::Waiting, error: self.error.take(), ..Standing::default() };
    }

    /// Reading has ended.
    pub(crate) fn fail(&mut self, why: &str) {
        self.state = State::Failing;
        self.error = Some((Timestamp::now(), why.to_owned()));
        self.stopped.clear();
    }

    /// A part of it is not taken.
    pub(crate) fn stop(&mut self, subject: &str, why: &str) {
        self.error = Some((Timestamp::now(), format!("{subject}: {why}")));
        self.stopped.insert(subject.to_owned(), why.to_owned());
    }
}

/// The sources of this process by name.
#[derive(Debug, Default)]
pub(crate) struct Standings(Mutex<BTreeMap<String, Standing>>);

impl Standings {
    /// Changes what is said of a source.
    pub(crate) fn set(&self, name: &str, change: impl FnOnce(&mut Standing)) {
        let mut standings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(standings.entry(name.to_owned()).or_default());
    }

    /// All of them.
    pub(crate) fn all(&self) -> BTreeMap<String, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_said_until_the_source_is_read_and_its_words_stay() {
        let mut standing = Standing::default();
        standing.stop("plant", "forked");
        standing.fail("no answer");
        let error = |standing: &Standing| standing.error.clone().unwrap().1;
        assert_eq!((standing.state, standing.stopped.len()), (State::Failing, 0));
        standing.connect();
        assert_eq!(standing.state, State::Failing);
        standing.read();
        assert_eq!((standing.state, &*error(&standing)), (State::Reading, "no answer"));
        standing.lag_records = Some(7);
        standing.wait();
        assert_eq!((standing.state, standing.lag_records), (State::Waiting, None));
        standing.connect();
        assert_eq!((standing.state, &*error(&standing)), (State::Connecting, "no answer"));
    }
}
