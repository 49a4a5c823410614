//! x. Pure.

use bytes::Bytes;

use crate::wire;

wire! {
    /// SaslHandshakeRequest.
    pub struct SaslHandshakeRequest {
        /// Mechanism.
        mechanism: String;
    }

    /// SaslHandshakeResponse.
    pub struct SaslHandshakeResponse {
        /// ErrorCode.
        error_code: i16;
        /// Mechanisms.
        mechanisms: Vec<String>;
    }

    /// SaslAuthenticateRequest.
    pub struct SaslAuthenticateRequest {
        /// AuthBytes.
        auth_bytes: Bytes;
    }

    /// SaslAuthenticateResponse.
    pub struct SaslAuthenticateResponse {
        /// ErrorCode.
        error_code: i16;
        /// ErrorMessage.
        error_message: Option<String> = Some(String::new());
        /// AuthBytes.
        auth_bytes: Bytes;
        /// SessionLifetimeMs.
        session_lifetime_ms: i64, in 1.., ignorable;
    }
}
