//! Asks gateways for what is missing: where they take commands, else in the answer to their next parcel.
//!
//! Each process looks after the gateways that it holds. That two ask for the same for a moment does no harm: a gateway
//! sends a range that waits to be sent only once, and what comes twice is known.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fieldlog_projections::Seq;
use fieldlog_wire::resend::{self, Answer, Resend, SUBJECT};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::calls::Calls;
use crate::config::Postgres;
use crate::gaps::{self, Gap, State};
use crate::metrics::Counters;
use crate::postgres::{self, Gapped, Link, chain};
use crate::request::{Request, Silence};
use crate::wanted::Wanted;

/// Shortest and longest time between two looks.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// How long a gateway may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Gateways that are asked at once.
const AT_ONCE: usize = 16;
/// The longest time until a gateway is called again that does not answer.
const TRY_MAX: Duration = Duration::from_secs(600);

/// Asks.
pub(crate) struct Asker {
    pub(crate) postgres: Postgres,
    pub(crate) lease: Duration,
    /// A gap that is older is asked for.
    pub(crate) patience: Duration,
    /// The name under which this process holds gateways.
    pub(crate) hub: watch::Receiver<Option<Arc<str>>>,
    pub(crate) calls: Arc<Calls>,
    pub(crate) wanted: Arc<Wanted>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) link: Option<Link>,
    /// By the number of the log.
    pub(crate) logs: HashMap<i32, Watched>,
}

/// A log with gaps.
pub(crate) struct Watched {
    gateway: String,
    epoch: String,
    gaps: Vec<Gap>,
    /// What the table has.
    kept: Vec<Gap>,
    /// How many times in a row a call was not answered, and when it is called again.
    misses: u32,
    again: Instant,
}

