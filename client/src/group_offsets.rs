//! What a group has committed: asked of its coordinator, and told to it.
//!
//! An offset that is pending in an open transaction is not an answer for who must not miss it:
//! with `require_stable` the coordinator says so, and we ask again (KIP-447). Shell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::api::group_offsets::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic,
    OffsetFetchRequestTopics, OffsetFetchResponse,
};
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::ids::{GenerationId, LeaderEpoch, Offset, TopicPartition};

use crate::error::RequestError;
use crate::net::connection::CallOptions;
use crate::net::pool::Purpose;
use crate::router::{CoordinatorKind, Router};

/// 9: the newest version that names topics; later ones have ids only.
const VERSION_MAX: i16 = 9;

/// A position worth remembering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// Where to go on: the offset after the last record that is done.
    pub offset: Offset,
    /// The leader epoch of that last record, where known. KIP-320.
    pub leader_epoch: LeaderEpoch,
    /// Whatever the application wants to find beside it; at most 4096 bytes by default.
    pub metadata: String,
}

impl From<Offset> for OffsetAndMetadata {
    fn from(offset: Offset) -> Self {
        Self { offset, leader_epoch: LeaderEpoch::NONE, metadata: String::new() }
    }
}

/// Who a member of a group is at present. Fences those who were members before (KIP-447).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    /// The group.
    pub group_id: String,
    /// The generation that the member belongs to; -1: it is not a member.
    pub generation: GenerationId,
    /// The member; empty: not a member.
    pub member_id: String,
    /// Its name across restarts, if it has one. KIP-345.
    pub instance_id: Option<String>,
}

impl GroupMetadata {
    /// Of a client that uses a group's offsets without being a member.
    pub fn simple(group_id: impl Into<String>) -> Self {
        Self {
            group_id: group_id.into(),
            generation: GenerationId(-1),
            member_id: String::new(),
            instance_id: None,
        }
    }
}

/// The partitions by topic, in order: as requests want them.
pub(crate) fn by_topic<'a, T>(
    partitions: impl IntoIterator<Item = (&'a TopicPartition, T)>,
) -> Vec<(String, Vec<(i32, T)>)> {
    let mut topics: Vec<(String, Vec<(i32, T)>)> = Vec::new();
    for (partition, with) in partitions {
        let one = (partition.partition.0, with);
        match topics.last_mut().filter(|(name, _)| **name == *partition.topic) {
            Some((_, of_topic)) => of_topic.push(one),
            None => topics.push((partition.topic.to_string(), vec![one])),
        }
    }
    topics
}

/// What the group has committed, without the partitions for which it has nothing. `None`: of all
/// partitions.
pub(crate) async fn fetch(
    router: &Router,
    timeout: Duration,
    group_id: &str,
    partitions: Option<&[TopicPartition]>,
    require_stable: bool,
) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, RequestError> {
    let attempt = || async {
        let topics = partitions.map(|it| by_topic(it.iter().map(|it| (it, ()))));
        let group = group_id.to_owned();
        let options =
            CallOptions::within(router.patience().request_timeout).up_to_version(VERSION_MAX);
        let kind = CoordinatorKind::Group;
        let connection = router.coordinator(kind, group_id, Purpose::Coordinator).await?;
        let build = move |version| fetch_request(version, group, topics, require_stable);
        let answer = connection.call_with(options, build).await;
        if answer.is_err() {
            router.forget_coordinator(kind, group_id);
        }
        fetched(group_id, answer?).inspect_err(|error| {
            if let Some(code) = error.error_code() {
                router.heed_coordinator(kind, group_id, code);
            }
        })
    };
    router.retry(timeout, "fetch committed offsets", attempt).await
}

type TopicIndexes = Vec<(String, Vec<(i32, ())>)>;

fn fetch_request(
    version: i16,
    group_id: String,
    topics: Option<TopicIndexes>,
    require_stable: bool,
) -> OffsetFetchRequest {
    let indexes = |of: Vec<(i32, ())>| of.into_iter().map(|(index, ())| index).collect();
    // Brokers before 2.5 know no pending offsets: theirs are always stable.
    let require_stable = require_stable && version >= 7;
    if version >= 8 {
        let topics = topics.map(|topics| {
            let one = |(name, of)| OffsetFetchRequestTopics {
                name,
                partition_indexes: indexes(of),
                ..OffsetFetchRequestTopics::default()
            };
            topics.into_iter().map(one).collect()
        });
        let group =
            OffsetFetchRequestGroup { group_id, topics, ..OffsetFetchRequestGroup::default() };
        return OffsetFetchRequest {
            groups: vec![group],
            require_stable,
            ..OffsetFetchRequest::default()
        };
    }
    let topics = topics.map(|topics| {
        let one = |(name, of)| OffsetFetchRequestTopic { name, partition_indexes: indexes(of) };
        topics.into_iter().map(one).collect()
    });
    OffsetFetchRequest { group_id, topics, require_stable, ..OffsetFetchRequest::default() }
}

