//! `fieldlog at`.

use std::process::ExitCode;

use super::devices::{Filter, listed};
use super::moment::{self, Moment};
use super::{device, end};

/// Arguments of `fieldlog at`.
#[derive(Clone, Debug, clap::Args)]
pub struct AtArgs {
    /// The moment: a time such as 2026-11-23T10:00:00Z or "2026-11-23 10:00" (local), how long ago, such as 15m, 2h or 3d,
    /// or a sequence number.
    #[arg(value_name = "TIME|SEQUENCE", value_parser = moment::time_or_seq)]
    moment: Moment,
    /// Only this device, by its id.
    #[arg(conflicts_with_all = ["source", "availability", "retired"])]
    device: Option<String>,
    #[command(flatten)]
    filter: Filter,
}

/// Runs `fieldlog at`.
pub fn main(args: &AtArgs) -> ExitCode {
    let Filter { json, reach, .. } = &args.filter;
    end(match &args.device {
        Some(device) => device::show(device, Some(&args.moment), *json, reach),
        None => listed(&args.filter, Some(&args.moment)),
    })
}
