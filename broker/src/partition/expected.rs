//! Where producers go on of whom everything was forgotten.
//!
//! A partition that knows nothing of a producer takes whatever batch of it comes first (KIP-360).
//! After a full disk that would let the second of two batches in before the first, which its
//! producer sends again: what is expected next is remembered for a while. Pure.

use std::collections::BTreeMap;

use protocol::ids::{ProducerEpoch, ProducerId, Sequence};
use protocol::record::BatchHeader;

use crate::log::{Producers, SequenceError};

/// By producer: its epoch, and the sequence of the first batch that was forgotten. No larger than
/// what the partition knew of producers.
#[derive(Debug, Default)]
pub(super) struct Expected(BTreeMap<ProducerId, (ProducerEpoch, Sequence)>);

impl Expected {
    /// `known` is replaced by what is `left` on disk.
    pub(super) fn note(&mut self, known: &Producers, left: &Producers) {
        for (id, producer) in known.iter().filter(|(id, _)| left.known(*id).is_none()) {
            if let Some(sequence) = producer.first_sequence() {
                self.0.insert(id, (producer.epoch(), sequence));
            }
        }
    }

    /// Whether a batch may come now.
    pub(super) fn check(&self, header: &BatchHeader) -> Result<(), SequenceError> {
        let BatchHeader { producer_id, producer_epoch, base_sequence: got, .. } = *header;
        match self.0.get(&producer_id) {
            Some(&(epoch, expected)) if producer_epoch == epoch && got != expected => {
                Err(SequenceError::OutOfOrder { producer_id, expected, got })
            }
            _ => Ok(()),
        }
    }

    /// It came: from now on the log knows.
    pub(super) fn came(&mut self, producer_id: ProducerId) {
        self.0.remove(&producer_id);
    }

    /// Nobody sends again what was refused so long ago.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}
