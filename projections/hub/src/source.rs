//! What streams of parcels have in common: whose they are, how a message is stored, and how connecting is retried.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::intake::{Intake, Refusal};
use crate::metrics::Counters;
use crate::parcel::{Parcel, ParcelError};

mod standings;

pub(crate) use standings::{Standing, Standings, State};

const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Where parcels go to.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) intake: Intake,
    pub(crate) counters: Arc<Counters>,
    /// The name of this process.
    pub(crate) name: String,
    /// Names of the processes whose leases run, in order.
    pub(crate) alive: watch::Receiver<Vec<String>>,
    /// The name under which this process holds what is its own; `None` while it has none.
    pub(crate) hub: watch::Receiver<Option<Arc<str>>>,
    pub(crate) lease: Duration,
    pub(crate) standings: Arc<Standings>,
}

/// Why consuming ended; it is begun again.
pub(crate) type Ended = Box<dyn Error + Send + Sync>;

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Stored, or no parcel at all.
    Done,
    /// Not at the moment.
    Again,
    /// Its log is stopped.
    Stopped(String),
}

impl Parts {
    /// Whether a share of what is divided among the processes is this one's.
    pub(crate) fn is_mine(&self, alive: &[String], share: &str) -> bool {
        owner(alive, share) == Some(&self.name)
    }

    /// Waits until a share is this process's, and says meanwhile that another one reads the source.
    pub(crate) async fn wait_turn(&self, source: &str, share: &str) {
        let is_anothers = |alive: &Vec<String>| !alive.is_empty() && !self.is_mine(alive, share);
        if self.alive.clone().wait_for(|alive| !alive.is_empty()).await.is_ok_and(|alive| is_anothers(&alive))
        {
            self.standings.set(source, Standing::wait);
        }
        self.wait_mine(share, true).await;
        self.standings.set(source, Standing::connect);
    }

    /// Waits until a share is this process's, or no longer.
    pub(crate) async fn wait_mine(&self, share: &str, mine: bool) {
        let mut alive = self.alive.clone();
        if alive.wait_for(|alive| self.is_mine(alive, share) == mine).await.is_err() {
            // The lease has ended, and with it the process will.
            std::future::pending().await
        }
    }

    /// Stores the parcel that `read` finds in `bytes` of a message, which came as `whence` says. `is_behind`: much more is still
    /// to be read there, so what is missing of its gateway is probably among it.
    pub(crate) async fn store(
        &self,
        bytes: usize,
        whence: &str,
        is_behind: bool,
        read: impl FnOnce() -> Result<Parcel, ParcelError> + Send + 'static,
    ) -> Fate {
        let Some(_room) = self.intake.room(bytes).await else { return Fate::Again };
        let parcel = match tokio::task::spawn_blocking(read).await {
            Ok(Ok(parcel)) => parcel,
            Ok(Err(error)) => {
                self.no_parcel(whence, &error);
                return Fate::Done;
            }
            Err(_) => return Fate::Again,
        };
        let gateway = parcel.manifest().gateway.clone();
        match self.intake.take(parcel).await {
            Ok(()) => {
                if is_behind {
                    self.intake.wanted.is_behind(&gateway);
                }
                Fate::Done
            }
            Err(Refusal::Busy(why)) => {
                tracing::debug!("a parcel of {whence} comes again: {why}");
                Fate::Again
            }
            Err(Refusal::Forked(why)) => Fate::Stopped(why),
        }
    }

    /// Counts a message that is none: it would be none each time it came.
    pub(crate) fn no_parcel(&self, whence: &str, why: &dyn std::fmt::Display) {
        self.counters.malformed.fetch_add(1, Ordering::Relaxed);
        tracing::warn!("a message of {whence} is not a parcel and is passed over: {why}");
    }
}

/// Which of the processes has a share, such as what a gateway sends: for each they have another order, so that one that
/// comes or goes moves only its own shares.
pub(crate) fn owner<'a>(alive: &'a [String], share: &str) -> Option<&'a String> {
    alive.iter().max_by_key(|name| *blake3::hash(format!("{name} {share}").as_bytes()).as_bytes())
}

/// Runs something until `stopped`, and again after a growing pause when it has ended. `name` is that of the source.
pub(crate) async fn keep<F, R>(name: &str, parts: &Parts, mut stopped: watch::Receiver<bool>, mut run: F)
where
    F: FnMut() -> R + Send,
    R: Future<Output = Ended> + Send,
{
    let mut retry = RETRY.0;
    parts.standings.set(name, |_| {});
    loop {
        let begun = Instant::now();
        let why = tokio::select! {
            why = run() => why,
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        parts.standings.set(name, |standing| standing.fail(&why.to_string()));
        if begun.elapsed() > RETRY.1 {
            retry = RETRY.0;
        }
        tracing::warn!("{name}: {why}; trying again in {} ms", retry.as_millis());
        tokio::select! {
            () = tokio::time::sleep(retry) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        retry = (retry * 2).min(RETRY.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_leaves_moves_only_its_own_share() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let gateways: Vec<String> = (0..300).map(|number| format!("plant-{number}")).collect();
        for name in &names {
            let share = gateways.iter().filter(|gateway| owner(&names, gateway) == Some(name)).count();
            assert!((60..=140).contains(&share), "{name} has {share}");
        }
        for gateway in &gateways {
            let before = owner(&names, gateway).unwrap();
            let after = owner(&names[..2], gateway).unwrap();
            assert!(before == after || before == "c", "{gateway}");
        }
        assert_eq!(owner(&[], "plant"), None);
    }
}
