//! Connections whose clients have not proved who they are where they must: how much they hold, and
//! which of them goes for another.
//!
//! They hold a portion of what connections may, and no more: the oldest is given up for the newest. As
//! all of them together have but seconds to prove who they are, the oldest is the least likely to. Pure.

use std::collections::BTreeMap;

/// What strangers hold, each a `T`.
#[derive(Debug)]
pub(super) struct Strangers<T> {
    bytes_max: u64,
    bytes: u64,
    next: u64,
    /// In order of arrival.
    held: BTreeMap<u64, (u64, T)>,
}

impl<T> Strangers<T> {
    /// Nobody yet, and `bytes_max` for all of them; one may always be.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: 0, next: 0, held: BTreeMap::new() }
    }

    /// Somebody came who takes `bytes` of memory; the number is for [`leave`](Self::leave). Yields what
    /// is given up so that `count_max` are left, or one.
    pub(super) fn enter(&mut self, bytes: u64, held: T, count_max: u32) -> (u64, Vec<T>) {
        let number = self.next;
        self.next += 1;
        self.bytes += bytes;
        self.held.insert(number, (bytes, held));
        let count_max = usize::try_from(count_max).unwrap_or(usize::MAX);
        let mut given_up = Vec::new();
        while self.held.len() > 1 && (self.held.len() > count_max || self.bytes > self.bytes_max) {
            given_up.extend(self.give_up_oldest().map(|(_, held)| held));
        }
        (number, given_up)
    }

    /// Gives up the oldest, as many as hold `bytes` together.
    pub(super) fn give_up(&mut self, bytes: u64) -> Vec<T> {
        let (mut given_up, mut freed) = (Vec::new(), 0);
        while freed < bytes
            && let Some((bytes, held)) = self.give_up_oldest()
        {
            freed += bytes;
            given_up.push(held);
        }
        given_up
    }

    /// Somebody is a stranger no longer, or has left. `None`: it was given up before.
    pub(super) fn leave(&mut self, number: u64) -> Option<T> {
        let (bytes, held) = self.held.remove(&number)?;
        self.bytes -= bytes;
        Some(held)
    }

    fn give_up_oldest(&mut self) -> Option<(u64, T)> {
        let (_, (bytes, held)) = self.held.pop_first()?;
        self.bytes -= bytes;
        Some((bytes, held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_stranger_goes_for_the_newest_when_all_hold_their_portion() {
        let mut strangers = Strangers::new(100);
        let mut enter = |bytes, name, count_max| strangers.enter(bytes, name, count_max);
        assert_eq!(enter(40, "a", 3), (0, vec![]));
        assert_eq!(enter(40, "b", 3), (1, vec![]));
        assert_eq!(enter(40, "c", 3), (2, vec!["a"]), "by their bytes");
        assert_eq!(enter(5, "d", 3), (3, vec![]));
        assert_eq!(enter(5, "e", 2), (4, vec!["b", "c"]), "by their number, which was altered");
        assert_eq!(enter(101, "f", 2), (5, vec!["d", "e"]), "one may always be");
        assert_eq!(enter(1, "g", 0), (6, vec!["f"]));
    }

    #[test]
    fn who_left_or_became_known_is_not_given_up_and_makes_room() {
        let mut strangers = Strangers::new(100);
        for name in ["a", "b", "c", "d"] {
            strangers.enter(25, name, 9);
        }
        assert_eq!(strangers.leave(0), Some("a"));
        assert_eq!(strangers.leave(0), None);
        assert_eq!(strangers.enter(25, "e", 9), (4, vec![]));
        assert_eq!(strangers.give_up(26), ["b", "c"]);
        assert_eq!(strangers.leave(1), None);
        assert_eq!(strangers.give_up(1000), ["d", "e"]);
        assert_eq!(strangers.bytes, 0);
        assert!(strangers.give_up(1).is_empty());
    }
}
