//! Topics come, grow and go.
//!
//! Each topic of a request succeeds or fails alone; those that succeed are committed together.
//! Names follow Kafka's rules; a name that differs from another only in `.` and `_` is refused,
//! since metrics could not tell the two apart. What the cluster keeps for itself is created by
//! [`Core::ensure_topics`] alone, with settings that its coordinators need. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::config::ConfigErrors;
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, TopicId};
use thiserror::Error;

use super::Outcome;
use super::core::Core;
use super::placement::place;
use super::settings::topic_setting;
use crate::config::{BrokerConfig, TopicConfig};
use crate::limits::PARTITIONS_CREATED_MAX;
use crate::metadata::{
    Image, OFFSETS_TOPIC, Partition, Record, RemoveTopicRecord, TRANSACTIONS_TOPIC, Topic,
    TopicRecord, is_internal,
};

/// The longest name of a topic, in bytes, as in Kafka: with a partition's index it names a file.
const NAME_BYTES_MAX: usize = 249;

/// Where a topic's partitions go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Wherever the controller likes.
    Counted {
        /// How many partitions. `None`: the default.
        partition_count: Option<i32>,
        /// How many replicas of each. `None`: the default.
        replication_factor: Option<i16>,
    },
    /// Where the client says: each partition with its replicas, the preferred leader first.
    Assigned(Vec<(PartitionIndex, Vec<BrokerId>)>),
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Where its partitions go.
    pub spread: Spread,
    /// Its settings.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic that was created, or could be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id; zero when it was only checked whether it could be.
    pub id: TopicId,
    /// How many partitions it has.
    pub partition_count: i32,
    /// How many replicas each has.
    pub replication_factor: i16,
    /// Its own settings.
    pub configs: BTreeMap<String, String>,
}

/// More partitions for a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MorePartitions {
    /// The topic.
    pub name: String,
    /// How many partitions it is to have in all.
    pub total_count: i32,
    /// The replicas of each new partition. `None`: wherever the controller likes.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// A topic by either of its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicRef {
    /// By name.
    Name(String),
    /// By id.
    Id(TopicId),
}

/// Why a topic stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// The name breaks the rules.
    #[error("topic name {name:?} {rule}")]
    Name {
        /// The name.
        name: String,
        /// The rule.
        rule: &'static str,
    },
    /// The name differs from another's only in `.` and `_`.
    #[error("topic name {name} collides with {other}: metrics cannot tell '.' from '_'")]
    Collision {
        /// The name.
        name: String,
        /// The topic that has the other.
        other: Arc<str>,
    },
    /// The cluster keeps the topic for itself.
    #[error("topic {0} belongs to the cluster")]
    Internal(String),
    /// The name is taken.
    #[error("topic {0} exists already")]
    Exists(String),
    /// The request names the topic twice.
    #[error("topic {0} is named twice")]
    Twice(String),
    /// No topic has this name.
    #[error("topic {0} does not exist")]
    UnknownName(String),
    /// No topic has this id.
    #[error("no topic has id {0}")]
    UnknownId(TopicId),
    /// The number of partitions is not possible.
    #[error("topic {name}: {reason}")]
    Partitions {
        /// The topic.
        name: String,
        /// Why not.
        reason: String,
    },
    /// One request creates too many partitions. Split it.
    #[error("a request may create {PARTITIONS_CREATED_MAX} partitions, not {0}")]
    TooMany(usize),
    /// The number of replicas is not possible.
    #[error("topic {name}: replication factor {factor} is not from 1 to the {brokers} brokers")]
    ReplicationFactor {
        /// The topic.
        name: String,
        /// The number.
        factor: i16,
        /// How many brokers could hold one.
        brokers: usize,
    },
    /// The replicas are not possible.
    #[error("topic {name}: {reason}")]
    Assignment {
        /// The topic.
        name: String,
        /// Why not.
        reason: String,
    },
    /// The settings are not valid.
    #[error("topic {name}: {errors}")]
    Config {
        /// The topic.
        name: String,
        /// What is wrong.
        errors: ConfigErrors,
    },
    /// A setting without a value.
    #[error("topic {name}: {config}: a value is needed")]
    NoValue {
        /// The topic.
        name: String,
        /// The setting.
        config: String,
    },
    /// `delete.topic.enable` is off.
    #[error("deleting topics is switched off")]
    DeletionDisabled,
}

