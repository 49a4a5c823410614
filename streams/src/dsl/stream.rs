//! Streams: each record for itself.
//!
//! A [`KStream`] is a place in a topology and is used up by the operator that continues it; clone
//! it to continue it twice. Operators that change the key mark the stream: grouping or joining it
//! is then a mistake until [`KStream::repartition`] has brought equal keys together. Pure.

use std::hash::Hash;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::builder::{Data, SharedGraph, declare_dead_letters, opaque, source};
use super::grouped::KGrouped;
use super::table::KTable;
use crate::codec::{BoxError, Codec, Topic};
use crate::error::{BuildError, ErrorPolicy};
use crate::processor::custom::{Custom, Processor};
use crate::processor::stateless::{self, Sink};
use crate::processor::{Instance, Next, table};
use crate::record::{Record, RecordContext};
use crate::topology::{NodeId, NodeKind, PolicyScope, StoreIndex, TopicKind};

/// A stream of records with keys `K` and values `V`.
pub struct KStream<K, V> {
    pub(crate) graph: SharedGraph,
    pub(crate) node: NodeId,
    pub(crate) scope: PolicyScope,
    /// The operator that changed the key since records were last where their keys belong.
    pub(crate) rekeyed: Option<Arc<str>>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for KStream<K, V> {
    fn clone(&self) -> Self {
        Self::at(&self.graph, self.node, self.scope, self.rekeyed.clone())
    }
}

impl<K, V> std::fmt::Debug for KStream<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KStream({})", self.node.0)
    }
}

impl<K, V> KStream<K, V> {
    pub(crate) fn at(
        graph: &SharedGraph,
        node: NodeId,
        scope: PolicyScope,
        rekeyed: Option<Arc<str>>,
    ) -> Self {
        Self { graph: graph.clone(), node, scope, rekeyed, types: PhantomData }
    }

    /// Complains if the records are not where their keys belong.
    pub(crate) fn require_partitioned(&self, operator: &str) {
        if let Some(changed_by) = &self.rekeyed {
            let (operator, changed_by) = (Arc::from(operator), changed_by.clone());
            let error = BuildError::NotRepartitioned { operator, changed_by };
            self.graph.borrow_mut().errors.push(error);
        }
    }

    /// Complains if the other stream is of another builder; then nothing may be connected.
    fn is_kin(&self, other: &SharedGraph, operator: &str) -> bool {
        let kin = Rc::ptr_eq(&self.graph, other);
        if !kin {
            let error = BuildError::ForeignStream(Arc::from(operator));
            self.graph.borrow_mut().errors.push(error);
        }
        kin
    }

    fn rekeyed_by(mut self, operator: &str) -> Self {
        self.rekeyed = Some(Arc::from(operator));
        self
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Adds an operator below this stream.
    pub(crate) fn then<K2: Data, V2: Data>(
        self,
        label: impl Into<String>,
        stores: &[StoreIndex],
        make: impl Fn(&mut Instance<'_>, Next<K2, V2>) -> Next<K, V> + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        let factory = opaque::<K, V>(move |instance, id| {
            let below = instance.below(id);
            make(instance, below)
        });
        let kind = NodeKind::Operator;
        let node = self.graph.borrow_mut().add(kind, label, &[self.node], stores, factory);
        KStream::at(&self.graph, node, self.scope, self.rekeyed)
    }

    /// Keeps the records for which `keep` holds.
    #[must_use]
    pub fn filter(self, keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        let keep = Arc::new(keep);
        self.then("filter", &[], move |_, below| stateless::filter(keep.clone(), below))
    }

    /// Keeps the records for which `drop` does not hold.
    #[must_use]
    pub fn filter_not(self, drop: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        let keep = Arc::new(move |key: &K, value: &V| !drop(key, value));
        self.then("filter_not", &[], move |_, below| stateless::filter(keep.clone(), below))
    }

    /// Replaces key and value. Marks the key as changed.
    pub fn map<K2: Data, V2: Data>(
        self,
        f: impl Fn(K, V) -> (K2, V2) + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        let f = Arc::new(f);
        self.then("map", &[], move |_, below| stateless::map(f.clone(), below)).rekeyed_by("map")
    }

    /// Replaces the value.
    pub fn map_values<V2: Data>(
        self,
        f: impl Fn(V) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let f = Arc::new(f);
        self.then("map_values", &[], move |_, below| stateless::map_values(f.clone(), below))
    }

