//! A consumer against a broker in memory that keeps logs and a group of one. Shell.

use std::sync::Mutex;

use futures::StreamExt;
use protocol::api::fetch::{
    AbortedTransaction, FetchRequest, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch,
    PartitionData,
};
use protocol::api::find_coordinator::{Coordinator, FindCoordinatorResponse};
use protocol::api::group::{
    HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use protocol::api::group_offsets::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic, OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use protocol::api::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use protocol::api::offsets::{
    EpochEndOffset, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
};
use protocol::api::{AnyRequest, AnyResponse};
use protocol::error_code::ErrorCode;
use protocol::ids::{CoordinatorEpoch, ProducerEpoch, ProducerId, Sequence, TopicId};
use protocol::record::{BatchBuilder, BatchOptions, ControlRecord, RecordBatch};
use protocol::time::Timestamp;

use super::*;
use crate::config::OffsetReset;
use crate::net::memory::MemoryNetwork;
use crate::testing::{FakeBroker, Reply, all_versions};
use crate::time::virtual_clock;

const ORDERS: TopicId = TopicId([7; 16]);
const LONG: Duration = Duration::from_secs(100);

/// One partition's log.
#[derive(Default)]
struct Log {
    start: i64,
    batches: Vec<RecordBatch>,
    aborted: Vec<(i64, i64)>,
}

impl Log {
    fn end(&self) -> Offset {
        self.batches.last().map_or(Offset(self.start), |it| it.header().next_offset())
    }

    fn append(&mut self, producer_id: i64, values: &[&str]) {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for value in values {
            builder.append(Timestamp(0), None, Some(value.as_bytes()), &[]).unwrap();
        }
        let is_transactional = producer_id >= 0;
        let sequence = if is_transactional { Sequence(0) } else { Sequence::NONE };
        let epoch = if is_transactional { ProducerEpoch(0) } else { ProducerEpoch::NONE };
        let batch = builder.finish(ProducerId(producer_id), epoch, sequence, is_transactional);
        self.stamp(&batch);
    }

    fn abort(&mut self, producer_id: i64, first_offset: i64) {
        let marker = ControlRecord::Abort { coordinator_epoch: CoordinatorEpoch(0) };
        let batch = marker.end_txn_marker(ProducerId(producer_id), ProducerEpoch(0), Timestamp(0));
        self.stamp(&batch);
        self.aborted.push((producer_id, first_offset));
    }

    fn stamp(&mut self, batch: &RecordBatch) {
        let stamped = batch.stamped(self.end(), LeaderEpoch(3)).into_batch();
        self.batches.push(stamped);
    }
}

/// What the broker knows; one group whose only member is whoever asks.
#[derive(Default)]
struct World {
    logs: Vec<Log>,
    committed: BTreeMap<i32, i64>,
    generation: i32,
    assignment: bytes::Bytes,
    /// What heartbeats are answered with, once.
    heartbeat: ErrorCode,
    /// Fetches answered with this, with a hint that broker 2 leads.
    moved_to: Option<i32>,
    /// Whom broker 1 would rather have asked.
    preferred: Option<i32>,
    /// Where the log of the new leader parts from that of the old one.
    parts_at: Option<i64>,
    fetches: Vec<FetchRequest>,
    commits: Vec<OffsetCommitRequest>,
    joins: Vec<JoinGroupRequest>,
    leaves: usize,
}

type Shared = Arc<Mutex<World>>;

fn world(partition_count: usize) -> Shared {
    let logs = (0..partition_count).map(|_| Log::default()).collect();
    Arc::new(Mutex::new(World { logs, ..World::default() }))
}

impl World {
    fn answer(&mut self, version: i16, request: AnyRequest) -> Reply {
        match request {
            AnyRequest::Metadata(request) => self.metadata(&request).into(),
            AnyRequest::Fetch(request) => self.fetch(version, request),
            AnyRequest::ListOffsets(request) => self.list(request).into(),
            AnyRequest::OffsetForLeaderEpoch(request) => self.end_of_epoch(&request).into(),
            AnyRequest::FindCoordinator(request) => find_coordinator(request.coordinator_keys),
            AnyRequest::JoinGroup(request) => self.join(request).into(),
            AnyRequest::SyncGroup(request) => self.sync(request).into(),
            AnyRequest::Heartbeat(request) => {
                let known = request.generation_id == self.generation;
                let code = std::mem::take(&mut self.heartbeat);
                let code = if known { code } else { ErrorCode::IllegalGeneration };
                HeartbeatResponse { error_code: code.to_wire(), ..Default::default() }.into()
            }
            AnyRequest::LeaveGroup(_) => {
                self.leaves += 1;
                LeaveGroupResponse::default().into()
            }
            AnyRequest::OffsetFetch(request) => self.offset_fetch(request).into(),
            AnyRequest::OffsetCommit(request) => self.offset_commit(request).into(),
            other => panic!("{other:?}"),
        }
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 1,
            leader_epoch: 3,
            ..MetadataResponsePartition::default()
        };
        let count = i32::try_from(self.logs.len()).unwrap();
        let topics = request.topics.iter().flatten().map(|it| MetadataResponseTopic {
            name: it.name.clone(),
            topic_id: ORDERS,
            partitions: (0..count).map(partition).collect(),
            ..MetadataResponseTopic::default()
        });
        let broker = |node_id: i32| MetadataResponseBroker {
            node_id,
            host: format!("broker-{node_id}"),
            port: 9092,
            ..MetadataResponseBroker::default()
        };
        MetadataResponse {
            brokers: vec![broker(1), broker(2)],
            controller_id: 1,
            topics: topics.collect(),
            ..MetadataResponse::default()
        }
    }

    fn prefers_other_than(&self, id: i32) -> bool {
        self.preferred.is_some_and(|it| it != id)
    }

    /// Silent when there is nothing: as if waiting, for ever.
    fn fetch(&mut self, version: i16, request: FetchRequest) -> Reply {
        assert!(version >= 13, "topics have ids");
        self.fetches.push(request.clone());
        let mut answers = Vec::new();
        for asked in &request.topics[0].partitions {
            assert_eq!(request.topics[0].topic_id, ORDERS);
            let log = &self.logs[usize::try_from(asked.partition).unwrap()];
            let end = log.end();
            let mut data = PartitionData {
                partition_index: asked.partition,
                high_watermark: end.0,
                last_stable_offset: end.0,
                ..PartitionData::default()
            };
            if asked.fetch_offset < log.start || asked.fetch_offset > end.0 {
                data.error_code = ErrorCode::OffsetOutOfRange.to_wire();
                answers.push(data);
                continue;
            }
            let from =
                log.batches.iter().filter(|it| it.header().next_offset().0 > asked.fetch_offset);
            let mut bytes = Vec::new();
            for batch in from {
                let size = bytes.len() + batch.bytes().len();
                if bytes.is_empty() || size <= usize::try_from(asked.partition_max_bytes).unwrap() {
                    bytes.extend_from_slice(batch.bytes());
                }
            }
            let aborted = log.aborted.iter().map(|&(producer_id, first_offset)| {
                AbortedTransaction { producer_id, first_offset }
            });
            data.aborted_transactions = (request.isolation_level == 1).then(|| aborted.collect());
            if !bytes.is_empty() {
                data.records = Some(bytes.into());
                answers.push(data);
            }
        }
        if answers.is_empty() {
            return Reply::Silence;
        }
        FetchResponse {
            responses: vec![FetchableTopicResponse {
                topic_id: ORDERS,
                partitions: answers,
                ..FetchableTopicResponse::default()
            }],
            ..FetchResponse::default()
        }
        .into()
    }

    fn list(&self, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let topics = request.topics.into_iter().map(|topic| ListOffsetsTopicResponse {
            name: topic.name,
            partitions: topic
                .partitions
                .into_iter()
                .map(|it| {
                    let log = &self.logs[usize::try_from(it.partition_index).unwrap()];
                    ListOffsetsPartitionResponse {
                        partition_index: it.partition_index,
                        offset: if it.timestamp == -2 { log.start } else { log.end().0 },
                        ..ListOffsetsPartitionResponse::default()
                    }
                })
                .collect(),
        });
        ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
    }

    fn end_of_epoch(&self, request: &OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
        assert_eq!(request.replica_id, -1);
        let topics = request.topics.iter().map(|topic| OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|it| {
                    assert_eq!((it.current_leader_epoch, it.leader_epoch), (4, 3));
                    let log = &self.logs[usize::try_from(it.partition).unwrap()];
                    EpochEndOffset {
                        partition: it.partition,
                        leader_epoch: 3,
                        end_offset: self.parts_at.unwrap_or(log.end().0),
                        ..EpochEndOffset::default()
                    }
                })
                .collect(),
        });
        OffsetForLeaderEpochResponse { topics: topics.collect(), throttle_time_ms: 0 }
    }

    fn join(&mut self, request: JoinGroupRequest) -> JoinGroupResponse {
        self.joins.push(request.clone());
        if request.member_id.is_empty() {
            return JoinGroupResponse {
                error_code: ErrorCode::MemberIdRequired.to_wire(),
                member_id: "member-1".to_owned(),
                ..JoinGroupResponse::default()
            };
        }
        self.generation += 1;
        let member = JoinGroupResponseMember {
            member_id: request.member_id.clone(),
            metadata: request.protocols[0].metadata.clone(),
            ..JoinGroupResponseMember::default()
        };
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: Some("consumer".to_owned()),
            protocol_name: Some(request.protocols[0].name.clone()),
            leader: request.member_id.clone(),
            member_id: request.member_id,
            members: vec![member],
            ..JoinGroupResponse::default()
        }
    }

    fn sync(&mut self, request: SyncGroupRequest) -> SyncGroupResponse {
        assert_eq!(request.generation_id, self.generation);
        let assignment = request.assignments[0].assignment.clone();
        self.assignment = assignment.clone();
        SyncGroupResponse { assignment, ..SyncGroupResponse::default() }
    }

    fn offset_fetch(&self, request: OffsetFetchRequest) -> OffsetFetchResponse {
        let group = &request.groups[0];
        let topics = group.topics.iter().flatten().map(|topic| OffsetFetchResponseTopics {
            name: topic.name.clone(),
            partitions: topic
                .partition_indexes
                .iter()
                .map(|it| OffsetFetchResponsePartitions {
                    partition_index: *it,
                    committed_offset: self.committed.get(it).copied().unwrap_or(-1),
                    ..OffsetFetchResponsePartitions::default()
                })
                .collect(),
            ..OffsetFetchResponseTopics::default()
        });
        let group = OffsetFetchResponseGroup {
            group_id: group.group_id.clone(),
            topics: topics.collect(),
            ..OffsetFetchResponseGroup::default()
        };
        OffsetFetchResponse { groups: vec![group], ..OffsetFetchResponse::default() }
    }

    fn offset_commit(&mut self, request: OffsetCommitRequest) -> OffsetCommitResponse {
        self.commits.push(request.clone());
        let is_current = request.generation_id_or_member_epoch == self.generation;
        let code = if is_current { ErrorCode::None } else { ErrorCode::IllegalGeneration };
        let mut topics = Vec::new();
        for topic in request.topics {
            let mut partitions = Vec::new();
            for it in topic.partitions {
                if is_current {
                    self.committed.insert(it.partition_index, it.committed_offset);
                }
                partitions.push(OffsetCommitResponsePartition {
                    partition_index: it.partition_index,
                    error_code: code.to_wire(),
                });
            }
            let name = topic.name;
            topics.push(OffsetCommitResponseTopic { name, partitions, ..Default::default() });
        }
        OffsetCommitResponse { topics, ..OffsetCommitResponse::default() }
    }
}

