//! ElectLeaders: another replica takes the lead because an operator says so. Pure.

use crate::wire;

wire! {
    /// Asks for elections. v1: unclean ones, too (KIP-460).
    pub struct ElectLeadersRequest {
        /// 0: the preferred replica; 1: any that lives, where no in-sync replica does.
        election_type: i8, in 1..;
        /// The partitions. `None`: all.
        topic_partitions: Option<Vec<ElectLeadersRequestTopic>> = Some(Vec::new());
        /// How long the caller waits, in milliseconds.
        timeout_ms: i32 = 60_000;
    }

    /// Partitions of one topic.
    pub struct ElectLeadersRequestTopic {
        /// The topic's name.
        topic: String;
        /// The partitions.
        partitions: Vec<i32>;
    }

    /// What became of the elections.
    pub struct ElectLeadersResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16, in 1..;
        /// The topics.
        replica_election_results: Vec<ReplicaElectionResult>;
    }

    /// What became of the elections in one topic.
    pub struct ReplicaElectionResult {
        /// The topic's name.
        topic: String;
        /// The partitions.
        partition_result: Vec<ElectionPartitionResult>;
    }

    /// What became of one election.
    pub struct ElectionPartitionResult {
        /// Which partition.
        partition_id: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String>;
    }
}
