//! What a consumer group of KIP-848 writes into `__consumer_offsets`, byte for byte as Kafka does.
//!
//! Keys 3 the group's epoch, 5 a member as it describes itself, 6 the epoch of the target
//! assignment, 7 a member's target, 8 where a member stands, 16 what a regular expression matches.
//! A group is the fold of these. Fields that a newer broker tagged on are passed over. Key 4, the
//! topics' metadata, was given up by Kafka 4.1 for a hash in key 3; it is not written and not read.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::ids::{PartitionIndex, TopicId};
use protocol::message::{Versioned, decode_record, encode_record};
use protocol::time::Timestamp;

use super::assignor::Assignment;
use super::modern::{ClassicPart, Current, Epoch, MemberState, Resolved, Subscriber};
use crate::coordinator::KeyValue;

const EPOCH_KEY: i16 = 3;
const MEMBER_KEY: i16 = 5;
const TARGET_EPOCH_KEY: i16 = 6;
const TARGET_KEY: i16 = 7;
const CURRENT_KEY: i16 = 8;
const PATTERN_KEY: i16 = 16;
/// Version of all values.
const VALUE_VERSION: i16 = 0;

protocol::wire! {
    /// Key of what concerns a whole group: 3 its epoch, 6 the epoch of its target.
    pub struct ConsumerGroupKey (versions 3..=6) {
        /// The group.
        group: String;
    }

    /// Key of what concerns a member: 5 itself, 7 its target, 8 where it stands.
    pub struct ConsumerGroupMemberKey (versions 5..=8) {
        /// The group.
        group: String;
        /// The member.
        member: String;
    }

    /// Key of what a regular expression matches.
    pub struct ConsumerGroupRegularExpressionKey (versions 16..=16) {
        /// The group.
        group: String;
        /// The expression.
        regular_expression: String;
    }

    /// A group's epoch.
    pub struct ConsumerGroupMetadataValue (versions 0..=0, flexible 0..) {
        /// Raised whenever a new target is needed.
        epoch: i32;
        /// A hash over the topics subscribed to; 0: none was made.
        metadata_hash: i64, tag 0;
    }

    /// A member as it describes itself.
    pub struct ConsumerGroupMemberMetadataValue (versions 0..=0, flexible 0..) {
        /// Its static id.
        instance_id: Option<String>;
        /// Its rack.
        rack_id: Option<String>;
        /// Its client id.
        client_id: String;
        /// Where it connected from.
        client_host: String;
        /// The topics that it wants.
        subscribed_topic_names: Vec<String>;
        /// The expression whose topics it wants.
        subscribed_topic_regex: Option<String>;
        /// How long it may take to give partitions up, in milliseconds.
        rebalance_timeout_ms: i32 = -1;
        /// The assignor that it prefers.
        server_assignor: Option<String>;
        /// Set for a member that speaks the classic protocol.
        classic_member_metadata: Option<ClassicMemberMetadata>, tag 0;
    }

    /// What a member of the classic protocol has beside.
    pub struct ClassicMemberMetadata {
        /// How long it may be silent, in milliseconds.
        session_timeout_ms: i32;
        /// What it told for each protocol that it supports.
        supported_protocols: Vec<ClassicProtocol>;
    }

    /// A protocol of a classic member.
    pub struct ClassicProtocol {
        /// Its name.
        name: String;
        /// What the member told for it.
        metadata: Bytes;
    }

    /// The epoch of the target assignment.
    pub struct ConsumerGroupTargetAssignmentMetadataValue (versions 0..=0, flexible 0..) {
        /// The group's epoch that the target was made for.
        assignment_epoch: i32;
    }

    /// A member's target.
    pub struct ConsumerGroupTargetAssignmentMemberValue (versions 0..=0, flexible 0..) {
        /// Its partitions.
        topic_partitions: Vec<TopicPartitions>;
    }

    /// Partitions of one topic.
    pub struct TopicPartitions {
        /// The topic.
        topic_id: TopicId;
        /// Its partitions.
        partitions: Vec<i32>;
    }

