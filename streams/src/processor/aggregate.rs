//! One value per key, kept from record to record.
//!
//! The value's event time is the largest of the records that made it, as in Kafka Streams. Each
//! record sends the new value on; how often it reaches the changelog is the store's business. Pure.

use std::hash::Hash;
use std::sync::Arc;

use super::{Next, TaskContext, operator};
use crate::record::Record;
use crate::store::{Entry, KvStore, Shared};

/// What an aggregation does with a record: old value in, new value out, `None` for absent.
pub(crate) trait Fold<K, V, A>: Fn(&K, V, Option<A>) -> Option<A> + 'static {}

impl<K, V, A, F: Fn(&K, V, Option<A>) -> Option<A> + 'static> Fold<K, V, A> for F {}

/// Folds a record into an entry; gives the new value and its event time.
pub(super) fn fold_into<K, V, A: Clone>(
    fold: &impl Fold<K, V, A>,
    entry: &mut Option<Entry<A>>,
    key: &K,
    value: V,
    at: protocol::time::Timestamp,
) -> (Option<A>, protocol::time::Timestamp) {
    let (old, timestamp) = match entry.take() {
        Some(old) => (Some(old.value), old.timestamp.max(at)),
        None => (None, at),
    };
    let new = fold(key, value, old);
    *entry = new.clone().map(|value| Entry { value, timestamp });
    (new, timestamp)
}

pub(crate) fn aggregate<K, V, A>(
    store: Shared<KvStore<K, A>>,
    fold: Arc<impl Fold<K, V, A>>,
    mut below: Next<K, Option<A>>,
) -> Next<K, V>
where
    K: Hash + Eq + Clone + 'static,
    V: 'static,
    A: Clone + 'static,
{
    operator(move |record: Record<K, V>, cx: &mut TaskContext| {
        let Record { key, value, timestamp, headers } = record;
        let (value, timestamp) = {
            let mut store = store.borrow_mut();
            fold_into(&*fold, store.entries.touch(&key), &key, value, timestamp)
        };
        below.push(Record { key, value, timestamp, headers }, cx)
    })
}
