//! The offsets that groups committed, and those that wait for the end of a transaction.
//!
//! Offsets of an open transaction are kept aside per producer until its marker: a commit makes
//! them count, in the order of markers; an abort forgets them. Meanwhile a reader that asks for
//! stable offsets is told to wait (KIP-447).
//!
//! Invariant: a group without any offset, committed or pending, has no entry.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::ids::{ProducerId, TopicPartition};
use protocol::time::Timestamp;

use super::memory::OFFSET_BYTES;
use super::record::Committed;

type ByPartition = BTreeMap<TopicPartition, Committed>;

/// All offsets of one shard.
#[derive(Debug, Default)]
pub struct Offsets {
    committed: BTreeMap<Arc<str>, ByPartition>,
    pending: BTreeMap<ProducerId, BTreeMap<Arc<str>, ByPartition>>,
    /// What all of them take.
    bytes: usize,
}

impl Offsets {
    /// Takes in a plain commit; `None` deletes, and with it what open transactions hold.
    pub fn commit(&mut self, group: &Arc<str>, at: TopicPartition, committed: Option<Committed>) {
        match committed {
            Some(committed) => put(&mut self.committed, group, at, committed, &mut self.bytes),
            None => {
                forget(&mut self.committed, group, &at, &mut self.bytes);
                for groups in self.pending.values_mut() {
                    forget(groups, group, &at, &mut self.bytes);
                }
                self.pending.retain(|_, groups| !groups.is_empty());
            }
        }
    }

    /// Takes in a commit of `producer`'s open transaction.
    pub fn stage(
        &mut self,
        producer: ProducerId,
        group: &Arc<str>,
        at: TopicPartition,
        committed: Committed,
    ) {
        let groups = self.pending.entry(producer).or_default();
        put(groups, group, at, committed, &mut self.bytes);
    }

    /// `producer`'s transaction ended.
    pub fn end(&mut self, producer: ProducerId, commit: bool) {
        let Some(groups) = self.pending.remove(&producer) else { return };
        for (group, offsets) in groups {
            for (at, committed) in offsets {
                self.bytes -= offset_bytes(&group, &at, &committed);
                if commit {
                    put(&mut self.committed, &group, at, committed, &mut self.bytes);
                }
            }
        }
    }

    /// About what all of them take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// About what committing `offsets` for `group` adds; for what is pending, as if nothing stood there.
    #[must_use]
    pub fn added(
        &self,
        group: &Arc<str>,
        offsets: &[(TopicPartition, Committed)],
        is_pending: bool,
    ) -> usize {
        let added = |(at, new): &(TopicPartition, Committed)| {
            let old = self.committed(group, at).filter(|_| !is_pending);
            let before = old.map_or(0, |old| offset_bytes(group, at, old));
            offset_bytes(group, at, new).saturating_sub(before)
        };
        offsets.iter().map(added).sum()
    }

    /// What `group` committed for `at`.
    #[must_use]
    pub fn committed(&self, group: &str, at: &TopicPartition) -> Option<&Committed> {
        self.committed.get(group)?.get(at)
    }

    /// All that `group` committed, by partition.
    pub fn all(&self, group: &str) -> impl Iterator<Item = (&TopicPartition, &Committed)> {
        self.committed.get(group).into_iter().flatten()
    }

    /// All partitions for which `group` has an offset, committed or pending.
    #[must_use]
    pub fn partitions(&self, group: &str) -> BTreeSet<TopicPartition> {
        let pending = self.pending.values().filter_map(|groups| groups.get(group));
        let committed = self.committed.get(group);
        committed.into_iter().chain(pending).flat_map(BTreeMap::keys).cloned().collect()
    }

    /// True while an open transaction holds an offset of `group` for `at`. KIP-447.
    #[must_use]
    pub fn is_unstable(&self, group: &str, at: &TopicPartition) -> bool {
        self.pending
            .values()
            .any(|groups| groups.get(group).is_some_and(|offsets| offsets.contains_key(at)))
    }

    /// True when `group` has offsets, committed or pending.
    #[must_use]
    pub fn has(&self, group: &str) -> bool {
        self.committed.contains_key(group)
            || self.pending.values().any(|groups| groups.contains_key(group))
    }

