//! Tables: how a record changes one, and how a stream looks into one.
//!
//! The record of a table is a key and its new value, `None` for a deletion. A view (`map_values`,
//! `filter`) stores nothing: a lookup runs it over the table below. Pure.

use std::hash::Hash;
use std::sync::Arc;

use super::{Next, TaskContext, operator};
use crate::record::Record;
use crate::store::{Entry, KvStore, Shared};

/// Reads one key of a table, through whatever views lie between.
pub(crate) trait Lookup<K, V> {
    /// Calls `then` once with the value of `key`.
    fn with(&self, key: &K, then: &mut dyn FnMut(Option<&V>));
}

/// A lookup as operators hold it.
pub(crate) type AnyLookup<K, V> = Box<dyn Lookup<K, V>>;

impl<K: Hash + Eq, V> Lookup<K, V> for Shared<KvStore<K, V>> {
    fn with(&self, key: &K, then: &mut dyn FnMut(Option<&V>)) {
        then(self.borrow().entries.get(key).map(|entry| &entry.value));
    }
}

/// A table whose values are mapped.
pub(crate) struct Mapped<K, V, F> {
    pub(crate) from: AnyLookup<K, V>,
    pub(crate) f: Arc<F>,
}

impl<K, V: Clone, V2, F: Fn(V) -> V2> Lookup<K, V2> for Mapped<K, V, F> {
    fn with(&self, key: &K, then: &mut dyn FnMut(Option<&V2>)) {
        self.from.with(key, &mut |value| {
            let mapped = value.map(|value| (self.f)(value.clone()));
            then(mapped.as_ref());
        });
    }
}

/// A table with some of its keys left out.
pub(crate) struct Filtered<K, V, F> {
    pub(crate) from: AnyLookup<K, V>,
    pub(crate) keep: Arc<F>,
}

impl<K, V, F: Fn(&K, &V) -> bool> Lookup<K, V> for Filtered<K, V, F> {
    fn with(&self, key: &K, then: &mut dyn FnMut(Option<&V>)) {
        self.from.with(key, &mut |value| then(value.filter(|value| (self.keep)(key, value))));
    }
}

/// Stores each record of a table's topic and passes it on.
pub(crate) fn materialise<K, V>(
    store: Shared<KvStore<K, V>>,
    mut below: Next<K, Option<V>>,
) -> Next<K, Option<V>>
where
    K: Hash + Eq + Clone + 'static,
    V: Clone + 'static,
{
    operator(move |record: Record<K, Option<V>>, cx: &mut TaskContext| {
        let timestamp = record.timestamp;
        *store.borrow_mut().entries.touch(&record.key) =
            record.value.clone().map(|value| Entry { value, timestamp });
        below.push(record, cx)
    })
}

pub(crate) fn map_values<K: 'static, V: 'static, V2: 'static>(
    f: Arc<impl Fn(V) -> V2 + 'static>,
    mut below: Next<K, Option<V2>>,
) -> Next<K, Option<V>> {
    operator(move |record: Record<K, Option<V>>, cx: &mut TaskContext| {
        let Record { key, value, timestamp, headers } = record;
        below.push(Record { key, value: value.map(&*f), timestamp, headers }, cx)
    })
}

/// A key that does not pass is as good as deleted.
pub(crate) fn filter<K: 'static, V: 'static>(
    keep: Arc<impl Fn(&K, &V) -> bool + 'static>,
    mut below: Next<K, Option<V>>,
) -> Next<K, Option<V>> {
    operator(move |mut record: Record<K, Option<V>>, cx: &mut TaskContext| {
        record.value = record.value.filter(|value| keep(&record.key, value));
        below.push(record, cx)
    })
}

/// Each record with the table's value of its key; without one it is dropped.
pub(crate) fn join<K: 'static, V: 'static, V2: 'static, O: 'static>(
    table: AnyLookup<K, V2>,
    f: Arc<impl Fn(&K, V, &V2) -> O + 'static>,
    mut below: Next<K, O>,
) -> Next<K, V> {
    operator(move |record: Record<K, V>, cx: &mut TaskContext| {
        let Record { key, value, timestamp, headers } = record;
        let (mut value, mut joined) = (Some(value), None);
        table.with(&key, &mut |found| {
            joined = found.zip(value.take()).map(|(found, value)| f(&key, value, found));
        });
        match joined {
            Some(value) => below.push(Record { key, value, timestamp, headers }, cx),
            None => Ok(()),
        }
    })
}

/// Each record with the table's value of its key, if there is one.
pub(crate) fn left_join<K: 'static, V: 'static, V2: 'static, O: 'static>(
    table: AnyLookup<K, V2>,
    f: Arc<impl Fn(&K, V, Option<&V2>) -> O + 'static>,
    mut below: Next<K, O>,
) -> Next<K, V> {
    operator(move |record: Record<K, V>, cx: &mut TaskContext| {
        let Record { key, value, timestamp, headers } = record;
        let (mut value, mut joined) = (Some(value), None);
        table.with(&key, &mut |found| {
            joined = value.take().map(|value| f(&key, value, found));
        });
        let value = joined.expect("a lookup answers once");
        below.push(Record { key, value, timestamp, headers }, cx)
    })
}
