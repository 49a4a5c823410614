//! Changing settings while running.
//!
//! Each resource of a request changes as a whole or not at all: its changes are applied to what
//! was set before, and the result must be valid. What is wrong with a broker's setting is answered
//! with INVALID_REQUEST and with a topic's or a group's with INVALID_CONFIG, as Kafka does. KIP-226,
//! KIP-339. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::config::{ConfigDef, ConfigError, ConfigErrors, Kind, find, near};
use protocol::error_code::ErrorCode;
use protocol::ids::BrokerId;
use thiserror::Error;

use super::Outcome;
use super::core::Core;
use super::rules::check_name;
use crate::config::{BrokerConfig, GroupConfig, TopicConfig};
use crate::metadata::{ConfigRecord, Image, Record, Resource};

/// What to do with a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigOperation {
    /// Set it.
    Set,
    /// Return to the default.
    Delete,
    /// Add elements to a list.
    Append,
    /// Take elements out of a list.
    Subtract,
}

impl ConfigOperation {
    /// The operation of this number of the wire.
    #[must_use]
    pub fn from_wire(number: i8) -> Option<Self> {
        match number {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }
}

/// A change of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// The setting.
    pub name: String,
    /// What to do.
    pub operation: ConfigOperation,
    /// With which value. Ignored by `Delete`.
    pub value: Option<String>,
}

/// What is to become of one resource's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterConfig {
    /// Whose settings.
    pub resource: Resource,
    /// The changes, each of another setting.
    pub changes: Vec<ConfigChange>,
    /// What the changes do not name: left alone, or with `true` returned to its default.
    pub replace: bool,
}

/// Why a resource's settings stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingError {
    /// A topic without a name.
    #[error("a topic has a name")]
    NoName,
    /// No topic can have this name.
    #[error("{0}")]
    Name(String),
    /// No topic has this name.
    #[error("topic {0} does not exist")]
    UnknownTopic(Arc<str>),
    /// No broker has this id.
    #[error("broker {0} is not registered")]
    UnknownBroker(BrokerId),
    /// The broker's setting is read at its start.
    #[error("{0}: cannot be changed while running: edit the broker's settings and restart it")]
    ReadOnly(String),
    /// The setting is each broker's own.
    #[error("{0}: is each broker's own: set it for one of them by its id")]
    PerBroker(String),
    /// The same setting or resource is named twice.
    #[error("{0} is named twice")]
    Twice(String),
    /// A value is missing.
    #[error("{0}: a value is needed")]
    NoValue(String),
    /// Append and subtract are for lists.
    #[error("{0} is not a list: set it")]
    NoList(String),
    /// The result would not be valid.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
    /// The result would not be valid for a broker.
    #[error(transparent)]
    InvalidBroker(ConfigErrors),
}

impl SettingError {
    /// What a client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
            Self::Name(_) => ErrorCode::InvalidTopicException,
            Self::NoName
            | Self::UnknownBroker(_)
            | Self::ReadOnly(_)
            | Self::PerBroker(_)
            | Self::Twice(_)
            | Self::NoValue(_)
            | Self::InvalidBroker(_) => ErrorCode::InvalidRequest,
            Self::NoList(_) | Self::Invalid(_) => ErrorCode::InvalidConfig,
        }
    }
}

impl Core {
    /// Changes the settings of each resource; with `validate_only`, only says whether it could.
    pub(crate) fn alter_configs(
        &self,
        image: &Image,
        alterations: &[AlterConfig],
        validate_only: bool,
    ) -> Outcome<Vec<Result<(), SettingError>>> {
        let broker = image.broker_config(&self.config);
        let mut records = Vec::new();
        let mut counts = BTreeMap::<&Resource, usize>::new();
        alterations.iter().for_each(|it| *counts.entry(&it.resource).or_default() += 1);
        let mut decide = |alteration: &AlterConfig| {
            // Which of the two would hold is anyone's guess: neither does.
            if counts[&alteration.resource] > 1 {
                return Err(SettingError::Twice(alteration.resource.to_wire().1));
            }
            records.extend(alter(&broker, image, alteration)?);
            Ok(())
        };
        let reply = alterations.iter().map(&mut decide).collect();
        if validate_only {
            records.clear();
        }
        Outcome { records, reply }
    }
}

fn alter(
    broker: &BrokerConfig,
    image: &Image,
    alteration: &AlterConfig,
) -> Result<Vec<Record>, SettingError> {
    let resource = &alteration.resource;
    let before: BTreeMap<&str, &str> = image.configs(resource).collect();
    let after = settings_after(broker, image, alteration)?;
    let names: BTreeSet<&str> =
        before.keys().copied().chain(after.keys().map(String::as_str)).collect();
    let changed = names
        .into_iter()
        .filter(|name| before.get(name) != after.get(*name).map(String::as_str).as_ref());
    let record = |name: &str| setting(resource, name, after.get(name).cloned());
    Ok(changed.map(record).collect())
}

/// All that a resource would have set, on a broker with the settings `broker`.
///
/// # Errors
/// When it cannot be.
pub fn settings_after(
    broker: &BrokerConfig,
    image: &Image,
    alteration: &AlterConfig,
) -> Result<BTreeMap<String, String>, SettingError> {
    let AlterConfig { resource, changes, replace } = alteration;
    check_known(image, resource)?;
    let kept = image.configs(resource).filter(|_| !replace);
    let mut after: BTreeMap<String, String> =
        kept.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut seen = BTreeSet::new();
    for change in changes {
        let name = change.name.as_str();
        if !seen.insert(name) {
            return Err(SettingError::Twice(change.name.clone()));
        }
        let old = after.get(name).map(String::as_str);
        match altered(broker, resource, change, old)? {
            Some(value) => after.insert(name.to_owned(), value),
            None => after.remove(name),
        };
    }
    check_whole(broker, resource, &after)?;
    Ok(after)
}

