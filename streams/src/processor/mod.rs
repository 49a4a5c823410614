//! How a topology becomes something that runs: typed operators that push records to one another.
//!
//! An edge is one `Box<dyn Push<K, V>>`: one virtual call per operator and record, values typed and
//! moved, no queue, no future, no `Any`. Types are forgotten once, in the graph's factories, and
//! found again once per task, while [`Instance`] wires the operators of a sub-topology.
//!
//! Invariant: the graph has no cycle, so no operator is entered while it runs; the shared operators
//! below a merge rely on it. Pure.

pub mod aggregate;
pub mod custom;
pub(crate) mod source;
pub(crate) mod stateless;
pub(crate) mod table;
pub(crate) mod window_aggregate;

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use protocol::ids::{Offset, TopicPartition};
use protocol::time::Timestamp;

use crate::codec::BoxError;
use crate::error::{ErrorPolicy, Flow, StreamsError};
use crate::record::{Headers, InputRecord, Outbox, Record, RecordContext, TopicIndex};
use crate::store::{AnyStore, Shared};
use crate::topology::{Graph, NodeId, NodeKind, PolicyScope, StoreIndex, Subtopology, TopicKind};

/// What takes a record from the operator above.
pub(crate) trait Push<K, V> {
    fn push(&mut self, record: Record<K, V>, cx: &mut TaskContext) -> Flow;
}

/// An edge.
pub(crate) type Next<K, V> = Box<dyn Push<K, V>>;

/// The head of a sub-topology: turns bytes into typed records.
pub(crate) trait Source {
    /// Decodes a record and keeps it; gives its event time, or nothing if it goes no further.
    fn decode(&mut self, record: &InputRecord, cx: &mut TaskContext) -> Flow<Option<Timestamp>>;
    /// Sends the record that is kept, if any, through the operators below.
    fn run(&mut self, cx: &mut TaskContext) -> Flow;
}

/// What acts when time passes.
pub(crate) trait Punctuate {
    /// Stream time moved from `before` to `cx.stream_time`.
    fn stream_time(&mut self, before: Timestamp, cx: &mut TaskContext) -> Flow;
    /// The wall clock shows `cx.wall`.
    fn wall_time(&mut self, cx: &mut TaskContext) -> Flow;
    /// When `wall_time` is due next.
    fn wake_at(&self) -> Option<Timestamp>;
}

/// What a task counts. All only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records taken from the inputs.
    pub processed: u64,
    /// Records dropped because their key or value was null.
    pub dropped_null: u64,
    /// Windows that a record came too late for.
    pub dropped_late: u64,
    /// Records that a policy skipped.
    pub skipped: u64,
    /// Records that a policy sent to a dead-letter topic.
    pub dead_lettered: u64,
}

impl Counters {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            processed: self.processed + other.processed,
            dropped_null: self.dropped_null + other.dropped_null,
            dropped_late: self.dropped_late + other.dropped_late,
            skipped: self.skipped + other.skipped,
            dead_lettered: self.dead_lettered + other.dead_lettered,
        }
    }
}

/// Where an operator keeps its own stream time within a task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeSlot(usize);

/// What the operators of a task share while a record passes through them.
#[derive(Debug)]
pub(crate) struct TaskContext {
    pub(crate) outbox: Outbox,
    /// The largest event time seen by the task. -1: none.
    pub(crate) stream_time: Timestamp,
    pub(crate) wall: Timestamp,
    /// The largest event time seen by each windowed operator. -1: none.
    pub(crate) times: Vec<Timestamp>,
    pub(crate) source: TopicPartition,
    pub(crate) current: Option<InputRecord>,
    pub(crate) counters: Counters,
}

impl TaskContext {
    fn new(source: TopicPartition) -> Self {
        Self {
            outbox: Outbox::default(),
            stream_time: Timestamp::NONE,
            wall: Timestamp(0),
            times: Vec::new(),
            source,
            current: None,
            counters: Counters::default(),
        }
    }

    pub(crate) fn offset(&self) -> Offset {
        self.current.as_ref().map_or(Offset::NONE, |record| record.offset)
    }

