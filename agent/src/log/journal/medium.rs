//! Whether a file system suits the journal.

use std::fmt;
use std::path::Path;

/// Why commits do not go to a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoJournal {
    /// `log.journal` is false.
    SwitchedOff,
    /// The file system, by name, writes changed blocks to new places.
    NotInPlace(&'static str),
    /// The file could not be created.
    Failed(String),
}

impl fmt::Display for NoJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoJournal::SwitchedOff => f.write_str("log.journal is false"),
            NoJournal::NotInPlace(name) => {
                write!(f, "the file system of the data directory ({name}) does not overwrite blocks in place")
            }
            NoJournal::Failed(why) => write!(f, "its file cannot be created: {why}"),
        }
    }
}

/// File systems that write a changed block to a new place (`f_type` of statfs(2), and `linux/magic.h`), on which a small
/// synced write costs as much as a commit of redb; and those over a network, where a sync promises nothing to us.
const NOT_IN_PLACE: [(u32, &str); 10] = [
    (0x9123_683e, "btrfs"),
    (0xf2f5_2010, "F2FS"),
    (0x2fc1_2fc1, "ZFS"),
    (0x794c_7630, "overlay"),
    (0xca45_1a4e, "bcachefs"),
    (0x0000_3434, "NILFS"),
    (0x2405_1905, "UBIFS"),
    (0x0000_72b6, "JFFS2"),
    (0x0000_6969, "NFS"),
    (0xff53_4d42, "CIFS"),
];

impl NoJournal {
    /// Checks the file system of a directory; `None` if it suits.
    pub fn on(dir: &Path) -> Option<NoJournal> {
        // What cannot be asked is tried.
        let found = rustix::fs::statfs(dir).ok()?;
        named(found.f_type as u32).map(NoJournal::NotInPlace)
    }
}

fn named(f_type: u32) -> Option<&'static str> {
    NOT_IN_PLACE.iter().find(|(known, _)| *known == f_type).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_that_copy_on_write_are_refused() {
        assert_eq!(named(0x9123_683e), Some("btrfs"));
        // ext4, XFS, tmpfs, vfat.
        for suits in [0xef53, 0x5846_5342, 0x0102_1994, 0x4d44] {
            assert_eq!(named(suits), None, "{suits:x}");
        }
        let words = NoJournal::NotInPlace("btrfs").to_string();
        assert!(words.contains("(btrfs) does not overwrite blocks in place"), "{words}");
    }

    #[test]
    fn the_directory_is_asked() {
        let shm = Path::new("/dev/shm");
        assert!(!shm.exists() || NoJournal::on(shm).is_none(), "tmpfs suits");
    }
}