fn check_known(image: &Image, resource: &Resource) -> Result<(), SettingError> {
    match resource {
        Resource::Topic(name) if name.is_empty() => Err(SettingError::NoName),
        Resource::Topic(name) if image.topic(name).is_none() => {
            check_name(name).map_err(|error| SettingError::Name(error.to_string()))?;
            Err(SettingError::UnknownTopic(name.clone()))
        }
        Resource::Broker(Some(id)) if image.broker(*id).is_none() => {
            Err(SettingError::UnknownBroker(*id))
        }
        Resource::Topic(_) | Resource::Broker(_) | Resource::Group(_) => Ok(()),
    }
}

/// Checks all that a resource would have set.
fn check_whole(
    broker: &BrokerConfig,
    resource: &Resource,
    after: &BTreeMap<String, String>,
) -> Result<(), SettingError> {
    let pairs = after.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    match resource {
        Resource::Topic(_) => drop(TopicConfig::of(broker, pairs)?),
        Resource::Group(_) => GroupConfig::check(broker, pairs)?,
        Resource::Broker(_) => {
            let wrong = pairs.filter_map(|(name, value)| {
                // What another release accepted stays, and means nothing here.
                BrokerConfig::definition(name)?.check(value).err()
            });
            let wrong: Vec<ConfigError> = wrong.collect();
            if !wrong.is_empty() {
                return Err(SettingError::InvalidBroker(ConfigErrors(wrong)));
            }
        }
    }
    Ok(())
}

/// The text of a setting after `change`. `None`: its default.
fn altered(
    broker: &BrokerConfig,
    resource: &Resource,
    change: &ConfigChange,
    old: Option<&str>,
) -> Result<Option<String>, SettingError> {
    let ConfigChange { name, operation, value } = change;
    // Only what is known can be reset, so that a misspelt name is told.
    let def = setting_def(resource, name)?;
    let value = || value.clone().ok_or_else(|| SettingError::NoValue(name.clone()));
    let list = || -> Result<Vec<String>, SettingError> {
        if def.kind != Kind::List {
            return Err(SettingError::NoList(name.clone()));
        }
        let defaults = match resource {
            Resource::Topic(_) => broker.topic_defaults(),
            Resource::Broker(_) => broker.pairs(),
            Resource::Group(_) => GroupConfig::defaults(broker),
        };
        let default = || defaults.into_iter().find(|(it, _)| it.name == name)?.1;
        let text = old.map(str::to_owned).or_else(default);
        Ok(elements(&text.unwrap_or_default()))
    };
    match operation {
        ConfigOperation::Set => value().map(Some),
        ConfigOperation::Delete => Ok(None),
        ConfigOperation::Append => {
            let mut list = list()?;
            let more = elements(&value()?).into_iter().filter(|more| !list.contains(more));
            list.extend(more.collect::<Vec<_>>());
            Ok(Some(list.join(",")))
        }
        ConfigOperation::Subtract => {
            let fewer = elements(&value()?);
            let left = list()?.into_iter().filter(|element| !fewer.contains(element));
            Ok(Some(left.collect::<Vec<_>>().join(",")))
        }
    }
}

/// The definition of a setting that may be altered.
fn setting_def(resource: &Resource, name: &str) -> Result<&'static ConfigDef, SettingError> {
    let known = |defs: &'static [ConfigDef]| {
        let unknown = || {
            let (name, near) = (name.to_owned(), near(defs, name));
            ConfigErrors(vec![ConfigError::Unknown { name, near }])
        };
        find(defs, name).ok_or_else(unknown)
    };
    match resource {
        Resource::Topic(_) => Ok(known(TopicConfig::DEFS)?),
        Resource::Group(_) => Ok(known(GroupConfig::DEFS)?),
        Resource::Broker(of) => match BrokerConfig::definition(name) {
            Some(_) if of.is_none() && BrokerConfig::is_of_store(name) => {
                Err(SettingError::PerBroker(name.to_owned()))
            }
            Some(def) if def.is_dynamic => Ok(def),
            Some(_) => Err(SettingError::ReadOnly(name.to_owned())),
            None => {
                let (name, near) = (name.to_owned(), near(BrokerConfig::DEFS, name));
                let unknown = ConfigErrors(vec![ConfigError::Unknown { name, near }]);
                Err(SettingError::InvalidBroker(unknown))
            }
        },
    }
}

fn elements(text: &str) -> Vec<String> {
    let trimmed = text.split(',').map(str::trim);
    trimmed.filter(|element| !element.is_empty()).map(str::to_owned).collect()
}

/// The record that sets `name` of `topic`, or with `None` returns it to its default.
pub(super) fn topic_setting(topic: &str, name: &str, value: Option<String>) -> Record {
    setting(&Resource::Topic(topic.into()), name, value)
}

fn setting(resource: &Resource, name: &str, value: Option<String>) -> Record {
    let (resource_type, resource_name) = resource.to_wire();
    ConfigRecord { resource_type, resource_name, name: name.to_owned(), value }.into()
}