    /// The surroundings of a record with this event time and these headers.
    pub(crate) fn around<'a>(
        &'a self,
        timestamp: Timestamp,
        headers: &'a Headers,
    ) -> RecordContext<'a> {
        RecordContext { partition: &self.source, offset: self.offset(), timestamp, headers }
    }

    /// Moves an operator's stream time forward; gives it before and after.
    pub(crate) fn observe(&mut self, slot: TimeSlot, at: Timestamp) -> (Timestamp, Timestamp) {
        let time = &mut self.times[slot.0];
        let before = *time;
        *time = before.max(at);
        (before, *time)
    }

    /// An operator's refusal of the record in hand.
    pub(crate) fn refusal(&self, node: &Arc<str>, source: BoxError) -> Box<StreamsError> {
        Box::new(StreamsError::Process {
            node: node.clone(),
            partition: self.source.clone(),
            offset: self.offset(),
            source,
        })
    }

    /// Does with an error over the record in hand what the policy says.
    pub(crate) fn resolve(&mut self, policy: Policy, error: Box<StreamsError>) -> Flow {
        let Some(record) = self.current.take() else { return Err(error) };
        let resolved = self.resolve_over(policy, error, &record);
        self.current = Some(record);
        resolved
    }

    /// Does with an error over an input record what the policy says.
    pub(crate) fn resolve_over(
        &mut self,
        policy: Policy,
        error: Box<StreamsError>,
        record: &InputRecord,
    ) -> Flow {
        match policy {
            Policy::Fail => Err(error),
            Policy::Skip => {
                self.counters.skipped += 1;
                Ok(())
            }
            Policy::DeadLetter(topic) => {
                let mut headers = record.headers.clone();
                let mut add = |name: &str, text: String| {
                    headers.push(format!("__streams.errors.{name}"), Some(Bytes::from(text)));
                };
                add("message", error.to_string());
                add("topic", self.source.topic.to_string());
                add("partition", self.source.partition.to_string());
                add("offset", record.offset.to_string());
                self.outbox.write_raw(topic, record, headers);
                self.counters.dead_lettered += 1;
                Ok(())
            }
        }
    }
}

/// An error policy with its topic found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Policy {
    Fail,
    Skip,
    DeadLetter(TopicIndex),
}

/// A factory of an operator that takes `K` and `V`, as the graph keeps it.
pub(crate) struct Make<K, V>(
    #[allow(clippy::type_complexity, reason = "the one place where this type is written")]
    pub(crate) Box<dyn Fn(&mut Instance<'_>, NodeId) -> Next<K, V> + Send + Sync>,
);

/// A factory of a source, as the graph keeps it.
pub(crate) struct MakeSource(
    #[allow(clippy::type_complexity, reason = "the one place where this type is written")]
    pub(crate) Box<dyn Fn(&mut Instance<'_>, NodeId) -> Box<dyn Source> + Send + Sync>,
);

/// A store in both its forms: typed for operators, untyped for the task.
pub(crate) type TwoFaced = (Rc<dyn Any>, Shared<dyn AnyStore>);

/// A factory of a store, as the graph keeps it.
pub(crate) struct MakeStore(pub(crate) Box<dyn Fn() -> TwoFaced + Send + Sync>);

/// A sub-topology in the making, for one task.
pub(crate) struct Instance<'g> {
    graph: &'g Graph,
    stores: BTreeMap<StoreIndex, TwoFaced>,
    shared: BTreeMap<NodeId, Rc<dyn Any>>,
    times: Vec<Arc<str>>,
    punctuators: Vec<Shared<dyn Punctuate>>,
}

/// A sub-topology wired for one task.
pub(crate) struct Wired {
    /// Sources by the topic they read, in order of declaration.
    pub(crate) sources: Vec<(TopicIndex, Box<dyn Source>)>,
    pub(crate) stores: BTreeMap<StoreIndex, TwoFaced>,
    /// Names of the operators that keep a stream time; the context's times follow this order.
    pub(crate) times: Vec<Arc<str>>,
    pub(crate) punctuators: Vec<Shared<dyn Punctuate>>,
    pub(crate) cx: TaskContext,
}

/// Wires the operators of `part` for one task whose records come from `source` first.
pub(crate) fn wire(graph: &Graph, part: &Subtopology, source: TopicPartition) -> Wired {
    let mut instance = Instance {
        graph,
        stores: BTreeMap::new(),
        shared: BTreeMap::new(),
        times: Vec::new(),
        punctuators: Vec::new(),
    };
    // Stores first: those that only a processor's later calls reach must exist too.
    for &store in &part.stores {
        instance.faces(store);
    }
    let mut sources = Vec::new();
    for &id in &part.sources {
        let NodeKind::Source(topic) = graph.nodes[id.0].kind else { continue };
        let make = graph.nodes[id.0].factory.downcast_ref::<MakeSource>();
        sources
            .push((topic, (make.expect("a source has a source's factory").0)(&mut instance, id)));
    }
    let mut cx = TaskContext::new(source);
    cx.times = vec![Timestamp::NONE; instance.times.len()];
    let Instance { stores, times, punctuators, .. } = instance;
    Wired { sources, stores, times, punctuators, cx }
}

impl Instance<'_> {
    /// What lies below `node`: nothing, one operator, or several that each get a copy.
    pub(crate) fn below<K: Clone + 'static, V: Clone + 'static>(
        &mut self,
        node: NodeId,
    ) -> Next<K, V> {
        let children = self.graph.nodes[node.0].children.clone();
        match children.as_slice() {
            [] => Box::new(Nowhere),
            [child] => self.operator(*child),
            several => Box::new(Fan(several.iter().map(|&child| self.operator(child)).collect())),
        }
    }

    /// The operator of `id`: made anew, or shared if it has several parents.
    pub(crate) fn operator<K: 'static, V: 'static>(&mut self, id: NodeId) -> Next<K, V> {
        let node = &self.graph.nodes[id.0];
        let make = node.factory.downcast_ref::<Make<K, V>>().expect("edges are typed by the DSL");
        if node.parents.len() < 2 {
            return (make.0)(self, id);
        }
        if let Some(known) = self.shared.get(&id) {
            let known = known.clone().downcast::<RefCell<Next<K, V>>>();
            return Box::new(Joint(known.expect("a node takes one type of record")));
        }
        let joint = Rc::new(RefCell::new((make.0)(self, id)));
        self.shared.insert(id, joint.clone());
        Box::new(Joint(joint))
    }

    /// The child number `index` of `node`.
    pub(crate) fn child(&self, node: NodeId, index: usize) -> NodeId {
        self.graph.nodes[node.0].children[index]
    }

    /// A store by its index.
    pub(crate) fn store<S: 'static>(&mut self, index: StoreIndex) -> Shared<S> {
        let typed = self.faces(index).0.downcast::<RefCell<S>>();
        typed.expect("a store's index comes with its type")
    }

    /// A store by its name, its type not yet known.
    pub(crate) fn typed(&mut self, name: &str) -> Option<Rc<dyn Any>> {
        let index = self.graph.stores.iter().position(|store| *store.name == *name)?;
        Some(self.faces(StoreIndex(index)).0)
    }

    fn faces(&mut self, index: StoreIndex) -> TwoFaced {
        let spec = &self.graph.stores[index.0];
        let made = self.stores.entry(index).or_insert_with(|| {
            let make = spec.factory.downcast_ref::<MakeStore>();
            (make.expect("a store has a store's factory").0)()
        });
        made.clone()
    }

    /// A stream time of its own for the operator of the store `name`.
    pub(crate) fn time_slot(&mut self, name: &Arc<str>) -> TimeSlot {
        self.times.push(name.clone());
        TimeSlot(self.times.len() - 1)
    }

    /// Lets an operator act when time passes.
    pub(crate) fn punctuate(&mut self, punctuator: Shared<dyn Punctuate>) {
        self.punctuators.push(punctuator);
    }

    /// The policy of a scope.
    pub(crate) fn policy(&self, scope: PolicyScope) -> Policy {
        self.resolved(self.graph.policies[scope.0].as_ref())
    }

    /// A policy with its dead-letter topic found.
    pub(crate) fn resolved(&self, policy: Option<&ErrorPolicy>) -> Policy {
        match policy {
            None | Some(ErrorPolicy::Fail) => Policy::Fail,
            Some(ErrorPolicy::Skip) => Policy::Skip,
            Some(ErrorPolicy::DeadLetter(name)) => {
                let index = self
                    .graph
                    .topics
                    .iter()
                    .position(|topic| topic.kind == TopicKind::External && topic.name == *name);
                Policy::DeadLetter(TopicIndex(index.expect("the DSL declared the topic")))
            }
        }
    }
}

