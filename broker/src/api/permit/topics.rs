//! Requests about topics: each topic is permitted or not. Pure.

use protocol::api::metadata::{MetadataRequest, MetadataResponse, MetadataResponseTopic};
use protocol::api::offsets::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult, EpochEndOffset, ListOffsetsPartitionResponse, ListOffsetsRequest,
    ListOffsetsResponse, ListOffsetsTopicResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use protocol::api::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use protocol::api::topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponseTopic,
};
use protocol::api::topics::{
    CreatableTopicResult, CreatePartitionsRequest, CreatePartitionsResponse,
    CreatePartitionsTopicResult, CreateTopicsRequest, CreateTopicsResponse, DeletableTopicResult,
    DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use protocol::api::transactions::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeProducersResponsePartition,
    DescribeProducersResponseTopic,
};
use protocol::error_code::ErrorCode;
use protocol::ids::TopicId;

use super::{Gate, Verdict, refuse, serve, serve_and_amend, split, words};
use crate::metadata::AclOperation::{
    Alter, Create, Delete, Describe, DescribeConfigs, Read, Write,
};
use crate::metadata::ResourceType;

const DENIED: ErrorCode = ErrorCode::TopicAuthorizationFailed;

pub(super) fn produce(gate: &Gate, mut body: ProduceRequest) -> Verdict {
    let is_fenced_off = body.transactional_id.as_ref().is_some_and(|id| !gate.txn(Write, id));
    let code = if is_fenced_off { ErrorCode::TransactionalIdAuthorizationFailed } else { DENIED };
    let may = |it: &TopicProduceData| !is_fenced_off && gate.either(Write, it.topic_id, &it.name);
    let (open, denied) = split(body.topic_data, may);
    if denied.is_empty() {
        body.topic_data = open;
        return serve(body);
    }
    if body.acks == 0 {
        return Verdict::Close("a topic may not be written, and no answer is expected");
    }
    let refused = denied.into_iter().map(move |it| TopicProduceResponse {
        name: it.name,
        topic_id: it.topic_id,
        partition_responses: it
            .partition_data
            .iter()
            .map(|partition| PartitionProduceResponse {
                index: partition.index,
                error_code: code.to_wire(),
                base_offset: -1,
                error_message: words(code),
                ..PartitionProduceResponse::default()
            })
            .collect(),
    });
    let refused: Vec<_> = refused.collect();
    if open.is_empty() {
        return refuse(ProduceResponse { responses: refused, ..ProduceResponse::default() });
    }
    body.topic_data = open;
    serve_and_amend!(Produce, body, move |answer: &mut ProduceResponse| {
        answer.responses.extend(refused);
    })
}

pub(super) fn list_offsets(gate: &Gate, mut body: ListOffsetsRequest) -> Verdict {
    let (open, denied) = split(body.topics, |it| gate.topic(Describe, &it.name));
    body.topics = open;
    let refused = denied.into_iter().map(|it| ListOffsetsTopicResponse {
        name: it.name,
        partitions: it
            .partitions
            .iter()
            .map(|partition| ListOffsetsPartitionResponse {
                partition_index: partition.partition_index,
                error_code: DENIED.to_wire(),
                ..ListOffsetsPartitionResponse::default()
            })
            .collect(),
    });
    let refused: Vec<_> = refused.collect();
    serve_and_amend!(ListOffsets, body, move |answer: &mut ListOffsetsResponse| {
        answer.topics.extend(refused);
    })
}

pub(super) fn offset_for_leader_epoch(
    gate: &Gate,
    mut body: OffsetForLeaderEpochRequest,
) -> Verdict {
    let (open, denied) = split(body.topics, |it| gate.topic(Describe, &it.topic));
    body.topics = open;
    let refused = denied.into_iter().map(|it| OffsetForLeaderTopicResult {
        topic: it.topic,
        partitions: it
            .partitions
            .iter()
            .map(|partition| EpochEndOffset {
                error_code: DENIED.to_wire(),
                partition: partition.partition,
                ..EpochEndOffset::default()
            })
            .collect(),
    });
    let refused: Vec<_> = refused.collect();
    serve_and_amend!(
        OffsetForLeaderEpoch,
        body,
        move |answer: &mut OffsetForLeaderEpochResponse| answer.topics.extend(refused)
    )
}

