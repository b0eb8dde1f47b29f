//! HTTP(S) sinks: one POST per parcel over a persistent HTTP/1.1 connection, strictly one after the other, so that a
//! deferred parcel is never overtaken by a later one.

mod answer;
mod exchange;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::HttpSink;
use crate::forward::queue::{Jobs, Queue};
use crate::forward::resend::Requests;
use crate::forward::transport::Target;
use crate::forward::{Outcome, Parcel, Transport, Unreachable};
use exchange::Client;

/// Address and settings. `connect_timeout` covers TCP and TLS together; `answer_timeout` the time from the first byte
/// of a request to the last byte of its answer.
pub type HttpTarget = Target<HttpSink>;

/// A connection to a server.
pub struct Http {
    queue: Queue,
}

impl HttpTarget {
    /// Connects, so that an unreachable server is known before anything is sent. What the server asks for again in its
    /// answers goes to `requests`.
    pub async fn open(&self, requests: &Arc<Requests>) -> Result<Http, Unreachable> {
        let client = Client::open(self.clone(), requests.clone()).await?;
        Ok(Http { queue: Queue::start(|jobs| serve(client, jobs)) })
    }
}

/// Posts to a server what is no parcel.
pub struct Poster(Client);

impl Poster {
    /// Not connected yet. `connect_timeout` and `answer_timeout` are as of a sink.
    pub fn new(server: &HttpSink, connect_timeout: Duration, answer_timeout: Duration) -> Poster {
        let target = Target { sink: server.clone(), connect_timeout, answer_timeout, in_flight_max: 1 };
        Poster(Client::new(target, None))
    }

    /// Posts a body; `identity` is the same when it is posted again.
    pub async fn post(&mut self, content_type: &'static str, identity: &str, body: Bytes) -> Outcome {
        self.0.post(content_type, identity, body).await
    }
}

async fn serve(mut client: Client, mut jobs: Jobs) {
    while let Some(job) = jobs.incoming.recv().await {
        let outcome = client.send(job.parcel).await;
        if let Outcome::Lost { why } = &outcome {
            jobs.lose(why.clone());
            return;
        }
        // The driver may have given up on it.
        let _ = job.reply.send(outcome);
    }
}

impl Transport for Http {
    fn send(&mut self, parcel: Arc<Parcel>) -> impl Future<Output = Outcome> + Send + 'static {
        self.queue.send(parcel)
    }

    /// A closed idle connection is not a loss: the next parcel opens a new one.
    fn lost(&mut self) -> impl Future<Output = String> + Send {
        self.queue.lost()
    }

    fn close(self) -> impl Future<Output = ()> + Send {
        self.queue.close()
    }
}

#[cfg(test)]
mod tests;
