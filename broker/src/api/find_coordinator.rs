//! FindCoordinator: who answers for a group or a transactional id. Shell.

use std::sync::Arc;

use futures::future::BoxFuture;
use protocol::api::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use protocol::error_code::ErrorCode;
use protocol::ids::BrokerId;

use super::serving::Context;
use crate::coordinator::route::partition_of;
use crate::metadata::Image;
use crate::{group, txn};

/// The first version that asks for several keys. KIP-699.
const SEVERAL: i16 = 4;
/// The key names a group.
const GROUP: i8 = 0;
/// The key names a transactional id.
const TRANSACTION: i8 = 1;

/// Creates an internal topic that does not exist yet; then gives the Image that has it.
pub(crate) type Ensure =
    Arc<dyn Fn(&'static str) -> BoxFuture<'static, Result<Arc<Image>, ErrorCode>> + Send + Sync>;

/// FindCoordinator.
pub(crate) async fn find(
    image: &Arc<Image>,
    ensure: &Ensure,
    context: &Context,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    if SEVERAL <= context.version {
        let mut coordinators = Vec::new();
        for key in request.coordinator_keys {
            coordinators.push(find_one(image, ensure, context, request.key_type, key).await);
        }
        return FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() };
    }
    let found = find_one(image, ensure, context, request.key_type, request.key).await;
    let is_found = found.error_code == ErrorCode::None.to_wire();
    FindCoordinatorResponse {
        throttle_time_ms: 0,
        error_code: found.error_code,
        // What Kafka says up to version 3 where nothing is wrong.
        error_message: if is_found { Some("NONE".to_owned()) } else { found.error_message },
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        coordinators: Vec::new(),
    }
}

async fn find_one(
    image: &Arc<Image>,
    ensure: &Ensure,
    context: &Context,
    key_type: i8,
    key: String,
) -> Coordinator {
    let refuse = |key: &str, code: ErrorCode, message: String| Coordinator {
        key: key.to_owned(),
        node_id: -1,
        host: String::new(),
        port: -1,
        error_code: code.to_wire(),
        error_message: Some(message),
    };
    let topic = match key_type {
        GROUP => group::TOPIC,
        TRANSACTION => txn::TOPIC,
        other => {
            let message = format!("there are no coordinators of key type {other}");
            return refuse(&key, ErrorCode::InvalidRequest, message);
        }
    };
    let image = match image.topic(topic) {
        Some(_) => Arc::clone(image),
        None => match ensure(topic).await {
            Ok(image) => image,
            Err(code) => {
                tracing::warn!(topic, %code, "internal topic not created");
                let code = ErrorCode::CoordinatorNotAvailable;
                return refuse(&key, code, format!("topic {topic} is being created"));
            }
        },
    };
    let leader = leader_of(&image, topic, &key);
    let endpoint =
        leader.and_then(|id| image.broker(id)?.endpoint(&context.session.listener).cloned());
    let (Some(leader), Some(endpoint)) = (leader, endpoint) else {
        let message = format!("the coordinator of {key} has no leader yet");
        return refuse(&key, ErrorCode::CoordinatorNotAvailable, message);
    };
    Coordinator {
        key,
        node_id: leader.0,
        host: endpoint.host,
        port: i32::from(endpoint.port),
        error_code: ErrorCode::None.to_wire(),
        error_message: Some(String::new()),
    }
}

fn leader_of(image: &Image, topic: &str, key: &str) -> Option<BrokerId> {
    let found = image.topic(topic)?;
    let index = partition_of(key, found.partition_count());
    found.partition(index).map(|it| it.leader).filter(|it| 0 <= it.0)
}
