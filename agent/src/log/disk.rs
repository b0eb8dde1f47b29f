//! The disk under the log, with a meter on it.

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use redb::{BackendError, StorageBackend};

/// What went to the disk since the start.
#[derive(Debug, Default)]
pub struct DiskStats {
    /// Commits to the log, whatever they were for.
    pub commits: AtomicU64,
    /// Bytes written.
    pub bytes_written: AtomicU64,
    /// Calls to fsync.
    pub syncs: AtomicU64,
    /// Time spent in fsync, in microseconds.
    pub sync_micros: AtomicU64,
}

/// A disk that counts.
#[derive(Debug)]
pub struct MeteredDisk<D> {
    disk: D,
    stats: Arc<DiskStats>,
}

impl<D> MeteredDisk<D> {
    /// Counts what goes to `disk`.
    pub fn new(disk: D, stats: Arc<DiskStats>) -> MeteredDisk<D> {
        MeteredDisk { disk, stats }
    }
}

impl<D: StorageBackend> StorageBackend for MeteredDisk<D> {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let begin = Instant::now();
        let result = self.disk.sync_data();
        self.stats.syncs.fetch_add(1, Ordering::Relaxed);
        self.stats.sync_micros.fetch_add(begin.elapsed().as_micros() as u64, Ordering::Relaxed);
        result
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
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
