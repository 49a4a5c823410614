//! Fetch: reads record batches, for consumers and for followers.
//!
//! Batches are slices of the frame in both directions. Fetch sessions (KIP-227) let a request name
//! only what changed. From version 13 on topics go by id (KIP-516). Pure.

use bytes::Bytes;

use crate::ids::TopicId;
use crate::wire;

wire! {
    /// Asks for batches. v7: sessions (KIP-227); v11: reading from followers (KIP-392); v12: the
    /// follower's last epoch (KIP-595); v13: topics by id (KIP-516); v15: broker epoch (KIP-903);
    /// v17: directory id (KIP-853); v18: the follower's high watermark (KIP-1166).
    pub struct FetchRequest {
        /// The cluster meant. `None`: any.
        cluster_id: Option<String>, in 12.., tag 0, ignorable;
        /// The follower that asks. -1: a consumer.
        replica_id: i32 = -1, in ..=14;
        /// The follower that asks.
        replica_state: ReplicaState, in 15.., tag 1;
        /// How long to wait for `min_bytes`, in milliseconds.
        max_wait_ms: i32;
        /// Wait until there are so many bytes.
        min_bytes: i32;
        /// The most bytes to answer with; a first batch may be larger. KIP-74.
        max_bytes: i32 = i32::MAX;
        /// What transactions show: 0 `read_uncommitted`, 1 `read_committed`.
        isolation_level: i8;
        /// The session. 0: none.
        session_id: i32, in 7.., ignorable;
        /// Which request of the session. 0: begins one; -1: none, or ends it.
        session_epoch: i32 = -1, in 7.., ignorable;
        /// The topics.
        topics: Vec<FetchTopic>;
        /// What leaves the session.
        forgotten_topics_data: Vec<ForgottenTopic>, in 7..;
        /// Where the consumer runs; empty: unknown.
        rack_id: String, in 11.., ignorable;
    }

    /// Which follower asks. KIP-903.
    pub struct ReplicaState {
        /// The follower that asks. -1: a consumer.
        replica_id: i32 = -1;
        /// The follower's broker epoch. -1: unknown.
        replica_epoch: i64 = -1;
    }

    /// The partitions to read of one topic.
    pub struct FetchTopic {
        /// The topic's name.
        topic: String, in ..=12, ignorable;
        /// The topic's id. Zero: none.
        topic_id: TopicId, in 13.., ignorable;
        /// The partitions.
        partitions: Vec<FetchPartition>;
    }

    /// A partition to read.
    pub struct FetchPartition {
        /// Which partition.
        partition: i32;
        /// The leader epoch that the asker knows; a broker that knows another refuses. -1: any.
        current_leader_epoch: i32 = -1, in 9.., ignorable;
        /// The first offset to read.
        fetch_offset: i64;
        /// The leader epoch of the follower's last record. -1: none.
        last_fetched_epoch: i32 = -1, in 12..;
        /// The follower's first readable offset. -1: the asker is no follower.
        log_start_offset: i64 = -1, in 5.., ignorable;
        /// The most bytes to read of this partition; a first batch may be larger. KIP-74.
        partition_max_bytes: i32;
        /// The log directory of the follower's replica.
        replica_directory_id: TopicId, in 17.., tag 0, ignorable;
        /// The follower's high watermark. -1: unknown; `i64::MAX`: it does not say.
        high_watermark: i64 = i64::MAX, in 18.., tag 1, ignorable;
    }

    /// Partitions that leave the session.
    pub struct ForgottenTopic {
        /// The topic's name.
        topic: String, in ..=12, ignorable;
        /// The topic's id. Zero: none.
        topic_id: TopicId, in 13.., ignorable;
        /// The partitions.
        partitions: Vec<i32>;
    }

    /// The batches. v12: where a follower diverges (KIP-595); v16: who leads now (KIP-951).
    pub struct FetchResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16, in 7.., ignorable;
        /// The session. 0: none.
        session_id: i32, in 7..;
        /// What was read of each topic.
        responses: Vec<FetchableTopicResponse>;
        /// Where the leaders named above can be reached.
        node_endpoints: Vec<NodeEndpoint>, in 16.., tag 0;
    }

    /// What was read of one topic.
    pub struct FetchableTopicResponse {
        /// The topic's name.
        topic: String, in ..=12, ignorable;
        /// The topic's id. Zero: none.
        topic_id: TopicId, in 13.., ignorable;
        /// The partitions.
        partitions: Vec<PartitionData>;
    }

    /// What was read of one partition.
    pub struct PartitionData {
        /// Which partition.
        partition_index: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The end of what all in-sync replicas have. -1: not known.
        high_watermark: i64;
        /// The end of what `read_committed` may see. -1: not known.
        last_stable_offset: i64 = -1;
        /// The first readable offset. -1: not known.
        log_start_offset: i64 = -1, in 5.., ignorable;
        /// Where the follower's log departs from the leader's.
        diverging_epoch: EpochEndOffset, in 12.., tag 0;
        /// Who leads now, where the broker asked does not.
        current_leader: LeaderIdAndEpoch, in 12.., tag 1;
        /// A snapshot to fetch first, where the log no longer has the offset.
        snapshot_id: SnapshotId, in 12.., tag 2;
        /// Transactions aborted in what was read, for `read_committed`. `None`: not asked for.
        aborted_transactions: Option<Vec<AbortedTransaction>> = Some(Vec::new());
        /// A replica nearer to the consumer (KIP-392). -1: none.
        preferred_read_replica: i32 = -1, in 11..;
        /// Record batches, as they go to disk.
        records: Option<Bytes> = Some(Bytes::new());
    }

    /// Where the broker's log of an epoch ends. KIP-595.
    pub struct EpochEndOffset {
        /// The epoch. -1: none.
        epoch: i32 = -1;
        /// Where it ended (exclusive). -1: unknown.
        end_offset: i64 = -1;
    }

    /// Who leads a partition.
    pub struct LeaderIdAndEpoch {
        /// The leader. -1: none.
        leader_id: i32 = -1;
        /// The leader epoch. -1: unknown.
        leader_epoch: i32 = -1;
    }

    /// A snapshot to fetch instead of records. KIP-630.
    pub struct SnapshotId {
        /// Where it ended (exclusive). -1: unknown.
        end_offset: i64 = -1;
        /// The epoch. -1: none.
        epoch: i32 = -1;
    }

    /// An aborted transaction that has records in what was read.
    pub struct AbortedTransaction {
        /// The producer id. -1: none.
        producer_id: i64;
        /// Where the transaction begins in this partition.
        first_offset: i64;
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
