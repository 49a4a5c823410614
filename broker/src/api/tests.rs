//! A whole broker over a network in memory and a simulated disk, asked in the wire's own words.
//! Shell.

mod acls;
mod answers;
pub(crate) mod audit;
mod compaction;
mod coordinators;
mod doors;
mod log;
mod transactions;

use std::time::Duration;

use bytes::Bytes;
use client::net::memory::MemoryNetwork;
use client::net::{BoxStream, Connector, Endpoint};
use protocol::api::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use protocol::api::log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use protocol::api::offsets::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic, ListOffsetsPartition,
    ListOffsetsRequest, ListOffsetsTopic, OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
    OffsetForLeaderTopic,
};
use protocol::api::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use protocol::api::versions::ApiVersionsResponse;
use protocol::api::{Request as WireRequest, decode_response, encode_request};
use protocol::error_code::ErrorCode;
use protocol::ids::{CoordinatorEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use protocol::record::{BatchBuilder, BatchOptions, Codec, RecordBatch};
use protocol::rng::Lot;
use protocol::security::SecurityProtocol;
use protocol::time::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::auth::Session;
use crate::controller::{
    AlterConfig, AlterQuotas, ConfigChange, ConfigOperation, NewTopic, Spread,
};
use crate::disk::SimDisk;
use crate::log::Mode;
use crate::metadata::{QuotaEntity, Resource};
use crate::partition::{Acks, Append, EndTxnMarker, Origin};
use crate::{Broker, BrokerHandle, Outside};

pub(super) const TOPIC: &str = "orders";

/// A broker, its disk, and one connection to it.
pub(super) struct World {
    pub(super) disk: SimDisk,
    network: MemoryNetwork,
    pub(super) broker: BrokerHandle,
    client: BoxStream,
    correlation_id: i32,
}

impl World {
    pub(super) async fn new() -> Self {
        let world = Self::on(SimDisk::new(1)).await;
        world.create(TOPIC, &[]).await;
        world
    }

    pub(super) async fn on(disk: SimDisk) -> Self {
        Self::with(disk, &[]).await
    }

    async fn with(disk: SimDisk, settings: &[(&str, &str)]) -> Self {
        let network = MemoryNetwork::new();
        let endpoint = Endpoint::new("broker", 1);
        let listener = network.listen(endpoint.clone()).unwrap();
        let outside = Outside {
            disk: Arc::new(disk.clone()),
            listeners: Some(vec![Box::new(listener)]),
            clock: client::time::virtual_clock(Timestamp(1_700_000_000_000)),
            seed: 1,
            ids: Lot::of_seed(1),
            writer: Mode::Inline,
            hostname: "broker".to_owned(),
        };
        let settings = [("log.dir", "/data")].iter().chain(settings).copied();
        let config = BrokerConfig::from_pairs(settings).unwrap();
        let broker = Broker::start(config, outside).await.unwrap();
        let client = network.connect(&endpoint).await.unwrap();
        Self { disk, network, broker, client, correlation_id: 0 }
    }

    pub(super) async fn create(&self, name: &str, configs: &[(&str, &str)]) {
        let topic = NewTopic {
            name: name.to_owned(),
            spread: Spread::Counted { partition_count: Some(2), replication_factor: Some(1) },
            configs: configs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned())))
                .collect(),
        };
        let wait = Duration::from_secs(5);
        let created = self.broker.controller().create_topics(vec![topic], false, wait).await;
        created.unwrap().remove(0).unwrap();
        // Partitions follow the Image in their own time.
        while self.broker.api().partitions().get(name, PartitionIndex(1)).is_err() {
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn restart(self) -> Self {
        let Self { disk, broker, client, .. } = self;
        drop(client);
        broker.shutdown().await.unwrap();
        Self::on(disk).await
    }

    async fn send<R: WireRequest>(&mut self, version: i16, request: R) {
        self.correlation_id += 1;
        let frame = encode_request(&request.into(), version, self.correlation_id, Some("test"));
        self.client.write_all(&frame.unwrap().into_bytes()).await.unwrap();
    }

    async fn receive<R: WireRequest>(&mut self, version: i16) -> R::Response {
        let length = usize::try_from(self.client.read_i32().await.unwrap()).unwrap();
        let mut frame = vec![0; length];
        self.client.read_exact(&mut frame).await.unwrap();
        let (_, response) = decode_response(R::KEY, version, frame.into()).unwrap();
        R::Response::try_from(response).unwrap()
    }

    /// Any request; what answers it must be of its version.
    pub(super) async fn ask_any(&mut self, key: ApiKey, version: i16, request: AnyRequest) {
        let frame = encode_request(&request, version, 7, Some("test")).unwrap();
        self.client.write_all(&frame.into_bytes()).await.unwrap();
        let length = self.client.read_i32().await;
        let length = length.unwrap_or_else(|error| panic!("{key} version {version}: {error}"));
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.client.read_exact(&mut frame).await.unwrap();
        let decoded = decode_response(key, version, frame.into());
        assert!(decoded.is_ok(), "{key} version {version}: {decoded:?}");
    }

    pub(super) async fn ask<R: WireRequest>(&mut self, version: i16, request: R) -> R::Response {
        self.send(version, request).await;
        self.receive::<R>(version).await
    }

    pub(super) async fn produce(&mut self, batch: RecordBatch) -> PartitionProduceResponse {
        let mut response = self.ask(11, produce(TOPIC, batch.into_bytes(), -1)).await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    pub(super) async fn fetch(&mut self, offset: i64, isolation_level: i8) -> PartitionData {
        let mut request = fetch(TOPIC, offset);
        request.isolation_level = isolation_level;
        let mut response = self.ask(12, request).await;
        assert_eq!(response.error_code, 0);
        response.responses.remove(0).partitions.remove(0)
    }

    async fn list_offset(&mut self, timestamp: i64) -> (i16, i64, i64) {
        // The lowest version, then one that knows leader epochs.
        let old = self.list_offset_in(1, timestamp).await;
        let new = self.list_offset_in(7, timestamp).await;
        assert_eq!(old, new);
        new
    }

    async fn list_offset_in(&mut self, version: i16, timestamp: i64) -> (i16, i64, i64) {
        let partition = ListOffsetsPartition { timestamp, ..Default::default() };
        let topic = ListOffsetsTopic { name: TOPIC.to_owned(), partitions: vec![partition] };
        let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
        let mut response = self.ask(version, request).await;
        let found = response.topics.remove(0).partitions.remove(0);
        (found.error_code, found.offset, found.timestamp)
    }
}

pub(super) fn produce(topic: &str, records: Bytes, acks: i16) -> ProduceRequest {
    let data = PartitionProduceData { index: 0, records: Some(records) };
    let topic = TopicProduceData {
        name: topic.to_owned(),
        partition_data: vec![data],
        ..Default::default()
    };
    ProduceRequest { acks, timeout_ms: 5_000, topic_data: vec![topic], ..Default::default() }
}

pub(super) fn fetch(topic: &str, offset: i64) -> FetchRequest {
    let partition =
        FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic =
        FetchTopic { topic: topic.to_owned(), partitions: vec![partition], ..Default::default() };
    FetchRequest { max_bytes: 1 << 20, topics: vec![topic], ..Default::default() }
}

pub(super) fn batch_of(
    producer: i64,
    sequence: i32,
    values: &[&str],
    transactional: bool,
) -> RecordBatch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for value in values {
        let at = Timestamp(1_700_000_000_000);
        builder.append(at, Some(b"key"), Some(value.as_bytes()), &[]).unwrap();
    }
    let epoch = ProducerEpoch(if producer < 0 { -1 } else { 0 });
    builder.finish(ProducerId(producer), epoch, Sequence(sequence), transactional)
}

