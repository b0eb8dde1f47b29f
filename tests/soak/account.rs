//! The result of an attack.

use std::any::Any;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// `MemoryMax=` of the unit, in bytes.
pub const MEMORY_BYTES_MAX: u64 = 256 << 20;
/// Of a panic's words.
const NOTE_CHARS_MAX: usize = 1_500;

pub const HEADING: &str =
    "attack         rounds   deaths  repeated     lost    wrong  checked       peak  result";

#[derive(Debug, Default)]
struct Counts {
    rounds: u64,
    deaths: u64,
    repeated: u64,
    lost: u64,
    wrong: u64,
    checked: u64,
    peak_bytes: u64,
    failures: u64,
    notes: Vec<String>,
    /// Number of notes at the end of the previous round.
    notes_before: usize,
}

/// Counts of one attack, over all rounds.
#[derive(Debug, Default)]
pub struct Account(Mutex<Counts>);

impl Account {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent ended unexpectedly.
    pub fn died(&self, how: &str) {
        let mut counts = self.counts();
        counts.deaths += 1;
        counts.notes.push(shorten(how));
    }

    /// This many items were recorded or delivered more than once.
    pub fn repeated(&self, number: usize, what: &str) {
        self.add(number, what, |counts| &mut counts.repeated);
    }

    /// This many acknowledged items are missing.
    pub fn lost(&self, number: usize, what: &str) {
        self.add(number, what, |counts| &mut counts.lost);
    }

    /// This many answers or states are wrong.
    pub fn wrong(&self, number: usize, what: &str) {
        self.add(number, what, |counts| &mut counts.wrong);
    }

    fn add(&self, number: usize, what: &str, of: fn(&mut Counts) -> &mut u64) {
        if number > 0 {
            let mut counts = self.counts();
            *of(&mut counts) += number as u64;
            counts.notes.push(shorten(what));
        }
    }

    /// This many items were checked: a row without checks proves nothing.
    pub fn checked(&self, number: usize) {
        self.counts().checked += number as u64;
    }

    /// The agent's peak memory.
    pub fn peak(&self, bytes: u64) {
        let mut counts = self.counts();
        counts.peak_bytes = counts.peak_bytes.max(bytes);
    }

    /// Failed rounds.
    pub fn failures(&self) -> u64 {
        self.counts().failures
    }

    /// A round has ended, with a panic or without.
    pub fn round(&self, attack: &str, seed: u64, panic: Option<Box<dyn Any + Send>>) {
        let mut counts = self.counts();
        counts.rounds += 1;
        if let Some(panic) = panic {
            counts.wrong += 1;
            counts.notes.push(shorten(words(&*panic)));
        }
        if counts.notes.len() > counts.notes_before {
            counts.failures += 1;
            counts.notes.push(format!("again: --only {attack} --seed {seed} --rounds 1"));
        }
        counts.notes_before = counts.notes.len();
    }

    /// Whether the agent withstood it.
    pub fn is_ok(&self) -> bool {
        let c = self.counts();
        c.deaths + c.repeated + c.lost + c.wrong == 0
            && c.peak_bytes < MEMORY_BYTES_MAX
            && c.rounds > 0
            && c.checked > 0
    }

    /// Its row of the table.
    pub fn row(&self, name: &str) -> String {
        let result = if self.is_ok() { "ok" } else { "FAILED" };
        let c = self.counts();
        // Attacks in this process have no memory figure of their own.
        let peak = if c.peak_bytes == 0 {
            "-".into()
        } else {
            format!("{:.1} MiB", c.peak_bytes as f64 / 1_048_576.0)
        };
        format!(
            "{name:<13} {:>7} {:>8} {:>9} {:>8} {:>8} {:>8} {peak:>10}  {result}",
            c.rounds, c.deaths, c.repeated, c.lost, c.wrong, c.checked
        )
    }

    /// Prints what went wrong.
    pub fn notes(&self, name: &str) {
        for note in &self.counts().notes {
            println!("{name}: {note}");
        }
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(NOTE_CHARS_MAX).collect()
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}
