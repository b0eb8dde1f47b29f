//! Answers in pieces. The pieces of all answers count against one bound until their clients have read them: neither a
//! large answer nor clients that do not read can fill the memory.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use axum::http::StatusCode;
use hyper::body::{Frame, SizeHint};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;

/// Size of a piece. The first piece of each answer is not counted, so small answers are always possible.
const PIECE_BYTES: usize = 32 * 1024;
/// Maximum bytes of all answers that are being built or not read yet; an answer that needs more gets 503.
pub(super) const ANSWERS_BYTES_MAX: usize = 16 << 20;
/// Maximum bytes of one answer. Pages end much earlier; only a single event or device can reach this.
pub(super) const ANSWER_BYTES_MAX: usize = 8 << 20;
/// A page ends with the item that makes it this large, and says where to continue.
pub(super) const PAGE_BYTES: usize = 1 << 20;

/// The bound over all answers, in pieces.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(super) fn new() -> Budget {
        Budget(Arc::new(Semaphore::new(ANSWERS_BYTES_MAX / PIECE_BYTES)))
    }
}

/// Why an answer could not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// Other answers use the bytes; there will be room later.
    Now,
    /// It exceeds the limit for one answer.
    Ever,
}

#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// An answer: written first, then sent.
#[derive(Debug)]
pub(super) struct Pieces {
    budget: Budget,
    pieces: VecDeque<Piece>,
    bytes: usize,
    no_room: Option<NoRoom>,
}

impl Pieces {
    pub(super) fn new(budget: &Budget) -> Pieces {
        Pieces { budget: budget.clone(), pieces: VecDeque::new(), bytes: 0, no_room: None }
    }

    /// Bytes in it.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// Why it could not grow.
    pub(super) fn no_room(&self) -> Option<NoRoom> {
        self.no_room
    }

    /// Appends JSON.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), Problem> {
        serde_json::to_writer(&mut *self, value).map_err(|error| self.problem(&error))
    }

    /// Appends bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.write_all(bytes).map_err(|error| self.problem(&error))
    }

    fn problem(&self, error: &dyn std::fmt::Display) -> Problem {
        match self.no_room {
            Some(NoRoom::Now) => Problem::busy(format!(
                "answers of {} MiB wait for their clients, which is the most at a time; try again",
                ANSWERS_BYTES_MAX >> 20
            )),
            Some(NoRoom::Ever) => Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "too-large",
                "The answer would be too large",
                format!(
                    "one event or device alone is larger than {} MiB, the most that an answer may have; pass over an event \
                     with `after` and its sequence number. Lower `limits.text_bytes_max` or `packet_bytes_max` to \
                     keep such events from being recorded",
                    ANSWER_BYTES_MAX >> 20
                ),
            ),
            None => Problem::internal(format!("the answer cannot be written: {error}")),
        }
    }

    /// Makes room for more bytes.
    fn grow(&mut self) -> Result<(), NoRoom> {
        if self.pieces.is_empty() {
            self.pieces.push_back(Piece { bytes: Vec::new(), _room: None });
            return Ok(());
        }
        if self.bytes >= ANSWER_BYTES_MAX {
            return Err(NoRoom::Ever);
        }
        let room = self.budget.0.clone().try_acquire_owned().map_err(|_| NoRoom::Now)?;
        self.pieces.push_back(Piece { bytes: Vec::with_capacity(PIECE_BYTES), _room: Some(room) });
        Ok(())
    }

    /// The next piece, which holds its part of the budget until it is dropped.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let piece = self.pieces.pop_front()?;
        self.bytes -= piece.bytes.len();
        Some(Bytes::from_owner(piece))
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.pieces.back().is_none_or(|piece| piece.bytes.len() >= PIECE_BYTES)
            && let Err(no_room) = self.grow()
        {
            self.no_room = Some(no_room);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let Some(piece) = self.pieces.back_mut() else { return Ok(0) };
        let taken = bytes.len().min(PIECE_BYTES - piece.bytes.len());
        piece.bytes.extend_from_slice(&bytes[..taken]);
        self.bytes += taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().pop().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes as u64)
    }
}