pub(super) fn plain(values: &[&str]) -> RecordBatch {
    batch_of(-1, -1, values, false)
}

/// Offsets and values of all data records in `data`.
pub(super) fn records(data: &PartitionData) -> Vec<(i64, String)> {
    let mut bytes = data.records.clone().unwrap();
    let mut records = Vec::new();
    while let Some(batch) = RecordBatch::split_first(&mut bytes).unwrap() {
        batch.verify_crc().unwrap();
        if batch.header().attributes.is_control() {
            continue;
        }
        for record in &batch.decode(1 << 20).unwrap() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            records.push((record.offset.0, value));
        }
    }
    records
}

/// Someone unknown who came by `listener`.
pub(super) fn session(listener: &str) -> Session {
    let peer = Endpoint::new("test", 1);
    Session::anonymous(listener, SecurityProtocol::Plaintext, peer)
}

pub(super) fn named(values: &[(i64, &str)]) -> Vec<(i64, String)> {
    values.iter().map(|(offset, value)| (*offset, (*value).to_owned())).collect()
}

#[tokio::test]
async fn an_api_is_advertised_exactly_when_it_is_served() {
    let world = World::new().await;
    let api = world.broker.api();
    let AnyResponse::ApiVersions(answer) = api.unsupported_api_versions() else { panic!() };
    let advertised = |key: ApiKey| answer.api_keys.iter().any(|it| it.api_key == key.to_wire());
    let served: Vec<_> = one_of_each().iter().map(AnyRequest::api_key).collect();
    assert_eq!(served.len(), ApiKey::ALL.len());
    for key in &served {
        assert!(advertised(*key), "{key}");
    }
    assert_eq!(answer.api_keys.len(), served.len(), "and nothing else");
}

