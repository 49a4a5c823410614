//! The records of one input, waiting for their turn.
//!
//! The first record is decoded ahead, because its event time decides whose turn it is. What may be
//! committed is the offset of the first record that was not processed, or, with none waiting, the
//! position of the fetch: markers of transactions take offsets too, so counting records would
//! commit too little (KAFKA-6607). Pure.

use std::collections::VecDeque;

use protocol::ids::{Offset, TopicPartition};
use protocol::time::Timestamp;

use crate::error::Flow;
use crate::processor::{Source, TaskContext};
use crate::record::{InputRecord, TopicIndex};

/// One input of a task.
///
/// Invariant: `head` precedes all of `waiting`, whose offsets ascend and lie below `fetched`.
pub(crate) struct Input {
    pub(crate) topic: TopicIndex,
    pub(crate) partition: TopicPartition,
    sources: Vec<Box<dyn Source>>,
    head: Option<(InputRecord, Timestamp)>,
    waiting: VecDeque<InputRecord>,
    /// Where the next fetch continues.
    fetched: Offset,
    /// Where the partition ended when last heard of. `None`: not heard yet.
    end: Option<Offset>,
    committed: Offset,
}

impl Input {
    pub(crate) fn new(
        topic: TopicIndex,
        partition: TopicPartition,
        sources: Vec<Box<dyn Source>>,
    ) -> Self {
        Self {
            topic,
            partition,
            sources,
            head: None,
            waiting: VecDeque::new(),
            fetched: Offset::ZERO,
            end: None,
            committed: Offset::ZERO,
        }
    }

    /// Begins at `offset`, with nothing waiting.
    pub(crate) fn seek(&mut self, offset: Offset) {
        self.head = None;
        self.waiting.clear();
        self.fetched = offset;
        self.committed = offset;
        self.end = None;
    }

    /// Takes fetched records. Those below the position are known already and are passed over.
    pub(crate) fn feed(
        &mut self,
        records: impl IntoIterator<Item = InputRecord>,
        next: Offset,
        end: Option<Offset>,
    ) {
        let from = self.fetched;
        self.waiting.extend(records.into_iter().filter(|record| record.offset >= from));
        self.fetched = self.fetched.max(next);
        if let Some(last) = self.waiting.back() {
            assert!(last.offset < self.fetched, "{}: a record beyond the fetch", self.partition);
        }
        self.end = end.or(self.end);
    }

    /// Decodes records until one is fit to be processed; gives its event time. The others, which a
    /// policy forgave, count as processed.
    pub(crate) fn decode_head(&mut self, cx: &mut TaskContext) -> Flow<Option<Timestamp>> {
        while self.head.is_none() {
            let Some(record) = self.waiting.pop_front() else { return Ok(None) };
            if cx.source != self.partition {
                cx.source = self.partition.clone();
            }
            let mut at = None;
            for source in &mut self.sources {
                let decoded = source.decode(&record, cx)?;
                at = at.or(decoded);
            }
            match at {
                Some(at) => self.head = Some((record, at)),
                None => cx.counters.processed += 1,
            }
        }
        Ok(self.head.as_ref().map(|(_, at)| *at))
    }

    /// Sends the head through the operators. There must be one.
    pub(crate) fn process_head(&mut self, cx: &mut TaskContext) -> Flow {
        let (record, at) = self.head.take().expect("the head was chosen");
        if cx.source != self.partition {
            cx.source = self.partition.clone();
        }
        cx.current = Some(record);
        cx.stream_time = cx.stream_time.max(at);
        cx.counters.processed += 1;
        self.sources.iter_mut().try_for_each(|source| source.run(cx))
    }

    /// The first offset that is not processed.
    pub(crate) fn position(&self) -> Offset {
        let head = self.head.as_ref().map(|(record, _)| record.offset);
        head.or(self.waiting.front().map(|record| record.offset)).unwrap_or(self.fetched)
    }

    /// Where to fetch from next.
    pub(crate) fn fetched(&self) -> Offset {
        self.fetched
    }

    /// How many records wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.head.is_some())
    }

    /// True if all that the partition was known to hold has been fetched.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.end.is_some_and(|end| self.fetched >= end)
    }

    /// The position that is committed.
    pub(crate) fn committed(&self) -> Offset {
        self.committed
    }

    pub(crate) fn commit(&mut self, offset: Offset) {
        assert!(self.committed <= offset, "{}: a commit that goes back", self.partition);
        self.committed = offset;
    }
}
