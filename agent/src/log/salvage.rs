//! What is intact in a damaged log.
//!
//! The tables of the store name the chunks, but damage in a page of a table hides intact chunks. A chunk is known by its
//! magic number, and its checksum tells its length. So the whole file is searched for chunks, whether the store can be
//! opened or not. This also finds chunks that the store has replaced or deleted; the chain tells which of two chunks at
//! one position the later ones continue.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use fieldlog_projections::chunk::{self, Chunk, HEADER_BYTES, Header};
use fieldlog_projections::stored::type_id::{GAP, TRIMMED};
use fieldlog_projections::{ChainHash, Epoch, Fact, Seq};
use redb::ReadableDatabase;

use super::guard::{self, guarded};
use super::{CHUNKS, FILE_NAME, Log, LogError, LogOptions, META, sums};

/// How the magic number continues, with the layout version and the two kinds of compression.
const STARTS: [[u8; 4]; 2] = [*b"FL\x01\x00", *b"FL\x01\x01"];
/// Bytes that are searched at once.
const BLOCK: usize = 1 << 20;
/// LZ4 compresses at most this much.
const COMPRESSION_MAX: usize = 256;
/// Bytes that are read at once in search of a chunk's end.
const STEP: usize = 1 << 16;

/// An intact chunk in the file.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Its header.
    pub header: Header,
    /// The chain after its last record.
    after: ChainHash,
    at: u64,
    len: usize,
}

/// The intact chunks of a log, and the log beside them as far as it can be read.
#[derive(Debug)]
pub struct Salvage {
    /// The incarnation of the log, if it can be read.
    pub epoch: Option<Epoch>,
    /// The chunks, in the order of their positions, which do not overlap.
    pub pieces: Vec<Piece>,
    /// The store, for its other tables; `None` if it cannot be opened.
    pub log: Option<Log>,
    file: File,
    path: PathBuf,
}

impl Salvage {
    /// Searches the log in a data directory. Changes nothing there.
    ///
    /// # Errors
    /// [`LogError`] if the file cannot be read, or belongs to another version or program.
    pub fn of(data_dir: &Path, options: LogOptions) -> Result<Salvage, LogError> {
        let path = data_dir.join(FILE_NAME);
        let failed = |source| LogError::File { path: path.clone(), source };
        let log = match open_anyhow(&path, options) {
            Ok(log) => Some(log),
            Err(error @ LogError::InUse { .. }) => return Err(error),
            Err(_) => None,
        };
        let file = File::open(&path).map_err(failed)?;
        let found = search(&file).map_err(failed)?;
        let kept = log.as_ref().and_then(|log| log.reader().chunks_kept().ok().flatten());
        let pieces = choose(&found, kept);
        let epoch = log.as_ref().map(Log::epoch);
        Ok(Salvage { epoch, pieces, log, file, path })
    }

