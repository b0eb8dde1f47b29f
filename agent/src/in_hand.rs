//! A note of the messages in hand, so that one that kills the process does not do so for ever: the broker sends again what
//! was not acknowledged, and the next start would die of it, too.
//!
//! The note is a file that is written without a sync. What was written survives the end of the process, whoever caused it,
//! and that is what it is for; a power cut is no message's fault. It holds the marks of large messages, from before they are
//! looked at until their commit has returned. A small message is noted when the writer panics while it looks at it, and in
//! runs that are careful: there are so many small ones that a `kill -9` would now and then hit the same one twice.
//!
//! A start that finds marks takes the messages that bear one by themselves, each with a note of its own. A message that ends
//! this run, too, is not read by the next one. An orderly end, with an error or without, takes the note away.
//!
//! The note also counts the runs in a row that died young. After [`YOUNG_DEATHS`] of them a run is careful: it takes every
//! message by itself, with a note. A message that [`WATCHED_DEATHS`] careful runs in a row died of is not read any more.
//!
//! The layout is in `FORMAT.md`.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fieldlog_projections::{ChainHash, Epoch};

use crate::message::Message;

/// Why a message was not read; kept with it in the quarantine.
pub const REASON: &str = "not read: the agent died repeatedly while it had this message in hand. Until the agent is stopped and \
                          started again in an orderly way, it does not read the like of it";

/// From this size on, topic and payload together, there is a note of a message before it is looked at.
const LARGE_BYTES: usize = 16 << 10;
/// So many runs in a row that died young make the next one careful.
pub const YOUNG_DEATHS: u32 = 4;
/// So many careful runs in a row that died with the same message in hand condemn it. A `kill -9` hits a message while it is
/// in hand by itself in a few of a hundred cases, so it would have to be very lucky four more times.
pub const WATCHED_DEATHS: u32 = 5;
/// A run that has lived so long has not died young.
pub const YOUNG: Duration = Duration::from_secs(30);
/// Messages that are not read, at most; the newest count.
const CONDEMNED_MAX: usize = 64;
/// Bytes of a note that are read, at most.
const NOTE_BYTES_MAX: u64 = 1 << 20;

/// Memory as a directory, on any Linux.
const SHARED_MEMORY: &str = "/dev/shm";

const MAGIC: [u8; 4] = *b"FLH2";
const HEADER_BYTES: usize = 80;
const NAMED_BYTES: usize = 40;

/// A message for certain: its mark, to look for it quickly, and the hash of its source, topic and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    mark: u64,
    hash: ChainHash,
}

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Nothing is known against it.
    Usual,
    /// The process may have died of it. Call [`InHand::alone`] before it is looked at, and [`InHand::survived`] after.
    Alone(Named),
    /// The process died of it twice: it must not be read.
    Unread {
        /// It has not been seen before in this run.
        first: bool,
    },
}

/// The messages in hand, and the note of them.
#[derive(Debug, Default)]
pub struct InHand {
    note: Option<Note>,
    condemned: Vec<(Named, bool)>,
    /// Marks of what was in hand when the process died, and has not come again.
    suspects: HashSet<u64>,
    /// Marks of the delivery that is being looked at.
    delivery: Vec<u64>,
    /// Marks of large messages that wait for their commit.
    waiting: Vec<u64>,
    /// A message is being looked at by itself; the note names it.
    single: bool,
    /// Runs before this one, in a row, that died young.
    young_deaths: u32,
    /// What was in hand when the last run died, if it was careful.
    watched: Option<Watched>,
    /// What is in hand by itself because this run is careful.
    watching: Option<Watched>,
}

/// A message that careful runs had in hand, and how many of them in a row will have died with it if this one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Watched {
    named: Named,
    deaths: u32,
}

#[derive(Debug)]
struct Note {
    file: File,
    path: PathBuf,
    boot: [u8; 16],
    bytes: Vec<u8>,
}

impl InHand {
    /// Continues from the note of the run before, if that ended without taking it away. `boot` is the kernel's boot id: a
    /// note from before a boot says nothing.
    ///
    /// Where no note can be kept, the operator is told, and none is.
    pub fn open(dir: &Path, epoch: Epoch, boot: [u8; 16]) -> InHand {
        let path = dir.join(format!("in-hand-{epoch}"));
        let mut in_hand = InHand::default();
        match read(&path).map(|found| in_hand.restore(&found, boot)).and_then(|()| create(&path)) {
            Ok(file) => in_hand.note = Some(Note { file, path, boot, bytes: Vec::new() }),
            Err(error) => tracing::warn!(
                "cannot note the messages in hand in {}: {error}. A message that kills the agent will kill it at every \
                 start; check the directory and its disk, then restart fieldlog",
                path.display()
            ),
        }
        in_hand.tell();
        in_hand.write(None);
        in_hand
    }