#[tokio::test]
async fn api_versions_name_features_only_where_the_version_has_them_and_never_emptily() {
    let mut world = World::new().await;
    let request = ApiVersionsRequest {
        client_software_name: "test".to_owned(),
        client_software_version: "1.0".to_owned(),
        ..Default::default()
    };
    let three: ApiVersionsResponse = world.ask(3, request.clone()).await;
    let names: Vec<_> = three.supported_features.iter().map(|it| it.min_version).collect();
    assert!(names.iter().all(|min| *min > 0), "KAFKA-17011");
    let four: ApiVersionsResponse = world.ask(4, request).await;
    assert!(four.supported_features.len() > three.supported_features.len());
    assert!(four.finalized_features_epoch >= 0);
    assert!(!four.finalized_features.is_empty());
    let nameless: ApiVersionsResponse = world.ask(3, ApiVersionsRequest::default()).await;
    assert_eq!(nameless.error_code, ErrorCode::InvalidRequest.to_wire());
}

#[tokio::test]
async fn what_is_produced_is_fetched_also_after_a_restart() {
    let mut world = World::new().await;
    let first = world.produce(plain(&["a", "b"])).await;
    assert_eq!((first.error_code, first.base_offset, first.log_append_time_ms), (0, 0, -1));
    assert_eq!(world.produce(plain(&["c"])).await.base_offset, 2);
    // The whole batch that holds the offset is returned.
    let data = world.fetch(1, 0).await;
    assert_eq!(records(&data), named(&[(0, "a"), (1, "b"), (2, "c")]));
    assert_eq!((data.high_watermark, data.last_stable_offset, data.log_start_offset), (3, 3, 0));
    let mut world = world.restart().await;
    assert_eq!(records(&world.fetch(2, 0).await), named(&[(2, "c")]));
    assert_eq!(world.produce(plain(&["d"])).await.base_offset, 3);
}

#[tokio::test]
async fn every_version_that_is_advertised_is_served() {
    let mut world = World::new().await;
    let id = world.broker.api().0.metadata.image().topic(TOPIC).unwrap().id;
    for version in ApiKey::Produce.versions() {
        for topic in [TOPIC, "nothing"] {
            let mut request = produce(topic, plain(&["a"]).into_bytes(), -1);
            request.topic_data[0].topic_id = if topic == TOPIC { id } else { TopicId([9; 16]) };
            let mut response = world.ask(version, request).await;
            let answer = response.responses.remove(0).partition_responses.remove(0);
            assert_eq!(answer.error_code == 0, topic == TOPIC, "version {version}");
        }
    }
    for version in ApiKey::Fetch.versions() {
        for (isolation_level, offset) in [(0, 0), (1, 0), (0, 999)] {
            let mut request = fetch(TOPIC, offset);
            request.topics[0].topic_id = id;
            request.isolation_level = isolation_level;
            let mut response: FetchResponse = world.ask(version, request).await;
            let data = response.responses.remove(0).partitions.remove(0);
            assert_eq!(data.error_code == 0, offset == 0, "version {version}");
            assert_eq!(data.aborted_transactions.is_some(), isolation_level == 1);
        }
    }
    for version in ApiKey::ListOffsets.versions() {
        for timestamp in [-1, -2, 0, i64::MAX] {
            assert_eq!(world.list_offset_in(version, timestamp).await.0, 0, "version {version}");
        }
    }
}

#[tokio::test]
async fn acknowledged_records_survive_a_power_cut() {
    let mut world = World::new().await;
    world.produce(plain(&["kept"])).await;
    world.disk.crash();
    let disk = world.disk.clone();
    drop(world);
    let mut world = World::on(disk).await;
    assert_eq!(records(&world.fetch(0, 0).await), named(&[(0, "kept")]));
}

