//! OffsetCommit, OffsetFetch, OffsetDelete and TxnOffsetCommit: how far a group has come. Shell.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::api::group_offsets::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic, OffsetFetchRequest,
    OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use protocol::api::txn::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};
use protocol::error_code::ErrorCode;
use protocol::ids::{
    GenerationId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId, TopicPartition,
};
use protocol::time::Timestamp;

use super::serving::Context;
use super::txn::{abortable_as, join_transaction};
use crate::group::modern::Epoch;
use crate::group::{self, Commit, Committed, Fetch, Groups, Membership, Reply, Request};
use crate::metadata::Image;
use crate::partition::VerificationGuard;
use crate::txn::{Producer, Txns, Version};

/// The first version that names topics by id. KIP-848.
const BY_ID: i16 = 10;
/// The first OffsetCommit that may carry a member's epoch. KIP-848.
const EPOCHS: i16 = 9;
/// The first OffsetFetch that asks for several groups. KIP-709.
const SEVERAL_GROUPS: i16 = 8;
/// The first TxnOffsetCommit that knows `TransactionAbortable`. KIP-890.
const TXN_COMMIT_KNOWS_ABORTABLE: i16 = 4;
/// The first TxnOffsetCommit whose sender's transactions end by version 2. KIP-890.
const TXN_COMMIT_V2: i16 = 5;

/// A transaction that holds the group's partition.
struct Joined {
    producer: Producer,
    /// In version 1 it was verified only: no marker may have come since. In version 2 a marker
    /// raises the epoch.
    guard: Option<VerificationGuard>,
}

/// One topic's answers while they are gathered.
struct Gathered {
    name: Option<Arc<str>>,
    id: TopicId,
    partitions: Vec<(i32, ErrorCode)>,
}

/// What a request wants to commit: lawful offsets, and the answers so far, in the request's order.
struct Gathering<'a> {
    image: &'a Image,
    at: Timestamp,
    offsets: Vec<(TopicPartition, Committed)>,
    topics: Vec<Gathered>,
}

/// An offset as a request has it.
struct Wanted {
    index: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: Option<String>,
}

impl<'a> Gathering<'a> {
    fn new(image: &'a Image, context: &Context) -> Self {
        Self { image, at: context.now.wall, offsets: Vec::new(), topics: Vec::new() }
    }

    /// Takes in one topic's offsets; `name` is `None` where the id names none.
    fn topic(&mut self, name: Option<Arc<str>>, id: TopicId, wanted: impl Iterator<Item = Wanted>) {
        let mut partitions = Vec::new();
        for Wanted { index, offset, leader_epoch, metadata } in wanted {
            let code = exists(self.image, name.as_deref(), index);
            partitions.push((index, code));
            if let (Some(name), ErrorCode::None) = (&name, code) {
                let at = TopicPartition::new(Arc::clone(name), index);
                let committed = Committed {
                    offset: Offset(offset),
                    leader_epoch: LeaderEpoch(leader_epoch),
                    metadata: metadata.unwrap_or_default().into(),
                    at: self.at,
                };
                self.offsets.push((at, committed));
            }
        }
        self.topics.push(Gathered { name, id, partitions });
    }

    /// The answers of all that is lawful are `code`.
    fn refuse(&mut self, code: ErrorCode) {
        open(&mut self.topics).for_each(|partition| partition.1 = code);
    }

    /// Commits what is lawful, and has the answers.
    async fn commit(
        &mut self,
        groups: &Groups,
        member: Membership,
        transaction: Option<Joined>,
        speaks_epochs: bool,
    ) {
        let offsets = std::mem::take(&mut self.offsets);
        let count = offsets.len();
        let group = Arc::clone(&member.group);
        let (producer, guard) = match transaction {
            Some(Joined { producer, guard }) => (Some((producer.id, producer.epoch)), guard),
            None => (None, None),
        };
        let commit = Commit { member, producer, guard, speaks_epochs, offsets };
        let codes = match groups.call(&group, Request::Commit(commit)).await {
            Ok(Reply::Committed(codes)) => codes,
            Ok(other) => unreachable!("a commit is answered as one: {other:?}"),
            Err(error) => vec![error.code(); count],
        };
        fill(codes, &mut self.topics);
    }
}