    fn tell(&self) {
        if !self.condemned.is_empty() {
            tracing::warn!(
                "the agent has died repeatedly with the same message in hand; when the message arrives again, it is \
                 quarantined unread"
            );
        }
        if self.is_careful() {
            tracing::warn!(
                "the agent has died {} times in a row, each time within {} s of its start. To find out whether a \
                 message is the cause, it records each message separately, which is slow, until this run is {} s old",
                self.young_deaths,
                YOUNG.as_secs(),
                YOUNG.as_secs()
            );
        }
        if !self.suspects.is_empty() {
            tracing::warn!(
                "the agent died with messages in hand ({} in all). Each is recorded separately when it arrives again; if one of \
                 them also ends this run, the next start does not read it",
                self.suspects.len()
            );
        }
    }

    /// Whether each message is taken by itself.
    fn is_careful(&self) -> bool {
        (YOUNG_DEATHS..NOT_YOUNG).contains(&self.young_deaths) && self.note.is_some()
    }

    /// The run is so old.
    pub fn lived(&mut self, age: Duration) {
        if age >= YOUNG && self.young_deaths != NOT_YOUNG {
            (self.young_deaths, self.watched) = (NOT_YOUNG, None);
            self.write(None);
        }
    }

    /// A delivery is about to be looked at.
    pub fn begin(&mut self, messages: &[Message]) {
        if self.note.is_some() {
            self.delivery.clear();
            self.delivery.extend(messages.iter().filter(|message| is_large(message)).map(mark));
            if !self.delivery.is_empty() {
                self.write(None);
            }
        }
    }

    /// It has been looked at.
    pub fn observed(&mut self, messages: &[Message]) {
        if !self.delivery.is_empty() {
            self.delivery.clear();
            self.waiting.extend(messages.iter().filter(|message| is_large(message)).map(mark));
            self.write(None);
        }
    }

    /// The writer panics, and this is the message that it was looking at, whatever its size.
    pub fn panicked(&mut self, message: &Message) {
        if !self.single {
            self.suspects.insert(mark(message));
            self.write(None);
        }
    }

    /// Everything that was looked at is committed.
    pub fn committed(&mut self) {
        if !self.waiting.is_empty() {
            self.waiting.clear();
            self.write(None);
        }
    }

    /// What to do with a message of this source.
    #[inline]
    pub fn treatment(&mut self, source: &str, message: &Message) -> Treatment {
        if self.condemned.is_empty() && self.suspects.is_empty() && !self.is_careful() {
            return Treatment::Usual;
        }
        self.look_up(source, message)
    }

    fn look_up(&mut self, source: &str, message: &Message) -> Treatment {
        let mark = mark(message);
        let alone = self.suspects.contains(&mark) || self.is_careful();
        if !alone && !self.condemned.iter().any(|(named, _)| named.mark == mark) {
            return Treatment::Usual;
        }
        let named = Named { mark, hash: hash(source, message) };
        if let Some((_, seen)) = self.condemned.iter_mut().find(|(condemned, _)| *condemned == named) {
            return Treatment::Unread { first: !std::mem::replace(seen, true) };
        }
        if alone { Treatment::Alone(named) } else { Treatment::Usual }
    }

    /// This message is about to be looked at.
    pub fn alone(&mut self, named: Named) {
        self.single = true;
        if self.suspects.remove(&named.mark) {
            self.write(Some(named));
            return;
        }
        // Nothing is known against it but that the run is careful.
        let before =
            self.watched.filter(|watched| watched.named == named).map_or(0, |watched| watched.deaths);
        self.watching = Some(Watched { named, deaths: before + 1 });
        self.write(None);
    }

    /// The process did not die of it.
    pub fn survived(&mut self) {
        self.single = false;
        let survived = self.watching.take().map(|watching| watching.named);
        self.watched = self.watched.filter(|watched| Some(watched.named) != survived);
        self.write(None);
    }

    /// The process ends, and no message is to blame.
    pub fn withdraw(&mut self) {
        if let Some(note) = self.note.take()
            && let Err(error) = fs::remove_file(&note.path)
        {
            tracing::warn!("cannot remove {}: {error}; remove it by hand", note.path.display());
        }
    }

    fn restore(&mut self, found: &[u8], boot: [u8; 16]) {
        let Some(found) = Found::parse(found).filter(|found| found.boot == boot) else { return };
        self.young_deaths = found.deaths;
        self.watched = found.watched.filter(|watched| watched.deaths < WATCHED_DEATHS);
        let condemned = found.watched.filter(|watched| watched.deaths >= WATCHED_DEATHS);
        let condemned = found.named.into_iter().chain(condemned.map(|watched| watched.named));
        self.condemned = condemned.map(|named| (named, false)).collect();
        let beyond = self.condemned.len().saturating_sub(CONDEMNED_MAX);
        self.condemned.drain(..beyond);
        self.suspects = found.marks.into_iter().collect();
        for (named, _) in &self.condemned {
            self.suspects.remove(&named.mark);
        }
    }

