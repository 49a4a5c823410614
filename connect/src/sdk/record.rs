//! Records as connectors see them: bytes first.
//!
//! Key and value are shared slices: a source cuts them out of its read buffer and nothing is copied or
//! allocated per record until the batch is encoded. What the bytes mean (JSON, text) is between the
//! connector and its settings. Pure.

use std::sync::Arc;

use bytes::Bytes;
use protocol::ids::{Offset, PartitionIndex, TopicPartition};
use protocol::time::Timestamp;
use serde_json::Value;

/// A header of a record. Keys may repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name, shared between the records of a batch.
    pub key: Arc<str>,
    /// Its value. `None`: null.
    pub value: Option<Bytes>,
}

/// A record on its way into a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRecord {
    /// Where to, shared between the records of a batch.
    pub topic: Arc<str>,
    /// Which partition. `None`: by the key, or any when there is none.
    pub partition: Option<PartitionIndex>,
    /// The key. `None`: null.
    pub key: Option<Bytes>,
    /// The value. `None`: null, which deletes the key in a compacted topic.
    pub value: Option<Bytes>,
    /// The headers; an empty vector allocates nothing.
    pub headers: Vec<Header>,
    /// When it happened. `None`: the time of writing.
    pub timestamp: Option<Timestamp>,
}

/// How far a source has read one of its partitions. KIP-618.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceOffset {
    /// What is read (a file, a table), as a JSON object. Two are the same if their JSON is the same.
    pub partition: Value,
    /// Where to go on, as the source alone understands it. `None` forgets the partition.
    pub offset: Option<Value>,
}

/// What one poll of a source found. All of it is committed, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceBatch {
    /// The records, in order. May be empty when offsets alone have moved.
    pub records: Vec<ConnectRecord>,
    /// Where the partitions read stand *behind* the last of these records.
    pub offsets: Vec<SourceOffset>,
}

impl SourceBatch {
    /// The bytes of all keys, values and headers.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let header = |header: &Header| header.key.len() + of(&header.value);
        self.records
            .iter()
            .map(|record| {
                of(&record.key)
                    + of(&record.value)
                    + record.headers.iter().map(header).sum::<usize>()
            })
            .sum()
    }
}

/// A record on its way out of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkRecord {
    /// Its position in its partition.
    pub offset: Offset,
    /// When it was made, or appended, as the topic is configured. [`Timestamp::NONE`]: unknown.
    pub timestamp: Timestamp,
    /// The key. `None`: null.
    pub key: Option<Bytes>,
    /// The value. `None`: null.
    pub value: Option<Bytes>,
    /// The headers, in order.
    pub headers: Vec<Header>,
}

/// Records of one partition, ascending by offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkBatch {
    /// Where they come from.
    pub partition: TopicPartition,
    /// The records; never empty.
    pub records: Vec<SinkRecord>,
}

impl SinkBatch {
    /// The offset behind the last record. `None` when empty.
    #[must_use]
    pub fn end(&self) -> Option<Offset> {
        self.records.last().map(|record| record.offset.plus(1))
    }
}
