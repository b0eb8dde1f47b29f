//! The disk under the log, with counters and a seal.

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use redb::{BackendError, StorageBackend};

/// Disk writes since the start.
#[derive(Debug, Default)]
pub struct DiskStats {
    /// Number of commits, of all kinds.
    pub commits: AtomicU64,
    /// Bytes written.
    pub bytes_written: AtomicU64,
    /// Calls to fsync.
    pub syncs: AtomicU64,
    /// Time spent in fsync, in microseconds.
    pub sync_micros: AtomicU64,
    /// Commits that went to the journal.
    pub journal_commits: AtomicU64,
    /// Commits that only the journal had when the log was opened.
    pub journal_found: AtomicU64,
}

/// Once closed, nothing is written to the disk any more. Clones share the state.
#[derive(Clone, Debug, Default)]
pub(super) struct Seal(Arc<AtomicBool>);

impl Seal {
    pub(super) fn close(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the log is damaged, and left as it is")),
            false => Ok(()),
        }
    }
}

/// The disk as the store sees it: counts writes, and stops them once it is sealed.
#[derive(Debug)]
pub(super) struct Disk<D: ?Sized> {
    pub(super) disk: Arc<D>,
    pub(super) stats: Arc<DiskStats>,
    pub(super) seal: Seal,
}

impl<D: StorageBackend + ?Sized> StorageBackend for Disk<D> {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.seal.check()?;
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.seal.check()?;
        let begin = Instant::now();
        let result = self.disk.sync_data();
        self.stats.syncs.fetch_add(1, Ordering::Relaxed);
        self.stats.sync_micros.fetch_add(begin.elapsed().as_micros() as u64, Ordering::Relaxed);
        result
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.seal.check()?;
        self.stats.bytes_written.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.disk.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.disk.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.disk.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.disk.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.disk.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.disk.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.disk.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.disk.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passes_a_closed_seal() {
        let (seal, stats) = (Seal::default(), Arc::new(DiskStats::default()));
        let disk = Arc::new(redb::backends::InMemoryBackend::new());
        let sealed = Disk { disk, stats: stats.clone(), seal: seal.clone() };
        sealed.set_len(10).unwrap();
        sealed.write(0, b"a").unwrap();
        seal.close();
        assert!(sealed.write(0, b"b").is_err() && sealed.set_len(0).is_err() && sealed.sync_data().is_err());
        let mut found = [0];
        sealed.read(0, &mut found).unwrap();
        assert_eq!((found, sealed.len().unwrap()), (*b"a", 10));
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        assert_eq!((count(&stats.bytes_written), count(&stats.syncs)), (1, 0), "it counts what did not pass");
    }
}
