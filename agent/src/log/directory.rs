//! The data directory.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// Owner and group: what people do at home can be read from a log.
const MODE: u32 = 0o750;

/// Makes a data directory, and those that it is in, for owner and group only; one that is there stays as it is.
///
/// # Errors
/// Of the file system.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(MODE).create(dir)
}

/// What to do about a data directory that everyone on this machine may look into.
pub fn advice(dir: &Path) -> Option<String> {
    let open = std::fs::metadata(dir).is_ok_and(|metadata| metadata.mode() & 0o007 != 0);
    open.then(|| format!("everyone on this machine may look into it; run: chmod o= {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_directory_is_not_for_everyone() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/b");
        make_dir(&dir).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o027, 0);
        assert_eq!(advice(&dir), None);
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        make_dir(&dir).unwrap();
        assert!(advice(&dir).unwrap().ends_with(&format!("run: chmod o= {}", dir.display())));
    }
}
