//! Requests about the cluster and its settings: permitted or not as a whole, but for settings, whose
//! resources are topics and groups as well. Pure.

use std::collections::BTreeSet;

use protocol::api::acls::{
    AclCreationResult, CreateAclsRequest, CreateAclsResponse, DeleteAclsFilterResult,
    DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest, DescribeAclsResponse,
};
use protocol::api::brokers::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use protocol::api::configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
    DescribeConfigsRequest, DescribeConfigsResponse, DescribeConfigsResult,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, ListConfigResourcesRequest,
    ListConfigResourcesResponse,
};
use protocol::api::elections::{
    ElectLeadersRequest, ElectLeadersResponse, ElectionPartitionResult, ReplicaElectionResult,
};
use protocol::api::features::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use protocol::api::log_dirs::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
};
use protocol::api::metadata::{DescribeClusterRequest, DescribeClusterResponse};
use protocol::api::quorum::{DescribeQuorumRequest, DescribeQuorumResponse};
use protocol::api::quotas::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, AlteredQuotaEntry,
    DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};
use protocol::api::reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use protocol::api::scram::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, AlteredScramUser,
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};
use protocol::error_code::ErrorCode;

use super::{Gate, Verdict, if_permitted, serve_and_amend, split, words};
use crate::controller::CLUSTER_NAME;
use crate::metadata::AclOperation::{self, Alter, AlterConfigs, Describe, DescribeConfigs};
use crate::metadata::ResourceType;

const DENIED: ErrorCode = ErrorCode::ClusterAuthorizationFailed;

/// Of resources with settings: a topic.
const TOPIC: i8 = 2;
/// A group.
const GROUP: i8 = 32;

pub(super) fn operations(gate: &Gate, bits: i32) -> i32 {
    gate.operations(bits, ResourceType::Cluster, CLUSTER_NAME)
}

pub(super) fn describe(gate: &Gate, body: DescribeClusterRequest) -> Verdict {
    let gate = gate.quiet();
    serve_and_amend!(DescribeCluster, body, move |answer: &mut DescribeClusterResponse| {
        let bits = answer.cluster_authorized_operations;
        answer.cluster_authorized_operations = operations(&gate, bits);
    })
}

/// Why settings of a resource are denied. `None`: they are not.
fn denial(gate: &Gate, operation: AclOperation, kind: i8, name: &str) -> Option<ErrorCode> {
    let (is_permitted, code) = match kind {
        TOPIC => (gate.topic(operation, name), ErrorCode::TopicAuthorizationFailed),
        GROUP => (gate.group(operation, name), ErrorCode::GroupAuthorizationFailed),
        // Brokers, their loggers, metrics of clients, and what is unknown.
        _ => (gate.cluster(operation), DENIED),
    };
    (!is_permitted).then_some(code)
}

pub(super) fn describe_configs(gate: &Gate, mut body: DescribeConfigsRequest) -> Verdict {
    let why = |kind, name: &str| denial(gate, DescribeConfigs, kind, name);
    let (open, denied) =
        split(body.resources, |it| why(it.resource_type, &it.resource_name).is_none());
    body.resources = open;
    let refused = denied.into_iter().filter_map(|it| {
        let code = why(it.resource_type, &it.resource_name)?;
        Some(DescribeConfigsResult {
            error_code: code.to_wire(),
            error_message: words(code),
            resource_type: it.resource_type,
            resource_name: it.resource_name,
            configs: Vec::new(),
        })
    });
    let refused: Vec<_> = refused.collect();
    serve_and_amend!(DescribeConfigs, body, move |answer: &mut DescribeConfigsResponse| {
        answer.results.extend(refused);
    })
}

fn unaltered(gate: &Gate, kind: i8, name: String) -> Option<AlterConfigsResourceResponse> {
    let code = denial(gate, AlterConfigs, kind, &name)?;
    Some(AlterConfigsResourceResponse {
        error_code: code.to_wire(),
        error_message: words(code),
        resource_type: kind,
        resource_name: name,
    })
}

