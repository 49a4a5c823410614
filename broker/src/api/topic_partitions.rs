//! DescribeTopicPartitions: topics and their partitions, page by page, from one Image.
//!
//! Topics come in the order of their names, each of them once; a page ends when it has as many
//! partitions as the caller or `max.request.partition.size.limit` allows, and names the partition
//! that it would have gone on with. A cursor at a topic that is gone goes on with the next. Of what
//! the caller may not know there is nothing on any page, nor does a cursor name it. KIP-966. Pure.

use std::collections::BTreeSet;

use protocol::api::topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
    TopicPartitionCursor,
};
use protocol::error_code::ErrorCode;
use protocol::ids::BrokerId;

use super::cluster::TOPIC_OPERATIONS;
use crate::controller::check_name;
use crate::metadata::{Image, Partition, Topic, is_internal};

/// Answers a request that came in by `listener`, with `partitions_max` partitions at most, of the
/// topics that its sender `sees`.
pub(super) fn describe(
    image: &Image,
    listener: &str,
    partitions_max: usize,
    sees: impl Fn(&str) -> bool,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let names_nothing = request.cursor.as_ref().is_some_and(|it| it.topic_name.is_empty());
    let cursor = request.cursor.unwrap_or_default();
    let asked: Vec<_> = request.topics.into_iter().map(|topic| topic.name).collect();
    let is_lawful = cursor.partition_index >= 0
        && !names_nothing
        && (asked.is_empty() || cursor.topic_name.is_empty() || asked.contains(&cursor.topic_name));
    if !is_lawful {
        let refused = asked.into_iter().map(|name| DescribeTopicPartitionsResponseTopic {
            topic_authorized_operations: i32::MIN,
            ..refused(name, ErrorCode::InvalidRequest)
        });
        return DescribeTopicPartitionsResponse {
            topics: refused.collect(),
            ..DescribeTopicPartitionsResponse::default()
        };
    }
    let all = asked.is_empty();
    let names: BTreeSet<&str> = if all {
        image.topics().map(|topic| &*topic.name).collect()
    } else {
        asked.iter().map(String::as_str).collect()
    };
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut room = limit.min(partitions_max).max(1);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.range(cursor.topic_name.as_str()..).filter(|name| sees(name)) {
        let at_cursor = *name == cursor.topic_name;
        let from = if at_cursor { cursor.partition_index } else { 0 };
        if room == 0 {
            response.next_cursor = Some(place(name, 0));
            break;
        }
        let Some(topic) = image.topic(name) else {
            let unknown = ErrorCode::UnknownTopicOrPartition;
            let code = check_name(name).map_or_else(|error| error.code(), |()| unknown);
            response.topics.push(refused((*name).to_owned(), code));
            continue;
        };
        let described = described(image, listener, topic, from, room);
        let count = described.partitions.len();
        room -= count;
        let next = from.saturating_add(i32::try_from(count).expect("a page is small"));
        response.topics.push(described);
        if next < topic.partition_count() {
            response.next_cursor = Some(place(name, next));
            break;
        }
    }
    response
}

fn place(name: &str, partition_index: i32) -> TopicPartitionCursor {
    TopicPartitionCursor { topic_name: name.to_owned(), partition_index }
}

fn refused(name: String, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: code.to_wire(),
        is_internal: is_internal(&name),
        name: Some(name),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

/// At most `room` partitions of `topic`, from the one of index `from` on.
fn described(
    image: &Image,
    listener: &str,
    topic: &Topic,
    from: i32,
    room: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = topic.indices().zip(&topic.partitions);
    let page = partitions.skip_while(|(index, _)| index.0 < from).take(room);
    DescribeTopicPartitionsResponseTopic {
        name: Some(topic.name.to_string()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: page.map(|(index, it)| partition(image, listener, index.0, it)).collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn partition(
    image: &Image,
    listener: &str,
    partition_index: i32,
    partition: &Partition,
) -> DescribeTopicPartitionsResponsePartition {
    let raw = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    let is_reached = |id: &BrokerId| {
        let mut active = image.active_brokers();
        active.any(|broker| broker.id == *id && broker.endpoint(listener).is_some())
    };
    let is_led = is_reached(&partition.leader);
    let offline = partition.replicas.iter().filter(|id| !is_reached(id)).map(|id| id.0).collect();
    DescribeTopicPartitionsResponsePartition {
        partition_index,
        leader_id: if is_led { partition.leader } else { BrokerId::NONE }.0,
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: raw(&partition.replicas),
        isr_nodes: raw(&partition.isr),
        // None is kept: a replica that is out of sync never leads but by an unclean election.
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: offline,
        ..DescribeTopicPartitionsResponsePartition::default()
    }
}
