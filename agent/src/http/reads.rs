//! Reads of the log and of large views, on blocking threads: few at a time, with a time limit, cancelled with their
//! request.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use fieldlog_projections::{Chunk, Record, Seq};
use tokio::sync::{Semaphore, oneshot};

use super::problem::Problem;
use crate::log::{LogReader, Wanted};

/// Concurrent reads of each kind. One kind must not delay the other: event streams read a little at every commit.
const AT_ONCE: usize = 2;
/// Time limit of a read.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A replay for a past state may take longer, since it cannot be made smaller.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(60);

/// A copy of the whole log takes as long as it takes, but does not go on for ever at a disk that hangs.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(12 * 3_600);

/// The permits.
#[derive(Debug)]
pub(super) struct Reads {
    long: Arc<Semaphore>,
    short: Arc<Semaphore>,
    replay: Arc<Semaphore>,
    scrape: Arc<Semaphore>,
    backup: Arc<Semaphore>,
}

/// Lets a read check whether anyone still waits for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Cancels when the request is answered, has timed out or was dropped.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Reads {
    pub(super) fn new() -> Reads {
        let permits = |at_once| Arc::new(Semaphore::new(at_once));
        Reads {
            long: permits(AT_ONCE),
            short: permits(AT_ONCE),
            replay: permits(1),
            scrape: permits(1),
            backup: permits(1),
        }
    }

    /// A read that may scan the whole log.
    pub(super) async fn long<T, F>(&self, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Cancel) -> Result<T, Problem> + Send + 'static,
    {
        run(&self.long, TIMEOUT, work).await
    }

    /// A replay of a past state. It holds a whole view, so there is one at a time.
    pub(super) async fn replay<T, F>(&self, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Cancel) -> Result<T, Problem> + Send + 'static,
    {
        run(&self.replay, REPLAY_TIMEOUT, work).await
    }

    /// A read of the view, or of a bounded part of the log.
    pub(super) async fn short<T, F>(&self, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Cancel) -> Result<T, Problem> + Send + 'static,
    {
        run(&self.short, TIMEOUT, work).await
    }

    /// A read for the metrics: it waits for no other read.
    pub(super) async fn scrape<T, F>(&self, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Cancel) -> Result<T, Problem> + Send + 'static,
    {
        run(&self.scrape, TIMEOUT, work).await
    }

    /// A copy of the whole log, one at a time.
    pub(super) async fn backup<T, F>(&self, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Cancel) -> Result<T, Problem> + Send + 'static,
    {
        run(&self.backup, BACKUP_TIMEOUT, work).await
    }

    /// Waits until no read is running, and prevents further ones.
    pub(super) async fn finished(&self) {
        let single = [&self.replay, &self.scrape, &self.backup].map(|kind| (kind, 1));
        for (kind, at_once) in [(&self.long, AT_ONCE), (&self.short, AT_ONCE)].into_iter().chain(single) {
            if let Ok(all) = kind.acquire_many(at_once as u32).await {
                all.forget();
            }
        }
    }
}

async fn run<T, F>(permits: &Arc<Semaphore>, limit: Duration, work: F) -> Result<T, Problem>
where
    T: Send + 'static,
    F: FnOnce(&Cancel) -> Result<T, Problem> + Send + 'static,
{
    let (answer, mut answered) = oneshot::channel();
    // Whoever asked may have gone.
    let work = Box::new(move |cancel: &Cancel| drop(answer.send(work(cancel))));
    done(permits, limit, work).await?;
    answered.try_recv().unwrap_or_else(|error| Err(ended(&error)))
}

/// Any work, in a box: there would otherwise be a task of its own type, with all that belongs to it, for each kind of read.
async fn done(
    permits: &Arc<Semaphore>,
    limit: Duration,
    work: Box<dyn FnOnce(&Cancel) + Send>,
) -> Result<(), Problem> {
    let cancel = CancelOnDrop(Cancel::default());
    let for_work = cancel.0.clone();
    let done = async {
        let permit = permits.clone().acquire_owned().await.map_err(|_| Problem::stopping())?;
        // The permit moves with the work: an abandoned read still counts until it has noticed.
        let work = tokio::task::spawn_blocking(move || {
            work(&for_work);
            drop(permit);
        });
        work.await.map_err(|error| ended(&error))
    };
    tokio::time::timeout(limit, done).await.unwrap_or_else(|_| Err(too_slow(limit)))
}

