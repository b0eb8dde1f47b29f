//! A file of parcels, as `fieldlog export --format parcels` writes it.

use std::fs;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use fieldlog_wire::parcels::{self, Next};

/// A file that was looked through.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    /// Whole parcels in it.
    pub(super) parcels: u64,
    /// Where the last one begins.
    last: Option<u64>,
    /// Where it breaks off; `None` if it has its end.
    pub(super) cut: Option<u64>,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another export.
    #[error(
        "{path} has events as text, without the chain that shows that none is missing; export the log again with \
         `fieldlog export --format parcels --data-dir DIR`", path = .path.display()
    )]
    Text {
        /// Which.
        path: PathBuf,
    },
    /// Something else.
    #[error("{path} is no file of `fieldlog export --format parcels`", path = .path.display())]
    Other {
        /// Which.
        path: PathBuf,
    },
    /// Bytes are no longer what they were.
    #[error("{path} is damaged in the parcel at byte {at}; export the log again", path = .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where.
        at: u64,
    },
}

impl File {
    /// Looks through a file: only at the lengths, whatever is in the parcels.
    ///
    /// # Errors
    /// [`FileError`]; one that was cut is none.
    pub(super) fn look(path: &Path) -> Result<File, FileError> {
        let mut reader = Reader::open(path)?;
        let mut file = File { path: path.to_owned(), parcels: 0, last: None, cut: None };
        loop {
            let at = reader.at;
            match reader.head()? {
                Head::End => return Ok(file),
                Head::Cut => {
                    file.cut = Some(reader.size);
                    return Ok(file);
                }
                Head::Parcel { bytes, .. } => reader.pass(bytes)?,
            }
            (file.parcels, file.last) = (file.parcels + 1, Some(at));
        }
    }

    /// The last whole parcel.
    pub(super) fn last(&self) -> Result<Option<Vec<u8>>, FileError> {
        let Some(at) = self.last else { return Ok(None) };
        let mut reader = Reader::open(&self.path)?;
        reader.pass((at - reader.at) as usize)?;
        reader.parcel()
    }

    /// Passes every whole parcel on, until `put` wants no more.
    pub(super) fn each(&self, mut put: impl FnMut(Vec<u8>) -> bool) -> Result<(), FileError> {
        let mut reader = Reader::open(&self.path)?;
        while let Some(parcel) = reader.parcel()? {
            if !put(parcel) {
                break;
            }
        }
        Ok(())
    }
}

/// What comes next in a file.
enum Head {
    Parcel { bytes: usize, sum: [u8; 8] },
    End,
    Cut,
}

struct Reader {
    path: PathBuf,
    file: BufReader<fs::File>,
    at: u64,
    size: u64,
}

impl Reader {
    /// Opens a file behind its first bytes, which must be those of a file of parcels.
    fn open(path: &Path) -> Result<Reader, FileError> {
        let failed = |source| FileError::Read { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut file = BufReader::new(file);
        let mut magic = Vec::new();
        file.by_ref().take(parcels::MAGIC.len() as u64).read_to_end(&mut magic).map_err(failed)?;
        let is_text = magic.starts_with(b"{") || magic.starts_with(b"id,seq,");
        let path = path.to_owned();
        match magic == parcels::MAGIC {
            true => Ok(Reader { path, file, at: magic.len() as u64, size }),
            false if is_text => Err(FileError::Text { path }),
            false => Err(FileError::Other { path }),
        }
    }

    fn head(&mut self) -> Result<Head, FileError> {
        let at = self.at;
        let Some(length) = self.read()? else { return Ok(Head::Cut) };
        let bytes = match parcels::next(length) {
            Next::End => return Ok(Head::End),
            Next::Damaged => return Err(FileError::Damaged { path: self.path.clone(), at }),
            Next::Parcel(bytes) => bytes,
        };
        let Some(sum) = self.read()? else { return Ok(Head::Cut) };
        let is_whole = self.at + bytes as u64 <= self.size;
        Ok(if is_whole { Head::Parcel { bytes, sum } } else { Head::Cut })
    }

    /// The next parcel, if it is whole.
    fn parcel(&mut self) -> Result<Option<Vec<u8>>, FileError> {
        let at = self.at;
        let Head::Parcel { bytes, sum } = self.head()? else { return Ok(None) };
        let mut parcel = vec![0; bytes];
        self.file.read_exact(&mut parcel).map_err(|source| self.failed(source))?;
        self.at += bytes as u64;
        match parcels::sum(&parcel) == sum {
            true => Ok(Some(parcel)),
            false => Err(FileError::Damaged { path: self.path.clone(), at }),
        }
    }

    fn pass(&mut self, bytes: usize) -> Result<(), FileError> {
        self.file.seek_relative(bytes as i64).map_err(|source| self.failed(source))?;
        self.at += bytes as u64;
        Ok(())
    }

    /// The next bytes; `None` if the file ends within them.
    fn read<const N: usize>(&mut self) -> Result<Option<[u8; N]>, FileError> {
        let mut bytes = [0; N];
        if self.at + N as u64 > self.size {
            return Ok(None);
        }
        self.file.read_exact(&mut bytes).map_err(|source| self.failed(source))?;
        self.at += N as u64;
        Ok(Some(bytes))
    }

    fn failed(&self, source: std::io::Error) -> FileError {
        FileError::Read { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(bytes: &[u8]) -> Result<File, FileError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, bytes).unwrap();
        let file = File::look(&path)?;
        let mut parcels = Vec::new();
        file.each(|parcel| {
            parcels.push(parcel);
            true
        })?;
        assert_eq!(parcels.len() as u64, file.parcels);
        assert_eq!(parcels.last().cloned(), file.last()?);
        Ok(file)
    }

    #[test]
    fn a_file_has_all_parcels_before_the_place_where_it_was_cut() {
        let all = [&b"ab"[..], b"cde"].map(|parcel| [&parcels::head(parcel)[..], parcel].concat()).concat();
        let whole = [&parcels::MAGIC[..], &all, &parcels::END].concat();
        let file = look(&whole).unwrap();
        assert_eq!((file.parcels, file.cut), (2, None));
        for size in 8..whole.len() {
            let file = look(&whole[..size]).unwrap();
            let parcels = u64::from(size >= 22) + u64::from(size >= 37);
            assert_eq!((file.parcels, file.cut), (parcels, Some(size as u64)), "{size}");
        }
    }

    #[test]
    fn what_is_no_file_of_parcels_is_told_apart() {
        let said = |bytes: &[u8]| look(bytes).unwrap_err().to_string();
        assert!(said(b"{\"id\":1}\n").contains("has events as text, without the chain"));
        assert!(said(b"id,seq,type").contains("has events as text"));
        assert!(said(b"").contains("is no file of `fieldlog export --format parcels`"));
        assert!(said(b"FLPARCELjunk").contains("is damaged in the parcel at byte 8"));
        let mut flipped = [&parcels::MAGIC[..], &parcels::head(b"ab"), b"ab", &parcels::END].concat();
        flipped[21] ^= 1;
        assert!(said(&flipped).contains("is damaged in the parcel at byte 8"));
    }
}