pub(super) fn alter_configs(gate: &Gate, mut body: AlterConfigsRequest) -> Verdict {
    let is_open = |kind, name: &str| denial(gate, AlterConfigs, kind, name).is_none();
    let (open, denied) = split(body.resources, |it| is_open(it.resource_type, &it.resource_name));
    body.resources = open;
    let refused = denied.into_iter();
    let refused: Vec<_> =
        refused.filter_map(|it| unaltered(gate, it.resource_type, it.resource_name)).collect();
    serve_and_amend!(AlterConfigs, body, move |answer: &mut AlterConfigsResponse| {
        answer.responses.extend(refused);
    })
}

pub(super) fn incremental_alter_configs(
    gate: &Gate,
    mut body: IncrementalAlterConfigsRequest,
) -> Verdict {
    let is_open = |kind, name: &str| denial(gate, AlterConfigs, kind, name).is_none();
    let (open, denied) = split(body.resources, |it| is_open(it.resource_type, &it.resource_name));
    body.resources = open;
    let refused = denied.into_iter();
    let refused: Vec<_> =
        refused.filter_map(|it| unaltered(gate, it.resource_type, it.resource_name)).collect();
    serve_and_amend!(
        IncrementalAlterConfigs,
        body,
        move |answer: &mut IncrementalAlterConfigsResponse| answer.responses.extend(refused)
    )
}

pub(super) fn list_config_resources(gate: &Gate, body: ListConfigResourcesRequest) -> Verdict {
    if_permitted(gate.cluster(DescribeConfigs), body, || ListConfigResourcesResponse {
        error_code: DENIED.to_wire(),
        ..ListConfigResourcesResponse::default()
    })
}

pub(super) fn describe_acls(gate: &Gate, body: DescribeAclsRequest) -> Verdict {
    if_permitted(gate.cluster(Describe), body, || DescribeAclsResponse {
        error_code: DENIED.to_wire(),
        error_message: words(DENIED),
        ..DescribeAclsResponse::default()
    })
}

pub(super) fn create_acls(gate: &Gate, body: CreateAclsRequest) -> Verdict {
    let count = body.creations.len();
    if_permitted(gate.cluster(Alter), body, || {
        let (error_code, error_message) = (DENIED.to_wire(), words(DENIED));
        let result = AclCreationResult { error_code, error_message };
        CreateAclsResponse { results: vec![result; count], throttle_time_ms: 0 }
    })
}

pub(super) fn delete_acls(gate: &Gate, body: DeleteAclsRequest) -> Verdict {
    let count = body.filters.len();
    if_permitted(gate.cluster(Alter), body, || {
        let (error_code, error_message) = (DENIED.to_wire(), words(DENIED));
        let matching_acls = Vec::new();
        let result = DeleteAclsFilterResult { error_code, error_message, matching_acls };
        DeleteAclsResponse { filter_results: vec![result; count], throttle_time_ms: 0 }
    })
}

pub(super) fn alter_replica_log_dirs(gate: &Gate, body: AlterReplicaLogDirsRequest) -> Verdict {
    if gate.cluster(Alter) {
        return super::serve(body);
    }
    let topics = body.dirs.into_iter().flat_map(|dir| dir.topics);
    let results = topics.map(|topic| AlterReplicaLogDirTopicResult {
        topic_name: topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|&partition_index| AlterReplicaLogDirPartitionResult {
                partition_index,
                error_code: DENIED.to_wire(),
            })
            .collect(),
    });
    let results = results.collect();
    super::refuse(AlterReplicaLogDirsResponse { results, throttle_time_ms: 0 })
}

pub(super) fn describe_log_dirs(gate: &Gate, body: DescribeLogDirsRequest) -> Verdict {
    if_permitted(gate.cluster(Describe), body, || DescribeLogDirsResponse {
        error_code: DENIED.to_wire(),
        ..DescribeLogDirsResponse::default()
    })
}

/// The first version whose answer has an error of its own. KIP-460.
const HAS_CODE: i16 = 1;

