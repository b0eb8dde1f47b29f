//! `fieldlog-hub load`: brings the log of a gateway from a file into the tables, the way that its parcels come otherwise.
//!
//! The process has a lease of its own and takes gateways like any other, so hubs may run meanwhile. It is not alone in
//! writing: whatever is there already is recognised, and nothing is noted of how far it is.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fieldlog_projections::Seq;
use fieldlog_wire::Manifest;
use futures_util::{StreamExt, stream};
use tokio::sync::{mpsc, watch};

use crate::config::{Config, Postgres};
use crate::intake::{Intake, Refusal};
use crate::metrics::Counters;
use crate::parcel::{Parcel, ParcelError};
use crate::postgres::{Link, chain, current_log, enter_older};
use crate::run::{RunError, lease};
use crate::{text, writer};

mod file;

pub use file::FileError;

use file::File;

/// Parcels that are on their way at once.
const AT_ONCE: usize = 16;
/// After this time a parcel that could not be stored is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// Between two words about how far it is.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Why not everything was loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A parcel in a file.
    #[error(
        "{path}: its {number}. parcel cannot be read: {source}; is it from a newer fieldlog than this hub?", path = .path.display()
    )]
    Parcel {
        /// The file.
        path: PathBuf,
        /// Which one, from 1.
        number: u64,
        /// Why.
        source: ParcelError,
    },
    /// The file breaks off.
    #[error(
        "{path} breaks off at byte {at}: it was cut, as by a full disk, or its export ended early. {before}; export the log again \
         and load that file, which goes on from here", path = .path.display()
    )]
    Cut {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is in the tables nevertheless.
        before: String,
    },
    /// The tables have a newer log, as it seems.
    #[error(
        "{path} is of an older log of the gateway {gateway}, epoch {epoch}, as it seems: the tables have one of epoch {newest} that ends \
         later, but does not say that it was begun after this one. If this one is older, load it with `--older`, and the other one \
         stays the current one", path = .path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Whose log.
        gateway: String,
        /// Its epoch.
        epoch: String,
        /// That of the one in the tables.
        newest: String,
    },
    /// Another history.
    #[error("{path} is not loaded: {why}", path = .path.display())]
    Forked {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The database.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Somebody wants it to end.
    #[error("stopped; run it again, and it goes on: what is in the tables already is recognised")]
    Stopped,
}

impl LoadError {
    /// The exit code of the process, as in `sysexits.h`.
    pub fn exit_code(&self) -> u8 {
        match self {
            LoadError::File(FileError::Read { .. }) => 66,
            LoadError::Run(error) => error.exit_code(),
            LoadError::Stopped => 75,
            _ => 65,
        }
    }
}

/// Loads files, one after the other. `say` gets what has become of each. `older`: their logs came before those that the tables
/// have, which stay the current ones of their gateways.
///
/// # Errors
/// [`LoadError`]; what was loaded before stays.
pub async fn load(
    config: &Config,
    paths: &[PathBuf],
    older: bool,
    mut down: watch::Receiver<bool>,
    say: impl Fn(String),
) -> Result<(), LoadError> {
    let files = paths.iter().map(|path| File::look(path)).collect::<Result<Vec<_>, _>>()?;
    let mut lease = lease::start(&own_name()?, &config.postgres, config.lease);
    let mut hub = lease.hub.clone();
    let counters = Arc::new(Counters::default());
    let (intake, mut writers) = writer::start(&config.postgres, config.lease, &hub, &counters);
    let loader = Loader { postgres: config.postgres.clone(), lease: config.lease, older, intake, counters };
    let work = async move {
        // Before there are tables nothing can be looked up in them. It ends only with the lease.
        if hub.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
        for file in files {
            say(loader.load(Arc::new(file)).await?);
        }
        Ok(())
    };
    let ended = tokio::select! {
        ended = work => ended,
        error = lease.ended() => Err(error.into()),
        _ = down.wait_for(|down| *down) => Err(LoadError::Stopped),
    };
    // The last handle of what they take from is gone with the work.
    while writers.join_next().await.is_some() {}
    lease.release().await;
    ended
}

/// A name that no configuration can have; with its blank it has no share of what hubs divide among themselves.
fn own_name() -> Result<String, RunError> {
    let mut random = [0; 4];
    getrandom::fill(&mut random)
        .map_err(|error| RunError::Database { why: format!("there are no random numbers: {error}") })?;
    Ok(format!("load {:08x}", u32::from_le_bytes(random)))
}

/// Where parcels go to.
struct Loader {
    postgres: Postgres,
    lease: Duration,
    /// Whether somebody has said that the files are of older logs.
    older: bool,
    intake: Intake,
    counters: Arc<Counters>,
}

/// What of a file is in the tables.
struct Progress {
    began: Instant,
    said: Instant,
    parcels: u64,
    events: u64,
    /// The manifest of the newest parcel, and the first position of the first.
    reached: Option<(Manifest, Seq)>,
}

