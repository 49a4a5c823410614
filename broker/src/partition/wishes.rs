//! Fetches that wait for the end of what they may see to pass an offset.
//!
//! A wish is fulfilled, and its bell rung, whatever moved that end: a write, a commit, a marker, or
//! records that were deleted. A wish for which there is no room is rung at once, so that its fetch
//! is answered with what there is. Pure.

use protocol::ids::Offset;

use super::core::{Effect, Wish};
use super::waiters::Waiters;
use super::{Isolation, Watermarks};
use crate::limits::PARTITION_FETCHES_WAITING_MAX;

/// Every wish, by what its fetch may see.
#[derive(Debug)]
pub(super) struct Wishes {
    log_end: Waiters<Wish>,
    high_watermark: Waiters<Wish>,
    last_stable: Waiters<Wish>,
}

impl Wishes {
    /// No wish yet.
    pub(super) fn new() -> Self {
        let waiters = || Waiters::new(PARTITION_FETCHES_WAITING_MAX);
        Self { log_end: waiters(), high_watermark: waiters(), last_stable: waiters() }
    }

    /// Lets a fetch wait; `ring_due` finds those whose wish is fulfilled already.
    pub(super) fn add(&mut self, wish: Wish, told: &mut Vec<Effect>) {
        let wishes = self.of(wish.isolation);
        if wishes.is_full() {
            told.push(Effect::Ring { number: wish.number });
        } else {
            wishes.add(fulfilled_at(wish), wish.number, wish);
        }
    }

    /// The fetch waits no more.
    pub(super) fn remove(&mut self, wish: Wish) {
        self.of(wish.isolation).remove(fulfilled_at(wish), wish.number);
    }

    /// Rings for every wish that is fulfilled at these positions.
    pub(super) fn ring_due(&mut self, positions: &Watermarks, told: &mut Vec<Effect>) {
        for isolation in [Isolation::LogEnd, Isolation::ReadUncommitted, Isolation::ReadCommitted] {
            let readable_end = positions.readable_end(isolation);
            while let Some(wish) = self.of(isolation).pop_reached(readable_end) {
                told.push(Effect::Ring { number: wish.number });
            }
        }
    }

    /// Rings for all: what they wait for may never come.
    pub(super) fn ring_all(&mut self, told: &mut Vec<Effect>) {
        for wishes in [&mut self.log_end, &mut self.high_watermark, &mut self.last_stable] {
            while let Some(wish) = wishes.pop() {
                told.push(Effect::Ring { number: wish.number });
            }
        }
    }

    fn of(&mut self, isolation: Isolation) -> &mut Waiters<Wish> {
        match isolation {
            Isolation::LogEnd => &mut self.log_end,
            Isolation::ReadUncommitted => &mut self.high_watermark,
            Isolation::ReadCommitted => &mut self.last_stable,
        }
    }

    /// Asserts that nobody waits for what is there.
    #[cfg(any(test, feature = "check"))]
    pub(super) fn check(&self, positions: &Watermarks) {
        let is_above = |wishes: &Waiters<Wish>, position| {
            wishes.lowest().is_none_or(|lowest| lowest > position)
        };
        assert!(is_above(&self.log_end, positions.log_end));
        assert!(is_above(&self.high_watermark, positions.high_watermark));
        assert!(is_above(&self.last_stable, positions.last_stable));
    }
}

/// The least end of what its fetch may see that fulfils a wish.
fn fulfilled_at(wish: Wish) -> Offset {
    wish.beyond.plus(1)
}
