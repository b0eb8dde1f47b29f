//! Commands after a restart.

use std::sync::Arc;
use std::time::Instant;

use fieldlog_projections::command::{CommandRequest, CommandState, Progress};
use fieldlog_projections::{Commands, Seq};

use super::{Desk, Now, Open, Step, after};

impl Desk {
    /// Continues with the commands that a fold has open. `same_boot` says whether the kernel has run since a command was
    /// requested. The steps are those of commands that may have been sent when the agent ended.
    pub fn restore(commands: &Commands, boot_id: [u8; 16], now: Now) -> (Desk, Vec<Step>) {
        let (mut desk, mut steps) = (Desk::default(), Vec::new());
        for command in commands.open() {
            let same_boot = command.boot_id == boot_id;
            let lane: Arc<str> = command.request.name.as_str().into();
            let open = Open {
                device: command.device,
                lane,
                request: command.request.clone(),
                state: command.state,
                cause: command.changed.0,
                attempts: command.attempts,
                deadline: deadline(&command.request, same_boot, now),
                latest: (!same_boot).then(|| latest(&command.request, now)),
                may_be_out: command.attempts > command.unsent,
                confirm_by: None,
            };
            desk.resume(command.seq, open, now, &mut steps);
        }
        (desk, steps)
    }

    fn resume(&mut self, command: Seq, open: Open, now: Now, steps: &mut Vec<Step>) {
        let lane = (open.device, open.lane.clone());
        let (state, idempotent, may_be_out) = (open.state, open.request.idempotent, open.may_be_out);
        self.open.insert(command, open);
        match state {
            CommandState::Requested => {
                if may_be_out {
                    self.watch(command);
                }
                self.wait(lane, command, false);
            }
            // It may have been published. Once more does no harm to one that is idempotent; another is never sent again.
            CommandState::Dispatched if idempotent => {
                self.watch(command);
                self.wait(lane, command, true);
            }
            CommandState::Dispatched => {
                self.watch(command);
                self.step(command, Progress::Unknown, steps);
            }
            CommandState::Acknowledged => {
                self.lanes.entry(lane).or_default().active = Some(command);
                self.watch(command);
                self.confirm_from(command, now.at);
            }
            // Late evidence may still close it.
            _ => self.watch(command),
        }
    }
}

/// When the time of a restored command is over. While the kernel runs, it knows; after that, only a clock that is
/// synchronised does.
fn deadline(request: &CommandRequest, same_boot: bool, now: Now) -> Option<Instant> {
    if same_boot {
        let ends = request.booted_for.saturating_add(u64::from(request.ttl_s) * 1_000_000);
        let left =
            i64::try_from(ends).unwrap_or(i64::MAX) - i64::try_from(now.booted_for).unwrap_or(i64::MAX);
        return Some(after(now.at, left));
    }
    now.trusted.then(|| after(now.at, request.expires.0.saturating_sub(now.wall.0)))
}

/// When the time of a command from before the kernel's start is over, if the kernel was started right after it. That it was
/// later only makes it end earlier.
fn latest(request: &CommandRequest, now: Now) -> Instant {
    let booted_for = i64::try_from(now.booted_for).unwrap_or(i64::MAX);
    after(now.at, i64::from(request.ttl_s).saturating_mul(1_000_000).saturating_sub(booted_for))
}
