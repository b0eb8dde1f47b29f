//! Follows the log: the events that come, over all connections that it takes.

use std::ops::ControlFlow;
use std::time::Duration;

use super::super::query;
use super::line;
use super::pages::Stop;
use crate::client::stream::Ended;
use crate::client::{Client, Failure};
use crate::words::complain;

/// Waits between attempts: the first, and the longest.
const WAIT: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(15);

/// Prints the events after a position until the reader of the output has enough.
pub(super) fn follow(
    client: &Client,
    filter: &[(&str, Option<&str>)],
    after: u64,
    json: bool,
) -> Result<u8, Failure> {
    let path = query("/api/v1/events/stream", filter);
    let path = query(&path, &[("after", Some(&after.to_string()))]);
    let (mut last, mut wait, mut stopped) = (None, WAIT, None);
    loop {
        let mut lost = wait > WAIT;
        let mut take = |event: crate::client::stream::ServerEvent| {
            if std::mem::take(&mut lost) {
                complain("fieldlog answers again.");
            }
            wait = WAIT;
            let printed = match event.kind.as_str() {
                "reset" => {
                    complain(
                        "The log does not have the events after this place any more, or is another one now; it goes on \
                         with the newest.",
                    );
                    Ok(())
                }
                "omitted" => {
                    complain(&format!("An event is too large to be shown: {}", event.data));
                    Ok(())
                }
                _ => line::put(&event.data, json),
            };
            match printed {
                Ok(()) => ControlFlow::Continue(()),
                Err(stop) => {
                    stopped = Some(stop);
                    ControlFlow::Break(())
                }
            }
        };
        let ended = client.follow(&path, &mut last, &mut take)?;
        match (ended, stopped.take()) {
            (_, Some(Stop::Failed(failure))) => return Err(failure),
            (Ended::Enough, _) => return Ok(0),
            (Ended::Lost(failure), _) => {
                if wait == WAIT {
                    complain(&format!("{}\nTrying again until it answers.", failure.words));
                }
                std::thread::sleep(wait);
                wait = (wait * 2).min(WAIT_MAX);
            }
        }
    }
}
