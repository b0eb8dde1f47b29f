//! What a repair has done, in words.

use std::fmt;

use fieldlog_projections::{Epoch, Seq};
use serde_json::json;

use super::beside::Beside;
use crate::words::number;

/// Lost ranges that are printed.
const LOST_LISTED: usize = 50;

/// A repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The new epoch.
    pub epoch: Epoch,
    /// That of the damaged log, if it is known.
    pub previous: Option<Epoch>,
    /// Intact records.
    pub saved: u64,
    /// First and last position of the intact records.
    pub range: (Seq, Seq),
    /// Ranges that were lost before or between them.
    pub lost: Vec<(Seq, Seq)>,
    /// Positions after them that are known to have had records.
    pub lost_end: Option<(Seq, Seq)>,
    /// Devices and attributes whose names were lost.
    pub unnamed: u64,
    /// How many of the intact records only the journal had.
    pub in_journal: u64,
    /// Whether the journal had others, or may have had.
    pub journal_lost: bool,
    /// What was taken over beside the records.
    pub beside: Beside,
    /// Name of the damaged file from now on.
    pub kept: String,
    /// Position of the record that begins the epoch.
    pub begun: Seq,
}

impl Repaired {
    /// For programs.
    pub fn as_json(&self) -> serde_json::Value {
        let range = |(first, last): &(Seq, Seq)| json!({"first": first, "last": last});
        let Beside { quarantine, quarantine_lost, rollups, rollups_lost } = self.beside;
        json!({
            "repaired": true,
            "epoch": self.epoch.to_string(),
            "previous_epoch": self.previous.map(|epoch| epoch.to_string()),
            "saved": self.saved,
            "first": self.range.0,
            "last": self.range.1,
            "lost": self.lost.iter().map(range).collect::<Vec<_>>(),
            "lost_end": self.lost_end.as_ref().map(range),
            "unnamed": self.unnamed,
            "journal_records": self.in_journal,
            "journal_lost": self.journal_lost,
            "quarantine": quarantine,
            "quarantine_lost": quarantine_lost,
            "archive_rows": rollups,
            "archive_lost": rollups_lost,
            "kept": self.kept,
            "begun": self.begun,
        })
    }
}

impl fmt::Display for Repaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let previous = self.previous.map_or_else(|| "unknown".to_owned(), |epoch| epoch.to_string());
        writeln!(f, "epoch      {}, after {previous}", self.epoch)?;
        writeln!(
            f,
            "saved      {}, from {} to {}",
            number(self.saved, "record"),
            self.range.0,
            self.range.1
        )?;
        for (first, last) in self.lost.iter().take(LOST_LISTED) {
            writeln!(f, "LOST       {first} to {last}")?;
        }
        if let Some(more) = self.lost.len().checked_sub(LOST_LISTED).filter(|more| *more > 0) {
            writeln!(f, "LOST       {} more", number(more as u64, "range"))?;
        }
        if let Some((first, last)) = self.lost_end {
            writeln!(f, "LOST       {first} to {last} at the end; these positions are used again")?;
        }
        if self.unnamed > 0 {
            writeln!(f, "unnamed    {} devices and attributes are called lost-NUMBER now", self.unnamed)?;
        }
        if self.in_journal > 0 {
            writeln!(f, "journal    {} of these records were only there", self.in_journal)?;
        }
        if self.journal_lost {
            writeln!(f, "LOST       the journal cannot be read; it may have had the newest records")?;
        }
        let or_lost = |lost| if lost { "; others are lost" } else { "" };
        let Beside { quarantine, quarantine_lost, rollups, rollups_lost } = self.beside;
        writeln!(f, "quarantine {}{}", number(quarantine, "payload"), or_lost(quarantine_lost))?;
        writeln!(f, "archive    {}{}", number(rollups, "row"), or_lost(rollups_lost))?;
        writeln!(f, "kept       the damaged log as {}, its snapshots as *.old-epoch", self.kept)?;
        writeln!(
            f,
            "result     repaired: the records from sequence {} on say what was done and what is lost. Sinks get the whole log \
             again, as one of a new epoch. Start fieldlog as usual.",
            self.begun
        )
    }
}
