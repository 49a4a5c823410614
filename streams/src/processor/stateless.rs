//! Operators that remember nothing. Pure.

use std::sync::Arc;

use super::{Next, Policy, TaskContext, operator};
use crate::codec::{AnyCodec, BoxError};
use crate::error::{Flow, StreamsError};
use crate::record::{Placement, Record, RecordContext, TopicIndex};

pub(crate) fn filter<K: 'static, V: 'static>(
    keep: Arc<impl Fn(&K, &V) -> bool + 'static>,
    mut below: Next<K, V>,
) -> Next<K, V> {
    operator(
        move |record: Record<K, V>, cx: &mut TaskContext| {
            if keep(&record.key, &record.value) { below.push(record, cx) } else { Ok(()) }
        },
    )
}

pub(crate) fn map<K: 'static, V: 'static, K2: 'static, V2: 'static>(
    f: Arc<impl Fn(K, V) -> (K2, V2) + 'static>,
    mut below: Next<K2, V2>,
) -> Next<K, V> {
    operator(move |record: Record<K, V>, cx: &mut TaskContext| {
        let Record { key, value, timestamp, headers } = record;
        let (key, value) = f(key, value);
        below.push(Record { key, value, timestamp, headers }, cx)
    })
}

pub(crate) fn map_values<K: 'static, V: 'static, V2: 'static>(
    f: Arc<impl Fn(V) -> V2 + 'static>,
    mut below: Next<K, V2>,
) -> Next<K, V> {
    operator(move |record: Record<K, V>, cx: &mut TaskContext| {
        let Record { key, value, timestamp, headers } = record;
        below.push(Record { key, value: f(value), timestamp, headers }, cx)
    })
}

/// `map_values` that sees where the record came from.
pub(crate) fn map_values_around<K: 'static, V: 'static, V2: 'static>(
    f: Arc<impl Fn(&K, V, RecordContext<'_>) -> V2 + 'static>,
    mut below: Next<K, V2>,
) -> Next<K, V> {
    operator(move |record: Record<K, V>, cx: &mut TaskContext| {
        let Record { key, value, timestamp, headers } = record;
        let value = f(&key, value, cx.around(timestamp, &headers));
        below.push(Record { key, value, timestamp, headers }, cx)
    })
}

/// `map` of the whole record.
pub(crate) fn map_record<K: 'static, V: 'static, K2: 'static, V2: 'static>(
    f: Arc<impl Fn(Record<K, V>, RecordContext<'_>) -> Record<K2, V2> + 'static>,
    mut below: Next<K2, V2>,
) -> Next<K, V> {
    operator(move |record: Record<K, V>, cx: &mut TaskContext| {
        let (headers, at) = (record.headers.clone(), record.timestamp);
        let mapped = f(record, cx.around(at, &headers));
        below.push(mapped, cx)
    })
}

/// `map_values` that may refuse; the policy decides what then.
pub(crate) fn try_map_values<K: 'static, V: 'static, V2: 'static, E: Into<BoxError>>(
    node: Arc<str>,
    policy: Policy,
    f: Arc<impl Fn(V) -> Result<V2, E> + 'static>,
    mut below: Next<K, V2>,
) -> Next<K, V> {
    operator(move |record: Record<K, V>, cx: &mut TaskContext| {
        let Record { key, value, timestamp, headers } = record;
        match f(value) {
            Ok(value) => below.push(Record { key, value, timestamp, headers }, cx),
            Err(error) => {
                let refusal = cx.refusal(&node, error.into());
                cx.resolve(policy, refusal)
            }
        }
    })
}

pub(crate) fn flat_map<K: 'static, V: 'static, K2: 'static, V2: 'static, I>(
    f: Arc<impl Fn(K, V) -> I + 'static>,
    mut below: Next<K2, V2>,
) -> Next<K, V>
where
    I: IntoIterator<Item = (K2, V2)>,
{
    operator(move |record: Record<K, V>, cx: &mut TaskContext| {
        let Record { key, value, timestamp, headers } = record;
        for (key, value) in f(key, value) {
            below.push(Record { key, value, timestamp, headers: headers.clone() }, cx)?;
        }
        Ok(())
    })
}

