//! A simulated disk with power loss and errors on demand.
//!
//! Synced data is kept. Later writes are remembered per sector, and at a power cut every sector is independently kept,
//! lost, torn or left at an intermediate state, so that later writes may survive where earlier ones are lost. A changed
//! length may be lost too. While the power is off every operation fails, so dropping a database then is the same as
//! killing its process: nothing that it does afterwards reaches the disk.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::rng::Rng;

/// The unit that a disk writes as a whole, unless it is torn.
const SECTOR: usize = 512;

/// The operations that a fault counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Changes of length.
    SetLen,
    /// Syncs.
    Sync,
    /// All changes: writes, changes of length, syncs.
    Change,
    /// Every operation.
    Any,
}

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power is cut in the middle of the operation.
    PowerCut,
    /// The operation fails, at most half done.
    Error(ErrorKind),
    /// The operation fails, and so do all of its kind until the disk is restarted.
    ErrorsFromNow(ErrorKind),
    /// A sync fails, and the data it covers is lost.
    SyncLoses,
    /// A sync fails, but the data it covers is durable.
    SyncKeeps,
}

/// One fault: at the `nth` operation (from 1) of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Which operations count.
    pub on: On,
    /// Which of them.
    pub nth: usize,
    /// The fault.
    pub fault: Fault,
}

/// A file on the disk. Clones refer to the same file.
#[derive(Clone, Debug)]
pub struct FaultDisk {
    state: Arc<Mutex<State>>,
    file: usize,
}

/// What a file has on the disk and in the page cache.
#[derive(Debug, Default)]
struct Content {
    durable: Vec<u8>,
    /// The content that reads see.
    cache: Vec<u8>,
    /// Contents of sectors since the last sync, oldest first.
    unsynced: BTreeMap<usize, Vec<[u8; SECTOR]>>,
    unsynced_lens: Vec<usize>,
}

#[derive(Debug)]
struct State {
    files: [Content; 2],
    plan: Option<Plan>,
    fired: bool,
    lasting: Option<(On, ErrorKind)>,
    power: bool,
    operations: usize,
    rng: Rng,
}

impl FaultDisk {
    /// An empty disk; `rng` decides about unsynced writes.
    pub fn new(rng: Rng) -> FaultDisk {
        FaultDisk::with_content(Vec::new(), rng)
    }

    /// A disk that holds `content`, synced.
    pub fn with_content(content: Vec<u8>, rng: Rng) -> FaultDisk {
        let file = Content { cache: content.clone(), durable: content, ..Content::default() };
        let state = State {
            files: [file, Content::default()],
            plan: None,
            fired: false,
            lasting: None,
            power: true,
            operations: 0,
            rng,
        };
        FaultDisk { state: Arc::new(Mutex::new(state)), file: 0 }
    }

