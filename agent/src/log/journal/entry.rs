//! What a commit has in the journal.

use fieldlog_projections::chunk::{Chunk, Place, RecordBuffer};
use fieldlog_projections::{Seq, Time};
use serde::{Deserialize, Serialize};

use crate::log::Commit;

/// The lengths of what follows it.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// Log time of the record before the first.
    base_time: i64,
    records: u32,
    records_bytes: u32,
    /// Of each payload for the quarantine: index of its record, and length.
    quarantine: Vec<(u32, u32)>,
    resolved: Vec<u64>,
    /// Of each cursor: name, and length.
    cursors: Vec<(String, u32)>,
    doubted: Option<u64>,
}

/// A commit that was read from the journal.
#[derive(Debug)]
pub(in crate::log) struct Entry {
    pub(super) records: RecordBuffer,
    quarantine: Vec<(usize, Vec<u8>)>,
    resolved: Vec<Seq>,
    cursors: Vec<(String, Vec<u8>)>,
    doubted: Option<u64>,
}

impl Entry {
    /// The commit.
    pub(in crate::log) fn commit(&self) -> Commit<'_> {
        Commit {
            quarantine: &self.quarantine,
            resolved: &self.resolved,
            cursors: &self.cursors,
            doubted: self.doubted,
            ..Commit::of(&self.records)
        }
    }

    /// Whether a commit has only what an entry can hold.
    pub(in crate::log) fn holds(commit: &Commit<'_>) -> bool {
        commit.trim_before.is_none()
            && commit.rollups.is_empty()
            && commit.trim_rollups_before.is_none()
            && commit.corrected.is_none()
    }

    /// Bytes of a commit in the journal, approximately.
    pub(in crate::log) fn size(commit: &Commit<'_>) -> usize {
        let quarantine = commit.quarantine.iter().map(|(_, payload)| payload.len() + 8).sum::<usize>();
        let cursors =
            commit.cursors.iter().map(|(name, cursor)| name.len() + cursor.len() + 8).sum::<usize>();
        commit.records.bytes() + quarantine + cursors + commit.resolved.len() * 8 + 32
    }

    /// Writes a commit.
    pub(super) fn write(commit: &Commit<'_>, out: &mut Vec<u8>) -> Result<(), postcard::Error> {
        let head = Head {
            base_time: commit.records.base_time().0,
            records: commit.records.len() as u32,
            records_bytes: commit.records.bytes() as u32,
            quarantine: commit.quarantine.iter().map(|(at, p)| (*at as u32, p.len() as u32)).collect(),
            resolved: commit.resolved.iter().map(|seq| seq.0).collect(),
            cursors: commit.cursors.iter().map(|(name, c)| (name.clone(), c.len() as u32)).collect(),
            doubted: commit.doubted,
        };
        *out = postcard::to_extend(&head, std::mem::take(out))?;
        out.extend_from_slice(commit.records.body());
        for (_, payload) in commit.quarantine {
            out.extend_from_slice(payload);
        }
        for (_, cursor) in commit.cursors {
            out.extend_from_slice(cursor);
        }
        Ok(())
    }

    /// Reads a commit whose first record is at `first`; `None` if it is not as written.
    pub(super) fn read(bytes: &[u8], first: Seq) -> Option<Entry> {
        let (head, mut rest): (Head, _) = postcard::take_from_bytes(bytes).ok()?;
        let mut take = |len: u32| {
            let (part, behind) = rest.split_at_checked(len as usize)?;
            rest = behind;
            Some(part)
        };
        let base_time = Time(head.base_time);
        let mut records = RecordBuffer::after(base_time);
        let body = take(head.records_bytes)?;
        if head.records > 0 {
            records.join(&Chunk::of_body(first, head.records, base_time, Place::default(), body)).ok()?;
        } else if !body.is_empty() {
            return None;
        }
        let quarantine = head.quarantine.iter().map(|(at, len)| Some((*at as usize, take(*len)?.to_vec())));
        let quarantine = quarantine.collect::<Option<Vec<_>>>()?;
        let cursors = head.cursors.into_iter().map(|(name, len)| Some((name, take(len)?.to_vec())));
        let cursors = cursors.collect::<Option<Vec<_>>>()?;
        rest.is_empty().then(|| Entry {
            records,
            quarantine,
            resolved: head.resolved.into_iter().map(Seq).collect(),
            cursors,
            doubted: head.doubted,
        })
    }
}
