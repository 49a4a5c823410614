//! What a partition knows of those who write to it: who is fenced, what is a duplicate, which
//! transactions are open.
//!
//! For each producer id: its epoch, its last five batches, the first offset of its open
//! transaction and the coordinator that last ended one (KIP-98). Duplicates are answered with what
//! was appended the first time; a producer that nothing is known of may begin anywhere (KIP-360);
//! a known one follows its last sequence, or begins a new epoch at 0.
//!
//! All of it follows from the batches: leaders ask `check` before, everyone calls `apply` after,
//! and recovery is a replay of `apply`. Invariant: `open` holds exactly the producers that have an
//! open transaction, by its first offset. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::{CoordinatorEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use protocol::mutant::{Mutant, is_active};
use protocol::record::{BatchHeader, ControlRecord};
use protocol::time::Timestamp;

/// 5: requests a producer may have in flight; dedup must remember as many (KIP-98).
pub(super) const BATCHES_MAX: usize = 5;
/// 1 << 17: producers remembered per partition, about 40 MiB. Beyond, an eighth is forgotten, the
/// longest silent first, never one with an open transaction.
const PRODUCERS_MAX: usize = 1 << 17;

/// Who asks for an append, and so how much is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A producer: everything.
    Client,
    /// A coordinator writing to its own partition: epochs, but it has no sequences.
    Coordinator,
    /// The leader, which has checked it all: nothing.
    Replication,
}

/// What to do with a batch that is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Append it.
    New,
    /// It was appended already: answer as then, append nothing.
    Duplicate {
        /// Offset of its first record.
        base_offset: Offset,
        /// Its max timestamp: when it was appended, if the broker dates records.
        timestamp: Timestamp,
    },
}

/// What to do with a marker that is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerChecked {
    /// Append it.
    New,
    /// The same marker was appended already: answer success, append nothing. KIP-890.
    Repeated,
}

/// The end of a transaction, as its coordinator asks a partition to write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTxn {
    /// Whose transaction.
    pub producer_id: ProducerId,
    /// With transaction version 2 one above the epoch that wrote; else the same. KIP-890.
    pub producer_epoch: ProducerEpoch,
    /// Which leadership of the transaction's coordinator asks.
    pub coordinator_epoch: CoordinatorEpoch,
    /// The protocol that the producer speaks: 2 raises the epoch with every transaction.
    pub transaction_version: i8,
}

/// Why a batch or marker is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// A batch before it is missing, or it is a duplicate from long ago.
    #[error("producer {producer_id}: sequence {got} does not follow, expected {expected}")]
    OutOfOrder {
        /// Who wrote.
        producer_id: ProducerId,
        /// The sequence that would be in order.
        expected: Sequence,
        /// The batch's first sequence.
        got: Sequence,
    },
    /// A newer incarnation of the producer exists.
    #[error("producer {producer_id}: epoch {got} is fenced by {current}")]
    Fenced {
        /// Who wrote.
        producer_id: ProducerId,
        /// The epoch known here.
        current: ProducerEpoch,
        /// The epoch of the batch or marker.
        got: ProducerEpoch,
    },
    /// A write outside of the producer's transaction, while that is open. KIP-890.
    #[error(
        "producer {producer_id}: its transaction from {first_offset} is open, and this is not of it"
    )]
    TransactionOpen {
        /// Who wrote.
        producer_id: ProducerId,
        /// First offset of the open transaction.
        first_offset: Offset,
    },
    /// A newer epoch of the producer writes before the marker of its last transaction came. KIP-890.
    #[error(
        "producer {producer_id}: the transaction from {first_offset} of epoch {current} is not ended"
    )]
    Undecided {
        /// Who wrote.
        producer_id: ProducerId,
        /// The epoch of the open transaction.
        current: ProducerEpoch,
        /// First offset of the open transaction.
        first_offset: Offset,
    },
    /// The transaction was ended here after its coordinator said that it was open. KIP-890.
    #[error(
        "producer {producer_id}: a marker came at {marker}, after its transaction was verified"
    )]
    Unverified {
        /// Who wrote.
        producer_id: ProducerId,
        /// Where the marker is.
        marker: Offset,
    },
    /// A newer coordinator has ended a transaction of this producer.
    #[error("producer {producer_id}: coordinator epoch {got} is fenced by {current}")]
    CoordinatorFenced {
        /// Whose transaction.
        producer_id: ProducerId,
        /// The coordinator epoch known here.
        current: CoordinatorEpoch,
        /// The coordinator epoch of the marker.
        got: CoordinatorEpoch,
    },
}

