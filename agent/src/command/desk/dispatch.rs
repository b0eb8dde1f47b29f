//! Sends what can be sent.

use std::collections::HashMap;

use bytes::Bytes;
use fieldlog_projections::command::{CommandRequest, OnOffline, Progress, Publish};
use fieldlog_projections::fact::Availability;
use fieldlog_projections::{Seq, Time};

use super::{Desk, Lane, Now, Open, Step, World, is_over};
use crate::message::{Manner, Publication, Tracked};
use crate::sparkplug;

impl Desk {
    /// Sends what can be sent.
    pub fn dispatch(&mut self, world: &dyn World, now: Now, steps: &mut Vec<Step>) {
        let mut taken: HashMap<Box<str>, usize> = HashMap::new();
        for lane in std::mem::take(&mut self.ready) {
            self.dispatch_lane(&lane, world, now, &mut taken, steps);
        }
    }

    fn dispatch_lane(
        &mut self,
        lane: &Lane,
        world: &dyn World,
        now: Now,
        taken: &mut HashMap<Box<str>, usize>,
        steps: &mut Vec<Step>,
    ) {
        loop {
            let Some(queue) = self.lanes.get(lane) else { return };
            let (None, Some(&command)) = (queue.active, queue.waiting.front()) else { return };
            let Some(open) = self.open.get(&command) else { return };
            match self.may_send(open, world, now) {
                May::Send => {}
                May::Wait => return,
                May::Never(progress) => {
                    self.give_up(command, progress, steps);
                    continue;
                }
            }
            let source = open.request.publish.source.as_str();
            let taken = taken.entry(source.into()).or_default();
            if world.room(source).is_none_or(|room| room <= *taken) {
                // What has been sent makes room.
                self.ready.insert(lane.clone());
                return;
            }
            *taken += 1;
            self.send(lane, command, now, steps);
            return;
        }
    }

    fn may_send(&self, open: &Open, world: &dyn World, now: Now) -> May {
        if is_over(open, now) {
            return May::Never(Progress::Expired);
        }
        let Some(_) = open.deadline else { return May::Wait };
        match world.availability(open.device) {
            None => May::Never(Progress::Failed { reason: "the device is no longer there".into() }),
            Some(Availability::Offline) if open.request.on_offline == OnOffline::Reject => {
                let reason = "the device went offline before it could be sent";
                May::Never(Progress::Failed { reason: reason.into() })
            }
            Some(Availability::Offline) => May::Wait,
            Some(_) if world.room(&open.request.publish.source).is_none() => May::Wait,
            Some(_) => May::Send,
        }
    }

    fn send(&mut self, lane: &Lane, command: Seq, now: Now, steps: &mut Vec<Step>) {
        let Some(queue) = self.lanes.get_mut(lane) else { return };
        queue.waiting.pop_front();
        queue.active = Some(command);
        // Reports that come from here on can no longer be told apart: they are evidence of this one.
        let before = self.watching.get(&lane.0).into_iter().flatten();
        let before: Vec<Seq> =
            before.copied().filter(|other| *other != command && self.is_in(*other, lane)).collect();
        before.into_iter().for_each(|other| self.unwatch(other));
        let Some(open) = self.open.get_mut(&command) else { return };
        open.attempts += 1;
        let attempt = open.attempts;
        let request = open.request.clone();
        let tracked = Tracked {
            command,
            attempt,
            qos: request.publish.qos,
            deadline: open.deadline.unwrap_or(now.at),
            expires: request.expires,
            traceparent: request.traceparent,
        };
        let publication = Publication {
            topic: request.publish.topic.clone(),
            payload: payload_at(&request, now.wall),
            manner: Manner::Command(tracked),
        };
        self.step(command, Progress::Dispatched { attempt }, steps);
        if let Some(step) = steps.last_mut() {
            step.publish = Some((request.publish.source.clone(), publication));
        }
    }

    fn is_in(&self, command: Seq, lane: &Lane) -> bool {
        self.open.get(&command).is_some_and(|open| (open.device, &open.lane) == (lane.0, &lane.1))
    }
}

/// Whether a command may be sent.
enum May {
    Send,
    Wait,
    Never(Progress),
}

/// What is published for a command now: what was recorded, except that Sparkplug says when.
fn payload_at(request: &CommandRequest, now: Time) -> Bytes {
    let Publish { topic, payload, .. } = &request.publish;
    let asked = Time(request.expires.0.saturating_sub(i64::from(request.ttl_s) * 1_000_000));
    let stamped = sparkplug::command::published_at(topic, payload, asked, now);
    stamped.unwrap_or_else(|| payload.clone().into())
}
