//! OffsetCommit, OffsetFetch and OffsetDelete: how far a group has consumed.
//!
//! From version 10 on topics go by id (KIP-516). OffsetFetch asks for one group up to version 7,
//! for many from version 8 on (KIP-709). Pure.

use crate::ids::TopicId;
use crate::wire;

wire! {
    /// Commits offsets of a group. v6: leader epochs (KIP-320); v9: members of KIP-848 groups; v10:
    /// topics by id (KIP-516).
    pub struct OffsetCommitRequest {
        /// The group.
        group_id: String;
        /// The group's generation, or the member's epoch in a KIP-848 group. -1: neither.
        generation_id_or_member_epoch: i32 = -1;
        /// The member. Empty: not a member yet.
        member_id: String;
        /// The name of a static member (KIP-345). `None`: a dynamic one.
        group_instance_id: Option<String>, in 7..;
        /// How long to keep the offsets, in milliseconds. -1: as long as the broker likes.
        retention_time_ms: i64 = -1, in ..=4, ignorable;
        /// The topics.
        topics: Vec<OffsetCommitRequestTopic>;
    }

    /// Offsets of one topic to commit.
    pub struct OffsetCommitRequestTopic {
        /// The topic's name.
        name: String, in ..=9, ignorable;
        /// The topic's id. Zero: none.
        topic_id: TopicId, in 10.., ignorable;
        /// The partitions.
        partitions: Vec<OffsetCommitRequestPartition>;
    }

    /// An offset to commit.
    pub struct OffsetCommitRequestPartition {
        /// Which partition.
        partition_index: i32;
        /// The offset of the next record to consume.
        committed_offset: i64;
        /// The leader epoch of the last record consumed. -1: unknown.
        committed_leader_epoch: i32 = -1, in 6.., ignorable;
        /// The consumer's own words.
        committed_metadata: Option<String> = Some(String::new());
    }

    /// Which offsets were committed.
    pub struct OffsetCommitResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32, in 3.., ignorable;
        /// The topics.
        topics: Vec<OffsetCommitResponseTopic>;
    }

    /// Which offsets of one topic were committed.
    pub struct OffsetCommitResponseTopic {
        /// The topic's name.
        name: String, in ..=9, ignorable;
        /// The topic's id. Zero: none.
        topic_id: TopicId, in 10.., ignorable;
        /// The partitions.
        partitions: Vec<OffsetCommitResponsePartition>;
    }

    /// Whether one offset was committed.
    pub struct OffsetCommitResponsePartition {
        /// Which partition.
        partition_index: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
    }

    /// Asks for committed offsets. v7: not those of open transactions (KIP-447); v8: of many groups
    /// (KIP-709); v10: topics by id (KIP-516).
    pub struct OffsetFetchRequest {
        /// The group, up to version 7.
        group_id: String, in ..=7;
        /// The topics, up to version 7. `None`: all that have offsets.
        topics: Option<Vec<OffsetFetchRequestTopic>> = Some(Vec::new()), in ..=7, nullable 2..;
        /// The groups, from version 8 on.
        groups: Vec<OffsetFetchRequestGroup>, in 8..;
        /// Whether to refuse partitions with offsets of open transactions.
        require_stable: bool, in 7..;
    }

    /// Partitions of one topic to ask about, up to version 7.
    pub struct OffsetFetchRequestTopic {
        /// The topic's name.
        name: String;
        /// Which partitions.
        partition_indexes: Vec<i32>;
    }

    /// A group to ask about.
    pub struct OffsetFetchRequestGroup {
        /// The group.
        group_id: String;
        /// The member that asks. `None`: none.
        member_id: Option<String>, in 9.., ignorable;
        /// The member's epoch (KIP-848). -1: none.
        member_epoch: i32 = -1, in 9.., ignorable;
        /// The topics. `None`: all that have offsets.
        topics: Option<Vec<OffsetFetchRequestTopics>> = Some(Vec::new());
    }

    /// Partitions of one topic to ask about, from version 8 on.
    pub struct OffsetFetchRequestTopics {
        /// The topic's name.
        name: String, in ..=9, ignorable;
        /// The topic's id. Zero: none.
        topic_id: TopicId, in 10.., ignorable;
        /// Which partitions.
        partition_indexes: Vec<i32>;
    }

    /// The committed offsets.
    pub struct OffsetFetchResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32, in 3.., ignorable;
        /// The topics, up to version 7.
        topics: Vec<OffsetFetchResponseTopic>, in ..=7;
        /// An error code of the wire; 0: success.
        error_code: i16, in 2..=7, ignorable;
        /// The groups, from version 8 on.
        groups: Vec<OffsetFetchResponseGroup>, in 8..;
    }

    /// The offsets of one topic, up to version 7.
    pub struct OffsetFetchResponseTopic {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<OffsetFetchResponsePartition>;
    }

    /// The offset of one partition, up to version 7.
    pub struct OffsetFetchResponsePartition {
        /// Which partition.
        partition_index: i32;
        /// The offset of the next record to consume. -1: none committed.
        committed_offset: i64;
        /// The leader epoch of the last record consumed. -1: unknown.
        committed_leader_epoch: i32 = -1, in 5.., ignorable;
        /// The consumer's own words.
        metadata: Option<String> = Some(String::new());
        /// An error code of the wire; 0: success.
        error_code: i16;
    }

    /// The offsets of one group.
    pub struct OffsetFetchResponseGroup {
        /// The group.
        group_id: String;
        /// The topics.
        topics: Vec<OffsetFetchResponseTopics>;
        /// An error code of the wire; 0: success.
        error_code: i16;
    }

    /// The offsets of one topic, from version 8 on.
    pub struct OffsetFetchResponseTopics {
        /// The topic's name.
        name: String, in ..=9, ignorable;
        /// The topic's id. Zero: none.
        topic_id: TopicId, in 10.., ignorable;
        /// The partitions.
        partitions: Vec<OffsetFetchResponsePartitions>;
    }

    /// The offset of one partition, from version 8 on.
    pub struct OffsetFetchResponsePartitions {
        /// Which partition.
        partition_index: i32;
        /// The offset of the next record to consume. -1: none committed.
        committed_offset: i64;
        /// The leader epoch of the last record consumed. -1: unknown.
        committed_leader_epoch: i32 = -1;
        /// The consumer's own words.
        metadata: Option<String> = Some(String::new());
        /// An error code of the wire; 0: success.
        error_code: i16;
    }

    /// Forgets committed offsets of a group. KIP-496.
    pub struct OffsetDeleteRequest {
        /// The group.
        group_id: String;
        /// The topics.
        topics: Vec<OffsetDeleteRequestTopic>;
    }

    /// Offsets of one topic to forget.
    pub struct OffsetDeleteRequestTopic {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<OffsetDeleteRequestPartition>;
    }

    /// A partition whose offset to forget.
    pub struct OffsetDeleteRequestPartition {
        /// Which partition.
        partition_index: i32;
    }

    /// Which offsets were forgotten.
    pub struct OffsetDeleteResponse {
        /// An error code of the wire for the whole request; 0: success.
        error_code: i16;
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32, in 0.., ignorable;
        /// The topics.
        topics: Vec<OffsetDeleteResponseTopic>;
    }

    /// Which offsets of one topic were forgotten.
    pub struct OffsetDeleteResponseTopic {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<OffsetDeleteResponsePartition>;
    }

    /// Whether one offset was forgotten.
    pub struct OffsetDeleteResponsePartition {
        /// Which partition.
        partition_index: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
    }
}
