//! AlterPartitionReassignments and ListPartitionReassignments. KIP-455. Shell.

use protocol::api::reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment, OngoingTopicReassignment, ReassignablePartitionResponse,
    ReassignableTopicResponse,
};
use protocol::ids::{BrokerId, PartitionIndex};

use super::topics::wait;
use crate::controller::{ControllerHandle, Reassignment};
use crate::metadata::{Image, Partition};

/// AlterPartitionReassignments.
pub(super) async fn alter(
    controller: &ControllerHandle,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let allow_replication_factor_change = request.allow_replication_factor_change;
    let asked = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| Reassignment {
            topic: topic.name.clone(),
            partition: PartitionIndex(partition.partition_index),
            replicas: partition
                .replicas
                .as_ref()
                .map(|replicas| replicas.iter().copied().map(BrokerId).collect()),
        })
    });
    let asked = asked.collect();
    let wait = wait(request.timeout_ms);
    let decided = controller.reassign(asked, allow_replication_factor_change, wait).await;
    let mut decided = match decided {
        Ok(decided) => decided.into_iter(),
        Err(error) => {
            return AlterPartitionReassignmentsResponse {
                allow_replication_factor_change,
                error_code: error.code().to_wire(),
                error_message: Some(error.to_string()),
                ..AlterPartitionReassignmentsResponse::default()
            };
        }
    };
    let mut answer = |partition_index| {
        let refused = decided.next().expect("one answer per partition").err();
        ReassignablePartitionResponse {
            partition_index,
            error_code: refused.as_ref().map(|it| it.code()).unwrap_or_default().to_wire(),
            error_message: refused.map(|it| it.to_string()),
        }
    };
    let topics = request.topics.into_iter().map(|topic| ReassignableTopicResponse {
        name: topic.name,
        partitions: topic.partitions.iter().map(|it| answer(it.partition_index)).collect(),
    });
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change,
        error_message: None,
        responses: topics.collect(),
        ..AlterPartitionReassignmentsResponse::default()
    }
}

/// ListPartitionReassignments. What does not exist is not being reassigned either.
pub(super) fn list(
    image: &Image,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let mut topics = Vec::new();
    match request.topics {
        None => {
            for topic in image.topics() {
                topics.push((topic.name.to_string(), topic.indices().collect::<Vec<_>>()));
            }
        }
        Some(asked) => {
            for topic in asked {
                let indices = topic.partition_indexes.into_iter().map(PartitionIndex);
                topics.push((topic.name, indices.collect()));
            }
        }
    }
    let topics = topics.into_iter().map(|(name, indices)| {
        let found = indices.into_iter().filter_map(|index| {
            let partition = image.partition(&name, index).filter(|it| is_ongoing(it))?;
            Some(ongoing(index, partition))
        });
        OngoingTopicReassignment { partitions: found.collect(), name }
    });
    ListPartitionReassignmentsResponse {
        error_message: None,
        topics: topics.filter(|topic| !topic.partitions.is_empty()).collect(),
        ..ListPartitionReassignmentsResponse::default()
    }
}

fn is_ongoing(partition: &Partition) -> bool {
    !partition.adding_replicas.is_empty() || !partition.removing_replicas.is_empty()
}

fn ongoing(index: PartitionIndex, partition: &Partition) -> OngoingPartitionReassignment {
    let raw = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    OngoingPartitionReassignment {
        partition_index: index.0,
        replicas: raw(&partition.replicas),
        adding_replicas: raw(&partition.adding_replicas),
        removing_replicas: raw(&partition.removing_replicas),
    }
}
