//! The account of a budget: what is taken, who waits, who holds it up.
//!
//! [`Ledger`] counts in atomics, so that what is taken without asking costs an addition; whoever asks
//! does so behind the one lock that also guards [`Line`] and [`Holders`]. A claim that waits is served when
//! it is the first of its use and fits. No wake-up is lost: who waits raises `waiting` before it looks
//! at what is used, who gives back lowers what is used before it looks at `waiting`. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::{BUDGET_SMALL_BYTES, BUDGET_WAITERS_MAX};

/// What memory is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// That a connection is open.
    Connection,
    /// A frame of who has not authenticated.
    Unproved,
    /// A frame.
    Frame,
    /// A frame that is larger than any common one.
    LargeFrame,
    /// Records that are fetched.
    Answer,
    /// What is small, and what cannot wait.
    Small,
}

impl Use {
    /// All of them.
    const ALL: [Self; 6] = [
        Self::Connection,
        Self::Unproved,
        Self::Frame,
        Self::Answer,
        Self::Small,
        Self::LargeFrame,
    ];

    fn index(self) -> usize {
        match self {
            Self::Connection => 0,
            Self::Unproved => 1,
            Self::Frame => 2,
            Self::Answer => 3,
            Self::Small => 4,
            Self::LargeFrame => 5,
        }
    }
}

/// What is taken of a budget, in bytes.
#[derive(Debug)]
pub(crate) struct Ledger {
    total: u64,
    /// The most that each use may take.
    shares: [u64; 6],
    taken: [AtomicU64; 6],
    used: AtomicU64,
    /// How many claims wait.
    waiting: AtomicU64,
}

impl Ledger {
    /// Nothing is taken of `total` bytes yet. Frames get `frames_max` bytes at most.
    pub(super) fn new(total: u64, frames_max: Option<u64>) -> Self {
        let frames = (total / 4).min(frames_max.unwrap_or(u64::MAX));
        let shares = [total / 4, frames.min(total / 16), frames, total / 4, total, frames / 2];
        let zero = || AtomicU64::new(0);
        let taken = [zero(), zero(), zero(), zero(), zero(), zero()];
        Self { total, shares, taken, used: zero(), waiting: zero() }
    }

    /// How many bytes there are in all.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// How many bytes are taken.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::SeqCst)
    }

    /// How many claims wait.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// How many bytes are taken for `of`.
    pub(super) fn taken(&self, of: Use) -> u64 {
        self.taken[of.index()].load(Ordering::SeqCst)
    }

    /// The most that `of` may take.
    pub(super) fn share(&self, of: Use) -> u64 {
        self.shares[of.index()]
    }

    /// How many bytes can still be had for `of`.
    pub(super) fn room(&self, of: Use) -> u64 {
        let within = self.share(of).saturating_sub(self.taken(of));
        let within = match of {
            // One that is larger than its share must not take that of the others.
            Use::Frame => {
                let large = self.taken(Use::LargeFrame).min(self.share(Use::LargeFrame));
                within.saturating_sub(large)
            }
            Use::LargeFrame => {
                let both = self.taken(Use::Frame).saturating_add(self.taken(Use::LargeFrame));
                within.min(self.share(Use::Frame).saturating_sub(both))
            }
            Use::Connection | Use::Unproved | Use::Answer | Use::Small => within,
        };
        within.min(self.total.saturating_sub(self.used()))
    }

    /// True when `bytes` can be had for `of`: they fit its share, or nothing else is of it.
    fn has_room(&self, of: Use, bytes: u64) -> bool {
        let is_alone = bytes > self.share(of) && self.taken(of) == 0;
        is_alone || bytes <= self.room(of)
    }

    /// Takes `bytes`, whatever there is.
    pub(super) fn take(&self, of: Use, bytes: u64) {
        self.taken[of.index()].fetch_add(bytes, Ordering::SeqCst);
        self.used.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Gives `bytes` back that were taken. True: a claim may be served now.
    #[must_use]
    pub(super) fn give(&self, of: Use, bytes: u64) -> bool {
        let taken = self.taken[of.index()].fetch_sub(bytes, Ordering::SeqCst);
        assert!(bytes <= taken, "more was given back than taken");
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        self.waiting() > 0
    }

    /// True while there is so much left that nobody needs to be careful.
    pub(super) fn is_easy(&self) -> bool {
        self.taken(Use::Answer) <= self.share(Use::Answer) / 2 && self.used() <= self.total / 4 * 3
    }

    /// True when nothing is left for requests, however small.
    pub(super) fn is_full(&self) -> bool {
        self.used() >= self.total
    }

    /// How many bytes slow readers should give back: what is overdrawn.
    pub(super) fn overdrawn(&self) -> u64 {
        let answers = self.share(Use::Answer);
        let over = self.taken(Use::Answer).saturating_sub(answers - answers / 8);
        over.max(self.used().saturating_sub(self.total))
    }

    /// How many bytes an answer that may have `bytes_max` gets at once. `None`: it waits.
    ///
    /// Each gets a sixteenth of what is left at most, so that some is left for the next; when that
    /// is little, a small answer can still be had of the rest.
    pub(super) fn ration(&self, bytes_max: u64) -> Option<(Use, u64)> {
        let portion = self.room(Use::Answer) / 16;
        let small = bytes_max.min(BUDGET_SMALL_BYTES);
        if small <= portion {
            return Some((Use::Answer, bytes_max.min(portion)));
        }
        (small <= self.room(Use::Small)).then_some((Use::Small, small))
    }
}

