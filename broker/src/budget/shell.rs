//! Taking memory of the budget, waiting for it, and giving it back.
//!
//! A [`Grant`] gives back what it holds when it is dropped, wherever that happens; so does a [`Wait`],
//! which is put out of the line, or passes on what it was given and did not take. Shell.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::core::{Holders, Ledger, Line, LineFull, Ticket, Use};
use crate::limits::BUDGET_BYTES_MIN;

/// The budget of a broker. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ledger: Ledger,
    /// A lock, as connections on all threads ask; held to look at the account, never to wait.
    asking: Mutex<Asking>,
    waits: AtomicU64,
    closed_slow: AtomicU64,
}

#[derive(Debug, Default)]
struct Asking {
    line: Line,
    answers: BTreeMap<Ticket, oneshot::Sender<Grant>>,
    holders: Holders,
}

/// As many wait for memory as may.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too many wait for memory")]
pub(crate) struct Overfull;

impl Budget {
    /// A budget of `bytes`, or of as few as a broker can live with. Larger frames get `frames_max`
    /// of them at most.
    pub(crate) fn new(bytes: u64, frames_max: Option<u64>) -> Self {
        Self(Arc::new(Shared {
            ledger: Ledger::new(bytes.max(BUDGET_BYTES_MIN), frames_max),
            asking: Mutex::default(),
            waits: AtomicU64::new(0),
            closed_slow: AtomicU64::new(0),
        }))
    }

    /// How many bytes there are in all.
    pub(crate) fn total(&self) -> u64 {
        self.0.ledger.total()
    }

    /// How many bytes `of` may take.
    pub(crate) fn share(&self, of: Use) -> u64 {
        self.0.ledger.share(of)
    }

    /// How many bytes are taken.
    pub(crate) fn used(&self) -> u64 {
        self.0.ledger.used()
    }

    /// How many claims wait.
    pub(crate) fn waiting(&self) -> u64 {
        self.0.ledger.waiting()
    }

    /// How many claims had to wait so far.
    pub(crate) fn waits(&self) -> u64 {
        self.0.waits.load(Ordering::Relaxed)
    }

    /// How many connections were closed so far because they held up others.
    pub(crate) fn closed_slow(&self) -> u64 {
        self.0.closed_slow.load(Ordering::Relaxed)
    }

    /// Counts a connection that is closed because it holds up others.
    pub(crate) fn count_closed(&self) {
        self.0.closed_slow.fetch_add(1, Ordering::Relaxed);
    }

    /// True while nobody needs to be careful.
    pub(crate) fn is_easy(&self) -> bool {
        self.0.ledger.is_easy()
    }

    /// True while nothing is left for requests, however small.
    pub(crate) fn is_full(&self) -> bool {
        self.0.ledger.is_full()
    }

    /// A grant of nothing, to grow.
    pub(crate) fn nothing(&self, of: Use) -> Grant {
        Grant { budget: self.clone(), of, bytes: 0 }
    }

    /// Takes `bytes` if they are to be had at once.
    pub(crate) fn try_take(&self, of: Use, bytes: u64) -> Option<Grant> {
        let is_granted = self.asking().line.try_take(&self.0.ledger, of, bytes);
        is_granted.then(|| self.granted(of, bytes))
    }

    /// Takes `bytes`, or waits for them in line.
    ///
    /// # Errors
    /// When as many wait as may.
    pub(crate) fn take(&self, of: Use, bytes: u64) -> Result<Wait, Overfull> {
        let (mut refused, (answer, coming)) = (Vec::new(), oneshot::channel());
        let mut asking = self.asking();
        if asking.line.try_take(&self.0.ledger, of, bytes) {
            return Ok(Wait { waits: Waits::Over(Some(self.granted(of, bytes))) });
        }
        self.0.waits.fetch_add(1, Ordering::Relaxed);
        let entered = asking.line.enter(&self.0.ledger, of, bytes);
        let ticket = entered.map_err(|LineFull| Overfull)?;
        asking.answers.insert(ticket, answer);
        // What was given back since it was asked for woke nobody, as nobody waited.
        self.serve(&mut asking, &mut refused);
        drop(asking);
        drop(refused);
        let place = Place { budget: self.clone(), of, ticket };
        Ok(Wait { waits: Waits::Coming { coming, _place: place } })
    }

