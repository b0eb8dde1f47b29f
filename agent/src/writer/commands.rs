//! Commands: checked at a position, recorded, and only then answered and published.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLockReadGuard};
use std::time::Instant;

use fieldlog_projections::chunk::Envelope;
use fieldlog_projections::command::OnOffline;
use fieldlog_projections::fact::Availability;
use fieldlog_projections::stored::type_id;
use fieldlog_projections::{CommandRequest, Commands, DeviceId, Fact, Seq, Time, View};
use tokio::sync::oneshot;

use rejections::Rejections;

use super::{Writer, WriterError};
use crate::command::declared::{self, Asking, Code, Rejected, Target};
use crate::command::desk::{Desk, Now, Step, World};
use crate::command::{Accepted, Asked};
use crate::message::{Delivery, Fate, Message, Publication, Published};
use crate::observe::Observer;
use crate::sorted;

mod rejections;

/// What the writer keeps about commands.
#[derive(Default)]
pub(super) struct Commanding {
    /// Kernel boot id; with it, commands are taken.
    boot_id: Option<[u8; 16]>,
    /// The open commands; `None` until the fold that has them is there.
    desk: Option<Desk>,
    /// Steps that are to be recorded.
    steps: Vec<Step>,
    /// Keys of requests that are recorded and not committed, by actor and key.
    keys: HashMap<(String, String), (Seq, [u8; 16])>,
    /// What to answer, and what to publish, once what waits is durable.
    answers: Vec<(Reply, Accepted)>,
    publications: Vec<(String, Publication)>,
    /// Devices whose reports the observer notes.
    watched: BTreeSet<DeviceId>,
    rejections: Rejections,
    /// When each command that the desk has was accepted by this process.
    accepted: HashMap<Seq, Instant>,
}

type Reply = oneshot::Sender<Result<Accepted, Rejected>>;

/// What commands can reach, at the position of the view.
struct Reach<'a> {
    view: &'a View,
    observer: &'a Observer,
}

impl World for Reach<'_> {
    fn availability(&self, device: DeviceId) -> Option<Availability> {
        let devices = &self.view.devices;
        let device = devices.get(device).filter(|device| !device.retired)?;
        Some(devices.effective_availability(device).0)
    }

    fn room(&self, source: &str) -> Option<usize> {
        let outbox = self.observer.outbox(source)?;
        outbox.connection().map(|_| outbox.room())
    }
}

impl Writer {
    /// Takes commands; `boot_id` is the kernel's.
    #[must_use]
    pub fn with_commands(mut self, boot_id: [u8; 16]) -> Writer {
        self.commanding.boot_id = Some(boot_id);
        self
    }

