//! UnregisterBroker: to the controller and back. KIP-631. Shell.

use protocol::api::brokers::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use protocol::error_code::ErrorCode;
use protocol::ids::BrokerId;

use crate::controller::ControllerHandle;

pub(super) async fn unregister(
    controller: &ControllerHandle,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let (code, error_message) =
        match controller.unregister_broker(BrokerId(request.broker_id)).await {
            Ok(Ok(())) => (ErrorCode::None, None),
            Ok(Err(error)) => (error.code(), Some(error.to_string())),
            Err(error) => (error.code(), Some(error.to_string())),
        };
    UnregisterBrokerResponse { throttle_time_ms: 0, error_code: code.to_wire(), error_message }
}
