//! Setting and removing quotas of clients.
//!
//! Each entity of a request changes as a whole or not at all. An entity is a user, a client id,
//! both, or an address; a quota is one that fits the entity, and above 0. KIP-546. Pure.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use protocol::error_code::ErrorCode;
use thiserror::Error;

use super::Outcome;
use super::core::Core;
use crate::limits::QUOTA_ENTITIES_MAX;
use crate::metadata::{Image, QuotaEntity, QuotaError, QuotaName, QuotaType, Record, quota_record};
use crate::quota::QuotaKind;

/// What is to become of one entity's quotas.
#[derive(Clone, Debug, PartialEq)]
pub struct AlterQuotas {
    /// Whose quotas.
    pub entity: QuotaEntity,
    /// The changes: which quota, and how much; with `None` it is removed.
    pub changes: Vec<(String, Option<f64>)>,
}

/// Why an entity's quotas stay as they are.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum AlterQuotasError {
    /// Its parts are no entity.
    #[error(transparent)]
    Entity(#[from] QuotaError),
    /// A part has an empty name.
    #[error("quota entity type {0} has an empty name: leave it out for the default")]
    EmptyName(&'static str),
    /// An address stands with a user or a client.
    #[error("a quota is for an address, or for a user and a client id, not for both: {0}")]
    Combination(QuotaEntity),
    /// The address is none.
    #[error("{0:?} is no IP address")]
    Address(String),
    /// No quota has this name, or none that is for such an entity.
    #[error("{key} is no quota for {entity}")]
    UnknownKey {
        /// The name.
        key: String,
        /// The entity.
        entity: QuotaEntity,
    },
    /// The value is not above 0, or not whole where it must be.
    #[error("{key}: {value} is not accepted, expected {expected}")]
    Value {
        /// The quota.
        key: &'static str,
        /// Its value.
        value: f64,
        /// What would be accepted.
        expected: &'static str,
    },
    /// The entity or the quota is named twice.
    #[error("{0} is named twice")]
    Twice(String),
    /// As many entities have quotas as may.
    #[error("{QUOTA_ENTITIES_MAX} users, clients and addresses have quotas already")]
    TooMany,
}

impl AlterQuotasError {
    /// What a client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Entity(_)
            | Self::EmptyName(_)
            | Self::Combination(_)
            | Self::Address(_)
            | Self::UnknownKey { .. }
            | Self::Value { .. }
            | Self::Twice(_) => ErrorCode::InvalidRequest,
            Self::TooMany => ErrorCode::PolicyViolation,
        }
    }
}

impl Core {
    /// Changes quotas; with `validate_only`, only says whether it could.
    pub(crate) fn alter_quotas(
        &self,
        image: &Image,
        alterations: &[AlterQuotas],
        validate_only: bool,
    ) -> Outcome<Vec<Result<(), AlterQuotasError>>> {
        let mut records = Vec::new();
        let mut counts = BTreeMap::<&QuotaEntity, usize>::new();
        alterations.iter().for_each(|it| *counts.entry(&it.entity).or_default() += 1);
        let mut entity_count = image.quotas().entity_count();
        let mut decide = |alteration: &AlterQuotas| {
            let AlterQuotas { entity, changes } = alteration;
            if counts[entity] > 1 {
                return Err(AlterQuotasError::Twice(entity.to_string()));
            }
            check_entity(entity)?;
            let changed = change(image, entity, changes)?;
            if !changed.is_empty() {
                // Counts too much where an entity had quotas before; it is a bound, not a sum.
                entity_count = entity_count.saturating_add(1);
                if entity_count > QUOTA_ENTITIES_MAX {
                    return Err(AlterQuotasError::TooMany);
                }
            }
            records.extend(changed);
            Ok(())
        };
        let reply = alterations.iter().map(&mut decide).collect();
        if validate_only {
            records.clear();
        }
        Outcome { records, reply }
    }
}

fn check_entity(entity: &QuotaEntity) -> Result<(), AlterQuotasError> {
    for (kind, name) in entity.parts() {
        if *name == QuotaName::Named("".into()) {
            return Err(AlterQuotasError::EmptyName(kind.name()));
        }
    }
    let Some(address) = entity.part(QuotaType::Ip) else { return Ok(()) };
    if entity.parts().len() > 1 {
        return Err(AlterQuotasError::Combination(entity.clone()));
    }
    match address {
        QuotaName::Named(name) if name.parse::<IpAddr>().is_err() => {
            Err(AlterQuotasError::Address(name.to_string()))
        }
        QuotaName::Named(_) | QuotaName::Default => Ok(()),
    }
}

fn change(
    image: &Image,
    entity: &QuotaEntity,
    changes: &[(String, Option<f64>)],
) -> Result<Vec<Record>, AlterQuotasError> {
    let mut seen = BTreeSet::new();
    let mut records = Vec::new();
    for (key, value) in changes {
        let fits = |kind: &QuotaKind| entity.parts().all(|(part, _)| kind.is_for(part));
        let known = QuotaKind::from_key(key).filter(fits);
        let Some(kind) = known else {
            let (key, entity) = (key.clone(), entity.clone());
            return Err(AlterQuotasError::UnknownKey { key, entity });
        };
        if !seen.insert(kind) {
            return Err(AlterQuotasError::Twice(key.clone()));
        }
        if let Some(value) = *value {
            check_value(kind, value)?;
        }
        if image.quotas().value(entity, key) != *value {
            records.push(quota_record(entity, key, *value));
        }
    }
    Ok(records)
}

fn check_value(kind: QuotaKind, value: f64) -> Result<(), AlterQuotasError> {
    let is_whole = value.fract() == 0.0;
    if value > 0.0 && value.is_finite() && (is_whole || !kind.is_whole()) {
        return Ok(());
    }
    let expected = if kind.is_whole() { "a whole number above 0" } else { "a number above 0" };
    Err(AlterQuotasError::Value { key: kind.key(), value, expected })
}
