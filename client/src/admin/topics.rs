//! Topics: create, delete, grow, list, describe. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::api::metadata::{MetadataResponse, MetadataResponseTopic};
use protocol::api::topics::{
    CreatableTopic, CreatableTopicConfig, CreatableTopicResult, CreatePartitionsRequest,
    CreatePartitionsTopic, CreateTopicsRequest, DeletableTopicResult, DeleteTopicState,
    DeleteTopicsRequest,
};
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};

use super::{Admin, wire_ms};
use crate::cluster::Cluster;
use crate::error::RequestError;
use crate::router::Topics;

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; `None`: as the broker is set. KIP-464.
    pub partition_count: Option<i32>,
    /// How many replicas of each; `None`: as the broker is set. KIP-464.
    pub replication_factor: Option<i16>,
    /// Settings that differ from the broker's.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the broker's number of replicas and settings.
    pub fn new(name: impl Into<String>, partition_count: i32) -> Self {
        Self {
            name: name.into(),
            partition_count: Some(partition_count),
            replication_factor: None,
            configs: BTreeMap::new(),
        }
    }

    /// The same with so many replicas.
    #[must_use]
    pub fn replication_factor(mut self, replicas: i16) -> Self {
        self.replication_factor = Some(replicas);
        self
    }

    /// The same with a setting of its own.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(key.into(), value.into());
        self
    }

    fn to_wire(&self) -> CreatableTopic {
        let config = |(name, value): (&String, &String)| CreatableTopicConfig {
            name: name.clone(),
            value: Some(value.clone()),
        };
        CreatableTopic {
            name: self.name.clone(),
            num_partitions: self.partition_count.unwrap_or(-1),
            replication_factor: self.replication_factor.unwrap_or(-1),
            configs: self.configs.iter().map(config).collect(),
            ..CreatableTopic::default()
        }
    }
}

/// A topic as a broker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id; zero from brokers that have none.
    pub id: TopicId,
    /// True for topics of the brokers themselves.
    pub is_internal: bool,
    /// Its partitions.
    pub partitions: BTreeMap<PartitionIndex, PartitionDescription>,
}

/// A partition as a broker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its leader; `None`: it has none at present.
    pub leader: Option<BrokerId>,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The brokers that shall have it.
    pub replicas: Vec<BrokerId>,
    /// Those of them that have all of it.
    pub in_sync_replicas: Vec<BrokerId>,
    /// Those of them that cannot be reached; empty from brokers that do not tell.
    pub offline_replicas: Vec<BrokerId>,
}

/// What became of each topic.
type Results = Result<BTreeMap<String, Result<(), RequestError>>, RequestError>;

