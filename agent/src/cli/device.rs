//! `fieldlog device`.

use std::process::ExitCode;

use fieldlog_wire::api::administer::{DeviceDone, ReasonBody, RenameBody};
use fieldlog_wire::json::percent;

use super::moment::{self, Moment};
use super::text::{number, plain};
use super::{end, say_raw};
use crate::client::{Client, Failure, Reach};
use crate::words::say;

mod show;

pub(super) use show::show;

/// Arguments of `fieldlog device`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    after_help = "A device that is called like a command is shown by `fieldlog device -- retire`.\n\n\
                  Exit codes: 0 done; 65 rejected, or no such device; 69 fieldlog cannot be reached; 75 not possible now; 77 \
                  not allowed."
)]
pub struct DeviceArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// The device to show, by its id.
    device: Option<String>,
    /// Its state at this time, such as 2026-11-23T10:00:00Z or 2h (ago), or at this sequence.
    #[arg(long, value_name = "TIME|SEQUENCE", value_parser = moment::time_or_seq)]
    at: Option<Moment>,
    /// Print the answer as it is.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// Retire a device. Its state and history stay, and it comes back as soon as it is heard again.
    Retire {
        #[command(flatten)]
        of: Of,
    },
    /// Forget a device: its state and its names. Its records stay in the log until retention deletes them, and whoever
    /// received them keeps them.
    Forget {
        #[command(flatten)]
        of: Of,
    },
    /// Give a device another id. Number and history stay, and the former id still finds it.
    Rename {
        /// Its id from now on.
        #[arg(value_name = "NEW", index = 2)]
        to: String,
        #[command(flatten)]
        of: Of,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct Of {
    /// The device, by its id.
    #[arg(index = 1)]
    device: String,
    /// Why, for the log.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Print the answer as it is.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Runs `fieldlog device`.
pub fn main(args: &DeviceArgs) -> ExitCode {
    end(match (&args.what, &args.device) {
        (Some(what), _) => done(what),
        (None, Some(device)) => show(device, args.at.as_ref(), args.json, &args.reach),
        (None, None) => Err(Failure::usage("name the device; `fieldlog devices` lists them")),
    })
}

fn done(what: &What) -> Result<u8, Failure> {
    let (What::Retire { of } | What::Forget { of } | What::Rename { of, .. }) = what;
    let client = Client::open(&of.reach)?;
    let device = percent(&of.device);
    let body = ReasonBody { reason: of.reason.clone() };
    let answer = match what {
        What::Retire { .. } => client.post(&format!("/api/v1/devices/{device}/retire"), &body),
        What::Forget { .. } => client.post(&format!("/api/v1/devices/{device}/forget"), &body),
        What::Rename { to, .. } => {
            let body = RenameBody { id: to.clone(), reason: of.reason.clone() };
            client.post(&format!("/api/v1/devices/{device}/rename"), &body)
        }
    }?;
    if of.json {
        say_raw(&answer.body);
        return Ok(0);
    }
    let done: DeviceDone<'_> = answer.json()?;
    let mut text = match what {
        What::Retire { .. } => format!("Device {} is retired.", plain(&done.device)),
        What::Forget { .. } => format!("Device {} is forgotten.", plain(&done.device)),
        What::Rename { .. } => format!("Device {} is now called {}.", plain(&of.device), plain(&done.device)),
    };
    text.push_str(&format!(
        " The record at sequence {} says who did it.\nNote: {}.\n",
        done.seq,
        plain(&done.note)
    ));
    if done.commands_given_up > 0 {
        let were = if done.commands_given_up == 1 { "was" } else { "were" };
        let commands = number(done.commands_given_up, "open command");
        text.push_str(&format!("{commands} of it {were} given up.\n"));
    }
    say(&text);
    Ok(0)
}