fn find_coordinator(keys: Vec<String>) -> Reply {
    let coordinators = keys.into_iter().map(|key| Coordinator {
        key,
        node_id: 1,
        host: "broker-1".to_owned(),
        port: 9092,
        ..Coordinator::default()
    });
    FindCoordinatorResponse {
        coordinators: coordinators.collect(),
        ..FindCoordinatorResponse::default()
    }
    .into()
}

/// Brokers 1 and 2, both showing `world`, and a consumer.
async fn connect(world: &Shared, config: ConsumerConfig) -> Consumer {
    let network = MemoryNetwork::new();
    let mut endpoints = Vec::new();
    for host in ["broker-1", "broker-2"] {
        let world = Arc::clone(world);
        let id = if host == "broker-1" { 1 } else { 2 };
        let broker =
            FakeBroker::start(&network, host, all_versions(&[]), move |version, request| {
                let mut world = world.lock().unwrap();
                match (&request, world.moved_to) {
                    (AnyRequest::Fetch(request), Some(leader)) if leader != id => {
                        not_leader(request, leader)
                    }
                    (AnyRequest::Fetch(request), None) if world.prefers_other_than(id) => {
                        read_elsewhere(request, world.preferred.unwrap())
                    }
                    _ => world.answer(version, request),
                }
            });
        endpoints.push(broker.endpoint);
    }
    let clock = virtual_clock(Timestamp(0));
    let bootstrap = Bootstrap::new(endpoints, Arc::new(network), clock, 1);
    Consumer::connect(bootstrap, config).await.unwrap()
}

