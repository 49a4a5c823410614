//! Topics come, grow and go.
//!
//! Each topic of a request succeeds or fails alone; those that succeed are committed together.
//! What the cluster keeps for itself is created by [`Core::ensure_topics`] alone, with settings
//! that its coordinators need. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::config::ConfigErrors;
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, TopicId};
use thiserror::Error;

use super::Outcome;
use super::core::Core;
use super::placement::place;
use super::rules::{
    admit, check_alike, check_assignment, check_collision, check_configs, check_name, count,
    count_i16, factor, in_order, unified,
};
use super::settings::topic_setting;
use crate::config::BrokerConfig;
use crate::limits::PARTITIONS_CREATED_MAX;
use crate::metadata::{
    Image, OFFSETS_TOPIC, Partition, Record, RemoveTopicRecord, TRANSACTIONS_TOPIC, TopicRecord,
    is_internal,
};

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

/// A topic that is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: TopicId,
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

/// What a topic to create will be.
struct Plan {
    replicas: Vec<Vec<BrokerId>>,
    configs: BTreeMap<String, String>,
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
            reply.push(created.map(|Plan { replicas, configs }| {
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
    fn plan(
        &mut self,
        image: &Image,
        topic: &NewTopic,
        so_far: &mut usize,
    ) -> Result<Plan, TopicError> {
        let NewTopic { name, spread, configs } = topic;
        check_name(name)?;
        if image.topic(name).is_some() {
            return Err(TopicError::Exists(name.clone()));
        }
        check_collision(image, name)?;
        let configs = check_configs(&image.broker_config(&self.config), name, configs)?;
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
        Ok(Plan { replicas, configs })
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
    ) -> Outcome<Vec<Result<DeletedTopic, TopicError>>> {
        let mut deleted = BTreeSet::new();
        let mut counts = BTreeMap::<&TopicRef, usize>::new();
        topics.iter().for_each(|it| *counts.entry(it).or_default() += 1);
        let mut delete = |topic: &TopicRef| {
            if counts[topic] > 1 {
                return Err(TopicError::Twice(match topic {
                    TopicRef::Name(name) => name.clone(),
                    TopicRef::Id(id) => id.to_string(),
                }));
            }
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
            Ok(DeletedTopic { name: found.name.clone(), id: found.id })
        };
        let reply: Vec<_> = topics.iter().map(&mut delete).collect();
        let records = reply.iter().flatten();
        let records = records.map(|deleted| RemoveTopicRecord { topic_id: deleted.id }.into());
        Outcome { records: records.collect(), reply }
    }

    /// Adds partitions to topics; with `validate_only`, only says whether it could.
    pub(crate) fn create_partitions(
        &mut self,
        image: &Image,
        requests: &[MorePartitions],
        validate_only: bool,
    ) -> Outcome<Vec<Result<(), TopicError>>> {
        let (mut records, mut counts, mut so_far) = (Vec::new(), BTreeMap::new(), 0);
        requests.iter().for_each(|it| *counts.entry(&it.name).or_insert(0) += 1);
        let mut reply = Vec::with_capacity(requests.len());
        for request in requests {
            // Which of the two would hold is anyone's guess: neither does.
            let grown = if counts[&request.name] == 1 {
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
