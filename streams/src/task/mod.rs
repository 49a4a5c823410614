//! One sub-topology for one partition: the unit of work.
//!
//! | phase | event | next | what happens |
//! |---|---|---|---|
//! | open | `feed` | open | records wait in their input's queue |
//! | open | `process`, `punctuate` | open | records pass through the operators; the outbox fills |
//! | open | `prepare_commit` | prepared | changelogs are flushed into the outbox; offsets and witness are given |
//! | prepared | `settle(Committed)` | open | overlays become the base |
//! | open, prepared | `settle(Aborted)` | open | overlays are undone, queues emptied, times turned back |
//!
//! With several inputs the record of the smallest event time goes first, ties by the order of the
//! inputs; where the pace asks for it, an empty input that is known to hold more is waited for
//! (KIP-695). The order is then the same however the records arrived.
//!
//! The owner carries out the effects: it produces what is in the outbox and commits the offsets,
//! all in one transaction. Pure.

pub mod commit;
pub(crate) mod queue;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use protocol::ids::{Offset, PartitionIndex, TopicPartition};
use protocol::time::{Now, Timestamp};

use self::commit::{Outcome, Phase, Witness};
use self::queue::Input;
use crate::error::{Flow, StreamsError};
use crate::processor::{Counters, Punctuate, TaskContext, wire};
use crate::record::{InputRecord, Outbox, Placement, TopicIndex};
use crate::store::{AnyStore, Changelog, Shared};
use crate::topology::Topology;

/// Whether to wait for inputs that are empty here but not on the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Process what is there.
    AsFed,
    /// Wait until every input has a record or is read to its end. KIP-695.
    ByTime,
}

/// An offset to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOffset {
    /// The input.
    pub topic: TopicIndex,
    /// Its partition, by its name on the broker.
    pub partition: TopicPartition,
    /// The next offset to process.
    pub offset: Offset,
    /// The witness, as text.
    pub metadata: String,
}

/// A store of a task.
struct TaskStore {
    name: Arc<str>,
    changelog: TopicIndex,
    typed: Rc<dyn Any>,
    any: Shared<dyn AnyStore>,
}

/// The times that a commit makes permanent.
#[derive(Debug, Clone)]
struct Times {
    stream_time: Timestamp,
    operators: Vec<Timestamp>,
}

/// One sub-topology for one partition.
pub struct TaskCore {
    partition: PartitionIndex,
    inputs: Vec<Input>,
    stores: Vec<TaskStore>,
    punctuators: Vec<Shared<dyn Punctuate>>,
    time_names: Vec<Arc<str>>,
    cx: TaskContext,
    pace: Pace,
    phase: Phase,
    /// How many commits the task has seen, all owners together.
    commits: u64,
    writer: u64,
    committed_times: Times,
}

impl TaskCore {
    /// The task of sub-topology number `subtopology` for `partition`, of the application `app`, with
    /// empty stores and all inputs at offset 0. `writer` marks its commits as this owner's.
    #[must_use]
    pub fn new(
        topology: &Topology,
        subtopology: usize,
        partition: PartitionIndex,
        app: &str,
        pace: Pace,
        writer: u64,
    ) -> Self {
        let part = &topology.subtopologies[subtopology];
        let full = |topic: TopicIndex| {
            TopicPartition::new(topology.topic(topic).full_name(app), partition.0)
        };
        let wired = wire(&topology.graph, part, full(part.inputs[0]));
        let mut sources = wired.sources;
        let inputs = part.inputs.iter().map(|&topic| {
            let of_topic = sources.extract_if(.., |(of, _)| *of == topic);
            Input::new(topic, full(topic), of_topic.map(|(_, source)| source).collect())
        });
        let inputs = inputs.collect();
        let stores = wired.stores.into_iter().map(|(index, (typed, any))| {
            let spec = &topology.graph.stores[index.0];
            TaskStore { name: spec.name.clone(), changelog: spec.changelog, typed, any }
        });
        let committed_times =
            Times { stream_time: Timestamp::NONE, operators: wired.cx.times.clone() };
        Self {
            partition,
            inputs,
            stores: stores.collect(),
            punctuators: wired.punctuators,
            time_names: wired.times,
            cx: wired.cx,
            pace,
            phase: Phase::Open { changed: false },
            commits: 0,
            writer,
            committed_times,
        }
    }

    /// Lets go of the inputs that `keep` does not name: topics without this partition, or whose
    /// partition another member has. Right after `new`, if at all.
    pub fn retain_inputs(&mut self, keep: impl Fn(TopicIndex) -> bool) {
        self.inputs.retain(|input| keep(input.topic));
    }

    /// The partition this task is for.
    #[must_use]
    pub fn partition(&self) -> PartitionIndex {
        self.partition
    }

    /// Its inputs.
    pub fn inputs(&self) -> impl Iterator<Item = (TopicIndex, &TopicPartition)> {
        self.inputs.iter().map(|input| (input.topic, &input.partition))
    }

