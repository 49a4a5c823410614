//! Quotas of clients, as the metadata log holds them.
//!
//! A quota is for an entity: a user, a client id, both together, or an address; each part is a name
//! or the default for all who have no quota of their own. What the quotas mean is the business of
//! those who apply them. KIP-546. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use super::record::{ClientQuotaEntity, ClientQuotaRecord, Record};

/// What a part of an entity names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaType {
    /// A user, as authenticated; `ANONYMOUS` where nobody is.
    User,
    /// What a client calls itself.
    ClientId,
    /// Where a connection comes from.
    Ip,
}

impl QuotaType {
    /// The type of this name. `None`: there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "user" => Some(Self::User),
            "client-id" => Some(Self::ClientId),
            "ip" => Some(Self::Ip),
            _ => None,
        }
    }

    /// Its name in Kafka's words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ClientId => "client-id",
            Self::Ip => "ip",
        }
    }
}

/// Whom a part of an entity names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaName {
    /// All who have no quota of their own.
    Default,
    /// This one.
    Named(Arc<str>),
}

impl QuotaName {
    /// The name as the wire has it: the default is null.
    #[must_use]
    pub fn from_wire(name: Option<&str>) -> Self {
        name.map_or(Self::Default, |name| Self::Named(name.into()))
    }

    /// The name on the wire.
    #[must_use]
    pub fn to_wire(&self) -> Option<String> {
        match self {
            Self::Default => None,
            Self::Named(name) => Some(name.to_string()),
        }
    }
}

/// Whom a quota is for: its parts, no type twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuotaEntity(BTreeMap<QuotaType, QuotaName>);

/// Why parts are no entity.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QuotaError {
    /// There are none.
    #[error("a quota must be for somebody: the entity is empty")]
    Empty,
    /// A part of an unknown type.
    #[error("{0:?} is no type of quota entity: user, client-id and ip are")]
    UnknownType(String),
    /// Two parts of one type.
    #[error("quota entity type {0} is named twice")]
    Twice(&'static str),
}

impl QuotaEntity {
    /// The entity of these parts, each a type and, unless it is the default, a name.
    ///
    /// # Errors
    /// When they are no entity.
    pub fn new<'a>(
        parts: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Self, QuotaError> {
        let mut entity = BTreeMap::new();
        for (kind, name) in parts {
            let known = QuotaType::from_name(kind);
            let known = known.ok_or_else(|| QuotaError::UnknownType(kind.to_owned()))?;
            if entity.insert(known, QuotaName::from_wire(name)).is_some() {
                return Err(QuotaError::Twice(known.name()));
            }
        }
        if entity.is_empty() { Err(QuotaError::Empty) } else { Ok(Self(entity)) }
    }

    /// Its parts, by type.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = (QuotaType, &QuotaName)> {
        self.0.iter().map(|(&kind, name)| (kind, name))
    }

    /// Whom the part of this type names. `None`: it has no such part.
    #[must_use]
    pub fn part(&self, kind: QuotaType) -> Option<&QuotaName> {
        self.0.get(&kind)
    }

    fn to_record(&self) -> Vec<ClientQuotaEntity> {
        let part = |(kind, name): (QuotaType, &QuotaName)| ClientQuotaEntity {
            entity_type: kind.name().to_owned(),
            entity_name: name.to_wire(),
        };
        self.parts().map(part).collect()
    }
}

impl fmt::Display for QuotaEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (kind, name)) in self.parts().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            let name = match name {
                QuotaName::Default => "<default>",
                QuotaName::Named(name) => name,
            };
            write!(f, "{separator}{} {name}", kind.name())?;
        }
        Ok(())
    }
}

/// The quotas of all entities, by their keys: `producer_byte_rate` and so on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quotas(BTreeMap<QuotaEntity, BTreeMap<Arc<str>, f64>>);

impl Quotas {
    /// True when nobody has any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many entities have quotas.
    #[must_use]
    pub fn entity_count(&self) -> usize {
        self.0.len()
    }

    /// All entities with their quotas, none of them without any.
    pub fn iter(&self) -> impl Iterator<Item = (&QuotaEntity, &BTreeMap<Arc<str>, f64>)> {
        self.0.iter()
    }

    /// The quota `key` of exactly this entity.
    #[must_use]
    pub fn value(&self, entity: &QuotaEntity, key: &str) -> Option<f64> {
        self.0.get(entity)?.get(key).copied()
    }

    /// The entity that `record` is about.
    pub(super) fn entity(record: &ClientQuotaRecord) -> Result<QuotaEntity, QuotaError> {
        let parts = record.entity.iter();
        let parts = parts.map(|part| (part.entity_type.as_str(), part.entity_name.as_deref()));
        QuotaEntity::new(parts)
    }

    pub(super) fn change(&mut self, entity: QuotaEntity, record: &ClientQuotaRecord) {
        let key = record.key.as_str();
        if !record.remove {
            self.0.entry(entity).or_default().insert(key.into(), record.value);
            return;
        }
        if let Some(values) = self.0.get_mut(&entity) {
            values.remove(key);
            if values.is_empty() {
                self.0.remove(&entity);
            }
        }
    }

    pub(super) fn to_records(&self) -> Vec<Record> {
        let of_entity = |(entity, values): (&QuotaEntity, &BTreeMap<Arc<str>, f64>)| {
            let parts = entity.to_record();
            let record = |(key, &value): (&Arc<str>, &f64)| {
                let (entity, key) = (parts.clone(), key.to_string());
                ClientQuotaRecord { entity, key, value, remove: false }.into()
            };
            values.iter().map(record).collect::<Vec<Record>>()
        };
        self.iter().flat_map(of_entity).collect()
    }
}

/// The record that sets the quota `key` of `entity`, or with `None` removes it.
#[must_use]
pub fn quota_record(entity: &QuotaEntity, key: &str, value: Option<f64>) -> Record {
    let remove = value.is_none();
    let (entity, key, value) = (entity.to_record(), key.to_owned(), value.unwrap_or_default());
    ClientQuotaRecord { entity, key, value, remove }.into()
}
