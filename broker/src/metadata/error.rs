//! Why a record of the metadata log does not fit the Image. Pure.

use std::sync::Arc;

use protocol::ids::{PartitionIndex, TopicId};
use thiserror::Error;

use super::quotas::QuotaError;

/// Why a record does not fit the Image. The log contradicts itself: never worth a retry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// A topic's name or id is taken.
    #[error("metadata log: topic {name} of id {id} exists already")]
    TopicExists {
        /// The name.
        name: String,
        /// The id.
        id: TopicId,
    },
    /// No topic has this id.
    #[error("metadata log: no topic has id {0}")]
    UnknownTopic(TopicId),
    /// The topic has no such partition, or it is not the next one to create.
    #[error("metadata log: partition {partition} of topic {topic} does not fit its {count}")]
    Partition {
        /// The topic's name.
        topic: Arc<str>,
        /// The partition.
        partition: PartitionIndex,
        /// How many partitions it has.
        count: i32,
    },
    /// Settings of a resource that has none here.
    #[error("metadata log: settings of resource type {kind}, name {name:?} are not known")]
    UnknownResource {
        /// The type.
        kind: i8,
        /// The name.
        name: String,
    },
    /// A credential of a mechanism that a newer release knows.
    #[error("metadata log: SCRAM mechanism {mechanism} of user {user} is not known")]
    UnknownMechanism {
        /// Its number.
        mechanism: i8,
        /// Whose.
        user: String,
    },
    /// A quota of an entity that is none.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// An ACL of unknown words, one that is there already, or one to remove that is not.
    #[error("metadata log: ACL {0:?} is unknown, or there already")]
    Acl(TopicId),
}
