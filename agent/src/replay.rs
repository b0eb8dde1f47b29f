//! `fieldlog replay`: folds the log of a stopped agent, or a copy of it, and prints the digest of the state.

use std::path::PathBuf;
use std::process::ExitCode;

use fieldlog_projections::digest::StateDigest;
use fieldlog_projections::{Seq, Time};
use fieldlog_wire::json::{Rfc3339, parse_time};
use serde_json::json;

use crate::cli::end;
use crate::client::Failure;
use crate::stopped::Stopped;
use crate::words::{number, say, say_json};

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
    /// Print position, digest and counts as one JSON object.
    #[arg(long)]
    json: bool,
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
    end(replay(args))
}

fn replay(args: &ReplayArgs) -> Result<u8, Failure> {
    let stopped = Stopped::open(&args.data_dir)?;
    let (epoch, head) = (stopped.epoch(), stopped.head());
    let at = match args.until {
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
    let (seq, time, devices) = (view.seq, Rfc3339(view.time), view.devices.iter().count());
    let digest = digest.ok_or_else(|| {
        Failure::data("the snapshot was written by an older fieldlog and lacks parts of the state, so there is no digest")
    })?;
    if args.json {
        say_json(&json!({
            "epoch": epoch.to_string(),
            "snapshot": folded.base,
            "replayed": folded.replayed,
            "seq": seq,
            "time": time,
            "devices": devices,
            "digest": digest.to_string(),
        }));
        return Ok(0);
    }
    let replayed = number(folded.replayed, "record");
    let folded = match folded.base {
        Seq(0) => format!("{replayed} from the beginning"),
        snapshot => format!("{replayed} after the snapshot at {snapshot}"),
    };
    let devices = number(devices as u64, "device");
    say(&format!(
        "epoch   {epoch}\nfolded  {folded}\nstate   at sequence {seq}, {time}: {devices}\ndigest  {digest}\n"
    ));
    Ok(0)
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
