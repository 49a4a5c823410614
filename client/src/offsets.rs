//! Where partitions begin and end, and which offset a time has: asked of their leaders.
//!
//! One request per leader, all at once. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use protocol::api::offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic,
};
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, LeaderEpoch, Offset, TopicPartition};
use protocol::time::Timestamp;

use crate::config::IsolationLevel;
use crate::error::RequestError;
use crate::net::connection::CallOptions;
use crate::net::pool::Purpose;
use crate::router::{Router, Topics};

/// Which offset of a partition is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The log start offset.
    Earliest,
    /// The high watermark, or the last stable offset for `read_committed`.
    Latest,
    /// That of the first record with at least this timestamp.
    AtOrAfter(Timestamp),
    /// That of the record with the largest timestamp. KIP-734.
    MaxTimestamp,
    /// The first that is on the leader's own disk. KIP-405.
    EarliestLocal,
    /// The last that is in the remote tier. KIP-1005.
    LatestTiered,
    /// The first that is yet to be copied to the remote tier. KIP-1023.
    EarliestPendingUpload,
}

impl OffsetSpec {
    fn to_wire(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest => -1,
            Self::MaxTimestamp => -3,
            Self::EarliestLocal => -4,
            Self::LatestTiered => -5,
            Self::EarliestPendingUpload => -6,
            Self::AtOrAfter(timestamp) => timestamp.0.max(0),
        }
    }
}

/// An offset that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; `None`: no record is so young.
    pub offset: Option<Offset>,
    /// The timestamp of its record, where a timestamp was asked for.
    pub timestamp: Timestamp,
    /// The leader epoch of its record, where known.
    pub leader_epoch: LeaderEpoch,
}

/// The offsets asked for, from every partition or from none.
pub(crate) async fn list(
    router: &Router,
    timeout: Duration,
    isolation: IsolationLevel,
    wanted: &BTreeMap<TopicPartition, OffsetSpec>,
) -> Result<BTreeMap<TopicPartition, ListedOffset>, RequestError> {
    let topics: BTreeSet<Arc<str>> = wanted.keys().map(|it| Arc::clone(&it.topic)).collect();
    let attempt = || async {
        let now = router.now().monotonic;
        let max_age = router.patience().metadata_max_age;
        if router.cluster(|it| it.needs_update(now, max_age, &topics)) {
            router.refresh(Topics::These(topics.clone()), false).await?;
        }
        let answered = list_once(router, isolation, wanted).await;
        if answered.is_err() {
            router.cluster(|it| it.mark_stale());
        }
        answered
    };
    router.retry(timeout, "list offsets", attempt).await
}

async fn list_once(
    router: &Router,
    isolation: IsolationLevel,
    wanted: &BTreeMap<TopicPartition, OffsetSpec>,
) -> Result<BTreeMap<TopicPartition, ListedOffset>, RequestError> {
    let mut by_leader: BTreeMap<BrokerId, Vec<(TopicPartition, LeaderEpoch, OffsetSpec)>> =
        BTreeMap::new();
    for (partition, &spec) in wanted {
        let leader = router
            .cluster(|it| it.leader(partition))
            .ok_or_else(|| RequestError::NoLeader { subject: partition.to_string() })?;
        let of_leader = by_leader.entry(leader.broker).or_default();
        of_leader.push((partition.clone(), leader.leader_epoch, spec));
    }
    let asks = by_leader.into_iter().map(|(broker, asked)| ask(router, broker, isolation, asked));
    let mut found = BTreeMap::new();
    for answer in join_all(asks).await {
        found.append(&mut answer?);
    }
    match wanted.keys().find(|it| !found.contains_key(*it)) {
        None => Ok(found),
        Some(missing) => {
            Err(RequestError::Missing { api: ApiKey::ListOffsets, subject: missing.to_string() })
        }
    }
}

async fn ask(
    router: &Router,
    broker: BrokerId,
    isolation: IsolationLevel,
    asked: Vec<(TopicPartition, LeaderEpoch, OffsetSpec)>,
) -> Result<BTreeMap<TopicPartition, ListedOffset>, RequestError> {
    let no_leader = || RequestError::NoLeader { subject: asked[0].0.to_string() };
    let connection = router.broker(broker, Purpose::General).ok_or_else(no_leader)?;
    let options = CallOptions::within(router.patience().request_timeout);
    let timeout = router.patience().request_timeout;
    let response = connection
        .call_with(options, move |version| request(version, isolation, &asked, timeout))
        .await?;
    answers(response)
}

pub(crate) fn request(
    version: i16,
    isolation: IsolationLevel,
    asked: &[(TopicPartition, LeaderEpoch, OffsetSpec)],
    timeout: Duration,
) -> ListOffsetsRequest {
    let mut topics: Vec<ListOffsetsTopic> = Vec::new();
    for (partition, leader_epoch, spec) in asked {
        let one = ListOffsetsPartition {
            partition_index: partition.partition.0,
            current_leader_epoch: leader_epoch.0,
            timestamp: spec.to_wire(),
        };
        match topics.last_mut().filter(|it| *it.name == *partition.topic) {
            Some(topic) => topic.partitions.push(one),
            None => topics.push(ListOffsetsTopic {
                name: partition.topic.to_string(),
                partitions: vec![one],
            }),
        }
    }
    let isolation_level = if version >= 2 { isolation.to_wire() } else { 0 };
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    ListOffsetsRequest { replica_id: -1, isolation_level, topics, timeout_ms }
}

fn answers(
    response: ListOffsetsResponse,
) -> Result<BTreeMap<TopicPartition, ListedOffset>, RequestError> {
    let mut found = BTreeMap::new();
    for topic in response.topics {
        let name: Arc<str> = topic.name.into();
        for answer in topic.partitions {
            let partition = TopicPartition::new(Arc::clone(&name), answer.partition_index);
            let listed = listed(&partition, &answer)?;
            found.insert(partition, listed);
        }
    }
    Ok(found)
}

pub(crate) fn listed(
    partition: &TopicPartition,
    answer: &ListOffsetsPartitionResponse,
) -> Result<ListedOffset, RequestError> {
    let refuse = |code| RequestError::code(ApiKey::ListOffsets, partition.to_string(), code, None);
    ErrorCode::from_wire(answer.error_code).ok().map_err(refuse)?;
    Ok(ListedOffset {
        offset: Some(Offset(answer.offset)).filter(|it| it.0 >= 0),
        timestamp: Timestamp(answer.timestamp),
        leader_epoch: LeaderEpoch(answer.leader_epoch),
    })
}