    /// The changelogs it must be restored from before it runs.
    pub fn changelogs(&self) -> impl Iterator<Item = TopicIndex> {
        self.stores.iter().map(|store| store.changelog)
    }

    /// Applies a committed record of a changelog, in the order of the changelog, before anything is
    /// processed.
    ///
    /// # Errors
    /// `Restore` if the record is not ours or the changelog unknown. Retrying does not help.
    pub fn restore(&mut self, changelog: TopicIndex, key: &Bytes, value: Option<&Bytes>) -> Flow {
        let store = self.stores.iter().find(|store| store.changelog == changelog);
        let Some(store) = store else {
            let name = Arc::from(format!("changelog number {}", changelog.0));
            return Err(Box::new(StreamsError::UnknownStore(name)));
        };
        let restored = store.any.borrow_mut().restore(key, value);
        restored
            .map_err(|source| Box::new(StreamsError::Restore { store: store.name.clone(), source }))
    }

    /// Continues where the last owner's commit left off: the offset and metadata of each input, as
    /// the group's coordinator has them. An input without offset begins where `fallback` says.
    pub fn resume(
        &mut self,
        committed: &[(TopicIndex, Offset, &str)],
        fallback: impl Fn(TopicIndex) -> Offset,
    ) {
        for input in &mut self.inputs {
            let known = committed.iter().find(|(topic, ..)| *topic == input.topic);
            input.seek(known.map_or_else(|| fallback(input.topic), |(_, offset, _)| *offset));
        }
        let witnesses = committed.iter().filter_map(|(.., text)| Witness::decode(text));
        // An input that joined later carries an older witness: the newest speaks for the task.
        let Some(witness) = witnesses.max_by_key(|witness| witness.commit) else { return };
        self.commits = witness.commit;
        let of = |name| witness.times.get(name).copied().unwrap_or(Timestamp::NONE);
        let operators = self.time_names.iter().map(of).collect();
        self.committed_times = Times { stream_time: witness.stream_time, operators };
        self.turn_back_times();
    }

    /// Takes records fetched from an input. `next` is where its next fetch begins, `end` the last
    /// stable offset if the fetch told it.
    pub fn feed(
        &mut self,
        topic: TopicIndex,
        records: impl IntoIterator<Item = InputRecord>,
        next: Offset,
        end: Option<Offset>,
    ) {
        if let Some(input) = self.inputs.iter_mut().find(|input| input.topic == topic) {
            input.feed(records, next, end);
        }
    }

    /// How many records of an input wait: when it is many, fetch no more for now.
    #[must_use]
    pub fn buffered(&self, topic: TopicIndex) -> usize {
        self.inputs.iter().find(|input| input.topic == topic).map_or(0, Input::len)
    }

    /// Processes up to `max` records; gives how many there were. 0: wait for more.
    ///
    /// # Errors
    /// What an operator or codec refused and no policy forgave. The transaction must be aborted.
    pub fn process(&mut self, now: Now, max: usize) -> Flow<usize> {
        assert!(matches!(self.phase, Phase::Open { .. }), "a prepared commit is settled first");
        self.cx.wall = now.wall;
        let forgiven_before = self.cx.counters;
        let mut count = 0;
        while count < max {
            let Some(chosen) = self.choose()? else { break };
            let before = self.cx.stream_time;
            self.inputs[chosen].process_head(&mut self.cx)?;
            count += 1;
            if before < self.cx.stream_time {
                for punctuator in &self.punctuators {
                    punctuator.borrow_mut().stream_time(before, &mut self.cx)?;
                }
            }
        }
        if self.cx.counters != forgiven_before {
            self.phase = Phase::Open { changed: true };
        }
        Ok(count)
    }

    /// Whose turn it is.
    fn choose(&mut self) -> Flow<Option<usize>> {
        let mut first: Option<(Timestamp, usize)> = None;
        let mut waits = false;
        for (index, input) in self.inputs.iter_mut().enumerate() {
            match input.decode_head(&mut self.cx)? {
                Some(at) if first.is_none_or(|(best, _)| at < best) => first = Some((at, index)),
                Some(_) => {}
                None => waits |= self.pace == Pace::ByTime && !input.is_caught_up(),
            }
        }
        Ok(first.filter(|_| !waits).map(|(_, index)| index))
    }

    /// Lets wall-clock punctuations run that are due.
    ///
    /// # Errors
    /// What a processor refused. The transaction must be aborted.
    pub fn punctuate(&mut self, now: Now) -> Flow {
        assert!(matches!(self.phase, Phase::Open { .. }), "a prepared commit is settled first");
        self.cx.wall = now.wall;
        for punctuator in &self.punctuators {
            punctuator.borrow_mut().wall_time(&mut self.cx)?;
        }
        if !self.cx.outbox.is_empty() {
            self.phase = Phase::Open { changed: true };
        }
        Ok(())
    }