/// Those that were not refused yet get their codes.
fn fill(codes: Vec<ErrorCode>, topics: &mut [Gathered]) {
    open(topics).zip(codes).for_each(|(partition, code)| partition.1 = code);
}

/// The partitions of which nothing is wrong yet.
fn open(topics: &mut [Gathered]) -> impl Iterator<Item = &mut (i32, ErrorCode)> {
    topics.iter_mut().flat_map(|it| &mut it.partitions).filter(|it| it.1.is_ok())
}

fn exists(image: &Image, name: Option<&str>, index: i32) -> ErrorCode {
    let Some(name) = name else { return ErrorCode::UnknownTopicId };
    match image.partition(name, index.into()) {
        Some(_) => ErrorCode::None,
        None => ErrorCode::UnknownTopicOrPartition,
    }
}

/// OffsetCommit.
pub(crate) async fn commit(
    groups: &Groups,
    image: &Image,
    context: &Context,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let mut gathering = Gathering::new(image, context);
    for topic in request.topics {
        let by_id = || image.topic_by_id(topic.topic_id).map(|it| Arc::clone(&it.name));
        let by_name = || Some(Arc::from(topic.name.as_str()));
        let name = if BY_ID <= context.version { by_id() } else { by_name() };
        let wanted = topic.partitions.into_iter().map(|it| Wanted {
            index: it.partition_index,
            offset: it.committed_offset,
            leader_epoch: it.committed_leader_epoch,
            metadata: it.committed_metadata,
        });
        gathering.topic(name, topic.topic_id, wanted);
    }
    let member = Membership {
        group: request.group_id.into(),
        generation: GenerationId(request.generation_id_or_member_epoch),
        member_id: request.member_id.into(),
        instance_id: request.group_instance_id.map(Into::into),
    };
    gathering.commit(groups, member, None, EPOCHS <= context.version).await;
    let partition = |(partition_index, code): (i32, ErrorCode)| OffsetCommitResponsePartition {
        partition_index,
        error_code: code.to_wire(),
    };
    let answer = |it: Gathered| OffsetCommitResponseTopic {
        name: it.name.as_deref().unwrap_or_default().to_owned(),
        topic_id: it.id,
        partitions: it.partitions.into_iter().map(partition).collect(),
    };
    let topics = gathering.topics.into_iter().map(answer).collect();
    OffsetCommitResponse { throttle_time_ms: 0, topics }
}

/// TxnOffsetCommit: the offsets count from the transaction's commit on. KIP-98, KIP-447.
pub(crate) async fn txn_commit(
    groups: &Groups,
    txns: &Txns,
    image: &Image,
    context: &Context,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let group: Arc<str> = request.group_id.into();
    let producer = Producer {
        id: ProducerId(request.producer_id),
        epoch: ProducerEpoch(request.producer_epoch),
    };
    let mut gathering = Gathering::new(image, context);
    for topic in request.topics {
        let wanted = topic.partitions.into_iter().map(|it| Wanted {
            index: it.partition_index,
            offset: it.committed_offset,
            leader_epoch: it.committed_leader_epoch,
            metadata: it.committed_metadata,
        });
        gathering.topic(Some(topic.name.into()), TopicId::ZERO, wanted);
    }
    let version = if TXN_COMMIT_V2 <= context.version { Version::V2 } else { Version::V1 };
    let joined = join(groups, txns, &group, &request.transactional_id, producer, version).await;
    match joined {
        // Clients of version 1 may not come again for it.
        Err(ErrorCode::ConcurrentTransactions) if version == Version::V1 => {
            gathering.refuse(ErrorCode::CoordinatorNotAvailable);
        }
        Err(code) => {
            gathering.refuse(abortable_as(code, TXN_COMMIT_KNOWS_ABORTABLE <= context.version));
        }
        Ok(joined) => {
            let member = Membership {
                group,
                generation: GenerationId(request.generation_id),
                member_id: request.member_id.into(),
                instance_id: request.group_instance_id.map(Into::into),
            };
            gathering.commit(groups, member, Some(joined), true).await;
        }
    }
    let partition = |(partition_index, code): (i32, ErrorCode)| TxnOffsetCommitResponsePartition {
        partition_index,
        error_code: code.to_wire(),
    };
    let answer = |it: Gathered| TxnOffsetCommitResponseTopic {
        name: it.name.as_deref().unwrap_or_default().to_owned(),
        partitions: it.partitions.into_iter().map(partition).collect(),
    };
    let topics = gathering.topics.into_iter().map(answer).collect();
    TxnOffsetCommitResponse { throttle_time_ms: 0, topics }
}

