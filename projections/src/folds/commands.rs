//! Commands: where each is, which keys are taken, and what is wanted of each device. A fold.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::command::{CommandRequest, CommandState, Evidence, Progress};
use crate::fact::Fact;
use crate::fold::{Change, Fold, FoldError, FoldId, Section, Unreadable, whole};
use crate::record::Record;
use crate::stored::{self, type_id};
use crate::{DeviceId, Seq, Time, TraceParent, Value};

/// Version of this fold; see [`super::devices::VERSION`].
pub const VERSION: u16 = 4;
/// Its version while no command has a trace context.
const VERSION_UNTRACED: u16 = 3;

/// Ended commands that are kept whole, the newest ones. Of others it is kept how they ended, as long as their keys are
/// remembered, and the log has the records, as long as it has them.
pub const ENDED_MAX: usize = 1_000;

/// All commands that can still change, the newest of those that have ended, and all keys that are remembered. A clone
/// shares all of it with the original, and whichever is changed first copies it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commands(Arc<Inner>);

/// The trace contexts of the commands that are kept whole.
type Traces = BTreeMap<Seq, TraceParent>;

impl Serialize for Commands {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.version() {
            VERSION_UNTRACED => self.0.serialize(serializer),
            _ => (&*self.0, self.traced().collect::<Traces>()).serialize(serializer),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Inner {
    /// Commands that can still change.
    open: BTreeMap<Seq, Arc<Command>>,
    /// Commands that have ended, by the position of the record that ended them.
    ended: BTreeMap<Seq, Arc<Command>>,
    /// By actor and key.
    keys: BTreeMap<ActorKey, Key>,
    /// Keys by when they are forgotten.
    forget: BTreeMap<(Time, Seq), ActorKey>,
    /// What is wanted of each device, by attribute.
    desired: BTreeMap<DeviceId, BTreeMap<Arc<str>, Desired>>,
    /// Kernel boot id of the newest boot.
    boot_id: [u8; 16],
}

/// A command and how far it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Position of the request, which names the command.
    pub seq: Seq,
    /// The device.
    pub device: DeviceId,
    /// What was asked for.
    pub request: Arc<CommandRequest>,
    /// Log time of the request.
    pub requested: Time,
    /// Kernel boot id of that time.
    pub boot_id: [u8; 16],
    /// Where it is.
    pub state: CommandState,
    /// Position and log time of the record that says so.
    pub changed: (Seq, Time),
    /// How many times it was dispatched.
    pub attempts: u32,
    /// How many of these times it was not sent after all.
    pub unsent: u32,
    /// Position of its last dispatch.
    pub dispatched: Option<Seq>,
    /// Position of its first acknowledgement.
    pub acknowledged: Option<Seq>,
    /// The newest step.
    pub progress: Option<Progress>,
}

/// Who asked, and the key that they gave.
pub type ActorKey = (Arc<str>, Arc<str>);

/// A key that is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The command it stands for.
    pub command: Seq,
    /// Hash of what was asked.
    pub digest: [u8; 16],
    /// For how long it is remembered from the request on, in microseconds.
    pub lasts: i64,
    /// Until when, in log time.
    pub until: Time,
    /// How the command ended, if it is not kept whole any more.
    pub ended: Option<Arc<Ended>>,
}

/// What is kept of a command that has ended, without what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The device.
    pub device: DeviceId,
    /// Log time of the request.
    pub requested: Time,
    /// See [`CommandRequest::expires`].
    pub expires: Time,
    /// See [`Command::state`].
    pub state: CommandState,
    /// See [`Command::changed`].
    pub changed: (Seq, Time),
    /// See [`Command::attempts`].
    pub attempts: u32,
    /// See [`Command::dispatched`].
    pub dispatched: Option<Seq>,
    /// See [`Command::acknowledged`].
    pub acknowledged: Option<Seq>,
    /// See [`Command::progress`].
    pub progress: Option<Progress>,
}

/// What is wanted of an attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// The value.
    pub value: Value,
    /// The command that wants it.
    pub command: Seq,
    /// Log time of that command.
    pub time: Time,
}

impl Commands {
    /// This fold.
    pub const ID: FoldId = FoldId { number: 6, name: "commands" };

    /// A command, if its state is kept.
    pub fn get(&self, command: Seq) -> Option<&Command> {
        let ended = || self.0.ended.values().rev().find(|ended| ended.seq == command);
        self.0.open.get(&command).or_else(ended).map(|command| &**command)
    }

    /// Whether a command can still change; `None` if its state is not kept.
    pub fn is_open(&self, command: Seq) -> Option<bool> {
        self.get(command).map(|_| self.0.open.contains_key(&command))
    }