/// A claim that waits.
pub(super) type Ticket = u64;

/// As many wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineFull;

/// Claims that wait, in order of arrival, one line for each use.
#[derive(Debug, Default)]
pub(super) struct Line {
    next: Ticket,
    waiters: [VecDeque<(Ticket, u64)>; 6],
    /// What the waiters of each line want together.
    bytes: [u64; 6],
    count: usize,
}

impl Line {
    /// Takes `bytes` for `of` unless they are not to be had, or others wait for the same.
    pub(super) fn try_take(&mut self, ledger: &Ledger, of: Use, bytes: u64) -> bool {
        let is_first = self.waiters[of.index()].is_empty();
        let is_granted = is_first && ledger.has_room(of, bytes);
        if is_granted {
            ledger.take(of, bytes);
        }
        is_granted
    }

    /// Puts a claim at the end of its line. To be followed by [`serve`](Self::serve).
    ///
    /// # Errors
    /// When as many wait as may.
    pub(super) fn enter(
        &mut self,
        ledger: &Ledger,
        of: Use,
        bytes: u64,
    ) -> Result<Ticket, LineFull> {
        if self.count >= BUDGET_WAITERS_MAX {
            return Err(LineFull);
        }
        let ticket = self.next;
        self.next += 1;
        self.waiters[of.index()].push_back((ticket, bytes));
        self.bytes[of.index()] += bytes;
        self.count += 1;
        ledger.waiting.fetch_add(1, Ordering::SeqCst);
        Ok(ticket)
    }

    /// Takes a claim out of its line, if it is there. To be followed by [`serve`](Self::serve).
    pub(super) fn leave(&mut self, ledger: &Ledger, of: Use, ticket: Ticket) {
        let line = &mut self.waiters[of.index()];
        // Tickets rise along the line.
        if let Ok(index) = line.binary_search_by_key(&ticket, |(ticket, _)| *ticket) {
            let (_, bytes) = line.remove(index).expect("it was found there");
            self.left(ledger, of, bytes);
        }
    }

    /// Takes for all claims that are first in their line and can be had; tells which they are.
    pub(super) fn serve(&mut self, ledger: &Ledger, served: &mut Vec<(Ticket, Use, u64)>) {
        for of in Use::ALL {
            while let Some(&(ticket, bytes)) = self.waiters[of.index()].front()
                && ledger.has_room(of, bytes)
            {
                ledger.take(of, bytes);
                self.waiters[of.index()].pop_front();
                self.left(ledger, of, bytes);
                served.push((ticket, of, bytes));
            }
        }
    }

    fn left(&mut self, ledger: &Ledger, of: Use, bytes: u64) {
        self.bytes[of.index()] -= bytes;
        self.count -= 1;
        ledger.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// How many bytes are waited for that answers hold up.
    pub(super) fn wanted(&self) -> u64 {
        self.bytes[Use::Answer.index()].saturating_add(self.bytes[Use::Small.index()])
    }

    /// Asserts what must always hold.
    #[cfg(test)]
    fn check(&self, ledger: &Ledger) {
        assert_eq!(self.count, self.waiters.iter().flatten().count());
        assert_eq!(ledger.waiting(), u64::try_from(self.count).unwrap());
        for of in Use::ALL {
            let line = &self.waiters[of.index()];
            assert_eq!(self.bytes[of.index()], line.iter().map(|(_, bytes)| bytes).sum::<u64>());
            assert!(line.iter().zip(line.iter().skip(1)).all(|(a, b)| a.0 < b.0), "{of:?}");
            assert!(line.front().is_none_or(|it| !ledger.has_room(of, it.1)), "{of:?} sleeps");
        }
        let used: u64 = Use::ALL.iter().map(|&of| ledger.taken(of)).sum();
        assert_eq!(ledger.used(), used);
    }
}

/// Connections that take their answers slowly, and what they hold meanwhile.
#[derive(Debug, Default)]
pub(super) struct Holders {
    next: u64,
    by_id: BTreeMap<u64, u64>,
    by_bytes: BTreeSet<(u64, u64)>,
}

impl Holders {
    /// A number for a connection that became slow.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Notes that `id` holds `bytes`.
    pub(super) fn note(&mut self, id: u64, bytes: u64) {
        self.forget(id);
        self.by_id.insert(id, bytes);
        self.by_bytes.insert((bytes, id));
    }

    /// Forgets `id`: it is slow no longer, or gone.
    pub(super) fn forget(&mut self, id: u64) {
        if let Some(bytes) = self.by_id.remove(&id) {
            self.by_bytes.remove(&(bytes, id));
        }
    }

    /// True when `id` is among those, the largest first, that together hold `wanted` bytes.
    pub(super) fn is_in_the_way(&self, id: u64, wanted: u64) -> bool {
        let mut before = 0;
        for &(bytes, other) in self.by_bytes.iter().rev() {
            if before >= wanted {
                return false;
            }
            if other == id {
                return true;
            }
            before += bytes;
        }
        false
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