    /// When `punctuate` is due next, by the wall clock.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.punctuators.iter().filter_map(|punctuator| punctuator.borrow().wake_at()).min()
    }

    /// What is to be produced, in order. Empty it when that is done.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.cx.outbox
    }

    /// Flushes the changelogs into the outbox and gives what to commit: the offset of every input.
    /// `None` if nothing happened since the last commit. Nothing may be processed until
    /// [`TaskCore::settle`].
    ///
    /// # Errors
    /// When a store cannot be encoded. The transaction must be aborted.
    pub fn prepare_commit(&mut self) -> Flow<Option<Vec<CommitOffset>>> {
        let Phase::Open { mut changed } = self.phase else {
            panic!("a prepared commit is settled before the next");
        };
        let stream_time = self.cx.stream_time;
        for store in &self.stores {
            let placement = Placement::Exactly(self.partition);
            let changelog = Changelog { topic: store.changelog, placement, stream_time };
            store.any.borrow_mut().flush(changelog, &mut self.cx.outbox)?;
        }
        changed |= !self.cx.outbox.is_empty();
        // Markers and aborted records are passed over without being processed; whoever waits for
        // the end of an input waits for these too.
        changed |= self.inputs.iter().any(|input| input.position() > input.committed());
        if !changed {
            return Ok(None);
        }
        let times = self.time_names.iter().cloned().zip(self.cx.times.iter().copied());
        let times: BTreeMap<_, _> = times.collect();
        let (writer, commit) = (self.writer, self.commits + 1);
        let witness = Witness { writer, commit, stream_time, times };
        let metadata = witness.encode();
        self.phase = Phase::Prepared(witness);
        let offsets = self.inputs.iter().map(|input| CommitOffset {
            topic: input.topic,
            partition: input.partition.clone(),
            offset: input.position(),
            metadata: metadata.clone(),
        });
        Ok(Some(offsets.collect()))
    }

    /// True while a prepared commit waits for its outcome.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        matches!(self.phase, Phase::Prepared(_))
    }

    /// True if the metadata of this task's inputs shows no commit but those the task has seen:
    /// nobody else has had the task since.
    #[must_use]
    pub fn is_current<'a>(&self, metadata: impl IntoIterator<Item = &'a str>) -> bool {
        let commits = metadata.into_iter().filter_map(Witness::decode).map(|it| it.commit);
        commits.max().unwrap_or(0) == self.commits
    }

    /// How the prepared commit ended, judged by the metadata that the coordinator has for this
    /// task's inputs. Only true once the transaction is over: after the producer was initialised
    /// again, with offsets that are stable.
    #[must_use]
    pub fn outcome<'a>(&self, metadata: impl IntoIterator<Item = &'a str>) -> Outcome {
        let Phase::Prepared(ours) = &self.phase else { return Outcome::Aborted };
        let mut witnesses = metadata.into_iter().filter_map(Witness::decode);
        let found =
            witnesses.any(|witness| (witness.writer, witness.commit) == (ours.writer, ours.commit));
        if found { Outcome::Committed } else { Outcome::Aborted }
    }

    /// Ends the transaction. After an abort every input continues at its committed position:
    /// fetch from there again.
    pub fn settle(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Committed => {
                assert!(self.is_prepared(), "only what was prepared can be committed");
                assert!(self.cx.outbox.is_empty(), "what is committed was produced before");
                self.stores.iter().for_each(|store| store.any.borrow_mut().commit());
                for input in &mut self.inputs {
                    input.commit(input.position());
                }
                self.commits += 1;
                self.committed_times =
                    Times { stream_time: self.cx.stream_time, operators: self.cx.times.clone() };
            }
            Outcome::Aborted => {
                self.cx.outbox.clear();
                self.stores.iter().for_each(|store| store.any.borrow_mut().rollback());
                for input in &mut self.inputs {
                    input.seek(input.committed());
                }
                self.turn_back_times();
            }
        }
        self.phase = Phase::Open { changed: false };
    }

    fn turn_back_times(&mut self) {
        self.cx.stream_time = self.committed_times.stream_time;
        self.cx.times.clone_from(&self.committed_times.operators);
    }

    /// Where the next fetch of each input begins.
    pub fn positions(&self) -> impl Iterator<Item = (TopicIndex, Offset)> {
        self.inputs.iter().map(|input| (input.topic, input.fetched()))
    }

    /// Which offset of each input is committed.
    pub fn committed(&self) -> impl Iterator<Item = (&TopicPartition, Offset)> {
        self.inputs.iter().map(|input| (&input.partition, input.committed()))
    }

    /// What the task counted since it was made. Aborted work counts too.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.cx.counters
    }

    /// The largest event time the task has seen. -1: none.
    #[must_use]
    pub fn stream_time(&self) -> Timestamp {
        self.cx.stream_time
    }

    /// A store by name and type.
    pub(crate) fn store<S: 'static>(&self, name: &str) -> Option<Shared<S>> {
        let store = self.stores.iter().find(|store| *store.name == *name)?;
        store.typed.clone().downcast().ok()
    }
}

impl fmt::Debug for TaskCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskCore")
            .field("partition", &self.partition)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
