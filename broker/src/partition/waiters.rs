//! Those who wait until a position passes their offset.
//!
//! Appends wait for what is written or for the high watermark to reach their end; fetches wait for
//! the readable end to pass their offset. Entries leave in the order of their offsets, those of one
//! offset in the order of their arrival. There is a bound; the caller says what happens beyond it.
//! Pure.

use std::collections::BTreeMap;

use protocol::ids::Offset;

/// Waiters of one kind, each for a position that reaches its offset.
#[derive(Debug)]
pub(super) struct Waiters<T> {
    /// By what they wait for, then by ticket.
    entries: BTreeMap<(Offset, Ticket), T>,
    next_ticket: Ticket,
    count_max: usize,
}

/// Tells waiters of one offset apart, in order of arrival.
pub(super) type Ticket = u64;

impl<T> Waiters<T> {
    /// No waiters yet, `count_max` at most.
    pub(super) fn new(count_max: usize) -> Self {
        Self { entries: BTreeMap::new(), next_ticket: 0, count_max }
    }

    /// Lets `waiter` wait until a position reaches `offset`; gives it back when there is no room.
    pub(super) fn add(&mut self, offset: Offset, waiter: T) -> Result<Ticket, T> {
        if self.entries.len() >= self.count_max {
            return Err(waiter);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.entries.insert((offset, ticket), waiter);
        Ok(ticket)
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

    /// Forgets those for which `keep` is false.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.entries.retain(|_, waiter| keep(waiter));
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
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

    fn waiting(offsets: &[i64]) -> Waiters<usize> {
        let mut waiters = Waiters::new(8);
        for (index, &offset) in offsets.iter().enumerate() {
            waiters.add(Offset(offset), index).unwrap();
        }
        waiters
    }

    fn reached(waiters: &mut Waiters<usize>, position: i64) -> Vec<usize> {
        std::iter::from_fn(|| waiters.pop_reached(Offset(position))).collect()
    }

    #[test]
    fn waiters_leave_exactly_when_the_position_reaches_their_offset() {
        let mut waiters = waiting(&[5, 3, 5, 9]);
        assert_eq!(reached(&mut waiters, 2), Vec::<usize>::new());
        assert_eq!(reached(&mut waiters, 5), [1, 0, 2]);
        assert_eq!(reached(&mut waiters, 8), Vec::<usize>::new());
        assert_eq!(reached(&mut waiters, 9), [3]);
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn those_beyond_a_position_can_be_dismissed_and_the_others_stay() {
        let mut waiters = waiting(&[5, 3, 7]);
        let dismissed: Vec<_> = std::iter::from_fn(|| waiters.pop_beyond(Offset(4))).collect();
        assert_eq!(dismissed, [0, 2]);
        assert_eq!(waiters.lowest(), Some(Offset(3)));
    }

    #[test]
    fn beyond_the_bound_a_waiter_is_given_back() {
        let mut waiters = Waiters::new(1);
        assert!(waiters.add(Offset(1), 'a').is_ok());
        assert_eq!(waiters.add(Offset(1), 'b'), Err('b'));
    }
}
