//! Producer ids, epochs and sequences: what makes a retry harmless.
//!
//! A broker remembers, per partition, the last five batches of a producer id and epoch: a batch
//! that it has is answered with the offset it got, one that leaves a gap is refused (KIP-98). So
//! each partition numbers its records without gaps; when a batch is given up after it was numbered,
//! the gap can only be closed by a new epoch, in which numbers start at 0 again (KIP-360). Here is
//! also the table of what each error of a produced batch means. Pure.

use protocol::error_code::ErrorCode;
use protocol::ids::{ProducerEpoch, ProducerId, Sequence};

/// Who a producer is at present. KIP-98.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Its id; `NONE` without idempotence.
    pub(crate) producer_id: ProducerId,
    /// Which incarnation of it.
    pub(crate) producer_epoch: ProducerEpoch,
}

impl Stamp {
    /// Not an idempotent producer.
    pub(crate) const NONE: Self =
        Self { producer_id: ProducerId::NONE, producer_epoch: ProducerEpoch::NONE };

    /// True for an idempotent producer.
    pub(crate) fn is_some(self) -> bool {
        self.producer_id.is_some()
    }

    /// The same producer in its next epoch. `None`: epochs are used up, it needs a new id. KIP-360.
    pub(crate) fn next_epoch(self) -> Option<Self> {
        let ProducerEpoch(epoch) = self.producer_epoch;
        let is_left = self.is_some() && self.producer_epoch < ProducerEpoch::CLIENT_MAX;
        is_left.then(|| Self { producer_epoch: ProducerEpoch(epoch + 1), ..self })
    }
}

/// The numbering of one partition. Invariant: `next` is 0 exactly when nothing was numbered under
/// `stamp` here yet, or after 2^31 records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbering {
    stamp: Stamp,
    next: Sequence,
}

impl Default for Numbering {
    fn default() -> Self {
        Self { stamp: Stamp::NONE, next: Sequence(0) }
    }
}

impl Numbering {
    /// Under whom it numbers.
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// From now on under `stamp`, starting at 0 unless it is the one already in use.
    pub(crate) fn adopt(&mut self, stamp: Stamp) {
        if self.stamp != stamp {
            *self = Self { stamp, next: Sequence(0) };
        }
    }

    /// Numbers the next `record_count` records: the sequence of the first. `NONE` without
    /// idempotence.
    pub(crate) fn assign(&mut self, record_count: i32) -> (Stamp, Sequence) {
        assert!(record_count > 0, "a batch has records");
        if !self.stamp.is_some() {
            return (self.stamp, Sequence::NONE);
        }
        let first = self.next;
        self.next = first.plus(record_count);
        (self.stamp, first)
    }
}

/// What became of a batch that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is in the log.
    Written,
    /// Send it again. `is_in_doubt`: it may be in the log already.
    Retry {
        /// May be in the log.
        is_in_doubt: bool,
        /// Somebody else may be the leader by now.
        is_leader_stale: bool,
        /// What it waits for takes milliseconds.
        is_soon: bool,
    },
    /// It is not in the log and will not be.
    Refused,
    /// The partition forgot the producer: send it again under a new epoch. KIP-360.
    Renumber,
}

/// What an error of a batch means.
///
/// `is_oldest`: no earlier batch of the partition is unacknowledged. If one is, a gap before this
/// batch is that one's doing, and closes when it is sent again.
pub(crate) fn judge(code: ErrorCode, is_oldest: bool) -> Verdict {
    let retry = |is_in_doubt, is_leader_stale| Verdict::Retry {
        is_in_doubt,
        is_leader_stale,
        is_soon: false,
    };
    match code {
        // A duplicate is in the log, at an offset that the broker no longer knows.
        ErrorCode::None | ErrorCode::DuplicateSequenceNumber => Verdict::Written,
        ErrorCode::OutOfOrderSequenceNumber if !is_oldest => retry(false, false),
        ErrorCode::UnknownProducerId => Verdict::Renumber,
        // The last transaction's markers are still being written. KIP-890.
        ErrorCode::ConcurrentTransactions => {
            Verdict::Retry { is_in_doubt: false, is_leader_stale: false, is_soon: true }
        }
        // Said before anything is appended.
        ErrorCode::NotEnoughReplicas
        | ErrorCode::CorruptMessage
        | ErrorCode::ThrottlingQuotaExceeded => retry(false, false),
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::LeaderNotAvailable
        | ErrorCode::UnknownTopicId
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::UnknownLeaderEpoch => retry(false, true),
        // Said after: the append stands, only its replication is not certain.
        ErrorCode::NotEnoughReplicasAfterAppend | ErrorCode::RequestTimedOut => retry(true, false),
        // Said before, or after, by a leader that was deposed while replicas caught up.
        code if code.is_retriable() => retry(true, true),
        _ => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(epoch: i16) -> Stamp {
        Stamp { producer_id: ProducerId(9), producer_epoch: ProducerEpoch(epoch) }
    }

    #[test]
    fn records_are_numbered_without_gaps_and_anew_in_a_new_epoch() {
        let mut numbering = Numbering::default();
        numbering.adopt(stamp(0));
        assert_eq!(numbering.assign(3), (stamp(0), Sequence(0)));
        assert_eq!(numbering.assign(2), (stamp(0), Sequence(3)));
        numbering.adopt(stamp(0));
        assert_eq!(numbering.assign(1), (stamp(0), Sequence(5)));
        numbering.adopt(stamp(1));
        assert_eq!(numbering.assign(1), (stamp(1), Sequence(0)));
    }

    #[test]
    fn without_idempotence_nothing_is_numbered() {
        let mut numbering = Numbering::default();
        assert_eq!(numbering.assign(3), (Stamp::NONE, Sequence::NONE));
        assert_eq!(numbering.assign(3), (Stamp::NONE, Sequence::NONE));
    }

    #[test]
    fn the_last_epoch_is_kept_for_fencing() {
        assert_eq!(stamp(0).next_epoch(), Some(stamp(1)));
        assert_eq!(stamp(i16::MAX - 2).next_epoch(), Some(stamp(i16::MAX - 1)));
        assert_eq!(stamp(i16::MAX - 1).next_epoch(), None);
        assert_eq!(Stamp::NONE.next_epoch(), None);
    }

    #[test]
    fn a_gap_is_refused_only_for_the_oldest_batch() {
        let code = ErrorCode::OutOfOrderSequenceNumber;
        assert_eq!(judge(code, true), Verdict::Refused);
        let retry = Verdict::Retry { is_in_doubt: false, is_leader_stale: false, is_soon: false };
        assert_eq!(judge(code, false), retry);
    }

    #[test]
    fn a_batch_that_may_be_in_the_log_is_never_called_absent() {
        for code in [
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::RequestTimedOut,
            ErrorCode::NotEnoughReplicasAfterAppend,
            ErrorCode::KafkaStorageError,
        ] {
            let verdict = judge(code, true);
            assert!(matches!(verdict, Verdict::Retry { is_in_doubt: true, .. }), "{code}");
        }
        assert_eq!(judge(ErrorCode::MessageTooLarge, true), Verdict::Refused);
        assert_eq!(judge(ErrorCode::DuplicateSequenceNumber, true), Verdict::Written);
    }
}