fn read_elsewhere(request: &FetchRequest, replica: i32) -> Reply {
    let partitions = request.topics[0].partitions.iter().map(|it| PartitionData {
        partition_index: it.partition,
        preferred_read_replica: replica,
        ..PartitionData::default()
    });
    let topic = FetchableTopicResponse {
        topic_id: ORDERS,
        partitions: partitions.collect(),
        ..FetchableTopicResponse::default()
    };
    Reply::Answer(AnyResponse::from(FetchResponse {
        responses: vec![topic],
        ..FetchResponse::default()
    }))
}

fn not_leader(request: &FetchRequest, leader_id: i32) -> Reply {
    let partitions = request.topics[0].partitions.iter().map(|it| PartitionData {
        partition_index: it.partition,
        error_code: ErrorCode::NotLeaderOrFollower.to_wire(),
        current_leader: LeaderIdAndEpoch { leader_id, leader_epoch: 4 },
        ..PartitionData::default()
    });
    let topic = FetchableTopicResponse {
        topic_id: ORDERS,
        partitions: partitions.collect(),
        ..FetchableTopicResponse::default()
    };
    Reply::Answer(AnyResponse::from(FetchResponse {
        responses: vec![topic],
        ..FetchResponse::default()
    }))
}

fn earliest() -> ConsumerConfig {
    ConsumerConfig { auto_offset_reset: OffsetReset::Earliest, ..ConsumerConfig::default() }
}

