//! Changing settings while running.
//!
//! Each resource of a request changes as a whole or not at all: its changes are applied to what
//! was set before, and the result must be valid. Settings of topics change at once; a broker's are
//! read at its start. KIP-339. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::config::{ConfigDef, ConfigError, ConfigErrors, Kind, find};
use protocol::error_code::ErrorCode;
use thiserror::Error;

use super::Outcome;
use super::core::Core;
use crate::config::{BrokerConfig, TopicConfig};
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

/// Changes of one resource's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterConfig {
    /// Whose settings.
    pub resource: Resource,
    /// The changes, each of another setting.
    pub changes: Vec<ConfigChange>,
}

/// Why a resource's settings stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingError {
    /// No topic has this name.
    #[error("topic {0} does not exist")]
    UnknownTopic(Arc<str>),
    /// A broker's settings are read at its start.
    #[error("settings of brokers cannot be changed while running: edit them and restart")]
    NotDynamic,
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
}

impl SettingError {
    /// What a client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
            Self::NotDynamic | Self::Twice(_) => ErrorCode::InvalidRequest,
            Self::NoValue(_) | Self::NoList(_) | Self::Invalid(_) => ErrorCode::InvalidConfig,
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
        let mut records = Vec::new();
        let mut seen = BTreeSet::new();
        let mut decide = |alteration: &AlterConfig| {
            let AlterConfig { resource, changes } = alteration;
            if !seen.insert(resource.clone()) {
                return Err(SettingError::Twice(resource.to_wire().1));
            }
            let Resource::Topic(topic) = resource else { return Err(SettingError::NotDynamic) };
            records.extend(alter_topic(&self.config, image, topic, changes)?);
            Ok(())
        };
        let reply = alterations.iter().map(&mut decide).collect();
        if validate_only {
            records.clear();
        }
        Outcome { records, reply }
    }
}

fn alter_topic(
    config: &BrokerConfig,
    image: &Image,
    topic: &Arc<str>,
    changes: &[ConfigChange],
) -> Result<Vec<Record>, SettingError> {
    if image.topic(topic).is_none() {
        return Err(SettingError::UnknownTopic(topic.clone()));
    }
    let before: BTreeMap<&str, &str> = image.topic_configs(topic).collect();
    let mut after: BTreeMap<&str, String> =
        before.iter().map(|(&name, &value)| (name, value.to_owned())).collect();
    let mut seen = BTreeSet::new();
    for change in changes {
        let name = change.name.as_str();
        if !seen.insert(name) {
            return Err(SettingError::Twice(change.name.clone()));
        }
        let old = after.get(name).map(String::as_str);
        match altered(config, change, old)? {
            Some(value) => after.insert(name, value),
            None => after.remove(name),
        };
    }
    TopicConfig::of(config, after.iter().map(|(&name, value)| (name, value.as_str())))?;
    let changed = seen
        .into_iter()
        .filter(|name| before.get(name) != after.get(name).map(String::as_str).as_ref());
    let record = |name: &str| {
        let value = after.get(name).cloned();
        topic_setting(topic, name, value)
    };
    Ok(changed.map(record).collect())
}

/// The text of a setting after `change`. `None`: its default.
fn altered(
    config: &BrokerConfig,
    change: &ConfigChange,
    old: Option<&str>,
) -> Result<Option<String>, SettingError> {
    let ConfigChange { name, operation, value } = change;
    let value = || value.clone().ok_or_else(|| SettingError::NoValue(name.clone()));
    let list = || -> Result<Vec<String>, SettingError> {
        let def = topic_def(name)?;
        if def.kind != Kind::List {
            return Err(SettingError::NoList(name.clone()));
        }
        let default = || config.topic_defaults().into_iter().find(|(it, _)| it.name == name)?.1;
        let text = old.map(str::to_owned).or_else(default);
        Ok(elements(&text.unwrap_or_default()))
    };
    match operation {
        ConfigOperation::Set => value().map(Some),
        // Only what is known can be reset, so that a misspelt name is told.
        ConfigOperation::Delete => Ok(topic_def(name).map(|_| None)?),
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

fn topic_def(name: &str) -> Result<&'static ConfigDef, ConfigErrors> {
    let unknown = || {
        let near = protocol::config::near(TopicConfig::DEFS, name);
        ConfigErrors(vec![ConfigError::Unknown { name: name.to_owned(), near }])
    };
    find(TopicConfig::DEFS, name).ok_or_else(unknown)
}

fn elements(text: &str) -> Vec<String> {
    let trimmed = text.split(',').map(str::trim);
    trimmed.filter(|element| !element.is_empty()).map(str::to_owned).collect()
}

/// The record that sets `name` of `topic`, or with `None` returns it to its default.
pub(super) fn topic_setting(topic: &str, name: &str, value: Option<String>) -> Record {
    let (resource_type, resource_name) = (Resource::TOPIC, topic.to_owned());
    ConfigRecord { resource_type, resource_name, name: name.to_owned(), value }.into()
}
