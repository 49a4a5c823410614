//! Transactions: adding partitions and offsets, ending, and the markers between brokers.
//!
//! The last versions of AddPartitionsToTxn are for brokers, who ask for many transactions at once.
//! KIP-98, KIP-890. Pure.

use crate::wire;

wire! {
    /// Adds partitions to transactions. Clients: up to version 3, and no longer needed since
    /// KIP-890. Brokers: from version 4 on, many transactions at once, or only asking whether they
    /// are open.
    pub struct AddPartitionsToTxnRequest {
        /// The transactions, from version 4 on.
        transactions: Vec<AddPartitionsToTxnTransaction>, in 4..;
        /// The transactional id, up to version 3.
        v3_and_below_transactional_id: String, in ..=3;
        /// The producer id, up to version 3.
        v3_and_below_producer_id: i64, in ..=3;
        /// The epoch of the producer id, up to version 3.
        v3_and_below_producer_epoch: i16, in ..=3;
        /// The partitions, up to version 3.
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic>, in ..=3;
    }

    /// One transaction's partitions.
    pub struct AddPartitionsToTxnTransaction {
        /// The transactional id.
        transactional_id: String;
        /// The producer id. -1: none.
        producer_id: i64;
        /// The epoch of the producer id. -1: none.
        producer_epoch: i16;
        /// Whether to ask if the partitions are in the transaction, and add none.
        verify_only: bool;
        /// The topics.
        topics: Vec<AddPartitionsToTxnTopic>;
    }

    /// Partitions of one topic.
    pub struct AddPartitionsToTxnTopic {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<i32>;
    }

    /// Which partitions were added.
    pub struct AddPartitionsToTxnResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16, in 4.., ignorable;
        /// What became of each transaction, from version 4 on.
        results_by_transaction: Vec<AddPartitionsToTxnResult>, in 4..;
        /// What became of each topic, up to version 3.
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult>, in ..=3;
    }

    /// What became of one transaction's partitions.
    pub struct AddPartitionsToTxnResult {
        /// The transactional id.
        transactional_id: String;
        /// What became of each topic.
        topic_results: Vec<AddPartitionsToTxnTopicResult>;
    }

    /// What became of one topic's partitions.
    pub struct AddPartitionsToTxnTopicResult {
        /// The topic's name.
        name: String;
        /// What became of each partition.
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult>;
    }

    /// What became of one partition.
    pub struct AddPartitionsToTxnPartitionResult {
        /// Which partition.
        partition_index: i32;
        /// An error code of the wire; 0: success.
        partition_error_code: i16;
    }

    /// Adds a group's offsets to a transaction. KIP-98.
    pub struct AddOffsetsToTxnRequest {
        /// The transactional id.
        transactional_id: String;
        /// The producer id. -1: none.
        producer_id: i64;
        /// The epoch of the producer id. -1: none.
        producer_epoch: i16;
        /// The group.
        group_id: String;
    }

    /// Whether the group was added.
    pub struct AddOffsetsToTxnResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
    }

    /// Commits or aborts a transaction. KIP-98.
    pub struct EndTxnRequest {
        /// The transactional id.
        transactional_id: String;
        /// The producer id. -1: none.
        producer_id: i64;
        /// The epoch of the producer id. -1: none.
        producer_epoch: i16;
        /// True to commit, false to abort.
        committed: bool;
    }

    /// Whether the transaction will end so. v5: with the epoch for the next one (KIP-890).
    pub struct EndTxnResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The producer id. -1: none.
        producer_id: i64 = -1, in 5.., ignorable;
        /// The epoch of the producer id. -1: none.
        producer_epoch: i16 = -1, in 5.., ignorable;
    }

    /// Commits offsets if the transaction does. KIP-98; v3: fenced by generation (KIP-447); v5:
    /// adds the group to the transaction (KIP-890).
    pub struct TxnOffsetCommitRequest {
        /// The transactional id.
        transactional_id: String;
        /// The group.
        group_id: String;
        /// The producer id. -1: none.
        producer_id: i64;
        /// The epoch of the producer id. -1: none.
        producer_epoch: i16;
        /// The group's generation. -1: none.
        generation_id: i32 = -1, in 3..;
        /// The member. Empty: not a member yet.
        member_id: String, in 3..;
        /// The name of a static member (KIP-345). `None`: a dynamic one.
        group_instance_id: Option<String>, in 3..;
        /// The topics.
        topics: Vec<TxnOffsetCommitRequestTopic>;
    }

    /// Offsets of one topic.
    pub struct TxnOffsetCommitRequestTopic {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<TxnOffsetCommitRequestPartition>;
    }

    /// An offset to commit.
    pub struct TxnOffsetCommitRequestPartition {
        /// Which partition.
        partition_index: i32;
        /// The offset of the next record to consume.
        committed_offset: i64;
        /// The leader epoch of the last record consumed. -1: unknown.
        committed_leader_epoch: i32 = -1, in 2.., ignorable;
        /// The consumer's own words.
        committed_metadata: Option<String> = Some(String::new());
    }

    /// Which offsets wait for the end of the transaction.
    pub struct TxnOffsetCommitResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// The topics.
        topics: Vec<TxnOffsetCommitResponseTopic>;
    }

    /// Which offsets of one topic wait.
    pub struct TxnOffsetCommitResponseTopic {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<TxnOffsetCommitResponsePartition>;
    }

    /// Whether one offset waits.
    pub struct TxnOffsetCommitResponsePartition {
        /// Which partition.
        partition_index: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
    }

    /// Ends transactions in partitions; from the coordinator to leaders. KIP-98; v2: transaction
    /// version (KIP-1228).
    pub struct WriteTxnMarkersRequest {
        /// The ends of transactions.
        markers: Vec<WritableTxnMarker>;
    }

    /// The end of one transaction.
    pub struct WritableTxnMarker {
        /// The producer id. -1: none.
        producer_id: i64;
        /// The epoch of the producer id. -1: none.
        producer_epoch: i16;
        /// True to commit, false to abort.
        transaction_result: bool;
        /// The topics.
        topics: Vec<WritableTxnMarkerTopic>;
        /// Which leadership of the coordinator decided so.
        coordinator_epoch: i32;
        /// Which protocol the transaction follows: 2 for KIP-890's, lower for those before.
        transaction_version: i8, in 2.., ignorable;
    }

    /// Partitions of one topic.
    pub struct WritableTxnMarkerTopic {
        /// The topic's name.
        name: String;
        /// Which partitions.
        partition_indexes: Vec<i32>;
    }

    /// Where the markers were written.
    pub struct WriteTxnMarkersResponse {
        /// What became of each.
        markers: Vec<WritableTxnMarkerResult>;
    }

    /// Where one marker was written.
    pub struct WritableTxnMarkerResult {
        /// The producer id. -1: none.
        producer_id: i64;
        /// The topics.
        topics: Vec<WritableTxnMarkerTopicResult>;
    }

    /// Where in one topic the marker was written.
    pub struct WritableTxnMarkerTopicResult {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<WritableTxnMarkerPartitionResult>;
    }

    /// Whether the marker was written to one partition.
    pub struct WritableTxnMarkerPartitionResult {
        /// Which partition.
        partition_index: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
    }
}
