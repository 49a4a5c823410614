//! Answers out, charged to the budget of memory until the socket has taken them. What lies in a file is sent from
//! there, and takes no memory.
//!
//! A peer that takes nothing for long is given up. One that takes its answers slowly is looked at from
//! time to time: while others wait for memory, those that hold most of it are closed first. Shell.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Sleep, sleep};

use super::intake::wide;
use super::{Connection, ConnectionError};
use crate::api::serving::{Held, Serve};
use crate::budget::{Budget, Grant, SlowReader};
use crate::limits::{ANSWER_LOOKED_AT_EVERY, STALL_MAX};
use crate::net::accepted::Accepted;
use crate::stretch::{Stretch, is_stand_in};

/// Slices in one vectored write; more go into the next.
const SLICES_MAX: usize = 64;

/// Answers that are not on the socket yet.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    parts: VecDeque<Part>,
    /// All that is left.
    bytes: u64,
    /// Of those, what is in memory.
    room_bytes: u64,
    /// How much of the first part is written: its memory is held until the last of it is.
    written: u64,
    /// What records among them hold of the budget. The rest is charged to the connection.
    records: Option<Grant>,
}

/// A part of an answer.
#[derive(Debug)]
enum Part {
    Bytes(Bytes),
    /// What is left of a stretch, after so many bytes of it.
    Stretch(Arc<Stretch>, usize),
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Stretch(stretch, sent) => stretch.bytes() - sent,
        }
    }
}

impl Unsent {
    /// Adds an answer, and what its records hold already.
    pub(super) fn push(&mut self, parts: Vec<Bytes>, held: Option<Held>) {
        let (grant, stretches) =
            held.map_or((None, Vec::new()), |held| (Some(held.grant), held.stretches));
        let (mut stretches, mut room_bytes) = (stretches.into_iter(), 0);
        for part in parts {
            self.bytes += wide(part.len());
            self.parts.push_back(if is_stand_in(&part) {
                let stretch = stretches.next().expect("every stand-in has its stretch");
                assert_eq!(stretch.bytes(), part.len(), "it stands for this one");
                Part::Stretch(stretch, 0)
            } else {
                room_bytes += wide(part.len());
                Part::Bytes(part)
            });
        }
        assert!(stretches.next().is_none(), "every stretch has its stand-in");
        self.room_bytes += room_bytes;
        if let Some(mut grant) = grant {
            grant.set(room_bytes);
            // Of such answers there is one at a time: it is begun when those before it were taken.
            self.records = Some(grant);
        }
    }

    /// How many bytes are left.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many bytes of memory are held until they are written.
    fn held_bytes(&self) -> u64 {
        self.room_bytes + self.written
    }

    /// How many of those that are left are to be charged to the connection.
    pub(super) fn charged_bytes(&self) -> u64 {
        self.room_bytes.saturating_sub(self.records.as_ref().map_or(0, Grant::bytes))
    }

    /// Drops the first `written` bytes.
    fn advance(&mut self, mut written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes -= wide(written);
        while let Some(first) = self.parts.front_mut() {
            let taken = written.min(first.len());
            written -= taken;
            let is_whole = taken == first.len();
            match first {
                Part::Stretch(_, sent) => *sent += taken,
                Part::Bytes(bytes) => {
                    self.room_bytes -= wide(taken);
                    self.written = if is_whole { 0 } else { self.written + wide(taken) };
                    bytes.advance(taken);
                }
            }
            if !is_whole {
                break;
            }
            self.parts.pop_front();
        }
        if let Some(grant) = &mut self.records {
            grant.set(grant.bytes().min(self.room_bytes + self.written));
        }
        Ok(())
    }
}

impl<S: Serve> Connection<S> {
    /// Writes all of `unsent`. A peer that takes nothing for long is given up, and one that is slow when
    /// others need what it holds.
    pub(super) async fn write(&mut self, mut unsent: Unsent) -> Result<(), ConnectionError> {
        let mut patience = None;
        loop {
            let is_all = unsent.parts.is_empty();
            let written = {
                let mut write = pin!(write_some(&mut self.stream, &unsent.parts));
                // The timer costs more than a write that succeeds at once, as nearly all do.
                match poll_fn(|polling| Poll::Ready(write.as_mut().poll(polling))).await {
                    Poll::Ready(written) => Some(written?),
                    Poll::Pending => {
                        let patience = patience
                            .get_or_insert_with(|| Patience::new(&self.budget, unsent.bytes()));
                        tokio::select! {
                            biased;
                            written = &mut write => Some(written?),
                            () = &mut patience.look => None,
                        }
                    }
                }
            };
            match (written, &mut patience) {
                (Some(_), _) if is_all => return Ok(()),
                (Some(written), _) => {
                    unsent.advance(written)?;
                    self.charge(unsent.charged_bytes());
                }
                (None, Some(patience)) => patience.judge(unsent.bytes(), unsent.held_bytes())?,
                (None, None) => unreachable!("it is there when its time is over"),
            }
        }
    }
}

/// How long a peer is waited for that did not take its answers at once.
#[derive(Debug)]
struct Patience {
    budget: Budget,
    look: Pin<Box<Sleep>>,
    /// How much was left when it was last looked at.
    left: u64,
    stalled: Duration,
    slow: Option<SlowReader>,
}

impl Patience {
    fn new(budget: &Budget, left: u64) -> Self {
        let look = Box::pin(sleep(ANSWER_LOOKED_AT_EVERY));
        Self { budget: budget.clone(), look, left, stalled: Duration::ZERO, slow: None }
    }

    /// Looks at a peer that has not taken `left` bytes yet, for which `held` are held.
    fn judge(&mut self, left: u64, held: u64) -> Result<(), ConnectionError> {
        self.look.set(sleep(ANSWER_LOOKED_AT_EVERY));
        let before = std::mem::replace(&mut self.left, left);
        let is_still = left == before;
        self.stalled =
            if is_still { self.stalled + ANSWER_LOOKED_AT_EVERY } else { Duration::ZERO };
        if self.stalled >= STALL_MAX {
            return Err(ConnectionError::Stalled(STALL_MAX));
        }
        if before - left > before / 16 {
            self.slow = None;
            return Ok(());
        }
        let slow = self.slow.get_or_insert_with(|| self.budget.slow_reader());
        if slow.is_in_the_way(held) {
            self.budget.count_closed();
            return Err(ConnectionError::InTheWay);
        }
        Ok(())
    }
}

/// Writes as many bytes of `parts` as the stream takes at once; of none, sees that all that was
/// written leaves.
async fn write_some(stream: &mut Accepted, parts: &VecDeque<Part>) -> io::Result<usize> {
    match (parts.front(), parts.get(1)) {
        (None, _) => return stream.flush().await.map(|()| 0),
        (Some(Part::Stretch(stretch, sent)), _) => {
            let (at, left) = (stretch.at() + wide(*sent), stretch.bytes() - sent);
            return poll_fn(|polling| stream.poll_send(polling, stretch.file(), at, left)).await;
        }
        (Some(Part::Bytes(bytes)), Some(Part::Stretch(..))) => {
            return poll_fn(|polling| stream.poll_write_before(polling, bytes)).await;
        }
        (Some(Part::Bytes(_)), _) => {}
    }
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let mut count = 0;
    for (slice, part) in slices.iter_mut().zip(parts) {
        let Part::Bytes(bytes) = part else { break };
        *slice = IoSlice::new(bytes);
        count += 1;
    }
    poll_fn(|polling| Pin::new(&mut *stream).poll_write_vectored(polling, &slices[..count])).await
}