    /// The commands that can still change, the oldest first.
    pub fn open(&self) -> impl DoubleEndedIterator<Item = &Command> + ExactSizeIterator {
        self.0.open.values().map(|command| &**command)
    }

    /// The commands that have ended and whose state is kept, in the order in which they ended.
    pub fn ended(&self) -> impl DoubleEndedIterator<Item = &Command> + ExactSizeIterator {
        self.0.ended.values().map(|command| &**command)
    }

    /// The commands that are kept whole and have a trace context.
    fn traced(&self) -> impl Iterator<Item = (Seq, TraceParent)> {
        self.open()
            .chain(self.ended())
            .filter_map(|command| Some((command.seq, command.request.traceparent?)))
    }

    /// What a key of an actor stands for.
    pub fn key(&self, actor: &str, key: &str) -> Option<&Key> {
        self.0.keys.get(&(actor.into(), key.into()))
    }

    /// How a command ended that is not kept whole, if its key is remembered, with the actor and the key.
    pub fn remembered(&self, command: Seq) -> Option<(&ActorKey, &Ended)> {
        let (names, key) = self.0.keys.iter().find(|(_, key)| key.command == command)?;
        Some((names, key.ended.as_deref()?))
    }

    /// How many keys are remembered.
    pub fn keys(&self) -> usize {
        self.0.keys.len()
    }

    /// How many of the keys are still remembered at a later time.
    pub fn keys_at(&self, time: Time) -> usize {
        self.0.keys.len() - self.0.forget.range(..(time, Seq(0))).count()
    }

    /// What is wanted of a device, by attribute.
    pub fn desired(&self, device: DeviceId) -> impl Iterator<Item = (&str, &Desired)> {
        self.0.desired.get(&device).into_iter().flatten().map(|(name, desired)| (&**name, desired))
    }
}

impl Command {
    /// Whether nothing more can come of it: it ended, or the broker has it and no evidence is to be had.
    pub fn is_closed(&self) -> bool {
        self.state.is_final()
            || self.state == CommandState::Acknowledged && self.request.evidence == Evidence::None
    }
}

impl Ended {
    /// What is kept of a command.
    pub fn of(command: &Command) -> Ended {
        Ended {
            device: command.device,
            requested: command.requested,
            expires: command.request.expires,
            state: command.state,
            changed: command.changed,
            attempts: command.attempts,
            dispatched: command.dispatched,
            acknowledged: command.acknowledged,
            progress: command.progress.clone(),
        }
    }
}

impl Inner {
    fn request(&mut self, seq: Seq, time: Time, device: DeviceId, request: CommandRequest) {
        self.forget_keys(time);
        let names = (Arc::from(request.actor.as_str()), Arc::from(request.key.as_str()));
        let until = request.remember_until;
        let lasts = until.0.saturating_sub(time.0);
        self.forget.insert((until, seq), names.clone());
        self.keys.insert(names, Key { command: seq, digest: request.digest, lasts, until, ended: None });
        if !request.operation {
            let desired = Desired { value: request.value.clone(), command: seq, time };
            self.desired.entry(device).or_default().insert(request.name.as_str().into(), desired);
        }
        let command = Command {
            seq,
            device,
            request: Arc::new(request),
            requested: time,
            boot_id: self.boot_id,
            state: CommandState::Requested,
            changed: (seq, time),
            attempts: 0,
            unsent: 0,
            dispatched: None,
            acknowledged: None,
            progress: None,
        };
        self.open.insert(seq, Arc::new(command));
    }

    /// Gives commands the trace contexts that are stored beside them.
    fn trace(&mut self, traces: &Traces) {
        if traces.is_empty() {
            return;
        }
        for command in self.open.values_mut().chain(self.ended.values_mut()) {
            if let Some(traceparent) = traces.get(&command.seq) {
                let command = Arc::make_mut(command);
                Arc::make_mut(&mut command.request).traceparent = Some(*traceparent);
            }
        }
    }

    /// Forgets what need not be remembered any more: keys, and commands that only late evidence could close.
    fn forget_keys(&mut self, now: Time) {
        while let Some(entry) = self.forget.first_entry()
            && entry.key().0 < now
        {
            let ((_, command), names) = entry.remove_entry();
            // A key that was used again in the meantime stands for another command.
            if self.keys.get(&names).is_some_and(|key| key.command == command) {
                self.keys.remove(&names);
            }
            if self.open.get(&command).is_some_and(|command| !command.state.is_driven()) {
                let command = self.open.remove(&command);
                command.into_iter().for_each(|command| self.end(command.changed.0, command));
            }
        }
    }