pub(crate) fn flat_map_values<K: Clone + 'static, V: 'static, V2: 'static, I>(
    f: Arc<impl Fn(V) -> I + 'static>,
    mut below: Next<K, V2>,
) -> Next<K, V>
where
    I: IntoIterator<Item = V2>,
{
    operator(move |record: Record<K, V>, cx: &mut TaskContext| {
        let Record { key, value, timestamp, headers } = record;
        for value in f(value) {
            let (key, headers) = (key.clone(), headers.clone());
            below.push(Record { key, value, timestamp, headers }, cx)?;
        }
        Ok(())
    })
}

pub(crate) fn select_key<K: 'static, V: 'static, K2: 'static>(
    f: Arc<impl Fn(&K, &V) -> K2 + 'static>,
    mut below: Next<K2, V>,
) -> Next<K, V> {
    operator(move |record: Record<K, V>, cx: &mut TaskContext| {
        let Record { key, value, timestamp, headers } = record;
        let key = f(&key, &value);
        below.push(Record { key, value, timestamp, headers }, cx)
    })
}

pub(crate) fn peek<K: 'static, V: 'static>(
    f: Arc<impl Fn(&K, &V) + 'static>,
    mut below: Next<K, V>,
) -> Next<K, V> {
    operator(move |record: Record<K, V>, cx: &mut TaskContext| {
        f(&record.key, &record.value);
        below.push(record, cx)
    })
}

/// Passes on what `f` makes of a record; counts the others as dropped for a null.
pub(crate) fn drop_null<K: 'static, V: 'static, K2: 'static, V2: 'static>(
    f: fn(K, V) -> Option<(K2, V2)>,
    mut below: Next<K2, V2>,
) -> Next<K, V> {
    operator(move |record: Record<K, V>, cx: &mut TaskContext| {
        let Record { key, value, timestamp, headers } = record;
        match f(key, value) {
            Some((key, value)) => below.push(Record { key, value, timestamp, headers }, cx),
            None => {
                cx.counters.dropped_null += 1;
                Ok(())
            }
        }
    })
}

/// Sends each record to at most one of the branches.
pub(crate) fn branch<K: 'static, V: 'static>(
    f: Arc<impl Fn(&K, &V) -> Option<usize> + 'static>,
    mut branches: Vec<Next<K, V>>,
) -> Next<K, V> {
    operator(move |record: Record<K, V>, cx: &mut TaskContext| {
        let Some(index) = f(&record.key, &record.value) else { return Ok(()) };
        let count = branches.len();
        match branches.get_mut(index) {
            Some(branch) => branch.push(record, cx),
            None => Err(cx.refusal(&Arc::from("branch"), NoSuchBranch { index, count }.into())),
        }
    })
}

/// A branch function named a branch that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("branch {index} of {count} was chosen; branches count from 0")]
struct NoSuchBranch {
    index: usize,
    count: usize,
}

/// The end of a stream: encodes records for a topic.
pub(crate) struct Sink<K, V> {
    pub(crate) topic: TopicIndex,
    pub(crate) name: Arc<str>,
    pub(crate) key: AnyCodec<K>,
    pub(crate) value: AnyCodec<V>,
    pub(crate) policy: Policy,
}

impl<K: 'static, V: 'static> Sink<K, V> {
    fn write(&self, record: (&K, Option<&V>), rest: Record<(), ()>, cx: &mut TaskContext) -> Flow {
        let codecs = (&*self.key, &*self.value);
        let to = (self.topic, Placement::ByKey);
        let written = cx.outbox.write(to, codecs, record, rest.timestamp, rest.headers);
        written.or_else(|fault| {
            let (part, source) = (fault.part, fault.source);
            let error = StreamsError::Encode { node: self.name.clone(), part, source };
            cx.resolve(self.policy, Box::new(error))
        })
    }

    pub(crate) fn of_stream(self) -> Next<K, V> {
        operator(move |record: Record<K, V>, cx: &mut TaskContext| {
            let Record { key, value, timestamp, headers } = record;
            let rest = Record { key: (), value: (), timestamp, headers };
            self.write((&key, Some(&value)), rest, cx)
        })
    }

    /// A table's sink: a deletion becomes a tombstone.
    pub(crate) fn of_table(self) -> Next<K, Option<V>> {
        operator(move |record: Record<K, Option<V>>, cx: &mut TaskContext| {
            let Record { key, value, timestamp, headers } = record;
            let rest = Record { key: (), value: (), timestamp, headers };
            self.write((&key, value.as_ref()), rest, cx)
        })
    }
}