    /// Where a member stands.
    pub struct ConsumerGroupCurrentMemberAssignmentValue (versions 0..=0, flexible 0..) {
        /// Its epoch.
        member_epoch: i32;
        /// Its epoch before: a member that missed the answer still sends it.
        previous_member_epoch: i32;
        /// See [`MemberState`].
        state: i8;
        /// What it may read.
        assigned_partitions: Vec<TopicPartitions>;
        /// What it must give up.
        partitions_pending_revocation: Vec<TopicPartitions>;
    }

    /// What a regular expression matches.
    pub struct ConsumerGroupRegularExpressionValue (versions 0..=0, flexible 0..) {
        /// The topics.
        topics: Vec<String>;
        /// Which end of the metadata log was looked at.
        version: i64;
        /// When, in milliseconds.
        timestamp: i64;
    }
}

/// One change of a consumer group. Within each, `None` deletes.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The group's epoch, and the hash of its topics. Deleting it deletes the group.
    Epoch(Option<(Epoch, i64)>),
    /// A member as it describes itself.
    Member(Arc<str>, Option<Arc<Subscriber>>),
    /// The epoch of the target.
    TargetEpoch(Option<Epoch>),
    /// A member's target.
    Target(Arc<str>, Option<Arc<Assignment>>),
    /// Where a member stands.
    Current(Arc<str>, Option<Arc<Current>>),
    /// What an expression matches.
    Pattern(Arc<str>, Option<Arc<Resolved>>),
}

impl Change {
    /// True for the kinds of keys that a consumer group writes.
    #[must_use]
    pub fn is_key(version: i16) -> bool {
        matches!(
            version,
            EPOCH_KEY | MEMBER_KEY | TARGET_EPOCH_KEY | TARGET_KEY | CURRENT_KEY | PATTERN_KEY
        )
    }

    /// Understands a record whose key has one of these kinds: the group, and what changed.
    ///
    /// # Errors
    /// What is malformed, for a warning: the record is skipped.
    pub fn read(entry: &KeyValue) -> Result<(Arc<str>, Self), String> {
        let version = entry.key.get(..2).map(|it| i16::from_be_bytes([it[0], it[1]]));
        match version {
            Some(EPOCH_KEY) => {
                let value = value::<ConsumerGroupMetadataValue>(entry)?;
                let epoch = value.map(|it| (Epoch(it.epoch), it.metadata_hash));
                Ok((group_key(entry)?, Self::Epoch(epoch)))
            }
            Some(TARGET_EPOCH_KEY) => {
                let value = value::<ConsumerGroupTargetAssignmentMetadataValue>(entry)?;
                let epoch = value.map(|it| Epoch(it.assignment_epoch));
                Ok((group_key(entry)?, Self::TargetEpoch(epoch)))
            }
            Some(MEMBER_KEY) => {
                let (group, member) = member_key(entry)?;
                let value = value(entry)?.map(|it| Arc::new(subscriber(it)));
                Ok((group, Self::Member(member, value)))
            }
            Some(TARGET_KEY) => {
                let (group, member) = member_key(entry)?;
                let value = value::<ConsumerGroupTargetAssignmentMemberValue>(entry)?;
                let target = value.map(|it| Arc::new(assignment(it.topic_partitions)));
                Ok((group, Self::Target(member, target)))
            }
            Some(CURRENT_KEY) => {
                let (group, member) = member_key(entry)?;
                let value = value(entry)?.map(|it| Arc::new(current(it)));
                Ok((group, Self::Current(member, value)))
            }
            Some(PATTERN_KEY) => {
                let key = key::<ConsumerGroupRegularExpressionKey>(entry)?;
                let value = value(entry)?.map(|it| Arc::new(resolved(it)));
                Ok((key.group.into(), Self::Pattern(key.regular_expression.into(), value)))
            }
            Some(other) => Err(format!("key version {other} is no consumer group's")),
            None => Err("the key has no version".to_owned()),
        }
    }

