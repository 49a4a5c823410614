//! How far one partition was delivered to a sink, and what of that may be committed.
//!
//! Position, fetch position, what the sink took and what it calls durable are four offsets; only together do they tell
//! what is safe to commit. Ends are exclusive. Pure.

use std::collections::BTreeSet;

use protocol::mutant::{Mutant, is_active};

use crate::sdk::{Offset, SinkBatch};

/// How far an open partition was delivered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delivery {
    /// Behind the last record put, or where to start; `None`: wherever fetching starts.
    pub(crate) position: Option<Offset>,
    /// How far was fetched: behind the last record, and behind what is no record (markers, compacted ones).
    pub(crate) fetched: Option<Offset>,
    /// Behind the last record put that the sink took, once it took one.
    put: Option<Offset>,
    /// Up to where the sink says that all is durable.
    durable: Option<Offset>,
    pub(crate) committed: Option<Offset>,
    /// With another member: nothing of it may be committed here.
    pub(crate) is_lost: bool,
}

impl Delivery {
    /// What may be committed. Behind the last durable record come only offsets that are no records: nothing
    /// is lost by committing them too, and who looks at the group's lag sees none.
    pub(crate) fn committable(&self) -> Option<Offset> {
        let is_all_durable =
            self.put.is_none_or(|put| self.durable.is_some_and(|durable| put <= durable));
        let is_all_durable = is_all_durable || is_active(Mutant::CommitUndurable);
        let up_to = if is_all_durable { self.position } else { self.durable };
        up_to.filter(|_| !self.is_lost).filter(|up_to| Some(*up_to) > self.committed)
    }

    /// One that begins at what the group committed.
    pub(crate) fn opened(committed: Option<Offset>) -> Self {
        Self { position: committed, committed, ..Self::default() }
    }

    /// The batch was put, and its refused records dealt with.
    pub(crate) fn delivered(&mut self, batch: &SinkBatch, rejected: &BTreeSet<Offset>) {
        assert!(self.position <= batch.end(), "{} was delivered backwards", batch.partition);
        self.position = batch.end();
        // The sink need not make refused records durable.
        let taken = batch.records.iter().rfind(|record| !rejected.contains(&record.offset));
        self.put = taken.map(|record| record.offset.plus(1)).or(self.put);
    }

    /// The sink says that all below `offset` is durable.
    pub(crate) fn made_durable(&mut self, offset: Offset) {
        self.durable = self.durable.max(Some(offset));
    }

    /// All that was fetched is put: what lies behind up to the fetch position is no record.
    pub(crate) fn pass_over(&mut self) {
        self.position = self.position.max(self.fetched);
    }

    /// Asserts that no more was put than delivered.
    pub(crate) fn check(&self) {
        assert!(self.put.is_none() || self.put <= self.position, "{self:?}");
    }
}