impl TopicError {
    /// What a client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Name { .. } | Self::Collision { .. } | Self::Internal(_) => {
                ErrorCode::InvalidTopicException
            }
            Self::Exists(_) => ErrorCode::TopicAlreadyExists,
            Self::Twice(_) => ErrorCode::InvalidRequest,
            Self::UnknownName(_) => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownId(_) => ErrorCode::UnknownTopicId,
            Self::Partitions { .. } => ErrorCode::InvalidPartitions,
            Self::TooMany(_) => ErrorCode::PolicyViolation,
            Self::ReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
            Self::Assignment { .. } => ErrorCode::InvalidReplicaAssignment,
            Self::Config { .. } | Self::NoValue { .. } => ErrorCode::InvalidConfig,
            Self::DeletionDisabled => ErrorCode::TopicDeletionDisabled,
        }
    }
}

type Created = Outcome<Vec<Result<CreatedTopic, TopicError>>>;

impl Core {
    /// Creates topics for a client; with `validate_only`, only says whether it could.
    pub(crate) fn create_topics(
        &mut self,
        image: &Image,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Created {
        let internal = topics.iter().map(|topic| is_internal(&topic.name));
        let refused: Vec<_> = internal.collect();
        let mut outcome = self.create(image, topics, &refused);
        if validate_only {
            outcome.records.clear();
            for created in outcome.reply.iter_mut().flatten() {
                created.id = TopicId::ZERO;
            }
        }
        outcome
    }

    /// Creates, of the topics of these names, those that do not exist yet: as the defaults want
    /// it, or as the cluster needs its own.
    pub(crate) fn ensure_topics(
        &mut self,
        image: &Image,
        names: &[String],
    ) -> Outcome<Vec<Result<(), TopicError>>> {
        let brokers = image.active_brokers().count();
        let topics: Vec<_> = names.iter().map(|name| wanted(&self.config, brokers, name)).collect();
        let Outcome { records, reply } = self.create(image, &topics, &vec![false; topics.len()]);
        let settle = |created: Result<CreatedTopic, TopicError>| match created {
            Ok(_) | Err(TopicError::Exists(_)) => Ok(()),
            Err(error) => Err(error),
        };
        Outcome { records, reply: reply.into_iter().map(settle).collect() }
    }

    fn create(&mut self, image: &Image, topics: &[NewTopic], refused: &[bool]) -> Created {
        let mut alike = BTreeMap::<String, Vec<&str>>::new();
        topics.iter().for_each(|it| alike.entry(unified(&it.name)).or_default().push(&it.name));
        let (mut records, mut reply) = (Vec::new(), Vec::new());
        let mut partition_count = 0;
        for (nth, (topic, is_refused)) in topics.iter().zip(refused).enumerate() {
            let created = if *is_refused {
                Err(TopicError::Internal(topic.name.clone()))
            } else {
                check_alike(&topic.name, &alike[&unified(&topic.name)])
                    .and_then(|()| self.plan(image, topic, &mut partition_count))
            };
            reply.push(created.map(|(replicas, configs)| {
                let id = self.topic_id(image, nth);
                records.extend(creation(id, &topic.name, &replicas, &configs));
                CreatedTopic {
                    id,
                    partition_count: count(replicas.len()),
                    replication_factor: factor(&replicas),
                    configs,
                }
            }));
        }
        Outcome { records, reply }
    }

    /// The replicas and settings of a topic to create; adds its partitions to `so_far`.
    #[allow(clippy::type_complexity)]
    fn plan(
        &mut self,
        image: &Image,
        topic: &NewTopic,
        so_far: &mut usize,
    ) -> Result<(Vec<Vec<BrokerId>>, BTreeMap<String, String>), TopicError> {
        let NewTopic { name, spread, configs } = topic;
        check_name(name)?;
        if image.topic(name).is_some() {
            return Err(TopicError::Exists(name.clone()));
        }
        check_collision(image, name)?;
        let configs = check_configs(&self.config, name, configs)?;
        let replicas = match spread {
            Spread::Counted { partition_count, replication_factor } => {
                let wanted = partition_count.unwrap_or(self.config.num_partitions);
                let factor = replication_factor.unwrap_or(self.config.default_replication_factor);
                let reason = || "the number of partitions must be at least 1".to_owned();
                let refuse = || TopicError::Partitions { name: name.clone(), reason: reason() };
                let wanted =
                    usize::try_from(wanted).ok().filter(|&it| it > 0).ok_or_else(refuse)?;
                admit(wanted, so_far)?;
                self.place(image, name, wanted, factor)?
            }
            Spread::Assigned(assignments) => {
                admit(assignments.len(), so_far)?;
                let replicas = in_order(name, assignments)?;
                check_assignment(image, name, &replicas, factor(&replicas))?;
                replicas
            }
        };
        Ok((replicas, configs))
    }

    fn place(
        &mut self,
        image: &Image,
        name: &str,
        partition_count: usize,
        factor: i16,
    ) -> Result<Vec<Vec<BrokerId>>, TopicError> {
        let brokers: Vec<_> = image.active_brokers().map(|broker| broker.id).collect();
        let wanted = usize::try_from(factor).ok().filter(|it| (1..=brokers.len()).contains(it));
        let wanted = wanted.ok_or_else(|| TopicError::ReplicationFactor {
            name: name.to_owned(),
            factor,
            brokers: brokers.len(),
        })?;
        Ok(place(&brokers, partition_count, wanted, &mut self.rng))
    }

    /// Deletes topics with their partitions and settings; answers with each one's name and id.
    pub(crate) fn delete_topics(
        &self,
        image: &Image,
        topics: &[TopicRef],
    ) -> Outcome<Vec<Result<(Arc<str>, TopicId), TopicError>>> {
        let mut deleted = BTreeSet::new();
        let mut delete = |topic: &TopicRef| {
            let found = match topic {
                TopicRef::Name(name) => image.topic(name),
                TopicRef::Id(id) => image.topic_by_id(*id),
            };
            let found = found.ok_or_else(|| match topic {
                TopicRef::Name(name) => TopicError::UnknownName(name.clone()),
                TopicRef::Id(id) => TopicError::UnknownId(*id),
            })?;
            if !self.config.delete_topic_enable {
                return Err(TopicError::DeletionDisabled);
            }
            if found.is_internal() {
                return Err(TopicError::Internal(found.name.to_string()));
            }
            if !deleted.insert(found.id) {
                return Err(TopicError::Twice(found.name.to_string()));
            }
            Ok((found.name.clone(), found.id))
        };
        let reply: Vec<_> = topics.iter().map(&mut delete).collect();
        let records = reply.iter().flatten();
        let records = records.map(|&(_, topic_id)| RemoveTopicRecord { topic_id }.into());
        Outcome { records: records.collect(), reply }
    }

    /// Adds partitions to topics; with `validate_only`, only says whether it could.
    pub(crate) fn create_partitions(
        &mut self,
        image: &Image,
        requests: &[MorePartitions],
        validate_only: bool,
    ) -> Outcome<Vec<Result<(), TopicError>>> {
        let (mut records, mut seen, mut so_far) = (Vec::new(), BTreeSet::new(), 0);
        let mut reply = Vec::with_capacity(requests.len());
        for request in requests {
            let grown = if seen.insert(&request.name) {
                self.grow(image, request, &mut so_far)
            } else {
                Err(TopicError::Twice(request.name.clone()))
            };
            reply.push(grown.map(|more| records.extend(more)));
        }
        if validate_only {
            records.clear();
        }
        Outcome { records, reply }
    }

    fn grow(
        &mut self,
        image: &Image,
        request: &MorePartitions,
        so_far: &mut usize,
    ) -> Result<Vec<Record>, TopicError> {
        let MorePartitions { name, total_count, assignments } = request;
        let topic = image.topic(name).ok_or_else(|| TopicError::UnknownName(name.clone()))?;
        let present = topic.partition_count();
        let refuse = |reason| TopicError::Partitions { name: name.clone(), reason };
        if *total_count <= present {
            let reason = format!("has {present} partitions, which cannot become {total_count}");
            return Err(refuse(reason));
        }
        let more = usize::try_from(total_count - present).expect("it is larger");
        admit(more, so_far)?;
        let factor = topic.partitions.first().map_or(1, |first| count_i16(first.replicas.len()));
        let replicas = match assignments {
            None => self.place(image, name, more, factor)?,
            Some(assignments) if assignments.len() == more => {
                check_assignment(image, name, assignments, factor)?;
                assignments.clone()
            }
            Some(assignments) => {
                let reason = format!("{} assignments for {more} new partitions", assignments.len());
                return Err(TopicError::Assignment { name: name.clone(), reason });
            }
        };
        Ok(partitions(topic.id, present, &replicas).collect())
    }
}

/// A topic that must exist, as the defaults want it or as the cluster needs its own.
fn wanted(config: &BrokerConfig, brokers: usize, name: &str) -> NewTopic {
    let clamp = |factor: i16| factor.min(count_i16(brokers)).max(1);
    let own = |partition_count, factor, segment_bytes: u32| {
        let set = |name: &str, value: String| (name.to_owned(), Some(value));
        let configs = vec![
            set("cleanup.policy", "compact".to_owned()),
            set("compression.type", "producer".to_owned()),
            set("segment.bytes", segment_bytes.to_string()),
        ];
        let (partition_count, replication_factor) = (Some(partition_count), Some(clamp(factor)));
        (Spread::Counted { partition_count, replication_factor }, configs)
    };
    let (spread, configs) = match name {
        OFFSETS_TOPIC => own(
            config.offsets_topic_num_partitions,
            config.offsets_topic_replication_factor,
            config.offsets_topic_segment_bytes,
        ),
        TRANSACTIONS_TOPIC => own(
            config.transaction_state_log_num_partitions,
            config.transaction_state_log_replication_factor,
            config.transaction_state_log_segment_bytes,
        ),
        _ => (Spread::Counted { partition_count: None, replication_factor: None }, Vec::new()),
    };
    NewTopic { name: name.to_owned(), spread, configs }
}

fn check_name(name: &str) -> Result<(), TopicError> {
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

fn check_collision(image: &Image, name: &str) -> Result<(), TopicError> {
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
fn unified(name: &str) -> String {
    name.replace('.', "_")
}

/// Checks that of the names in one request that look `alike`, `name` is the only one.
fn check_alike(name: &str, alike: &[&str]) -> Result<(), TopicError> {
    if alike.iter().filter(|other| **other == name).count() > 1 {
        return Err(TopicError::Twice(name.to_owned()));
    }
    match alike.iter().find(|other| **other != name) {
        None => Ok(()),
        Some(other) => Err(TopicError::Collision { name: name.to_owned(), other: (*other).into() }),
    }
}

fn check_configs(
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
fn admit(more: usize, so_far: &mut usize) -> Result<(), TopicError> {
    let total = so_far.saturating_add(more);
    if total > PARTITIONS_CREATED_MAX {
        return Err(TopicError::TooMany(total));
    }
    *so_far = total;
    Ok(())
}

/// The replicas by partition, which must be numbered from 0 without a gap.
fn in_order(
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
fn check_assignment(
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

/// The records that create a topic.
fn creation(
    id: TopicId,
    name: &str,
    replicas: &[Vec<BrokerId>],
    configs: &BTreeMap<String, String>,
) -> Vec<Record> {
    let topic = TopicRecord { name: name.to_owned(), topic_id: id };
    let configs = configs.iter().map(|(key, value)| topic_setting(name, key, Some(value.clone())));
    let partitions = partitions(id, 0, replicas);
    std::iter::once(topic.into()).chain(configs).chain(partitions).collect()
}

/// The records that create partitions from `first` on, led by their first replicas.
fn partitions(
    topic: TopicId,
    first: i32,
    replicas: &[Vec<BrokerId>],
) -> impl Iterator<Item = Record> {
    replicas.iter().zip(first..).map(move |(replicas, index)| {
        let partition = Partition {
            leader: replicas[0],
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            replicas: replicas.clone(),
            isr: replicas.clone(),
            ..Partition::default()
        };
        partition.to_record(topic, PartitionIndex(index)).into()
    })
}

fn factor(replicas: &[Vec<BrokerId>]) -> i16 {
    count_i16(replicas.first().map_or(0, Vec::len))
}

/// How many brokers, for the wire; saturates, as no cluster has so many.
fn count_i16(count: usize) -> i16 {
    i16::try_from(count).unwrap_or(i16::MAX)
}

fn count(partitions: usize) -> i32 {
    i32::try_from(partitions).expect("a request creates at most 10,000 partitions")
}
