//! The accounts of all received logs, and the report. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use fieldlog_projections::{Anchor, Epoch, Seq};
use serde::Serialize;

pub use crate::account::{Account, Arrival, Counts, Fault, Forked, Taken};
use crate::manifest::Manifest;

/// Maximum missing ranges in a report.
const MISSING_LISTED: usize = 20;

/// The accounts, by gateway and epoch.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    accounts: BTreeMap<(Arc<str>, Epoch), Account>,
    joined_late: bool,
}

impl Ledger {
    /// An empty ledger. With `joined_late`, positions before the first one that arrives do not count as missing.
    pub fn new(joined_late: bool) -> Ledger {
        Ledger { accounts: BTreeMap::new(), joined_late }
    }

    /// Enters a parcel; returns what is new in it, and what contradicts earlier arrivals.
    pub fn record(&mut self, arrival: &Arrival<'_>) -> Taken {
        self.account(arrival.manifest).record(arrival)
    }

    /// Enters a parcel, unless it belongs to a different history.
    ///
    /// # Errors
    /// [`Forked`]: nothing of the parcel is entered, but it is counted.
    pub fn take_unless_forked(&mut self, arrival: &Arrival<'_>) -> Result<Taken, Forked> {
        self.account(arrival.manifest).take_unless_forked(arrival)
    }

    /// Counts a parcel that was refused in an earlier run.
    pub fn refused_again(&mut self, manifest: &Manifest, faults: &[Fault]) {
        let account = self.account(manifest);
        for fault in faults {
            account.refuse(manifest, *fault);
        }
    }

    /// Enters a parcel that was taken in an earlier run.
    pub fn again(&mut self, manifest: &Manifest, recomputed: bool, taken: &Taken, events: u64) {
        // The recomputed links are not stored, only that they were; at the ends, the manifest has the links.
        let account = self.account(manifest);
        account.admit(manifest, None, taken, events);
        if recomputed {
            account.recomputed(taken);
        }
    }

    fn account(&mut self, manifest: &Manifest) -> &mut Account {
        let key = (manifest.gateway.clone(), manifest.epoch);
        self.accounts.entry(key).or_insert_with(|| Account::new(manifest.epoch))
    }

    /// Number of distinct events, over all logs.
    pub fn events(&self) -> u64 {
        self.accounts.values().map(|account| account.counts.events).sum()
    }

    /// The report on all logs.
    pub fn report(&self) -> Report {
        let report = |((gateway, _), account): (&(Arc<str>, Epoch), &Account)| {
            LogReport::of(gateway, account, self.joined_late)
        };
        Report { logs: self.accounts.iter().map(report).collect(), malformed: 0 }
    }
}

/// The report on everything received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Each log.
    pub logs: Vec<LogReport>,
    /// Messages that were not parcels.
    pub malformed: u64,
}

/// The report on one log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogReport {
    /// The gateway's id.
    pub gateway: String,
    /// The epoch of its log.
    pub epoch: String,
    /// First position that has arrived.
    pub first: Seq,
    /// Newest position that has arrived.
    pub newest: Seq,
    /// No position is missing up to here.
    pub contiguous: Seq,
    /// Missing ranges below the newest position, inclusive.
    pub missing: Vec<(Seq, Seq)>,
    /// The stated chain matches without a break up to here.
    pub chained: Seq,
    /// The chain was recomputed from the records up to here.
    pub recomputed: Seq,
    /// Priority copies that no parcel has covered yet.
    pub uncovered: u64,
    /// The chain at `chained`, for `fieldlog verify --anchor`.
    pub anchor: Option<Anchor>,
    /// Counters.
    #[serde(flatten)]
    pub counts: Counts,
    /// Contradictions: the first hundred.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Whether nothing is missing and there are no contradictions.
    pub fn is_clean(&self) -> bool {
        self.malformed == 0 && self.logs.iter().all(LogReport::is_clean)
    }

    /// One log's report.
    pub fn log(&self, gateway: &str, epoch: Epoch) -> Option<&LogReport> {
        let epoch = epoch.to_string();
        self.logs.iter().find(|log| log.gateway == gateway && log.epoch == epoch)
    }
}

