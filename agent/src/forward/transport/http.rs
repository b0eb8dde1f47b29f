//! HTTP(S) sinks: one POST per parcel over a kept HTTP/1.1 connection, strictly one after the other, so that a parcel
//! that was put off is never overtaken by the one behind it.

mod answer;
mod exchange;
mod site;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::TlsConfig;
use crate::forward::queue::{Jobs, Queue};
use crate::forward::{Outcome, Pace, Parcel, Transport, Unreachable};
pub(crate) use answer::FORK;
use exchange::Client;
use site::Site;

/// Where and how to post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTarget {
    /// `http://` or `https://` URL.
    pub url: String,
    /// File that holds a bearer token.
    pub token_file: Option<PathBuf>,
    /// Compress JSON bodies.
    pub gzip: bool,
    /// TCP and TLS together.
    pub connect_timeout: Duration,
    /// From the first byte of a request to the last one of its answer.
    pub answer_timeout: Duration,
    /// Counts only with `https://`.
    pub tls: TlsConfig,
}

/// A connection to a server.
pub struct Http {
    queue: Queue,
}

impl HttpTarget {
    /// Whether `url` can be used; the configuration asks.
    pub fn check(url: &str) -> Result<(), String> {
        Site::parse(url).map(|_| ())
    }

    /// Connects, so that a server that cannot be reached is known before anything is sent.
    pub async fn open(&self) -> Result<Http, Unreachable> {
        let site = Site::parse(&self.url).map_err(|why| Unreachable { why, pace: Pace::Slow })?;
        let client = Client::open(self.clone(), site).await?;
        Ok(Http { queue: Queue::start(|jobs| serve(client, jobs)) })
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

    /// A server that closes an idle connection is not lost: the next parcel makes a new one.
    fn lost(&mut self) -> impl Future<Output = String> + Send {
        self.queue.lost()
    }

    fn close(self) -> impl Future<Output = ()> + Send {
        self.queue.close()
    }
}

#[cfg(test)]
mod tests;