/// Makes sure that the partition of the group's offsets is in the producer's transaction.
async fn join(
    groups: &Groups,
    txns: &Txns,
    group: &str,
    transactional_id: &str,
    producer: Producer,
    version: Version,
) -> Result<Joined, ErrorCode> {
    let index = groups.partition_of(group).map_err(|error| error.code())?;
    let guard = match version {
        Version::V1 => Some(groups.guard(index, (producer.id, producer.epoch)).await?),
        Version::V2 => None,
    };
    let home = TopicPartition { topic: group::TOPIC.into(), partition: index };
    join_transaction(txns, transactional_id, producer, version, [home]).await?;
    Ok(Joined { producer, guard })
}

/// What a group has for one partition.
type Found = (TopicPartition, Result<Option<Committed>, ErrorCode>);

/// OffsetFetch.
pub(crate) async fn fetch(
    groups: &Groups,
    image: &Image,
    version: i16,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let require_stable = request.require_stable;
    if SEVERAL_GROUPS <= version {
        let mut answers = Vec::new();
        for asked in request.groups {
            answers.push(fetch_group(groups, image, version, asked, require_stable).await);
        }
        return OffsetFetchResponse { groups: answers, ..OffsetFetchResponse::default() };
    }
    let topic =
        |it: protocol::api::group_offsets::OffsetFetchRequestTopic| OffsetFetchRequestTopics {
            name: it.name,
            topic_id: TopicId::ZERO,
            partition_indexes: it.partition_indexes,
        };
    let asked = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics: request.topics.map(|topics| topics.into_iter().map(topic).collect()),
        ..OffsetFetchRequestGroup::default()
    };
    let answer = fetch_group(groups, image, version, asked, require_stable).await;
    let partition = |it: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: it.partition_index,
        committed_offset: it.committed_offset,
        committed_leader_epoch: it.committed_leader_epoch,
        metadata: it.metadata,
        error_code: it.error_code,
    };
    let topic = |it: OffsetFetchResponseTopics| OffsetFetchResponseTopic {
        name: it.name,
        partitions: it.partitions.into_iter().map(partition).collect(),
    };
    OffsetFetchResponse {
        throttle_time_ms: 0,
        topics: answer.topics.into_iter().map(topic).collect(),
        error_code: answer.error_code,
        groups: Vec::new(),
    }
}

async fn fetch_group(
    groups: &Groups,
    image: &Image,
    version: i16,
    asked: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let group: Arc<str> = asked.group_id.as_str().into();
    let name_of = |topic: &OffsetFetchRequestTopics| -> Option<Arc<str>> {
        if version < BY_ID {
            return Some(topic.name.as_str().into());
        }
        image.topic_by_id(topic.topic_id).map(|it| Arc::clone(&it.name))
    };
    let partitions = asked.topics.as_ref().map(|topics| {
        let named = topics.iter().filter_map(|topic| Some((name_of(topic)?, topic)));
        let each = named.flat_map(|(name, topic)| {
            let indices = topic.partition_indexes.iter();
            indices.map(move |it| TopicPartition::new(Arc::clone(&name), *it))
        });
        each.collect::<Vec<_>>()
    });
    let epoch = Epoch(asked.member_epoch);
    let member = asked.member_id.map(Arc::<str>::from);
    let tells = member.as_ref().is_some_and(|it| !it.is_empty()) || 0 <= epoch.0;
    let member = tells.then(|| (member.unwrap_or_default(), epoch));
    let fetch = Fetch { group: Arc::clone(&group), member, partitions, require_stable };
    let fetched = match groups.call(&group, Request::Fetch(fetch)).await {
        Ok(Reply::Fetched(fetched)) => fetched,
        Ok(other) => unreachable!("a fetch is answered as one: {other:?}"),
        Err(error) => Err(error.code()),
    };
    let found = match fetched {
        Ok(found) => found,
        Err(code) => {
            let (group_id, error_code) = (asked.group_id, code.to_wire());
            return OffsetFetchResponseGroup { group_id, topics: Vec::new(), error_code };
        }
    };
    let topics = match asked.topics {
        None => all_topics(image, found),
        // In the request's order, as found is.
        Some(asked) => {
            let mut found = found.into_iter();
            let mut answers = |topic: OffsetFetchRequestTopics| {
                let is_known = name_of(&topic).is_some();
                let mut each = |index: i32| {
                    let next = is_known.then(|| found.next()).flatten();
                    answer(index, next.map_or(Err(ErrorCode::UnknownTopicId), |(_, it)| it))
                };
                let partitions = topic.partition_indexes.iter().map(|it| each(*it)).collect();
                let OffsetFetchRequestTopics { name, topic_id, .. } = topic;
                OffsetFetchResponseTopics { name, topic_id, partitions }
            };
            asked.into_iter().map(&mut answers).collect()
        }
    };
    OffsetFetchResponseGroup { group_id: asked.group_id, topics, error_code: 0 }
}