/// JSON.
pub(super) fn encode(budget: &Budget, body: &impl Serialize) -> Result<Pieces, Problem> {
    let mut pieces = Pieces::new(budget);
    pieces.json(body)?;
    Ok(pieces)
}

/// A page: an object whose list is written item by item into pieces, so it is never contiguous in memory.
#[derive(Debug)]
pub(super) struct Page {
    pieces: Pieces,
    empty: bool,
}

/// The place of the list in a page without items.
const NO_ITEMS: &str = "[]";

impl Page {
    /// Begins a page with the part of `page`, which has no items, before the list.
    pub(super) fn begin(budget: &Budget, page: &impl Serialize) -> Result<Page, Problem> {
        let mut pieces = Pieces::new(budget);
        let (before, _) = around_items(page).map_err(|error| pieces.problem(&error))?;
        pieces.put(before.as_bytes())?;
        pieces.put(b"[")?;
        Ok(Page { pieces, empty: true })
    }

    /// Adds an item; `true` if the page must end with it.
    pub(super) fn push(&mut self, item: &impl Serialize) -> Result<bool, Problem> {
        if !std::mem::take(&mut self.empty) {
            self.pieces.put(b",")?;
        }
        self.pieces.json(item)?;
        Ok(self.pieces.len() >= PAGE_BYTES)
    }

    /// Ends the page with the part of `page`, which has no items, after the list.
    pub(super) fn end(mut self, page: &impl Serialize) -> Result<Pieces, Problem> {
        let (_, after) = around_items(page).map_err(|error| self.pieces.problem(&error))?;
        self.pieces.put(b"]")?;
        self.pieces.put(after.as_bytes())?;
        Ok(self.pieces)
    }
}

/// The parts of a page without items before and after the list. No page has another list, or text, before its items.
fn around_items(page: &impl Serialize) -> serde_json::Result<(String, String)> {
    let text = serde_json::to_string(page)?;
    let parts = text.split_once(NO_ITEMS).ok_or_else(|| serde::ser::Error::custom("a page has a list"))?;
    Ok((parts.0.to_owned(), parts.1.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(mut pieces: Pieces) -> Vec<u8> {
        std::iter::from_fn(|| pieces.pop()).flatten().collect()
    }

    #[test]
    fn pieces_are_what_was_written() {
        let budget = Budget::new();
        let written: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        let mut pieces = Pieces::new(&budget);
        written.chunks(777).for_each(|some| pieces.put(some).unwrap());
        assert_eq!((pieces.len(), pieces.size_hint().exact()), (200_000, Some(200_000)));
        assert_eq!(pieces.pieces.len(), 200_000_usize.div_ceil(PIECE_BYTES));
        assert!(text(pieces) == written);
    }

    #[test]
    fn answers_share_a_bound_that_small_ones_do_not_need() {
        let budget = Budget::new();
        let all = budget.0.available_permits();
        let part = vec![b'x'; PIECE_BYTES + ANSWERS_BYTES_MAX / 4];
        let hold = |_| {
            let mut pieces = Pieces::new(&budget);
            pieces.put(&part).unwrap();
            pieces
        };
        let mut held: Vec<Pieces> = (0..4).map(hold).collect();
        assert_eq!(budget.0.available_permits(), 0);
        let refused = encode(&budget, &"x".repeat(PIECE_BYTES)).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.code), (503, "busy"));
        assert!(encode(&budget, &"x".repeat(PIECE_BYTES - 2)).is_ok());
        // A piece counts until it is sent.
        held[0].pop();
        let sending = held[0].pop();
        assert_eq!(budget.0.available_permits(), 0);
        drop(sending);
        assert_eq!(budget.0.available_permits(), 1);
        drop(held);
        assert_eq!(budget.0.available_permits(), all);
    }

    #[test]
    fn an_answer_that_is_too_large_says_what_to_do() {
        let budget = Budget::new();
        let refused = encode(&budget, &"x".repeat(ANSWER_BYTES_MAX + 2 * PIECE_BYTES)).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.code), (500, "too-large"));
        let response = refused.render("/x");
        assert!(response.headers().get("retry-after").is_none());
        assert_eq!(budget.0.available_permits(), ANSWERS_BYTES_MAX / PIECE_BYTES);
    }
}