    fn commands_now(&self) -> Now {
        Now {
            at: self.clock.now(),
            wall: self.clock.wall(),
            booted_for: self.clock.booted_for(),
            trusted: self.clock.is_synchronised(),
        }
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.shared.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up the commands that were open when the agent ended, as soon as the fold that has them is there.
    pub(super) fn restore_commands(&mut self) {
        let Some(boot_id) = self.commanding.boot_id.filter(|_| self.commanding.desk.is_none()) else {
            return;
        };
        let now = self.commands_now();
        let restored = {
            let view = self.view();
            (!view.is_stale(Commands::ID)).then(|| Desk::restore(&view.commands, boot_id, now))
        };
        if let Some((desk, steps)) = restored {
            self.commanding.desk = Some(desk);
            self.commanding.steps.extend(steps);
            self.watch_devices();
        }
    }

    /// Looks at a command; it is answered once it is durable, or at once if it is not accepted.
    pub(super) fn ask(&mut self, asked: Asked) -> Result<(), WriterError> {
        if asked.body.expected.is_some() && !self.batch.records.is_empty() {
            // What is expected is compared with the view, which must have everything that is before the command.
            self.commit_all()?;
        }
        // Before log time goes ahead with a clock that was set: keys are remembered across that.
        self.look_at_clock();
        let result = self.judge(&asked);
        match result {
            Ok(accepted) => self.commanding.answers.push((asked.reply, accepted)),
            Err(rejected) if asked.patient && rejected.is_temporary() => {
                let _ = asked.reply.send(Err(rejected));
            }
            Err(rejected) => {
                let body = &asked.body;
                let name = body.attribute.as_ref().or(body.operation.as_ref()).map_or("", |name| name);
                self.reject(&asked.actor, &asked.device, &body.idempotency_key, name, &rejected);
                let _ = asked.reply.send(Err(rejected));
            }
        }
        Ok(())
    }

    fn judge(&mut self, asked: &Asked) -> Result<Accepted, Rejected> {
        if self.draining {
            return Err(Rejected::new(
                Code::NotReady,
                "fieldlog is being stopped; ask again when it runs again",
            ));
        }
        if let Some(why) = &self.orders.blocked {
            return Err(Rejected::new(Code::NotReady, format!("the log takes nothing new: {why}")));
        }
        if self.commanding.desk.is_none() {
            let reason = "the commands are being rebuilt from the log; ask again in a moment";
            return Err(Rejected::new(Code::NotReady, reason));
        }
        declared::check_body(&asked.body)?;
        let seq = self.next_position();
        let now = self.commands_now();
        let (device, request) = {
            let view = self.view();
            if let Some((_, device)) = declared::device(&view, &asked.device)
                && !asked.only.is_empty()
                && !asked.only.matches(&device.name)
            {
                let reason = format!(
                    "device `{}` is not one of those that {} may command: see `devices` of the sink",
                    asked.device, asked.actor
                );
                return Err(Rejected::new(Code::NoSuchDevice, reason));
            }
            // A repetition is answered as the first time, also where the device cannot be told anything any more.
            if let Some((device, _)) = declared::device(&view, &asked.device)
                && let Some(accepted) = self.known_key(&view, asked, device)?
            {
                return Ok(accepted);
            }
            if asked.ttl_max_s == Some(0) {
                let reason = "its time was over before it could be recorded; ask again, with more time";
                return Err(Rejected::new(Code::Expired, reason));
            }
            let target = Target::find(&self.config, &view, &asked.device)?;
            self.check_room(&view, now)?;
            let asking = Asking {
                actor: &asked.actor,
                seq,
                wall: now.wall,
                log_time: self.batch.records.last_time(),
                booted_for: now.booted_for,
                remember_s: self.config.limits.command_key.as_secs(),
                ttl_max_s: asked.ttl_max_s,
                traceparent: asked.traceparent,
            };
            let request = target.request(&asked.body, &asking)?;
            let reach = Reach { view: &view, observer: &self.observer };
            check_reach(&reach, target.id, &request, &asked.device)?;
            (target.id, request)
        };
        let envelope = Envelope { wall: now.wall, ..Envelope::default() };
        let request = Box::new(request);
        let shared = Arc::new((*request).clone());
        self.commanding.keys.insert((request.actor.clone(), request.key.clone()), (seq, request.digest));
        self.batch.records.push_fact(envelope, &Fact::CommandRequested { device, request });
        self.commanding.accepted.insert(seq, now.at);
        if let Some(desk) = &mut self.commanding.desk {
            desk.accept(seq, device, shared, now, &mut self.commanding.steps);
        }
        self.shared.stats.commands.requested();
        // So that a step of an older command that this one replaces has a position after it.
        self.record_steps();
        Ok(Accepted { command: seq, repeated: false })
    }

    /// The first answer, if the key has been used for the same thing.
    fn known_key(&self, view: &View, asked: &Asked, device: DeviceId) -> Result<Option<Accepted>, Rejected> {
        let key = &asked.body.idempotency_key;
        let waiting = self.commanding.keys.get(&(asked.actor.clone(), key.clone())).copied();
        let known = view.commands.key(&asked.actor, key).map(|known| (known.command, known.digest));
        let Some((command, digest)) = waiting.or(known) else { return Ok(None) };
        if digest == declared::body_digest(device, &asked.body) {
            return Ok(Some(Accepted { command, repeated: true }));
        }
        let reason = format!(
            "`idempotency_key`: {key:?} stands for command {command}, which asks for something else; use a new key"
        );
        Err(Rejected::new(Code::KeyConflict, reason))
    }

    fn check_room(&self, view: &View, now: Now) -> Result<(), Rejected> {
        let max = self.config.limits.commands_max;
        let log_time = Time(self.batch.records.last_time().0.max(now.wall.0));
        let kept = view.commands.keys_at(log_time) + self.commanding.keys.len();
        if kept < max {
            return Ok(());
        }
        let reason = format!(
            "{max} commands are remembered, which is the most (`limits.commands_max`); each is forgotten \
             `limits.command_key_s` after its time is over"
        );
        Err(Rejected::new(Code::TooMany, reason))
    }

    /// The position that the next record gets.
    pub(super) fn next_position(&self) -> Seq {
        Seq(self.log.log().head().0 + self.batch.records.len() as u64 + 1)
    }

    /// Gives up the open commands of a device, and returns how many.
    pub(super) fn give_up_commands(&mut self, device: DeviceId, why: &str) -> usize {
        let Some(desk) = &mut self.commanding.desk else { return 0 };
        let given_up = desk.abandon(device, why, &mut self.commanding.steps);
        self.record_steps();
        given_up
    }

    /// Whether somebody waits for a commit that must not wait for others.
    pub(super) fn commands_press(&self) -> bool {
        !self.commanding.answers.is_empty() || !self.commanding.publications.is_empty()
    }

    /// What became of a publication.
    pub(super) fn publication_ended(&mut self, published: Published) {
        let now = self.commands_now();
        if let Some(desk) = &mut self.commanding.desk {
            desk.published(published, now, &mut self.commanding.steps);
        }
        // What comes next may be its evidence.
        self.watch_devices();
    }

    /// Looks for evidence in a message that has just been observed; `before` is how many records there were then.
    pub(super) fn look_for_evidence(&mut self, delivery: &Delivery, message: &Message, before: usize) {
        let Some(desk) = self.commanding.desk.as_mut() else { return };
        // Also those that nobody waits for any more: they must not be there for the next command.
        let reports = self.observer.drain_reports();
        // A message that is not new may have been sent before the command was published.
        if desk.is_idle() || delivery.may_be_old || message.dup || message.retain {
            return;
        }
        let head = self.log.log().head().0;
        for report in reports {
            let value = report.value.borrow();
            // A message may have changed several devices.
            let records = self.batch.records.records(Seq(head + 1)).skip(before).filter_map(Result::ok);
            let changes = records.filter(|record| record.kind.type_id == type_id::STATE_CHANGED);
            let mut of_device = changes.filter(|change| change.subject() == Ok(Some(report.device)));
            let record = of_device.next().map(|record| record.seq);
            desk.reported(report.device, &report.attribute, value, record, &mut self.commanding.steps);
        }
        let source = self.config.sources.get(usize::from(delivery.source.0)).map_or("", |s| s.name.as_str());
        if desk.awaits_answer(source, &message.topic) {
            desk.answered(source, &message.topic, &message.payload, &mut self.commanding.steps);
        }
    }

    /// What time alone does to commands.
    pub(super) fn tick_commands(&mut self) {
        self.restore_commands();
        let now = self.commands_now();
        let view = self.shared.view.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(desk) = self.commanding.desk.as_mut().filter(|desk| !desk.is_idle()) {
            desk.tick(now, &mut self.commanding.steps);
            if !view.is_stale(Commands::ID) {
                for command in desk.forget(&view.commands) {
                    self.commanding.accepted.remove(&command);
                }
            }
        }
    }

    /// Records what commands have come to, commits what somebody waits for, and sends what can be sent.
    pub(super) fn drive_commands(&mut self) -> Result<(), WriterError> {
        self.record_steps();
        if self.commands_press() {
            self.commit_all()?;
        }
        let ready = self.commanding.desk.as_ref().is_some_and(Desk::has_ready);
        // A request is durable before anything is sent for it: its answer presses.
        if !ready || self.draining || self.orders.blocked.is_some() {
            return Ok(());
        }
        let now = self.commands_now();
        if let Some(desk) = &mut self.commanding.desk {
            let view = self.shared.view.read().unwrap_or_else(PoisonError::into_inner);
            desk.dispatch(&Reach { view: &view, observer: &self.observer }, now, &mut self.commanding.steps);
        }
        self.record_steps();
        if self.commands_press() { self.commit_all() } else { Ok(()) }
    }

    pub(super) fn record_steps(&mut self) {
        for step in std::mem::take(&mut self.commanding.steps) {
            let Step { device, command, cause, progress, ends, publish } = step;
            let at = self.next_position();
            let envelope = Envelope { wall: self.clock.wall(), cause: Some(cause), ..Envelope::default() };
            let state = progress.state();
            self.batch.records.push_fact(envelope, &Fact::CommandProgressed { device, command, progress });
            if let Some(desk) = &mut self.commanding.desk {
                desk.recorded(command, at);
            }
            self.commanding.publications.extend(publish);
            let closed = ends.then(|| self.commanding.accepted.remove(&command)).flatten();
            self.shared.stats.commands.stepped(state, closed.map(|since| self.clock.since(since)));
        }
        self.watch_devices();
    }

    /// Has the observer note what devices report that a command waits for, and no others.
    fn watch_devices(&mut self) {
        let Some(desk) = &self.commanding.desk else { return };
        let wanted = desk.watched();
        let watched = &mut self.commanding.watched;
        if wanted.len() == watched.len() && wanted.clone().all(|device| watched.contains(&device)) {
            return;
        }
        let wanted = sorted::set(wanted);
        watched.difference(&wanted).for_each(|device| self.observer.watch(*device, false));
        wanted.difference(watched).for_each(|device| self.observer.watch(*device, true));
        *watched = wanted;
    }

    /// A commit has returned: what waited for it is answered and published.
    pub(super) fn release_commands(&mut self) {
        let commanding = &mut self.commanding;
        if commanding.answers.is_empty() && commanding.publications.is_empty() && commanding.keys.is_empty() {
            return;
        }
        commanding.keys.clear();
        for (reply, accepted) in commanding.answers.drain(..) {
            // Whoever asked may have gone.
            let _ = reply.send(Ok(accepted));
        }
        for (source, publication) in std::mem::take(&mut commanding.publications) {
            let tracked = publication.tracked();
            let sent =
                self.observer.outbox(&source).is_some_and(|outbox| outbox.publish(publication).is_ok());
            if let (false, Some(tracked)) = (sent, tracked) {
                let fate = Fate::NotSent;
                let ended = Published { command: tracked.command, attempt: tracked.attempt, fate };
                self.publication_ended(ended);
            }
        }
    }
}

/// A command that does not wait for its device is refused where the device cannot be reached.
fn check_reach(
    reach: &Reach<'_>,
    device: DeviceId,
    request: &CommandRequest,
    name: &str,
) -> Result<(), Rejected> {
    if request.on_offline != OnOffline::Reject {
        return Ok(());
    }
    let source = &request.publish.source;
    if reach.room(source).is_none() {
        let reason =
            format!("source `{source}`, which leads to device `{name}`, is not connected to its broker");
        return Err(Rejected::new(Code::SourceAway, reason));
    }
    if reach.availability(device) == Some(Availability::Offline) {
        let reason = format!(
            "device `{name}` is offline, and `{}` is declared with on_offline = \"reject\"",
            request.name
        );
        return Err(Rejected::new(Code::Unreachable, reason));
    }
    Ok(())
}