    /// The record that says so of `group`.
    #[must_use]
    pub fn record(&self, group: &str) -> KeyValue {
        let of_group = |version| written(version, &ConsumerGroupKey { group: group.to_owned() });
        let of_member = |version, member: &Arc<str>| {
            let (group, member) = (group.to_owned(), member.to_string());
            written(version, &ConsumerGroupMemberKey { group, member })
        };
        match self {
            Self::Epoch(value) => {
                let value = value.map(|(epoch, metadata_hash)| {
                    let value = ConsumerGroupMetadataValue { epoch: epoch.0, metadata_hash };
                    written(VALUE_VERSION, &value)
                });
                KeyValue { key: of_group(EPOCH_KEY), value }
            }
            Self::TargetEpoch(value) => {
                let value = value.map(|it| {
                    let assignment_epoch = it.0;
                    let value = ConsumerGroupTargetAssignmentMetadataValue { assignment_epoch };
                    written(VALUE_VERSION, &value)
                });
                KeyValue { key: of_group(TARGET_EPOCH_KEY), value }
            }
            Self::Member(member, value) => {
                let value = value.as_ref().map(|it| written(VALUE_VERSION, &subscriber_value(it)));
                KeyValue { key: of_member(MEMBER_KEY, member), value }
            }
            Self::Target(member, value) => {
                let value = value.as_ref().map(|it| {
                    let topic_partitions = partitions(it);
                    let value = ConsumerGroupTargetAssignmentMemberValue { topic_partitions };
                    written(VALUE_VERSION, &value)
                });
                KeyValue { key: of_member(TARGET_KEY, member), value }
            }
            Self::Current(member, value) => {
                let value = value.as_ref().map(|it| written(VALUE_VERSION, &current_value(it)));
                KeyValue { key: of_member(CURRENT_KEY, member), value }
            }
            Self::Pattern(pattern, value) => {
                let key = ConsumerGroupRegularExpressionKey {
                    group: group.to_owned(),
                    regular_expression: pattern.to_string(),
                };
                let value = value.as_ref().map(|it| written(VALUE_VERSION, &resolved_value(it)));
                KeyValue { key: written(PATTERN_KEY, &key), value }
            }
        }
    }
}

fn key<T: Versioned>(entry: &KeyValue) -> Result<T, String> {
    let key = decode_record(entry.key.clone()).map_err(|error| error.to_string())?;
    Ok(key.1)
}

fn group_key(entry: &KeyValue) -> Result<Arc<str>, String> {
    key::<ConsumerGroupKey>(entry).map(|it| it.group.into())
}

fn member_key(entry: &KeyValue) -> Result<(Arc<str>, Arc<str>), String> {
    key::<ConsumerGroupMemberKey>(entry).map(|it| (it.group.into(), it.member.into()))
}

fn value<T: Versioned>(entry: &KeyValue) -> Result<Option<T>, String> {
    let value = entry.value.clone().map(decode_record::<T>).transpose();
    Ok(value.map_err(|error| error.to_string())?.map(|it| it.1))
}

fn written<T: Versioned>(version: i16, message: &T) -> Bytes {
    encode_record(version, message).expect("lengths were bounded when the request was decoded")
}

fn assignment(partitions: Vec<TopicPartitions>) -> Assignment {
    let topic = |it: TopicPartitions| {
        (it.topic_id, it.partitions.into_iter().map(PartitionIndex).collect::<BTreeSet<_>>())
    };
    partitions.into_iter().map(topic).filter(|(_, it)| !it.is_empty()).collect::<BTreeMap<_, _>>()
}

fn partitions(assignment: &Assignment) -> Vec<TopicPartitions> {
    let topic = |(topic, indices): (&TopicId, &BTreeSet<PartitionIndex>)| TopicPartitions {
        topic_id: *topic,
        partitions: indices.iter().map(|it| it.0).collect(),
    };
    assignment.iter().map(topic).collect()
}

fn named(text: Option<String>) -> Option<Arc<str>> {
    text.map(Into::into)
}