impl SequenceError {
    /// What the writer is told. `Undecided` alone passes by trying the same again.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfOrder { .. } => ErrorCode::OutOfOrderSequenceNumber,
            Self::Fenced { .. } => ErrorCode::InvalidProducerEpoch,
            Self::TransactionOpen { .. } | Self::Unverified { .. } => ErrorCode::InvalidTxnState,
            Self::Undecided { .. } => ErrorCode::ConcurrentTransactions,
            Self::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        }
    }
}

/// An aborted transaction: what readers of committed records must skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTxn {
    /// Whose.
    pub producer_id: ProducerId,
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Offset of its marker (inclusive).
    pub last_offset: Offset,
    /// Where the next oldest open transaction began, or the offset after the marker: no
    /// transaction that is decided later reaches below it.
    pub last_stable_offset: Offset,
}

/// A batch that was appended, as far as a duplicate is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Appended {
    pub(super) base_sequence: Sequence,
    /// Inclusive.
    pub(super) last_sequence: Sequence,
    pub(super) base_offset: Offset,
    /// Inclusive.
    pub(super) last_offset: Offset,
    pub(super) timestamp: Timestamp,
}

/// What is known of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    pub(super) epoch: ProducerEpoch,
    pub(super) coordinator_epoch: CoordinatorEpoch,
    /// The newest batches of `epoch`, oldest first, at most [`BATCHES_MAX`].
    pub(super) batches: VecDeque<Appended>,
    pub(super) open_from: Option<Offset>,
    /// Offset of the last thing written (inclusive): orders the silent.
    pub(super) last_offset: Offset,
    pub(super) last_timestamp: Timestamp,
}

impl Producer {
    fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            coordinator_epoch: CoordinatorEpoch(-1),
            batches: VecDeque::new(),
            open_from: None,
            last_offset: Offset::NONE,
            last_timestamp: Timestamp::NONE,
        }
    }

    /// Its newest epoch here.
    #[must_use]
    pub fn epoch(&self) -> ProducerEpoch {
        self.epoch
    }

    /// The last sequence of its newest epoch (inclusive); none before its first batch.
    #[must_use]
    pub fn last_sequence(&self) -> Sequence {
        self.batches.back().map_or(Sequence::NONE, |batch| batch.last_sequence)
    }

    /// The first sequence of the oldest batch of its newest epoch that is remembered.
    #[must_use]
    pub fn first_sequence(&self) -> Option<Sequence> {
        self.batches.front().map(|batch| batch.base_sequence)
    }

    /// The timestamp of the last thing that it wrote.
    #[must_use]
    pub fn last_timestamp(&self) -> Timestamp {
        self.last_timestamp
    }

    /// Which coordinator last ended a transaction of its; -1 for none.
    #[must_use]
    pub fn coordinator_epoch(&self) -> CoordinatorEpoch {
        self.coordinator_epoch
    }

    /// First offset of its open transaction.
    #[must_use]
    pub fn open_from(&self) -> Option<Offset> {
        self.open_from
    }

    fn raise_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch < epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }
}

/// All that a partition knows of its producers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    pub(super) entries: BTreeMap<ProducerId, Producer>,
    /// Open transactions by first offset.
    open: BTreeMap<Offset, ProducerId>,
    /// Ended transactions whose marker the in-sync replicas may not all have: first offset, and
    /// the marker's offset.
    pub(super) ended: BTreeMap<Offset, Offset>,
}

