//! Deciding for the cluster: topics, settings, quotas, ACLs, blocks of producer ids, registrations of brokers.
//!
//! Every decider is pure: it looks at the Image and answers with an [`Outcome`], the records to
//! commit and what to reply once they are. One task takes requests one after the other; the next is
//! decided only when the records of the one before are committed and visible in the Image, so no
//! decision is ever made on stale knowledge. Active on the quorum's leader. KIP-631. Shell.

mod acls;
mod brokers;
mod core;
mod elections;
mod features;
mod placement;
mod producer_ids;
mod quotas;
mod reassignments;
mod rules;
mod scram;
mod settings;
mod shell;
#[cfg(test)]
mod tests;
mod topics;

use crate::metadata::Record;
pub use crate::quorum::{QuorumFacts, QuorumReplica};

pub use acls::{AclError, CLUSTER_NAME};
pub use brokers::{
    GROUP_VERSION, METADATA_VERSION, Registration, TRANSACTION_VERSION, UnregisterError,
    supported_features,
};
pub use elections::{ElectedTopic, Election, ElectionError, ElectionTopic};
pub use features::{FeatureChange, FeatureError, FeatureReason, FeatureUpdate};
pub use producer_ids::{PRODUCER_ID_BLOCK, ProducerIdBlock, ProducerIdError};
pub use quotas::{AlterQuotas, AlterQuotasError};
pub use reassignments::{Reassignment, ReassignmentError};
pub use rules::check_name;
pub use scram::{AlterCredential, AlterCredentialError, SaltedPassword};
pub use settings::{AlterConfig, ConfigChange, ConfigOperation, SettingError, settings_after};
pub use shell::{ControllerError, ControllerHandle, start};
pub use topics::{
    CreatedTopic, DeletedTopic, MorePartitions, NewTopic, Spread, TopicError, TopicRef,
};

/// What a decider wants: to commit `records`, then to answer `reply`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome<R> {
    /// Committed together or not at all. Empty: nothing changes.
    pub(crate) records: Vec<Record>,
    /// Not to be sent before the records are committed.
    pub(crate) reply: R,
}