    /// What an answer may have of `bytes_max` at once. `None`: it waits.
    pub(crate) fn ration(&self, bytes_max: u64) -> Option<Grant> {
        let (of, bytes) = self.0.ledger.ration(bytes_max)?;
        self.0.ledger.take(of, bytes);
        Some(self.granted(of, bytes))
    }

    /// A connection takes its answers slowly.
    pub(crate) fn slow_reader(&self) -> SlowReader {
        let id = self.asking().holders.number();
        SlowReader { budget: self.clone(), id }
    }

    fn granted(&self, of: Use, bytes: u64) -> Grant {
        Grant { budget: self.clone(), of, bytes }
    }

    fn asking(&self) -> MutexGuard<'_, Asking> {
        self.0.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back, and serves who can be served now.
    fn give(&self, of: Use, bytes: u64) {
        if bytes > 0 && self.0.ledger.give(of, bytes) {
            self.serve_all();
        }
    }

    fn serve_all(&self) {
        let mut refused = Vec::new();
        let mut asking = self.asking();
        self.serve(&mut asking, &mut refused);
        drop(asking);
        // Grants that nobody waits for any more come back by being dropped, without the lock.
        drop(refused);
    }

    fn serve(&self, asking: &mut Asking, refused: &mut Vec<Grant>) {
        let mut served = Vec::new();
        asking.line.serve(&self.0.ledger, &mut served);
        for (ticket, of, bytes) in served {
            let answer = asking.answers.remove(&ticket).expect("who waits has left a way back");
            refused.extend(answer.send(self.granted(of, bytes)).err());
        }
    }
}

/// Memory that is held. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Grant {
    budget: Budget,
    of: Use,
    bytes: u64,
}

impl Grant {
    /// How many bytes are held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Holds `bytes` from now on: what is more is taken whatever there is, what is less given back.
    pub(crate) fn set(&mut self, bytes: u64) {
        if bytes > self.bytes {
            self.budget.0.ledger.take(self.of, bytes - self.bytes);
        } else {
            self.budget.give(self.of, self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.budget.give(self.of, self.bytes);
    }
}

/// A claim that may have to wait. Dropping it leaves the line.
#[derive(Debug)]
pub(crate) struct Wait {
    waits: Waits,
}

#[derive(Debug)]
enum Waits {
    /// `None`: it was taken.
    Over(Option<Grant>),
    // The answer first: what it was given comes back before its place is looked for.
    Coming {
        coming: oneshot::Receiver<Grant>,
        _place: Place,
    },
}

impl Future for Wait {
    type Output = Grant;

    fn poll(mut self: Pin<&mut Self>, polling: &mut Context<'_>) -> Poll<Grant> {
        match &mut self.waits {
            Waits::Over(grant) => Poll::Ready(grant.take().expect("polled once after it is ready")),
            Waits::Coming { coming, .. } => {
                Pin::new(coming).poll(polling).map(|it| it.expect("its place is in the line still"))
            }
        }
    }
}

/// A place in the line.
#[derive(Debug)]
struct Place {
    budget: Budget,
    of: Use,
    ticket: Ticket,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut refused = Vec::new();
        let mut asking = self.budget.asking();
        let is_waiting = asking.answers.remove(&self.ticket).is_some();
        if is_waiting {
            asking.line.leave(&self.budget.0.ledger, self.of, self.ticket);
            // The next in line may be smaller.
            self.budget.serve(&mut asking, &mut refused);
        }
        drop(asking);
        drop(refused);
    }
}

/// A connection that takes its answers slowly. Dropping it takes it out of the account.
#[derive(Debug)]
pub(crate) struct SlowReader {
    budget: Budget,
    id: u64,
}

impl SlowReader {
    /// True when the connection, which holds `bytes`, must be closed for others to go on: of those
    /// that are slow, the largest go first.
    pub(crate) fn is_in_the_way(&self, bytes: u64) -> bool {
        let mut asking = self.budget.asking();
        let wanted = asking.line.wanted().max(self.budget.0.ledger.overdrawn());
        asking.holders.note(self.id, bytes);
        asking.holders.is_in_the_way(self.id, wanted)
    }
}

impl Drop for SlowReader {
    fn drop(&mut self) {
        self.budget.asking().holders.forget(self.id);
    }
}

#[cfg(test)]
#[path = "shell_tests.rs"]
mod tests;