impl LogReport {
    /// The report on one account. With `joined_late`, positions before the first one that has arrived do not count as
    /// missing.
    pub fn of(gateway: &str, account: &Account, joined_late: bool) -> LogReport {
        let (first, newest) = account.range().unwrap_or((Seq(1), Seq(0)));
        let from = if joined_late { first } else { Seq(1) };
        let missing = account.missing(from);
        let contiguous = missing.first().map_or(newest, |(first, _)| Seq(first.0 - 1));
        let (chained, recomputed) = account.chained(from);
        LogReport {
            gateway: gateway.to_owned(),
            epoch: account.epoch.to_string(),
            first,
            newest,
            contiguous,
            missing,
            chained,
            recomputed,
            uncovered: account.uncovered() as u64,
            anchor: account.anchor(from),
            counts: account.counts,
            faults: account.faults.clone(),
        }
    }

    /// Whether nothing is missing and there are no contradictions.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.counts.faults == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.logs.is_empty() {
            writeln!(f, "nothing has arrived")?;
        }
        self.logs.iter().try_for_each(|log| write!(f, "{log}"))?;
        if self.malformed > 0 {
            writeln!(f, "{} messages were not parcels; the log says why", self.malformed)?;
        }
        Ok(())
    }
}

impl fmt::Display for LogReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(f, "{} epoch {}", self.gateway, self.epoch)?;
        writeln!(
            f,
            "  {} events in {} parcels; duplicates: {} events, {} whole parcels; {} parcels out of order",
            counts.events,
            counts.parcels,
            counts.duplicate_events,
            counts.duplicate_parcels,
            counts.out_of_order
        )?;
        if counts.priority_events > 0 {
            writeln!(
                f,
                "  {} events came ahead of their turn; the parcels that cover {} of them are still to come",
                counts.priority_events, self.uncovered
            )?;
        }
        writeln!(
            f,
            "  complete up to {} (newest here {}, at the gateway {})",
            self.contiguous, self.newest, counts.head
        )?;
        writeln!(f, "  chain fits up to {}, computed again up to {}", self.chained, self.recomputed)?;
        if let Some(anchor) = &self.anchor {
            writeln!(f, "  anchor {anchor}")?;
        }
        if counts.refused_parcels > 0 {
            writeln!(f, "  {} parcels were refused, as they are of another history", counts.refused_parcels)?;
        }
        for (first, last) in self.missing.iter().take(MISSING_LISTED) {
            writeln!(f, "  MISSING {first} to {last}")?;
        }
        if let Some(more) = self.missing.len().checked_sub(MISSING_LISTED).filter(|more| *more > 0) {
            writeln!(f, "  MISSING {more} more ranges")?;
        }
        self.faults.iter().try_for_each(|fault| writeln!(f, "  {fault}"))?;
        if let Some(more) = counts.faults.checked_sub(self.faults.len() as u64).filter(|more| *more > 0) {
            writeln!(f, "  and {more} more contradictions")?;
        }
        if self.faults.iter().any(Fault::is_fork) {
            writeln!(
                f,
                "  After a FORK, events of one history are missing here. Look which gateways call themselves {}: give each \
                 a gateway_id of its own; where a copy or a backup of the log is in use, stop that agent, move its log away \
                 and start it once with --new-epoch.",
                self.gateway
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Fork { seq } => write!(
                f,
                "FORK at {seq}: another history with the same identity; a backup was restored, or two gateways share an id"
            ),
            Fault::Content { seq } => write!(f, "FORK at {seq}: the event came again with other content"),
            Fault::Altered { first, last } => {
                write!(
                    f,
                    "ALTERED between {first} and {last}: the records are not those that the chain was made of"
                )
            }
        }
    }
}