pub(super) fn delete_records(gate: &Gate, mut body: DeleteRecordsRequest) -> Verdict {
    let (open, denied) = split(body.topics, |it| gate.topic(Delete, &it.name));
    body.topics = open;
    let refused = denied.into_iter().map(|it| DeleteRecordsTopicResult {
        name: it.name,
        partitions: it
            .partitions
            .iter()
            .map(|partition| DeleteRecordsPartitionResult {
                partition_index: partition.partition_index,
                low_watermark: -1,
                error_code: DENIED.to_wire(),
            })
            .collect(),
    });
    let refused: Vec<_> = refused.collect();
    serve_and_amend!(DeleteRecords, body, move |answer: &mut DeleteRecordsResponse| {
        answer.topics.extend(refused);
    })
}

/// What they may not see is left out where all are asked for. Where it is named it is said to be
/// denied, whether it exists or not; nor does asking create what they may not create. A topic that
/// has both an id and a name is found by its id, so that is what is judged; and whatever was found,
/// its name is judged again.
pub(super) fn metadata(gate: &Gate, version: i16, mut body: MetadataRequest) -> Verdict {
    let asks_for_all = body.topics.as_ref().is_none_or(|it| version == 0 && it.is_empty());
    let mut refused = Vec::new();
    if let Some(topics) = body.topics.take_if(|_| !asks_for_all) {
        let may_create = body.allow_auto_topic_creation && gate.quiet().cluster(Create);
        let is_open = |name: Option<&str>, id: TopicId| match name {
            _ if id.is_some() => gate.topic_id(Describe, id),
            None => true,
            Some(name) if !gate.topic(Describe, name) => false,
            Some(name) => {
                let is_there = gate.image.topic(name).is_some();
                let is_kept_out = !is_there && body.allow_auto_topic_creation && !may_create;
                !is_kept_out || gate.topic(Create, name)
            }
        };
        let (open, denied) = split(topics, |it| is_open(it.name.as_deref(), it.topic_id));
        refused.extend(denied.into_iter().map(|it| unseen(version, it.name, it.topic_id)));
        // Of version 0 an empty list asks for all: nothing of it is told then.
        body.topics = Some(open);
    }
    let is_emptied = !asks_for_all && body.topics.as_ref().is_some_and(Vec::is_empty);
    let gate = gate.quiet();
    serve_and_amend!(Metadata, body, move |answer: &mut MetadataResponse| {
        if is_emptied {
            answer.topics.clear();
        }
        let may_see = |it: &MetadataResponseTopic| {
            it.name.as_ref().is_none_or(|name| gate.topic(Describe, name))
        };
        if asks_for_all {
            answer.topics.retain(may_see);
        }
        for topic in answer.topics.iter_mut().filter(|it| it.error_code == 0 && !may_see(it)) {
            *topic = unseen(version, None, topic.topic_id);
        }
        for topic in &mut answer.topics {
            let name = topic.name.clone().unwrap_or_default();
            let bits = topic.topic_authorized_operations;
            topic.topic_authorized_operations = gate.operations(bits, ResourceType::Topic, &name);
        }
        let bits = answer.cluster_authorized_operations;
        answer.cluster_authorized_operations = super::cluster::operations(&gate, bits);
        answer.topics.extend(refused);
    })
}

/// What is told of a topic that they may not see: no more than they said themselves.
fn unseen(version: i16, name: Option<String>, topic_id: TopicId) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: DENIED.to_wire(),
        // Before version 12 there is no null to answer with.
        name: name.or_else(|| (version < 12).then(String::new)),
        topic_id,
        ..MetadataResponseTopic::default()
    }
}

/// Where all are asked for, they are left out before pages are made of them: see [`Gate::sees`].
pub(super) fn describe_partitions(
    gate: &Gate,
    mut body: DescribeTopicPartitionsRequest,
) -> Verdict {
    let asks_for_all = body.topics.is_empty();
    let (open, denied) = split(body.topics, |it| gate.topic(Describe, &it.name));
    let is_emptied = !asks_for_all && open.is_empty();
    body.topics = open;
    let refused = denied.into_iter().map(|it| DescribeTopicPartitionsResponseTopic {
        error_code: DENIED.to_wire(),
        name: Some(it.name),
        ..DescribeTopicPartitionsResponseTopic::default()
    });
    let refused: Vec<_> = refused.collect();
    if is_emptied {
        let (topics, next_cursor) = (refused, None);
        return refuse(DescribeTopicPartitionsResponse {
            topics,
            next_cursor,
            throttle_time_ms: 0,
        });
    }
    let gate = gate.quiet();
    serve_and_amend!(
        DescribeTopicPartitions,
        body,
        move |answer: &mut DescribeTopicPartitionsResponse| {
            let name_of =
                |it: &DescribeTopicPartitionsResponseTopic| it.name.clone().unwrap_or_default();
            answer.topics.retain(|it| gate.topic(Describe, &name_of(it)));
            for topic in &mut answer.topics {
                let name = name_of(topic);
                let bits = topic.topic_authorized_operations;
                topic.topic_authorized_operations =
                    gate.operations(bits, ResourceType::Topic, &name);
            }
            answer.topics.extend(refused);
        }
    )
}

