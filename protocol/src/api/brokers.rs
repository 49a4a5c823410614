//! UnregisterBroker: the controller forgets a broker that is gone for good. KIP-631. Pure.

use crate::wire;

wire! {
    /// Asks to forget a broker.
    pub struct UnregisterBrokerRequest {
        /// The broker.
        broker_id: i32;
    }

    /// Whether it is forgotten.
    pub struct UnregisterBrokerResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
    }
}
