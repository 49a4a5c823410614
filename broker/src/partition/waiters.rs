//! Those who wait until a position passes their offset.
//!
//! Appends wait for what is written or for the high watermark to reach their end; fetches wait for
//! the readable end to pass their offset. Entries leave in the order of their offsets. There is a
//! bound; the caller says what happens beyond it. Pure.

use std::collections::BTreeMap;

use protocol::ids::Offset;

/// Waiters of one kind, each for a position that reaches its offset.
#[derive(Debug)]
pub(super) struct Waiters<T> {
    /// By what they wait for, then by number.
    entries: BTreeMap<(Offset, u64), T>,
    count_max: usize,
}

impl<T> Waiters<T> {
    /// No waiters yet, `count_max` at most.
    pub(super) fn new(count_max: usize) -> Self {
        Self { entries: BTreeMap::new(), count_max }
    }

    /// True when no other may wait.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.count_max
    }

    /// Lets `waiter` wait until a position reaches `offset`. `number` tells it from others.
    pub(super) fn add(&mut self, offset: Offset, number: u64, waiter: T) {
        assert!(self.entries.len() < self.count_max, "the caller asks `is_full` first");
        let before = self.entries.insert((offset, number), waiter);
        assert!(before.is_none(), "waiters of one offset have different numbers");
    }

    /// Forgets the waiter that was added so.
    pub(super) fn remove(&mut self, offset: Offset, number: u64) -> Option<T> {
        self.entries.remove(&(offset, number))
    }

    /// The next waiter whose offset is at or below `position`.
    pub(super) fn pop_reached(&mut self, position: Offset) -> Option<T> {
        let entry = self.entries.first_entry()?;
        if entry.key().0 > position { None } else { Some(entry.remove()) }
    }

    /// The next waiter whose offset is above `position`, from the lowest offset on.
    pub(super) fn pop_beyond(&mut self, position: Offset) -> Option<T> {
        let key = *self.entries.range((position.plus(1), 0)..).next()?.0;
        self.entries.remove(&key)
    }

    /// The next waiter, whatever it waits for.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.entries.pop_first().map(|(_, waiter)| waiter)
    }

    /// The lowest offset that is waited for.
    #[cfg(any(test, feature = "check"))]
    pub(super) fn lowest(&self) -> Option<Offset> {
        self.entries.first_key_value().map(|(&(offset, _), _)| offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(offsets: &[i64]) -> Waiters<u64> {
        let mut waiters = Waiters::new(8);
        for (number, &offset) in (0..).zip(offsets) {
            waiters.add(Offset(offset), number, number);
        }
        waiters
    }

    fn reached(waiters: &mut Waiters<u64>, position: i64) -> Vec<u64> {
        std::iter::from_fn(|| waiters.pop_reached(Offset(position))).collect()
    }

    #[test]
    fn waiters_leave_exactly_when_the_position_reaches_their_offset() {
        let mut waiters = waiting(&[5, 3, 5, 9]);
        assert_eq!(reached(&mut waiters, 2), Vec::<u64>::new());
        assert_eq!(reached(&mut waiters, 5), [1, 0, 2]);
        assert_eq!(reached(&mut waiters, 8), Vec::<u64>::new());
        assert_eq!(reached(&mut waiters, 9), [3]);
        assert_eq!(waiters.pop(), None);
    }

    #[test]
    fn those_beyond_a_position_can_be_dismissed_and_the_others_stay() {
        let mut waiters = waiting(&[5, 3, 7]);
        let dismissed: Vec<_> = std::iter::from_fn(|| waiters.pop_beyond(Offset(4))).collect();
        assert_eq!(dismissed, [0, 2]);
        assert_eq!(waiters.lowest(), Some(Offset(3)));
    }

    #[test]
    fn a_waiter_can_take_its_wish_back() {
        let mut waiters = waiting(&[5, 5]);
        assert_eq!(waiters.remove(Offset(5), 0), Some(0));
        assert_eq!(waiters.remove(Offset(5), 0), None);
        assert_eq!(reached(&mut waiters, 5), [1]);
    }

    #[test]
    fn there_is_room_up_to_the_bound() {
        let mut waiters = Waiters::new(1);
        assert!(!waiters.is_full());
        waiters.add(Offset(1), 0, 'a');
        assert!(waiters.is_full());
    }
}
