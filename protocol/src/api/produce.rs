//! x. Pure.

use bytes::Bytes;

use crate::ids::TopicId;
use crate::wire;

wire! {
    /// ProduceRequest.
    pub struct ProduceRequest {
        /// TransactionalId.
        transactional_id: Option<String>;
        /// Acks.
        acks: i16;
        /// TimeoutMs.
        timeout_ms: i32;
        /// TopicData.
        topic_data: Vec<TopicProduceData>;
    }

    /// TopicProduceData.
    pub struct TopicProduceData {
        /// Name.
        name: String, in ..=12, ignorable;
        /// TopicId.
        topic_id: TopicId, in 13.., ignorable;
        /// PartitionData.
        partition_data: Vec<PartitionProduceData>;
    }

    /// PartitionProduceData.
    pub struct PartitionProduceData {
        /// Index.
        index: i32;
        /// Records.
        records: Option<Bytes> = Some(Bytes::new());
    }

    /// ProduceResponse.
    pub struct ProduceResponse {
        /// Responses.
        responses: Vec<TopicProduceResponse>;
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// NodeEndpoints.
        node_endpoints: Vec<NodeEndpoint>, in 10.., tag 0;
    }

    /// TopicProduceResponse.
    pub struct TopicProduceResponse {
        /// Name.
        name: String, in ..=12, ignorable;
        /// TopicId.
        topic_id: TopicId, in 13.., ignorable;
        /// PartitionResponses.
        partition_responses: Vec<PartitionProduceResponse>;
    }

    /// PartitionProduceResponse.
    pub struct PartitionProduceResponse {
        /// Index.
        index: i32;
        /// ErrorCode.
        error_code: i16;
        /// BaseOffset.
        base_offset: i64;
        /// LogAppendTimeMs.
        log_append_time_ms: i64 = -1;
        /// LogStartOffset.
        log_start_offset: i64 = -1, in 5.., ignorable;
        /// RecordErrors.
        record_errors: Vec<BatchIndexAndErrorMessage>, in 8.., ignorable;
        /// ErrorMessage.
        error_message: Option<String>, in 8.., ignorable;
        /// CurrentLeader.
        current_leader: LeaderIdAndEpoch, in 10.., tag 0;
    }

    /// BatchIndexAndErrorMessage.
    pub struct BatchIndexAndErrorMessage {
        /// BatchIndex.
        batch_index: i32;
        /// BatchIndexErrorMessage.
        batch_index_error_message: Option<String>;
    }

    /// LeaderIdAndEpoch.
    pub struct LeaderIdAndEpoch {
        /// LeaderId.
        leader_id: i32 = -1;
        /// LeaderEpoch.
        leader_epoch: i32 = -1;
    }

    /// NodeEndpoint.
    pub struct NodeEndpoint {
        /// NodeId.
        node_id: i32;
        /// Host.
        host: String;
        /// Port.
        port: i32;
        /// Rack.
        rack: Option<String>;
    }
}
