//! Connections whose clients have not proved who they are where they must: how much they hold, and
//! which of them goes for another.
//!
//! They hold a portion of what connections may, and no more: of the address that has most of them the
//! oldest is given up for the newest, so that who connects again and again pushes out itself. As all of
//! them together have but seconds to prove who they are, the oldest is the least likely to. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What strangers hold, each a `T`.
#[derive(Debug)]
pub(super) struct Strangers<T> {
    bytes_max: u64,
    bytes: u64,
    next: u64,
    /// By number.
    held: BTreeMap<u64, Stranger<T>>,
    /// Their numbers, by address; no address without.
    by_address: BTreeMap<Arc<str>, BTreeSet<u64>>,
    /// How many each address has.
    crowds: BTreeSet<(usize, Arc<str>)>,
}

#[derive(Debug)]
struct Stranger<T> {
    address: Arc<str>,
    bytes: u64,
    held: T,
}

impl<T> Strangers<T> {
    /// Nobody yet, and `bytes_max` for all of them; one may always be.
    pub(super) fn new(bytes_max: u64) -> Self {
        let (held, by_address, crowds) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { bytes_max, bytes: 0, next: 0, held, by_address, crowds }
    }

    /// Somebody came from `address` who takes `bytes` of memory; the number is for [`leave`](Self::leave).
    /// Yields what is given up so that `count_max` are left, or one.
    pub(super) fn enter(
        &mut self,
        address: &Arc<str>,
        bytes: u64,
        held: T,
        count_max: u32,
    ) -> (u64, Vec<T>) {
        let count_max = usize::try_from(count_max).unwrap_or(usize::MAX);
        let mut given_up = Vec::new();
        while !self.held.is_empty()
            && (self.held.len() >= count_max || self.bytes + bytes > self.bytes_max)
        {
            given_up.extend(self.give_up_one().map(|it| it.held));
        }
        let number = self.next;
        self.next += 1;
        self.bytes += bytes;
        self.held.insert(number, Stranger { address: Arc::clone(address), bytes, held });
        self.count(address, |numbers| {
            numbers.insert(number);
        });
        (number, given_up)
    }

    /// Gives up as many as hold `bytes` together.
    pub(super) fn give_up(&mut self, bytes: u64) -> Vec<T> {
        let (mut given_up, mut freed) = (Vec::new(), 0);
        while freed < bytes
            && let Some(one) = self.give_up_one()
        {
            freed += one.bytes;
            given_up.push(one.held);
        }
        given_up
    }

    /// Somebody is a stranger no longer, or has left. `None`: it was given up before.
    pub(super) fn leave(&mut self, number: u64) -> Option<T> {
        Some(self.take(number)?.held)
    }

    fn give_up_one(&mut self) -> Option<Stranger<T>> {
        let (_, address) = self.crowds.last()?;
        let oldest = *self.by_address.get(address)?.first()?;
        self.take(oldest)
    }

    fn take(&mut self, number: u64) -> Option<Stranger<T>> {
        let one = self.held.remove(&number)?;
        self.bytes -= one.bytes;
        self.count(&one.address, |numbers| {
            numbers.remove(&number);
        });
        Some(one)
    }

    /// Changes the numbers of an address, and how many they are.
    fn count(&mut self, address: &Arc<str>, change: impl FnOnce(&mut BTreeSet<u64>)) {
        let numbers = self.by_address.entry(Arc::clone(address)).or_default();
        self.crowds.remove(&(numbers.len(), Arc::clone(address)));
        change(numbers);
        if numbers.is_empty() {
            self.by_address.remove(address);
        } else {
            self.crowds.insert((numbers.len(), Arc::clone(address)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_stranger_goes_for_the_newest_when_all_hold_their_portion() {
        let mut strangers = Strangers::new(100);
        let mut enter =
            |bytes, name, count_max| strangers.enter(&"here".into(), bytes, name, count_max);
        assert_eq!(enter(40, "a", 3), (0, vec![]));
        assert_eq!(enter(40, "b", 3), (1, vec![]));
        assert_eq!(enter(40, "c", 3), (2, vec!["a"]), "by their bytes");
        assert_eq!(enter(5, "d", 3), (3, vec![]));
        assert_eq!(enter(5, "e", 2), (4, vec!["b", "c"]), "by their number, which was altered");
        assert_eq!(enter(101, "f", 2), (5, vec!["d", "e"]), "one may always be");
        assert_eq!(enter(1, "g", 0), (6, vec!["f"]));
    }

    #[test]
    fn an_address_that_sends_many_pushes_out_its_own() {
        let mut strangers = Strangers::new(100);
        let (crowd, elsewhere): (Arc<str>, Arc<str>) = ("crowd".into(), "elsewhere".into());
        assert_eq!(strangers.enter(&elsewhere, 1, "patient", 3), (0, vec![]));
        for number in 1..100 {
            let (_, given_up) = strangers.enter(&crowd, 1, "loud", 3);
            assert_eq!(given_up, if number < 3 { vec![] } else { vec!["loud"] });
        }
        assert_eq!(strangers.leave(0), Some("patient"));
        assert_eq!((strangers.by_address.len(), strangers.crowds.len()), (1, 1));
    }

    #[test]
    fn who_left_or_became_known_is_not_given_up_and_makes_room() {
        let mut strangers = Strangers::new(100);
        for name in ["a", "b", "c", "d"] {
            strangers.enter(&"here".into(), 25, name, 9);
        }
        assert_eq!(strangers.leave(0), Some("a"));
        assert_eq!(strangers.leave(0), None);
        assert_eq!(strangers.enter(&"here".into(), 25, "e", 9), (4, vec![]));
        assert_eq!(strangers.give_up(26), ["b", "c"]);
        assert_eq!(strangers.leave(1), None);
        assert_eq!(strangers.give_up(1000), ["d", "e"]);
        assert_eq!(strangers.bytes, 0);
        assert!(strangers.give_up(1).is_empty());
    }
}
