//! Changes of commands to devices.

use std::collections::BTreeMap;

use fieldlog_projections::{CommandState, Seq, Time};
use serde::Deserialize;

use crate::parcel::Event;

/// Changes of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The device.
    pub device: Option<Box<str>>,
    /// Its request, as JSON, with its log time, if that is among the events.
    pub request: Option<(Box<str>, Time)>,
    /// Its newest step: position, log time, state, and content as JSON.
    pub step: (Seq, Time, &'static str, Box<str>),
}

#[derive(Deserialize)]
struct Step {
    command: u64,
}

/// Adds an event about a command.
pub(super) fn add(commands: &mut BTreeMap<Seq, Command>, event: &Event) {
    let Some(state) = state(&event.kind) else { return };
    let requested = &*event.kind == "command_requested";
    let id = if requested {
        event.seq
    } else {
        let Ok(Step { command }) = serde_json::from_str(&event.data) else { return };
        Seq(command)
    };
    let step = (event.seq, event.recorded, state, event.data.clone());
    let command = commands.entry(id).or_insert_with(|| Command {
        device: event.device.clone(),
        request: None,
        step: step.clone(),
    });
    if requested {
        command.request = Some((event.data.clone(), event.recorded));
    }
    if event.seq > command.step.0 {
        command.step = step;
    }
}

/// The state after an event of this type.
fn state(kind: &str) -> Option<&'static str> {
    let step = kind.strip_prefix("command_")?;
    if step == "unsent" {
        return Some(CommandState::Requested.word());
    }
    CommandState::ALL.into_iter().map(CommandState::word).find(|word| *word == step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_leads_to_its_state() {
        for (_, _, kind) in fieldlog_projections::stored::KINDS {
            let is_step = kind.starts_with("command_") && *kind != "command_rejected";
            assert_eq!(state(kind).is_some(), is_step, "{kind}");
        }
        assert_eq!(state("command_unsent"), Some("requested"));
        assert_eq!(state("command_unconfirmed"), Some("unconfirmed"));
    }
}
