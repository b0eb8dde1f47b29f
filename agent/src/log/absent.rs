//! Tells whether there is a log at all, without changing its file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::{Absence, FILE_NAME, Log, LogError, incomplete};

impl Log {
    /// Checks the file in a data directory; `None` if it has any content. Never [`Absence::NoRecords`], which only an
    /// open log shows.
    ///
    /// # Errors
    /// [`LogError::File`]
    pub fn absence(data_dir: &Path) -> Result<Option<Absence>, LogError> {
        let path = data_dir.join(FILE_NAME);
        let failed = |source| LogError::File { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            // Also if the directory does not exist yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Absence::Missing)),
            Err(source) => return Err(failed(source)),
        };
        if file.metadata().map_err(failed)?.len() == 0 {
            return Ok(Some(Absence::Empty));
        }
        Ok(is_blank(file).map_err(failed)?.then_some(Absence::Blank))
    }
}

/// Reads up to the first byte that is not blank.
fn is_blank(mut file: impl Read) -> io::Result<bool> {
    let mut first = Vec::new();
    file.by_ref().take(incomplete::PAGE).read_to_end(&mut first)?;
    if !incomplete::lacks_magic(&first) {
        return Ok(false);
    }
    let mut block = vec![0; 64 * 1024];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(true),
            read if block.iter().take(read).any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}
