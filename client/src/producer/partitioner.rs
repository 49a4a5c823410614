//! Which partition a record goes to.
//!
//! With a key: by its hash, which all clients share (`protocol::murmur`). Without: one partition at
//! a time, changed when it has received enough bytes, so that batches fill (KIP-480, KIP-794);
//! partitions without a leader are passed over while any other has one. Pure.

use protocol::rng::Rng;

/// The partition that records without a key of one topic now go to.
#[derive(Clone, Debug)]
pub(crate) struct Sticky {
    rng: Rng,
    current: u32,
    /// Bytes sent to `current` since it was chosen.
    bytes: usize,
}

impl Sticky {
    /// Starts at a partition drawn from `rng`.
    pub(crate) fn new(mut rng: Rng, partition_count: u32) -> Self {
        let current = draw(&mut rng, partition_count);
        Self { rng, current, bytes: 0 }
    }

    /// The partition of the next record. Always below `partition_count`, which may have grown.
    pub(crate) fn current(&self) -> u32 {
        self.current
    }

    /// A record of `bytes` went to the current partition. After `switch_bytes` another one is
    /// drawn among those for which `has_leader` holds, or among all when it holds for none.
    pub(crate) fn sent(
        &mut self,
        bytes: usize,
        switch_bytes: usize,
        partition_count: u32,
        has_leader: impl Fn(u32) -> bool,
    ) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= switch_bytes {
            self.switch(partition_count, has_leader);
        }
    }

    /// Draws another partition: the current one's batch is full, or it lost its leader.
    pub(crate) fn switch(&mut self, partition_count: u32, has_leader: impl Fn(u32) -> bool) {
        self.bytes = 0;
        let start = draw(&mut self.rng, partition_count);
        // The first with a leader, counted from the drawn one.
        self.current = (0..partition_count)
            .map(|step| (start + step) % partition_count)
            .find(|&it| has_leader(it))
            .unwrap_or(start);
    }
}

fn draw(rng: &mut Rng, partition_count: u32) -> u32 {
    assert!(partition_count > 0, "a topic has partitions");
    u32::try_from(rng.below(u64::from(partition_count))).expect("below a 32-bit bound")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_without_key_stay_until_the_batch_is_full_and_then_move() {
        let mut sticky = Sticky::new(Rng::new(7), 50);
        let first = sticky.current();
        for _ in 0..9 {
            sticky.sent(100, 1_000, 50, |_| true);
            assert_eq!(sticky.current(), first);
        }
        sticky.sent(100, 1_000, 50, |_| true);
        assert_ne!(sticky.current(), first, "one seed in fifty would stay; this one does not");
    }

    #[test]
    fn partitions_without_leader_are_passed_over_while_another_has_one() {
        let mut sticky = Sticky::new(Rng::new(7), 4);
        for _ in 0..100 {
            sticky.switch(4, |it| it == 2);
            assert_eq!(sticky.current(), 2);
        }
        sticky.switch(4, |_| false);
        assert!(sticky.current() < 4);
    }
}
