//! Settings of topics, brokers, groups and client metrics: describe, alter, list what has some.
//!
//! Alterations are incremental: what is not mentioned stays (KIP-339). Each resource is changed
//! wholly or not at all, and has its own result. A broker's own settings are asked of that broker,
//! all others of whoever is there. Shell.

use std::collections::{BTreeMap, BTreeSet};

use protocol::api::configs::{
    AlterConfigsResource, AlterableConfig, DescribeConfigsRequest, DescribeConfigsResource,
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsSynonym,
    IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
};
use protocol::api_key::ApiKey;
use protocol::ids::BrokerId;

use super::Admin;
use super::topics::verdict;
use crate::error::RequestError;

/// What has settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// A broker.
    Broker(BrokerId),
    /// All brokers at once: what holds for those that have no value of their own. KIP-226.
    AllBrokers,
    /// The loggers of a broker. KIP-412.
    BrokerLogger(BrokerId),
    /// A subscription to the metrics of clients. KIP-714.
    ClientMetrics(String),
    /// A group, by id. KIP-848.
    Group(String),
}

impl ConfigResource {
    fn to_wire(&self) -> (i8, String) {
        match self {
            Self::Topic(name) => (2, name.clone()),
            Self::Broker(id) => (4, id.to_string()),
            Self::AllBrokers => (4, String::new()),
            Self::BrokerLogger(id) => (8, id.to_string()),
            Self::ClientMetrics(name) => (16, name.clone()),
            Self::Group(id) => (32, id.clone()),
        }
    }

    /// `None`: of a type that we do not know.
    fn from_wire(resource_type: i8, name: &str) -> Option<Self> {
        match resource_type {
            2 => Some(Self::Topic(name.to_owned())),
            4 if name.is_empty() => Some(Self::AllBrokers),
            4 => name.parse().ok().map(|id| Self::Broker(BrokerId(id))),
            8 => name.parse().ok().map(|id| Self::BrokerLogger(BrokerId(id))),
            16 => Some(Self::ClientMetrics(name.to_owned())),
            32 => Some(Self::Group(name.to_owned())),
            _ => None,
        }
    }

    /// The broker that alone can answer; `None`: any can.
    fn broker(&self) -> Option<BrokerId> {
        match self {
            Self::Broker(id) | Self::BrokerLogger(id) => Some(*id),
            Self::Topic(_) | Self::AllBrokers | Self::ClientMetrics(_) | Self::Group(_) => None,
        }
    }
}

impl std::fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::AllBrokers => write!(f, "all brokers"),
            Self::BrokerLogger(id) => write!(f, "loggers of broker {id}"),
            Self::ClientMetrics(name) => write!(f, "client metrics {name}"),
            Self::Group(id) => write!(f, "group {id}"),
        }
    }
}

/// Where a setting's value comes from, the strongest first. KIP-226.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigSource {
    /// Set for the topic.
    Topic,
    /// Set for the group. KIP-848.
    Group,
    /// Set for the subscription to client metrics. KIP-714.
    ClientMetrics,
    /// Set for this broker while it ran.
    DynamicBroker,
    /// Set for all brokers while they ran.
    DynamicDefaultBroker,
    /// Set for the broker's logger while it ran. KIP-412.
    DynamicBrokerLogger,
    /// Read by the broker at its start.
    StaticBroker,
    /// Set nowhere.
    Default,
    /// The broker does not tell, or in a way that we do not know.
    Unknown,
}

impl ConfigSource {
    fn from_wire(source: i8) -> Self {
        match source {
            1 => Self::Topic,
            2 => Self::DynamicBroker,
            3 => Self::DynamicDefaultBroker,
            4 => Self::StaticBroker,
            5 => Self::Default,
            6 => Self::DynamicBrokerLogger,
            7 => Self::ClientMetrics,
            8 => Self::Group,
            _ => Self::Unknown,
        }
    }

    /// The name in Kafka's words: `DYNAMIC_TOPIC_CONFIG`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "DYNAMIC_TOPIC_CONFIG",
            Self::Group => "DYNAMIC_GROUP_CONFIG",
            Self::ClientMetrics => "DYNAMIC_CLIENT_METRICS_CONFIG",
            Self::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
            Self::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            Self::DynamicBrokerLogger => "DYNAMIC_BROKER_LOGGER_CONFIG",
            Self::StaticBroker => "STATIC_BROKER_CONFIG",
            Self::Default => "DEFAULT_CONFIG",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// A setting as it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its value; `None`: null, or not shown as it is secret.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// True when nobody set it: it is what the broker's program says.
    pub is_default: bool,
    /// True when it cannot be altered.
    pub is_read_only: bool,
    /// True when its value is not shown.
    pub is_sensitive: bool,
    /// All places from which the value could come, the strongest first. KIP-226.
    pub synonyms: Vec<ConfigSynonym>,
    /// What it means; `None` where the broker does not tell. KIP-569.
    pub documentation: Option<String>,
}

/// A place from which a setting's value could come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// The setting there: `log.retention.ms` for a topic's `retention.ms`.
    pub name: String,
    /// Its value there; `None`: null, or secret.
    pub value: Option<String>,
    /// What kind of place it is.
    pub source: ConfigSource,
}

