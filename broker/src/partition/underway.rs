//! Batches that were accepted and are not committed: how many bytes, and up to which offset.
//!
//! Each write is one entry, in order. Entries leave at the front when they are committed, or at the
//! back when they are forgotten. Pure.

use std::collections::VecDeque;

use protocol::ids::Offset;

/// Writes on their way, or written and not committed.
#[derive(Debug, Default)]
pub(super) struct Underway {
    /// Oldest first: the end of each write (exclusive), and its bytes.
    writes: VecDeque<(Offset, u64)>,
    bytes: u64,
}

impl Underway {
    /// Bytes of all.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A write was begun that ends at `end`.
    pub(super) fn push(&mut self, end: Offset, bytes: u64) {
        self.writes.push_back((end, bytes));
        self.bytes += bytes;
    }

    /// Everything below `high_watermark` is committed. Yields how many bytes that newly are.
    pub(super) fn commit(&mut self, high_watermark: Offset) -> u64 {
        let mut committed = 0;
        while let Some((_, bytes)) = self.writes.pop_front_if(|(end, _)| *end <= high_watermark) {
            committed += bytes;
        }
        self.bytes -= committed;
        committed
    }

    /// Nothing beyond `end` exists any more.
    pub(super) fn forget_beyond(&mut self, end: Offset) {
        while let Some((_, bytes)) = self.writes.pop_back_if(|(write_end, _)| *write_end > end) {
            self.bytes -= bytes;
        }
    }

    /// Asserts every invariant of this struct.
    #[cfg(any(test, feature = "check"))]
    pub(super) fn check(&self) {
        assert_eq!(self.bytes, self.writes.iter().map(|(_, bytes)| bytes).sum::<u64>());
        assert!(self.writes.iter().is_sorted_by_key(|(end, _)| *end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_leave_committed_at_the_front_and_forgotten_at_the_back() {
        let mut underway = Underway::default();
        for (end, bytes) in [(3, 10), (5, 20), (9, 40)] {
            underway.push(Offset(end), bytes);
        }
        underway.check();
        assert_eq!(underway.commit(Offset(4)), 10);
        underway.forget_beyond(Offset(5));
        underway.check();
        assert_eq!(underway.bytes(), 20);
        assert_eq!(underway.commit(Offset(5)), 20);
    }
}