    fn write(&mut self, alone: Option<Named>) {
        let Some(note) = &mut self.note else { return };
        let marks = self.suspects.len() + self.waiting.len() + self.delivery.len();
        let named = self.condemned.iter().map(|(named, _)| named).chain(&alone);
        let bytes = &mut note.bytes;
        bytes.clear();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&note.boot);
        bytes.extend_from_slice(&(self.condemned.len() as u32 + u32::from(alone.is_some())).to_le_bytes());
        bytes.extend_from_slice(&(marks as u64).to_le_bytes());
        // What the next start is to read if this run dies now.
        bytes.extend_from_slice(&self.young_deaths.wrapping_add(1).to_le_bytes());
        let watched = self.watching.or(self.watched).unwrap_or(Watched { named: NOBODY, deaths: 0 });
        bytes.extend_from_slice(&watched.deaths.to_le_bytes());
        for named in [&watched.named].into_iter().chain(named) {
            bytes.extend_from_slice(&named.mark.to_le_bytes());
            bytes.extend_from_slice(&named.hash.0);
        }
        for mark in self.suspects.iter().chain(&self.waiting).chain(&self.delivery) {
            bytes.extend_from_slice(&mark.to_le_bytes());
        }
        if let Err(error) = note.file.write_all_at(bytes, 0) {
            tracing::warn!(
                "cannot write {}: {error}; messages in hand are no longer noted. Check the directory and its disk, then \
                 restart fieldlog",
                note.path.display()
            );
            self.note = None;
        }
    }
}

/// In place of the young deaths of a run that has lived long: one more is none.
const NOT_YOUNG: u32 = u32::MAX;
/// Stands where no message is named.
const NOBODY: Named = Named { mark: 0, hash: ChainHash([0; 32]) };

/// Whether there is a note of a message.
pub fn is_large(message: &Message) -> bool {
    message.topic.len() + message.payload.len() >= LARGE_BYTES
}

/// The directory for the note: memory that outlives the process, systemd's runtime directory or what all have. On a disk a
/// write can wait for the syncs of others, and a note that stands too long accuses a message that has been survived. `None`
/// where there is no such memory.
pub fn dir(runtime_directory: Option<&Path>) -> Option<PathBuf> {
    let given = runtime_directory.filter(|dir| dir.is_absolute());
    given.into_iter().chain([Path::new(SHARED_MEMORY)]).find(|dir| dir.is_dir()).map(Path::to_owned)
}

/// A mark that few messages share; four nanoseconds.
#[inline]
fn mark(message: &Message) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let lengths = (message.topic.len() as u64) << 32 ^ message.payload.len() as u64;
    let [a, b] = ends(&message.topic);
    let [c, d] = ends(&message.payload);
    [a, b, c, d].into_iter().fold(lengths, |mark, x| (mark.rotate_left(5) ^ x).wrapping_mul(ODD))
}

/// The first and the last eight bytes.
#[inline]
fn ends(bytes: &[u8]) -> [u64; 2] {
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return [u64::from_le_bytes(*first), u64::from_le_bytes(*last)];
    }
    let mut short = [0; 8];
    short[..bytes.len()].copy_from_slice(bytes);
    [u64::from_le_bytes(short), 0]
}

/// Hashes of hashes, so that no part can pass for the end of the one before.
fn hash(source: &str, message: &Message) -> ChainHash {
    ChainHash::default().after(source.as_bytes()).after(&message.topic).after(&message.payload)
}

/// What a note says.
struct Found {
    boot: [u8; 16],
    deaths: u32,
    watched: Option<Watched>,
    named: Vec<Named>,
    marks: Vec<u64>,
}

impl Found {
    /// `None` if the bytes are not a note. A note that was cut short gives what it has.
    fn parse(bytes: &[u8]) -> Option<Found> {
        let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
        let named = u32::from_le_bytes(*header[20..].first_chunk()?) as usize;
        let marks = u64::from_le_bytes(*header[24..].first_chunk()?) as usize;
        let (names, rest) = rest.split_at_checked(named.checked_mul(NAMED_BYTES)?)?;
        let name = |bytes: &[u8]| {
            let mark = u64::from_le_bytes(*bytes.first_chunk()?);
            Some(Named { mark, hash: ChainHash(*bytes.last_chunk()?) })
        };
        let mark = |bytes: &[u8]| Some(u64::from_le_bytes(*bytes.first_chunk()?));
        let deaths = u32::from_le_bytes(*header[36..].first_chunk()?);
        let watched = Watched { named: name(&header[40..])?, deaths };
        (header[..4] == MAGIC).then_some(Found {
            boot: *header[4..].first_chunk()?,
            deaths: u32::from_le_bytes(*header[32..].first_chunk()?),
            watched: Some(watched).filter(|watched| watched.deaths > 0),
            named: names.chunks_exact(NAMED_BYTES).filter_map(name).collect(),
            marks: rest.chunks_exact(8).take(marks).filter_map(mark).collect(),
        })
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(NOTE_BYTES_MAX).read_to_end(&mut bytes).map(|_| bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(bytes),
        Err(error) => Err(error),
    }
}

fn create(path: &Path) -> io::Result<File> {
    // Others may write to a shared directory: what is there must be a file of ours, not a link to one.
    let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests;
