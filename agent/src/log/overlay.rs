//! A copy-on-write log file: writes stay in memory, and the file is never changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

const PAGE: u64 = 4096;

/// A read-only file, with the pages that were written since it was opened.
///
/// Opening a log after a crash, and checking it, repair damage. Here the repair is only in memory.
#[derive(Debug)]
pub(super) struct Overlay {
    file: FileBackend,
    layer: Mutex<Layer>,
}

#[derive(Debug)]
struct Layer {
    /// Current length of the file.
    len: u64,
    /// How much of the file itself is visible; beyond it everything is zero, except written pages.
    of_file: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    /// On a file that was opened for reading.
    pub(super) fn new(file: File) -> Result<Overlay, DatabaseError> {
        let file = FileBackend::new(file)?;
        let len = file.len()?;
        Ok(Overlay { file, layer: Mutex::new(Layer { len, of_file: len, pages: BTreeMap::new() }) })
    }

    fn layer(&self) -> MutexGuard<'_, Layer> {
        // Each change is complete.
        self.layer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads at most to the end of a page.
    fn read_part(&self, layer: &Layer, at: u64, out: &mut [u8]) -> io::Result<()> {
        if let Some(page) = layer.pages.get(&(at / PAGE)) {
            let begin = (at % PAGE) as usize;
            let part = page.get(begin..begin + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(part);
            return Ok(());
        }
        let in_file = layer.of_file.saturating_sub(at).min(out.len() as u64) as usize;
        let (seen, beyond) = out.split_at_mut(in_file);
        beyond.fill(0);
        if seen.is_empty() { Ok(()) } else { self.file.read(at, seen) }
    }
}

/// Splits a range at page boundaries: offset and length of each part.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize)> {
    let end = offset + len as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        let part = (PAGE - at % PAGE).min(end - at);
        at += part;
        (part > 0).then(|| (at - part, part as usize))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.layer().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let layer = self.layer();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > layer.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if layer.pages.is_empty() && offset + out.len() as u64 <= layer.of_file {
            return self.file.read(offset, out);
        }
        let mut rest = out;
        for (at, len) in parts(offset, rest.len()) {
            let (part, behind) = rest.split_at_mut(len);
            self.read_part(&layer, at, part)?;
            rest = behind;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut layer = self.layer();
        layer.of_file = layer.of_file.min(len);
        layer.pages.split_off(&len.div_ceil(PAGE));
        if let Some(page) = layer.pages.get_mut(&(len / PAGE)) {
            page.iter_mut().skip((len % PAGE) as usize).for_each(|byte| *byte = 0);
        }
        layer.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut layer = self.layer();
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > layer.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = data;
        for (at, len) in parts(offset, data.len()) {
            let number = at / PAGE;
            if !layer.pages.contains_key(&number) {
                let mut page = vec![0; PAGE as usize];
                let there = (layer.len - number * PAGE).min(PAGE) as usize;
                self.read_part(&layer, number * PAGE, page.split_at_mut(there).0)?;
                layer.pages.insert(number, page.into());
            }
            let (part, behind) = rest.split_at(len);
            let begin = (at % PAGE) as usize;
            if let Some(into) = layer.pages.get_mut(&number).and_then(|p| p.get_mut(begin..begin + len)) {
                into.copy_from_slice(part);
            }
            rest = behind;
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    // A write lock needs a file that is open for writing. A read lock also keeps every agent out, and cannot be taken
    // while an agent has the log open.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator, to avoid a dependency; the seed is in the message.
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn it_reads_as_a_file_that_was_written_and_leaves_the_file() {
        for seed in 0..20 {
            let mut state = seed;
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            let before: Vec<u8> = (0..next(&mut state) % 20_000).map(|n| n as u8 | 1).collect();
            std::fs::write(&path, &before).unwrap();
            let overlay = Overlay::new(File::open(&path).unwrap()).unwrap();
            let mut model = before.clone();
            for _ in 0..200 {
                if next(&mut state).is_multiple_of(4) {
                    let len = next(&mut state) % 30_000;
                    overlay.set_len(len).unwrap();
                    model.resize(len as usize, 0);
                } else if !model.is_empty() {
                    let at = next(&mut state) as usize % model.len();
                    let data = vec![
                        next(&mut state) as u8;
                        (next(&mut state) as usize % 9_000).min(model.len() - at)
                    ];
                    overlay.write(at as u64, &data).unwrap();
                    model[at..at + data.len()].copy_from_slice(&data);
                }
                let mut found = vec![7; model.len()];
                overlay.read(0, &mut found).unwrap();
                assert_eq!(overlay.len().unwrap(), model.len() as u64, "seed {seed}");
                assert!(found == model, "seed {seed}");
            }
            assert!(overlay.read(model.len() as u64, &mut [0]).is_err(), "seed {seed}: beyond the end");
            assert!(overlay.write(model.len() as u64, &[0]).is_err(), "seed {seed}: beyond the end");
            assert_eq!(std::fs::read(&path).unwrap(), before, "seed {seed}");
        }
    }
}