#[tokio::test]
async fn pipelined_batches_are_appended_in_order_and_a_repeated_one_once() {
    let mut world = World::new().await;
    for sequence in 0..5 {
        let batch = batch_of(7, sequence, &["x"], false);
        world.send(11, produce(TOPIC, batch.into_bytes(), -1)).await;
    }
    for offset in 0..5 {
        let mut response = world.receive::<ProduceRequest>(11).await;
        let partition = response.responses.remove(0).partition_responses.remove(0);
        assert_eq!((partition.error_code, partition.base_offset), (0, offset));
    }
    let again = world.produce(batch_of(7, 3, &["x"], false)).await;
    assert_eq!((again.error_code, again.base_offset), (0, 3));
    let gap = world.produce(batch_of(7, 9, &["x"], false)).await;
    assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber.to_wire());
    assert_eq!(gap.base_offset, -1);
}

#[tokio::test]
async fn a_batch_that_breaks_a_rule_is_refused_with_its_code() {
    let mut world = World::new().await;
    let good = plain(&["a"]).into_bytes();
    let mut damaged = good.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let mut late = BatchBuilder::new(BatchOptions::default());
    late.append(Timestamp(1_700_003_700_000), None, Some(b"v"), &[]).unwrap();
    let late =
        late.finish(ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE, false).into_bytes();
    let table: [(Bytes, ErrorCode); 7] = [
        (Bytes::new(), ErrorCode::InvalidRecord),
        (damaged.into(), ErrorCode::CorruptMessage),
        ([&good[..], &good[..]].concat().into(), ErrorCode::InvalidRecord),
        (good.slice(..good.len() - 1), ErrorCode::InvalidRecord),
        (late, ErrorCode::InvalidTimestamp),
        (vec![0; 100].into(), ErrorCode::InvalidRecord),
        (plain(&["x"; 200_000]).into_bytes(), ErrorCode::MessageTooLarge),
    ];
    for (records, code) in table {
        let mut response = world.ask(11, produce(TOPIC, records, -1)).await;
        let partition = response.responses.remove(0).partition_responses.remove(0);
        assert_eq!(ErrorCode::from_wire(partition.error_code), code);
    }
    let mut acks = world.ask(11, produce(TOPIC, good.clone(), 2)).await;
    let acks = acks.responses.remove(0).partition_responses.remove(0);
    assert_eq!(acks.error_code, ErrorCode::InvalidRequiredAcks.to_wire());
    let mut unknown = world.ask(11, produce("nothing", good, -1)).await;
    let unknown = unknown.responses.remove(0).partition_responses.remove(0);
    assert_eq!(unknown.error_code, ErrorCode::UnknownTopicOrPartition.to_wire());
    assert_eq!(world.list_offset(-1).await, (0, 0, -1), "nothing of it was appended");
}

#[tokio::test]
async fn a_topic_decides_on_compression_and_on_who_dates_its_records() {
    let mut world = World::new().await;
    let settings = [("message.timestamp.type", "LogAppendTime"), ("compression.type", "lz4")];
    world.create("dated", &settings).await;
    let request = produce("dated", plain(&["a", "b"]).into_bytes(), -1);
    let mut response = world.ask(11, request).await;
    let partition = response.responses.remove(0).partition_responses.remove(0);
    assert!(partition.log_append_time_ms >= 1_700_000_000_000);
    let mut response: FetchResponse = world.ask(12, fetch("dated", 0)).await;
    let data = response.responses.remove(0).partitions.remove(0);
    assert_eq!(records(&data), named(&[(0, "a"), (1, "b")]));
    let batch = RecordBatch::parse(data.records.unwrap()).unwrap();
    assert!(batch.header().attributes.is_log_append_time());
    assert_eq!(batch.header().attributes.codec(), Codec::Lz4);
    assert_eq!(batch.header().max_timestamp.0, partition.log_append_time_ms);
}

