//! The batches of one partition, from the first record to the acknowledgement.
//!
//! Invariants: batches leave in the order in which they were opened; those in flight come before
//! those that wait, unless the queue is draining; all in flight went to one broker. When a batch
//! comes back unwritten, the queue drains: nothing is sent until all others have come back too,
//! then it goes on from the oldest. So a retry overtakes nothing and is overtaken by nothing, at
//! the price of one round trip per failure.
//!
//! Two batches travel alone. The first of a producer id: a broker that knows nothing of the id
//! takes any number for its first, so if the first batch were delayed, the second would be taken,
//! and the first refused for ever after. And one that came back: 1. it was written, but its answer
//! was lost; 2. it is delayed while others are written; 3. after five of those the broker has
//! forgotten it (KIP-98), and refuses as a gap what is a duplicate.
//!
//! A numbered batch that is given up leaves a gap. Once drained, those after it are numbered anew
//! under a new epoch, except those that may be in the log already: under another number they might
//! be written twice, so they are given up with it (KIP-360). Pure.

use std::collections::VecDeque;
use std::time::Duration;

use protocol::ids::{BrokerId, ProducerId, Sequence, TopicPartition};
use protocol::record::{BatchBuilder, RecordBatch};

use super::sequencer::{Numbering, Stamp};

/// Which batch, in order of opening over all partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BatchId(pub(crate) u64);

/// The records of a batch.
#[derive(Debug)]
pub(crate) enum Content {
    /// Not numbered, compressed or checksummed yet.
    Built(BatchBuilder),
    /// As it is sent.
    Finished(RecordBatch),
    /// With whoever sends it.
    Away,
}

#[derive(Debug)]
struct Batch {
    id: BatchId,
    content: Content,
    record_count: i32,
    bytes: usize,
    opened_at: Duration,
    /// As it was first sent.
    numbered: Option<(Stamp, Sequence)>,
    is_in_flight: bool,
    /// It may be in the log.
    is_in_doubt: bool,
    /// It came back unwritten.
    is_retry: bool,
}

/// A batch that takes records.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) id: BatchId,
    pub(crate) builder: BatchBuilder,
    pub(crate) opened_at: Duration,
}

/// A batch to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) id: BatchId,
    pub(crate) content: Content,
    pub(crate) stamp: Stamp,
    pub(crate) sequence: Sequence,
}

/// A batch that is done with, one way or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) id: BatchId,
    pub(crate) record_count: i32,
    pub(crate) bytes: usize,
    /// Given up although it may be in the log.
    pub(crate) is_in_doubt: bool,
}

/// The batches of one partition.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) partition: TopicPartition,
    pub(crate) open: Option<Open>,
    batches: VecDeque<Batch>,
    numbering: Numbering,
    /// Whose batches the partition has acknowledged.
    known_as: ProducerId,
    in_flight_count: usize,
    /// Where those in flight went.
    in_flight_at: Option<BrokerId>,
    is_draining: bool,
    /// A numbered batch was given up.
    has_gap: bool,
    /// Nothing is sent before.
    pub(crate) retry_at: Duration,
    /// Failures since the last success.
    pub(crate) failure_count: u32,
}

impl Queue {
    pub(crate) fn new(partition: TopicPartition) -> Self {
        Self {
            partition,
            open: None,
            batches: VecDeque::new(),
            numbering: Numbering::default(),
            known_as: ProducerId::NONE,
            in_flight_count: 0,
            in_flight_at: None,
            is_draining: false,
            has_gap: false,
            retry_at: Duration::ZERO,
            failure_count: 0,
        }
    }

    /// Closes the open batch, which then waits to be sent. False: there is none.
    pub(crate) fn seal(&mut self) -> bool {
        let Some(Open { id, builder, opened_at }) = self.open.take() else {
            return false;
        };
        assert!(self.batches.back().is_none_or(|it| it.id < id), "batches are opened in order");
        self.batches.push_back(Batch {
            id,
            record_count: builder.record_count(),
            bytes: builder.estimated_size(),
            content: Content::Built(builder),
            opened_at,
            numbered: None,
            is_in_flight: false,
            is_in_doubt: false,
            is_retry: false,
        });
        true
    }

    /// True when a closed batch waits.
    pub(crate) fn has_waiting(&self) -> bool {
        self.batches.len() > self.in_flight_count
    }

    /// True when there is a gap.
    pub(crate) fn has_gap(&self) -> bool {
        self.has_gap
    }