fn fetched(
    group_id: &str,
    response: OffsetFetchResponse,
) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, RequestError> {
    let accept = |subject: String, code: i16| {
        let refuse = |code| RequestError::code(ApiKey::OffsetFetch, subject, code, None);
        ErrorCode::from_wire(code).ok().map_err(refuse)
    };
    let mut committed = BTreeMap::new();
    let mut take = |topic: &Arc<str>, index, code, offset, leader_epoch, metadata| {
        let partition = TopicPartition::new(Arc::clone(topic), index);
        accept(partition.to_string(), code)?;
        // -1: nothing committed.
        if offset >= 0 {
            let (offset, leader_epoch) = (Offset(offset), LeaderEpoch(leader_epoch));
            let metadata = Option::unwrap_or_default(metadata);
            committed.insert(partition, OffsetAndMetadata { offset, leader_epoch, metadata });
        }
        Ok::<(), RequestError>(())
    };
    accept(format!("group {group_id}"), response.error_code)?;
    for topic in response.topics {
        let name = topic.name.into();
        for it in topic.partitions {
            let epoch = it.committed_leader_epoch;
            take(
                &name,
                it.partition_index,
                it.error_code,
                it.committed_offset,
                epoch,
                it.metadata,
            )?;
        }
    }
    for group in response.groups {
        accept(format!("group {group_id}"), group.error_code)?;
        for topic in group.topics {
            let name = topic.name.into();
            for it in topic.partitions {
                let epoch = it.committed_leader_epoch;
                let (index, code) = (it.partition_index, it.error_code);
                take(&name, index, code, it.committed_offset, epoch, it.metadata)?;
            }
        }
    }
    Ok(committed)
}

/// Commits `offsets` for the group, all or none being certain only on success.
pub(crate) async fn commit(
    router: &Router,
    timeout: Duration,
    member: &GroupMetadata,
    offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
) -> Result<(), RequestError> {
    if offsets.is_empty() {
        return Ok(());
    }
    let (kind, group_id) = (CoordinatorKind::Group, member.group_id.as_str());
    let attempt = || async {
        let request = commit_request(member, offsets);
        let options =
            CallOptions::within(router.patience().request_timeout).up_to_version(VERSION_MAX);
        let connection = router.coordinator(kind, group_id, Purpose::Coordinator).await?;
        let build = move |version| OffsetCommitRequest {
            group_instance_id: request.group_instance_id.clone().filter(|_| version >= 7),
            ..request
        };
        let answer = connection.call_with(options, build).await;
        if answer.is_err() {
            router.forget_coordinator(kind, group_id);
        }
        committed(&answer?).inspect_err(|error| {
            if let Some(code) = error.error_code() {
                router.heed_coordinator(kind, group_id, code);
            }
        })
    };
    router.retry(timeout, "commit offsets", attempt).await
}

fn commit_request(
    member: &GroupMetadata,
    offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
) -> OffsetCommitRequest {
    let one = |(partition_index, it): (i32, &OffsetAndMetadata)| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: it.offset.0,
        committed_leader_epoch: it.leader_epoch.0,
        committed_metadata: Some(it.metadata.clone()),
    };
    let topics = by_topic(offsets).into_iter().map(|(name, of)| OffsetCommitRequestTopic {
        name,
        partitions: of.into_iter().map(one).collect(),
        ..OffsetCommitRequestTopic::default()
    });
    OffsetCommitRequest {
        group_id: member.group_id.clone(),
        generation_id_or_member_epoch: member.generation.0,
        member_id: member.member_id.clone(),
        group_instance_id: member.instance_id.clone(),
        topics: topics.collect(),
        ..OffsetCommitRequest::default()
    }
}

fn committed(response: &OffsetCommitResponse) -> Result<(), RequestError> {
    for topic in &response.topics {
        for partition in &topic.partitions {
            let subject = || format!("{}-{}", topic.name, partition.partition_index);
            let code = ErrorCode::from_wire(partition.error_code);
            let refuse = |code| RequestError::code(ApiKey::OffsetCommit, subject(), code, None);
            code.ok().map_err(refuse)?;
        }
    }
    Ok(())
}
