//! The memory limit of this process, as reported by the system.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

/// Assumed if nothing limits the process: the limit in the service's unit.
pub const BYTES_ASSUMED: u64 = 256 * 1024 * 1024;
/// Share of memory for state if the configuration does not set it: a third. The rest is for the program and its
/// buffers, for copies while a snapshot is written or aggregates are rebuilt, and for requests of past states.
const STATE_SHARE: u64 = 3;

/// Default of `limits.state_bytes_max`.
pub fn state_bytes_max() -> usize {
    usize::try_from(bytes_max() / STATE_SHARE).unwrap_or(usize::MAX)
}

/// The lowest limit that applies: of the control group and its parents, and of the process itself. [`BYTES_ASSUMED`] if
/// there is none; never more than the machine has.
fn bytes_max() -> u64 {
    let group = group_limit(Path::new("/sys/fs/cgroup"), &read("/proc/self/cgroup"));
    let own = [Resource::As, Resource::Data].map(|resource| getrlimit(resource).current);
    let limits = own.into_iter().chain([group]).flatten();
    limits.min().unwrap_or(BYTES_ASSUMED).min(machine(&read("/proc/meminfo")).unwrap_or(u64::MAX))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The lowest `memory.max` from a process's control group (version 2) up to the root, according to `/proc/self/cgroup`.
fn group_limit(root: &Path, groups: &str) -> Option<u64> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = root.join(own);
    let above = own.ancestors().take_while(|group| group.starts_with(root));
    above.filter_map(|group| read(group.join("memory.max")).trim().parse().ok()).min()
}

/// Memory of the machine, from `/proc/meminfo`.
fn machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_up_to_the_root_counts() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("system.slice/fieldlog.service");
        fs::create_dir_all(&group).unwrap();
        let check = |own: &str, above: &str, expected: Option<u64>| {
            fs::write(group.join("memory.max"), own).unwrap();
            fs::write(dir.path().join("system.slice/memory.max"), above).unwrap();
            let groups = "1:name=systemd:/x\n0::/system.slice/fieldlog.service\n";
            assert_eq!(group_limit(dir.path(), groups), expected, "{own} below {above}");
        };
        check("268435456\n", "max\n", Some(268_435_456));
        check("max\n", "1048576\n", Some(1_048_576));
        check("268435456\n", "1048576\n", Some(1_048_576));
        check("max\n", "max\n", None);
        assert_eq!(group_limit(dir.path(), "4:memory:/x\n"), None);
    }

    #[test]
    fn the_machine_says_what_it_has() {
        assert_eq!(machine("MemFree: 1 kB\nMemTotal:        512 kB\n"), Some(524_288));
        assert_eq!(machine(""), None);
    }
}
