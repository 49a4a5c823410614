//! CreateTopics, DeleteTopics, CreatePartitions: to the controller and back.
//!
//! Each topic of a request has its own answer, in the request's order. When the controller itself
//! cannot answer, each topic gets its retriable code. Shell.

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::api::topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreatePartitionsRequest,
    CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
    CreateTopicsRequest, CreateTopicsResponse, DeletableTopicResult, DeleteTopicState,
    DeleteTopicsRequest, DeleteTopicsResponse,
};
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, PartitionIndex, TopicId};

use super::describe::Places;
use super::quotas::Mutations;
use crate::config::BrokerConfig;
use crate::controller::{
    ControllerHandle, CreatedTopic, DeletedTopic, MorePartitions, NewTopic, Spread, TopicError,
    TopicRef,
};
use crate::metadata::{Image, MetadataHandle};

/// A code and the words for it.
type Refusal = (ErrorCode, String);

/// Creates topics.
pub(crate) async fn create_topics(
    controller: &ControllerHandle,
    metadata: &MetadataHandle,
    config: &BrokerConfig,
    mut mutations: Mutations<'_>,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let CreateTopicsRequest { topics, timeout_ms, validate_only } = request;
    let mut parse = |topic: &CreatableTopic| {
        let parsed = new_topic(topic)?;
        if !validate_only {
            mutations.charge(&parsed.name, partition_count(&parsed.spread, config))?;
        }
        Ok(parsed)
    };
    let parsed: Vec<_> = topics.iter().map(&mut parse).collect();
    let lawful = parsed.iter().flatten().cloned().collect();
    let asked = controller.create_topics(lawful, validate_only, wait(timeout_ms)).await;
    let places = Places::new(&metadata.image(), config);
    let mut created = asked.map(Vec::into_iter);
    let mut answer = |parsed: Result<NewTopic, Refusal>| -> Result<CreatedTopic, Refusal> {
        parsed?;
        match &mut created {
            Ok(created) => created.next().expect("one answer per topic").map_err(refusal),
            Err(error) => Err((error.code(), error.to_string())),
        }
    };
    let results = topics.into_iter().zip(parsed);
    let results = results.map(|(topic, parsed)| match answer(parsed) {
        Ok(created) => creation(topic.name, &created, &places),
        Err((code, message)) => CreatableTopicResult {
            name: topic.name,
            error_code: code.to_wire(),
            error_message: Some(message),
            configs: Some(Vec::new()),
            ..CreatableTopicResult::default()
        },
    });
    let throttle_time_ms = mutations.throttle_time_ms();
    let topics = once_by(results, |it| it.name.clone());
    CreateTopicsResponse { topics, throttle_time_ms }
}

/// Deletes topics, by name or by id.
pub(crate) async fn delete_topics(
    controller: &ControllerHandle,
    image: &Image,
    mut mutations: Mutations<'_>,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let named = request.topic_names.into_iter().map(|name| {
        let name = Some(name);
        DeleteTopicState { name, topic_id: TopicId::ZERO }
    });
    let topics: Vec<_> = named.chain(request.topics).collect();
    let mut parse = |topic: &DeleteTopicState| {
        let parsed = topic_ref(topic)?;
        let found = match &parsed {
            TopicRef::Name(name) => image.topic(name),
            TopicRef::Id(id) => image.topic_by_id(*id),
        };
        if let Some(found) = found {
            mutations.charge(&found.name, found.partition_count())?;
        }
        Ok(parsed)
    };
    let parsed: Vec<_> = topics.iter().map(&mut parse).collect();
    let lawful = parsed.iter().flatten().cloned().collect();
    let asked = controller.delete_topics(lawful, wait(request.timeout_ms)).await;
    let mut deleted = asked.map(Vec::into_iter);
    let mut answer = |parsed: Result<TopicRef, Refusal>| -> Result<DeletedTopic, Refusal> {
        parsed?;
        match &mut deleted {
            Ok(deleted) => deleted.next().expect("one answer per topic").map_err(refusal),
            Err(error) => Err((error.code(), error.to_string())),
        }
    };
    let responses = topics.into_iter().zip(parsed);
    let responses = responses.map(|(topic, parsed)| match answer(parsed) {
        Ok(deleted) => DeletableTopicResult {
            name: Some(deleted.name.to_string()),
            topic_id: deleted.id,
            ..DeletableTopicResult::default()
        },
        Err((code, message)) => DeletableTopicResult {
            name: topic.name,
            topic_id: topic.topic_id,
            error_code: code.to_wire(),
            error_message: Some(message),
        },
    });
    let throttle_time_ms = mutations.throttle_time_ms();
    let responses = once_by(responses, |it| (it.name.clone(), it.topic_id));
    DeleteTopicsResponse { responses, throttle_time_ms }
}

