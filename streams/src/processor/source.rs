//! The heads of sub-topologies: bytes in, typed records out.
//!
//! A record is decoded when it becomes the head of its queue, because its event time may come from
//! its content; the typed record waits here until it is chosen. Pure.

use protocol::time::Timestamp;

use super::{Next, Policy, Source, TaskContext};
use crate::codec::{BoxError, Topic, decode_option};
use crate::error::{Flow, StreamsError};
use crate::record::{InputRecord, Record};

/// A record without a usable timestamp.
#[derive(Debug, thiserror::Error)]
#[error("timestamp {0} is negative: event time counts from 0")]
struct NegativeTimestamp(Timestamp);

/// Reads a topic as a stream.
pub(crate) struct StreamSource<K, V> {
    topic: Topic<K, V>,
    policy: Policy,
    kept: Option<Record<K, V>>,
    below: Next<K, V>,
}

impl<K, V> StreamSource<K, V> {
    pub(crate) fn new(topic: Topic<K, V>, policy: Policy, below: Next<K, V>) -> Self {
        Self { topic, policy, kept: None, below }
    }
}

impl<K, V> Source for StreamSource<K, V> {
    fn decode(&mut self, input: &InputRecord, cx: &mut TaskContext) -> Flow<Option<Timestamp>> {
        let value = decode_option(&*self.topic.value, input.value.as_ref());
        let decoded = value.map_err(|error| ("value", error)).and_then(|value| {
            let key = decode_option(&*self.topic.key, input.key.as_ref());
            let key = key.map_err(|error| ("key", error))?;
            let at = event_time(&self.topic, &key, &value, input.timestamp)?;
            Ok(Record { key, value, timestamp: at, headers: input.headers.clone() })
        });
        keep(decoded, &mut self.kept, self.policy, input, cx)
    }

    fn run(&mut self, cx: &mut TaskContext) -> Flow {
        match self.kept.take() {
            Some(record) => self.below.push(record, cx),
            None => Ok(()),
        }
    }
}

/// Reads a topic as a table: a null value deletes, a record without key is dropped.
pub(crate) struct TableSource<K, V> {
    topic: Topic<K, V>,
    policy: Policy,
    kept: Option<Record<K, Option<V>>>,
    below: Next<K, Option<V>>,
}

impl<K, V> TableSource<K, V> {
    pub(crate) fn new(topic: Topic<K, V>, policy: Policy, below: Next<K, Option<V>>) -> Self {
        Self { topic, policy, kept: None, below }
    }
}

impl<K, V> Source for TableSource<K, V> {
    fn decode(&mut self, input: &InputRecord, cx: &mut TaskContext) -> Flow<Option<Timestamp>> {
        let Some(key) = &input.key else {
            cx.counters.dropped_null += 1;
            return Ok(None);
        };
        let value = input.value.as_ref().map(|value| self.topic.value.decode(value));
        let decoded = value.transpose().map_err(|error| ("value", error)).and_then(|value| {
            let key = self.topic.key.decode(key).map_err(|error| ("key", error))?;
            let at = match &value {
                Some(value) => event_time(&self.topic, &key, value, input.timestamp)?,
                None => not_negative(input.timestamp)?,
            };
            Ok(Record { key, value, timestamp: at, headers: input.headers.clone() })
        });
        keep(decoded, &mut self.kept, self.policy, input, cx)
    }

    fn run(&mut self, cx: &mut TaskContext) -> Flow {
        match self.kept.take() {
            Some(record) => self.below.push(record, cx),
            None => Ok(()),
        }
    }
}

type Decoded<T> = Result<T, (&'static str, BoxError)>;

fn event_time<K, V>(
    topic: &Topic<K, V>,
    key: &K,
    value: &V,
    carried: Timestamp,
) -> Decoded<Timestamp> {
    not_negative(topic.timestamp.as_ref().map_or(carried, |of| of(key, value, carried)))
}

fn not_negative(at: Timestamp) -> Decoded<Timestamp> {
    if at < Timestamp(0) { Err(("timestamp", NegativeTimestamp(at).into())) } else { Ok(at) }
}

/// Keeps a decoded record; asks the policy about one that could not be.
fn keep<K, V>(
    decoded: Decoded<Record<K, V>>,
    kept: &mut Option<Record<K, V>>,
    policy: Policy,
    input: &InputRecord,
    cx: &mut TaskContext,
) -> Flow<Option<Timestamp>> {
    match decoded {
        Ok(record) => {
            let at = record.timestamp;
            *kept = Some(record);
            Ok(Some(at))
        }
        Err((part, source)) => {
            let (partition, offset) = (cx.source.clone(), input.offset);
            let error = StreamsError::Decode { partition, offset, part, source };
            cx.resolve_over(policy, Box::new(error), input).map(|()| None)
        }
    }
}