    /// Another file on the same disk: faults count the operations on both, and the power is cut for both.
    #[must_use]
    pub fn beside(&self) -> FaultDisk {
        FaultDisk { state: self.state.clone(), file: 1 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans a fault; replaces one that has not occurred.
    pub fn plan(&self, plan: Plan) {
        let mut state = self.state();
        (state.plan, state.fired) = (Some(plan), false);
    }

    /// Runs something without the planned fault.
    pub fn unharmed<T>(&self, run: impl FnOnce() -> T) -> T {
        let plan = self.state().plan.take();
        let result = run();
        self.state().plan = plan;
        result
    }

    /// Whether the planned fault has occurred since the last restart.
    pub fn fired(&self) -> bool {
        self.state().fired
    }

    /// Operations so far.
    pub fn operations(&self) -> usize {
        self.state().operations
    }

    /// Cuts the power now. Nothing works until [`FaultDisk::crash`] or [`FaultDisk::restart`].
    pub fn cut(&self) {
        self.state().power = false;
    }

    /// Comes back after a power cut with `kept` per cent of the unsynced sectors; 0 is none, 100 is all.
    pub fn crash(&self, kept: usize) {
        let mut state = self.state();
        state.settle(kept);
        state.heal();
    }

    /// Restarts after the process alone has died: the operating system still has everything that was written.
    pub fn restart(&self) {
        self.state().heal();
    }

    /// The content of the whole file.
    pub fn content(&self) -> Vec<u8> {
        self.state().files[self.file].cache.clone()
    }
}

impl Content {
    /// Decides about everything unsynced.
    fn settle(&mut self, kept: usize, rng: &mut Rng) {
        let lens = std::mem::take(&mut self.unsynced_lens);
        if let Some(last) = lens.last().copied() {
            let len = if rng.chance(kept) {
                last
            } else if kept == 0 || rng.chance(50) {
                self.durable.len()
            } else {
                *rng.pick(&lens)
            };
            self.durable.resize(len, 0);
        }
        for (sector, versions) in std::mem::take(&mut self.unsynced) {
            let start = sector * SECTOR;
            let end = self.durable.len().min(start + SECTOR);
            let Some(slot) = self.durable.get_mut(start..end) else { continue };
            let (version, bytes) = match rng.below(4) {
                _ if rng.chance(kept) => (versions.len() - 1, SECTOR),
                0 if kept > 0 => (rng.below(versions.len()), SECTOR),
                1 if kept > 0 => (rng.below(versions.len()), rng.below(SECTOR)),
                _ => continue,
            };
            let bytes = bytes.min(slot.len());
            slot[..bytes].copy_from_slice(&versions[version][..bytes]);
        }
        self.cache = self.durable.clone();
    }

    fn sync(&mut self) {
        self.durable.resize(self.cache.len(), 0);
        for sector in std::mem::take(&mut self.unsynced).into_keys() {
            let start = sector * SECTOR;
            let end = self.cache.len().min(start + SECTOR);
            if start < end {
                self.durable[start..end].copy_from_slice(&self.cache[start..end]);
            }
        }
        self.unsynced_lens.clear();
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        self.cache[offset..offset + data.len()].copy_from_slice(data);
        self.remember(offset, data.len());
    }

    fn remember(&mut self, offset: usize, len: usize) {
        if len == 0 {
            return;
        }
        for sector in offset / SECTOR..=(offset + len - 1) / SECTOR {
            let start = sector * SECTOR;
            let end = self.cache.len().min(start + SECTOR);
            let mut content = [0; SECTOR];
            content[..end - start].copy_from_slice(&self.cache[start..end]);
            self.unsynced.entry(sector).or_default().push(content);
        }
    }

    fn set_len(&mut self, len: usize) {
        let old = self.cache.len();
        self.cache.resize(len, 0);
        self.unsynced.retain(|sector, _| sector * SECTOR < len);
        // If it was longer before, the disk still has the old data; the zeros of a file that grows again are new.
        let stale = self.durable.len().min(len);
        self.remember(old, stale.saturating_sub(old));
        self.unsynced_lens.push(len);
    }
}

impl State {
    fn heal(&mut self) {
        (self.plan, self.fired, self.lasting, self.power) = (None, false, None, true);
    }

    fn settle(&mut self, kept: usize) {
        for file in &mut self.files {
            file.settle(kept, &mut self.rng);
        }
    }

    /// Counts an operation and applies the planned fault.
    fn begin(&mut self, on: On) -> io::Result<Option<Fault>> {
        if !self.power {
            return Err(io::Error::other("the power is off"));
        }
        self.operations += 1;
        if let Some((lasting, kind)) = self.lasting
            && lasting == on
        {
            return Err(kind.into());
        }
        let Some(plan) = &mut self.plan else { return Ok(None) };
        let counts = match plan.on {
            On::Any => true,
            On::Change => on != On::Read,
            exactly => exactly == on,
        };
        if !counts {
            return Ok(None);
        }
        plan.nth = plan.nth.saturating_sub(1);
        if plan.nth > 0 {
            return Ok(None);
        }
        let fault = plan.fault;
        (self.plan, self.fired) = (None, true);
        match fault {
            Fault::PowerCut => self.power = false,
            Fault::ErrorsFromNow(kind) => self.lasting = Some((on, kind)),
            _ => {}
        }
        Ok(Some(fault))
    }
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Fault::PowerCut => io::Error::other("the power was cut"),
            Fault::Error(kind) | Fault::ErrorsFromNow(kind) => kind.into(),
            Fault::SyncLoses | Fault::SyncKeeps => io::Error::other("sync failed"),
        }
    }
}