    /// Replaces the value, seeing the key and where the record came from: topic, partition,
    /// offset, event time, headers.
    pub fn map_values_with_context<V2: Data>(
        self,
        f: impl Fn(&K, V, RecordContext<'_>) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let f = Arc::new(f);
        self.then("map_values_with_context", &[], move |_, below| {
            stateless::map_values_around(f.clone(), below)
        })
    }

    /// Replaces the value, or refuses the record: [`KStream::on_error`] says what follows.
    pub fn try_map_values<V2: Data, E: Into<BoxError>>(
        self,
        f: impl Fn(V) -> Result<V2, E> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let (f, scope, node) = (Arc::new(f), self.scope, Arc::from("try_map_values"));
        self.then("try_map_values", &[], move |instance, below| {
            let (policy, node) = (instance.policy(scope), Arc::clone(&node));
            stateless::try_map_values(node, policy, f.clone(), below)
        })
    }

    /// Replaces the whole record: key, value, event time and headers. Marks the key as changed.
    pub fn map_record<K2: Data, V2: Data>(
        self,
        f: impl Fn(Record<K, V>, RecordContext<'_>) -> Record<K2, V2> + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        let f = Arc::new(f);
        let label = "map_record";
        self.then(label, &[], move |_, below| stateless::map_record(f.clone(), below))
            .rekeyed_by(label)
    }

    /// Replaces a record by any number of records. Marks the key as changed.
    pub fn flat_map<K2: Data, V2: Data, I: IntoIterator<Item = (K2, V2)> + 'static>(
        self,
        f: impl Fn(K, V) -> I + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        let (f, label) = (Arc::new(f), "flat_map");
        self.then(label, &[], move |_, below| stateless::flat_map(f.clone(), below))
            .rekeyed_by(label)
    }

    /// Replaces a value by any number of values of the same key.
    pub fn flat_map_values<V2: Data, I: IntoIterator<Item = V2> + 'static>(
        self,
        f: impl Fn(V) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let f = Arc::new(f);
        let label = "flat_map_values";
        self.then(label, &[], move |_, below| stateless::flat_map_values(f.clone(), below))
    }

    /// Replaces the key. Marks it as changed.
    pub fn select_key<K2: Data>(
        self,
        f: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
    ) -> KStream<K2, V> {
        let (f, label) = (Arc::new(f), "select_key");
        self.then(label, &[], move |_, below| stateless::select_key(f.clone(), below))
            .rekeyed_by(label)
    }

    /// Looks at each record. May run again for a record whose transaction aborted.
    #[must_use]
    pub fn peek(self, f: impl Fn(&K, &V) + Send + Sync + 'static) -> Self {
        let f = Arc::new(f);
        self.then("peek", &[], move |_, below| stateless::peek(f.clone(), below))
    }