#[tokio::test]
async fn without_acknowledgement_nothing_is_answered_and_a_refusal_ends_the_connection() {
    let mut world = World::new().await;
    world.send(11, produce(TOPIC, plain(&["a"]).into_bytes(), 0)).await;
    // The next answer is that of the next request.
    assert_eq!(world.produce(plain(&["b"])).await.base_offset, 1);
    world.send(11, produce("nothing", plain(&["a"]).into_bytes(), 0)).await;
    assert!(world.client.read_u8().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_waits_for_records_and_not_longer() {
    let mut world = World::new().await;
    let mut waiting = fetch(TOPIC, 0);
    (waiting.min_bytes, waiting.max_wait_ms) = (1, 10_000);
    world.send(12, waiting.clone()).await;
    let mut other = world.network.connect(&Endpoint::new("broker", 1)).await.unwrap();
    let frame = encode_request(&produce(TOPIC, plain(&["a"]).into_bytes(), -1).into(), 11, 1, None);
    other.write_all(&frame.unwrap().into_bytes()).await.unwrap();
    let clock = client::time::virtual_clock(Timestamp(0));
    let mut response = world.receive::<FetchRequest>(12).await;
    assert_eq!(records(&response.responses.remove(0).partitions.remove(0)), named(&[(0, "a")]));
    assert!(clock.now().monotonic < Duration::from_secs(1));
    // Too little for the next one: what there is comes when its time is over.
    waiting.min_bytes = 1 << 19;
    let mut response = world.ask(12, waiting).await;
    assert_eq!(records(&response.responses.remove(0).partitions.remove(0)), named(&[(0, "a")]));
    assert!(clock.now().monotonic >= Duration::from_secs(10));
}

#[tokio::test]
async fn an_offset_outside_of_the_log_is_an_error_and_the_end_is_not() {
    let mut world = World::new().await;
    world.produce(plain(&["a"])).await;
    assert_eq!(world.fetch(1, 0).await.error_code, 0);
    let beyond = world.fetch(2, 0).await;
    assert_eq!(beyond.error_code, ErrorCode::OffsetOutOfRange.to_wire());
    assert_eq!(world.fetch(-1, 0).await.error_code, ErrorCode::OffsetOutOfRange.to_wire());
}

#[tokio::test]
async fn a_reader_of_committed_records_sees_no_open_transaction_and_learns_of_aborted_ones() {
    let mut world = World::new().await;
    world.produce(plain(&["before"])).await;
    let stranger = world.produce(batch_of(5, 0, &["never"], true)).await;
    assert_eq!(stranger.error_code, ErrorCode::InvalidRequest.to_wire());
    // Past the coordinator, which would have to know these producers.
    let handle = world.broker.api().partitions().get(TOPIC, PartitionIndex(0)).unwrap();
    for batch in [batch_of(5, 0, &["aborted"], true), batch_of(6, 0, &["committed"], true)] {
        let (origin, acks) = (Origin::Client, Acks::Committed);
        let append = Append { batches: vec![batch], origin, acks, leader_epoch: None };
        handle.append(append).await.unwrap();
    }
    let open = world.fetch(0, 1).await;
    assert_eq!(records(&open), named(&[(0, "before")]));
    assert_eq!((open.high_watermark, open.last_stable_offset), (3, 1));
    for (producer, commit) in [(5, false), (6, true)] {
        let marker = EndTxnMarker {
            producer_id: ProducerId(producer),
            producer_epoch: ProducerEpoch(0),
            coordinator_epoch: CoordinatorEpoch(0),
            commit,
            transaction_version: 0,
        };
        handle.write_marker(marker).await.unwrap();
    }
    let data = world.fetch(0, 1).await;
    assert_eq!(data.last_stable_offset, 5);
    let aborted: Vec<_> = data.aborted_transactions.clone().unwrap();
    let aborted: Vec<_> = aborted.iter().map(|it| (it.producer_id, it.first_offset)).collect();
    assert_eq!(aborted, [(5, 1)]);
    assert_eq!(records(&data).len(), 3, "aborted records are there for the client to skip");
    let uncommitted = world.fetch(0, 0).await;
    assert_eq!(uncommitted.aborted_transactions, None);
}

#[tokio::test]
async fn offsets_are_found_by_time_and_by_name() {
    let mut world = World::new().await;
    assert_eq!(world.list_offset(-1).await, (0, 0, -1));
    world.produce(plain(&["a", "b"])).await;
    assert_eq!(world.list_offset(-1).await, (0, 2, -1));
    assert_eq!(world.list_offset(-2).await, (0, 0, -1));
    assert_eq!(world.list_offset(1_700_000_000_000).await, (0, 0, 1_700_000_000_000));
    assert_eq!(world.list_offset(1_700_000_000_001).await, (0, -1, -1));
    // Each name is known from one version on.
    let newest = (1_700_000_000_000, 0);
    for (name, since, (at, offset)) in
        [(-3, 7, newest), (-4, 8, (-1, 0)), (-5, 9, (-1, -1)), (-6, 11, (-1, -1))]
    {
        let (unknown, ..) = world.list_offset_in(since - 1, name).await;
        assert_eq!(unknown, ErrorCode::UnsupportedVersion.to_wire());
        assert_eq!(world.list_offset_in(since, name).await, (0, offset, at));
    }
    assert_eq!(world.list_offset(-77).await.0, ErrorCode::UnsupportedVersion.to_wire());
}

#[tokio::test]
async fn the_end_of_the_present_leader_epoch_is_the_log_end_and_a_stale_asker_is_fenced() {
    let mut world = World::new().await;
    world.produce(plain(&["a", "b"])).await;
    let mut world = world.restart().await;
    world.produce(plain(&["c"])).await;
    let handle = world.broker.api().partitions().get(TOPIC, PartitionIndex(0)).unwrap();
    let now = handle.watermarks().borrow().leader_epoch.0;
    assert!(now > 0);
    let ask = |current_leader_epoch, leader_epoch| {
        let partition =
            OffsetForLeaderPartition { partition: 0, current_leader_epoch, leader_epoch };
        let topic = OffsetForLeaderTopic { topic: TOPIC.to_owned(), partitions: vec![partition] };
        OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() }
    };
    let requests = [ask(-1, 0), ask(now, now), ask(now, now + 9), ask(now - 1, 0), ask(now + 9, 0)];
    let mut answers = Vec::new();
    for request in requests {
        let mut response = world.ask(4, request).await;
        let found = response.topics.remove(0).partitions.remove(0);
        answers.push((found.error_code, found.leader_epoch, found.end_offset));
    }
    let stale = ErrorCode::FencedLeaderEpoch.to_wire();
    let unknown = ErrorCode::UnknownLeaderEpoch.to_wire();
    let want = [(0, 0, 2), (0, now, 3), (0, -1, -1), (stale, -1, -1), (unknown, -1, -1)];
    assert_eq!(answers, want);
}

#[tokio::test]
async fn deleted_records_are_gone_and_the_log_goes_on() {
    let mut world = World::new().await;
    world.produce(plain(&["a"])).await;
    world.produce(plain(&["b"])).await;
    let delete = |offset| {
        let partition = DeleteRecordsPartition { partition_index: 0, offset };
        let topic = DeleteRecordsTopic { name: TOPIC.to_owned(), partitions: vec![partition] };
        // The time is for followers, and there are none.
        DeleteRecordsRequest { topics: vec![topic], timeout_ms: 0 }
    };
    let mut answers = Vec::new();
    for offset in [1, 9, -1] {
        let mut response = world.ask(2, delete(offset)).await;
        let result = response.topics.remove(0).partitions.remove(0);
        answers.push((ErrorCode::from_wire(result.error_code), result.low_watermark));
    }
    let beyond = (ErrorCode::OffsetOutOfRange, -1);
    assert_eq!(answers, [(ErrorCode::None, 1), beyond, (ErrorCode::None, 2)]);
    assert_eq!(world.fetch(1, 0).await.error_code, ErrorCode::OffsetOutOfRange.to_wire());
    assert_eq!(world.produce(plain(&["c"])).await.base_offset, 2);
    let mut world = world.restart().await;
    assert_eq!(world.list_offset(-2).await, (0, 2, -1));
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_its_topic_keeps_goes() {
    let mut world = World::new().await;
    world.create("brief", &[("retention.ms", "1000")]).await;
    let request = produce("brief", plain(&["a"]).into_bytes(), -1);
    world.ask(11, request.clone()).await;
    world.produce(plain(&["kept"])).await;
    tokio::time::sleep(Duration::from_secs(400)).await;
    let mut response = world.ask(11, request).await;
    let partition = response.responses.remove(0).partition_responses.remove(0);
    assert_eq!((partition.base_offset, partition.log_start_offset), (1, 1));
    assert_eq!(records(&world.fetch(0, 0).await), named(&[(0, "kept")]));
}

#[tokio::test]
async fn an_incremental_fetch_tells_only_what_changed() {
    let mut world = World::new().await;
    let mut full = fetch(TOPIC, 0);
    (full.session_epoch, full.session_id) = (0, 0);
    let first: FetchResponse = world.ask(12, full).await;
    assert!(first.session_id > 0);
    let next = |epoch| FetchRequest {
        max_bytes: 1 << 20,
        session_id: first.session_id,
        session_epoch: epoch,
        ..Default::default()
    };
    let quiet: FetchResponse = world.ask(12, next(1)).await;
    assert!(quiet.responses.is_empty());
    world.produce(plain(&["a"])).await;
    let mut news: FetchResponse = world.ask(12, next(2)).await;
    assert_eq!(records(&news.responses.remove(0).partitions.remove(0)), named(&[(0, "a")]));
    let stale: FetchResponse = world.ask(12, next(2)).await;
    assert_eq!(stale.error_code, ErrorCode::InvalidFetchSessionEpoch.to_wire());
}

#[tokio::test]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let mut world = World::new().await;
    world.produce(batch_of(7, 0, &["kept"], false)).await;
    world.disk.set_capacity(Some(world.disk.used_bytes()));
    let refused = world.produce(batch_of(7, 1, &["lost"], false)).await;
    assert_eq!(refused.error_code, ErrorCode::KafkaStorageError.to_wire());
    assert_eq!(records(&world.fetch(0, 0).await), named(&[(0, "kept")]));
    world.disk.set_capacity(None);
    let again = world.produce(batch_of(7, 1, &["again"], false)).await;
    assert_eq!((again.error_code, again.base_offset), (0, 1));
    assert_eq!(records(&world.fetch(1, 0).await), named(&[(1, "again")]));
}

#[tokio::test]
async fn a_log_directory_tells_how_large_its_partitions_are() {
    let mut world = World::new().await;
    let batch = plain(&["a"]);
    let bytes = i64::try_from(batch.bytes().len()).unwrap();
    world.produce(batch).await;
    let request = DescribeLogDirsRequest { topics: None };
    let mut response: DescribeLogDirsResponse = world.ask(4, request).await;
    let dir = response.results.remove(0);
    assert_eq!((dir.error_code, &*dir.log_dir), (0, "/data"));
    let sizes: Vec<_> = dir.topics[0].partitions.iter().map(|it| it.partition_size).collect();
    assert_eq!(sizes, [bytes, 0]);
}

#[tokio::test]
async fn topics_are_named_by_id_where_the_version_says_so() {
    let mut world = World::new().await;
    let id = world.broker.api().0.metadata.image().topic(TOPIC).unwrap().id;
    let mut request = produce("", plain(&["a"]).into_bytes(), -1);
    request.topic_data[0].topic_id = id;
    let mut response = world.ask(13, request.clone()).await;
    let response = response.responses.remove(0);
    assert_eq!((response.topic_id, response.partition_responses[0].error_code), (id, 0));
    request.topic_data[0].topic_id = TopicId([9; 16]);
    let mut response = world.ask(13, request).await;
    let refused = response.responses.remove(0).partition_responses.remove(0);
    assert_eq!(refused.error_code, ErrorCode::UnknownTopicId.to_wire());
    let mut request = fetch("", 0);
    request.topics[0].topic_id = id;
    let mut response: FetchResponse = world.ask(16, request).await;
    let data = response.responses.remove(0).partitions.remove(0);
    assert_eq!(records(&data), named(&[(0, "a")]));
}

#[tokio::test]
async fn nobody_writes_the_clusters_own_topics_from_outside() {
    let mut world = World::new().await;
    let names = vec![crate::metadata::OFFSETS_TOPIC.to_owned()];
    world.broker.controller().ensure_topics(names.clone(), Duration::from_secs(5)).await.unwrap();
    while world.broker.api().partitions().get(&names[0], PartitionIndex(0)).is_err() {
        tokio::task::yield_now().await;
    }
    let mut response = world.ask(11, produce(&names[0], plain(&["a"]).into_bytes(), -1)).await;
    let refused = response.responses.remove(0).partition_responses.remove(0);
    assert_eq!(refused.error_code, ErrorCode::InvalidTopicException.to_wire());
}

#[tokio::test]
async fn a_topic_of_the_same_name_begins_anew_and_the_old_one_leaves_nothing() {
    let mut world = World::new().await;
    world.produce(plain(&["old"])).await;
    let gone = vec![crate::controller::TopicRef::Name(TOPIC.to_owned())];
    let controller = world.broker.controller();
    controller.delete_topics(gone, Duration::from_secs(5)).await.unwrap();
    world.create(TOPIC, &[]).await;
    assert_eq!(world.produce(plain(&["new"])).await.base_offset, 0);
    assert_eq!(records(&world.fetch(0, 0).await), named(&[(0, "new")]));
    let mut world = world.restart().await;
    assert_eq!(world.list_offset(-1).await, (0, 1, -1));
    assert_eq!(world.list_offset(-2).await, (0, 0, Offset::NONE.0));
}

#[tokio::test]
async fn what_a_broker_did_is_told_over_http() {
    let mut world = World::with(SimDisk::new(1), &[("metrics.listener", "127.0.0.1:0")]).await;
    world.create(TOPIC, &[]).await;
    assert_eq!(world.produce(plain(&["a", "b", "c"])).await.error_code, 0);
    let at = world.broker.metrics_endpoint().unwrap();
    let mut stream = tokio::net::TcpStream::connect((&*at.host, at.port)).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    for line in [
        "kafka_server_brokertopicmetrics_messagesin_total 3",
        "kafka_network_requestmetrics_requests_total{request=\"Produce\"} 1",
        "kafka_network_requestmetrics_totaltime_seconds_count{request=\"Produce\"} 1",
        "kafka_server_replicamanager_leadercount 2",
        "kafka_server_replicamanager_underminisrpartitioncount 0",
        "kafka_controller_kafkacontroller_activecontrollercount 1",
        "kafka_log_logmanager_offlinelogdirectorycount 0",
        "kafka_network_socketserver_connections 1",
    ] {
        assert!(page.lines().any(|it| it == line), "{line} is missing from\n{page}");
    }
    let told = |metric: &crate::metrics::Metric| page.contains(&format!("# TYPE {} ", metric.name));
    let missing: Vec<_> = crate::metrics::TABLE.iter().filter(|metric| !told(metric)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let size = page.lines().find(|it| it.starts_with("kafka_log_log_size_bytes{topic=\"orders\"}"));
    assert_ne!(size.unwrap().rsplit(' ').next(), Some("0"));
}

#[tokio::test(start_paused = true)]
async fn a_throttled_producer_is_told_and_not_read_for_that_time_while_others_are() {
    let mut world = World::new().await;
    let entity = QuotaEntity::new([("client-id", Some("test"))]).unwrap();
    let alteration = AlterQuotas {
        entity,
        // A produce request of 11 such seconds is too much by one, and some.
        changes: vec![("producer_byte_rate".to_owned(), Some(100.0))],
    };
    let altered = world.broker.controller().alter_quotas(vec![alteration], false).await;
    assert_eq!(altered.unwrap(), [Ok(())]);
    while !world.broker.api().0.quotas.has(QuotaKind::Produce) {
        tokio::task::yield_now().await;
    }
    let clock = client::time::virtual_clock(Timestamp(0));
    let request = produce(TOPIC, plain(&[&"x".repeat(1200)]).into_bytes(), -1);
    let response = world.ask(11, request).await;
    let throttle = Duration::from_millis(u64::try_from(response.throttle_time_ms).unwrap());
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&throttle), "{throttle:?}");
    // The next request of this connection waits; another connection's does not.
    let versions = || ApiVersionsRequest {
        client_software_name: "test".to_owned(),
        client_software_version: "1.0".to_owned(),
        ..Default::default()
    };
    world.send(3, versions()).await;
    let mut other = world.network.connect(&Endpoint::new("broker", 1)).await.unwrap();
    std::mem::swap(&mut world.client, &mut other);
    world.ask(3, versions()).await;
    assert_eq!(clock.now().monotonic.as_secs(), 0);
    std::mem::swap(&mut world.client, &mut other);
    world.receive::<ApiVersionsRequest>(3).await;
    assert!(clock.now().monotonic >= throttle);
}

