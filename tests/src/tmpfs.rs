//! A disk that can be filled without filling the machine's.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use fieldlog_sim::servers::skip;

const FILLER: &str = "filler";

/// A small file system in memory, removed when dropped.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// One of `size` (`"4M"`) at a new directory; `None`, and the test is skipped, if it cannot be mounted.
    ///
    /// # Panics
    /// If the directory cannot be created.
    pub fn mount(at: &Path, size: &str) -> Option<Tmpfs> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Tmpfs(at.to_owned())),
            _ => {
                skip("a tmpfs cannot be mounted here");
                None
            }
        }
    }

    /// Changes its size.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }

    /// Fills this many bytes.
    ///
    /// # Panics
    /// If there are not enough.
    pub fn fill(&self, bytes: usize) {
        let mut filler = std::fs::File::create(self.0.join(FILLER)).unwrap();
        for _ in 0..bytes / 4096 {
            filler.write_all(&[0; 4096]).unwrap();
        }
    }

    /// Fills all remaining space.
    ///
    /// # Panics
    /// If the file cannot be created.
    pub fn fill_up(&self) {
        let mut filler = std::fs::File::create(self.0.join(FILLER)).unwrap();
        while filler.write_all(&[1; 4096]).is_ok() {}
    }

    /// Gives them back.
    ///
    /// # Panics
    /// If nothing was taken.
    pub fn clear(&self) {
        std::fs::remove_file(self.0.join(FILLER)).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // A failed test may still have files open there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
