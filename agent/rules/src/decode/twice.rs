//! Names that stand in one object twice. For every other reader of JSON the last one counts, so it does here. But a document
//! that is read as it comes would have taken the first one by then; it is therefore left, and built as a whole. Lists that are one
//! value are built anyway; how long one is, is measured with what stands in it twice.

/// So many names of an object are compared each with each; more are sorted when the object ends.
const FEW: usize = 64;

/// Hashes of the names in the objects around a place. Two names that differ and have the same hash cost time and nothing else.
#[derive(Debug, Default)]
pub(super) struct Names {
    hashes: Vec<u64>,
    /// A name has come again.
    again: bool,
    /// A name has a point in it, so that two places may have the same path.
    points: bool,
}

impl Names {
    pub(super) fn clear(&mut self) {
        self.hashes.clear();
        (self.again, self.points) = (false, false);
    }

    pub(super) fn release(&mut self) {
        self.hashes = Vec::new();
    }

    pub(super) fn capacity(&self) -> usize {
        self.hashes.capacity() * size_of::<u64>()
    }

    /// Where the names of an object begin.
    pub(super) fn begin(&self) -> usize {
        self.hashes.len()
    }

    /// Whether a name of the object that began at `first` may have been there before.
    #[inline]
    pub(super) fn enter(&mut self, first: usize, name: &str) -> bool {
        let hash = hash(name.as_bytes());
        let before = &self.hashes[first..];
        self.again = before.len() <= FEW && before.contains(&hash);
        self.hashes.push(hash);
        self.again
    }

    /// The object that began at `first` is over: whether a name may have been there twice.
    #[inline]
    pub(super) fn end(&mut self, first: usize) -> bool {
        if self.hashes.len() - first > FEW {
            let hashes = &mut self.hashes[first..];
            hashes.sort_unstable();
            self.again = hashes.windows(2).any(|pair| pair[0] == pair[1]);
        }
        self.hashes.truncate(first);
        self.again
    }

    /// Whether a name had a point in it, so that two places may have the same path.
    pub(super) fn has_points(&self) -> bool {
        self.points
    }

    pub(super) fn note_point(&mut self) {
        self.points = true;
    }

    /// Whether a document was left because of a name that may have come again.
    pub(super) fn take_again(&mut self) -> bool {
        std::mem::take(&mut self.again)
    }
}

/// Eight bytes at a time; the names are short.
#[inline]
fn hash(name: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    let (words, rest) = name.as_chunks::<8>();
    let hash = words.iter().fold(name.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    mix(hash, rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
}