    /// The groups that have committed offsets.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.committed.keys()
    }

    /// Those of `group`'s offsets that were committed before `before` and are not about to change:
    /// what may expire once the group is empty. KIP-211.
    #[must_use]
    pub fn older_than(&self, group: &str, before: Timestamp) -> Vec<TopicPartition> {
        let old = self.all(group).filter(|(_, it)| it.at < before);
        old.map(|(at, _)| at.clone()).filter(|at| !self.is_unstable(group, at)).collect()
    }

    /// Every group and partition for which there is an offset, committed or pending, of a topic that
    /// `is_gone`.
    pub fn of_topics(
        &self,
        is_gone: impl Fn(&str) -> bool,
    ) -> BTreeSet<(Arc<str>, TopicPartition)> {
        let groups = self.pending.values().flatten().chain(&self.committed);
        let each = groups.flat_map(|(group, offsets)| offsets.keys().map(move |at| (group, at)));
        let gone = each.filter(|(_, at)| is_gone(&at.topic));
        gone.map(|(group, at)| (Arc::clone(group), at.clone())).collect()
    }

    /// Asserts the invariants.
    #[cfg(any(test, feature = "check"))]
    pub fn check(&self) {
        assert!(self.committed.values().all(|it| !it.is_empty()));
        assert!(self.pending.values().all(|it| !it.is_empty()));
        assert!(self.pending.values().flat_map(BTreeMap::values).all(|it| !it.is_empty()));
        let groups = self.pending.values().flatten().chain(&self.committed);
        let each = groups.flat_map(|(group, offsets)| offsets.iter().map(move |it| (group, it)));
        let bytes: usize = each.map(|(group, (at, it))| offset_bytes(group, at, it)).sum();
        assert_eq!(self.bytes, bytes);
    }
}

/// About what an offset takes that `group` committed for `at`.
fn offset_bytes(group: &str, at: &TopicPartition, committed: &Committed) -> usize {
    OFFSET_BYTES + group.len() + at.topic.len() + committed.metadata.len()
}

fn put(
    groups: &mut BTreeMap<Arc<str>, ByPartition>,
    group: &Arc<str>,
    at: TopicPartition,
    committed: Committed,
    bytes: &mut usize,
) {
    let offsets = groups.entry(Arc::clone(group)).or_default();
    *bytes += offset_bytes(group, &at, &committed);
    if let Some(old) = offsets.get(&at) {
        *bytes -= offset_bytes(group, &at, old);
    }
    offsets.insert(at, committed);
}

fn forget(
    groups: &mut BTreeMap<Arc<str>, ByPartition>,
    group: &Arc<str>,
    at: &TopicPartition,
    bytes: &mut usize,
) {
    let Some(offsets) = groups.get_mut(group) else { return };
    if let Some(old) = offsets.remove(at) {
        *bytes -= offset_bytes(group, at, &old);
    }
    if offsets.is_empty() {
        groups.remove(group);
    }
}

#[cfg(test)]
mod tests {
    use protocol::ids::{LeaderEpoch, Offset};

    use super::*;

    fn committed(offset: i64) -> Committed {
        Committed {
            offset: Offset(offset),
            leader_epoch: LeaderEpoch::NONE,
            metadata: "".into(),
            at: Timestamp(offset),
        }
    }

    #[test]
    fn an_offset_of_a_transaction_counts_from_its_commit_on_and_never_after_an_abort() {
        let group: Arc<str> = "g".into();
        let at = TopicPartition::new("t", 0);
        let mut offsets = Offsets::default();
        offsets.commit(&group, at.clone(), Some(committed(1)));
        offsets.stage(ProducerId(7), &group, at.clone(), committed(5));
        assert!(offsets.is_unstable("g", &at));
        assert_eq!(offsets.committed("g", &at), Some(&committed(1)));
        offsets.end(ProducerId(7), false);
        assert!(!offsets.is_unstable("g", &at));
        assert_eq!(offsets.committed("g", &at), Some(&committed(1)));
        offsets.stage(ProducerId(7), &group, at.clone(), committed(6));
        offsets.end(ProducerId(7), true);
        assert_eq!(offsets.committed("g", &at), Some(&committed(6)));
        offsets.check();
    }

    #[test]
    fn a_deleted_offset_does_not_come_back_with_the_commit_of_an_open_transaction() {
        let group: Arc<str> = "g".into();
        let at = TopicPartition::new("t", 0);
        let mut offsets = Offsets::default();
        offsets.stage(ProducerId(7), &group, at.clone(), committed(5));
        assert_eq!(offsets.partitions("g"), BTreeSet::from([at.clone()]));
        offsets.commit(&group, at.clone(), None);
        offsets.check();
        offsets.end(ProducerId(7), true);
        assert_eq!(offsets.committed("g", &at), None);
        assert!(!offsets.has("g"));
    }

    #[test]
    fn a_pending_offset_does_not_expire() {
        let group: Arc<str> = "g".into();
        let at = TopicPartition::new("t", 0);
        let mut offsets = Offsets::default();
        offsets.commit(&group, at.clone(), Some(committed(1)));
        assert_eq!(offsets.older_than("g", Timestamp(2)), std::slice::from_ref(&at));
        offsets.stage(ProducerId(7), &group, at, committed(5));
        assert_eq!(offsets.older_than("g", Timestamp(2)), []);
    }
}
