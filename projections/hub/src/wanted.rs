//! What gateways that post over HTTP are asked for in the answers to their parcels, and what parcels say about gaps.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fieldlog_projections::Seq;
use fieldlog_wire::Manifest;
use fieldlog_wire::resend::Resend;

/// Maximum losses that are remembered; others are said again when they are asked for again.
const LOST_MAX: usize = 10_000;
/// How long ago a parcel may be for a gateway to be one that posts.
const LATELY: Duration = Duration::from_secs(3_600);

/// Shared by the sources and by the task that asks.
#[derive(Debug, Default)]
pub(crate) struct Wanted(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By gateway.
    wanted: HashMap<String, Resend>,
    said: Said,
    /// When a gateway last sent a parcel over HTTP.
    posted: HashMap<String, Instant>,
    /// When a gateway's stream was last found to hold much that is not read yet.
    behind: HashMap<String, Instant>,
}

/// What was said since the last look.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Requests that gateways have got.
    pub(crate) asked: Vec<Resend>,
    /// Ranges that gateways do not have any more.
    pub(crate) lost: Vec<Resend>,
}

impl Wanted {
    /// Replaces what is wanted.
    pub(crate) fn want(&self, all: impl Iterator<Item = Resend>) {
        self.inner().wanted = all.map(|resend| (resend.gateway.clone(), resend)).collect();
    }

    /// What is wanted of a gateway's log that has sent a parcel over HTTP; it is told to the gateway now.
    pub(crate) fn take(&self, gateway: &str, epoch: &str) -> Option<Resend> {
        let mut inner = self.inner();
        match inner.posted.get_mut(gateway) {
            Some(at) => *at = Instant::now(),
            None => {
                inner.posted.insert(gateway.to_owned(), Instant::now());
            }
        }
        if inner.wanted.get(gateway)?.epoch != epoch {
            return None;
        }
        let resend = inner.wanted.remove(gateway)?;
        inner.said.asked.push(resend.clone());
        Some(resend)
    }

    /// Whether a gateway has lately sent something over HTTP.
    pub(crate) fn posts(&self, gateway: &str) -> bool {
        self.inner().posted.get(gateway).is_some_and(|at| at.elapsed() < LATELY)
    }

    /// A gateway says that it does not have a range any more.
    pub(crate) fn lost(&self, manifest: &Manifest, range: (Seq, Seq)) {
        let (gateway, epoch) = (manifest.gateway.to_string(), manifest.epoch.to_string());
        let lost = &mut self.inner().said.lost;
        if lost.len() < LOST_MAX {
            lost.push(Resend { gateway, epoch, ranges: vec![range] });
        }
    }

    /// What was said.
    pub(crate) fn said(&self) -> Said {
        std::mem::take(&mut self.inner().said)
    }

    /// Much of what the gateway has sent is still to be read, so gaps say little.
    pub(crate) fn is_behind(&self, gateway: &str) {
        self.inner().behind.insert(gateway.to_owned(), Instant::now());
    }

    /// Whether that was so within this time; forgets those of which it was not.
    pub(crate) fn was_behind(&self, gateway: &str, within: Duration) -> bool {
        let mut inner = self.inner();
        inner.behind.retain(|_, at| at.elapsed() < within);
        inner.behind.contains_key(gateway)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_told_once_and_only_about_its_log() {
        let wanted = Wanted::default();
        let resend = Resend { gateway: "a".into(), epoch: "e".into(), ranges: vec![(Seq(1), Seq(2))] };
        wanted.want([resend.clone()].into_iter());
        assert!(!wanted.posts("b"));
        assert_eq!(wanted.take("b", "e"), None);
        assert!(wanted.posts("b"));
        assert_eq!(wanted.take("a", "f"), None);
        assert_eq!(wanted.take("a", "e"), Some(resend.clone()));
        assert_eq!(wanted.take("a", "e"), None);
        assert_eq!(wanted.said().asked, [resend]);
        assert!(wanted.said().asked.is_empty());
    }

    #[test]
    fn who_was_behind_is_forgotten() {
        let wanted = Wanted::default();
        wanted.is_behind("a");
        assert!(wanted.was_behind("a", Duration::from_secs(60)) && !wanted.was_behind("b", Duration::MAX));
        assert!(!wanted.was_behind("a", Duration::ZERO));
    }
}