fn text(text: &Option<Arc<str>>) -> Option<String> {
    text.as_deref().map(Into::into)
}

fn duration(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn subscriber(value: ConsumerGroupMemberMetadataValue) -> Subscriber {
    let classic = |it: ClassicMemberMetadata| ClassicPart {
        session_timeout: duration(it.session_timeout_ms),
        protocols: it
            .supported_protocols
            .into_iter()
            .map(|protocol| (Arc::from(protocol.name), protocol.metadata))
            .collect(),
    };
    Subscriber {
        instance_id: named(value.instance_id),
        rack_id: named(value.rack_id),
        client_id: value.client_id.into(),
        client_host: value.client_host.into(),
        topics: value.subscribed_topic_names.into_iter().map(Into::into).collect(),
        pattern: named(value.subscribed_topic_regex).filter(|it| !it.is_empty()),
        rebalance_timeout: duration(value.rebalance_timeout_ms),
        assignor: named(value.server_assignor),
        classic: value.classic_member_metadata.map(classic),
    }
}

fn subscriber_value(subscriber: &Subscriber) -> ConsumerGroupMemberMetadataValue {
    let classic = |it: &ClassicPart| ClassicMemberMetadata {
        session_timeout_ms: millis(it.session_timeout),
        supported_protocols: it
            .protocols
            .iter()
            .map(|(name, metadata)| ClassicProtocol {
                name: name.to_string(),
                metadata: metadata.clone(),
            })
            .collect(),
    };
    ConsumerGroupMemberMetadataValue {
        instance_id: text(&subscriber.instance_id),
        rack_id: text(&subscriber.rack_id),
        client_id: subscriber.client_id.to_string(),
        client_host: subscriber.client_host.to_string(),
        subscribed_topic_names: subscriber.topics.iter().map(ToString::to_string).collect(),
        subscribed_topic_regex: text(&subscriber.pattern),
        rebalance_timeout_ms: millis(subscriber.rebalance_timeout),
        server_assignor: text(&subscriber.assignor),
        classic_member_metadata: subscriber.classic.as_ref().map(classic),
    }
}

fn current(value: ConsumerGroupCurrentMemberAssignmentValue) -> Current {
    Current {
        epoch: Epoch(value.member_epoch),
        previous_epoch: Epoch(value.previous_member_epoch),
        state: MemberState::from_log(value.state),
        assigned: assignment(value.assigned_partitions),
        revoking: assignment(value.partitions_pending_revocation),
    }
}

fn current_value(current: &Current) -> ConsumerGroupCurrentMemberAssignmentValue {
    ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: current.epoch.0,
        previous_member_epoch: current.previous_epoch.0,
        state: current.state.to_log(),
        assigned_partitions: partitions(&current.assigned),
        partitions_pending_revocation: partitions(&current.revoking),
    }
}

fn resolved(value: ConsumerGroupRegularExpressionValue) -> Resolved {
    Resolved {
        topics: value.topics.into_iter().map(Into::into).collect(),
        version: value.version,
        at: Timestamp(value.timestamp),
    }
}

