//! Records on their way through a topology: as read, as typed, and as written.
//!
//! A record enters as bytes shared with the fetched batch, travels typed from operator to operator
//! by value, and leaves as bytes appended to the [`Outbox`]. The outbox keeps the bytes of all its
//! records in one buffer that is reused, so writing a record allocates nothing of its own. Pure.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use protocol::ids::{Offset, PartitionIndex, TopicPartition};
use protocol::time::Timestamp;

use crate::codec::{BoxError, Codec};

/// A record between two operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// Event time.
    pub timestamp: Timestamp,
    /// The headers of the input record, or what an operator made of them.
    pub headers: Headers,
}

impl<K, V> Record<K, V> {
    /// A record without headers.
    pub fn new(key: K, value: V, timestamp: Timestamp) -> Self {
        Self { key, value, timestamp, headers: Headers::default() }
    }

    /// The same record with another value.
    pub fn with_value<V2>(self, value: V2) -> Record<K, V2> {
        Record { key: self.key, value, timestamp: self.timestamp, headers: self.headers }
    }
}

/// One header: a name and a value that may be null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name; need not be unique.
    pub key: Arc<str>,
    /// The value.
    pub value: Option<Bytes>,
}

/// A record's headers in order. Empty ones cost nothing; a clone shares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<Vec<Header>>>);

impl Headers {
    /// These headers, in this order.
    #[must_use]
    pub fn of(headers: Vec<Header>) -> Self {
        Self((!headers.is_empty()).then(|| Arc::new(headers)))
    }

    /// All headers, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Header> {
        self.0.iter().flat_map(|headers| headers.iter())
    }

    /// The value of the last header of this name, as Kafka's `lastHeader` gives it.
    #[must_use]
    pub fn last(&self, key: &str) -> Option<&Header> {
        self.0.as_ref()?.iter().rev().find(|header| &*header.key == key)
    }

    /// Adds a header at the end.
    pub fn push(&mut self, key: impl Into<Arc<str>>, value: Option<Bytes>) {
        let headers = self.0.get_or_insert_default();
        Arc::make_mut(headers).push(Header { key: key.into(), value });
    }

    /// True without headers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// A record as it was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputRecord {
    /// Its offset.
    pub offset: Offset,
    /// The timestamp it carries.
    pub timestamp: Timestamp,
    /// The key, shared with the batch.
    pub key: Option<Bytes>,
    /// The value, shared with the batch.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
}

/// Where the record in hand came from. In a punctuation: the record before it.
#[derive(Debug, Clone, Copy)]
pub struct RecordContext<'a> {
    /// The topic and partition.
    pub partition: &'a TopicPartition,
    /// The offset.
    pub offset: Offset,
    /// Event time of the record in hand.
    pub timestamp: Timestamp,
    /// The headers of the record in hand.
    pub headers: &'a Headers,
}

/// Which topic of a topology: an index into its table of topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicIndex(pub(crate) usize);

/// Which partition a written record goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// The one that murmur2 of the key names, as every Kafka producer chooses. Without a key: any.
    ByKey,
    /// This one.
    Exactly(PartitionIndex),
}

/// A record to be produced, borrowed from the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produce<'a> {
    /// The topic.
    pub topic: TopicIndex,
    /// Its partition.
    pub placement: Placement,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// Event time.
    pub timestamp: Timestamp,
    /// The headers.
    pub headers: &'a Headers,
}

impl Produce<'_> {
    /// The partition it must go to; `None`: the one that the key names.
    #[must_use]
    pub fn partition(&self) -> Option<i32> {
        match self.placement {
            Placement::ByKey => None,
            Placement::Exactly(partition) => Some(partition.0),
        }
    }
}

/// What a task wants produced, in order. The owner empties it after each round of processing.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    topic: TopicIndex,
    placement: Placement,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    timestamp: Timestamp,
    headers: Headers,
}

/// Which half of a record could not be encoded.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode a {part}: {source}")]
pub(crate) struct EncodeFault {
    pub(crate) part: &'static str,
    pub(crate) source: BoxError,
}

impl Outbox {
    /// All records, in the order they were written.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Produce<'_>> {
        self.entries.iter().map(|entry| Produce {
            topic: entry.topic,
            placement: entry.placement,
            key: entry.key.clone().map(|range| &self.bytes[range]),
            value: entry.value.clone().map(|range| &self.bytes[range]),
            timestamp: entry.timestamp,
            headers: &entry.headers,
        })
    }

    /// How many records wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets all records; keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// Forgets the first `count` records.
    pub fn forget_first(&mut self, count: usize) {
        self.entries.drain(..count);
    }

    /// Writes a record through the codecs of its key and value.
    pub(crate) fn write<K, V>(
        &mut self,
        to: (TopicIndex, Placement),
        (key_codec, value_codec): (&dyn Codec<K>, &dyn Codec<V>),
        record: (&K, Option<&V>),
        timestamp: Timestamp,
        headers: Headers,
    ) -> Result<(), EncodeFault> {
        let start = self.bytes.len();
        let written = self
            .encode(key_codec, record.0)
            .map_err(|source| EncodeFault { part: "key", source })
            .and_then(|key| {
                let value = match record.1 {
                    Some(value) => self.encode(value_codec, value),
                    None => Ok(None),
                };
                Ok((key, value.map_err(|source| EncodeFault { part: "value", source })?))
            });
        match written {
            Ok((key, value)) => {
                let (topic, placement) = to;
                self.entries.push(Entry { topic, placement, key, value, timestamp, headers });
                Ok(())
            }
            Err(fault) => {
                self.bytes.truncate(start);
                Err(fault)
            }
        }
    }

    /// Writes a record from what the two functions append; `false` stands for null.
    pub(crate) fn write_with(
        &mut self,
        to: (TopicIndex, Placement),
        timestamp: Timestamp,
        key: impl FnOnce(&mut Vec<u8>) -> Result<bool, BoxError>,
        value: impl FnOnce(&mut Vec<u8>) -> Result<bool, BoxError>,
    ) -> Result<(), EncodeFault> {
        let start = self.bytes.len();
        let fault = |part| move |source| EncodeFault { part, source };
        let has_key = key(&mut self.bytes).map_err(fault("key"))?;
        let middle = self.bytes.len();
        let has_value = value(&mut self.bytes).map_err(fault("value"))?;
        let end = self.bytes.len();
        self.entries.push(Entry {
            topic: to.0,
            placement: to.1,
            key: has_key.then_some(start..middle),
            value: has_value.then_some(middle..end),
            timestamp,
            headers: Headers::default(),
        });
        Ok(())
    }

    /// Writes bytes as they are.
    pub(crate) fn write_raw(&mut self, topic: TopicIndex, record: &InputRecord, headers: Headers) {
        let key = record.key.as_ref().map(|bytes| self.append(bytes));
        let value = record.value.as_ref().map(|bytes| self.append(bytes));
        self.entries.push(Entry {
            topic,
            placement: Placement::ByKey,
            key,
            value,
            timestamp: record.timestamp,
            headers,
        });
    }

    fn append(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    fn encode<T>(
        &mut self,
        codec: &dyn Codec<T>,
        value: &T,
    ) -> Result<Option<Range<usize>>, BoxError> {
        if codec.is_null(value) {
            return Ok(None);
        }
        let start = self.bytes.len();
        codec.encode(value, &mut self.bytes)?;
        Ok(Some(start..self.bytes.len()))
    }
}