impl Producers {
    /// Whether the batch of `header`, not a control batch, may be appended.
    ///
    /// # Errors
    /// Why not; see [`SequenceError`].
    pub fn check(&self, header: &BatchHeader, origin: Origin) -> Result<Checked, SequenceError> {
        let Some(known) = self.entries.get(&header.producer_id) else {
            // Nothing known: forgotten, deleted or new. Any sequence is accepted (KIP-360).
            return Ok(Checked::New);
        };
        match origin {
            Origin::Replication => return Ok(Checked::New),
            Origin::Coordinator => {}
            Origin::Client => {
                if let Some(twin) = known.twin_of(header) {
                    let Appended { base_offset, timestamp, .. } = *twin;
                    return Ok(Checked::Duplicate { base_offset, timestamp });
                }
            }
        }
        let producer_id = header.producer_id;
        let got = header.producer_epoch;
        if got < known.epoch {
            return Err(SequenceError::Fenced { producer_id, current: known.epoch, got });
        }
        if origin == Origin::Client {
            let last = known.last_sequence();
            let expected = match got == known.epoch {
                true if last.0 == i32::MAX && is_active(Mutant::WrapSequenceToOne) => Sequence(1),
                true => last.plus(1),
                false => Sequence(0),
            };
            let got = header.base_sequence;
            if got != expected {
                return Err(SequenceError::OutOfOrder { producer_id, expected, got });
            }
        }
        match known.open_from {
            Some(first_offset) if !header.attributes.is_transactional() => {
                Err(SequenceError::TransactionOpen { producer_id, first_offset })
            }
            // It would become part of the older transaction, raise the epoch, and the marker of that
            // one could not land any more.
            Some(first_offset) if got != known.epoch => {
                let current = known.epoch;
                Err(SequenceError::Undecided { producer_id, current, first_offset })
            }
            _ => Ok(Checked::New),
        }
    }

    /// Whether `marker` may be appended.
    ///
    /// With transaction version 2 a marker raises the epoch. One that carries the present epoch
    /// is a repetition if no transaction is open, and must be refused if one is: it belongs to a
    /// transaction before, whose end was delayed, and would decide the wrong one (KIP-890).
    ///
    /// # Errors
    /// Why not; see [`SequenceError`].
    pub fn check_marker(&self, marker: &EndTxn) -> Result<MarkerChecked, SequenceError> {
        let producer_id = marker.producer_id;
        let Some(known) = self.entries.get(&producer_id) else { return Ok(MarkerChecked::New) };
        if marker.coordinator_epoch < known.coordinator_epoch {
            return Err(SequenceError::CoordinatorFenced {
                producer_id,
                current: known.coordinator_epoch,
                got: marker.coordinator_epoch,
            });
        }
        let repeats = marker.transaction_version >= 2
            && marker.producer_epoch == known.epoch
            && !is_active(Mutant::TakeEqualEpochMarkers);
        if repeats && known.open_from.is_none() {
            return Ok(MarkerChecked::Repeated);
        }
        if repeats || marker.producer_epoch < known.epoch {
            return Err(SequenceError::Fenced {
                producer_id,
                current: known.epoch,
                got: marker.producer_epoch,
            });
        }
        Ok(MarkerChecked::New)
    }

