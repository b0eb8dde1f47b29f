//! Commands that come through a sink: handed to the writer one after another, and answered.
//!
//! A message is done with once its command is durable or refused for good; until then it is not acknowledged, and the
//! broker sends it again to the next connection. The key of a command makes it the same one then. In place of a device, the
//! receiver names what asks for events again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLockReadGuard};
use std::time::{Duration, Instant};

use fieldlog_projections::View;
use fieldlog_wire::{Lane, resend};
use futures_util::FutureExt;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::command::declared::{Code, Rejected};
use crate::command::remote::{Answer, Answers, Call, WAITING_MAX};
use crate::command::{Asked, Unreadable};
use crate::forward::resend::Requests;
use crate::shared::Shared;
use crate::writer::Input;
use fieldlog_projections::pattern::Patterns;

/// Shortest and longest wait before a command is offered again to a writer that takes none now.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// How long after its start a command is held for a source that is not connected.
const STARTING_MAX: Duration = Duration::from_secs(30);

/// The commands of one sink, over all its connections.
pub struct Upstream {
    sink: String,
    /// The devices that it may command, as those whose events it gets.
    devices: Arc<Patterns>,
    gateway: String,
    shared: Arc<Shared>,
    writer: Sender<Input>,
    /// Where what its receiver asks for again goes.
    requests: Arc<Requests>,
    clock: Clock,
    started: Instant,
    answers: Mutex<Answers>,
    /// There is an answer.
    wake: Notify,
    /// What was refused without asking the writer, by reason.
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl Upstream {
    /// Takes commands for the sink of that name, for these devices only; without any, for all.
    pub fn new(
        sink: &str,
        devices: Patterns,
        gateway: &str,
        shared: Arc<Shared>,
        writer: Sender<Input>,
        requests: Arc<Requests>,
        clock: Clock,
    ) -> Arc<Upstream> {
        let answers = Mutex::new(Answers::new(gateway, shared.epoch.to_string()));
        let (wake, refused, started) = (Notify::new(), Mutex::default(), clock.now());
        let (sink, devices, gateway) = (sink.to_owned(), Arc::new(devices), gateway.to_owned());
        Arc::new(Upstream {
            sink,
            devices,
            gateway,
            shared,
            writer,
            requests,
            clock,
            started,
            answers,
            wake,
            refused,
        })
    }

    /// The topics that a template of the sink stands for.
    pub fn topics(&self, template: &str) -> impl Iterator<Item = String> {
        let template = template.replace("{gateway}", &self.gateway);
        let template = template.replace("{epoch}", &self.shared.epoch.to_string());
        Lane::ALL.into_iter().map(move |lane| template.replace("{lane}", lane.name()))
    }

    /// The clock that [`Call::received`] is read from.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The next answer to send. Nothing is lost if the future is dropped.
    pub async fn next_answer(&self) -> Answer {
        let mut position = self.shared.position.subscribe();
        loop {
            let waiting = {
                let view = self.view();
                let mut answers = self.answers();
                answers.settle(&view);
                let dropped = answers.take_dropped();
                if dropped > 0 {
                    let sink = &self.sink;
                    tracing::warn!(
                        %sink, dropped,
                        "answers to commands are not sent, because too many wait for the connection or for the end of their \
                         command; the events tell what became of the commands"
                    );
                }
                if let Some(answer) = answers.pop() {
                    return answer;
                }
                answers.is_waiting()
            };
            tokio::select! {
                () = self.wake.notified() => {}
                // The writer has ended, so nothing more will happen.
                changed = position.changed(), if waiting => if changed.is_err() { std::future::pending::<()>().await },
            }
        }
    }

    /// Takes back an answer that may not have arrived.
    pub fn give_back(&self, answer: Answer) {
        self.answers().give_back(answer);
        self.wake.notify_one();
    }

    /// Hands a command to the writer, and returns when it is durable or refused for good.
    async fn ask(&self, call: &Call) {
        let body = match call.read() {
            Ok(body) => body,
            Err(rejected) => return self.refuse(call, rejected).await,
        };
        let mut wait = RETRY.0;
        loop {
            let ttl_max_s = Some(call.ttl_left(&body, self.clock.now()));
            let (reply, answered) = oneshot::channel();
            let (actor, device) = (self.actor(), call.device.clone());
            // The sources may connect later than the sink, which brings what has waited for the gateway.
            let patient = self.clock.since(self.started) < STARTING_MAX;
            let only = self.devices.clone();
            let asked = Asked {
                actor,
                device,
                only,
                body: body.clone(),
                ttl_max_s,
                traceparent: call.traceparent,
                patient,
                reply,
            };
            let sent = self.writer.send(Input::Command(Box::new(asked)));
            let answer = if sent.is_ok() { answered.await.ok() } else { None };
            match answer {
                Some(Ok(accepted)) => {
                    let view = self.view();
                    self.answers().accepted(call, &body, accepted, &view);
                    break;
                }
                Some(Err(rejected))
                    if rejected.code != Code::NotReady && !(patient && rejected.is_temporary()) =>
                {
                    self.answers().refused(call, &body.idempotency_key, &rejected);
                    break;
                }
                Some(Err(_)) => {
                    self.clock.sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                }
                // The agent ends. The message is not acknowledged, so it comes again.
                None => std::future::pending().await,
            }
        }
        self.wake.notify_one();
    }

    /// Refuses what cannot be a command. The writer notes it like what it refuses itself.
    async fn refuse(&self, call: &Call, rejected: Rejected) {
        self.warn(call, &rejected);
        let (noted, was_noted) = oneshot::channel();
        let (actor, device) = (self.actor(), call.device.clone());
        let unreadable = Unreadable { actor, device, rejected: rejected.clone(), noted };
        let sent = self.writer.send(Input::Unreadable(Box::new(unreadable)));
        if sent.is_err() || was_noted.await.is_err() {
            // The agent ends. The message is not acknowledged, so it comes again.
            std::future::pending::<()>().await;
        }
        self.answers().refused(call, "", &rejected);
        self.wake.notify_one();
    }

    /// Refuses a command because too many wait; that is only counted.
    fn refuse_busy(&self, call: &Call) {
        let reason =
            format!("{WAITING_MAX} commands wait to be recorded, which is the most; ask again in a moment");
        let rejected = Rejected::new(Code::Busy, reason);
        self.shared.stats.commands.rejected(rejected.code);
        self.warn(call, &rejected);
        self.answers().refused(call, "", &rejected);
        self.wake.notify_one();
    }

    /// Takes what the receiver asks for again; that is no command.
    fn resend(&self, call: &Call) {
        let answer = if call.retained {
            // The broker would ask for it at each connection.
            let detail = "the request is retained; publish it without the retain flag".to_owned();
            resend::Answer { accepted: false, detail }
        } else {
            self.requests.take(&call.payload)
        };
        let body = serde_json::to_vec(&answer).unwrap_or_default();
        self.answers().answer(call, body.into());
        self.wake.notify_one();
    }

    fn actor(&self) -> String {
        format!("sink:{}", self.sink)
    }

    fn warn(&self, call: &Call, rejected: &Rejected) {
        let code = rejected.code.word();
        let so_far = {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            let count = refused.entry(code).or_default();
            *count += 1;
            *count
        };
        if so_far.is_power_of_two() {
            let device: String = call.device.chars().take(256).collect();
            let (sink, reason) = (&self.sink, &rejected.reason);
            tracing::warn!(%sink, %device, so_far, "a command from upstream is refused: {reason}");
        }
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.shared.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The commands of one connection, in the order they arrived. `A` is what acknowledges a message.
pub struct Intake<A> {
    upstream: Arc<Upstream>,
    waiting: Arc<AtomicUsize>,
    calls: mpsc::UnboundedSender<(Option<Call>, A)>,
    done: mpsc::UnboundedReceiver<A>,
    task: JoinHandle<()>,
}

impl<A: Send + 'static> Intake<A> {
    /// For a new connection.
    pub fn new(upstream: Arc<Upstream>) -> Intake<A> {
        let (calls, mut incoming) = mpsc::unbounded_channel::<(Option<Call>, A)>();
        let (finished, done) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (asker, taken) = (upstream.clone(), waiting.clone());
        let work = async move {
            while let Some((call, ack)) = incoming.recv().await {
                if let Some(call) = call {
                    asker.ask(&call).await;
                    taken.fetch_sub(1, Ordering::Relaxed);
                }
                if finished.send(ack).is_err() {
                    return;
                }
            }
        };
        let task = tokio::spawn(work.boxed());
        Intake { upstream, waiting, calls, done, task }
    }

    /// Takes a message; [`Intake::done`] returns `ack` once it is done with, in the order of arrival. The messages that
    /// are refused because too many wait are bounded by what the protocol lets be unacknowledged.
    pub fn take(&self, call: Call, ack: A) {
        let call = if call.is_removal() {
            None
        } else if call.device == resend::SUBJECT {
            self.upstream.resend(&call);
            None
        } else if self.waiting.load(Ordering::Relaxed) >= usize::from(WAITING_MAX) {
            self.upstream.refuse_busy(&call);
            None
        } else {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            Some(call)
        };
        // If the task has ended, the message is not acknowledged, and comes again.
        let _ = self.calls.send((call, ack));
    }

    /// The next message that is done with. Nothing is lost if the future is dropped.
    pub async fn done(&mut self) -> A {
        match self.done.recv().await {
            Some(ack) => ack,
            None => std::future::pending().await,
        }
    }

    /// The commands of the sink.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
}

impl<A> Drop for Intake<A> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
