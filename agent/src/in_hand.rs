//! A note of the messages in hand, so that a message that kills the process does not kill it at every start: the broker
//! redelivers what was not acknowledged.
//!
//! The note is a file that is written without a sync. It survives any end of the process, which is enough, since a
//! power cut is no message's fault. It holds the marks of large messages, from before they are observed until their
//! commit has returned. A small message is noted only when the writer panics while observing it, and in careful runs:
//! there are so many small ones that a `kill -9` would now and then hit the same one twice.
//!
//! If a start finds marks, it handles messages with such a mark alone, each with a note of its own. A message that also
//! ends this run is not read by the next one. An orderly end, with an error or without, removes the note.
//!
//! The note also counts consecutive runs that died young. After [`YOUNG_DEATHS`] of them a run is careful: it handles
//! every message alone, with a note. A message that was in hand when [`WATCHED_DEATHS`] consecutive careful runs died
//! is not read any more.
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

/// Why a message was not read; stored in the quarantine.
pub const REASON: &str = "not read: the agent died repeatedly while it had this message in hand. Until the agent is stopped and \
                          started again in an orderly way, it does not read the like of it";

/// From this size on, topic and payload together, a message is noted before it is observed.
const LARGE_BYTES: usize = 16 << 10;
/// After this many consecutive young deaths, the next run is careful.
pub const YOUNG_DEATHS: u32 = 4;
/// After this many consecutive careful runs died with the same message in hand, it is condemned. A `kill -9` hits a
/// message while it is in hand alone in a few percent of cases, so a random one would have to hit it four more times.
pub const WATCHED_DEATHS: u32 = 5;
/// A run that was older than this did not die young.
pub const YOUNG: Duration = Duration::from_secs(30);
/// Maximum condemned messages; the newest are kept.
const CONDEMNED_MAX: usize = 64;
/// Maximum bytes read of a note.
const NOTE_BYTES_MAX: u64 = 1 << 20;

/// Shared memory, available on any Linux.
const SHARED_MEMORY: &str = "/dev/shm";

const MAGIC: [u8; 4] = *b"FLH2";
const HEADER_BYTES: usize = 80;
const NAMED_BYTES: usize = 40;

/// An exact identity of a message: its mark, for quick comparison, and the hash of its source, topic and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    mark: u64,
    hash: ChainHash,
}

/// How to handle a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// The message is not suspect.
    Usual,
    /// The process may have died of it. Call [`InHand::alone`] before it is observed, and [`InHand::survived`] after.
    Alone(Named),
    /// The process has died of it repeatedly: it must not be read.
    Unread {
        /// It has not been seen before in this run.
        first: bool,
    },
}

/// The messages in hand, and their note.
#[derive(Debug, Default)]
pub struct InHand {
    note: Option<Note>,
    condemned: Vec<(Named, bool)>,
    /// Marks of messages in hand at the last death that have not arrived again.
    suspects: HashSet<u64>,
    /// Marks of the delivery that is being observed.
    delivery: Vec<u64>,
    /// Marks of large messages waiting for their commit.
    waiting: Vec<u64>,
    /// A message is being observed alone; the note names it.
    single: bool,
    /// Consecutive earlier runs that died young.
    young_deaths: u32,
    /// The message in hand when the last run died, if that run was careful.
    watched: Option<Watched>,
    /// The message in hand alone because this run is careful.
    watching: Option<Watched>,
}

/// A message that careful runs had in hand, and the number of consecutive deaths with it if this run dies now.
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
    /// Continues from the note of the previous run, if that left one. `boot` is the kernel's boot id: a note from
    /// before a boot is ignored.
    ///
    /// If no note can be kept, warns the operator and continues without.
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

    /// Whether each message is handled alone.
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

    /// A delivery is about to be observed.
    pub fn begin(&mut self, messages: &[Message]) {
        if self.note.is_some() {
            self.delivery.clear();
            self.delivery.extend(messages.iter().filter(|message| is_large(message)).map(mark));
            if !self.delivery.is_empty() {
                self.write(None);
            }
        }
    }

    /// It was observed.
    pub fn observed(&mut self, messages: &[Message]) {
        if !self.delivery.is_empty() {
            self.delivery.clear();
            self.waiting.extend(messages.iter().filter(|message| is_large(message)).map(mark));
            self.write(None);
        }
    }

    /// The writer panics while observing this message, whatever its size.
    pub fn panicked(&mut self, message: &Message) {
        if !self.single {
            self.suspects.insert(mark(message));
            self.write(None);
        }
    }

    /// Everything that was observed is committed.
    pub fn committed(&mut self) {
        if !self.waiting.is_empty() {
            self.waiting.clear();
            self.write(None);
        }
    }

    /// How to handle a message of this source.
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

    /// This message is about to be observed.
    pub fn alone(&mut self, named: Named) {
        self.single = true;
        if self.suspects.remove(&named.mark) {
            self.write(Some(named));
            return;
        }
        // It is suspect only because the run is careful.
        let before =
            self.watched.filter(|watched| watched.named == named).map_or(0, |watched| watched.deaths);
        self.watching = Some(Watched { named, deaths: before + 1 });
        self.write(None);
    }

    /// The process survived it.
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
        let Some(found) = NoteContent::parse(found).filter(|found| found.boot == boot) else { return };
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
        // The number that the next start must read if this run dies now.
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

/// Replaces the number of young deaths once a run is old: one more would be 0.
const NOT_YOUNG: u32 = u32::MAX;
/// Placeholder if no message is named.
const NOBODY: Named = Named { mark: 0, hash: ChainHash([0; 32]) };

/// Whether a message is noted.
pub fn is_large(message: &Message) -> bool {
    message.topic.len() + message.payload.len() >= LARGE_BYTES
}

/// The directory for the note: memory that outlives the process, systemd's runtime directory or shared memory. On a
/// disk a write may wait for other syncs, and a note that stays too long accuses a message that was survived. `None` if
/// there is no such memory.
pub fn dir(runtime_directory: Option<&Path>) -> Option<PathBuf> {
    let given = runtime_directory.filter(|dir| dir.is_absolute());
    given.into_iter().chain([Path::new(SHARED_MEMORY)]).find(|dir| dir.is_dir()).map(Path::to_owned)
}

/// A mark that few messages share; takes four nanoseconds.
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

/// Nested hashes, so that no part can pass for the end of the previous one.
fn hash(source: &str, message: &Message) -> ChainHash {
    ChainHash::default().after(source.as_bytes()).after(&message.topic).after(&message.payload)
}

/// The content of a note.
struct NoteContent {
    boot: [u8; 16],
    deaths: u32,
    watched: Option<Watched>,
    named: Vec<Named>,
    marks: Vec<u64>,
}

impl NoteContent {
    /// `None` if the bytes are not a note. A truncated note gives what it has.
    fn parse(bytes: &[u8]) -> Option<NoteContent> {
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
        (header[..4] == MAGIC).then_some(NoteContent {
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
    // Others may write to a shared directory: the file must be ours, not a link to another.
    let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests;