pub(super) fn elect_leaders(gate: &Gate, version: i16, body: ElectLeadersRequest) -> Verdict {
    if gate.cluster(Alter) {
        return super::serve(body);
    }
    let topics = body.topic_partitions.into_iter().flatten();
    let results = topics.map(|topic| ReplicaElectionResult {
        topic: topic.topic,
        partition_result: topic
            .partitions
            .iter()
            .map(|&partition_id| ElectionPartitionResult {
                partition_id,
                error_code: DENIED.to_wire(),
                error_message: words(DENIED),
            })
            .collect(),
    });
    super::refuse(ElectLeadersResponse {
        error_code: if version >= HAS_CODE { DENIED.to_wire() } else { 0 },
        replica_election_results: results.collect(),
        throttle_time_ms: 0,
    })
}

pub(super) fn reassign(gate: &Gate, body: AlterPartitionReassignmentsRequest) -> Verdict {
    if_permitted(gate.cluster(Alter), body, || AlterPartitionReassignmentsResponse {
        error_code: DENIED.to_wire(),
        error_message: words(DENIED),
        ..AlterPartitionReassignmentsResponse::default()
    })
}

pub(super) fn list_reassignments(gate: &Gate, body: ListPartitionReassignmentsRequest) -> Verdict {
    if_permitted(gate.cluster(Describe), body, || ListPartitionReassignmentsResponse {
        error_code: DENIED.to_wire(),
        error_message: words(DENIED),
        ..ListPartitionReassignmentsResponse::default()
    })
}

pub(super) fn describe_quotas(gate: &Gate, body: DescribeClientQuotasRequest) -> Verdict {
    if_permitted(gate.cluster(DescribeConfigs), body, || DescribeClientQuotasResponse {
        error_code: DENIED.to_wire(),
        error_message: words(DENIED),
        entries: None,
        throttle_time_ms: 0,
    })
}

pub(super) fn alter_quotas(gate: &Gate, body: AlterClientQuotasRequest) -> Verdict {
    if gate.cluster(AlterConfigs) {
        return super::serve(body);
    }
    let entries = body.entries.into_iter().map(|it| AlteredQuotaEntry {
        error_code: DENIED.to_wire(),
        error_message: words(DENIED),
        entity: it.entity,
    });
    let entries = entries.collect();
    super::refuse(AlterClientQuotasResponse { entries, throttle_time_ms: 0 })
}

pub(super) fn describe_credentials(
    gate: &Gate,
    body: DescribeUserScramCredentialsRequest,
) -> Verdict {
    if_permitted(gate.cluster(Describe), body, || DescribeUserScramCredentialsResponse {
        error_code: DENIED.to_wire(),
        error_message: words(DENIED),
        ..DescribeUserScramCredentialsResponse::default()
    })
}

pub(super) fn alter_credentials(gate: &Gate, body: AlterUserScramCredentialsRequest) -> Verdict {
    if gate.cluster(Alter) {
        return super::serve(body);
    }
    let removed = body.deletions.into_iter().map(|it| it.name);
    let users: BTreeSet<_> = removed.chain(body.upsertions.into_iter().map(|it| it.name)).collect();
    let results = users.into_iter().map(|user| AlteredScramUser {
        user,
        error_code: DENIED.to_wire(),
        error_message: words(DENIED),
    });
    let results = results.collect();
    super::refuse(AlterUserScramCredentialsResponse { results, throttle_time_ms: 0 })
}

pub(super) fn describe_quorum(gate: &Gate, body: DescribeQuorumRequest) -> Verdict {
    if_permitted(gate.cluster(Describe), body, || DescribeQuorumResponse {
        error_code: DENIED.to_wire(),
        error_message: words(DENIED),
        ..DescribeQuorumResponse::default()
    })
}

pub(super) fn update_features(gate: &Gate, body: UpdateFeaturesRequest) -> Verdict {
    if_permitted(gate.cluster(Alter), body, || UpdateFeaturesResponse {
        error_code: DENIED.to_wire(),
        error_message: words(DENIED),
        ..UpdateFeaturesResponse::default()
    })
}

pub(super) fn unregister_broker(gate: &Gate, body: UnregisterBrokerRequest) -> Verdict {
    if_permitted(gate.cluster(Alter), body, || UnregisterBrokerResponse {
        error_code: DENIED.to_wire(),
        error_message: words(DENIED),
        ..UnregisterBrokerResponse::default()
    })
}
