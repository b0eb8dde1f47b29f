//! Events and history of a running agent, in pages: a part of the log in order, or the newest of it.

use std::collections::VecDeque;
use std::io;

use fieldlog_projections::Seq;
use fieldlog_wire::api::position::Position;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::query;
use crate::client::{Client, Failure};

/// Items of a page, at most.
const LIMIT: usize = 1_000;
/// How far back the newest ones are looked for at first; each further look reaches this many times as far.
const LOOK: u64 = 2_000;
const FURTHER: u64 = 16;

/// Why nothing more is shown.
#[derive(Debug)]
pub(super) enum Stop {
    /// The reader of the output has read enough.
    Enough,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Stop::Enough,
            _ => Stop::Failed(Failure::io(format!("cannot write the output: {error}"))),
        }
    }
}

/// A page, with its items as they are.
#[derive(Deserialize)]
struct Page {
    position: Position,
    #[serde(alias = "history")]
    events: Vec<Box<RawValue>>,
    next: Option<Seq>,
}

/// A resource that is read in pages.
pub(super) struct Pages<'a> {
    pub(super) client: &'a Client,
    pub(super) path: &'a str,
    pub(super) filter: &'a [(&'a str, Option<&'a str>)],
}

type Parameters<'a> = [(&'a str, Option<&'a str>); 2];

impl Pages<'_> {
    /// Passes up to `limit` items after a position to `put`. Returns up to which position there are no others.
    pub(super) fn each(
        &self,
        span: &Parameters<'_>,
        after: u64,
        limit: usize,
        put: &mut dyn FnMut(&str) -> Result<(), Stop>,
    ) -> Result<u64, Stop> {
        let (mut after, mut left) = (after, limit);
        loop {
            let page = self.page(span, after, left.min(LIMIT))?;
            page.events.iter().try_for_each(|item| put(item.get()))?;
            left = left.saturating_sub(page.events.len());
            match page.next {
                Some(next) if left > 0 => after = next.0,
                Some(next) => return Ok(next.0),
                None => return Ok(page.position.applied.0),
            }
        }
    }

    /// The newest items, oldest first, and up to which position there are no others.
    pub(super) fn newest(
        &self,
        span: &Parameters<'_>,
        limit: usize,
    ) -> Result<(VecDeque<Box<RawValue>>, u64), Stop> {
        let head = self.page(span, u64::MAX - 1, 1)?.position.applied.0;
        let mut look = LOOK;
        loop {
            let begin = head.saturating_sub(look);
            let (mut found, mut after) = (VecDeque::new(), begin);
            let last = loop {
                let page = self.page(span, after, LIMIT)?;
                found.extend(page.events);
                found.drain(..found.len().saturating_sub(limit));
                match page.next {
                    Some(next) => after = next.0,
                    None => break page.position.applied.0,
                }
            };
            if found.len() >= limit || begin == 0 {
                return Ok((found, last));
            }
            look = look.saturating_mul(FURTHER);
        }
    }

    fn page(&self, span: &Parameters<'_>, after: u64, limit: usize) -> Result<Page, Failure> {
        let path =
            query(self.path, &[("limit", Some(&limit.to_string())), ("after", Some(&after.to_string()))]);
        let path = query(&query(&path, self.filter), span);
        self.client.get(&path)?.json()
    }
}
