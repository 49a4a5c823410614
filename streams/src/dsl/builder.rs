//! The beginning of a topology: which topics are read. Pure.

use std::any::type_name;
use std::cell::RefCell;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;

use super::stream::KStream;
use super::table::KTable;
use crate::codec::{Store, Topic};
use crate::error::{BuildErrors, ErrorPolicy};
use crate::processor::source::{StreamSource, TableSource};
use crate::processor::table::materialise;
use crate::processor::{Instance, Make, MakeSource, MakeStore, Next, Source, TwoFaced};
use crate::store::{AnyStore, KvStore, Shared};
use crate::topology::{
    Graph, NodeId, NodeKind, Opaque, PolicyScope, StoreIndex, TopicKind, Topology,
};

/// Data that can travel through a topology: anything owned that can be cloned.
///
/// A clone is made only where a stream is used twice, or a value is both stored and passed on.
pub trait Data: Clone + 'static {}

impl<T: Clone + 'static> Data for T {}

/// Collects a topology. Mistakes are collected too and reported by [`StreamsBuilder::build`].
#[derive(Default)]
pub struct StreamsBuilder {
    pub(crate) graph: SharedGraph,
}

/// The graph that a builder and its streams add to.
pub(crate) type SharedGraph = Rc<RefCell<Graph>>;

impl StreamsBuilder {
    /// An empty topology.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `topic` as a stream: each record for itself.
    pub fn stream<K: Data, V: Data>(&self, topic: &Topic<K, V>) -> KStream<K, V> {
        source(&self.graph, topic, TopicKind::External)
    }

    /// Reads `topic` as a table: each record is the new value of its key, null deletes it. Kept in
    /// `store`. Records without a key are dropped and counted.
    pub fn table<K, V>(&self, topic: &Topic<K, V>, store: Store<K, V>) -> KTable<K, V>
    where
        K: Data + Hash + Eq,
        V: Data,
    {
        let mut graph = self.graph.borrow_mut();
        let index = add_store(&mut graph, &store);
        let (node, scope) = {
            let topic = topic.clone();
            add_source(&mut graph, &topic.clone(), TopicKind::External, move |parts| {
                let (policy, below) = parts;
                Box::new(TableSource::new(topic.clone(), policy, below))
            })
        };
        let make = move |instance: &mut Instance<'_>, id: NodeId| {
            materialise(instance.store::<KvStore<K, V>>(index), instance.below(id))
        };
        let factory = opaque::<K, Option<V>>(make);
        let node = graph.add(NodeKind::Operator, "table", &[node], &[index], factory);
        drop(graph);
        let changes = KStream::at(&self.graph, node, scope, None);
        KTable::stored(changes, store.name.clone(), true, index)
    }

    /// The finished topology.
    ///
    /// # Errors
    /// With every mistake in it, each with what to do instead.
    pub fn build(self) -> Result<Topology, BuildErrors> {
        // Streams may still hold the graph; they then point into an empty one.
        Topology::new(std::mem::take(&mut *self.graph.borrow_mut()))
    }
}

impl std::fmt::Debug for StreamsBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StreamsBuilder")
    }
}

/// Adds a source that reads `topic` as a stream.
pub(crate) fn source<K: Data, V: Data>(
    graph: &SharedGraph,
    topic: &Topic<K, V>,
    kind: TopicKind,
) -> KStream<K, V> {
    let topic = topic.clone();
    let (node, scope) = add_source(&mut graph.borrow_mut(), &topic.clone(), kind, move |parts| {
        let (policy, below) = parts;
        Box::new(StreamSource::new(topic.clone(), policy, below))
    });
    KStream::at(graph, node, scope, None)
}

/// Adds a source node whose records go below with values of type `W`.
fn add_source<K: Data, V: Data, W: Data>(
    graph: &mut Graph,
    topic: &Topic<K, V>,
    kind: TopicKind,
    make: impl Fn((crate::processor::Policy, Next<K, W>)) -> Box<dyn Source> + Send + Sync + 'static,
) -> (NodeId, PolicyScope) {
    let index = graph.topic(&topic.name, kind);
    let scope = graph.new_scope();
    let own = topic.policy.clone();
    if let Some(policy) = &own {
        declare_dead_letters(graph, policy);
    }
    let factory = MakeSource(Box::new(move |instance, id| {
        let policy = match &own {
            Some(own) => instance.resolved(Some(own)),
            None => instance.policy(scope),
        };
        let below = instance.below(id);
        make((policy, below))
    }));
    let node = graph.add(NodeKind::Source(index), "source", &[], &[], Arc::new(factory));
    (node, scope)
}

/// Makes the topic of a dead-letter policy known.
pub(crate) fn declare_dead_letters(graph: &mut Graph, policy: &ErrorPolicy) {
    if let ErrorPolicy::DeadLetter(name) = policy {
        graph.topic(name, TopicKind::External);
    }
}

/// Adds a key-value store.
pub(crate) fn add_store<K, V>(graph: &mut Graph, store: &Store<K, V>) -> StoreIndex
where
    K: Data + Hash + Eq,
    V: Data,
{
    let (name, nullable) = (store.name.clone(), store.key.accepts_null());
    let store = store.clone();
    let make = MakeStore(Box::new(move || two_faced(KvStore::new(&store))));
    graph.add_store(&name, nullable, type_name::<KvStore<K, V>>(), Arc::new(make))
}

/// A store in both its forms.
pub(crate) fn two_faced<S: AnyStore + 'static>(store: S) -> TwoFaced {
    let store = Rc::new(RefCell::new(store));
    let untyped: Shared<dyn AnyStore> = store.clone();
    (store, untyped)
}

/// Forgets the type of an operator's factory.
pub(crate) fn opaque<K: 'static, V: 'static>(
    make: impl Fn(&mut Instance<'_>, NodeId) -> Next<K, V> + Send + Sync + 'static,
) -> Opaque {
    Arc::new(Make::<K, V>(Box::new(make)))
}
