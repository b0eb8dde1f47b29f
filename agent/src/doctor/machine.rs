//! The data directory, its disk and file system, and the clock.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fieldlog_projections::Time;
use rustix::fs::{Access, access};

use crate::check::files::{Finding, Verdict};
use crate::cli::text::bytes;
use crate::clock::Clock;
use crate::config::Config;
use crate::log::{NoJournal, directory};
use crate::retention::reserve::free_bytes;

/// `f_type` of a file system in memory (statfs(2)).
const TMPFS: u32 = 0x0102_1994;
/// 2025-01-01; no clock that is set is before.
const CLOCK_MIN: Time = Time(1_735_689_600_000_000);

/// Examines this machine for an agent with this configuration.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = directory(&config.data_dir);
    // What is not there yet will be on the disk of what it will be in.
    if let Some(dir) = config.data_dir.ancestors().find(|dir| dir.is_dir()) {
        findings.push(space(dir, config));
        findings.extend(file_system(dir, config));
    }
    findings.push(clock(&Clock::system()));
    findings
}

fn directory(dir: &Path) -> Vec<Finding> {
    let place = format!("data directory {}", dir.display());
    let one = |verdict, words: String| vec![Finding::new(verdict, &place, words)];
    let metadata = match std::fs::metadata(dir) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return one(Verdict::Unknown, "it does not exist yet; the first start makes it".to_owned());
        }
        Err(error) => {
            return one(
                Verdict::Bad,
                format!("it cannot be looked at: {error}; check the rights of its parents"),
            );
        }
    };
    if !metadata.is_dir() {
        return one(Verdict::Bad, "it is not a directory; give another `data_dir`".to_owned());
    }
    if let Err(error) = access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        let words = format!(
            "this user may not write there: {error}; it belongs to the user with the number {}. Run this as root, or as the \
             user of the service",
            metadata.uid()
        );
        return one(Verdict::Unknown, words);
    }
    match directory::advice(dir) {
        None => one(Verdict::Good, "it can be written".to_owned()),
        Some(advice) => one(Verdict::Unknown, advice),
    }
}

fn space(dir: &Path, config: &Config) -> Finding {
    let place = "disk";
    let Some(free) = free_bytes(dir) else {
        return Finding::new(Verdict::Unknown, place, "its free space cannot be read");
    };
    let least = config.retention.free_bytes_min;
    if free < least {
        let words = format!(
            "{} are free, less than retention.free_bytes_min, {}: make room, or nothing is recorded or old events are deleted",
            bytes(free),
            bytes(least)
        );
        return Finding::new(Verdict::Bad, place, words);
    }
    let taken: u64 =
        std::fs::metadata(config.data_dir.join(crate::log::FILE_NAME)).map_or(0, |log| log.len());
    match config.retention.bytes_max {
        Some(most) if most > (free - least).saturating_add(taken) => {
            let words = format!(
                "{} are free, less than the log may take (retention.bytes_max, {}): lower that, or make room",
                bytes(free),
                bytes(most)
            );
            Finding::new(Verdict::Unknown, place, words)
        }
        _ => Finding::new(Verdict::Good, place, format!("{} are free", bytes(free))),
    }
}

fn file_system(dir: &Path, config: &Config) -> Option<Finding> {
    let place = "file system";
    if rustix::fs::statfs(dir).is_ok_and(|stat| stat.f_type as u32 == TMPFS) {
        let words = "the data directory is in memory (tmpfs): everything is lost when the machine stops; give another `data_dir`";
        return Some(Finding::new(Verdict::Bad, place, words));
    }
    match NoJournal::on(dir) {
        _ if !config.log.journal => None,
        Some(why) => {
            let words =
                format!("{why}, so there is no journal and a small commit writes 28 KB; ext4 writes less");
            Some(Finding::new(Verdict::Unknown, place, words))
        }
        None => Some(Finding::new(Verdict::Good, place, "it suits the journal")),
    }
}

fn clock(clock: &Clock) -> Finding {
    let (place, now) = ("clock", clock.wall());
    if now < CLOCK_MIN {
        let words =
            "it is not set: events would get a wrong time; set up a time service, such as systemd-timesyncd";
        return Finding::new(Verdict::Bad, place, words);
    }
    match clock.is_synchronised() {
        true => Finding::new(Verdict::Good, place, "it is synchronised"),
        false => Finding::new(
            Verdict::Unknown,
            place,
            "systemd-timesyncd does not say that it is synchronised; that is fine if another time service (chrony, ntpd) sets it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::clock::TestClock;

    fn config(dir: &Path, more: &str) -> Config {
        Config::from_toml(&format!("data_dir = {:?}\n{more}", dir.display().to_string()), "test").unwrap()
    }

    #[test]
    fn the_directory_is_judged_by_its_rights() {
        let dir = tempfile::tempdir().unwrap();
        let check = |path: &Path, verdict, part: &str| {
            let found = directory(path).remove(0);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.words.contains(part), "{found:?}");
        };
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o750)).unwrap();
        check(dir.path(), Verdict::Good, "can be written");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        check(dir.path(), Verdict::Unknown, "run: chmod o= /");
        check(&dir.path().join("none"), Verdict::Unknown, "does not exist yet");
        std::fs::write(dir.path().join("file"), "").unwrap();
        check(&dir.path().join("file"), Verdict::Bad, "not a directory");
    }

    #[test]
    fn the_disk_is_judged_by_the_limits() {
        let dir = tempfile::tempdir().unwrap();
        let found = space(dir.path(), &config(dir.path(), "[retention]\nfree_bytes_min = 999000000000000\n"));
        assert_eq!(found.verdict, Verdict::Bad);
        assert!(
            found.words.contains("less than retention.free_bytes_min, 999000.0 GB: make room"),
            "{found:?}"
        );
        let most = "[retention]\nfree_bytes_min = 0\nbytes_max = 999000000000000\n";
        let found = space(dir.path(), &config(dir.path(), most));
        assert_eq!(found.verdict, Verdict::Unknown);
        assert!(found.words.contains("less than the log may take"), "{found:?}");
        let little = "[retention]\nfree_bytes_min = 0\nbytes_max = 1048576\n";
        assert_eq!(space(dir.path(), &config(dir.path(), little)).verdict, Verdict::Good);
    }

    #[test]
    fn the_clock_is_judged() {
        let test = TestClock::standing(Time(1));
        assert_eq!(clock(&test.clock()).verdict, Verdict::Bad);
        let test = TestClock::standing(Time(1_763_892_000_000_000));
        assert_eq!(clock(&test.clock()).verdict, Verdict::Good);
        test.set_synchronised(false);
        assert!(clock(&test.clock()).words.contains("systemd-timesyncd"));
    }
}
