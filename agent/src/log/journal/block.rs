//! One block of the journal: a header and a part of a commit.

use fieldlog_projections::{ChainHash, Epoch, Seq};

/// Size of a block, in bytes: a page of flash and of the file system.
pub(super) const BLOCK: usize = 4096;
/// Length of the header.
const HEADER: usize = 72;
/// Bytes of a commit that a block takes.
pub(super) const ROOM: usize = BLOCK - HEADER;

const MAGIC: [u8; 2] = *b"FJ";
/// Version of the block layout that is written.
const VERSION: u8 = 1;
/// Flag of the last block of a commit.
const LAST: u8 = 1;

/// The header of a block, and its part of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    /// Epoch of the log.
    pub(super) epoch: Epoch,
    /// Number of the block, which never repeats in an epoch: it is block `number` modulo the size of the ring.
    pub(super) number: u64,
    /// How many blocks of the same commit are before it.
    pub(super) index: u32,
    /// Whether it is the last of its commit.
    pub(super) last: bool,
    /// Position of the first record of the commit, or of the next one if the commit has none.
    pub(super) first: Seq,
    /// The chain of blocks before it.
    pub(super) link: ChainHash,
    /// Its part of the commit.
    pub(super) part: &'a [u8],
}

impl<'a> Block<'a> {
    /// Number of the first block of the commit.
    pub(super) fn begin(&self) -> u64 {
        self.number.saturating_sub(u64::from(self.index))
    }

    /// Appends the block to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, if self.last { LAST } else { 0 }]);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&(self.part.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.first.0.to_le_bytes());
        out.extend_from_slice(&self.link.0);
        debug_assert_eq!(out.len() - start, HEADER);
        out.extend_from_slice(self.part);
        out.resize(start + BLOCK, 0);
        let crc = checksum(&out[start..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a block; `None` if it is not exactly as written.
    pub(super) fn read(bytes: &'a [u8; BLOCK]) -> Option<Block<'a>> {
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if bytes[..2] != MAGIC || bytes[2] != VERSION || u32_at(4) != checksum(bytes) {
            return None;
        }
        let mut link = [0; 32];
        link.copy_from_slice(&bytes[40..HEADER]);
        Some(Block {
            epoch: Epoch(u64_at(8)),
            number: u64_at(16),
            index: u32_at(24),
            last: bytes[3] & LAST != 0,
            first: Seq(u64_at(32)),
            link: ChainHash(link),
            part: bytes[HEADER..].get(..u32_at(28) as usize)?,
        })
    }
}

/// CRC-32 (IEEE) of a block except its checksum field.
fn checksum(block: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..4]);
    hasher.update(&block[8..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_was_written_and_nothing_else() {
        let block = Block {
            epoch: Epoch(7),
            number: 1 << 40,
            index: 3,
            last: true,
            first: Seq(900),
            link: ChainHash([5; 32]),
            part: &[9; 100],
        };
        let mut bytes = Vec::new();
        block.write(&mut bytes);
        let bytes: [u8; BLOCK] = bytes.try_into().unwrap();
        assert_eq!(Block::read(&bytes), Some(block));
        assert_eq!(block.begin(), (1 << 40) - 3);
        for bit in 0..BLOCK * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Block::read(&bytes), None, "bit {bit}");
        }
        assert_eq!(Block::read(&[0; BLOCK]), None);
    }
}
