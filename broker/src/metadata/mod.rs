//! What the cluster knows: brokers, topics, settings, quotas, ACLs, blocks of producer ids.
//!
//! The truth is the metadata log, a sequence of [`Record`]s on which the quorum agrees. Its fold is
//! the [`Image`], immutable and shared; what changed between two of them is the [`Delta`]. Whoever
//! needs to know reads the newest Image ([`MetadataHandle::image`]) or subscribes to all changes in
//! order ([`MetadataHandle::subscribe`]); nobody but the log changes it. Pure.

mod acls;
mod delta;
mod error;
mod image;
mod quotas;
mod record;
mod resource;
mod scram;
mod settings;
mod shell;
#[cfg(test)]
mod tests;

pub use acls::{
    Acl, AclFilter, AclOperation, Acls, PatternFilter, PatternType, Permission, ResourceType,
    WILDCARD, acl_record,
};
pub use delta::Delta;
pub use error::ApplyError;
pub use image::{Broker, Image, Partition, Topic};
pub use quotas::{QuotaEntity, QuotaError, QuotaName, QuotaType, Quotas, quota_record};
pub use record::{
    AccessControlEntryRecord, BrokerEndpoint, BrokerFeature, ClientQuotaEntity, ClientQuotaRecord,
    ConfigRecord, FeatureLevelRecord, NoOpRecord, PartitionChangeRecord, PartitionRecord,
    ProducerIdsRecord, Record, RecordError, RegisterBrokerRecord, RemoveAccessControlEntryRecord,
    RemoveTopicRecord, RemoveUserScramCredentialRecord, TopicRecord, UNCHANGED_LEADER,
    UnregisterBrokerRecord, UserScramCredentialRecord,
};
pub use resource::Resource;
pub use scram::credential_record;
pub use shell::{Feed, MetadataHandle, Update, start};

/// The topic of committed offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The topic of transactions.
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// True for topics that the cluster keeps for itself: clients may read but not write them.
#[must_use]
pub fn is_internal(topic: &str) -> bool {
    topic == OFFSETS_TOPIC || topic == TRANSACTIONS_TOPIC
}
