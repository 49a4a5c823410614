//! Topics: create, delete, grow, describe, configure, empty. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::api::configs::{
    AlterConfigsResource, AlterableConfig, DescribeConfigsRequest, DescribeConfigsResource,
    DescribeConfigsResourceResult, IncrementalAlterConfigsRequest,
};
use protocol::api::metadata::{MetadataResponse, MetadataResponseTopic};
use protocol::api::offsets::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use protocol::api::topics::{
    CreatableTopic, CreatableTopicConfig, CreatableTopicResult, CreatePartitionsRequest,
    CreatePartitionsTopic, CreateTopicsRequest, DeletableTopicResult, DeleteTopicState,
    DeleteTopicsRequest,
};
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};

use super::{Admin, wire_ms};
use crate::cluster::Cluster;
use crate::error::RequestError;
use crate::net::connection::CallOptions;
use crate::net::pool::Purpose;
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
}

/// What has settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// A broker.
    Broker(BrokerId),
    /// A group, by id. KIP-848.
    Group(String),
}

impl ConfigResource {
    fn to_wire(&self) -> (i8, String) {
        match self {
            Self::Topic(name) => (2, name.clone()),
            Self::Broker(id) => (4, id.to_string()),
            Self::Group(id) => (32, id.clone()),
        }
    }
}

/// A setting as it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its value; `None`: null, or not shown as it is secret.
    pub value: Option<String>,
    /// True when it is not set here: it follows from elsewhere.
    pub is_default: bool,
    /// True when it cannot be altered.
    pub is_read_only: bool,
    /// True when its value is not shown.
    pub is_sensitive: bool,
}

/// What became of each topic.
type Results = Result<BTreeMap<String, Result<(), RequestError>>, RequestError>;

/// 5: the source of a setting that nobody set; 1: the topic's own.
const SOURCE_DEFAULT: i8 = 5;

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
        let what = "create topics";
        let attempt = || self.create_topics_once(topics.iter().map(NewTopic::to_wire).collect());
        let mut results = self.router.retry(self.timeout, what, attempt).await?;
        for topic in topics {
            if is_unsettled(results.get(&topic.name)) {
                let attempt = || async {
                    let results = self.create_topics_once(vec![topic.to_wire()]).await?;
                    self.only(ApiKey::CreateTopics, &topic.name, results)
                };
                let result = self.router.retry(self.timeout, what, attempt).await;
                results.insert(topic.name.clone(), result);
            }
        }
        Ok(results)
    }

    async fn create_topics_once(&self, topics: Vec<CreatableTopic>) -> Results {
        let timeout_ms = wire_ms(self.router.patience().request_timeout);
        let request = CreateTopicsRequest { topics, timeout_ms, validate_only: false };
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

    /// The settings of a topic, broker or group by name.
    ///
    /// # Errors
    /// When it is refused or no answer came.
    pub async fn describe_configs(
        &self,
        resource: &ConfigResource,
    ) -> Result<BTreeMap<String, ConfigEntry>, RequestError> {
        let (resource_type, resource_name) = resource.to_wire();
        let subject = resource_name.clone();
        let attempt = || async {
            let asked = DescribeConfigsResource {
                resource_type,
                resource_name: resource_name.clone(),
                configuration_keys: None,
            };
            let request = DescribeConfigsRequest {
                resources: vec![asked],
                ..DescribeConfigsRequest::default()
            };
            let response = match resource {
                ConfigResource::Topic(_) | ConfigResource::Group(_) => {
                    self.router.ask_any(move |_| request).await?
                }
                ConfigResource::Broker(id) => {
                    let gone = || RequestError::NoLeader { subject: format!("broker {id}") };
                    let broker = self.router.broker(*id, Purpose::General).ok_or_else(gone)?;
                    let timeout = self.router.patience().request_timeout;
                    broker.call_with(CallOptions::within(timeout), move |_| request).await?
                }
            };
            let missing =
                RequestError::Missing { api: ApiKey::DescribeConfigs, subject: subject.clone() };
            let result = response.results.into_iter().next().ok_or(missing)?;
            let (code, message) = (result.error_code, result.error_message);
            verdict(ApiKey::DescribeConfigs, subject.clone(), code, message)?;
            Ok(result.configs.into_iter().map(entry).collect())
        };
        self.router.retry(self.timeout, "describe configs", attempt).await
    }

    /// Sets (`Some`) or unsets (`None`) settings of one resource; others stay. KIP-339.
    ///
    /// # Errors
    /// When it is refused or no answer came; nothing is then changed by a refusal.
    pub async fn alter_configs(
        &self,
        resource: &ConfigResource,
        changes: &BTreeMap<String, Option<String>>,
    ) -> Result<(), RequestError> {
        let (resource_type, resource_name) = resource.to_wire();
        let attempt = || async {
            let change = |(name, value): (&String, &Option<String>)| AlterableConfig {
                name: name.clone(),
                config_operation: i8::from(value.is_none()),
                value: value.clone(),
            };
            let altered = AlterConfigsResource {
                resource_type,
                resource_name: resource_name.clone(),
                configs: changes.iter().map(change).collect(),
            };
            let request =
                IncrementalAlterConfigsRequest { resources: vec![altered], validate_only: false };
            let response = self.router.ask_controller(move |_| request).await?;
            response.responses.into_iter().try_for_each(|it| {
                let api = ApiKey::IncrementalAlterConfigs;
                verdict(api, it.resource_name, it.error_code, it.error_message)
            })
        };
        self.router.retry(self.timeout, "alter configs", attempt).await
    }

    /// Deletes the records before an offset of each partition, and tells the new log start
    /// offsets. KIP-107.
    ///
    /// # Errors
    /// At the first partition that is refused; others may be done.
    pub async fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<BTreeMap<TopicPartition, Offset>, RequestError> {
        let mut starts = BTreeMap::new();
        for (partition, &offset) in before {
            let attempt = || self.delete_records_of(partition, offset);
            let start = self.router.retry(self.timeout, "delete records", attempt).await?;
            starts.insert(partition.clone(), start);
        }
        Ok(starts)
    }

    async fn delete_records_of(
        &self,
        partition: &TopicPartition,
        offset: Offset,
    ) -> Result<Offset, RequestError> {
        let topics = Topics::These([Arc::clone(&partition.topic)].into());
        self.router.refresh(topics, false).await?;
        let none = || RequestError::NoLeader { subject: partition.to_string() };
        let (_, leader) = self.router.leader(partition, Purpose::General).ok_or_else(none)?;
        let timeout = self.router.patience().request_timeout;
        let one =
            DeleteRecordsPartition { partition_index: partition.partition.0, offset: offset.0 };
        let topic = DeleteRecordsTopic { name: partition.topic.to_string(), partitions: vec![one] };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: wire_ms(timeout) };
        let response = leader.call(request, timeout).await?;
        let result = response.topics.into_iter().flat_map(|it| it.partitions).next();
        let api = ApiKey::DeleteRecords;
        let missing = || RequestError::Missing { api, subject: partition.to_string() };
        let result = result.ok_or_else(missing)?;
        verdict(api, partition.to_string(), result.error_code, None)?;
        Ok(Offset(result.low_watermark))
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

fn entry(config: DescribeConfigsResourceResult) -> (String, ConfigEntry) {
    let entry = ConfigEntry {
        value: config.value,
        is_default: config.config_source == SOURCE_DEFAULT,
        is_read_only: config.read_only,
        is_sensitive: config.is_sensitive,
    };
    (config.name, entry)
}
