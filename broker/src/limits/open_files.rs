//! The files that a process may have open, shared between logs that are written to and connections.
//!
//! Of sixteen, one is for complete segments, half of it for those that are kept open and half for those that
//! answers are sent from, and one for all else. Of the other fourteen each side may
//! have ten while the other has no more than four, and four in any case. Both ask before they open and
//! tell what they have; two that ask at the same time may get one too many, which is taken from what is
//! for all else. Shell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// 10 of 16: what one side may have.
const PARTS_MAX: u64 = 10;
/// 14 of 16: what both may have.
const PARTS_BOTH: u64 = 14;

/// The files that this process may have open, and how many logs and connections have.
#[derive(Debug)]
pub struct OpenFiles {
    /// A sixteenth of all.
    part: u64,
    /// Files of segments that are written to.
    growing: AtomicU64,
    connections: AtomicU64,
    /// Files of segments that answers wait to be sent from.
    lent: AtomicU64,
}

/// A file that a log keeps open to write to. Not counted any more once it is dropped.
#[derive(Debug)]
pub(crate) struct Kept(Arc<OpenFiles>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.growing.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A file that stays open until an answer was sent from it. Not counted any more once it is dropped.
#[derive(Debug)]
pub(crate) struct Lent(Arc<OpenFiles>);

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.lent.fetch_sub(1, Ordering::AcqRel);
    }
}

impl OpenFiles {
    /// Nothing is open, of `most` files in all.
    #[must_use]
    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Self {
            part: most / 16,
            growing: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            lent: AtomicU64::new(0),
        })
    }

    /// As many as one likes: for tests, and where the kernel sets no bound.
    #[must_use]
    pub fn unbounded() -> Arc<Self> {
        Self::new(u64::MAX)
    }

    /// Files of complete segments that are kept open.
    pub(crate) fn complete_max(&self) -> u64 {
        self.part.div_ceil(2)
    }

    /// Counts a file that an answer is to be sent from; `None`: too many are.
    pub(crate) fn lend(self: &Arc<Self>) -> Option<Lent> {
        let lent = Lent(Arc::clone(self));
        let before = self.lent.fetch_add(1, Ordering::AcqRel);
        (before < self.part / 2).then_some(lent)
    }

    /// Counts a file that a log keeps open to write to.
    pub(crate) fn keep(self: &Arc<Self>) -> Kept {
        self.growing.fetch_add(1, Ordering::AcqRel);
        Kept(Arc::clone(self))
    }

    /// Files that logs may keep open to write to, as many connections as there are.
    pub(crate) fn growing_max(&self) -> u64 {
        self.beside(self.connections.load(Ordering::Acquire))
    }

    /// Files that logs keep open to write to.
    pub(crate) fn growing(&self) -> u64 {
        self.growing.load(Ordering::Acquire)
    }

    /// True when logs have more than is theirs in any case, so that connections may lack it.
    pub(crate) fn has_lent_to_logs(&self) -> bool {
        self.growing() > self.own()
    }

    /// Connections that may be open at once, as many files as logs keep open.
    pub(crate) fn connections_max(&self) -> u32 {
        u32::try_from(self.beside(self.growing())).unwrap_or(u32::MAX)
    }

    /// So many connections are open.
    pub(crate) fn set_connections(&self, count: u32) {
        self.connections.store(u64::from(count), Ordering::Release);
    }

    /// What each side has in any case.
    fn own(&self) -> u64 {
        self.part.saturating_mul(PARTS_BOTH - PARTS_MAX)
    }

    fn beside(&self, others: u64) -> u64 {
        let both = self.part.saturating_mul(PARTS_BOTH);
        both.saturating_sub(others).clamp(self.own(), both - self.own())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_has_ten_parts_while_the_other_needs_few_and_four_in_any_case() {
        let files = OpenFiles::new(1600);
        assert_eq!((files.growing_max(), files.connections_max()), (1000, 1000));
        for (connections, growing_max) in [(400, 1000), (401, 999), (1000, 400), (5_000, 400)] {
            files.set_connections(connections);
            assert_eq!(files.growing_max(), growing_max, "{connections}");
        }
        let kept: Vec<Kept> = (0..700).map(|_| files.keep()).collect();
        assert!(files.has_lent_to_logs());
        assert_eq!((files.growing(), files.connections_max()), (700, 700));
        drop(kept);
        assert!(!files.has_lent_to_logs());
        assert_eq!(files.connections_max(), 1000);
        let all = OpenFiles::unbounded();
        assert_eq!((all.connections_max(), all.complete_max()), (u32::MAX, u64::MAX / 32 + 1));
    }

    #[test]
    fn half_a_part_is_lent_to_answers_and_lent_again_when_they_were_sent() {
        let files = OpenFiles::new(64);
        let lent: Vec<Option<Lent>> = (0..3).map(|_| files.lend()).collect();
        assert_eq!(lent.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
        assert!(files.lend().is_none());
        drop(lent);
        assert!(files.lend().is_some());
    }
}
