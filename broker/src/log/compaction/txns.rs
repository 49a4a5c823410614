//! Which transactions the batches of a log belong to, read from its beginning in order.
//!
//! Records of aborted transactions are known by the list of those, before their marker is reached.
//! A marker is needed while there is a batch of its transaction, empty or not; after that it says
//! nothing any more. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::ids::ProducerId;
use protocol::record::{BatchHeader, ControlRecord};

use crate::log::producers::AbortedTxn;

/// The transactions around one place of a log.
#[derive(Debug, Default)]
pub(super) struct CleanedTxns {
    /// Those that were aborted and begin further on, by first offset.
    ahead: VecDeque<AbortedTxn>,
    /// Those that were aborted and are open here, and whether a batch of theirs was met.
    aborted: BTreeMap<ProducerId, (AbortedTxn, bool)>,
    /// Producers with batches in a transaction that is open here and was not aborted.
    committed: BTreeSet<ProducerId>,
    /// Aborted ones whose markers were passed and are needed, in the order of markers.
    needed: Vec<AbortedTxn>,
}

impl CleanedTxns {
    /// At the beginning of a log with these aborted transactions, by first offset.
    pub(super) fn new(aborted: Vec<AbortedTxn>) -> Self {
        Self { ahead: aborted.into(), ..Self::default() }
    }

    /// Passes a data batch. True when its transaction was aborted.
    pub(super) fn on_batch(&mut self, header: &BatchHeader) -> bool {
        self.advance(header);
        if !header.attributes.is_transactional() {
            return false;
        }
        if let Some((_, is_met)) = self.aborted.get_mut(&header.producer_id) {
            *is_met = true;
            return true;
        }
        self.committed.insert(header.producer_id);
        false
    }

    /// Passes a control batch that says `control`. True when nothing depends on it any more.
    pub(super) fn on_control(
        &mut self,
        header: &BatchHeader,
        control: Option<ControlRecord>,
    ) -> bool {
        self.advance(header);
        match control {
            Some(ControlRecord::Abort { .. }) => match self.aborted.remove(&header.producer_id) {
                Some((txn, true)) => {
                    self.needed.push(txn);
                    false
                }
                Some((_, false)) | None => true,
            },
            Some(ControlRecord::Commit { .. }) => !self.committed.remove(&header.producer_id),
            // What is not understood is not ours to take away.
            Some(ControlRecord::Unknown(_)) => false,
            None => true,
        }
    }

    /// The aborted transactions whose markers were passed since the last call and stay needed.
    pub(super) fn take_needed(&mut self) -> Vec<AbortedTxn> {
        std::mem::take(&mut self.needed)
    }

    fn advance(&mut self, header: &BatchHeader) {
        while let Some(txn) =
            self.ahead.pop_front_if(|txn| txn.first_offset <= header.last_offset())
        {
            self.aborted.insert(txn.producer_id, (txn, false));
        }
    }
}
