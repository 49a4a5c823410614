//! Messages of the hot path, from and to bytes.
//!
//! In the versions that librdkafka 2.12 and Kafka's clients of 4.x use. Pure.

use std::hint::black_box;

use bytes::Bytes;
use protocol::api::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use protocol::api::metadata::{MetadataResponse, MetadataResponsePartition, MetadataResponseTopic};
use protocol::api::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData, TopicProduceResponse,
};
use protocol::message::{Versioned, decode_message, encode_message};
use protocol::primitive::Writer;

use crate::{Case, Work};

/// All of this file.
pub const CASES: [Case; 5] = [
    Case { name: "codec: read a Produce request", prepare: read_produce },
    Case { name: "codec: write a Produce response", prepare: write_produce },
    Case { name: "codec: read a Fetch request of 100 partitions", prepare: read_fetch },
    Case { name: "codec: write a Fetch response of 100 partitions", prepare: write_fetch },
    Case { name: "codec: write a Metadata response of 100 topics", prepare: write_metadata },
];

fn encoded<T: Versioned>(version: i16, message: &T) -> Bytes {
    let mut writer = Writer::new();
    encode_message(version, message, &mut writer).expect("a message of this version");
    writer.finish().into_bytes()
}

fn reading<T: Versioned>(version: i16, message: &T) -> Work {
    let bytes = encoded(version, message);
    Box::new(move || {
        let read = decode_message::<T>(version, black_box(bytes.clone()));
        black_box(read.expect("what was written can be read"));
    })
}

fn writing<T: Versioned + 'static>(version: i16, message: T) -> Work {
    Box::new(move || {
        let mut writer = Writer::new();
        encode_message(version, black_box(&message), &mut writer)
            .expect("a message of this version");
        black_box(writer.finish_frame().expect("it is small"));
    })
}

/// A request to append `records` to partition 0 of `topic`.
pub(crate) fn produce_request(topic: &str, acks: i16, records: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData { index: 0, records: Some(records) };
    let topic = TopicProduceData {
        name: topic.to_owned(),
        partition_data: vec![partition],
        ..TopicProduceData::default()
    };
    ProduceRequest {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![topic],
        ..ProduceRequest::default()
    }
}

fn read_produce() -> Work {
    reading(12, &produce_request("orders", -1, Bytes::from(vec![7; 1100])))
}

fn write_produce() -> Work {
    let partition =
        PartitionProduceResponse { base_offset: 7, ..PartitionProduceResponse::default() };
    let topic = TopicProduceResponse {
        name: "orders".to_owned(),
        partition_responses: vec![partition],
        ..TopicProduceResponse::default()
    };
    writing(12, ProduceResponse { responses: vec![topic], ..ProduceResponse::default() })
}

fn read_fetch() -> Work {
    let partition = |index| FetchPartition {
        partition: index,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topic = FetchTopic {
        topic: "orders".to_owned(),
        partitions: (0..100).map(partition).collect(),
        ..FetchTopic::default()
    };
    reading(12, &FetchRequest { topics: vec![topic], ..FetchRequest::default() })
}

fn write_fetch() -> Work {
    let records = Bytes::from(vec![7; 16 << 10]);
    let partition = |index| PartitionData {
        partition_index: index,
        records: Some(records.clone()),
        ..PartitionData::default()
    };
    let topic = FetchableTopicResponse {
        topic: "orders".to_owned(),
        partitions: (0..100).map(partition).collect(),
        ..FetchableTopicResponse::default()
    };
    writing(12, FetchResponse { responses: vec![topic], ..FetchResponse::default() })
}

fn write_metadata() -> Work {
    let partition = |index| MetadataResponsePartition {
        partition_index: index,
        leader_id: 1,
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        ..MetadataResponsePartition::default()
    };
    let topic = |index: i32| MetadataResponseTopic {
        name: Some(format!("topic-{index}")),
        partitions: (0..10).map(partition).collect(),
        ..MetadataResponseTopic::default()
    };
    let response =
        MetadataResponse { topics: (0..100).map(topic).collect(), ..MetadataResponse::default() };
    writing(12, response)
}
