//! A memory limit for a process, like that of its systemd unit, where this machine allows one.

use std::fs;
use std::path::{Path, PathBuf};

/// Mount point of cgroups version 2.
pub const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// A cgroup (version 2) with one process; removed when dropped, which should be after the process has ended.
pub struct MemoryLimit(PathBuf);

impl MemoryLimit {
    /// Puts a process into a group with this limit below `root`. `None` if groups there have no memory limit, or none
    /// can be created.
    pub fn put(root: &Path, process: u32, bytes: u64) -> Option<MemoryLimit> {
        if !is_possible(root) {
            return None;
        }
        let dir = root.join(format!("fieldlog-test-{process}"));
        fs::create_dir(&dir).ok()?;
        let limit = MemoryLimit(dir);
        limit.write("memory.max", bytes)?;
        // This file is missing if there is no swap.
        let _ = limit.write("memory.swap.max", 0);
        limit.write("cgroup.procs", process.into())?;
        Some(limit)
    }

    fn write(&self, name: &str, value: u64) -> Option<()> {
        fs::write(self.0.join(name), value.to_string()).ok()
    }
}

/// Whether groups below `root` have a memory limit.
pub fn is_possible(root: &Path) -> bool {
    let controllers = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
    controllers.split_whitespace().any(|controller| controller == "memory")
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // The kernel's files in it do not count as content.
        let _ = fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_process_gets_its_limit_where_there_are_limits() {
        let root = tempfile::tempdir().unwrap();
        assert!(MemoryLimit::put(root.path(), 7, 4096).is_none());
        fs::write(root.path().join("cgroup.subtree_control"), "cpu pids\n").unwrap();
        assert!(MemoryLimit::put(root.path(), 7, 4096).is_none());
        fs::write(root.path().join("cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        let limit = MemoryLimit::put(root.path(), 7, 4096).unwrap();
        let read = |name: &str| fs::read_to_string(limit.0.join(name)).unwrap();
        assert_eq!((read("memory.max"), read("cgroup.procs")), ("4096".into(), "7".into()));
    }
}
