//! What the receiver of a sink asks for again, on its way from the connection to the driver.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use fieldlog_projections::{Epoch, Seq};
use fieldlog_wire::resend::{Answer, Request};
use tokio::sync::Notify;

use super::again::Again;

/// The requests of one sink, over all its connections.
#[derive(Debug)]
pub struct Requests {
    sink: String,
    gateway: String,
    epoch: Epoch,
    waiting: Mutex<Again>,
    refused: AtomicU64,
    news: Notify,
}

impl Requests {
    /// None yet.
    pub fn new(sink: &str, gateway: &str, epoch: Epoch) -> Requests {
        let (sink, gateway) = (sink.to_owned(), gateway.to_owned());
        let (waiting, refused, news) = (Mutex::default(), AtomicU64::default(), Notify::new());
        Requests { sink, gateway, epoch, waiting, refused, news }
    }

    /// Takes a request.
    pub fn take(&self, body: &[u8]) -> Answer {
        let request: Result<Request, _> = serde_json::from_slice(body);
        let request = request.map_err(|error| {
            format!("{error}; a request looks like \"What is asked for again\" in FORMAT.md shows it")
        });
        let ranges = request.as_ref().map_err(Clone::clone);
        match ranges.and_then(|request| request.resend.ranges_of(&self.gateway, self.epoch)) {
            Ok(ranges) => {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                ranges.iter().for_each(|(first, last)| waiting.add(*first, *last));
                drop(waiting);
                self.news.notify_one();
                Answer { accepted: true, detail: String::new() }
            }
            Err(why) => {
                let so_far = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
                if so_far.is_power_of_two() {
                    tracing::warn!(sink = %self.sink, so_far, "what the receiver asks for again is not sent: {why}");
                }
                Answer { accepted: false, detail: why }
            }
        }
    }

    /// Waits for ranges. Nothing is lost if the future is dropped.
    pub(super) async fn next(&self) -> Vec<(Seq, Seq)> {
        loop {
            let taken = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if taken.count() > 0 {
                return taken.ranges().collect();
            }
            self.news.notified().await;
        }
    }
}
