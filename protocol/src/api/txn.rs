//! x. Pure.

use crate::wire;

wire! {
    /// AddPartitionsToTxnRequest.
    pub struct AddPartitionsToTxnRequest {
        /// Transactions.
        transactions: Vec<AddPartitionsToTxnTransaction>, in 4..;
        /// V3AndBelowTransactionalId.
        v3_and_below_transactional_id: String, in ..=3;
        /// V3AndBelowProducerId.
        v3_and_below_producer_id: i64, in ..=3;
        /// V3AndBelowProducerEpoch.
        v3_and_below_producer_epoch: i16, in ..=3;
        /// V3AndBelowTopics.
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic>, in ..=3;
    }

    /// AddPartitionsToTxnTransaction.
    pub struct AddPartitionsToTxnTransaction {
        /// TransactionalId.
        transactional_id: String;
        /// ProducerId.
        producer_id: i64;
        /// ProducerEpoch.
        producer_epoch: i16;
        /// VerifyOnly.
        verify_only: bool;
        /// Topics.
        topics: Vec<AddPartitionsToTxnTopic>;
    }

    /// AddPartitionsToTxnTopic.
    pub struct AddPartitionsToTxnTopic {
        /// Name.
        name: String;
        /// Partitions.
        partitions: Vec<i32>;
    }

    /// AddPartitionsToTxnResponse.
    pub struct AddPartitionsToTxnResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// ErrorCode.
        error_code: i16, in 4.., ignorable;
        /// ResultsByTransaction.
        results_by_transaction: Vec<AddPartitionsToTxnResult>, in 4..;
        /// ResultsByTopicV3AndBelow.
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult>, in ..=3;
    }

    /// AddPartitionsToTxnResult.
    pub struct AddPartitionsToTxnResult {
        /// TransactionalId.
        transactional_id: String;
        /// TopicResults.
        topic_results: Vec<AddPartitionsToTxnTopicResult>;
    }

    /// AddPartitionsToTxnTopicResult.
    pub struct AddPartitionsToTxnTopicResult {
        /// Name.
        name: String;
        /// ResultsByPartition.
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult>;
    }

    /// AddPartitionsToTxnPartitionResult.
    pub struct AddPartitionsToTxnPartitionResult {
        /// PartitionIndex.
        partition_index: i32;
        /// PartitionErrorCode.
        partition_error_code: i16;
    }

    /// AddOffsetsToTxnRequest.
    pub struct AddOffsetsToTxnRequest {
        /// TransactionalId.
        transactional_id: String;
        /// ProducerId.
        producer_id: i64;
        /// ProducerEpoch.
        producer_epoch: i16;
        /// GroupId.
        group_id: String;
    }

    /// AddOffsetsToTxnResponse.
    pub struct AddOffsetsToTxnResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// ErrorCode.
        error_code: i16;
    }

    /// EndTxnRequest.
    pub struct EndTxnRequest {
        /// TransactionalId.
        transactional_id: String;
        /// ProducerId.
        producer_id: i64;
        /// ProducerEpoch.
        producer_epoch: i16;
        /// Committed.
        committed: bool;
    }

    /// EndTxnResponse.
    pub struct EndTxnResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// ErrorCode.
        error_code: i16;
        /// ProducerId.
        producer_id: i64 = -1, in 5.., ignorable;
        /// ProducerEpoch.
        producer_epoch: i16 = -1, in 5.., ignorable;
    }

    /// TxnOffsetCommitRequest.
    pub struct TxnOffsetCommitRequest {
        /// TransactionalId.
        transactional_id: String;
        /// GroupId.
        group_id: String;
        /// ProducerId.
        producer_id: i64;
        /// ProducerEpoch.
        producer_epoch: i16;
        /// GenerationId.
        generation_id: i32 = -1, in 3..;
        /// MemberId.
        member_id: String, in 3..;
        /// GroupInstanceId.
        group_instance_id: Option<String>, in 3..;
        /// Topics.
        topics: Vec<TxnOffsetCommitRequestTopic>;
    }

    /// TxnOffsetCommitRequestTopic.
    pub struct TxnOffsetCommitRequestTopic {
        /// Name.
        name: String;
        /// Partitions.
        partitions: Vec<TxnOffsetCommitRequestPartition>;
    }

    /// TxnOffsetCommitRequestPartition.
    pub struct TxnOffsetCommitRequestPartition {
        /// PartitionIndex.
        partition_index: i32;
        /// CommittedOffset.
        committed_offset: i64;
        /// CommittedLeaderEpoch.
        committed_leader_epoch: i32 = -1, in 2.., ignorable;
        /// CommittedMetadata.
        committed_metadata: Option<String> = Some(String::new());
    }

    /// TxnOffsetCommitResponse.
    pub struct TxnOffsetCommitResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// Topics.
        topics: Vec<TxnOffsetCommitResponseTopic>;
    }

    /// TxnOffsetCommitResponseTopic.
    pub struct TxnOffsetCommitResponseTopic {
        /// Name.
        name: String;
        /// Partitions.
        partitions: Vec<TxnOffsetCommitResponsePartition>;
    }

    /// TxnOffsetCommitResponsePartition.
    pub struct TxnOffsetCommitResponsePartition {
        /// PartitionIndex.
        partition_index: i32;
        /// ErrorCode.
        error_code: i16;
    }

    /// WriteTxnMarkersRequest.
    pub struct WriteTxnMarkersRequest {
        /// Markers.
        markers: Vec<WritableTxnMarker>;
    }

    /// WritableTxnMarker.
    pub struct WritableTxnMarker {
        /// ProducerId.
        producer_id: i64;
        /// ProducerEpoch.
        producer_epoch: i16;
        /// TransactionResult.
        transaction_result: bool;
        /// Topics.
        topics: Vec<WritableTxnMarkerTopic>;
        /// CoordinatorEpoch.
        coordinator_epoch: i32;
        /// TransactionVersion.
        transaction_version: i8, in 2.., ignorable;
    }

    /// WritableTxnMarkerTopic.
    pub struct WritableTxnMarkerTopic {
        /// Name.
        name: String;
        /// PartitionIndexes.
        partition_indexes: Vec<i32>;
    }

    /// WriteTxnMarkersResponse.
    pub struct WriteTxnMarkersResponse {
        /// Markers.
        markers: Vec<WritableTxnMarkerResult>;
    }

    /// WritableTxnMarkerResult.
    pub struct WritableTxnMarkerResult {
        /// ProducerId.
        producer_id: i64;
        /// Topics.
        topics: Vec<WritableTxnMarkerTopicResult>;
    }

    /// WritableTxnMarkerTopicResult.
    pub struct WritableTxnMarkerTopicResult {
        /// Name.
        name: String;
        /// Partitions.
        partitions: Vec<WritableTxnMarkerPartitionResult>;
    }

    /// WritableTxnMarkerPartitionResult.
    pub struct WritableTxnMarkerPartitionResult {
        /// PartitionIndex.
        partition_index: i32;
        /// ErrorCode.
        error_code: i16;
    }
}