/// The end of a stream that nobody continues.
struct Nowhere;

impl<K, V> Push<K, V> for Nowhere {
    fn push(&mut self, _: Record<K, V>, _: &mut TaskContext) -> Flow {
        Ok(())
    }
}

/// Several operators below one: all but the last get a clone.
struct Fan<K, V>(Vec<Next<K, V>>);

impl<K: Clone, V: Clone> Push<K, V> for Fan<K, V> {
    fn push(&mut self, record: Record<K, V>, cx: &mut TaskContext) -> Flow {
        let (last, others) = self.0.split_last_mut().expect("a fan has several branches");
        for other in others {
            other.push(record.clone(), cx)?;
        }
        last.push(record, cx)
    }
}

/// An operator below several others.
struct Joint<K, V>(Rc<RefCell<Next<K, V>>>);

impl<K, V> Push<K, V> for Joint<K, V> {
    fn push(&mut self, record: Record<K, V>, cx: &mut TaskContext) -> Flow {
        self.0.borrow_mut().push(record, cx)
    }
}

/// An operator that is a closure.
struct Operator<F>(F);

impl<K, V, F: FnMut(Record<K, V>, &mut TaskContext) -> Flow> Push<K, V> for Operator<F> {
    fn push(&mut self, record: Record<K, V>, cx: &mut TaskContext) -> Flow {
        (self.0)(record, cx)
    }
}

/// Makes a closure an operator.
pub(crate) fn operator<K, V>(
    run: impl FnMut(Record<K, V>, &mut TaskContext) -> Flow + 'static,
) -> Next<K, V> {
    Box::new(Operator(run))
}

impl fmt::Debug for Instance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("times", &self.times).finish_non_exhaustive()
    }
}
