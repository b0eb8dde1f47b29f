//! Resource usage of the process, from `/proc/self`.

use std::fmt;

use fieldlog_wire::api::status::Process;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::Out;

/// Ticks of `/proc/self/stat`: Linux reports 100 a second to user space on all our targets.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self`.
pub fn usage() -> Process {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Not counting the descriptor that reads the directory.
    let fds = std::fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1) as u64);
    Process {
        resident_bytes: field(&status, "VmRSS:").map(|kib| kib * 1024),
        cpu_s: cpu_s(&stat),
        threads: field(&status, "Threads:"),
        open_fds: fds,
    }
}

/// The number after a name in `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `utime` and `stime`, fields 14 and 15. The second field is the program's name and may hold anything but is the last
/// in parentheses.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS_PER_SECOND)
}

/// The standard process metrics, under their usual names.
#[derive(Debug)]
pub(super) struct Metrics;

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (usage, mut out) = (usage(), Out(&mut encoder));
        if let Some(bytes) = usage.resident_bytes {
            out.gauge("process_resident_memory_bytes", "Resident memory.", bytes)?;
        }
        if let Some(cpu_s) = usage.cpu_s {
            out.counter("process_cpu_seconds", "User and system CPU time.", cpu_s)?;
        }
        if let Some(threads) = usage.threads {
            out.gauge("process_threads", "Number of threads.", threads)?;
        }
        if let Some(fds) = usage.open_fds {
            out.gauge("process_open_fds", "Open file descriptors.", fds)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strange_program_name_does_not_shift_the_fields() {
        let stat = "7 (a) b 9) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 100";
        assert_eq!(cpu_s(stat), Some(3.0));
        assert_eq!(field("VmPeak:\t  9 kB\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12));
    }

    #[test]
    fn this_process_uses_something() {
        let usage = usage();
        assert!(usage.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{usage:?}");
        assert!(usage.threads.is_some_and(|threads| threads > 0) && usage.open_fds.is_some(), "{usage:?}");
    }
}