/// What to do with one setting. KIP-339.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Set it.
    Set(String),
    /// Unset it: what would hold without it holds again.
    Delete,
    /// Add to a list what it does not have yet.
    Append(String),
    /// Take out of a list.
    Subtract(String),
}

impl ConfigChange {
    fn to_wire(&self) -> (i8, Option<String>) {
        match self {
            Self::Set(value) => (0, Some(value.clone())),
            Self::Delete => (1, None),
            Self::Append(value) => (2, Some(value.clone())),
            Self::Subtract(value) => (3, Some(value.clone())),
        }
    }
}

impl Admin {
    /// The settings of one resource by name, with their sources and documentation.
    ///
    /// # Errors
    /// When it is refused or no answer came. Retry when
    /// [`is_retriable`](RequestError::is_retriable) says so.
    pub async fn describe_configs(
        &self,
        resource: &ConfigResource,
    ) -> Result<BTreeMap<String, ConfigEntry>, RequestError> {
        let attempt = || self.describe_configs_once(resource);
        self.retry_known("describe configs", attempt).await
    }

    async fn describe_configs_once(
        &self,
        resource: &ConfigResource,
    ) -> Result<BTreeMap<String, ConfigEntry>, RequestError> {
        let (resource_type, resource_name) = resource.to_wire();
        let build = move |version| DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type,
                resource_name,
                configuration_keys: None,
            }],
            include_synonyms: true,
            include_documentation: version >= 3,
        };
        let response: DescribeConfigsResponse = match resource.broker() {
            Some(broker) => self.ask_broker(broker, build).await?,
            None => self.router.ask_any(build).await?,
        };
        let api = ApiKey::DescribeConfigs;
        let missing = || RequestError::Missing { api, subject: resource.to_string() };
        let result = response.results.into_iter().next().ok_or_else(missing)?;
        verdict(api, resource.to_string(), result.error_code, result.error_message)?;
        Ok(result.configs.into_iter().map(entry).collect())
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
        let change =
            |value: &Option<String>| value.clone().map_or(ConfigChange::Delete, ConfigChange::Set);
        let changes = changes.iter().map(|(name, value)| (name.clone(), change(value))).collect();
        self.incremental_alter_configs(resource, &changes, false).await
    }

    /// Changes settings of one resource; others stay. With `validate_only` it says what it would,
    /// and changes nothing. KIP-339.
    ///
    /// # Errors
    /// When it is refused or no answer came; nothing is then changed by a refusal.
    pub async fn incremental_alter_configs(
        &self,
        resource: &ConfigResource,
        changes: &BTreeMap<String, ConfigChange>,
        validate_only: bool,
    ) -> Result<(), RequestError> {
        let (resource_type, resource_name) = resource.to_wire();
        let attempt = || async {
            let change = |(name, change): (&String, &ConfigChange)| {
                let (config_operation, value) = change.to_wire();
                AlterableConfig { name: name.clone(), config_operation, value }
            };
            let altered = AlterConfigsResource {
                resource_type,
                resource_name: resource_name.clone(),
                configs: changes.iter().map(change).collect(),
            };
            let request =
                IncrementalAlterConfigsRequest { resources: vec![altered], validate_only };
            let response = match resource.broker() {
                Some(broker) => self.ask_broker(broker, move |_| request).await?,
                None => self.router.ask_controller(move |_| request).await?,
            };
            let api = ApiKey::IncrementalAlterConfigs;
            let missing = || RequestError::Missing { api, subject: resource.to_string() };
            let result = response.responses.into_iter().next().ok_or_else(missing)?;
            verdict(api, resource.to_string(), result.error_code, result.error_message)
        };
        self.retry_known("alter configs", attempt).await
    }

    /// What has settings, as far as the cluster knows of it: topics, brokers, groups, client
    /// metrics. Resources of types that we do not know are left out. KIP-1142.
    ///
    /// # Errors
    /// When it is refused or no answer came.
    pub async fn list_config_resources(&self) -> Result<BTreeSet<ConfigResource>, RequestError> {
        let attempt = || async {
            let response = self.router.ask_any(|_| ListConfigResourcesRequest::default()).await?;
            let api = ApiKey::ListConfigResources;
            verdict(api, "config resources".to_owned(), response.error_code, None)?;
            let resources = response.config_resources.into_iter();
            Ok(resources
                .filter_map(|it| ConfigResource::from_wire(it.resource_type, &it.resource_name))
                .collect())
        };
        self.router.retry(self.timeout, "list config resources", attempt).await
    }
}

fn entry(config: DescribeConfigsResourceResult) -> (String, ConfigEntry) {
    let source = ConfigSource::from_wire(config.config_source);
    let synonym = |it: DescribeConfigsSynonym| ConfigSynonym {
        name: it.name,
        value: it.value,
        source: ConfigSource::from_wire(it.source),
    };
    let entry = ConfigEntry {
        value: config.value,
        source,
        is_default: source == ConfigSource::Default,
        is_read_only: config.read_only,
        is_sensitive: config.is_sensitive,
        synonyms: config.synonyms.into_iter().map(synonym).collect(),
        documentation: config.documentation.filter(|it| !it.is_empty()),
    };
    (config.name, entry)
}