impl Asker {
    /// Asks for ever.
    pub(crate) async fn run(mut self) {
        let mut said = false;
        loop {
            tokio::time::sleep((self.patience / 6).clamp(LOOK_EVERY.0, LOOK_EVERY.1)).await;
            match self.round().await {
                Ok(()) => said = false,
                Err(why) => {
                    (self.link, self.logs) = (None, HashMap::new());
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!("gaps are not asked for at the moment: {why}");
                    }
                }
            }
        }
    }

    async fn round(&mut self) -> Result<(), String> {
        let hub = self.hub.borrow().clone();
        let Some(hub) = hub else {
            self.logs.clear();
            self.wanted.want(std::iter::empty());
            return Ok(());
        };
        if self.link.as_ref().is_none_or(|link| link.client.is_closed()) {
            let link = Link::open(&self.postgres, self.lease).await;
            self.link = Some(link.map_err(|error| error.to_string())?);
        }
        let now = Timestamp::now();
        self.look(&hub, now).await?;
        self.listen(now);
        let over_http = self.ask(now).await;
        self.wanted.want(over_http.into_iter());
        self.keep().await
    }

    /// Reads what is missing.
    async fn look(&mut self, hub: &str, now: Timestamp) -> Result<(), String> {
        let Some(link) = &self.link else { return Ok(()) };
        let gapped = postgres::gapped(&link.client, hub).await.map_err(|error| chain(&error))?;
        let present: HashSet<i32> = gapped.iter().map(|gapped| gapped.log).collect();
        self.logs.retain(|log, _| present.contains(log));
        let new: Vec<i32> = present.into_iter().filter(|log| !self.logs.contains_key(log)).collect();
        let mut known = postgres::gaps(&link.client, &new).await.map_err(|error| chain(&error))?;
        for Gapped { log, gateway, epoch, missing } in gapped {
            let watched = self.logs.entry(log).or_insert_with(|| {
                let kept = known.remove(&log).unwrap_or_default();
                Watched { gateway, epoch, gaps: kept.clone(), kept, misses: 0, again: Instant::now() }
            });
            watched.gaps = gaps::update(&watched.gaps, &missing, now);
        }
        Ok(())
    }

    /// Enters what was said over HTTP and with parcels.
    fn listen(&mut self, now: Timestamp) {
        let said = self.wanted.said();
        let mut of = |resend: &Resend, change: &mut dyn FnMut(&mut Vec<Gap>)| {
            let is_it = |w: &&mut Watched| w.gateway == resend.gateway && w.epoch == resend.epoch;
            self.logs.values_mut().filter(is_it).for_each(|watched| change(&mut watched.gaps));
        };
        for resend in &said.asked {
            of(resend, &mut |gaps| gaps::ask(gaps, &resend.ranges, None, now));
            note(resend, "in the answer to its parcel");
            self.counters.resends.taken.fetch_add(1, Ordering::Relaxed);
        }
        for resend in &said.lost {
            of(resend, &mut |gaps| resend.ranges.iter().for_each(|range| gaps::lose(gaps, *range)));
            let Resend { gateway, epoch, ranges } = resend;
            tracing::warn!(
                "gateway {gateway} epoch {epoch}: {} is lost, as its log does not have it any more",
                list(ranges)
            );
        }
    }

    /// Calls the gateways; returns what nobody has answered.
    async fn ask(&mut self, now: Timestamp) -> Vec<Resend> {
        let (patience, wanted, calls) = (self.patience, &self.wanted, &self.calls);
        let due = self.logs.iter().filter_map(|(log, watched)| {
            let ranges = gaps::due(&watched.gaps, patience, now);
            let resend = Resend { gateway: watched.gateway.clone(), epoch: watched.epoch.clone(), ranges };
            let is_due = !resend.ranges.is_empty() && !wanted.was_behind(&watched.gateway, patience);
            is_due.then_some((*log, resend, watched.again <= Instant::now()))
        });
        let due: Vec<(i32, Resend, bool)> = due.collect();
        let answers = stream::iter(due).map(async |(log, resend, may_try)| {
            let answer = if may_try { Some(request(calls, &resend).await) } else { None };
            (log, resend, answer)
        });
        let answers: Vec<_> = answers.buffer_unordered(AT_ONCE).collect().await;
        let (mut over_http, resends) = (Vec::new(), &self.counters.resends);
        for (log, resend, answer) in answers {
            let Some(watched) = self.logs.get_mut(&log) else { continue };
            match answer {
                Some(Ok(answer)) => {
                    let refused = (!answer.accepted).then_some(&*answer.detail);
                    watched.misses = 0;
                    gaps::ask(&mut watched.gaps, &resend.ranges, refused, now);
                    match refused {
                        None => note(&resend, "where it takes commands"),
                        Some(why) => tracing::warn!(
                            "gateway {} does not send {} again: {why}",
                            resend.gateway,
                            list(&resend.ranges)
                        ),
                    }
                    let counter = if refused.is_some() { &resends.refused } else { &resends.taken };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                Some(Err(silence)) => {
                    if silence != Silence::Unconnected {
                        tracing::debug!("gateway {}: {silence}", resend.gateway);
                        resends.unanswered.fetch_add(1, Ordering::Relaxed);
                    }
                    let wait = patience.saturating_mul(1 << watched.misses.min(16)).min(TRY_MAX);
                    (watched.misses, watched.again) = (watched.misses + 1, Instant::now() + wait);
                    over_http.push(resend);
                }
                None => over_http.push(resend),
            }
        }
        over_http
    }

    /// Writes down what is not the same any more, once something has been done about a gap.
    async fn keep(&mut self) -> Result<(), String> {
        let Some(link) = &mut self.link else { return Ok(()) };
        for (log, watched) in &mut self.logs {
            let matters = watched.gaps.iter().any(|gap| gap.state != State::Expected);
            let keep = if matters { &watched.gaps[..] } else { &[] };
            if keep != watched.kept {
                let kept = postgres::keep_gaps(&mut link.client, *log, keep).await;
                kept.map_err(|error| chain(&error))?;
                watched.kept = keep.to_vec();
            }
        }
        Ok(())
    }
}

async fn request(calls: &Calls, resend: &Resend) -> Result<Answer, Silence> {
    let body = serde_json::to_vec(&resend::Request { resend: resend.clone() }).unwrap_or_default();
    let request = Request { body: body.into(), wait: ANSWER, expiry: ANSWER, traceparent: None };
    let answer = calls.ask(&resend.gateway, SUBJECT, &request).await?;
    Ok(serde_json::from_slice(&answer).unwrap_or_else(|_| {
        let detail = "its answer is not one to such a request; is it an older fieldlog?".into();
        Answer { accepted: false, detail }
    }))
}

fn note(resend: &Resend, how: &str) {
    tracing::info!("gateway {} is asked, {how}, to send {} again", resend.gateway, list(&resend.ranges));
}

fn list(ranges: &[(Seq, Seq)]) -> String {
    let words: Vec<String> = ranges.iter().map(|(first, last)| format!("{first} to {last}")).collect();
    format!("sequence {}", words.join(", "))
}
