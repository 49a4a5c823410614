//! DescribeCluster, and what callers may do while there is nothing they may not.
//!
//! Fenced brokers are left out unless asked for. Controllers have no listeners of their own here:
//! whoever asks for them is told so. KIP-700, KIP-919, KIP-1073. Pure.

use protocol::api::metadata::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use protocol::error_code::ErrorCode;
use protocol::ids::BrokerId;

use crate::metadata::Image;

/// Every operation on a cluster, as a bit set by Kafka's numbers: create 5, alter 7, describe 8,
/// cluster action 9, describe configs 10, alter configs 11, idempotent write 12. KIP-430.
pub(crate) const CLUSTER_OPERATIONS: i32 =
    1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// Every operation on a topic: read 3, write 4, create 5, delete 6, alter 7, describe 8, describe
/// configs 10, alter configs 11.
pub(crate) const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// Every operation on a group: read 3, delete 6, describe 8, describe configs 10, alter configs 11.
pub(crate) const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers a request that came in by `listener`.
pub(crate) fn describe_cluster(
    image: &Image,
    controller: BrokerId,
    listener: &str,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let endpoint_type = request.endpoint_type;
    if endpoint_type != BROKERS {
        let is_known = endpoint_type == CONTROLLERS;
        let mismatched = ErrorCode::MismatchedEndpointType;
        let code = if is_known { mismatched } else { ErrorCode::UnsupportedEndpointType };
        return DescribeClusterResponse {
            error_code: code.to_wire(),
            error_message: Some(format!("listener {listener} is one of brokers")),
            ..DescribeClusterResponse::default()
        };
    }
    let cluster_id = image.cluster_id.to_string();
    let brokers = image.brokers().filter(|it| request.include_fenced_brokers || !it.is_fenced);
    let seen = brokers.filter_map(|broker| Some((broker, broker.endpoint(listener)?)));
    let brokers = seen.map(|(broker, endpoint)| DescribeClusterBroker {
        broker_id: broker.id.0,
        host: endpoint.host.clone(),
        port: i32::from(endpoint.port),
        rack: broker.rack.clone(),
        is_fenced: broker.is_fenced,
    });
    let asks_for_operations = request.include_cluster_authorized_operations;
    let operations = if asks_for_operations { CLUSTER_OPERATIONS } else { i32::MIN };
    DescribeClusterResponse {
        endpoint_type,
        cluster_id,
        controller_id: controller.0,
        brokers: brokers.collect(),
        cluster_authorized_operations: operations,
        ..DescribeClusterResponse::default()
    }
}