    /// Takes note of a batch that was appended; not a control batch. Whoever appends has checked
    /// it, so anything is taken as it comes.
    pub fn apply(&mut self, header: &BatchHeader) {
        if !header.is_idempotent() {
            return;
        }
        self.make_room(header.producer_id);
        let producer = self
            .entries
            .entry(header.producer_id)
            .or_insert_with(|| Producer::new(header.producer_epoch));
        producer.raise_epoch(header.producer_epoch);
        producer.last_offset = header.last_offset();
        producer.last_timestamp = header.max_timestamp;
        if header.base_sequence.0 >= 0 && header.producer_epoch == producer.epoch {
            let kept = BATCHES_MAX - usize::from(is_active(Mutant::ForgetOneOfFive));
            if producer.batches.len() == kept {
                producer.batches.pop_front();
            }
            producer.batches.push_back(Appended {
                base_sequence: header.base_sequence,
                last_sequence: header.last_sequence(),
                base_offset: header.base_offset,
                last_offset: header.last_offset(),
                timestamp: header.max_timestamp,
            });
        }
        if header.attributes.is_transactional() && producer.open_from.is_none() {
            producer.open_from = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
    }

    /// Takes note of a marker that was appended in the batch of `header`. Yields the transaction
    /// that it aborted, if it aborted one that has records.
    pub fn complete(&mut self, header: &BatchHeader, marker: ControlRecord) -> Option<AbortedTxn> {
        let (coordinator_epoch, is_abort) = match marker {
            ControlRecord::Abort { coordinator_epoch } => (coordinator_epoch, true),
            ControlRecord::Commit { coordinator_epoch } => (coordinator_epoch, false),
            ControlRecord::Unknown(_) => return None,
        };
        let producer_id = header.producer_id;
        if !producer_id.is_some() {
            return None;
        }
        self.make_room(producer_id);
        let producer =
            self.entries.entry(producer_id).or_insert_with(|| Producer::new(header.producer_epoch));
        producer.raise_epoch(header.producer_epoch);
        producer.coordinator_epoch = producer.coordinator_epoch.max(coordinator_epoch);
        producer.last_timestamp = header.max_timestamp;
        producer.last_offset = header.last_offset();
        // A marker without records before it moves nothing.
        let first_offset = producer.open_from.take()?;
        self.open.remove(&first_offset);
        let last_offset = header.last_offset();
        self.ended.insert(first_offset, last_offset);
        let last_stable_offset =
            self.open.first_key_value().map_or(last_offset.plus(1), |(&first, _)| first);
        is_abort.then_some(AbortedTxn {
            producer_id,
            first_offset,
            last_offset,
            last_stable_offset,
        })
    }

    /// First offset of the oldest transaction that is undecided, or whose marker is at or above
    /// `high_watermark`. Nothing at or above it is stable.
    #[must_use]
    pub fn first_unstable(&self, high_watermark: Offset) -> Option<Offset> {
        let open = self.open.first_key_value().map(|(&first, _)| first);
        let ended = self
            .ended
            .iter()
            .find(|&(_, &marker)| marker >= high_watermark)
            .map(|(&first, _)| first);
        open.into_iter().chain(ended).min()
    }

    /// Forgets ended transactions whose marker is below `high_watermark`.
    pub fn settle(&mut self, high_watermark: Offset) {
        self.ended.retain(|_, &mut marker| marker >= high_watermark);
    }

    /// Forgets producers that wrote nothing for `expiration` before `now`, except those with an
    /// open transaction. Yields how many went. A clock that jumps makes it early or late, which
    /// costs a duplicate check, never a record.
    pub fn expire(&mut self, now: Timestamp, expiration: Duration) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, producer| {
            producer.open_from.is_some() || now < producer.last_timestamp.plus(expiration)
        });
        before - self.entries.len()
    }

    /// What is known of `producer_id`.
    #[must_use]
    pub fn known(&self, producer_id: ProducerId) -> Option<&Producer> {
        self.entries.get(&producer_id)
    }

    /// All producers known, by id. KIP-664.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &Producer)> {
        self.entries.iter().map(|(&id, producer)| (id, producer))
    }

    /// How many producers are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when no producer is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Puts back a producer that was stored. False when another's open transaction began at the
    /// same offset, which no log can contain.
    pub(super) fn restore(&mut self, id: ProducerId, producer: Producer) -> bool {
        if let Some(first) = producer.open_from
            && self.open.insert(first, id).is_some()
        {
            return false;
        }
        self.entries.insert(id, producer).is_none()
    }

    /// Before `incoming` is added: if there is no room, an eighth of the silent ones goes.
    fn make_room(&mut self, incoming: ProducerId) {
        if self.entries.len() < PRODUCERS_MAX || self.entries.contains_key(&incoming) {
            return;
        }
        let mut silent: Vec<(Offset, ProducerId)> = self
            .entries
            .iter()
            .filter(|(_, producer)| producer.open_from.is_none())
            .map(|(&id, producer)| (producer.last_offset, id))
            .collect();
        silent.sort_unstable();
        for (_, id) in silent.into_iter().take(PRODUCERS_MAX / 8) {
            self.entries.remove(&id);
        }
    }

    /// Asserts every invariant of this struct.
    #[cfg(any(test, feature = "check"))]
    pub fn check_invariants(&self) {
        for (&first, id) in &self.open {
            assert_eq!(self.entries[id].open_from, Some(first));
        }
        let open = self.entries.values().filter(|producer| producer.open_from.is_some()).count();
        assert_eq!(open, self.open.len());
        for producer in self.entries.values() {
            assert!(producer.batches.len() <= BATCHES_MAX);
            let batches = producer.batches.iter();
            assert!(batches.is_sorted_by(|a, b| a.last_offset < b.base_offset));
        }
        assert!(self.ended.iter().all(|(first, marker)| first < marker));
    }
}

