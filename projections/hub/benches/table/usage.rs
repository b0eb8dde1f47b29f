//! What processes use, from /proc.

use std::fs::read_to_string;

/// Seconds of processor time of a process and all its children, living and gone.
pub fn cpu_seconds(pid: u32) -> f64 {
    let own = stat(pid).map_or(0.0, |stat| ticks(&stat, 11..15));
    let children = processes().filter_map(stat).filter(|stat| field(stat, 1) == f64::from(pid));
    own + children.map(|stat| ticks(&stat, 11..13)).sum::<f64>()
}

/// The most memory that a process has had, in bytes.
pub fn peak_rss(pid: u32) -> u64 {
    let status = read_to_string(format!("/proc/{pid}/status")).expect("/proc status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("kilobytes") * 1024
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The fields after the name.
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn field(stat: &[String], at: usize) -> f64 {
    stat[at].parse().expect("a number")
}

/// Ticks are 10 ms on every relevant Linux.
fn ticks(stat: &[String], fields: std::ops::Range<usize>) -> f64 {
    fields.map(|at| field(stat, at)).sum::<f64>() / 100.0
}