impl Loader {
    /// Loads a file; its words.
    async fn load(&self, file: Arc<File>) -> Result<String, LoadError> {
        self.place(&file).await?;
        let new = self.counters.events.load(Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(AT_ONCE);
        let source = file.clone();
        let reading =
            tokio::task::spawn_blocking(move || source.each(|parcel| sender.blocking_send(parcel).is_ok()));
        let parcels = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
        let stored = parcels.enumerate().map(|(at, parcel)| self.store(&file, at as u64 + 1, parcel));
        let mut stored = std::pin::pin!(stored.buffered(AT_ONCE));
        let mut progress = Progress::new();
        while let Some(manifest) = stored.next().await {
            progress.add(manifest?);
            progress.say(&file);
        }
        // A task that reads does not panic, and nobody aborts it.
        reading.await.unwrap_or(Ok(()))?;
        let words = progress.words(self.counters.events.load(Ordering::Relaxed) - new);
        match file.cut {
            Some(at) => Err(LoadError::Cut { path: file.path.clone(), at, before: words }),
            None => Ok(format!("{}: {words}", file.path.display())),
        }
    }

    /// Enters the log of a file as an older one if it is one, so that it does not pass for the newest of its gateway, as the log
    /// that comes last does.
    async fn place(&self, file: &File) -> Result<(), LoadError> {
        let Some(last) = file.last()? else { return Ok(()) };
        let parcel = read(file, file.parcels, &last)?;
        let Some(ends) = parcel.events.last() else { return Ok(()) };
        let (gateway, epoch) = (parcel.manifest().gateway.to_string(), parcel.manifest().epoch);
        let database = |why: String| LoadError::Run(RunError::Database { why });
        let link =
            Link::open(&self.postgres, self.lease).await.map_err(|error| database(error.to_string()))?;
        let found = current_log(&link.client, &gateway, &epoch.to_string(), text::time(ends.recorded)).await;
        let Some(current) = found.map_err(|error| database(chain(&error)))? else { return Ok(()) };
        if self.older || current.is_successor {
            let entered = enter_older(&link.client, &gateway, epoch).await;
            entered.map_err(|error| database(error.to_string()))?;
            let newest = current.epoch;
            tracing::info!(
                "gateway {gateway}: epoch {epoch} is older; that of epoch {newest} stays the current one"
            );
        } else if current.ends_later {
            let (path, epoch) = (file.path.clone(), epoch.to_string());
            return Err(LoadError::Older { path, gateway, epoch, newest: current.epoch });
        }
        Ok(())
    }

    /// Stores a parcel, however long that takes.
    async fn store(&self, file: &File, number: u64, bytes: Vec<u8>) -> Result<Manifest, LoadError> {
        let _room = self.intake.room(bytes.len()).await;
        let mut is_said = false;
        loop {
            let parcel = tokio::task::block_in_place(|| read(file, number, &bytes))?;
            let manifest = parcel.manifest().clone();
            match self.intake.take(parcel).await {
                Ok(()) => return Ok(manifest),
                Err(Refusal::Forked(why)) => {
                    return Err(LoadError::Forked { path: file.path.clone(), why });
                }
                Err(Refusal::Busy(why)) => {
                    // A hub that has just stored something of this gateway holds it; that is no fault.
                    if std::mem::replace(&mut is_said, true) {
                        tracing::warn!("{}, parcel {number}: {why}; trying again", file.path.display());
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

/// Reads a parcel, which has its manifest with it.
fn read(file: &File, number: u64, bytes: &[u8]) -> Result<Parcel, LoadError> {
    Parcel::read(bytes, |_| None).map_err(|source| LoadError::Parcel {
        path: file.path.clone(),
        number,
        source,
    })
}

impl Progress {
    fn new() -> Progress {
        let now = Instant::now();
        Progress { began: now, said: now, parcels: 0, events: 0, reached: None }
    }

    fn add(&mut self, manifest: Manifest) {
        self.parcels += 1;
        self.events += u64::from(manifest.events);
        let first = self.reached.take().map_or(manifest.first, |(_, first)| first);
        self.reached = Some((manifest, first));
    }

    /// Says now and then how far it is.
    fn say(&mut self, file: &File) {
        if self.said.elapsed() < SAY_EVERY {
            return;
        }
        self.said = Instant::now();
        let (done, all) = (self.parcels as f64, file.parcels as f64);
        tracing::info!(
            "{}: {} of {} parcels are in the tables ({:.0} %), about {:.0} s left",
            file.path.display(),
            self.parcels,
            file.parcels,
            done * 100.0 / all,
            self.began.elapsed().as_secs_f64() * (all - done) / done
        );
    }

    fn words(&self, new: u64) -> String {
        let Some((manifest, first)) = &self.reached else { return "there is nothing in it".into() };
        let Manifest { gateway, epoch, last, head, .. } = manifest;
        let of_head = if last < head { format!(" of {head}") } else { String::new() };
        format!(
            "positions {first} to {last}{of_head} of the gateway {gateway}, epoch {epoch}, are in the tables; {new} of {} \
             events were new",
            self.events
        )
    }
}
