//! SaslHandshake and SaslAuthenticate where nobody is asked who they are.
//!
//! Where clients authenticate, their connection answers; what comes here is from a client whose
//! listener does not ask. It is told so, as Kafka does, and the connection stays. Pure.

use protocol::api::sasl::{SaslAuthenticateResponse, SaslHandshakeResponse};
use protocol::error_code::ErrorCode;

/// The answer to a handshake that nobody asked for.
pub(crate) fn handshake() -> SaslHandshakeResponse {
    let error_code = ErrorCode::IllegalSaslState.to_wire();
    SaslHandshakeResponse { error_code, ..SaslHandshakeResponse::default() }
}

/// The answer to a mechanism's message that nobody asked for.
pub(crate) fn authenticate() -> SaslAuthenticateResponse {
    SaslAuthenticateResponse {
        error_code: ErrorCode::IllegalSaslState.to_wire(),
        error_message: Some("this listener does not ask for authentication".to_owned()),
        ..SaslAuthenticateResponse::default()
    }
}
