//! Metrics of commands to devices.

use std::fmt;

use super::Out;
use crate::read_side::ReadSide;

pub(super) fn encode(side: &ReadSide, out: &mut Out<'_, '_>) -> fmt::Result {
    let stats = &side.shared.stats.commands;
    let states = stats.by_state().map(|(state, count)| ([("state", state.word())], count));
    let help = "Commands that came into a state; a command counts once in each of its states.";
    out.counters("commands", help, states)?;
    let rejections = stats.by_rejection().into_iter().map(|(code, count)| ([("code", code)], count));
    out.counters("command_rejections", "Commands that were not accepted, by code.", rejections)?;
    let help = "Time from the request of a command until it was closed.";
    out.histogram("command_open_seconds", help, &stats.open_duration)?;
    // No value while the commands are being rebuilt from the log.
    match side.open_commands() {
        Some(open) => out.gauge("commands_open", "Commands that are not closed.", open as u64),
        None => Ok(()),
    }
}