    /// True when a gap waits for a new epoch, and nothing is in flight any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.has_gap && self.in_flight_count == 0
    }

    /// How many bytes the next batch has that may be sent to `broker` at `now`.
    pub(crate) fn sendable(&self, now: Duration, broker: BrokerId) -> Option<usize> {
        let elsewhere = self.in_flight_at.is_some_and(|it| it != broker);
        let goes_alone = self.batches.front().is_some_and(|it| it.is_retry) || !self.is_known();
        let waits_for_it = goes_alone && self.in_flight_count > 0;
        let waits = self.is_draining || self.has_gap || elsewhere || waits_for_it;
        if waits || self.retry_at > now {
            return None;
        }
        self.batches.get(self.in_flight_count).map(|it| it.bytes)
    }

    /// True when the partition knows the producer by its id, or needs not.
    fn is_known(&self) -> bool {
        let Stamp { producer_id, .. } = self.numbering.stamp();
        !producer_id.is_some() || self.known_as == producer_id
    }

    /// Gives the next batch away to be sent to `broker`. New ones are numbered under `current`,
    /// or under the stamp before it as long as batches of that are unacknowledged.
    pub(crate) fn send(&mut self, broker: BrokerId, current: Stamp) -> Outgoing {
        let index = self.in_flight_count;
        if self.batches.iter().all(|it| it.numbered.is_none()) {
            self.numbering.adopt(current);
        }
        let batch = self.batches.get_mut(index).expect("the caller saw that one is sendable");
        assert!(!batch.is_in_flight, "those in flight come first");
        let (stamp, sequence) =
            *batch.numbered.get_or_insert_with(|| self.numbering.assign(batch.record_count));
        batch.is_in_flight = true;
        self.in_flight_count += 1;
        self.in_flight_at = Some(broker);
        let content = std::mem::replace(&mut batch.content, Content::Away);
        Outgoing { id: batch.id, content, stamp, sequence }
    }

    /// True when no batch before this one is unacknowledged.
    pub(crate) fn is_oldest(&self, id: BatchId) -> bool {
        self.batches.front().is_some_and(|it| it.id == id)
    }

    /// The batch came back, written or not to be sent again.
    pub(crate) fn settle(&mut self, id: BatchId, is_written: bool) -> Done {
        let index = self.landed(id);
        let batch = self.batches.remove(index).expect("found by its index");
        let stamp = batch.numbered.map_or(Stamp::NONE, |(stamp, _)| stamp);
        if is_written {
            self.known_as = stamp.producer_id;
        } else {
            self.has_gap |= stamp.is_some();
        }
        self.rest();
        done(&batch)
    }

    /// The batch came back to be sent again.
    pub(crate) fn take_back(&mut self, id: BatchId, content: RecordBatch, is_in_doubt: bool) {
        let index = self.landed(id);
        let batch = &mut self.batches[index];
        batch.content = Content::Finished(content);
        batch.is_in_doubt |= is_in_doubt;
        batch.is_retry = true;
        self.is_draining = true;
        self.rest();
    }

    /// The batch came back from a partition that forgot its producer: under a new epoch it may be
    /// sent again, as it is certainly not in the log.
    pub(crate) fn renumber(&mut self, id: BatchId, content: RecordBatch) {
        self.take_back(id, content, false);
        self.known_as = ProducerId::NONE;
        self.has_gap = true;
    }

    fn landed(&mut self, id: BatchId) -> usize {
        let index = self.batches.iter().position(|it| it.id == id);
        let index = index.expect("a batch in flight stays in its queue");
        let batch = &mut self.batches[index];
        assert!(batch.is_in_flight, "it was sent");
        batch.is_in_flight = false;
        self.in_flight_count -= 1;
        index
    }

    fn rest(&mut self) {
        if self.in_flight_count == 0 {
            self.in_flight_at = None;
            self.is_draining = false;
        }
    }

    /// Closes a gap: what is unacknowledged will be numbered anew, under the next stamp that
    /// `send` is given. Returns what is given up since it may be in the log.
    pub(crate) fn close_gap(&mut self) -> Vec<Done> {
        assert!(self.is_broken(), "nothing is in flight, and there is a gap");
        self.has_gap = false;
        let given_up = self.batches.iter().filter(|it| it.is_in_doubt).map(done).collect();
        self.batches.retain(|it| !it.is_in_doubt);
        for batch in &mut self.batches {
            batch.numbered = None;
        }
        given_up
    }

    /// Gives up what was opened before `limit` and is not in flight.
    pub(crate) fn expire(&mut self, limit: Duration) -> Vec<Done> {
        let mut expired = Vec::new();
        // Only from the front: a younger one waits for its elders anyway.
        while let Some(front) = self.batches.front().filter(|it| !it.is_in_flight) {
            if front.opened_at >= limit {
                break;
            }
            self.has_gap |= front.numbered.is_some_and(|(stamp, _)| stamp.is_some());
            expired.push(done(front));
            self.batches.pop_front();
        }
        expired
    }

    /// When the oldest batch that waits was opened.
    pub(crate) fn oldest_waiting(&self) -> Option<Duration> {
        self.batches.iter().find(|it| !it.is_in_flight).map(|it| it.opened_at)
    }

    /// Drops everything that is not in flight: its transaction is aborted. True in the second
    /// place: a numbered one was among it.
    pub(crate) fn abandon(&mut self) -> (Vec<Done>, bool) {
        self.seal();
        let waits = |it: &&Batch| !it.is_in_flight;
        let abandoned = self.batches.iter().filter(waits).map(done).collect();
        let was_numbered = self.batches.iter().filter(waits).any(|it| it.numbered.is_some());
        self.batches.retain(|it| it.is_in_flight);
        self.is_draining = self.in_flight_count > 0;
        (abandoned, was_numbered)
    }

    /// Forgets a gap, as a transaction ended and the next one begins under a new epoch.
    pub(crate) fn forget_gap(&mut self) {
        assert!(self.batches.is_empty(), "the transaction has ended");
        self.has_gap = false;
    }

    /// Asserts the invariants.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        assert!(self.batches.iter().is_sorted_by_key(|it| it.id));
        assert_eq!(self.batches.iter().filter(|it| it.is_in_flight).count(), self.in_flight_count);
        assert_eq!(self.in_flight_at.is_some(), self.in_flight_count > 0);
        if !self.is_draining {
            let first = self.batches.iter().take(self.in_flight_count);
            assert!(first.into_iter().all(|it| it.is_in_flight));
        }
        for batch in &self.batches {
            assert_eq!(batch.is_in_flight, matches!(batch.content, Content::Away));
        }
    }
}

fn done(batch: &Batch) -> Done {
    let Batch { id, record_count, bytes, is_in_doubt, .. } = *batch;
    Done { id, record_count, bytes, is_in_doubt }
}
