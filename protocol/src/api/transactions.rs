//! DescribeProducers, DescribeTransactions and ListTransactions: finding transactions that hang.
//!
//! A partition's leader knows who writes there; a coordinator knows what its transactional ids are
//! about. A transaction that only the leader knows hangs. KIP-664. Pure.

use crate::wire;

wire! {
    /// Asks leaders who writes to partitions.
    pub struct DescribeProducersRequest {
        /// The topics.
        topics: Vec<DescribeProducersRequestTopic>;
    }

    /// Partitions of one topic to ask about.
    pub struct DescribeProducersRequestTopic {
        /// The topic's name.
        name: String;
        /// The partitions.
        partition_indexes: Vec<i32>;
    }

    /// Who writes to the partitions.
    pub struct DescribeProducersResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// The topics.
        topics: Vec<DescribeProducersResponseTopic>;
    }

    /// Who writes to the partitions of one topic.
    pub struct DescribeProducersResponseTopic {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<DescribeProducersResponsePartition>;
    }

    /// Who writes to one partition.
    pub struct DescribeProducersResponsePartition {
        /// Which partition.
        partition_index: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String>;
        /// The producers that the leader remembers.
        active_producers: Vec<ProducerState>;
    }

    /// A producer of a partition.
    pub struct ProducerState {
        /// The producer id.
        producer_id: i64;
        /// The epoch of the producer id.
        producer_epoch: i32;
        /// The sequence of the last record. -1: none.
        last_sequence: i32 = -1;
        /// The timestamp of the last batch, in milliseconds. -1: none.
        last_timestamp: i64 = -1;
        /// Which leadership of the coordinator wrote the last marker. -1: none did.
        coordinator_epoch: i32;
        /// Where the open transaction begins. -1: none is open.
        current_txn_start_offset: i64 = -1;
    }

    /// Asks a coordinator about transactional ids.
    pub struct DescribeTransactionsRequest {
        /// The transactional ids.
        transactional_ids: Vec<String>;
    }

    /// The state of transactional ids.
    pub struct DescribeTransactionsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// The transactional ids.
        transaction_states: Vec<DescribedTransaction>;
    }

    /// The state of one transactional id.
    pub struct DescribedTransaction {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The transactional id.
        transactional_id: String;
        /// The state, by its name.
        transaction_state: String;
        /// After how long an open transaction is aborted, in milliseconds.
        transaction_timeout_ms: i32;
        /// When the transaction began, in milliseconds. -1: none is open.
        transaction_start_time_ms: i64;
        /// The producer id.
        producer_id: i64;
        /// The epoch of the producer id.
        producer_epoch: i16;
        /// The partitions of the open transaction, or where markers are owed.
        topics: Vec<DescribedTransactionTopic>;
    }

    /// Partitions of one topic in a transaction.
    pub struct DescribedTransactionTopic {
        /// The topic's name.
        topic: String;
        /// The partitions.
        partitions: Vec<i32>;
    }

    /// Asks a coordinator which transactional ids it has. v1: by age (KIP-994); v2: by pattern
    /// (KIP-1152).
    pub struct ListTransactionsRequest {
        /// Which states, by their names. Empty: all.
        state_filters: Vec<String>;
        /// Which producer ids. Empty: all.
        producer_id_filters: Vec<i64>;
        /// Only transactions that run for longer, in milliseconds. Negative: all.
        duration_filter: i64 = -1, in 1..;
        /// Only transactional ids that match this RE2 expression in full. `None` or empty: all.
        transactional_id_pattern: Option<String>, in 2..;
    }

    /// The transactional ids of a coordinator.
    pub struct ListTransactionsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// States asked for that do not exist.
        unknown_state_filters: Vec<String>;
        /// The transactional ids.
        transaction_states: Vec<ListedTransaction>;
    }

    /// A transactional id in a list.
    pub struct ListedTransaction {
        /// The transactional id.
        transactional_id: String;
        /// The producer id.
        producer_id: i64;
        /// The state, by its name.
        transaction_state: String;
    }
}
