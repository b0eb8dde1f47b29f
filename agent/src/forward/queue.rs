//! Between [`Transport::send`](super::Transport::send) and the task that owns the connection.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Outcome, Parcel};

/// Time limit for disconnecting.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// A parcel for the connection to send.
pub(super) struct Job {
    pub(super) parcel: Arc<Parcel>,
    /// Dropped without an answer when the connection is lost.
    pub(super) reply: oneshot::Sender<Outcome>,
}

/// The connection's end.
pub(super) struct Jobs {
    /// Unbounded, but the driver limits parcels in flight to the transport's window.
    pub(super) incoming: mpsc::UnboundedReceiver<Job>,
    lost: watch::Sender<Option<String>>,
}

impl Jobs {
    /// Reports that the connection is lost; call before dropping parcels in flight.
    pub(super) fn lose(&self, why: String) {
        self.lost.send_replace(Some(why));
    }
}

/// The transport's end.
pub(super) struct Queue {
    outgoing: mpsc::UnboundedSender<Job>,
    lost: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Queue {
    /// Runs `serve` as a separate task until the queue is closed or the connection is lost.
    pub(super) fn start<S>(serve: impl FnOnce(Jobs) -> S) -> Queue
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let (outgoing, incoming) = mpsc::unbounded_channel();
        let (sender, lost) = watch::channel(None);
        let task = tokio::spawn(serve(Jobs { incoming, lost: sender }).boxed());
        Queue { outgoing, lost, task }
    }

    /// Queues a parcel immediately; the future returns its outcome.
    pub(super) fn send(&self, parcel: Arc<Parcel>) -> impl Future<Output = Outcome> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        // If the connection is lost, the job and its reply are dropped here.
        let _ = self.outgoing.send(Job { parcel, reply });
        let lost = self.lost.clone();
        async move {
            match answer.await {
                Ok(outcome) => outcome,
                Err(_) => Outcome::Lost { why: reason(&lost) },
            }
        }
    }

    /// Ends when the connection is lost.
    pub(super) async fn lost(&mut self) -> String {
        // An error means that the task has ended, which is also a loss.
        let _ = self.lost.wait_for(Option::is_some).await;
        reason(&self.lost)
    }

    /// Lets the task end by itself.
    pub(super) async fn close(self) {
        drop(self.outgoing);
        // Late or failed, the connection closes with the task.
        let mut task = self.task;
        if timeout(FAREWELL * 2, &mut task).await.is_err() {
            task.abort();
        }
    }
}

fn reason(lost: &watch::Receiver<Option<String>>) -> String {
    lost.borrow().clone().unwrap_or_else(|| "the connection was closed".to_owned())
}
