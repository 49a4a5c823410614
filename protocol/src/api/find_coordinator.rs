//! FindCoordinator: which broker is the coordinator of a group or a transactional id.
//!
//! One key up to version 3, many from version 4 on (KIP-699). Pure.

use crate::wire;

wire! {
    /// Asks for coordinators. v4: many at once (KIP-699); v6: share groups (KIP-932).
    pub struct FindCoordinatorRequest {
        /// The group or transactional id, up to version 3.
        key: String, in ..=3;
        /// What the keys are: 0 groups, 1 transactional ids, 2 share partitions.
        key_type: i8, in 1..;
        /// The groups or transactional ids, from version 4 on.
        coordinator_keys: Vec<String>, in 4..;
    }

    /// The coordinators: one in the first fields up to version 3, a list from version 4 on.
    pub struct FindCoordinatorResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32, in 1.., ignorable;
        /// An error code of the wire; 0: success.
        error_code: i16, in ..=3;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new()), in 1..=3, ignorable;
        /// The coordinator. -1: none.
        node_id: i32, in ..=3;
        /// Where to connect to.
        host: String, in ..=3;
        /// The port there.
        port: i32, in ..=3;
        /// The coordinator of each key, from version 4 on.
        coordinators: Vec<Coordinator>, in 4..;
    }

    /// The coordinator of one key.
    pub struct Coordinator {
        /// The group or transactional id.
        key: String;
        /// The coordinator. -1: none.
        node_id: i32;
        /// Where to connect to.
        host: String;
        /// The port there.
        port: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
    }
}
