//! What the group coordinator writes into `__consumer_offsets`, byte for byte as Kafka does.
//!
//! Keys 0–1 hold an offset that a group committed, 2 a classic group's membership; those of consumer
//! groups are in `consumer_record`. Keys that we do not know are left alone, so that a log written by a newer broker still loads. Values
//! are written in the newest version that an older Kafka reads (3). Pure.

use std::sync::Arc;

use bytes::Bytes;
use protocol::ids::{GenerationId, LeaderEpoch, Offset, TopicPartition};
use protocol::message::{decode_record, encode_record};
use protocol::time::Timestamp;

use super::consumer_record::Change;
use crate::coordinator::KeyValue;

/// Version of the values that we write: the newest that is not flexible.
const VALUE_VERSION: i16 = 3;
/// Version of the key of a committed offset.
const OFFSET_KEY_VERSION: i16 = 1;
/// Version of the key of a classic group.
const GROUP_KEY_VERSION: i16 = 2;

protocol::wire! {
    /// Key of a committed offset.
    pub struct OffsetCommitKey (versions 0..=1) {
        /// The consumer group.
        group: String;
        /// The topic's name.
        topic: String;
        /// The partition's index.
        partition: i32;
    }

    /// A committed offset.
    pub struct OffsetCommitValue (versions 0..=4, flexible 4..) {
        /// The next offset to read.
        offset: i64;
        /// The leader epoch of the last record read; -1 when unknown.
        leader_epoch: i32 = -1, in 3.., ignorable;
        /// What the client wished to remember with it.
        metadata: String;
        /// When it was committed, in milliseconds.
        commit_timestamp: i64;
        /// When it expires, in milliseconds; written by old brokers alone.
        expire_timestamp: i64 = -1, in 1..=1, ignorable;
    }

    /// Key of a classic group's membership.
    pub struct GroupMetadataKey (versions 2..=2) {
        /// The consumer group.
        group: String;
    }

    /// A classic group as of its last completed rebalance.
    pub struct GroupMetadataValue (versions 0..=4, flexible 4..) {
        /// What kind of members; `consumer` for consumers.
        protocol_type: String;
        /// The generation.
        generation: i32;
        /// The protocol chosen.
        protocol: Option<String>;
        /// The leader's member id.
        leader: Option<String>;
        /// When the group entered its state, in milliseconds.
        current_state_timestamp: i64 = -1, in 2.., ignorable;
        /// The members.
        members: Vec<MemberMetadata>;
    }

    /// A member of a classic group.
    pub struct MemberMetadata {
        /// Its member id.
        member_id: String;
        /// Its static id.
        group_instance_id: Option<String> = None, in 3.., ignorable;
        /// Its client id.
        client_id: String;
        /// Where it connected from.
        client_host: String;
        /// How long it may take to rejoin, in milliseconds.
        rebalance_timeout: i32 = -1, in 1.., ignorable;
        /// How long it may be silent, in milliseconds.
        session_timeout: i32;
        /// What it told of itself for the chosen protocol.
        subscription: Bytes;
        /// What it was given.
        assignment: Bytes;
    }
}

/// An offset that a group committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: Offset,
    /// The leader epoch of the last record read.
    pub leader_epoch: LeaderEpoch,
    /// What the client wished to remember with it.
    pub metadata: Arc<str>,
    /// When it was committed.
    pub at: Timestamp,
}

/// A record of this log, understood.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupRecord {
    /// A committed offset; `None`: it was deleted.
    Offset {
        /// The group.
        group: Arc<str>,
        /// Of which partition.
        partition: TopicPartition,
        /// What was committed.
        committed: Option<Committed>,
    },
    /// A classic group; `None`: it was deleted.
    Classic {
        /// The group.
        group: Arc<str>,
        /// Its membership.
        metadata: Option<GroupMetadataValue>,
    },
    /// A part of a consumer group. KIP-848.
    Consumer {
        /// The group.
        group: Arc<str>,
        /// What changed.
        change: Change,
    },
    /// A kind that this version does not know.
    Unknown,
}

