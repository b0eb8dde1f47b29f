//! `fieldlog replay`: folds the log of a stopped agent, or a copy of it, and prints the digest of the state.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fieldlog_projections::digest::StateDigest;
use fieldlog_projections::{Seq, Time};
use fieldlog_wire::json::{Rfc3339, parse_time};

use crate::cli::end;
use crate::client::Failure;
use crate::stopped::Stopped;
use crate::words::say;

/// Arguments of `fieldlog replay`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "The digest is that of `state_digest` in the gateway's /status?state_digest=true at that position, by the \
                  same version of fieldlog. It covers devices, descriptions, Sparkplug sessions and commands; not the \
                  aggregates, whose windows are configuration. A log that begins at 1 is folded from there, whatever \
                  snapshots there are; one whose front was deleted, from the newest snapshot before the position.\n\n\
                  Exit codes: 0 done; 64 the log does not have that position; 65 the log is damaged, or has no state for that \
                  position; 74 disk or file error, or an agent is using the log."
)]
pub struct ReplayArgs {
    /// The data directory, or a backup.
    #[arg(long, default_value = "/var/lib/fieldlog", value_name = "DIR")]
    data_dir: PathBuf,
    /// Up to this sequence number, or to the last record at this time, such as 2026-11-23T10:00:00Z [default: the whole log].
    #[arg(long, value_name = "SEQ|TIME", value_parser = until)]
    until: Option<Until>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Seq(Seq),
    Time(Time),
}

fn until(text: &str) -> Result<Until, &'static str> {
    if let Ok(seq) = text.parse() {
        return Ok(Until::Seq(Seq(seq)));
    }
    parse_time(text)
        .map(Until::Time)
        .ok_or("give a sequence number, or a time with an offset, such as 2026-11-23T10:00:00Z")
}

/// Runs `fieldlog replay`.
pub fn main(args: &ReplayArgs) -> ExitCode {
    end(replay(&args.data_dir, args.until).map(|words| {
        say(&words);
        0
    }))
}

fn replay(data_dir: &Path, until: Option<Until>) -> Result<String, Failure> {
    let stopped = Stopped::open(data_dir)?;
    let (epoch, head) = (stopped.epoch(), stopped.head());
    let at = match until {
        None => head,
        Some(Until::Seq(seq)) if seq > head => {
            return Err(Failure::usage(format!("--until {seq}: the log ends at sequence {head}")));
        }
        Some(Until::Seq(seq)) => seq,
        Some(Until::Time(time)) => stopped.position_at(time)?,
    };
    let folded = stopped.folded(at)?;
    let view = &folded.view;
    let digest = StateDigest::of(view).map_err(|error| Failure::internal(error.to_string()))?;
    let mut words = format!("epoch   {epoch}\n");
    let _ = match folded.base {
        Seq(0) => writeln!(words, "folded  {} records from the beginning", folded.replayed),
        snapshot => writeln!(words, "folded  {} records after the snapshot at {snapshot}", folded.replayed),
    };
    let _ = writeln!(
        words,
        "state   at sequence {}, {}: {} devices",
        view.seq,
        Rfc3339(view.time),
        view.devices.iter().count()
    );
    let digest = digest.ok_or_else(|| {
        Failure::data("the snapshot was written by an older fieldlog and lacks parts of the state, so there is no digest")
    })?;
    let _ = writeln!(words, "digest  {digest}");
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_position_or_a_time() {
        assert_eq!(until("17"), Ok(Until::Seq(Seq(17))));
        assert_eq!(until("2025-11-23T10:00:00Z"), Ok(Until::Time(Time::from_secs(1_763_892_000))));
        assert!(until("yesterday").unwrap_err().contains("sequence number"));
    }
}