#[tokio::test(start_paused = true)]
async fn a_brokers_settings_hold_as_soon_as_they_are_altered() {
    let mut world = World::new().await;
    let alter = async |world: &World, name: &str, value: Option<&str>| {
        let operation =
            if value.is_some() { ConfigOperation::Set } else { ConfigOperation::Delete };
        let (name, value) = (name.to_owned(), value.map(str::to_owned));
        let changes = vec![ConfigChange { name, operation, value }];
        let resource = Resource::Broker(None);
        let alteration = AlterConfig { resource, changes, replace: false };
        let altered = world.broker.controller().alter_configs(vec![alteration], false).await;
        assert_eq!(altered.unwrap(), [Ok(())]);
        // Rooms follow the Image in their own time.
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    alter(&world, "message.max.bytes", Some("100")).await;
    let large = || plain(&[&"x".repeat(200)]);
    let refused = world.produce(large()).await;
    assert_eq!(ErrorCode::from_wire(refused.error_code), ErrorCode::MessageTooLarge);
    alter(&world, "message.max.bytes", None).await;
    assert_eq!(world.produce(large()).await.error_code, 0);

    alter(&world, "max.connections", Some("1")).await;
    let at = Endpoint::new("broker", 1);
    let mut other = world.network.connect(&at).await.unwrap();
    assert_eq!(other.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(world.produce(plain(&["still"])).await.error_code, 0);
}