impl GroupRecord {
    /// Understands a record of the log.
    ///
    /// # Errors
    /// What is malformed, for a warning: the record is skipped.
    pub fn read(entry: &KeyValue) -> Result<Self, String> {
        let version = entry.key.get(..2).map(|it| i16::from_be_bytes([it[0], it[1]]));
        match version {
            Some(0..=OFFSET_KEY_VERSION) => {
                let (_, key) = decode_record::<OffsetCommitKey>(entry.key.clone())
                    .map_err(|error| error.to_string())?;
                let partition = TopicPartition::new(key.topic, key.partition);
                let committed = entry.value.clone().map(read_offset).transpose()?;
                Ok(Self::Offset { group: key.group.into(), partition, committed })
            }
            Some(GROUP_KEY_VERSION) => {
                let (_, key) = decode_record::<GroupMetadataKey>(entry.key.clone())
                    .map_err(|error| error.to_string())?;
                let metadata = entry.value.clone().map(decode_record::<GroupMetadataValue>);
                let metadata = metadata.transpose().map_err(|error| error.to_string())?;
                Ok(Self::Classic { group: key.group.into(), metadata: metadata.map(|it| it.1) })
            }
            Some(version) if Change::is_key(version) => {
                let (group, change) = Change::read(entry)?;
                Ok(Self::Consumer { group, change })
            }
            Some(_) => Ok(Self::Unknown),
            None => Err("the key has no version".to_owned()),
        }
    }
}

fn read_offset(value: Bytes) -> Result<Committed, String> {
    let (_, value) =
        decode_record::<OffsetCommitValue>(value).map_err(|error| error.to_string())?;
    Ok(Committed {
        offset: Offset(value.offset),
        leader_epoch: LeaderEpoch(value.leader_epoch),
        metadata: value.metadata.into(),
        at: Timestamp(value.commit_timestamp),
    })
}

/// The record of a committed offset; of its deletion, when `committed` is `None`.
#[must_use]
pub fn offset_record(
    group: &str,
    partition: &TopicPartition,
    committed: Option<&Committed>,
) -> KeyValue {
    let key = OffsetCommitKey {
        group: group.to_owned(),
        topic: partition.topic.to_string(),
        partition: partition.partition.0,
    };
    let value = committed.map(|it| OffsetCommitValue {
        offset: it.offset.0,
        leader_epoch: it.leader_epoch.0,
        metadata: it.metadata.to_string(),
        commit_timestamp: it.at.0,
        expire_timestamp: -1,
    });
    let encodable = "lengths were bounded when the request was decoded";
    KeyValue {
        key: encode_record(OFFSET_KEY_VERSION, &key).expect(encodable),
        value: value.map(|it| encode_record(VALUE_VERSION, &it).expect(encodable)),
    }
}

/// The record of a classic group; of its deletion, when `metadata` is `None`.
#[must_use]
pub fn group_record(group: &str, metadata: Option<&GroupMetadataValue>) -> KeyValue {
    let key = GroupMetadataKey { group: group.to_owned() };
    let encodable = "lengths were bounded when the request was decoded";
    KeyValue {
        key: encode_record(GROUP_KEY_VERSION, &key).expect(encodable),
        value: metadata.map(|it| encode_record(VALUE_VERSION, it).expect(encodable)),
    }
}

/// A generation as the log carries it.
#[must_use]
pub fn generation_of(metadata: &GroupMetadataValue) -> GenerationId {
    GenerationId(metadata.generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_survives_the_log_and_so_does_its_deletion() {
        let partition = TopicPartition::new("orders", 3);
        let committed = Committed {
            offset: Offset(42),
            leader_epoch: LeaderEpoch(7),
            metadata: "here".into(),
            at: Timestamp(99),
        };
        for committed in [Some(committed), None] {
            let entry = offset_record("billing", &partition, committed.as_ref());
            let want = GroupRecord::Offset {
                group: "billing".into(),
                partition: partition.clone(),
                committed,
            };
            assert_eq!(GroupRecord::read(&entry), Ok(want));
        }
    }

    #[test]
    fn an_offset_s_bytes_are_kafkas() {
        let committed = Committed {
            offset: Offset(1),
            leader_epoch: LeaderEpoch::NONE,
            metadata: "".into(),
            at: Timestamp(2),
        };
        let entry = offset_record("g", &TopicPartition::new("t", 0), Some(&committed));
        assert_eq!(&entry.key[..], b"\0\x01\0\x01g\0\x01t\0\0\0\0");
        let value = entry.value.unwrap();
        assert_eq!(&value[..], b"\0\x03\0\0\0\0\0\0\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\x02");
    }

    #[test]
    fn a_record_of_an_unknown_kind_is_passed_over_and_a_broken_one_named() {
        let entry = |key: &'static [u8]| KeyValue { key: Bytes::from_static(key), value: None };
        assert_eq!(GroupRecord::read(&entry(b"\0\x30abc")), Ok(GroupRecord::Unknown));
        assert!(GroupRecord::read(&entry(b"\0")).is_err());
        assert!(GroupRecord::read(&entry(b"\0\x01\0\x09g")).is_err());
    }
}