/// Adds partitions to topics.
pub(crate) async fn create_partitions(
    controller: &ControllerHandle,
    image: &Image,
    mut mutations: Mutations<'_>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let CreatePartitionsRequest { topics, timeout_ms, validate_only } = request;
    let mut parse = |topic: &CreatePartitionsTopic| -> Result<MorePartitions, Refusal> {
        let present = image.topic(&topic.name).map_or(topic.count, |it| it.partition_count());
        if !validate_only {
            mutations.charge(&topic.name, topic.count.saturating_sub(present))?;
        }
        Ok(more_partitions(topic))
    };
    let parsed: Vec<_> = topics.iter().map(&mut parse).collect();
    let lawful = parsed.iter().flatten().cloned().collect();
    let asked = controller.create_partitions(lawful, validate_only, wait(timeout_ms)).await;
    let mut grown = asked.map(Vec::into_iter);
    let mut answer = |parsed: Result<MorePartitions, Refusal>| -> Result<(), Refusal> {
        parsed?;
        match &mut grown {
            Ok(grown) => grown.next().expect("one answer per topic").map_err(refusal),
            Err(error) => Err((error.code(), error.to_string())),
        }
    };
    let results = topics.into_iter().zip(parsed).map(|(topic, parsed)| {
        let (code, message) = answer(parsed).err().unzip();
        CreatePartitionsTopicResult {
            name: topic.name,
            error_code: code.unwrap_or(ErrorCode::None).to_wire(),
            error_message: message,
        }
    });
    let results = once_by(results, |it| it.name.clone());
    CreatePartitionsResponse { results, throttle_time_ms: mutations.throttle_time_ms() }
}

/// The first answer of each key: what a request names twice is refused once.
fn once_by<T, K: Ord>(answers: impl Iterator<Item = T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = BTreeSet::new();
    answers.filter(|it| seen.insert(key(it))).collect()
}

/// How many partitions a topic to create will have.
fn partition_count(spread: &Spread, config: &BrokerConfig) -> i32 {
    match spread {
        Spread::Counted { partition_count, .. } => partition_count.unwrap_or(config.num_partitions),
        Spread::Assigned(assigned) => i32::try_from(assigned.len()).unwrap_or(i32::MAX),
    }
}

fn refusal(error: TopicError) -> Refusal {
    (error.code(), error.to_string())
}

/// How long the client is willing to wait.
pub(super) fn wait(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

fn new_topic(topic: &CreatableTopic) -> Result<NewTopic, Refusal> {
    let CreatableTopic { name, num_partitions, replication_factor, assignments, configs } = topic;
    let is_counted = *num_partitions != -1 || *replication_factor != -1;
    let spread = if assignments.is_empty() {
        let partition_count = (*num_partitions != -1).then_some(*num_partitions);
        let replication_factor = (*replication_factor != -1).then_some(*replication_factor);
        Spread::Counted { partition_count, replication_factor }
    } else if is_counted {
        let message = format!("topic {name}: an assignment leaves partitions and replicas at -1");
        return Err((ErrorCode::InvalidRequest, message));
    } else {
        let assign = assignments
            .iter()
            .map(|it| (PartitionIndex(it.partition_index), broker_ids(&it.broker_ids)));
        Spread::Assigned(assign.collect())
    };
    let configs = configs.iter().map(|it| (it.name.clone(), it.value.clone())).collect();
    Ok(NewTopic { name: name.clone(), spread, configs })
}

fn creation(name: String, created: &CreatedTopic, places: &Places) -> CreatableTopicResult {
    let own = |name: &str| created.configs.get(name).map(String::as_str);
    let configs = places.of_topic(own).map(|setting| CreatableTopicConfigs {
        name: setting.def.name.to_owned(),
        value: setting.value(),
        read_only: false,
        config_source: setting.source(),
        is_sensitive: setting.def.is_sensitive(),
    });
    CreatableTopicResult {
        name,
        topic_id: created.id,
        error_message: None,
        num_partitions: created.partition_count,
        replication_factor: created.replication_factor,
        configs: Some(configs.collect()),
        ..CreatableTopicResult::default()
    }
}

fn topic_ref(topic: &DeleteTopicState) -> Result<TopicRef, Refusal> {
    match (&topic.name, topic.topic_id) {
        (Some(name), TopicId::ZERO) => Ok(TopicRef::Name(name.clone())),
        (None, id) if id.is_some() => Ok(TopicRef::Id(id)),
        (Some(_) | None, _) => {
            let message = "a topic is named either by name or by id".to_owned();
            Err((ErrorCode::InvalidRequest, message))
        }
    }
}

fn more_partitions(topic: &CreatePartitionsTopic) -> MorePartitions {
    let assignments = topic.assignments.as_ref();
    let assign = assignments.map(|all| all.iter().map(|it| broker_ids(&it.broker_ids)).collect());
    MorePartitions { name: topic.name.clone(), total_count: topic.count, assignments: assign }
}

fn broker_ids(raw: &[i32]) -> Vec<BrokerId> {
    raw.iter().map(|&id| BrokerId(id)).collect()
}
