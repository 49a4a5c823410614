//! SaslHandshake and SaslAuthenticate: a client proves who it is.
//!
//! The handshake names a mechanism; its messages then ride in SaslAuthenticate from handshake
//! version 1 on, and as bare frames before. Pure.

use bytes::Bytes;

use crate::wire;

wire! {
    /// Chooses a mechanism.
    pub struct SaslHandshakeRequest {
        /// The mechanism, as `SCRAM-SHA-256`.
        mechanism: String;
    }

    /// Accepts the mechanism, or lists those there are.
    pub struct SaslHandshakeResponse {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The mechanisms there are.
        mechanisms: Vec<String>;
    }

    /// A step of the mechanism, from the client.
    pub struct SaslAuthenticateRequest {
        /// The mechanism's message.
        auth_bytes: Bytes;
    }

    /// A step of the mechanism, from the broker. v1: session lifetime (KIP-368).
    pub struct SaslAuthenticateResponse {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
        /// The mechanism's message.
        auth_bytes: Bytes;
        /// How long until the client must authenticate anew, in milliseconds. 0: never.
        session_lifetime_ms: i64, in 1.., ignorable;
    }
}