    /// The clock was set ahead, and log time with it: no time has passed by that, so keys are remembered that much longer,
    /// but no longer than if they were asked for now.
    fn clock_stepped(&mut self, time: Time, by: i64) {
        let Inner { forget, keys, .. } = self;
        for ((until, command), names) in std::mem::take(forget) {
            let key = keys.get_mut(&names).filter(|key| key.command == command);
            let until = key.map_or(until, |key| {
                let most = time.0.saturating_add(key.lasts);
                key.until = until.max(Time(until.0.saturating_add(by).min(most)));
                key.until
            });
            forget.insert((until, command), names);
        }
    }

    /// Whether a command's key still stands for it.
    fn remembers(&self, command: Seq, request: &CommandRequest) -> bool {
        let names = (Arc::from(request.actor.as_str()), Arc::from(request.key.as_str()));
        self.keys.get(&names).is_some_and(|key| key.command == command)
    }

    fn end(&mut self, seq: Seq, command: Arc<Command>) {
        self.ended.insert(seq, command);
        while self.ended.len() > ENDED_MAX
            && let Some((_, oldest)) = self.ended.pop_first()
        {
            let names = (Arc::from(oldest.request.actor.as_str()), Arc::from(oldest.request.key.as_str()));
            if let Some(key) = self.keys.get_mut(&names).filter(|key| key.command == oldest.seq) {
                key.ended = Some(Arc::new(Ended::of(&oldest)));
            }
        }
    }

    fn progress(&mut self, seq: Seq, time: Time, command: Seq, progress: Progress) {
        // The request may have been deleted from the front of the log before the fold began.
        let Some(entry) = self.open.get_mut(&command) else { return };
        let changed = Arc::make_mut(entry);
        changed.state = progress.state();
        changed.changed = (seq, time);
        match &progress {
            Progress::Dispatched { attempt } => {
                (changed.attempts, changed.dispatched) = (*attempt, Some(seq));
            }
            Progress::Unsent => changed.unsent += 1,
            Progress::Acknowledged { .. } => {
                changed.acknowledged.get_or_insert(seq);
            }
            Progress::Failed { .. } | Progress::Expired => {
                let (device, name) = (changed.device, changed.request.name.clone());
                if let Some(desired) = self.desired.get_mut(&device)
                    && desired.get(name.as_str()).is_some_and(|desired| desired.command == command)
                {
                    // Nobody tries to reach it any more.
                    desired.remove(name.as_str());
                }
            }
            _ => {}
        }
        changed.progress = Some(progress);
        let (closed, driven, request) =
            (changed.is_closed(), changed.state.is_driven(), changed.request.clone());
        // Its key was forgotten while something was still done about it: nothing is waited for any more.
        if closed || !driven && !self.remembers(command, &request) {
            let ended = self.open.remove(&command);
            ended.into_iter().for_each(|command| self.end(seq, command));
        }
    }
}

impl Fold for Commands {
    #[inline]
    fn change(&mut self, _: &Change<'_>) {}

    fn other(&mut self, record: &Record<'_>) -> Result<(), FoldError> {
        let kind = record.kind.type_id;
        let ours = kind == type_id::COMMAND_REQUESTED || stored::is_command_step(kind);
        if !ours && !matches!(kind, type_id::DEVICE_FORGOTTEN | type_id::BOOTED | type_id::CLOCK_STEPPED) {
            return Ok(());
        }
        let inner = Arc::make_mut(&mut self.0);
        match record.fact()? {
            Fact::CommandRequested { device, request } => {
                inner.request(record.seq, record.time, device, *request);
            }
            Fact::CommandProgressed { command, progress, .. } => {
                inner.progress(record.seq, record.time, command, progress);
            }
            Fact::Booted { boot_id, .. } => inner.boot_id = boot_id,
            // Log time goes with the clock only where it was not ahead of it.
            Fact::ClockStepped { expected, found } if found > expected && record.time <= found => {
                inner.clock_stepped(record.time, found.0.saturating_sub(expected.0));
            }
            Fact::DeviceForgotten { device } => {
                inner.desired.remove(&device);
            }
            _ => {}
        }
        Ok(())
    }

    // A command whose request is deleted is no longer driven; that only happens to logs without a snapshot.
    fn miss(&mut self, _: Time) {}
}

impl Section for Commands {
    fn id(&self) -> FoldId {
        Commands::ID
    }

    fn version(&self) -> u16 {
        if self.traced().next().is_some() { VERSION } else { VERSION_UNTRACED }
    }

    fn restore(&mut self, version: u16, bytes: &[u8]) -> Result<bool, Unreadable> {
        let (mut inner, traces): (Inner, Traces) = match version {
            VERSION_UNTRACED => (whole(bytes)?, Traces::new()),
            VERSION => whole(bytes)?,
            _ => return Ok(false),
        };
        inner.trace(&traces);
        *self = Commands(Arc::new(inner));
        Ok(true)
    }
}
