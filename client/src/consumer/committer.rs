//! What to commit by itself, and when.
//!
//! At a `poll`, what earlier polls returned counts as processed; once per interval it is
//! committed, one commit at a time, and only what has moved since. A commit that fails is followed
//! by the next one, which covers it. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::ids::TopicPartition;

use super::positions::Positions;
use crate::group_offsets::OffsetAndMetadata;

/// Offsets to commit.
pub(super) type Offsets = BTreeMap<TopicPartition, OffsetAndMetadata>;

#[derive(Debug)]
pub(super) struct Committer {
    /// `None`: the caller commits.
    interval: Option<Duration>,
    next_at: Duration,
    committed: Offsets,
    is_under_way: bool,
}

impl Committer {
    pub(super) fn new(interval: Option<Duration>, now: Duration) -> Self {
        let next_at = now + interval.unwrap_or(Duration::ZERO);
        Self { interval, next_at, committed: BTreeMap::new(), is_under_way: false }
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.interval.is_some()
    }

    /// The caller polls: what to commit now, if anything.
    pub(super) fn on_poll(&mut self, now: Duration, positions: &Positions) -> Option<Offsets> {
        let interval = self.interval?;
        if self.is_under_way || now < self.next_at {
            return None;
        }
        self.next_at = now + interval;
        let offsets = self.uncommitted(positions);
        self.is_under_way = !offsets.is_empty();
        self.is_under_way.then_some(offsets)
    }

    /// What has moved since it was last committed.
    pub(super) fn uncommitted(&self, positions: &Positions) -> Offsets {
        let all = positions.known().map(|(partition, it)| {
            let metadata = String::new();
            let at =
                OffsetAndMetadata { offset: it.offset, leader_epoch: it.leader_epoch, metadata };
            (partition.clone(), at)
        });
        all.filter(|(partition, at)| self.committed.get(partition) != Some(at)).collect()
    }

    /// A commit by `on_poll` ended.
    pub(super) fn on_end(&mut self, committed: Option<Offsets>) {
        self.is_under_way = false;
        self.on_committed(committed.unwrap_or_default());
    }

    /// These are committed, by whomever.
    pub(super) fn on_committed(&mut self, offsets: Offsets) {
        if self.is_enabled() {
            self.committed.extend(offsets);
        }
    }

    /// Others commit for these from now on.
    pub(super) fn retain(&mut self, keep: impl Fn(&TopicPartition) -> bool) {
        self.committed.retain(|partition, _| keep(partition));
    }
}

#[cfg(test)]
mod tests {
    use protocol::ids::Offset;
    use protocol::rng::Rng;

    use super::*;
    use crate::backoff::Backoff;
    use crate::config::OffsetReset;

    const SECOND: Duration = Duration::from_secs(1);

    fn positions() -> (Positions, TopicPartition) {
        let backoff = Backoff::new(SECOND, SECOND, Rng::new(1));
        let mut positions = Positions::new(OffsetReset::Earliest, true, backoff);
        let partition = TopicPartition::new("orders", 0);
        positions.add(&[partition.clone()].into());
        positions.seek(&partition, Offset(5).into());
        (positions, partition)
    }

    #[test]
    fn once_per_interval_what_has_moved_is_committed_one_commit_at_a_time() {
        let (mut positions, partition) = positions();
        let mut committer = Committer::new(Some(SECOND), Duration::ZERO);
        assert_eq!(committer.on_poll(SECOND / 2, &positions), None);
        let first = committer.on_poll(SECOND, &positions).unwrap();
        assert_eq!(first[&partition].offset, Offset(5));
        positions.advance(&partition, Offset(9).into());
        assert_eq!(committer.on_poll(3 * SECOND, &positions), None, "one is under way");
        committer.on_end(Some(first));
        let second = committer.on_poll(3 * SECOND, &positions).unwrap();
        assert_eq!(second[&partition].offset, Offset(9));
        committer.on_end(None);
        assert_eq!(committer.on_poll(4 * SECOND, &positions), Some(second.clone()), "it failed");
        committer.on_end(Some(second));
        assert_eq!(committer.on_poll(5 * SECOND, &positions), None, "nothing has moved");
    }

    #[test]
    fn switched_off_it_commits_nothing() {
        let (positions, _) = positions();
        let mut committer = Committer::new(None, Duration::ZERO);
        assert_eq!(committer.on_poll(100 * SECOND, &positions), None);
    }
}
