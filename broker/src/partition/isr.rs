//! The in-sync replicas of one partition, and how far all of them have come.
//!
//! The high watermark is the least end among the *maximal* in-sync set: those the controller knows
//! plus those it was asked to add and may have added already. Counting only the former would let
//! the watermark pass a replica that a next election may make leader, and a committed record would
//! be lost (KIP-497). With fewer in sync than `min.insync.replicas` it stands still. Pure.

use std::collections::BTreeMap;

use protocol::ids::{BrokerId, Offset};

/// The in-sync set as its leader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InSync {
    own: BrokerId,
    /// The end of each in-sync replica that is known to us; `None`: not heard of since this leader
    /// epoch began. Never empty: the leader is always among them.
    ends: BTreeMap<BrokerId, Option<Offset>>,
}

impl InSync {
    /// The in-sync set `isr` as of a new image. What is known of replicas that stay is kept.
    pub(super) fn set(&mut self, isr: &[BrokerId]) {
        let mut ends: BTreeMap<_, _> =
            isr.iter().map(|id| (*id, self.ends.get(id).copied().flatten())).collect();
        ends.entry(self.own).or_insert_with(|| self.ends.get(&self.own).copied().flatten());
        self.ends = ends;
    }

    /// The set `isr` led by `own`, none of whose ends is known yet.
    pub(super) fn new(own: BrokerId, isr: &[BrokerId]) -> Self {
        let mut ends: BTreeMap<_, _> = isr.iter().map(|id| (*id, None)).collect();
        ends.insert(own, None);
        Self { own, ends }
    }

    /// How many replicas are in sync, the leader among them.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// `replica` has kept everything below `end`. Others than the in-sync ones do not count.
    pub(super) fn reached(&mut self, replica: BrokerId, end: Offset) {
        if let Some(known) = self.ends.get_mut(&replica) {
            *known = (*known).max(Some(end));
        }
    }

    /// The leader itself has kept everything below `end`.
    pub(super) fn leader_reached(&mut self, end: Offset) {
        self.reached(self.own, end);
    }

    /// The least end of all; `None` while one of them was not heard of, or when there are fewer
    /// than `min`.
    pub(super) fn high_watermark(&self, min: usize) -> Option<Offset> {
        if self.ends.len() < min {
            return None;
        }
        self.ends.values().copied().min().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: BrokerId = BrokerId(1);

    fn ids(raw: &[i32]) -> Vec<BrokerId> {
        raw.iter().copied().map(BrokerId).collect()
    }

    #[test]
    fn the_slowest_in_sync_replica_holds_the_high_watermark() {
        let mut isr = InSync::new(LEADER, &ids(&[1, 2, 3]));
        assert_eq!(isr.high_watermark(1), None);
        isr.leader_reached(Offset(10));
        isr.reached(BrokerId(2), Offset(7));
        assert_eq!(isr.high_watermark(1), None);
        isr.reached(BrokerId(3), Offset(9));
        assert_eq!(isr.high_watermark(1), Some(Offset(7)));
    }

    #[test]
    fn a_replica_out_of_sync_does_not_count_and_a_late_word_does_not_lower() {
        let mut isr = InSync::new(LEADER, &ids(&[1]));
        isr.leader_reached(Offset(10));
        isr.reached(BrokerId(2), Offset(3));
        isr.leader_reached(Offset(4));
        assert_eq!(isr.high_watermark(1), Some(Offset(10)));
    }

    #[test]
    fn below_the_minimum_the_high_watermark_stands_still() {
        let mut isr = InSync::new(LEADER, &ids(&[1, 2]));
        isr.leader_reached(Offset(10));
        isr.reached(BrokerId(2), Offset(10));
        assert_eq!(isr.high_watermark(2), Some(Offset(10)));
        isr.set(&ids(&[1]));
        assert_eq!(isr.high_watermark(2), None);
        assert_eq!(isr.high_watermark(1), Some(Offset(10)));
    }

    #[test]
    fn a_replica_that_joins_must_be_heard_of_before_it_counts_as_caught_up() {
        let mut isr = InSync::new(LEADER, &ids(&[1]));
        isr.leader_reached(Offset(10));
        isr.set(&ids(&[1, 2]));
        assert_eq!(isr.high_watermark(1), None);
    }
}