impl Producer {
    /// The remembered batch that `header` repeats.
    fn twin_of(&self, header: &BatchHeader) -> Option<&Appended> {
        if header.producer_epoch != self.epoch || header.base_sequence.0 < 0 {
            return None;
        }
        self.batches.iter().find(|batch| {
            // Who repeats a batch of a transaction waits for it before the end. Anything else that is
            // taken for one could be another's, who knew the number that comes next.
            let is_of_open = self.open_from.is_some_and(|first| first <= batch.base_offset);
            batch.base_sequence == header.base_sequence
                && batch.last_sequence == header.last_sequence()
                && is_of_open == header.attributes.is_transactional()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::ids::LeaderEpoch;
    use protocol::record::Attributes;

    const PRODUCER: ProducerId = ProducerId(7);

    /// Epoch, first sequence, count of records; appended at `offset`.
    fn batch(offset: i64, epoch: i16, sequence: i32, count: i32) -> BatchHeader {
        BatchHeader {
            base_offset: Offset(offset),
            batch_length: 100,
            leader_epoch: LeaderEpoch(0),
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: count - 1,
            base_timestamp: Timestamp(offset),
            max_timestamp: Timestamp(1000 + offset),
            producer_id: PRODUCER,
            producer_epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(sequence),
            record_count: count,
        }
    }

    fn transactional(header: BatchHeader) -> BatchHeader {
        BatchHeader { attributes: header.attributes.with_transactional(true), ..header }
    }

    fn with(headers: &[BatchHeader]) -> Producers {
        let mut producers = Producers::default();
        for header in headers {
            producers.apply(header);
            producers.check_invariants();
        }
        producers
    }

    fn end(
        producers: &mut Producers,
        offset: i64,
        epoch: i16,
        is_abort: bool,
    ) -> Option<AbortedTxn> {
        let coordinator_epoch = CoordinatorEpoch(3);
        let marker = if is_abort {
            ControlRecord::Abort { coordinator_epoch }
        } else {
            ControlRecord::Commit { coordinator_epoch }
        };
        let aborted = producers.complete(&batch(offset, epoch, -1, 1), marker);
        producers.check_invariants();
        aborted
    }

    /// What a client is told that sends `sent` after `before` was appended.
    fn check(before: &[BatchHeader], sent: BatchHeader, want: Result<Checked, ErrorCode>) {
        let got = with(before).check(&sent, Origin::Client).map_err(|error| error.code());
        assert_eq!(got, want);
    }

    #[test]
    fn a_batch_follows_the_last_sequence_of_its_epoch() {
        let before = [batch(0, 1, 0, 5), batch(5, 1, 5, 2)];
        check(&before, batch(9, 1, 7, 1), Ok(Checked::New));
        check(&before, batch(9, 1, 8, 1), Err(ErrorCode::OutOfOrderSequenceNumber));
        check(&before, batch(9, 1, 6, 1), Err(ErrorCode::OutOfOrderSequenceNumber));
    }

    #[test]
    fn only_within_its_transaction_is_a_batch_of_one_a_duplicate() {
        let alone = [batch(0, 0, 0, 1)];
        // Somebody else was there before, with the number that comes next.
        let out_of_order = Err(ErrorCode::OutOfOrderSequenceNumber);
        check(&alone, transactional(batch(9, 0, 0, 1)), out_of_order);
        let within = [transactional(batch(0, 0, 0, 1))];
        check(&within, batch(9, 0, 0, 1), out_of_order);
        let again = Checked::Duplicate { base_offset: Offset(0), timestamp: Timestamp(1000) };
        check(&within, transactional(batch(9, 0, 0, 1)), Ok(again));
        // What came before the transaction is no part of it.
        let both = [batch(0, 0, 0, 1), transactional(batch(1, 0, 1, 1))];
        check(&both, transactional(batch(9, 0, 0, 1)), out_of_order);
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let before = [batch(0, 1, i32::MAX - 1, 2)];
        check(&before, batch(2, 1, 0, 4), Ok(Checked::New));
        let across = [batch(0, 1, i32::MAX, 3)];
        check(&across, batch(3, 1, 2, 1), Ok(Checked::New));
        let again = Checked::Duplicate { base_offset: Offset(0), timestamp: Timestamp(1000) };
        check(&across, batch(3, 1, i32::MAX, 3), Ok(again));
    }

    #[test]
    fn a_duplicate_of_the_last_five_is_answered_as_it_was_the_first_time() {
        let before: Vec<BatchHeader> = (0..6).map(|n| batch(10 * i64::from(n), 1, n, 1)).collect();
        let sent = |n: i32| batch(99, 1, n, 1);
        for n in 1..6 {
            let (base_offset, timestamp) =
                (Offset(10 * i64::from(n)), Timestamp(1000 + 10 * i64::from(n)));
            check(&before, sent(n), Ok(Checked::Duplicate { base_offset, timestamp }));
        }
        check(&before, sent(0), Err(ErrorCode::OutOfOrderSequenceNumber));
        // The same beginning with another end is another batch.
        check(&before, batch(99, 1, 5, 2), Err(ErrorCode::OutOfOrderSequenceNumber));
    }

    #[test]
    fn a_producer_that_nothing_is_known_of_may_begin_anywhere() {
        check(&[], batch(0, 3, 1234, 1), Ok(Checked::New));
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old() {
        let before = [batch(0, 1, 0, 5)];
        check(&before, batch(5, 2, 0, 1), Ok(Checked::New));
        check(&before, batch(5, 2, 5, 1), Err(ErrorCode::OutOfOrderSequenceNumber));
        check(&before, batch(5, 0, 5, 1), Err(ErrorCode::InvalidProducerEpoch));
        let after = [batch(0, 1, 0, 5), batch(5, 2, 0, 1)];
        // Not even a duplicate is one any more: the old incarnation must learn that it is fenced.
        check(&after, batch(9, 1, 0, 5), Err(ErrorCode::InvalidProducerEpoch));
    }

    #[test]
    fn coordinators_are_fenced_by_epoch_but_have_no_sequences_and_replicas_are_not_asked() {
        let known = with(&[batch(0, 4, 0, 5)]);
        let code = |header, origin| known.check(&header, origin).map_err(|error| error.code());
        assert_eq!(code(batch(9, 4, -1, 1), Origin::Coordinator), Ok(Checked::New));
        let fenced = Err(ErrorCode::InvalidProducerEpoch);
        assert_eq!(code(batch(9, 3, -1, 1), Origin::Coordinator), fenced);
        assert_eq!(code(batch(9, 3, 77, 1), Origin::Replication), Ok(Checked::New));
    }

    #[test]
    fn within_an_open_transaction_only_transactional_batches_are_accepted() {
        let before = [transactional(batch(0, 1, 0, 5))];
        check(&before, transactional(batch(5, 1, 5, 1)), Ok(Checked::New));
        check(&before, batch(5, 1, 5, 1), Err(ErrorCode::InvalidTxnState));
    }

    #[test]
    fn a_newer_epoch_does_not_write_into_the_open_transaction_of_the_older() {
        let before = [transactional(batch(0, 1, 0, 5))];
        let next = transactional(batch(5, 2, 0, 1));
        check(&before, next, Err(ErrorCode::ConcurrentTransactions));
    }

    #[test]
    fn the_oldest_undecided_or_unreplicated_transaction_bounds_what_is_stable() {
        let other = |header| BatchHeader { producer_id: ProducerId(8), ..header };
        let mut producers = with(&[
            transactional(batch(10, 1, 0, 5)),
            transactional(other(batch(15, 1, 0, 5))),
            transactional(batch(20, 1, 5, 5)),
        ]);
        let stable = |producers: &Producers, high_watermark| {
            producers.first_unstable(Offset(high_watermark)).map(|first| first.0)
        };
        assert_eq!(stable(&producers, 25), Some(10));
        assert_eq!(end(&mut producers, 25, 2, false), None);
        assert_eq!(stable(&producers, 25), Some(10), "the marker is not replicated");
        assert_eq!(stable(&producers, 26), Some(15));
        let marker = ControlRecord::Abort { coordinator_epoch: CoordinatorEpoch(1) };
        let aborted = producers.complete(&other(batch(26, 2, -1, 1)), marker).unwrap();
        assert_eq!((aborted.first_offset, aborted.last_offset), (Offset(15), Offset(26)));
        assert_eq!(aborted.last_stable_offset, Offset(27));
        assert_eq!(stable(&producers, 26), Some(15));
        producers.settle(Offset(27));
        assert_eq!(stable(&producers, 0), None);
    }

    #[test]
    fn an_abort_tells_where_the_next_oldest_open_transaction_began() {
        let other = |header| BatchHeader { producer_id: ProducerId(8), ..header };
        let mut producers =
            with(&[transactional(batch(10, 1, 0, 5)), transactional(other(batch(15, 1, 0, 5)))]);
        let aborted = end(&mut producers, 20, 2, true).unwrap();
        assert_eq!(aborted.last_stable_offset, Offset(15));
        assert_eq!(end(&mut producers, 21, 3, true), None, "it has no records");
    }

    #[test]
    fn a_marker_raises_the_epoch_and_the_producer_begins_anew_at_zero() {
        let mut producers = with(&[transactional(batch(0, 1, 0, 5))]);
        end(&mut producers, 5, 2, false);
        let code = |header| producers.check(&header, Origin::Client).map_err(|error| error.code());
        assert_eq!(code(transactional(batch(6, 2, 0, 1))), Ok(Checked::New));
        assert_eq!(
            code(transactional(batch(6, 2, 5, 1))),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
        assert_eq!(code(transactional(batch(6, 1, 5, 1))), Err(ErrorCode::InvalidProducerEpoch));
    }

    #[test]
    fn a_delayed_marker_never_decides_a_later_transaction() {
        let marker = |epoch, coordinator, transaction_version| EndTxn {
            producer_id: PRODUCER,
            producer_epoch: ProducerEpoch(epoch),
            coordinator_epoch: CoordinatorEpoch(coordinator),
            transaction_version,
        };
        let check = |producers: &Producers, marker| {
            producers.check_marker(&marker).map_err(|error| error.code())
        };
        let mut producers = with(&[transactional(batch(0, 1, 0, 5))]);
        assert_eq!(check(&producers, marker(2, 3, 2)), Ok(MarkerChecked::New));
        end(&mut producers, 5, 2, false);
        assert_eq!(check(&producers, marker(2, 3, 2)), Ok(MarkerChecked::Repeated));
        producers.apply(&transactional(batch(6, 2, 0, 1)));
        assert_eq!(check(&producers, marker(2, 3, 2)), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(check(&producers, marker(1, 3, 2)), Err(ErrorCode::InvalidProducerEpoch));
        // The old protocol ends a transaction in its own epoch.
        assert_eq!(check(&producers, marker(2, 3, 1)), Ok(MarkerChecked::New));
        let fenced = Err(ErrorCode::TransactionCoordinatorFenced);
        assert_eq!(check(&producers, marker(3, 2, 2)), fenced);
    }

    #[test]
    fn the_silent_are_forgotten_but_never_an_open_transaction() {
        let mut producers = with(&[transactional(batch(0, 1, 0, 5))]);
        producers.apply(&BatchHeader { producer_id: ProducerId(8), ..batch(5, 1, 0, 5) });
        let day = Duration::from_secs(86_400);
        assert_eq!(producers.expire(Timestamp(1004).plus(day), day), 0);
        assert_eq!(producers.expire(Timestamp(1005).plus(day), day), 1);
        assert!(producers.known(PRODUCER).is_some());
    }

    #[test]
    fn beyond_the_bound_those_go_that_wrote_longest_ago() {
        let mut producers = with(&[transactional(batch(0, 1, 0, 1))]);
        let count = i64::try_from(PRODUCERS_MAX).unwrap();
        for n in 0..count {
            let producer_id = ProducerId(100 + n);
            producers.apply(&BatchHeader { producer_id, ..batch(1 + n, 1, 0, 1) });
        }
        assert!(producers.len() <= PRODUCERS_MAX);
        assert!(producers.known(PRODUCER).is_some(), "its transaction is open");
        assert!(producers.known(ProducerId(100)).is_none());
        assert!(producers.known(ProducerId(99 + count)).is_some());
    }
}
