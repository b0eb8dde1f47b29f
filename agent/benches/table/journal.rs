//! The journal: each figure beside that of an agent with `log.journal = false`, in turn.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::agent::Agent;
use crate::stub::{Feed, Stub};
use crate::{Table, median, yardstick};

const WITHOUT: &str = "[log]\njournal = false\n";
/// Messages of a run with a small window.
const MESSAGES: u64 = 200_000;
/// What mosquitto and mosquitto_sub use if nothing is configured.
const WINDOW: u16 = 20;
/// Events a second on a quiet gateway.
const QUIET: u64 = 10;

pub fn measure(feed: &Feed, table: &mut Table) {
    small_window(feed, table);
    quiet(feed, table);
}

/// One run: events per second, and CPU per event in microseconds.
fn run(feed: &Feed, more: &str) -> (f64, f64) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let stub = Stub::start();
    let agent = Agent::start_with(dir.path(), stub.port(), WINDOW, more);
    let before = agent.usage().cpu_s;
    let took = stub.feed(feed, MESSAGES);
    agent.wait_for_events(MESSAGES);
    let cpu = (agent.usage().cpu_s - before) * 1e6 / MESSAGES as f64;
    agent.stop();
    (MESSAGES as f64 / took.as_secs_f64(), cpu)
}

fn small_window(feed: &Feed, table: &mut Table) {
    let (mut with, mut without, mut sub) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        with.push(run(feed, ""));
        without.push(run(feed, WITHOUT));
        sub.extend(yardstick::mosquitto_sub(feed, MESSAGES));
    }
    let middle = |runs: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        median(&mut runs.iter().map(of).collect::<Vec<_>>())
    };
    let rate = middle(&with, |run| run.0);
    let plain = middle(&without, |run| run.0);
    table.row("throughput, window 20", format!("{rate:.0} events/s"), "≥ 30,000/s", rate >= 30e3);
    let times = rate / plain;
    table.row("… beside no journal", format!("{plain:.0} events/s, {times:.1} ×"), "≥ 2 ×", times >= 2.0);
    if !sub.is_empty() {
        let other = median(&mut sub.iter().map(|run| run.rate).collect::<Vec<_>>());
        let text = format!("{other:.0} messages/s");
        table.row("… beside mosquitto_sub, which stores nothing", text, "≥ its rate", rate >= other);
    }
    let (cpu, plain) = (middle(&with, |run| run.1), middle(&without, |run| run.1));
    let text = format!("{cpu:.2} µs; no journal: {plain:.2} µs");
    table.row("CPU per event, window 20", text, "≤ half", cpu <= plain / 2.0);
}

/// What a quiet gateway writes, at the block device.
fn quiet(feed: &Feed, table: &mut Table) {
    let Some(volume) = Volume::mount() else {
        return table
            .info("bytes per event at 10 events/s", "a loop device with ext4 cannot be mounted here");
    };
    // Long enough for the journal to move once.
    let with = trickle(feed, &volume, "with", "", Duration::from_secs(64));
    let without = trickle(feed, &volume, "without", WITHOUT, Duration::from_secs(15));
    let text = format!("{with:.0} bytes; no journal: {without:.0}");
    table.row("block device writes per event at 10 events/s", text, "≤ 1,500", with <= 1500.0);
    let day = with * (QUIET * 86_400) as f64 / 1e9;
    table.row("… a day", format!("{day:.2} GB"), "≤ 1.3 GB", day <= 1.3);
}

/// Bytes written to the device for each event.
fn trickle(feed: &Feed, volume: &Volume, name: &str, more: &str, long: Duration) -> f64 {
    let stub = Stub::start();
    let agent = Agent::start_with(&volume.dir.join(name), stub.port(), 1000, more);
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let events = |agent: &Agent| agent.status()["position"]["head"].as_u64().expect("a position");
    let measured = std::thread::scope(|scope| {
        scope.spawn(|| stub.trickle(feed, QUIET, &stop));
        // Past the records that name devices and attributes, and the file system's own first writes.
        std::thread::sleep(Duration::from_secs(60));
        let before = (events(&agent), volume.written());
        std::thread::sleep(long);
        volume.sync();
        let after = (events(&agent), volume.written());
        told.store(true, Ordering::Relaxed);
        (after.1 - before.1) as f64 / (after.0 - before.0) as f64
    });
    agent.stop();
    measured
}

/// An ext4 file system of its own, so that the counters of its device are ours alone.
struct Volume {
    dir: PathBuf,
    _files: tempfile::TempDir,
}

impl Volume {
    fn mount() -> Option<Volume> {
        let files = tempfile::tempdir().ok()?;
        let (image, dir) = (files.path().join("image"), files.path().join("mounted"));
        std::fs::create_dir(&dir).ok()?;
        std::fs::File::create(&image).and_then(|file| file.set_len(256 << 20)).ok()?;
        let did = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        (did(Command::new("mkfs.ext4").arg("-q").arg(&image))
            && did(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&dir)))
        .then_some(Volume { dir, _files: files })
    }

    /// Writes out what only the page cache has.
    fn sync(&self) {
        let synced = Command::new("sync").arg("-f").arg(&self.dir).status();
        assert!(synced.is_ok_and(|status| status.success()), "sync");
    }

    /// Bytes written to the device so far.
    fn written(&self) -> u64 {
        let device = std::fs::metadata(&self.dir).expect("the mounted file system").dev();
        let (major, minor) = (device >> 8 & 0xfff, device & 0xff);
        let stat = std::fs::read_to_string(Path::new("/sys/dev/block").join(format!("{major}:{minor}/stat")));
        let sectors = stat.expect("the device's counters").split_whitespace().nth(6).map(str::parse::<u64>);
        sectors.expect("sectors written").expect("a number") * 512
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // The image is removed with its directory after this.
        let _ = Command::new("umount").arg(&self.dir).status();
    }
}
