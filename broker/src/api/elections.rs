//! ElectLeaders: to the controller and back. KIP-460. Shell.

use protocol::api::elections::{
    ElectLeadersRequest, ElectLeadersResponse, ElectionPartitionResult, ReplicaElectionResult,
};
use protocol::error_code::ErrorCode;
use protocol::ids::PartitionIndex;

use super::topics::wait;
use crate::controller::{ControllerHandle, ElectedTopic, Election, ElectionTopic};

/// The numbers of the elections on the wire.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub(super) async fn elect_leaders(
    controller: &ControllerHandle,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let ElectLeadersRequest { election_type, topic_partitions, timeout_ms } = request;
    let asked: Option<Vec<ElectionTopic>> = topic_partitions.map(|topics| {
        let asked = topics.into_iter().map(|topic| ElectionTopic {
            name: topic.topic.into(),
            partitions: topic.partitions.into_iter().map(PartitionIndex).collect(),
        });
        asked.collect()
    });
    let election = match election_type {
        PREFERRED => Election::Preferred,
        UNCLEAN => Election::Unclean,
        _ => return refused(asked, ErrorCode::InvalidRequest, "the election type is not known"),
    };
    match controller.elect_leaders(election, asked.clone(), wait(timeout_ms)).await {
        Ok(elected) => ElectLeadersResponse {
            replica_election_results: elected.into_iter().map(result).collect(),
            ..ElectLeadersResponse::default()
        },
        Err(error) => refused(asked, error.code(), &error.to_string()),
    }
}

fn result(elected: ElectedTopic) -> ReplicaElectionResult {
    let partitions = elected.partitions.into_iter().map(|(index, done)| ElectionPartitionResult {
        partition_id: index.0,
        error_code: done.err().map_or(ErrorCode::None, |error| error.code()).to_wire(),
        error_message: done.err().map(|error| error.to_string()),
    });
    ReplicaElectionResult {
        topic: elected.name.to_string(),
        partition_result: partitions.collect(),
    }
}

/// Version 0 has no place for the code but each partition.
fn refused(
    asked: Option<Vec<ElectionTopic>>,
    code: ErrorCode,
    message: &str,
) -> ElectLeadersResponse {
    let error_code = code.to_wire();
    let results = asked.unwrap_or_default().into_iter().map(|topic| ReplicaElectionResult {
        topic: topic.name.to_string(),
        partition_result: topic
            .partitions
            .into_iter()
            .map(|index| ElectionPartitionResult {
                partition_id: index.0,
                error_code,
                error_message: Some(message.to_owned()),
            })
            .collect(),
    });
    ElectLeadersResponse {
        error_code,
        replica_election_results: results.collect(),
        ..ElectLeadersResponse::default()
    }
}
