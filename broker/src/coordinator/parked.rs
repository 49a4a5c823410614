//! Replies that wait until all that they could have seen is committed.
//!
//! A reply is parked under the end of the log that its shard had accepted when it was made; it is
//! released when the high watermark reaches that end. Replies that saw nothing new while nothing
//! is in flight pass at once. Order is kept: what was parked first is released first.
//!
//! Invariant: ends ascend from front to back, and none is at or below the high watermark.
//!
//! Pure.

use std::collections::VecDeque;

use protocol::ids::Offset;
use protocol::mutant::{Mutant, is_active};

/// What waits for the high watermark.
#[derive(Debug)]
pub struct Parked<T> {
    waiting: VecDeque<(Offset, T)>,
    /// End of all that the log accepted from this shard, or that was there when it loaded.
    accepted: Offset,
    high_watermark: Offset,
}

impl<T> Parked<T> {
    /// Nothing waits. `accepted`: the end of what was replayed at load.
    #[must_use]
    pub fn new(accepted: Offset, high_watermark: Offset) -> Self {
        Self { waiting: VecDeque::new(), accepted, high_watermark }
    }

    /// The log accepted records up to `end` (exclusive).
    pub fn accept(&mut self, end: Offset) {
        assert!(self.accepted <= end, "the log gives offsets in ascending order");
        self.accepted = end;
    }

    /// Holds `item` until everything accepted so far is committed; gives it back when that is so.
    pub fn park(&mut self, item: T) -> Option<T> {
        if is_active(Mutant::ReplyBeforeCommit) {
            return Some(item);
        }
        if self.accepted <= self.high_watermark {
            assert!(self.waiting.is_empty());
            return Some(item);
        }
        self.waiting.push_back((self.accepted, item));
        None
    }

    /// The high watermark is now `high_watermark`: what may go, in the order in which it came.
    pub fn release(&mut self, high_watermark: Offset) -> Vec<T> {
        self.high_watermark = self.high_watermark.max(high_watermark);
        let count = self.waiting.partition_point(|(end, _)| *end <= self.high_watermark);
        self.waiting.drain(..count).map(|(_, item)| item).collect()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True when none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_waits_for_what_it_saw_and_no_longer() {
        let mut parked = Parked::new(Offset(5), Offset(5));
        assert_eq!(parked.park("read of committed state"), Some("read of committed state"));
        parked.accept(Offset(7));
        assert_eq!(parked.park("write"), None);
        assert_eq!(parked.park("read after it"), None);
        parked.accept(Offset(9));
        assert_eq!(parked.park("later write"), None);
        assert_eq!(parked.release(Offset(6)), Vec::<&str>::new());
        assert_eq!(parked.release(Offset(7)), ["write", "read after it"]);
        assert_eq!(parked.release(Offset(9)), ["later write"]);
        assert_eq!(parked.park("read"), Some("read"));
    }
}