impl Admin {
    /// Creates topics; each one succeeds or is refused by itself.
    ///
    /// # Errors
    /// When no answer came. `TopicAlreadyExists` in a result may mean that an earlier attempt of
    /// this call succeeded.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
    ) -> Result<BTreeMap<String, Result<(), RequestError>>, RequestError> {
        self.create_topics_or_try(topics, false).await
    }

    /// Says what [`create_topics`](Self::create_topics) would, and creates nothing.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn validate_topics(
        &self,
        topics: &[NewTopic],
    ) -> Result<BTreeMap<String, Result<(), RequestError>>, RequestError> {
        self.create_topics_or_try(topics, true).await
    }

    async fn create_topics_or_try(&self, topics: &[NewTopic], validate_only: bool) -> Results {
        let what = "create topics";
        let attempt = || {
            let topics = topics.iter().map(NewTopic::to_wire).collect();
            self.create_topics_once(topics, validate_only)
        };
        let mut results = self.router.retry(self.timeout, what, attempt).await?;
        for topic in topics {
            if is_unsettled(results.get(&topic.name)) {
                let attempt = || async {
                    let topics = vec![topic.to_wire()];
                    let results = self.create_topics_once(topics, validate_only).await?;
                    self.only(ApiKey::CreateTopics, &topic.name, results)
                };
                let result = self.router.retry(self.timeout, what, attempt).await;
                results.insert(topic.name.clone(), result);
            }
        }
        Ok(results)
    }

    async fn create_topics_once(
        &self,
        topics: Vec<CreatableTopic>,
        validate_only: bool,
    ) -> Results {
        let timeout_ms = wire_ms(self.router.patience().request_timeout);
        let request = CreateTopicsRequest { topics, timeout_ms, validate_only };
        let response = self.router.ask_controller(move |_| request).await?;
        let result = |it: CreatableTopicResult| {
            let verdict =
                verdict(ApiKey::CreateTopics, it.name.clone(), it.error_code, it.error_message);
            (it.name, verdict)
        };
        Ok(response.topics.into_iter().map(result).collect())
    }

    /// The result of the one topic that was asked about.
    fn only(
        &self,
        api: ApiKey,
        topic: &str,
        mut results: BTreeMap<String, Result<(), RequestError>>,
    ) -> Result<(), RequestError> {
        let missing = || Err(RequestError::Missing { api, subject: topic.to_owned() });
        let result = results.remove(topic).unwrap_or_else(missing);
        if result.is_err() {
            // Whoever was asked may not be the controller any more.
            self.router.cluster(Cluster::mark_stale);
            self.router.next_turn();
        }
        result
    }

    /// Creates one topic.
    ///
    /// # Errors
    /// When it is refused or no answer came.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<(), RequestError> {
        let name = topic.name.clone();
        let results = self.create_topics(&[topic]).await?;
        self.only(ApiKey::CreateTopics, &name, results)
    }

    /// Deletes topics; each one succeeds or is refused by itself.
    ///
    /// # Errors
    /// When no answer came. `UnknownTopicOrPartition` in a result may mean that an earlier attempt
    /// of this call succeeded.
    pub async fn delete_topics(
        &self,
        names: &[&str],
    ) -> Result<BTreeMap<String, Result<(), RequestError>>, RequestError> {
        let what = "delete topics";
        let owned = |names: &[&str]| names.iter().map(|&it| it.to_owned()).collect();
        let attempt = || self.delete_topics_once(owned(names));
        let mut results = self.router.retry(self.timeout, what, attempt).await?;
        for &name in names {
            if is_unsettled(results.get(name)) {
                let attempt = || async {
                    let results = self.delete_topics_once(owned(&[name])).await?;
                    self.only(ApiKey::DeleteTopics, name, results)
                };
                let result = self.router.retry(self.timeout, what, attempt).await;
                results.insert(name.to_owned(), result);
            }
        }
        Ok(results)
    }

    async fn delete_topics_once(&self, names: Vec<String>) -> Results {
        let timeout_ms = wire_ms(self.router.patience().request_timeout);
        let build = move |version| delete_topics(version, names, timeout_ms);
        let response = self.router.ask_controller(build).await?;
        let result = |it: DeletableTopicResult| {
            let name = it.name.unwrap_or_default();
            let api = ApiKey::DeleteTopics;
            (name.clone(), verdict(api, name, it.error_code, it.error_message))
        };
        Ok(response.responses.into_iter().map(result).collect())
    }

    /// Raises the number of partitions of a topic to `partition_count`.
    ///
    /// # Errors
    /// When it is refused or no answer came.
    pub async fn create_partitions(
        &self,
        topic: &str,
        partition_count: i32,
    ) -> Result<(), RequestError> {
        let attempt = || async {
            let request = CreatePartitionsRequest {
                topics: vec![CreatePartitionsTopic {
                    name: topic.to_owned(),
                    count: partition_count,
                    assignments: None,
                }],
                timeout_ms: wire_ms(self.router.patience().request_timeout),
                validate_only: false,
            };
            let response = self.router.ask_controller(move |_| request).await?;
            let api = ApiKey::CreatePartitions;
            let results = response.results.into_iter().map(|it| {
                (it.name.clone(), verdict(api, it.name, it.error_code, it.error_message))
            });
            self.only(api, topic, results.collect())
        };
        self.router.retry(self.timeout, "create partitions", attempt).await
    }

    /// The names of all topics, internal ones included.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn list_topics(&self) -> Result<Vec<String>, RequestError> {
        let response = self.metadata(&Topics::All).await?;
        Ok(response.topics.into_iter().filter_map(|it| it.name).collect())
    }

    /// Describes all topics, internal ones included.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn describe_all_topics(
        &self,
    ) -> Result<BTreeMap<String, Result<TopicDescription, RequestError>>, RequestError> {
        Ok(described(self.metadata(&Topics::All).await?))
    }

    /// Describes topics. One that does not exist is an error of its own.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn describe_topics(
        &self,
        names: &[&str],
    ) -> Result<BTreeMap<String, Result<TopicDescription, RequestError>>, RequestError> {
        let names: BTreeSet<Arc<str>> = names.iter().map(|&it| it.into()).collect();
        let response = self.metadata(&Topics::These(names)).await?;
        Ok(described(response))
    }
}

/// True when asking again may help. A topic that is unknown when it shall be deleted stays so.
fn is_unsettled(result: Option<&Result<(), RequestError>>) -> bool {
    let error = result.and_then(|it| it.as_ref().err());
    error.is_some_and(|it| {
        it.is_retriable() && it.error_code() != Some(ErrorCode::UnknownTopicOrPartition)
    })
}

fn delete_topics(version: i16, names: Vec<String>, timeout_ms: i32) -> DeleteTopicsRequest {
    if version < 6 {
        let topic_names = names;
        return DeleteTopicsRequest { topic_names, timeout_ms, ..DeleteTopicsRequest::default() };
    }
    let named = |name| DeleteTopicState { name: Some(name), ..DeleteTopicState::default() };
    let topics = names.into_iter().map(named).collect();
    DeleteTopicsRequest { topics, timeout_ms, ..DeleteTopicsRequest::default() }
}

pub(super) fn verdict(
    api: ApiKey,
    subject: String,
    code: i16,
    message: Option<String>,
) -> Result<(), RequestError> {
    let message = message.filter(|it| !it.is_empty());
    let code = ErrorCode::from_wire(code);
    code.ok().map_err(|code| RequestError::code(api, subject, code, message))
}

fn described(
    response: MetadataResponse,
) -> BTreeMap<String, Result<TopicDescription, RequestError>> {
    let describe = |topic: MetadataResponseTopic| {
        let name = topic.name.clone()?;
        let verdict = verdict(ApiKey::Metadata, name.clone(), topic.error_code, None);
        Some((name, verdict.map(|()| description(topic))))
    };
    response.topics.into_iter().filter_map(describe).collect()
}

fn description(topic: MetadataResponseTopic) -> TopicDescription {
    let brokers = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
    let partitions = topic.partitions.into_iter().map(|it| {
        let partition = PartitionDescription {
            leader: Some(BrokerId(it.leader_id)).filter(|it| it.0 >= 0),
            leader_epoch: LeaderEpoch(it.leader_epoch),
            replicas: brokers(it.replica_nodes),
            in_sync_replicas: brokers(it.isr_nodes),
            offline_replicas: brokers(it.offline_replicas),
        };
        (PartitionIndex(it.partition_index), partition)
    });
    TopicDescription {
        name: topic.name.unwrap_or_default(),
        id: topic.topic_id,
        is_internal: topic.is_internal,
        partitions: partitions.collect(),
    }
}
