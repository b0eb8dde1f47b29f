//! Follows a stream of server-sent events.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use tokio::time::timeout;

use super::{ANSWER_BYTES_MAX, Client, Connected, EX_TEMPFAIL, Failure};

/// The agent sends something every 15 s; after this long without, the connection is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// An event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerEvent {
    /// Its type.
    pub kind: String,
    /// Its data.
    pub data: String,
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The taker has enough.
    Enough,
    /// The connection ended, or could not be made; it can be tried again after the last id.
    Lost(Failure),
}

impl Client {
    /// Passes the events of a stream to `take`. `last` is the id after which it begins, and is moved with each event.
    ///
    /// # Errors
    /// [`Failure`] if the answer is a problem that does not go away by itself.
    pub fn follow(
        &self,
        path: &str,
        last: &mut Option<String>,
        take: &mut dyn FnMut(ServerEvent) -> ControlFlow<()>,
    ) -> Result<Ended, Failure> {
        let mut request = self.request(Method::GET, path, None::<&()>)?;
        if let Some(id) = last.as_deref().and_then(|id| id.parse().ok()) {
            request.headers_mut().insert("last-event-id", id);
        }
        match self.runtime()?.block_on(self.followed(request, last, take)) {
            Err(failure) if failure.is_passing() => Ok(Ended::Lost(failure)),
            other => other,
        }
    }

    async fn followed(
        &self,
        request: Request<Full<Bytes>>,
        last: &mut Option<String>,
        take: &mut dyn FnMut(ServerEvent) -> ControlFlow<()>,
    ) -> Result<Ended, Failure> {
        let Connected { response, driver: _driver } = self.send(request).await?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        if status != 200 {
            let bytes = body.collect().await.map(http_body_util::Collected::to_bytes);
            return Err(self.refused(status, &bytes.unwrap_or_default()));
        }
        let mut lines = Lines::default();
        let lost = |why: String| Failure::new(EX_TEMPFAIL, format!("{}: {why}", self.name()));
        loop {
            let frame = match timeout(SILENCE, body.frame()).await {
                Err(_) => return Err(lost(format!("silent for {} s", SILENCE.as_secs()))),
                Ok(None) => return Err(lost("the stream has ended".to_owned())),
                Ok(Some(Err(error))) => return Err(lost(format!("the connection broke: {error}"))),
                Ok(Some(Ok(frame))) => frame,
            };
            for (id, event) in lines.take(frame.data_ref().map_or(&[], |data| data)) {
                let flow = event.map_or(ControlFlow::Continue(()), &mut *take);
                // Only what was taken is not asked for again.
                *last = id.or(last.take());
                if flow.is_break() {
                    return Ok(Ended::Enough);
                }
            }
            if lines.rest.len() > ANSWER_BYTES_MAX {
                return Err(Failure::internal("the stream is not what fieldlog sends: a line has no end"));
            }
        }
    }
}

/// Takes a stream apart, as the HTML standard describes `text/event-stream`.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
    id: Option<String>,
    kind: String,
    data: Option<String>,
}

impl Lines {
    /// The blocks that end with these bytes: the id, and the event if it has data.
    fn take(&mut self, bytes: &[u8]) -> Vec<(Option<String>, Option<ServerEvent>)> {
        self.rest.extend_from_slice(bytes);
        let mut blocks = Vec::new();
        let mut begin = 0;
        while let Some(length) = self.rest[begin..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.rest[begin..begin + length]).into_owned();
            begin += length + 1;
            match line.trim_end_matches('\r').split_once(':') {
                None if line.is_empty() => blocks.push(self.end()),
                Some(("id", value)) => self.id = Some(value.trim_start().to_owned()),
                Some(("event", value)) => value.trim_start().clone_into(&mut self.kind),
                Some(("data", value)) => {
                    let value = value.strip_prefix(' ').unwrap_or(value);
                    match &mut self.data {
                        Some(data) => data.extend(["\n", value]),
                        None => self.data = Some(value.to_owned()),
                    }
                }
                _ => {}
            }
        }
        self.rest.drain(..begin);
        blocks
    }

    fn end(&mut self) -> (Option<String>, Option<ServerEvent>) {
        let kind = std::mem::take(&mut self.kind);
        (self.id.take(), self.data.take().map(|data| ServerEvent { kind, data }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_from_pieces() {
        let mut lines = Lines::default();
        let mut taken = Vec::new();
        let text = "retry: 3000\nid: a-1\n\nid: a-2\nevent: state_changed\ndata: {\"x\":\ndata: 1}\n\n: keep-alive\nid: a-3\n\nevent: x\n";
        for piece in text.as_bytes().chunks(7) {
            taken.extend(lines.take(piece));
        }
        let event = ServerEvent { kind: "state_changed".into(), data: "{\"x\":\n1}".into() };
        let id = |id: &str| Some(id.to_owned());
        assert_eq!(taken, [(id("a-1"), None), (id("a-2"), Some(event)), (id("a-3"), None)]);
    }
}
