//! Creating and deleting entries of access control lists.
//!
//! Each entry of a request is created or refused alone; one that is there already is no news. A
//! principal is a type and a name, a resource has a name, and the cluster has one name only.
//! KIP-11, KIP-290. Pure.

use std::collections::{BTreeMap, BTreeSet};

use protocol::error_code::ErrorCode;
use thiserror::Error;

use super::Outcome;
use super::core::Core;
use crate::limits::{ACLS_MAX, ACLS_PER_REQUEST_MAX};
use crate::metadata::{
    Acl, AclFilter, Image, RemoveAccessControlEntryRecord, ResourceType, acl_record,
};

/// The one name of the one resource of type cluster.
pub const CLUSTER_NAME: &str = "kafka-cluster";

/// Why an entry is not created.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AclError {
    /// The resource has no name.
    #[error("an ACL needs the name of a resource, or * for all of the type")]
    EmptyName,
    /// The cluster is named otherwise.
    #[error("{0:?} is no name of the cluster: it is {CLUSTER_NAME}")]
    Cluster(String),
    /// The principal has no type.
    #[error("{0:?} is no principal: it needs a type and a name, as in User:alice")]
    Principal(String),
    /// As many entries are there, or in the request, as may be.
    #[error("there are {ACLS_MAX} ACLs already, or {ACLS_PER_REQUEST_MAX} in this request")]
    TooMany,
}

impl AclError {
    /// What a client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::EmptyName | Self::Cluster(_) | Self::Principal(_) => ErrorCode::InvalidRequest,
            Self::TooMany => ErrorCode::PolicyViolation,
        }
    }
}

impl Core {
    /// Creates entries; those that are there already stay.
    pub(crate) fn create_acls(
        &mut self,
        image: &Image,
        acls: &[Acl],
    ) -> Outcome<Vec<Result<(), AclError>>> {
        let mut new = BTreeMap::new();
        let decide = |acl: &Acl| {
            check(acl)?;
            let is_news = image.acls().id(acl).is_none() && !new.contains_key(acl);
            if is_news {
                let count = image.acls().len().saturating_add(new.len());
                if count >= ACLS_MAX || new.len() >= ACLS_PER_REQUEST_MAX {
                    return Err(AclError::TooMany);
                }
                // Unique among topics and entries alike.
                let id = self.topic_id(image, new.len());
                assert!(!image.acls().has(id));
                new.insert(acl.clone(), id);
            }
            Ok(())
        };
        let reply = acls.iter().map(decide).collect();
        let records = new.iter().map(|(acl, &id)| acl_record(id, acl)).collect();
        Outcome { records, reply }
    }

    /// Deletes the entries that fit any of `filters`; answers with those that fitted each.
    pub(crate) fn delete_acls(
        &self,
        image: &Image,
        filters: &[AclFilter],
    ) -> Outcome<Vec<Vec<Acl>>> {
        let mut gone = BTreeSet::new();
        let mut decide = |filter: &AclFilter| {
            let fitting = image.acls().iter().filter(|(acl, _)| filter.fits(acl));
            let fitting = fitting.map(|(acl, id)| {
                gone.insert(id);
                acl.clone()
            });
            fitting.collect()
        };
        let reply = filters.iter().map(&mut decide).collect();
        let record = |&id| RemoveAccessControlEntryRecord { id }.into();
        Outcome { records: gone.iter().map(record).collect(), reply }
    }
}

fn check(acl: &Acl) -> Result<(), AclError> {
    if acl.name.is_empty() {
        return Err(AclError::EmptyName);
    }
    if acl.resource == ResourceType::Cluster && &*acl.name != CLUSTER_NAME {
        return Err(AclError::Cluster(acl.name.to_string()));
    }
    if !acl.principal.contains(':') {
        return Err(AclError::Principal(acl.principal.to_string()));
    }
    Ok(())
}
