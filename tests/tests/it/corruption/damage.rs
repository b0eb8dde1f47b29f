//! One spot of damage.

use fieldlog_tests::rng::Rng;

use super::content::{Original, PAGE};

const SECTOR: usize = 512;
/// The names of the tables, as stored in the file.
pub const TABLES: [&str; 7] = ["meta", "chunks", "cursors", "quarantine", "archive", "corrections", "sums"];

#[derive(Clone, Debug)]
pub enum Damage {
    Bit {
        at: usize,
        bit: u8,
    },
    Byte {
        at: usize,
        value: u8,
    },
    Zeroed {
        at: usize,
        len: usize,
    },
    Noise {
        at: usize,
        len: usize,
        seed: u64,
    },
    /// Two pages were exchanged.
    Swapped {
        a: usize,
        b: usize,
    },
    /// One page was overwritten with a copy of another.
    Doubled {
        from: usize,
        to: usize,
    },
    /// Every occurrence of a name was changed.
    Renamed {
        name: &'static str,
        at: usize,
        to: u8,
    },
    Cut {
        len: usize,
    },
}

impl Damage {
    pub fn new(rng: &mut Rng, original: &Original) -> Damage {
        let page = |rng: &mut Rng| *rng.pick(&original.live) * PAGE;
        // The used parts of a page are at its beginning and its end.
        let spot = |rng: &mut Rng| match rng.below(3) {
            0 => page(rng) + rng.below(64),
            1 => page(rng) + PAGE - 1 - rng.below(256),
            _ => page(rng) + rng.below(PAGE),
        };
        let any = |rng: &mut Rng| rng.below(original.bytes.len() / PAGE) * PAGE;
        match rng.below(20) {
            0..6 => Damage::Bit { at: spot(rng), bit: rng.below(8) as u8 },
            6..9 => Damage::Byte { at: spot(rng), value: *rng.pick(&[0, 1, 2, 3, 255, 128]) },
            9..11 => Damage::Zeroed { at: page(rng) + rng.below(PAGE / SECTOR) * SECTOR, len: SECTOR },
            11..13 => Damage::Zeroed { at: page(rng), len: PAGE },
            13 => Damage::Noise { at: page(rng), len: *rng.pick(&[8, SECTOR, PAGE]), seed: rng.next_u64() },
            14..16 => Damage::Swapped { a: page(rng), b: page(rng) },
            16 => Damage::Swapped { a: page(rng), b: any(rng) },
            17 => Damage::Doubled { from: any(rng), to: page(rng) },
            18 => {
                let name = *rng.pick(&TABLES);
                Damage::Renamed { name, at: rng.below(name.len()), to: b'a' + rng.below(26) as u8 }
            }
            _ => Damage::Cut { len: 1 + rng.below(original.bytes.len() - 1) },
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Damage::Bit { .. } => "bit",
            Damage::Byte { .. } => "byte",
            Damage::Zeroed { .. } => "zeroed",
            Damage::Noise { .. } => "noise",
            Damage::Swapped { .. } => "swapped",
            Damage::Doubled { .. } => "doubled",
            Damage::Renamed { .. } => "renamed",
            Damage::Cut { .. } => "cut",
        }
    }

    pub fn done_to(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        match *self {
            Damage::Bit { at, bit } => bytes[at] ^= 1 << bit,
            Damage::Byte { at, value } => bytes[at] = value,
            Damage::Zeroed { at, len } => bytes[at..at + len].fill(0),
            Damage::Noise { at, len, seed } => {
                bytes[at..at + len].copy_from_slice(&Rng::new(seed).bytes(len));
            }
            Damage::Swapped { a, b } => {
                let page = bytes[a..a + PAGE].to_vec();
                bytes.copy_within(b..b + PAGE, a);
                bytes[b..b + PAGE].copy_from_slice(&page);
            }
            Damage::Doubled { from, to } => bytes.copy_within(from..from + PAGE, to),
            Damage::Renamed { name, at, to } => {
                for found in find(&bytes, name.as_bytes()) {
                    bytes[found + at] = to;
                }
            }
            Damage::Cut { len } => bytes.truncate(len),
        }
        bytes
    }
}

/// Every place of some bytes.
pub fn find(bytes: &[u8], what: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = bytes[at..].windows(what.len()).position(|window| window == what) {
        found.push(at + next);
        at += next + 1;
    }
    found
}