fn resolved_value(resolved: &Resolved) -> ConsumerGroupRegularExpressionValue {
    ConsumerGroupRegularExpressionValue {
        topics: resolved.topics.iter().map(ToString::to_string).collect(),
        version: resolved.version,
        timestamp: resolved.at.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: &Change) -> KeyValue {
        let entry = change.record("g");
        assert_eq!(Change::read(&entry), Ok(("g".into(), change.clone())));
        entry
    }

    fn one(topic: u8, indices: &[i32]) -> Assignment {
        let indices = indices.iter().map(|it| PartitionIndex(*it)).collect();
        Assignment::from([(TopicId([topic; 16]), indices)])
    }

    #[test]
    fn the_bytes_of_a_group_s_and_a_target_s_epoch_are_kafkas() {
        let entry = check(&Change::Epoch(Some((Epoch(7), 0))));
        assert_eq!(&entry.key[..], b"\0\x03\0\x01g");
        assert_eq!(&entry.value.unwrap()[..], b"\0\0\0\0\0\x07\0");
        // One tag, number 0, of eight bytes.
        let entry = check(&Change::Epoch(Some((Epoch(7), 1))));
        assert_eq!(&entry.value.unwrap()[..], b"\0\0\0\0\0\x07\x01\0\x08\0\0\0\0\0\0\0\x01");
        let entry = check(&Change::TargetEpoch(Some(Epoch(7))));
        assert_eq!(&entry.key[..], b"\0\x06\0\x01g");
        assert_eq!(&entry.value.unwrap()[..], b"\0\0\0\0\0\x07\0");
        assert_eq!(check(&Change::Epoch(None)).value, None);
        assert_eq!(check(&Change::TargetEpoch(None)).value, None);
    }

    #[test]
    fn the_bytes_of_a_target_and_of_where_a_member_stands_are_kafkas() {
        let entry = check(&Change::Target("m".into(), Some(Arc::new(one(9, &[1])))));
        assert_eq!(&entry.key[..], b"\0\x07\0\x01g\0\x01m");
        let topic = [[9_u8; 16].as_slice(), b"\x02\0\0\0\x01\0"].concat();
        assert_eq!(&entry.value.unwrap()[..], [b"\0\0\x02".as_slice(), &topic, b"\0"].concat());
        let current = Current {
            epoch: Epoch(5),
            previous_epoch: Epoch(4),
            state: MemberState::Unrevoked,
            assigned: Assignment::new(),
            revoking: one(9, &[1]),
        };
        let entry = check(&Change::Current("m".into(), Some(Arc::new(current))));
        assert_eq!(&entry.key[..], b"\0\x08\0\x01g\0\x01m");
        let want = [b"\0\0\0\0\0\x05\0\0\0\x04\x01\x01\x02".as_slice(), &topic, b"\0"].concat();
        assert_eq!(&entry.value.unwrap()[..], want);
        assert_eq!(check(&Change::Target("m".into(), None)).value, None);
        assert_eq!(check(&Change::Current("m".into(), None)).value, None);
    }

    #[test]
    fn the_bytes_of_a_member_are_kafkas() {
        let mut subscriber = Subscriber {
            instance_id: Some("i".into()),
            rack_id: None,
            client_id: "c".into(),
            client_host: "h".into(),
            topics: BTreeSet::from(["t".into()]),
            pattern: None,
            rebalance_timeout: Duration::from_millis(1),
            assignor: Some("u".into()),
            classic: None,
        };
        let entry = check(&Change::Member("m".into(), Some(Arc::new(subscriber.clone()))));
        assert_eq!(&entry.key[..], b"\0\x05\0\x01g\0\x01m");
        let fields = b"\0\0\x02i\0\x02c\x02h\x02\x02t\0\0\0\0\x01\x02u";
        assert_eq!(&entry.value.unwrap()[..], [fields.as_slice(), b"\0"].concat());
        subscriber.classic = Some(ClassicPart {
            session_timeout: Duration::from_millis(2),
            protocols: vec![("p".into(), Bytes::from_static(b"x"))],
        });
        let entry = check(&Change::Member("m".into(), Some(Arc::new(subscriber))));
        let tagged = b"\x01\0\x0c\x01\0\0\0\x02\x02\x02p\x02x\0\0";
        assert_eq!(&entry.value.unwrap()[..], [fields.as_slice(), tagged].concat());
    }

    #[test]
    fn the_bytes_of_an_expression_are_kafkas() {
        let resolved =
            Resolved { topics: BTreeSet::from(["t".into()]), version: 1, at: Timestamp(2) };
        let entry = check(&Change::Pattern("t.*".into(), Some(Arc::new(resolved))));
        assert_eq!(&entry.key[..], b"\0\x10\0\x01g\0\x03t.*");
        let want = b"\0\0\x02\x02t\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0";
        assert_eq!(&entry.value.unwrap()[..], want);
        assert_eq!(check(&Change::Pattern("t.*".into(), None)).value, None);
    }
}
