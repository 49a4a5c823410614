//! The rules that topics, their settings and their replicas must keep.
//!
//! Each check names the topic and what it breaks. Names follow Kafka's rules; a name that differs
//! from another only in `.` and `_` is refused, since metrics could not tell the two apart. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::ids::{BrokerId, PartitionIndex};

use super::topics::TopicError;
use crate::config::{BrokerConfig, TopicConfig};
use crate::limits::PARTITIONS_CREATED_MAX;
use crate::metadata::{Image, Topic};

/// The longest name of a topic, in bytes, as in Kafka: with a partition's index it names a file.
const NAME_BYTES_MAX: usize = 249;

/// Checks the characters and the length of a topic's name.
///
/// # Errors
/// `Name`, with the rule that it breaks.
pub fn check_name(name: &str) -> Result<(), TopicError> {
    let is_lawful = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let rule = match name {
        "" => "is empty",
        "." | ".." => "is a directory's",
        _ if name.len() > NAME_BYTES_MAX => "is longer than 249 bytes",
        _ if !name.chars().all(is_lawful) => "has other characters than letters, digits, . _ -",
        _ => return Ok(()),
    };
    Err(TopicError::Name { name: name.to_owned(), rule })
}

/// Checks that no other topic's name differs only in `.` and `_`.
pub(super) fn check_collision(image: &Image, name: &str) -> Result<(), TopicError> {
    if !name.contains(['.', '_']) {
        return Ok(());
    }
    let unify = |name: &str| name.replace('.', "_");
    let unified = unify(name);
    let collides =
        |other: &&Arc<Topic>| other.name.len() == name.len() && unify(&other.name) == unified;
    match image.topics().find(collides) {
        None => Ok(()),
        Some(other) => {
            Err(TopicError::Collision { name: name.to_owned(), other: other.name.clone() })
        }
    }
}

/// The name as metrics show it.
pub(super) fn unified(name: &str) -> String {
    name.replace('.', "_")
}

/// Checks that of the names in one request that look `alike`, `name` is the only one.
pub(super) fn check_alike(name: &str, alike: &[&str]) -> Result<(), TopicError> {
    if alike.iter().filter(|other| **other == name).count() > 1 {
        return Err(TopicError::Twice(name.to_owned()));
    }
    match alike.iter().find(|other| **other != name) {
        None => Ok(()),
        Some(other) => Err(TopicError::Collision { name: name.to_owned(), other: (*other).into() }),
    }
}

/// The settings of a new topic, when all of them are valid.
pub(super) fn check_configs(
    broker: &BrokerConfig,
    name: &str,
    configs: &[(String, Option<String>)],
) -> Result<BTreeMap<String, String>, TopicError> {
    let mut checked = BTreeMap::new();
    for (config, value) in configs {
        let (name, config) = (name.to_owned(), config.clone());
        let Some(value) = value else { return Err(TopicError::NoValue { name, config }) };
        checked.insert(config, value.clone());
    }
    let overrides = checked.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    match TopicConfig::of(broker, overrides) {
        Ok(_) => Ok(checked),
        Err(errors) => Err(TopicError::Config { name: name.to_owned(), errors }),
    }
}

/// Counts `more` partitions into what one request may create.
pub(super) fn admit(more: usize, so_far: &mut usize) -> Result<(), TopicError> {
    let total = so_far.saturating_add(more);
    if total > PARTITIONS_CREATED_MAX {
        return Err(TopicError::TooMany(total));
    }
    *so_far = total;
    Ok(())
}

/// The replicas by partition, which must be numbered from 0 without a gap.
pub(super) fn in_order(
    name: &str,
    assignments: &[(PartitionIndex, Vec<BrokerId>)],
) -> Result<Vec<Vec<BrokerId>>, TopicError> {
    let by_index: BTreeMap<_, _> = assignments.iter().map(|(index, it)| (index.0, it)).collect();
    let is_whole = by_index.keys().copied().eq(0..count(assignments.len()));
    if assignments.is_empty() || !is_whole {
        let reason = "partitions must be numbered from 0 without a gap".to_owned();
        return Err(TopicError::Assignment { name: name.to_owned(), reason });
    }
    Ok(by_index.into_values().cloned().collect())
}

/// Checks that each partition has `factor` replicas on as many known brokers.
pub(super) fn check_assignment(
    image: &Image,
    name: &str,
    assignment: &[Vec<BrokerId>],
    factor: i16,
) -> Result<(), TopicError> {
    let refuse = |reason| TopicError::Assignment { name: name.to_owned(), reason };
    for replicas in assignment {
        let distinct: BTreeSet<_> = replicas.iter().collect();
        if replicas.is_empty() || distinct.len() != replicas.len() {
            return Err(refuse("a partition needs replicas, each on another broker".to_owned()));
        }
        if count_i16(replicas.len()) != factor {
            return Err(refuse(format!("every partition must have {factor} replicas")));
        }
        let is_known = |id: &BrokerId| image.active_brokers().any(|broker| broker.id == *id);
        if let Some(unknown) = replicas.iter().find(|id| !is_known(id)) {
            return Err(refuse(format!("broker {unknown} is not registered")));
        }
    }
    Ok(())
}

/// How many replicas each partition has.
pub(super) fn factor(replicas: &[Vec<BrokerId>]) -> i16 {
    count_i16(replicas.first().map_or(0, Vec::len))
}

/// How many brokers, for the wire; saturates, as no cluster has so many.
pub(super) fn count_i16(count: usize) -> i16 {
    i16::try_from(count).unwrap_or(i16::MAX)
}

/// How many partitions, for the wire.
pub(super) fn count(partitions: usize) -> i32 {
    i32::try_from(partitions).expect("a request creates at most 10,000 partitions")
}