fn in_group() -> ConsumerConfig {
    ConsumerConfig { group_id: Some("billing".to_owned()), ..earliest() }
}

fn orders(index: i32) -> TopicPartition {
    TopicPartition::new("orders", index)
}

fn values(batches: &[FetchedBatch]) -> Vec<String> {
    let records = batches.iter().flat_map(|batch| {
        batch.records().map(|it| {
            let value = it.unwrap().value.unwrap().to_vec();
            format!("{}@{}", String::from_utf8(value).unwrap(), batch.tp.partition)
        })
    });
    records.collect()
}

/// Polls until `count` records came.
async fn read(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut read = Vec::new();
    while read.len() < count {
        match consumer.poll(LONG).await.unwrap() {
            Polled::Batches(batches) => read.extend(values(&batches)),
            Polled::Nothing => {}
            other => panic!("{other:?}"),
        }
    }
    read
}

#[tokio::test(start_paused = true)]
async fn assigned_partitions_are_read_from_the_earliest_offset_in_order() {
    let world = world(2);
    for index in 0..2 {
        world.lock().unwrap().logs[index].append(-1, &["a", "b"]);
        world.lock().unwrap().logs[index].append(-1, &["c"]);
    }
    let mut consumer = connect(&world, earliest()).await;
    consumer.assign([orders(0), orders(1)]);
    let mut got = read(&mut consumer, 6).await;
    assert_eq!(
        got.iter().filter(|it| it.ends_with("@0")).collect::<Vec<_>>(),
        ["a@0", "b@0", "c@0"]
    );
    got.sort();
    assert_eq!(got, ["a@0", "a@1", "b@0", "b@1", "c@0", "c@1"]);
    assert_eq!(consumer.position(&orders(1)), Some(Offset(3)));
    assert_eq!(consumer.lag(&orders(1)), Some(0));
    // The position is within a batch: what comes before it is not delivered again.
    consumer.seek(&orders(0), Offset(1)).unwrap();
    assert_eq!(read(&mut consumer, 2).await, ["b@0", "c@0"]);
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_is_dropped_loses_nothing() {
    let world = world(1);
    world.lock().unwrap().logs[0].append(-1, &["a", "b"]);
    let mut consumer = connect(&world, earliest()).await;
    consumer.assign([orders(0)]);
    for _ in 0..1_000 {
        let poll = consumer.poll(LONG);
        // One step of the runtime each, then dropped, unless it is done.
        let polled = tokio::select! {
            biased;
            polled = poll => Some(polled.unwrap()),
            () = tokio::task::yield_now() => None,
        };
        if let Some(Polled::Batches(batches)) = polled {
            assert_eq!(values(&batches), ["a@0", "b@0"]);
            return;
        }
    }
    panic!("nothing was delivered");
}

#[tokio::test(start_paused = true)]
async fn read_committed_sees_no_aborted_records_and_moves_beyond_them() {
    let world = world(1);
    {
        let log = &mut world.lock().unwrap().logs[0];
        log.append(9, &["aborted"]);
        log.append(-1, &["plain"]);
        log.abort(9, 0);
    }
    let config = ConsumerConfig { isolation_level: IsolationLevel::ReadCommitted, ..earliest() };
    let mut consumer = connect(&world, config).await;
    consumer.assign([orders(0)]);
    assert_eq!(read(&mut consumer, 1).await, ["plain@0"]);
    assert_eq!(consumer.position(&orders(0)), Some(Offset(3)), "beyond the marker");
    let mut consumer = connect(&world, earliest()).await;
    consumer.assign([orders(0)]);
    assert_eq!(read(&mut consumer, 2).await, ["aborted@0", "plain@0"]);
}

#[tokio::test(start_paused = true)]
async fn an_offset_out_of_range_is_reset_by_the_policy_or_told() {
    let world = world(1);
    world.lock().unwrap().logs[0].start = 10;
    world.lock().unwrap().logs[0].append(-1, &["ten"]);
    let mut consumer = connect(&world, earliest()).await;
    consumer.assign([orders(0)]);
    consumer.seek(&orders(0), Offset(2)).unwrap();
    assert_eq!(read(&mut consumer, 1).await, ["ten@0"]);
    let config = ConsumerConfig { auto_offset_reset: OffsetReset::None, ..earliest() };
    let mut consumer = connect(&world, config).await;
    consumer.assign([orders(0)]);
    let told = consumer.poll(LONG).await.unwrap_err();
    assert!(matches!(told, ConsumeError::NoOffset { .. }), "{told}");
    consumer.seek(&orders(0), Offset(50)).unwrap();
    let told = consumer.poll(LONG).await.unwrap_err();
    assert!(matches!(told, ConsumeError::OffsetOutOfRange { offset: Offset(50), .. }), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_paused_partition_is_not_delivered_until_resumed() {
    let world = world(2);
    world.lock().unwrap().logs[0].append(-1, &["a"]);
    world.lock().unwrap().logs[1].append(-1, &["b"]);
    let mut consumer = connect(&world, earliest()).await;
    consumer.assign([orders(0), orders(1)]);
    consumer.pause([&orders(0)]);
    assert_eq!(read(&mut consumer, 1).await, ["b@1"]);
    assert!(matches!(consumer.poll(LONG).await, Ok(Polled::Nothing)));
    consumer.resume([&orders(0)]);
    assert_eq!(read(&mut consumer, 1).await, ["a@0"]);
}

#[tokio::test(start_paused = true)]
async fn a_moved_leader_is_found_by_the_hint_of_the_old_one() {
    let world = world(1);
    world.lock().unwrap().logs[0].append(-1, &["a"]);
    let mut consumer = connect(&world, earliest()).await;
    consumer.assign([orders(0)]);
    assert_eq!(read(&mut consumer, 1).await, ["a@0"]);
    world.lock().unwrap().logs[0].append(-1, &["b"]);
    world.lock().unwrap().moved_to = Some(2);
    assert_eq!(read(&mut consumer, 1).await, ["b@0"]);
    let last = world.lock().unwrap().fetches.last().unwrap().topics[0].partitions[0].clone();
    assert_eq!(last.current_leader_epoch, 4);
}

#[tokio::test(start_paused = true)]
async fn the_replica_that_a_leader_prefers_is_read_from() {
    let world = world(1);
    world.lock().unwrap().logs[0].append(-1, &["a", "b"]);
    world.lock().unwrap().preferred = Some(2);
    let mut consumer = connect(&world, earliest()).await;
    consumer.assign([orders(0)]);
    assert_eq!(read(&mut consumer, 2).await, ["a@0", "b@0"]);
    assert!(!world.lock().unwrap().fetches.is_empty(), "only broker 2 answers with records");
}

#[tokio::test(start_paused = true)]
async fn what_a_new_leader_does_not_have_is_read_again_or_told_with_where_histories_part() {
    for policy in [OffsetReset::Latest, OffsetReset::None] {
        let world = world(1);
        world.lock().unwrap().logs[0].append(-1, &["a", "b"]);
        world.lock().unwrap().logs[0].append(-1, &["c"]);
        let config = ConsumerConfig { auto_offset_reset: policy, ..ConsumerConfig::default() };
        let mut consumer = connect(&world, config).await;
        consumer.assign([orders(0)]);
        consumer.seek(&orders(0), Offset(0)).unwrap();
        assert_eq!(read(&mut consumer, 3).await, ["a@0", "b@0", "c@0"]);
        {
            let mut world = world.lock().unwrap();
            world.logs[0].batches.pop();
            world.logs[0].append(-1, &["d", "e"]);
            world.parts_at = Some(2);
            world.moved_to = Some(2);
        }
        if policy == OffsetReset::None {
            let error = loop {
                match consumer.poll(LONG).await {
                    Ok(polled) => assert!(matches!(polled, Polled::Nothing), "{polled:?}"),
                    Err(error) => break error,
                }
            };
            let ConsumeError::LogTruncated { offset, divergent, .. } = error else {
                panic!("{error:?}");
            };
            assert_eq!((offset, divergent), (Offset(3), Some(Offset(2))));
            consumer.seek(&orders(0), divergent.unwrap()).unwrap();
        }
        assert_eq!(read(&mut consumer, 2).await, ["d@0", "e@0"]);
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_max_poll_records_come_at_once_and_whole_batches_always() {
    let world = world(1);
    for _ in 0..3 {
        world.lock().unwrap().logs[0].append(-1, &["a", "b", "c"]);
    }
    let config = ConsumerConfig { max_poll_records: 4, ..earliest() };
    let mut consumer = connect(&world, config).await;
    consumer.assign([orders(0)]);
    for count in [2, 1] {
        let Polled::Batches(batches) = consumer.poll(LONG).await.unwrap() else { panic!() };
        assert_eq!(batches.len(), count);
    }
}

#[tokio::test(start_paused = true)]
async fn the_broker_is_not_asked_for_more_than_is_consumed() {
    let world = world(1);
    for _ in 0..1_000 {
        world.lock().unwrap().logs[0].append(-1, &["abcdefghij"]);
    }
    let config = ConsumerConfig { max_partition_fetch_bytes: 1_000, ..earliest() };
    let mut consumer = connect(&world, config).await;
    consumer.assign([orders(0)]);
    tokio::time::sleep(LONG).await;
    let fetched = world.lock().unwrap().fetches.len();
    assert!((1..=2).contains(&fetched), "{fetched} fetches, of 1000 bytes each");
    assert_eq!(read(&mut consumer, 1_000).await.len(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_member_is_told_its_assignment_starts_at_the_commit_and_commits() {
    let world = world(2);
    world.lock().unwrap().logs[0].append(-1, &["a", "b", "c"]);
    world.lock().unwrap().committed.insert(0, 2);
    let mut consumer = connect(&world, in_group()).await;
    consumer.subscribe(["orders"]);
    assert_eq!(consumer.group_metadata().unwrap().generation.0, -1);
    let Polled::Assigned(added) = consumer.poll(LONG).await.unwrap() else { panic!() };
    assert_eq!(added, [orders(0), orders(1)].into());
    assert_eq!(read(&mut consumer, 1).await, ["c@0"]);
    let identity = consumer.group_metadata().unwrap();
    assert_eq!((identity.generation.0, identity.member_id.as_str()), (1, "member-1"));
    consumer.commit([(orders(0), Offset(3).into())].into()).await.unwrap();
    assert_eq!(world.lock().unwrap().committed[&0], 3);
    let committed = consumer.committed([orders(0), orders(1)], true).await.unwrap();
    assert_eq!(committed.len(), 1);
    consumer.close().await.unwrap();
    assert_eq!(world.lock().unwrap().leaves, 1);
}

#[tokio::test(start_paused = true)]
async fn in_a_rebalance_partitions_are_given_up_only_after_the_caller_says_so() {
    let world = world(1);
    let mut consumer = connect(&world, in_group()).await;
    consumer.subscribe(["orders"]);
    assert!(matches!(consumer.poll(LONG).await, Ok(Polled::Assigned(_))));
    world.lock().unwrap().heartbeat = ErrorCode::RebalanceInProgress;
    let Polled::Revoked(revoked) = consumer.poll(LONG).await.unwrap() else { panic!() };
    assert_eq!(revoked, Revoked { partitions: [orders(0)].into(), lost: false });
    let joins = world.lock().unwrap().joins.len();
    tokio::time::sleep(LONG).await;
    assert_eq!(world.lock().unwrap().joins.len(), joins, "it waits for the caller");
    consumer.commit([(orders(0), Offset(5).into())].into()).await.unwrap();
    assert_eq!(consumer.assignment().len(), 1);
    consumer.revoked();
    assert!(consumer.assignment().is_empty());
    let Polled::Assigned(added) = consumer.poll(LONG).await.unwrap() else { panic!() };
    assert_eq!(added.len(), 1);
    assert_eq!(consumer.group_metadata().unwrap().generation.0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_replaced_is_told_and_its_commits_stay_refused() {
    let world = world(1);
    let mut consumer = connect(&world, in_group()).await;
    consumer.subscribe(["orders"]);
    assert!(matches!(consumer.poll(LONG).await, Ok(Polled::Assigned(_))));
    let before = consumer.group_metadata();
    world.lock().unwrap().generation = 40;
    let refused = consumer.commit([(orders(0), Offset(5).into())].into()).await.unwrap_err();
    assert!(matches!(refused, CommitError::Fenced { .. }), "{refused}");
    let Polled::Revoked(revoked) = consumer.poll(LONG).await.unwrap() else { panic!() };
    assert!(revoked.lost);
    assert_eq!(consumer.group_metadata(), before, "not of somebody who may commit");
    assert!(matches!(consumer.poll(LONG).await, Ok(Polled::Assigned(_))));
    assert_eq!(consumer.group_metadata().unwrap().generation.0, 41);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_sent_without_polls_until_max_poll_interval() {
    let world = world(1);
    let interval = Duration::from_secs(60);
    let config = ConsumerConfig { max_poll_interval: interval, ..in_group() };
    let mut consumer = connect(&world, config).await;
    consumer.subscribe(["orders"]);
    assert!(matches!(consumer.poll(LONG).await, Ok(Polled::Assigned(_))));
    tokio::time::sleep(interval - Duration::from_secs(1)).await;
    assert_eq!(world.lock().unwrap().leaves, 0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.lock().unwrap().leaves, 1);
    let joins = world.lock().unwrap().joins.len();
    tokio::time::sleep(interval).await;
    assert_eq!(world.lock().unwrap().joins.len(), joins, "not while nobody polls");
    let Polled::Revoked(revoked) = consumer.poll(LONG).await.unwrap() else { panic!() };
    assert!(revoked.lost);
    assert!(matches!(consumer.poll(LONG).await, Ok(Polled::Assigned(_))));
    // Waiting in poll is being alive, however long.
    for _ in 0..5 {
        assert!(matches!(consumer.poll(3 * interval).await, Ok(Polled::Nothing)));
    }
    assert_eq!(world.lock().unwrap().leaves, 1);
}

#[tokio::test(start_paused = true)]
async fn what_earlier_polls_returned_is_committed_by_itself_if_asked_for() {
    let world = world(1);
    world.lock().unwrap().logs[0].append(-1, &["a", "b"]);
    let config = ConsumerConfig { enable_auto_commit: true, ..in_group() };
    let mut consumer = connect(&world, config).await;
    consumer.subscribe(["orders"]);
    assert!(matches!(consumer.poll(LONG).await, Ok(Polled::Assigned(_))));
    assert_eq!(read(&mut consumer, 2).await.len(), 2);
    assert!(!world.lock().unwrap().committed.contains_key(&0), "it may not be processed yet");
    tokio::time::sleep(Duration::from_secs(6)).await;
    drop(consumer.poll(Duration::from_secs(1)).await);
    assert_eq!(world.lock().unwrap().committed[&0], 2);
    world.lock().unwrap().logs[0].append(-1, &["c"]);
    assert_eq!(read(&mut consumer, 1).await, ["c@0"]);
    consumer.close().await.unwrap();
    assert_eq!(world.lock().unwrap().committed[&0], 3, "committed before it leaves");
}

#[tokio::test(start_paused = true)]
async fn a_stream_yields_every_record_and_forgets_none_when_dropped() {
    let world = world(1);
    world.lock().unwrap().logs[0].append(-1, &["a", "b", "c"]);
    world.lock().unwrap().logs[0].append(-1, &["d"]);
    let mut consumer = connect(&world, in_group()).await;
    consumer.subscribe(["orders"]);
    let mut seen = Vec::new();
    for take in [2, 2] {
        let records = consumer.stream().take(take).collect::<Vec<_>>().await;
        seen.extend(records.into_iter().map(|it| it.unwrap().record.offset.0));
    }
    assert_eq!(seen, [0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_batch_is_told_after_what_precedes_it_and_fetched_again() {
    let world = world(1);
    world.lock().unwrap().logs[0].append(-1, &["a"]);
    world.lock().unwrap().logs[0].append(-1, &["b"]);
    let whole = world.lock().unwrap().logs[0].batches[1].clone();
    let mut bytes = whole.bytes().to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    world.lock().unwrap().logs[0].batches[1] = RecordBatch::parse(bytes.into()).unwrap();
    let mut consumer = connect(&world, earliest()).await;
    consumer.assign([orders(0)]);
    assert_eq!(read(&mut consumer, 1).await, ["a@0"]);
    for _ in 0..2 {
        let told = consumer.poll(LONG).await.unwrap_err();
        assert!(matches!(told, ConsumeError::Damaged { offset: Offset(1), .. }), "{told}");
    }
    world.lock().unwrap().logs[0].batches[1] = whole;
    let whole = async {
        loop {
            // What was fetched while it was damaged comes first.
            if let Ok(Polled::Batches(batches)) = consumer.poll(LONG).await {
                return values(&batches);
            }
        }
    };
    assert_eq!(whole.await, ["b@0"]);
}