pub(super) fn create(gate: &Gate, mut body: CreateTopicsRequest) -> Verdict {
    let may_create = gate.quiet().cluster(Create);
    let (open, denied) = split(body.topics, |it| may_create || gate.topic(Create, &it.name));
    body.topics = open;
    let refused = denied.into_iter().map(|it| CreatableTopicResult {
        name: it.name,
        error_code: DENIED.to_wire(),
        error_message: words(DENIED),
        ..CreatableTopicResult::default()
    });
    let refused: Vec<_> = refused.collect();
    let gate = gate.quiet();
    serve_and_amend!(CreateTopics, body, move |answer: &mut CreateTopicsResponse| {
        let hidden = |it: &&mut CreatableTopicResult| {
            it.error_code == 0 && !gate.topic(DescribeConfigs, &it.name)
        };
        for topic in answer.topics.iter_mut().filter(hidden) {
            topic.topic_config_error_code = DENIED.to_wire();
            topic.num_partitions = -1;
            topic.replication_factor = -1;
            topic.configs = Some(Vec::new());
        }
        answer.topics.extend(refused);
    })
}

pub(super) fn delete(gate: &Gate, mut body: DeleteTopicsRequest) -> Verdict {
    let may = |it: &DeleteTopicState| match &it.name {
        Some(name) => gate.topic(Delete, name),
        None => gate.topic_id(Delete, it.topic_id),
    };
    let (open, denied) = split(body.topics, may);
    let (open_names, denied_names) = split(body.topic_names, |it| gate.topic(Delete, it));
    (body.topics, body.topic_names) = (open, open_names);
    let named = denied_names.into_iter().map(|name| (Some(name), TopicId::ZERO));
    let denied = named.chain(denied.into_iter().map(|it| (it.name, it.topic_id)));
    let refused = denied.map(|(name, topic_id)| DeletableTopicResult {
        name,
        topic_id,
        error_code: DENIED.to_wire(),
        error_message: words(DENIED),
    });
    let refused: Vec<_> = refused.collect();
    serve_and_amend!(DeleteTopics, body, move |answer: &mut DeleteTopicsResponse| {
        answer.responses.extend(refused);
    })
}

pub(super) fn create_partitions(gate: &Gate, mut body: CreatePartitionsRequest) -> Verdict {
    let (open, denied) = split(body.topics, |it| gate.topic(Alter, &it.name));
    body.topics = open;
    let refused = denied.into_iter().map(|it| CreatePartitionsTopicResult {
        name: it.name,
        error_code: DENIED.to_wire(),
        error_message: words(DENIED),
    });
    let refused: Vec<_> = refused.collect();
    serve_and_amend!(CreatePartitions, body, move |answer: &mut CreatePartitionsResponse| {
        answer.results.extend(refused);
    })
}

pub(super) fn describe_producers(gate: &Gate, mut body: DescribeProducersRequest) -> Verdict {
    let (open, denied) = split(body.topics, |it| gate.topic(Read, &it.name));
    body.topics = open;
    let refused = denied.into_iter().map(|it| DescribeProducersResponseTopic {
        name: it.name,
        partitions: it
            .partition_indexes
            .iter()
            .map(|&partition_index| DescribeProducersResponsePartition {
                partition_index,
                error_code: DENIED.to_wire(),
                error_message: words(DENIED),
                ..DescribeProducersResponsePartition::default()
            })
            .collect(),
    });
    let refused: Vec<_> = refused.collect();
    serve_and_amend!(DescribeProducers, body, move |answer: &mut DescribeProducersResponse| {
        answer.topics.extend(refused);
    })
}