    /// Passes the chunk of a piece to `visit`.
    ///
    /// # Errors
    /// [`LogError`] if the file cannot be read, or has changed.
    pub fn read<T>(&self, piece: &Piece, visit: impl FnOnce(&Chunk<'_>) -> T) -> Result<T, LogError> {
        let mut bytes = vec![0; piece.len];
        self.file
            .read_exact_at(&mut bytes, piece.at)
            .map_err(|source| LogError::File { path: self.path.clone(), source })?;
        let mut scratch = Vec::new();
        let damaged = |source| LogError::Chunk { at: piece.header.first, source };
        Ok(visit(&Chunk::parse(&bytes, &mut scratch).map_err(damaged)?))
    }
}

/// Opens the store without comparing its contents with its sums, and without reading the last chunk.
fn open_anyhow(path: &Path, options: LogOptions) -> Result<Log, LogError> {
    guard::silence();
    let mut log = Log::open_overlaid(path, options)?;
    let (epoch, checked_from) = guarded("read the log's head", || {
        let txn = log.hold.get()?.begin_read()?;
        let of_epoch = sums::read(&txn).ok().and_then(|sums| sums.of_epoch);
        let epoch = txn.open_table(META)?.get("epoch")?.map(|epoch| epoch.value());
        let epoch = epoch.or(of_epoch.map(|of_epoch| of_epoch.epoch)).ok_or(LogError::NoFormat)?;
        Ok((epoch, of_epoch.map_or(u64::MAX, |of_epoch| of_epoch.checked_from)))
    })?;
    (log.epoch, log.checked_from) = (Epoch(epoch), Seq(checked_from));
    Ok(log)
}

/// Finds every chunk in a file, including those that are no longer in use.
fn search(file: &File) -> io::Result<Vec<Found>> {
    let end = file.metadata()?.len();
    let (mut found, mut at, mut block) = (Vec::new(), 0, Vec::new());
    while at < end {
        // Blocks overlap, so that a magic number is whole in one of them.
        block.resize((end - at).min(BLOCK as u64 + 3) as usize, 0);
        file.read_exact_at(&mut block, at)?;
        let starts = block.windows(4).enumerate().take(BLOCK);
        let starts =
            starts.filter(|(_, bytes)| bytes[0] == b'F' && STARTS.iter().any(|start| bytes == start));
        for (offset, _) in starts {
            found.extend(chunk_at(file, at + offset as u64, end)?);
        }
        at += BLOCK as u64;
    }
    Ok(found)
}

/// A chunk, and the records that it says were deleted from the front.
#[derive(Clone, Copy, Debug)]
struct Found {
    piece: Piece,
    trimmed: Seq,
}

/// The chunk that begins at `at`, if there is one: the length at which its checksum is right.
fn chunk_at(file: &File, at: u64, end: u64) -> io::Result<Option<Found>> {
    let mut bytes = vec![0; HEADER_BYTES.min((end - at) as usize)];
    file.read_exact_at(&mut bytes, at)?;
    let Ok(header) = Header::parse(&bytes) else { return Ok(None) };
    let raw = header.raw_bytes as usize;
    if header.count == 0
        || raw < header.count as usize
        || raw > chunk::BODY_BYTES_MAX
        || header.first == Seq(0)
    {
        return Ok(None);
    }
    // Its records are stored as they are, or smaller.
    let (least, most) = match bytes[3] {
        0 => (raw, raw),
        _ => (raw / COMPRESSION_MAX, raw - 1),
    };
    let (least, most) = (HEADER_BYTES + least, (HEADER_BYTES + most).min((end - at) as usize));
    let mut sum = Checksum::new();
    sum.update(&bytes[..4]);
    sum.update(&bytes[8..]);
    let stored = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let mut len = HEADER_BYTES;
    while len <= most {
        if len >= least
            && sum.value() == stored
            && let Some(found) = whole(&bytes[..len], at)
        {
            return Ok(Some(found));
        }
        if len == bytes.len() {
            let more = STEP.min(most - len);
            if more == 0 {
                break;
            }
            bytes.resize(len + more, 0);
            file.read_exact_at(&mut bytes[len..], at + len as u64)?;
        }
        sum.update(&bytes[len..=len]);
        len += 1;
    }
    Ok(None)
}

/// A chunk whose records can all be read.
fn whole(bytes: &[u8], at: u64) -> Option<Found> {
    let mut scratch = Vec::new();
    let chunk = Chunk::parse(bytes, &mut scratch).ok()?;
    let (mut after, mut trimmed) = (chunk.header.place.link, Seq(0));
    let mut records = chunk.records();
    while let Some(record) = records.next_record().ok()? {
        after = after.after(record.raw);
        if matches!(record.kind.type_id, TRIMMED | GAP) {
            trimmed = trimmed.max(match record.fact() {
                Ok(Fact::Trimmed { last, .. }) => last,
                // A gap that nobody missed is one that was found by an earlier repair.
                Ok(Fact::Gap { last, lost_by, .. }) if !lost_by.is_empty() => last,
                _ => Seq(0),
            });
        }
    }
    Some(Found { piece: Piece { header: chunk.header, after, at, len: bytes.len() }, trimmed })
}

/// Chooses the chunks that make the log: at each position the one from which the chain leads furthest. `kept` are the
/// first positions of the first and the last chunk that the store has.
fn choose(found: &[Found], kept: Option<(Seq, Seq)>) -> Vec<Piece> {
    // Deleted chunks can still be in the file. The deletion is recorded before.
    let deleted = found.iter().map(|found| found.trimmed).max().unwrap_or_default();
    // A position that the store names may be damaged. If a chunk begins there, it is not.
    let begins = |at: &Seq| found.iter().any(|found| found.piece.header.first == *at);
    let first = kept.map(|(first, _)| first).filter(begins);
    let last = kept.map(|(_, last)| last).filter(begins);
    let in_use = |piece: &Piece| {
        let Header { first: begin, .. } = piece.header;
        first.map_or(piece.header.last() > deleted, |first| begin >= first)
            && last.is_none_or(|last| begin <= last)
    };
    let mut pieces: Vec<Piece> = found.iter().map(|found| found.piece).filter(in_use).collect();
    pieces.sort_by_key(|piece| (piece.header.first, piece.header.count));
    // How far the chain leads from the chunks that begin at a position with a link, and the piece that leads there.
    let mut leads: HashMap<(Seq, ChainHash), (Seq, usize)> = HashMap::new();
    for (index, piece) in pieces.iter().enumerate().rev() {
        let (last, link) = (piece.header.last(), piece.header.place.link);
        let reach = leads.get(&(last.next(), piece.after)).map_or(last, |(reach, _)| *reach);
        let lead = leads.entry((piece.header.first, link)).or_insert((reach, index));
        if reach > lead.0 {
            *lead = (reach, index);
        }
    }
    let mut chosen: Vec<Piece> = Vec::new();
    let mut index = 0;
    while let Some(piece) = pieces.get(index) {
        let first = piece.header.first;
        let begun = chosen.last().map(|last| (last.header.last(), last.after));
        let same = || pieces[index..].iter().take_while(|piece| piece.header.first == first);
        let continues = |link: ChainHash| begun == Some((Seq(first.0 - 1), link));
        // The chain goes on here, or after a gap begins anew.
        let links = same().map(|piece| piece.header.place.link);
        let lead = links.filter_map(|link| leads.get(&(first, link)).map(|lead| (continues(link), *lead)));
        let best = lead.max_by_key(|(continues, (reach, _))| (*continues, *reach));
        if let Some((_, (_, best))) = best
            && begun.is_none_or(|(last, _)| last < first)
        {
            chosen.extend(pieces.get(best).copied());
        }
        index += same().count();
    }
    chosen
}

/// CRC-32 (IEEE) of what has been read so far: the length is not known before.
struct Checksum(crc32fast::Hasher);

impl Checksum {
    fn new() -> Checksum {
        Checksum(crc32fast::Hasher::new())
    }

    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn value(&self) -> u32 {
        self.0.clone().finalize()
    }
}

impl super::LogReader {
    /// First positions of the first and the last chunk, whether they are intact or not.
    fn chunks_kept(&self) -> Result<Option<(Seq, Seq)>, LogError> {
        use redb::ReadableTable;
        self.read("read the log's range", |txn| {
            let chunks = txn.open_table(CHUNKS)?;
            let (first, last) = (chunks.first()?, chunks.last()?);
            Ok(first.zip(last).map(|((first, _), (last, _))| (Seq(first.value()), Seq(last.value()))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_chunks() {
        let mut sum = Checksum::new();
        sum.update(b"123456789");
        assert_eq!(sum.value(), crc32fast::hash(b"123456789"));
    }
}