impl StorageBackend for FaultDisk {
    fn len(&self) -> io::Result<u64> {
        let state = self.state();
        if !state.power {
            return Err(io::Error::other("the power is off"));
        }
        Ok(state.files[self.file].cache.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        if let Some(fault) = state.begin(On::Read)? {
            return Err(fault.error());
        }
        let offset = offset as usize;
        let found = state.files[self.file].cache.get(offset..offset + out.len());
        out.copy_from_slice(found.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        match state.begin(On::SetLen)? {
            Some(fault @ Fault::PowerCut) => {
                state.files[self.file].set_len(len as usize);
                Err(fault.error())
            }
            Some(fault) => Err(fault.error()),
            None => {
                state.files[self.file].set_len(len as usize);
                Ok(())
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        let Some(fault) = state.begin(On::Sync)? else {
            state.files[self.file].sync();
            return Ok(());
        };
        let State { files, rng, .. } = &mut *state;
        match fault {
            Fault::SyncLoses => files[self.file].settle(0, rng),
            Fault::SyncKeeps => files[self.file].sync(),
            // Unsynced data may still survive, wholly or in part.
            _ => {}
        }
        Err(fault.error())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.begin(On::Write)?;
        let offset = offset as usize;
        if offset + data.len() > state.files[self.file].cache.len() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let Some(fault) = fault else {
            state.files[self.file].write(offset, data);
            return Ok(());
        };
        let part = state.rng.below(data.len() + 1);
        state.files[self.file].write(offset, &data[..part]);
        Err(fault.error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(len: u64) -> FaultDisk {
        let disk = FaultDisk::new(Rng::new(1));
        disk.set_len(len).unwrap();
        disk.sync_data().unwrap();
        disk
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_is_kept_as_asked() {
        let check = |kept, expected: u8| {
            let disk = disk(2048);
            disk.write(0, &[1; 1024]).unwrap();
            disk.sync_data().unwrap();
            disk.write(512, &[2; 1536]).unwrap();
            disk.cut();
            assert!(disk.write(0, &[9]).is_err());
            disk.crash(kept);
            let content = disk.content();
            assert_eq!(content[..512], [1; 512]);
            let after = if expected == 0 { (1, 0) } else { (expected, expected) };
            assert_eq!((content[512], content[2047]), after);
        };
        check(0, 0);
        check(100, 2);
    }

    #[test]
    fn sectors_survive_out_of_order_and_torn() {
        let (mut later_only, mut torn) = (0, 0);
        for seed in 0..200 {
            let disk = FaultDisk::with_content(vec![0; 1024], Rng::new(seed));
            disk.write(0, &[1; 512]).unwrap();
            disk.write(512, &[2; 512]).unwrap();
            disk.crash(50);
            let content = disk.content();
            later_only += usize::from(content[0] == 0 && content[512] == 2);
            torn += usize::from(content[0] != content[511]);
        }
        assert!(later_only > 10 && torn > 5, "{later_only} {torn}");
    }

    #[test]
    fn faults_come_when_planned() {
        let disk = disk(512);
        disk.plan(Plan { on: On::Write, nth: 2, fault: Fault::Error(ErrorKind::StorageFull) });
        disk.write(0, &[1]).unwrap();
        assert_eq!(disk.write(0, &[2]).unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(disk.fired());
        disk.write(0, &[3]).unwrap();
        disk.plan(Plan { on: On::Sync, nth: 1, fault: Fault::SyncLoses });
        assert!(disk.sync_data().is_err());
        assert_eq!(disk.content()[0], 0);
        disk.write(0, &[4]).unwrap();
        disk.plan(Plan { on: On::Any, nth: 1, fault: Fault::SyncKeeps });
        assert!(disk.sync_data().is_err());
        disk.crash(0);
        assert_eq!(disk.content()[0], 4);
    }
}
