//! What the transaction coordinator writes into `__transaction_state`, byte for byte as Kafka does.
//!
//! One record per transactional id holds all of its state; a missing value forgets the id. Values
//! are written in version 1, whose tagged fields older brokers skip. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use protocol::ids::{ProducerEpoch, ProducerId, TopicPartition};
use protocol::message::{decode_record, encode_record};
use protocol::mutant::{Mutant, is_active};
use protocol::time::Timestamp;

use super::state::{Status, Txn};
use super::{Producer, Version};
use crate::coordinator::KeyValue;

/// Version of the keys that we write.
const KEY_VERSION: i16 = 0;
/// Version of the values that we write.
const VALUE_VERSION: i16 = 1;

protocol::wire! {
    /// Key of a transactional id.
    pub struct TransactionLogKey (versions 0..=0) {
        /// The transactional id.
        transactional_id: String;
    }

    /// All that is known of a transactional id.
    pub struct TransactionLogValue (versions 0..=1, flexible 1..) {
        /// The producer id in use.
        producer_id: i64;
        /// The one before it.
        previous_producer_id: i64 = -1, in 1.., tag 0;
        /// The one that the client was told to use next.
        next_producer_id: i64 = -1, in 1.., tag 1;
        /// The epoch in use.
        producer_epoch: i16;
        /// After how long an open transaction is aborted, in milliseconds.
        transaction_timeout_ms: i32;
        /// The state's number.
        transaction_status: i8;
        /// The partitions of the open transaction, or where markers are owed.
        transaction_partitions: Option<Vec<PartitionsSchema>> = Some(Vec::new());
        /// When the record was written, in milliseconds.
        transaction_last_update_timestamp_ms: i64;
        /// When the transaction began, in milliseconds; -1 outside of one.
        transaction_start_timestamp_ms: i64;
        /// 2 when the epoch rises at each end.
        client_transaction_version: i16 = 0, in 1.., tag 2;
    }

    /// Partitions of one topic.
    pub struct PartitionsSchema {
        /// The topic's name.
        topic: String;
        /// Its partitions.
        partition_ids: Vec<i32>;
    }
}

/// The record of `id`'s state; of its deletion, when there is none.
#[must_use]
pub fn write(id: &str, txn: Option<&Txn>) -> KeyValue {
    let key = TransactionLogKey { transactional_id: id.to_owned() };
    let encodable = "lengths were bounded when the request was decoded";
    KeyValue {
        key: encode_record(KEY_VERSION, &key).expect(encodable),
        value: txn.map(|it| encode_record(VALUE_VERSION, &value_of(it)).expect(encodable)),
    }
}

fn value_of(txn: &Txn) -> TransactionLogValue {
    let mut topics: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
    for at in &txn.partitions {
        topics.entry(&at.topic).or_default().push(at.partition.0);
    }
    let schema = |(topic, partition_ids): (&Arc<str>, Vec<i32>)| PartitionsSchema {
        topic: topic.to_string(),
        partition_ids,
    };
    TransactionLogValue {
        producer_id: txn.producer.id.0,
        previous_producer_id: txn.previous.0,
        next_producer_id: match is_active(Mutant::LoseNextProducerId) {
            true => -1,
            false => txn.next.0,
        },
        producer_epoch: txn.producer.epoch.0,
        transaction_timeout_ms: i32::try_from(txn.timeout.as_millis()).unwrap_or(i32::MAX),
        transaction_status: txn.status.to_wire(),
        transaction_partitions: Some(topics.into_iter().map(schema).collect()),
        transaction_last_update_timestamp_ms: txn.updated.0,
        transaction_start_timestamp_ms: txn.started.0,
        client_transaction_version: match txn.version {
            Version::V1 => 0,
            Version::V2 => 2,
        },
    }
}

/// Understands a record: whose state, and which; `None`: the id was forgotten.
///
/// # Errors
/// What is malformed, for a warning: the record is skipped.
pub fn read(entry: &KeyValue) -> Result<(Arc<str>, Option<Txn>), String> {
    let (_, key) =
        decode_record::<TransactionLogKey>(entry.key.clone()).map_err(|error| error.to_string())?;
    let Some(value) = entry.value.clone() else { return Ok((key.transactional_id.into(), None)) };
    let (_, value) =
        decode_record::<TransactionLogValue>(value).map_err(|error| error.to_string())?;
    let status = Status::from_wire(value.transaction_status)
        .ok_or_else(|| format!("unknown status {}", value.transaction_status))?;
    let topics = value.transaction_partitions.unwrap_or_default();
    let partitions: BTreeSet<_> = topics
        .iter()
        .flat_map(|it| it.partition_ids.iter().map(|index| (it.topic.as_str(), *index)))
        .map(|(topic, index)| TopicPartition::new(topic, index))
        .collect();
    let timeout = u64::try_from(value.transaction_timeout_ms).unwrap_or(0);
    let txn = Txn {
        producer: Producer {
            id: ProducerId(value.producer_id),
            epoch: ProducerEpoch(value.producer_epoch),
        },
        previous: ProducerId(value.previous_producer_id),
        next: ProducerId(value.next_producer_id),
        timeout: Duration::from_millis(timeout),
        status,
        partitions,
        started: Timestamp(value.transaction_start_timestamp_ms),
        updated: Timestamp(value.transaction_last_update_timestamp_ms),
        version: if value.client_transaction_version < 2 { Version::V1 } else { Version::V2 },
    };
    Ok((key.transactional_id.into(), Some(txn)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_survives_the_log() {
        let txn = Txn {
            producer: Producer { id: ProducerId(7), epoch: ProducerEpoch(3) },
            previous: ProducerId::NONE,
            next: ProducerId(9),
            timeout: Duration::from_secs(10),
            status: Status::PrepareCommit,
            partitions: [TopicPartition::new("a", 0), TopicPartition::new("b", 2)].into(),
            started: Timestamp(5),
            updated: Timestamp(6),
            version: Version::V2,
        };
        let entry = write("payments", Some(&txn));
        assert_eq!(read(&entry), Ok(("payments".into(), Some(txn))));
        assert_eq!(read(&write("payments", None)), Ok(("payments".into(), None)));
    }
}
