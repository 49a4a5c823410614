//! Metadata: brokers and topics as a client of one listener sees them.
//!
//! All that is told comes from one Image. A topic that may be created is created before the answer,
//! which then names its leaders, or behind it where that is set; clients that ask for too much, or
//! in bad times, get a retriable code for that topic alone. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::api::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::error_code::ErrorCode;
use protocol::ids::BrokerId;

use super::cluster::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS};
use super::quotas::Mutations;
use crate::config::BrokerConfig;
use crate::controller::{ControllerHandle, check_name};
use crate::limits::AUTO_CREATED_MAX;
use crate::metadata::{Image, MetadataHandle, Partition, Topic};

/// Answers a request that came in by `listener`.
pub(crate) async fn metadata(
    metadata: &MetadataHandle,
    controller: &ControllerHandle,
    config: &BrokerConfig,
    listener: &str,
    mut mutations: Mutations<'_>,
    (version, request): (i16, MetadataRequest),
) -> MetadataResponse {
    let asks_for_all = version == 0 && request.topics.as_ref().is_some_and(Vec::is_empty);
    let asked = if asks_for_all { None } else { request.topics.as_deref() };
    let may_create = request.allow_auto_topic_creation && config.auto_create_topics_enable;
    let missing = missing(&metadata.image(), asked.unwrap_or_default());
    let refusals = if may_create && !missing.is_empty() {
        // Nobody is refused for a quota here: clients do not know that.
        missing.iter().take(AUTO_CREATED_MAX).for_each(|_| mutations.spend(config.num_partitions));
        create(controller, missing, config.auto_create_topics_wait).await
    } else {
        BTreeMap::new()
    };
    let image = metadata.image();
    let view = View { image: &image, listener, refusals: &refusals, version };
    let mut topics: Vec<_> = match asked {
        None => image.topics().map(|topic| view.topic(topic)).collect(),
        Some(asked) => each_once(asked).into_iter().map(|topic| view.asked(topic)).collect(),
    };
    if request.include_topic_authorized_operations {
        topics.iter_mut().for_each(|topic| topic.topic_authorized_operations = TOPIC_OPERATIONS);
    }
    let asks_for_operations = request.include_cluster_authorized_operations;
    let operations = if asks_for_operations { CLUSTER_OPERATIONS } else { i32::MIN };
    MetadataResponse {
        brokers: view.brokers(),
        cluster_id: Some(image.cluster_id.to_string()),
        controller_id: controller.active().0,
        topics,
        cluster_authorized_operations: operations,
        throttle_time_ms: mutations.throttle_time_ms(),
        ..MetadataResponse::default()
    }
}

/// Those asked for, in order; what is asked for twice is answered once.
fn each_once(asked: &[MetadataRequestTopic]) -> Vec<&MetadataRequestTopic> {
    let mut seen = BTreeSet::new();
    asked.iter().filter(|it| seen.insert((it.topic_id, it.name.as_deref()))).collect()
}

/// The lawful names of those asked for that no topic has.
fn missing(image: &Image, asked: &[MetadataRequestTopic]) -> Vec<String> {
    let by_name = asked.iter().filter(|topic| !topic.topic_id.is_some());
    let names = by_name.filter_map(|topic| topic.name.as_ref());
    let missing = names.filter(|name| image.topic(name).is_none() && check_name(name).is_ok());
    let mut missing: Vec<_> = missing.cloned().collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// Creates topics and waits for them; answers with what to tell of those that are not there then.
async fn create(
    controller: &ControllerHandle,
    mut names: Vec<String>,
    wait: Duration,
) -> BTreeMap<String, ErrorCode> {
    let later = names.split_off(names.len().min(AUTO_CREATED_MAX));
    let mut refusals = create_all(controller, names, wait).await;
    refusals.extend(later.into_iter().map(|name| (name, ErrorCode::LeaderNotAvailable)));
    refusals
}

async fn create_all(
    controller: &ControllerHandle,
    names: Vec<String>,
    wait: Duration,
) -> BTreeMap<String, ErrorCode> {
    match controller.ensure_topics(names.clone(), wait).await {
        Ok(ensured) => {
            let results = names.into_iter().zip(ensured);
            results.filter_map(|(name, done)| Some((name, done.err()?.code()))).collect()
        }
        // They appear behind this answer: nobody waited for them.
        Err(_) if wait.is_zero() => BTreeMap::new(),
        // The topic may appear yet: the client is to ask again.
        Err(_) => names.into_iter().map(|name| (name, ErrorCode::LeaderNotAvailable)).collect(),
    }
}

/// What clients of one listener see.
struct View<'a> {
    image: &'a Image,
    listener: &'a str,
    refusals: &'a BTreeMap<String, ErrorCode>,
    version: i16,
}