fn ended(why: &dyn std::fmt::Display) -> Problem {
    Problem::internal(format!("a read ended: {why}"))
}

fn too_slow(limit: Duration) -> Problem {
    let detail = format!(
        "the log could not be read in {} s; ask for less of it with `from` and `to`, or try again when fewer others read",
        limit.as_secs()
    );
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "too-slow", "The read took too long", detail)
}

/// How a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    /// Everything up to `until` was visited.
    All,
    /// The visitor stopped.
    Enough,
    /// The maximum number of records was visited; with the last position.
    UpTo(Seq),
}

/// The records to visit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) from: Seq,
    /// The last one; the view's position, so that all names are known.
    pub(super) until: Seq,
    /// Maximum records to visit.
    pub(super) records_max: u64,
}

/// Visits records in order until the visitor stops.
pub(super) fn scan(
    reader: &LogReader,
    stretch: Stretch,
    cancel: &Cancel,
    visit: impl FnMut(&Record<'_>) -> Result<ControlFlow<()>, Problem>,
) -> Result<Scanned, Problem> {
    scan_for(reader, stretch, &Wanted::default(), cancel, visit)
}

/// As [`scan`], but may skip records that are not wanted.
pub(super) fn scan_for(
    reader: &LogReader,
    stretch: Stretch,
    wanted: &Wanted,
    cancel: &Cancel,
    mut visit: impl FnMut(&Record<'_>) -> Result<ControlFlow<()>, Problem>,
) -> Result<Scanned, Problem> {
    if stretch.from > stretch.until {
        return Ok(Scanned::All);
    }
    let mut left = stretch.records_max;
    let ended = reader.scan_for(stretch.from, wanted, |chunk| {
        if cancel.is_set() {
            return ControlFlow::Break(Err(Problem::stopping()));
        }
        match visit_chunk(chunk, stretch, &mut left, &mut visit) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(scanned)) => ControlFlow::Break(Ok(scanned)),
            Err(problem) => ControlFlow::Break(Err(problem)),
        }
    })?;
    ended.unwrap_or(Ok(Scanned::All))
}

fn visit_chunk(
    chunk: &Chunk<'_>,
    stretch: Stretch,
    left: &mut u64,
    visit: &mut impl FnMut(&Record<'_>) -> Result<ControlFlow<()>, Problem>,
) -> Result<Option<Scanned>, Problem> {
    let mut records = chunk.records();
    let unreadable =
        |error: &dyn std::fmt::Display| Problem::internal(format!("the log cannot be read: {error}"));
    while let Some(record) = records.next_record().map_err(|e| unreadable(&e))? {
        if record.seq < stretch.from {
            continue;
        }
        if record.seq > stretch.until {
            return Ok(Some(Scanned::All));
        }
        if *left == 0 {
            return Ok(Some(Scanned::UpTo(Seq(record.seq.0 - 1))));
        }
        *left -= 1;
        if visit(&record)?.is_break() {
            return Ok(Some(Scanned::Enough));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_third_read_waits_and_a_panic_is_an_answer() {
        let reads = Arc::new(Reads::new());
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(std::sync::Mutex::new(gate));
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let (reads, gate) = (reads.clone(), gate.clone());
            waiting.spawn(async move {
                reads.long(move |_| gate.lock().unwrap().recv().map_err(|_| Problem::stopping())).await
            });
        }
        while reads.long.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..3 {
            release.send(()).unwrap();
        }
        while let Some(done) = waiting.join_next().await {
            assert!(done.unwrap().is_ok());
        }
        let panicked = reads.short(|_| -> Result<(), Problem> { panic!("in a test") }).await;
        assert_eq!(panicked.unwrap_err().code, "internal");
        reads.finished().await;
    }

    #[tokio::test]
    async fn a_read_nobody_waits_for_is_told_so() {
        let reads = Reads::new();
        let (seen, noticed) = std::sync::mpsc::channel();
        let work = reads.long(move |cancel| {
            while !cancel.is_set() {
                std::thread::sleep(Duration::from_millis(1));
            }
            seen.send(()).map_err(|_| Problem::stopping())
        });
        assert!(tokio::time::timeout(Duration::from_millis(20), work).await.is_err());
        reads.finished().await;
        noticed.recv().unwrap();
    }
}