    /// This stream and the other as one. The order between them is the order of processing.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if !self.is_kin(&other.graph, "merge") {
            return self;
        }
        let factory = opaque::<K, V>(|instance, id| instance.below(id));
        let parents = [self.node, other.node];
        let mut graph = self.graph.borrow_mut();
        let node = graph.add(NodeKind::Operator, "merge", &parents, &[], factory);
        drop(graph);
        let rekeyed = self.rekeyed.or(other.rekeyed);
        Self::at(&self.graph, node, self.scope, rekeyed)
    }

    /// Splits the stream: each record goes to the branch whose number `f` gives, counted from 0, or
    /// to none. A number beyond the last branch fails the task.
    pub fn branch<const N: usize>(
        self,
        f: impl Fn(&K, &V) -> Option<usize> + Send + Sync + 'static,
    ) -> [Self; N] {
        let f = Arc::new(f);
        let factory = opaque::<K, V>(move |instance, id| {
            let children: Vec<NodeId> = (0..N).map(|index| instance.child(id, index)).collect();
            let branches = children.into_iter().map(|child| instance.operator(child)).collect();
            stateless::branch(f.clone(), branches)
        });
        let kind = NodeKind::Operator;
        let node = self.graph.borrow_mut().add(kind, "branch", &[self.node], &[], factory);
        std::array::from_fn(|index| {
            let factory = opaque::<K, V>(|instance, id| instance.below(id));
            let label = format!("branch {index}");
            let node = self.graph.borrow_mut().add(kind, label, &[node], &[], factory);
            Self::at(&self.graph, node, self.scope, self.rekeyed.clone())
        })
    }

    /// Brings equal keys together through the topic `<app>-<name>-repartition`, whose partitions
    /// murmur2 of the key's bytes chooses, as in every Kafka producer.
    #[must_use]
    pub fn repartition(
        self,
        name: impl Into<Arc<str>>,
        key: impl Codec<K> + 'static,
        value: impl Codec<V> + 'static,
    ) -> Self {
        let topic = Topic::new(name, key, value);
        self.graph.borrow_mut().take_name(&topic.name);
        let graph = self.graph.clone();
        self.write(&topic, TopicKind::Repartition, "repartition");
        source(&graph, &topic, TopicKind::Repartition)
    }

    /// Puts records of one key together, for counting and the like.
    pub fn group_by_key(self) -> KGrouped<K, V>
    where
        K: Hash + Eq,
    {
        self.require_partitioned("group_by_key");
        KGrouped { stream: self }
    }

    /// Each record with the table's value of its key; records whose key is not in the table are
    /// dropped. The table is looked up when the stream's record is processed.
    pub fn join_table<V2: Data, O: Data>(
        self,
        with: &KTable<K, V2>,
        f: impl Fn(&K, V, &V2) -> O + Send + Sync + 'static,
    ) -> KStream<K, O> {
        let f = Arc::new(f);
        self.join_with("join_table", with, move |lookup, below| {
            table::join(lookup, f.clone(), below)
        })
    }

    /// Each record with the table's value of its key, or `None`.
    pub fn left_join_table<V2: Data, O: Data>(
        self,
        with: &KTable<K, V2>,
        f: impl Fn(&K, V, Option<&V2>) -> O + Send + Sync + 'static,
    ) -> KStream<K, O> {
        let f = Arc::new(f);
        self.join_with("left_join_table", with, move |lookup, below| {
            table::left_join(lookup, f.clone(), below)
        })
    }

    fn join_with<V2: Data, O: Data>(
        self,
        label: &'static str,
        with: &KTable<K, V2>,
        make: impl Fn(table::AnyLookup<K, V2>, Next<K, O>) -> Next<K, V> + Send + Sync + 'static,
    ) -> KStream<K, O> {
        self.require_partitioned(label);
        let kin = self.is_kin(&with.changes.graph, label);
        let stores = if kin { vec![with.store] } else { Vec::new() };
        let lookup = with.lookup.clone();
        self.then(label, &stores, move |instance, below| make(lookup(instance), below))
    }

    /// Sends each record through a processor of your own, made anew for each task. `name` must be
    /// its alone. Marks the key as changed.
    pub fn process<P>(
        self,
        name: impl Into<Arc<str>>,
        make: impl Fn() -> P + Send + Sync + 'static,
    ) -> KStream<P::KeyOut, P::ValueOut>
    where
        P: Processor<KeyIn = K, ValueIn = V> + 'static,
    {
        let (name, scope) = (name.into(), self.scope);
        let stores = self.declare_stores(&name, &make());
        let label = format!("process {name}");
        let node = name.clone();
        self.then(label, &stores, move |instance, below| {
            let policy = instance.policy(scope);
            Custom::place(make(), node.clone(), policy, instance, below)
        })
        .rekeyed_by(&name)
    }

    fn declare_stores<P: Processor>(&self, name: &Arc<str>, specimen: &P) -> Vec<StoreIndex> {
        let mut graph = self.graph.borrow_mut();
        graph.take_name(name);
        let mut indices = Vec::new();
        for declared in specimen.stores() {
            // Processors may share a store, provided they agree on its types.
            let known = graph.stores.iter().position(|store| {
                store.name == declared.name && store.type_name == declared.type_name
            });
            indices.push(known.map(StoreIndex).unwrap_or_else(|| {
                let (nullable, types) = (declared.nullable_key, declared.type_name);
                graph.add_store(&declared.name, nullable, types, declared.factory)
            }));
        }
        indices
    }

    /// What to do when an operator above, back to the source or the last `on_error`, refuses a
    /// record, or the source cannot decode one. Without it, the task fails.
    #[must_use]
    pub fn on_error(self, policy: ErrorPolicy) -> Self {
        let mut graph = self.graph.borrow_mut();
        declare_dead_letters(&mut graph, &policy);
        if graph.policies[self.scope.0].replace(policy).is_some() {
            let label = Arc::from(graph.nodes[self.node.0].label.as_str());
            graph.errors.push(BuildError::TwoPolicies(label));
        }
        let scope = graph.new_scope();
        drop(graph);
        Self::at(&self.graph, self.node, scope, self.rekeyed)
    }

    /// Writes the stream to a topic.
    pub fn to(self, topic: &Topic<K, V>) {
        self.write(topic, TopicKind::External, "to");
    }

    fn write(self, topic: &Topic<K, V>, kind: TopicKind, label: &str) {
        let mut graph = self.graph.borrow_mut();
        let index = graph.topic(&topic.name, kind);
        let (topic, scope) = (topic.clone(), self.scope);
        let factory = opaque::<K, V>(move |instance, _| {
            sink(&topic, index, instance.policy(scope)).of_stream()
        });
        graph.add(NodeKind::Sink(index), label, &[self.node], &[], factory);
    }
}

/// The end of a stream or table.
pub(crate) fn sink<K, V>(
    topic: &Topic<K, V>,
    index: crate::record::TopicIndex,
    policy: crate::processor::Policy,
) -> Sink<K, V> {
    Sink {
        topic: index,
        name: topic.name.clone(),
        key: topic.key.clone(),
        value: topic.value.clone(),
        policy,
    }
}

impl<K: Data, V: Data> KStream<Option<K>, V> {
    /// Drops records without a key and counts them: state is kept by key.
    #[must_use]
    pub fn drop_null_keys(self) -> KStream<K, V> {
        self.then("drop_null_keys", &[], |_, below| {
            stateless::drop_null(|key: Option<K>, value: V| Some((key?, value)), below)
        })
    }
}

impl<K: Data, V: Data> KStream<K, Option<V>> {
    /// Drops records without a value and counts them.
    #[must_use]
    pub fn drop_null_values(self) -> KStream<K, V> {
        self.then("drop_null_values", &[], |_, below| {
            stateless::drop_null(|key: K, value: Option<V>| Some((key, value?)), below)
        })
    }
}
