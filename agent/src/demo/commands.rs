//! The demo's own commands: rounds in which every outcome of a command occurs, and the token with which a viewer sends
//! more.

use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use fieldlog_projections::Seq;
use fieldlog_projections::command::{CommandState, Progress};
use fieldlog_sim::devices::shelly_id;
use fieldlog_wire::api::commands::CommandBody;
use serde_json::Value as Json;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::command::Asked;
use crate::run::Handle;
use crate::words::say;
use crate::writer::Input;

/// Who asks, as it is recorded.
const ACTOR: &str = "demo";
/// From one round to the next.
const ROUND: Duration = Duration::from_secs(150);
/// From the first device that is seen to the first command, so that the devices have introduced themselves.
const SETTLE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Random bytes of a token.
const TOKEN_BYTES: usize = 16;

/// A command of a round.
struct Line {
    /// Seconds after the beginning of the round.
    at_s: u64,
    device: String,
    attribute: &'static str,
    value: Json,
    ttl_s: u32,
    /// Shown as the command's reason.
    reason: &'static str,
}

/// The commands of a round, in order. The values alternate, so that there is something to do in each round.
fn script(round: u64) -> Vec<Line> {
    let even = round.is_multiple_of(2);
    let on = if even { "ON" } else { "OFF" };
    let line = |at_s, device: &str, attribute, value: Json, ttl_s, reason| Line {
        at_s,
        device: device.to_owned(),
        attribute,
        value,
        ttl_s,
        reason,
    };
    let output = "switch:0.output";
    vec![
        line(
            0,
            "kitchen/floor_light",
            "brightness",
            (if even { 200 } else { 80 }).into(),
            30,
            "obeys at once",
        ),
        line(
            1,
            "bulb_color",
            "brightness",
            (if even { 120 } else { 210 }).into(),
            60,
            "obeys after 12 to 16 s",
        ),
        line(2, "bulb_color", "brightness", 30.into(), 60, "waits, and is replaced by the next one"),
        line(3, "bulb_color", "brightness", 60.into(), 4, "its time is over before the first one is done"),
        line(4, "router_plug", "state", "OFF".into(), 30, "the device does nothing"),
        line(5, &shelly_id(2), output, even.into(), 30, "the device refuses"),
        line(
            6,
            "kitchen/floor_light",
            "brightness",
            300.into(),
            30,
            "the value is out of range: not accepted",
        ),
        line(7, &shelly_id(0), output, even.into(), 30, "the device answers at once"),
        line(8, "bedroom/ceiling", "state", on.into(), 30, "obeys when it is no longer waited for"),
        line(9, "washing_machine", "POWER", on.into(), 30, "obeys at once"),
    ]
}

/// A command that was accepted, and the state that was last printed.
struct Sent {
    command: Seq,
    what: String,
    printed: CommandState,
}

/// Sends rounds of commands and prints their outcomes, for ever.
pub(super) async fn send_rounds(handle: &Handle) {
    // Keys of earlier demos are remembered.
    let mut bytes = [0; 8];
    let _ = getrandom::fill(&mut bytes);
    let run = u64::from_le_bytes(bytes);
    introduced(handle).await;
    tokio::time::sleep(SETTLE).await;
    let mut sent: Vec<Sent> = Vec::new();
    for round in 0.. {
        let begin = Instant::now();
        let mut lines = script(round).into_iter().enumerate().peekable();
        while begin.elapsed() < ROUND {
            while let Some((number, line)) =
                lines.next_if(|(_, line)| begin.elapsed() >= Duration::from_secs(line.at_s))
            {
                let key = format!("demo-{run:016x}-{round}-{number}");
                sent.extend(send(handle, line, key).await);
            }
            sent.retain_mut(|sent| follow(handle, sent));
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Returns when the first device of the script is known.
async fn introduced(handle: &Handle) {
    let first = &script(0)[0];
    loop {
        let known = {
            let view = handle.shared.view.read().unwrap_or_else(PoisonError::into_inner);
            view.devices.find(&first.device).is_some()
        };
        if known {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn send(handle: &Handle, line: Line, key: String) -> Option<Sent> {
    let what = format!("{} {} = {}", line.device, line.attribute, line.value);
    let body = CommandBody {
        attribute: Some(line.attribute.to_owned()),
        operation: None,
        value: line.value,
        idempotency_key: key,
        ttl_s: line.ttl_s,
        expected: None,
        reason: line.reason.to_owned(),
    };
    let (reply, answer) = oneshot::channel();
    let asked = Asked {
        actor: ACTOR.to_owned(),
        device: line.device,
        only: Default::default(),
        body,
        ttl_max_s: None,
        traceparent: None,
        patient: false,
        reply,
    };
    // Without the writer the demo ends.
    handle.inputs.send(Input::Command(Box::new(asked))).ok()?;
    match answer.await.ok()? {
        Ok(accepted) => Some(Sent { command: accepted.command, what, printed: CommandState::Requested }),
        Err(rejected) => {
            print(&format!("not accepted: {what}: {}", rejected.reason));
            None
        }
    }
}

/// Prints the outcome of a command once it has one. Returns whether more can come of it.
fn follow(handle: &Handle, sent: &mut Sent) -> bool {
    let view = handle.shared.view.read().unwrap_or_else(PoisonError::into_inner);
    let Some(command) = view.commands.get(sent.command) else { return false };
    if !command.state.is_driven() && command.state != sent.printed {
        sent.printed = command.state;
        let why = match &command.progress {
            Some(Progress::Failed { reason }) => format!(": {reason}"),
            Some(Progress::Superseded { by }) => format!(" by command {by}"),
            _ => String::new(),
        };
        print(&format!("command {} {}: {}{why}", sent.command, sent.what, command.state.word()));
    }
    !command.is_closed()
}

/// A line of its own, above the one with the rates.
fn print(line: &str) {
    let clear = if std::io::stdout().is_terminal() { "\r\x1b[K" } else { "" };
    say(&format!("{clear}{line}\n"));
}

/// Reads the token for commands from a file, or makes both.
pub(super) fn token(file: &Path) -> std::io::Result<String> {
    match std::fs::File::open(file) {
        Ok(mut open) => {
            let mut text = String::new();
            open.read_to_string(&mut text)?;
            return Ok(text.trim().to_owned());
        }
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    made.write_all(text.as_bytes())?;
    Ok(text)
}

/// How a viewer sends a command.
pub(super) fn hint(address: std::net::SocketAddr, token: &str) -> String {
    format!(
        "commands    click a device on the status page; it asks for the token {token}, or\n\
         \x20           curl -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' \\\n\
         \x20             -d '{{\"attribute\":\"brightness\",\"value\":120,\"ttl_s\":30,\"idempotency_key\":\"try-1\"}}' \\\n\
         \x20             'http://{address}/api/v1/devices/kitchen%2Ffloor_light/commands?wait=10'\n"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_token_is_made_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let made = token(&file).unwrap();
        assert!(made.len() == 2 * TOKEN_BYTES && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(token(&file).unwrap(), made);
        assert!(token(dir.path()).is_err(), "a directory is no token");
    }

    #[test]
    fn a_round_is_in_order_and_shorter_than_the_time_to_the_next() {
        for round in 0..2 {
            let script = script(round);
            assert!(script.is_sorted_by_key(|line| line.at_s));
            assert!(Duration::from_secs(script.last().unwrap().at_s) < ROUND);
        }
    }
}
