//! Which batches of a fetch `read_committed` must not see.
//!
//! A fetch answer lists the transactions that were aborted within what it returns: who, and from
//! which offset on. From there until the producer's next marker, what it wrote does not count. A
//! control batch itself is for brokers and clients, never for applications (KIP-98). Pure.

use std::collections::{BTreeSet, VecDeque};

use protocol::ids::{Offset, ProducerId};
use protocol::record::BatchHeader;

/// The aborted transactions of one fetch answer, walked along with its batches.
#[derive(Clone, Debug, Default)]
pub(super) struct Aborted {
    /// Those that begin further on, by first offset.
    ahead: VecDeque<(Offset, ProducerId)>,
    /// Those that have begun and not ended.
    open: BTreeSet<ProducerId>,
}

impl Aborted {
    /// In any order: not every broker sorts them.
    pub(super) fn new(transactions: impl IntoIterator<Item = (Offset, ProducerId)>) -> Self {
        let mut ahead: Vec<_> = transactions.into_iter().collect();
        ahead.sort_unstable();
        Self { ahead: ahead.into(), open: BTreeSet::new() }
    }

    /// True when an application may see the records of this batch, the next one in the answer.
    pub(super) fn admits(&mut self, batch: &BatchHeader) -> bool {
        while let Some((_, producer_id)) =
            self.ahead.pop_front_if(|(first, _)| *first <= batch.last_offset())
        {
            self.open.insert(producer_id);
        }
        if batch.attributes.is_control() {
            // Whichever marker it is: a transaction ends with the first one of its producer.
            self.open.remove(&batch.producer_id);
            return false;
        }
        !batch.attributes.is_transactional() || !self.open.contains(&batch.producer_id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use protocol::ids::{CoordinatorEpoch, LeaderEpoch, ProducerEpoch, Sequence};
    use protocol::record::{BatchBuilder, BatchOptions, ControlRecord, RecordBatch};
    use protocol::time::Timestamp;

    use super::*;

    fn written(producer_id: i64, at: Offset, is_transactional: bool) -> RecordBatch {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(Timestamp(0), None, Some(b"v"), &[]).unwrap();
        let batch = builder.finish(
            ProducerId(producer_id),
            ProducerEpoch(0),
            Sequence(0),
            is_transactional,
        );
        batch.stamped(at, LeaderEpoch(0)).into_batch()
    }

    fn marker(producer_id: i64, at: Offset, commits: bool) -> RecordBatch {
        let coordinator_epoch = CoordinatorEpoch(0);
        let marker = if commits {
            ControlRecord::Commit { coordinator_epoch }
        } else {
            ControlRecord::Abort { coordinator_epoch }
        };
        let batch = marker.end_txn_marker(ProducerId(producer_id), ProducerEpoch(0), Timestamp(0));
        batch.stamped(at, LeaderEpoch(0)).into_batch()
    }

    /// What happens next in a log: a write within or outside a transaction, or the end of one.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Write(i64),
        WritePlain(i64),
        End(i64, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..4_i64).prop_map(Step::Write),
            1 => (4..6_i64).prop_map(Step::WritePlain),
            2 => (0..4_i64, any::<bool>()).prop_map(|(id, commits)| Step::End(id, commits)),
        ]
    }

    /// A log, what of it is visible, and its aborted transactions: first offset, marker, producer.
    type Model = (Vec<RecordBatch>, BTreeSet<Offset>, Vec<(Offset, Offset, ProducerId)>);

    fn model(steps: &[Step]) -> Model {
        let (mut log, mut visible, mut aborted) = (Vec::new(), BTreeSet::new(), Vec::new());
        let mut open: BTreeMap<i64, Vec<Offset>> = BTreeMap::new();
        // All that is open at the end aborts, as if the reader stood below the last stable offset.
        let ends = (0..4).map(|id| Step::End(id, false));
        for (at, step) in steps.iter().copied().chain(ends).enumerate() {
            let at = Offset(i64::try_from(at).unwrap());
            match step {
                Step::Write(id) => {
                    open.entry(id).or_default().push(at);
                    log.push(written(id, at, true));
                }
                Step::WritePlain(id) => {
                    visible.insert(at);
                    log.push(written(id, at, false));
                }
                Step::End(id, commits) => {
                    log.push(marker(id, at, commits));
                    let Some(offsets) = open.remove(&id) else { continue };
                    if commits {
                        visible.extend(offsets);
                    } else {
                        aborted.push((offsets[0], at, ProducerId(id)));
                    }
                }
            }
        }
        (log, visible, aborted)
    }

    proptest! {
        /// From wherever the fetch starts, the batches admitted are those of committed
        /// transactions and of none.
        #[test]
        fn exactly_what_is_committed_or_outside_transactions_is_admitted(
            steps in prop::collection::vec(step(), 0..40),
            start in 0..40_usize,
        ) {
            let (log, visible, aborted) = model(&steps);
            let start = start.min(log.len());
            let first = Offset(i64::try_from(start).unwrap());
            let listed = aborted.iter().filter(|(_, marker, _)| *marker >= first);
            let mut filter = Aborted::new(listed.rev().map(|&(first, _, id)| (first, id)));
            for batch in &log[start..] {
                let header = batch.header();
                let want = visible.contains(&header.base_offset);
                prop_assert_eq!(filter.admits(header), want, "{:?}", header);
            }
        }
    }

    #[test]
    fn without_a_list_all_but_control_batches_are_admitted() {
        let mut filter = Aborted::default();
        assert!(filter.admits(written(1, Offset(0), true).header()));
        assert!(!filter.admits(marker(1, Offset(1), false).header()));
    }
}
