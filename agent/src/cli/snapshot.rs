//! `fieldlog snapshot`.

use std::process::ExitCode;
use std::time::Duration;

use fieldlog_wire::api::administer::SnapshotDone;
use hyper::Method;

use super::text::bytes;
use super::{end, say_raw};
use crate::client::{Client, Failure, Reach};
use crate::words::say;

/// How long the writing of a snapshot may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Arguments of `fieldlog snapshot`.
#[derive(Clone, Debug, clap::Args)]
pub struct SnapshotArgs {
    /// Print the answer as it is.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Runs `fieldlog snapshot`.
pub fn main(args: &SnapshotArgs) -> ExitCode {
    end(asked(args))
}

fn asked(args: &SnapshotArgs) -> Result<u8, Failure> {
    let client = Client::open(&args.reach)?;
    let answer = client.ask(Method::POST, "/api/v1/snapshot", None::<&()>, PATIENCE)?;
    if args.json {
        say_raw(&answer.body);
        return Ok(0);
    }
    let SnapshotDone { seq, bytes: size, .. } = answer.json()?;
    say(&format!("The state at sequence {seq} is on disk, in a snapshot of {}.\n", bytes(size)));
    Ok(0)
}