impl View<'_> {
    fn brokers(&self) -> Vec<MetadataResponseBroker> {
        let brokers = self.image.active_brokers();
        let seen = brokers.filter_map(|broker| Some((broker, broker.endpoint(self.listener)?)));
        seen.map(|(broker, endpoint)| MetadataResponseBroker {
            node_id: broker.id.0,
            host: endpoint.host.clone(),
            port: i32::from(endpoint.port),
            rack: broker.rack.clone(),
        })
        .collect()
    }

    fn asked(&self, asked: &MetadataRequestTopic) -> MetadataResponseTopic {
        // An id says more than a name: it stands for this topic, not for another of its name.
        let found = match &asked.name {
            Some(name) if !asked.topic_id.is_some() => self.image.topic(name),
            Some(_) | None => self.image.topic_by_id(asked.topic_id),
        };
        let Some(topic) = found else { return self.unknown(asked) };
        self.topic(topic)
    }

    fn unknown(&self, asked: &MetadataRequestTopic) -> MetadataResponseTopic {
        let code = match &asked.name {
            _ if asked.topic_id.is_some() => ErrorCode::UnknownTopicId,
            None => ErrorCode::InvalidRequest,
            Some(name) => match check_name(name) {
                Err(error) => error.code(),
                Ok(()) => {
                    let refusal = self.refusals.get(name).copied();
                    refusal.unwrap_or(ErrorCode::UnknownTopicOrPartition)
                }
            },
        };
        // Before version 12 there is no null to answer with.
        let name = asked.name.clone().or_else(|| (self.version < 12).then(String::new));
        let (error_code, topic_id) = (code.to_wire(), asked.topic_id);
        MetadataResponseTopic { error_code, name, topic_id, ..MetadataResponseTopic::default() }
    }

    fn topic(&self, topic: &Topic) -> MetadataResponseTopic {
        let partitions = topic.indices().zip(&topic.partitions);
        MetadataResponseTopic {
            name: Some(topic.name.to_string()),
            topic_id: topic.id,
            is_internal: topic.is_internal(),
            partitions: partitions.map(|(index, it)| self.partition(index.0, it)).collect(),
            ..MetadataResponseTopic::default()
        }
    }

    fn partition(&self, partition_index: i32, partition: &Partition) -> MetadataResponsePartition {
        let raw = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
        let is_active = |id: &BrokerId| self.image.active_brokers().any(|it| it.id == *id);
        let offline: Vec<_> =
            partition.replicas.iter().filter(|id| !is_active(id)).copied().collect();
        let leader = self.image.broker(partition.leader).filter(|it| is_active(&it.id));
        let code = match leader.map(|leader| leader.endpoint(self.listener)) {
            Some(Some(_)) => ErrorCode::None,
            Some(None) => ErrorCode::ListenerNotFound,
            None => ErrorCode::LeaderNotAvailable,
        };
        MetadataResponsePartition {
            error_code: code.to_wire(),
            partition_index,
            leader_id: leader.map_or(BrokerId::NONE, |leader| leader.id).0,
            leader_epoch: partition.leader_epoch.0,
            replica_nodes: raw(&partition.replicas),
            isr_nodes: raw(&partition.isr),
            offline_replicas: raw(&offline),
        }
    }
}
