//! x. Pure.

use crate::wire;

wire! {
    /// FindCoordinatorRequest.
    pub struct FindCoordinatorRequest {
        /// Key.
        key: String, in ..=3;
        /// KeyType.
        key_type: i8, in 1..;
        /// CoordinatorKeys.
        coordinator_keys: Vec<String>, in 4..;
    }

    /// FindCoordinatorResponse.
    pub struct FindCoordinatorResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32, in 1.., ignorable;
        /// ErrorCode.
        error_code: i16, in ..=3;
        /// ErrorMessage.
        error_message: Option<String> = Some(String::new()), in 1..=3, ignorable;
        /// NodeId.
        node_id: i32, in ..=3;
        /// Host.
        host: String, in ..=3;
        /// Port.
        port: i32, in ..=3;
        /// Coordinators.
        coordinators: Vec<Coordinator>, in 4..;
    }

    /// Coordinator.
    pub struct Coordinator {
        /// Key.
        key: String;
        /// NodeId.
        node_id: i32;
        /// Host.
        host: String;
        /// Port.
        port: i32;
        /// ErrorCode.
        error_code: i16;
        /// ErrorMessage.
        error_message: Option<String> = Some(String::new());
    }
}