/// All that a group has, by topic.
fn all_topics(image: &Image, found: Vec<Found>) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: BTreeMap<Arc<str>, Vec<OffsetFetchResponsePartitions>> = BTreeMap::new();
    for (at, committed) in found {
        topics.entry(at.topic).or_default().push(answer(at.partition.0, committed));
    }
    let topic = |(name, partitions): (Arc<str>, _)| OffsetFetchResponseTopics {
        topic_id: image.topic(&name).map(|it| it.id).unwrap_or_default(),
        name: name.to_string(),
        partitions,
    };
    topics.into_iter().map(topic).collect()
}

fn answer(
    partition_index: i32,
    committed: Result<Option<Committed>, ErrorCode>,
) -> OffsetFetchResponsePartitions {
    let (committed, code) = match committed {
        Ok(committed) => (committed, ErrorCode::None),
        Err(code) => (None, code),
    };
    let nothing = Committed {
        offset: Offset::NONE,
        leader_epoch: LeaderEpoch::NONE,
        metadata: "".into(),
        at: Timestamp::NONE,
    };
    let committed = committed.unwrap_or(nothing);
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: committed.offset.0,
        committed_leader_epoch: committed.leader_epoch.0,
        metadata: Some(committed.metadata.to_string()),
        error_code: code.to_wire(),
    }
}

/// OffsetDelete. KIP-496.
pub(crate) async fn delete(
    groups: &Groups,
    image: &Image,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let group: Arc<str> = request.group_id.into();
    let mut partitions = Vec::new();
    let mut topics = Vec::new();
    for topic in request.topics {
        let name: Arc<str> = topic.name.into();
        let mut gathered =
            Gathered { name: Some(Arc::clone(&name)), id: TopicId::ZERO, partitions: vec![] };
        for partition in topic.partitions {
            let code = exists(image, Some(&name), partition.partition_index);
            gathered.partitions.push((partition.partition_index, code));
            if code.is_ok() {
                partitions.push(TopicPartition::new(Arc::clone(&name), partition.partition_index));
            }
        }
        topics.push(gathered);
    }
    let deleted =
        match groups.call(&group, Request::DeleteOffsets(Arc::clone(&group), partitions)).await {
            Ok(Reply::DeletedOffsets(deleted)) => deleted,
            Ok(other) => unreachable!("a deletion of offsets is answered as one: {other:?}"),
            Err(error) => Err(error.code()),
        };
    match deleted {
        Ok(codes) => fill(codes, &mut topics),
        Err(code) => {
            let error_code = code.to_wire();
            return OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() };
        }
    }
    let partition = |(partition_index, code): (i32, ErrorCode)| OffsetDeleteResponsePartition {
        partition_index,
        error_code: code.to_wire(),
    };
    let topic = |it: Gathered| OffsetDeleteResponseTopic {
        name: it.name.as_deref().unwrap_or_default().to_owned(),
        partitions: it.partitions.into_iter().map(partition).collect(),
    };
    let topics = topics.into_iter().map(topic).collect();
    OffsetDeleteResponse { error_code: 0, throttle_time_ms: 0, topics }
}
