//! Tables: the last value of each key.
//!
//! A [`KTable`] is a store and the stream of its changes. Views (`map_values`, `filter`) store
//! nothing of their own. Whether a table can delete keys is known when it is built: only one that
//! cannot turns into a stream of plain values. Pure.

use std::hash::Hash;
use std::sync::Arc;

use super::builder::{Data, opaque};
use super::stream::{KStream, sink};
use crate::codec::Topic;
use crate::error::BuildError;
use crate::processor::table::{AnyLookup, Filtered, Mapped, filter, map_values};
use crate::processor::{Instance, operator};
use crate::record::Record;
use crate::store::KvStore;
use crate::topology::{NodeKind, StoreIndex, TopicKind};

type MakeLookup<K, V> = Arc<dyn Fn(&mut Instance<'_>) -> AnyLookup<K, V> + Send + Sync>;

/// A table of values `V` by keys `K`.
pub struct KTable<K, V> {
    pub(crate) changes: KStream<K, Option<V>>,
    pub(crate) name: Arc<str>,
    pub(crate) deletes: bool,
    pub(crate) store: StoreIndex,
    pub(crate) lookup: MakeLookup<K, V>,
}

impl<K, V> Clone for KTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            changes: self.changes.clone(),
            name: self.name.clone(),
            deletes: self.deletes,
            store: self.store,
            lookup: self.lookup.clone(),
        }
    }
}

impl<K, V> std::fmt::Debug for KTable<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KTable({})", self.name)
    }
}

impl<K: Data, V: Data> KTable<K, V> {
    /// A table that a key-value store holds.
    pub(crate) fn stored(
        changes: KStream<K, Option<V>>,
        name: Arc<str>,
        deletes: bool,
        store: StoreIndex,
    ) -> Self
    where
        K: Hash + Eq,
    {
        let lookup: MakeLookup<K, V> =
            Arc::new(move |instance| Box::new(instance.store::<KvStore<K, V>>(store)));
        Self { changes, name, deletes, store, lookup }
    }

    /// The table with each value replaced.
    pub fn map_values<V2: Data>(
        self,
        f: impl Fn(V) -> V2 + Send + Sync + 'static,
    ) -> KTable<K, V2> {
        let f = Arc::new(f);
        let (view, from) = (f.clone(), self.lookup);
        let lookup: MakeLookup<K, V2> =
            Arc::new(move |instance| Box::new(Mapped { from: from(instance), f: view.clone() }));
        let changes =
            self.changes.then("map_values", &[], move |_, below| map_values(f.clone(), below));
        KTable { changes, name: self.name, deletes: self.deletes, store: self.store, lookup }
    }

    /// The table without the keys for which `keep` does not hold: a change to such a value is a
    /// deletion.
    #[must_use]
    pub fn filter(self, keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        let keep = Arc::new(keep);
        let (view, from) = (keep.clone(), self.lookup);
        let lookup: MakeLookup<K, V> = Arc::new(move |instance| {
            Box::new(Filtered { from: from(instance), keep: view.clone() })
        });
        let changes = self.changes.then("filter", &[], move |_, below| filter(keep.clone(), below));
        Self { changes, name: self.name, deletes: true, store: self.store, lookup }
    }

    /// The stream of changes: each key's new value, `None` when it was deleted.
    pub fn changes(self) -> KStream<K, Option<V>> {
        self.changes
    }

    /// The stream of new values, for a table that cannot delete keys: counts, reductions,
    /// aggregates. For any other it is a mistake that the build reports: take
    /// [`KTable::changes`] or [`KTable::to`].
    pub fn to_stream(self) -> KStream<K, V> {
        if self.deletes {
            let error = BuildError::DeletionsInStream(self.name.clone());
            self.changes.graph.borrow_mut().errors.push(error);
        }
        self.changes.then("to_stream", &[], |_, mut below| {
            operator(move |record: Record<K, Option<V>>, cx| {
                let Record { key, value, timestamp, headers } = record;
                let value = value.expect("the build refused tables that delete");
                below.push(Record { key, value, timestamp, headers }, cx)
            })
        })
    }

    /// Writes each change to a topic; a deletion becomes a tombstone.
    pub fn to(self, topic: &Topic<K, V>) {
        let stream = self.changes;
        let mut graph = stream.graph.borrow_mut();
        let index = graph.topic(&topic.name, TopicKind::External);
        let (topic, scope) = (topic.clone(), stream.scope);
        let factory = opaque::<K, Option<V>>(move |instance, _| {
            sink(&topic, index, instance.policy(scope)).of_table()
        });
        graph.add(NodeKind::Sink(index), "to", &[stream.node], &[], factory);
    }
}
