//! What would be published for a command, and what the messages after it say of it.

use std::sync::Arc;
use std::time::Instant;

use fieldlog_projections::command::{AcknowledgedBy, Progress, Publish};
use fieldlog_projections::fact::Availability;
use fieldlog_projections::{DeviceId, Seq, Time, View};
use fieldlog_wire::api::commands::CommandBody;

use crate::command::declared::{Asking, Rejected, Target};
use crate::command::desk::{Desk, Now, Step, World};
use crate::config::Config;
use crate::message::{Fate, Message, Published};
use crate::observe::Observer;

/// The commands of a trial. All devices can be reached, and time does not pass.
#[derive(Default)]
pub(super) struct Commands {
    desk: Desk,
    asked: u64,
}

struct Reachable;

impl World for Reachable {
    fn availability(&self, _: DeviceId) -> Option<Availability> {
        Some(Availability::Online)
    }

    fn room(&self, _: &str) -> Option<usize> {
        Some(1)
    }
}

impl Commands {
    /// Checks a command and takes it as sent.
    pub(super) fn ask(
        &mut self,
        config: &Config,
        view: &View,
        observer: &mut Observer,
        wall: Time,
        device: &str,
        body: &CommandBody,
    ) -> Result<Publish, Rejected> {
        let now = Now { at: Instant::now(), wall, booted_for: 0, trusted: true };
        let seq = Seq(self.asked + 1);
        let target = Target::find(config, view, device)?;
        let asking = Asking {
            actor: "try",
            seq,
            wall,
            log_time: wall,
            booted_for: now.booted_for,
            remember_s: 0,
            ttl_max_s: None,
            traceparent: None,
        };
        let request = target.request(body, &asking)?;
        self.asked = seq.0;
        let publish = request.publish.clone();
        let mut steps = Vec::new();
        self.desk.accept(seq, target.id, Arc::new(request), now, &mut steps);
        self.desk.dispatch(&Reachable, now, &mut steps);
        self.desk.published(Published { command: seq, attempt: 1, fate: Fate::Written }, now, &mut steps);
        observer.watch(target.id, true);
        Ok(publish)
    }

    /// What the message that was just observed says of the commands: device, and words.
    pub(super) fn hear(
        &mut self,
        source: &str,
        message: &Message,
        observer: &mut Observer,
    ) -> Vec<(DeviceId, String)> {
        let mut steps = Vec::new();
        for report in observer.drain_reports() {
            let value = report.value.borrow();
            self.desk.reported(report.device, &report.attribute, value, None, &mut steps);
        }
        if !message.retain && self.desk.awaits_answer(source, &message.topic) {
            self.desk.answered(source, &message.topic, &message.payload, &mut steps);
        }
        steps.into_iter().filter_map(said).collect()
    }
}

fn said(step: Step) -> Option<(DeviceId, String)> {
    let words = match step.progress {
        Progress::Acknowledged { by: AcknowledgedBy::Device } => "acknowledged by the device".to_owned(),
        Progress::Applied { .. } => "applied".to_owned(),
        Progress::Failed { reason } => format!("failed: {reason}"),
        _ => return None,
    };
    Some((step.device, format!("command {} {words}", step.command)))
}
