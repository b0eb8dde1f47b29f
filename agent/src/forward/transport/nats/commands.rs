//! Commands by request and reply of core NATS. A request that nobody takes is answered by the server itself, so nothing
//! waits while the gateway is away.

use std::sync::Arc;

use async_nats::{Client, HeaderMap, Message, Subscriber};
use fieldlog_projections::{TraceParent, trace};
use futures_util::{FutureExt, StreamExt};
use tokio::task::JoinHandle;

use super::{NatsTarget, causes};
use crate::command::remote::{Call, ReturnAddress};
use crate::config::NatsCommands;
use crate::forward::commands::{Intake, Upstream};
use crate::forward::{Pace, Unreachable};

/// The commands of one connection.
pub(super) struct Commands {
    task: JoinHandle<()>,
}

impl Commands {
    /// Subscribes.
    pub(super) async fn start(
        target: &NatsTarget,
        config: &NatsCommands,
        client: &Client,
        upstream: &Arc<Upstream>,
    ) -> Result<Commands, Unreachable> {
        let requests = client.subscribe(config.subject.clone()).await.map_err(|error| {
            let (url, subject) = (target.sink.url(), &config.subject);
            Unreachable {
                why: format!("{url}: cannot subscribe to `{subject}`: {}", causes(&error)),
                pace: Pace::Slow,
            }
        })?;
        let task =
            tokio::spawn(FutureExt::boxed(serve(config.clone(), client.clone(), requests, upstream.clone())));
        Ok(Commands { task })
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(config: NatsCommands, client: Client, mut requests: Subscriber, upstream: Arc<Upstream>) {
    let mut intake = Intake::new(upstream.clone());
    loop {
        tokio::select! {
            request = requests.next() => match request {
                Some(request) => intake.take(call(&config, &upstream, request), ()),
                None => return,
            },
            () = intake.done() => {}
            answer = upstream.next_answer() => {
                let (subject, body) = (answer.to.topic.clone(), answer.body.clone());
                if client.publish(subject, body).await.is_err() {
                    return upstream.give_back(answer);
                }
            }
        }
    }
}

fn call(config: &NatsCommands, upstream: &Upstream, request: Message) -> Call {
    Call {
        device: config.device(&request.subject).to_owned(),
        payload: request.payload,
        oversized: None,
        fault: None,
        retained: false,
        expiry: None,
        may_be_old: false,
        received: upstream.now(),
        traceparent: request.headers.as_ref().and_then(traceparent),
        from: request.reply.map(|subject| ReturnAddress { topic: subject.to_string(), correlation: None }),
    }
}

/// The trace context in headers. Some clients write the first letter of a name as a capital.
fn traceparent(headers: &HeaderMap) -> Option<TraceParent> {
    let named = headers.iter().filter(|(name, _)| name.to_string().eq_ignore_ascii_case(trace::NAME));
    TraceParent::only(named.flat_map(|(_, values)| values).map(|value| value.as_str().as_bytes()))
}
