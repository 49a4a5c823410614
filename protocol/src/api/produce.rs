//! Produce: appends record batches to partitions.
//!
//! Batches are slices of the frame in both directions and never looked into here. From version 13
//! on topics go by id (KIP-516). Pure.

use bytes::Bytes;

use crate::ids::TopicId;
use crate::wire;

wire! {
    /// Appends batches. v3: transactions (KIP-98); v12: adds its partitions to the transaction
    /// (KIP-890); v13: topics by id (KIP-516).
    pub struct ProduceRequest {
        /// The transactional id. `None`: no transaction.
        transactional_id: Option<String>;
        /// How many replicas must have it: 0 none, 1 the leader, -1 all in sync.
        acks: i16;
        /// How long to wait for it to be done, in milliseconds.
        timeout_ms: i32;
        /// The topics.
        topic_data: Vec<TopicProduceData>;
    }

    /// The batches for one topic.
    pub struct TopicProduceData {
        /// The topic's name.
        name: String, in ..=12, ignorable;
        /// The topic's id. Zero: none.
        topic_id: TopicId, in 13.., ignorable;
        /// The partitions.
        partition_data: Vec<PartitionProduceData>;
    }

    /// The batches for one partition.
    pub struct PartitionProduceData {
        /// Which partition.
        index: i32;
        /// Record batches, as they go to disk.
        records: Option<Bytes> = Some(Bytes::new());
    }

    /// What became of the batches. Not sent when `acks` is 0.
    pub struct ProduceResponse {
        /// What became of each topic.
        responses: Vec<TopicProduceResponse>;
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// Where the leaders named above can be reached.
        node_endpoints: Vec<NodeEndpoint>, in 10.., tag 0;
    }

    /// What became of the batches for one topic.
    pub struct TopicProduceResponse {
        /// The topic's name.
        name: String, in ..=12, ignorable;
        /// The topic's id. Zero: none.
        topic_id: TopicId, in 13.., ignorable;
        /// What became of each partition.
        partition_responses: Vec<PartitionProduceResponse>;
    }

    /// What became of the batches for one partition. v8: which records were at fault (KIP-467);
    /// v10: who leads now (KIP-951).
    pub struct PartitionProduceResponse {
        /// Which partition.
        index: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The offset of the first record. -1: none was appended.
        base_offset: i64;
        /// When the broker appended, if the topic's timestamps are the broker's. -1: they are not.
        log_append_time_ms: i64 = -1;
        /// The first readable offset. -1: not known.
        log_start_offset: i64 = -1, in 5.., ignorable;
        /// The records at fault.
        record_errors: Vec<BatchIndexAndErrorMessage>, in 8.., ignorable;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String>, in 8.., ignorable;
        /// Who leads now, where the broker asked does not.
        current_leader: LeaderIdAndEpoch, in 10.., tag 0;
    }

    /// A record for which its batch was refused.
    pub struct BatchIndexAndErrorMessage {
        /// Which record of the batch, from 0.
        batch_index: i32;
        /// What is wrong with it. `None`: see the batch.
        batch_index_error_message: Option<String>;
    }

    /// Who leads a partition.
    pub struct LeaderIdAndEpoch {
        /// The leader. -1: none.
        leader_id: i32 = -1;
        /// The leader epoch. -1: unknown.
        leader_epoch: i32 = -1;
    }

    /// Where a leader can be reached.
    pub struct NodeEndpoint {
        /// The broker's id.
        node_id: i32;
        /// Where to connect to.
        host: String;
        /// The port there.
        port: i32;
        /// Where it stands. `None`: unknown.
        rack: Option<String>;
    }
}
