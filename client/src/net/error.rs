//! Why there is no connection, or no answer; and what may have happened all the same. Pure.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::frame::FrameError;
use protocol::primitive::{DecodeError, EncodeError};
use protocol::sasl::SaslError;

use super::Endpoint;
use super::negotiation::Unsupported;
use super::tls::advice;

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// There is no connection: the call was not sent.
    #[error("{endpoint}: cannot connect: {reason}")]
    Connect {
        /// The broker.
        endpoint: Endpoint,
        /// What went wrong.
        reason: Arc<OpenError>,
    },
    /// The connection broke before the answer came: the call may have been carried out.
    #[error("{endpoint}: disconnected before {api} was answered")]
    Disconnected {
        /// The broker.
        endpoint: Endpoint,
        /// What was asked.
        api: ApiKey,
    },
    /// The deadline passed before the answer came: the call may have been carried out.
    #[error("{endpoint}: {api} was not answered in time")]
    Timeout {
        /// The broker.
        endpoint: Endpoint,
        /// What was asked.
        api: ApiKey,
    },
    /// The broker throttles this client beyond the deadline: the call was not sent. KIP-219.
    #[error("{endpoint}: throttled for longer than {api} may take")]
    Throttled {
        /// The broker.
        endpoint: Endpoint,
        /// What was asked.
        api: ApiKey,
    },
    /// The broker does not speak the API as we need it: the call was not sent.
    #[error("{endpoint}: {source}")]
    Unsupported {
        /// The broker.
        endpoint: Endpoint,
        /// Which versions there are.
        source: Unsupported,
    },
    /// The request does not fit the version that the broker speaks: the call was not sent.
    #[error("{endpoint}: {api}: {source}")]
    Encode {
        /// The broker.
        endpoint: Endpoint,
        /// What was asked.
        api: ApiKey,
        /// What does not fit.
        source: EncodeError,
    },
    /// The answer makes no sense; the connection was closed. The call was carried out, perhaps.
    #[error("{endpoint}: malformed answer to {api}: {source}")]
    Malformed {
        /// The broker.
        endpoint: Endpoint,
        /// What was asked.
        api: ApiKey,
        /// What makes no sense.
        source: DecodeError,
    },
}

impl CallError {
    /// True when the same call may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { reason, .. } => reason.is_retriable(),
            Self::Disconnected { .. }
            | Self::Timeout { .. }
            | Self::Throttled { .. }
            | Self::Malformed { .. } => true,
            Self::Unsupported { .. } | Self::Encode { .. } => false,
        }
    }

    /// True when the broker may have carried the call out.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        match self {
            Self::Disconnected { .. } | Self::Timeout { .. } | Self::Malformed { .. } => true,
            Self::Connect { .. }
            | Self::Throttled { .. }
            | Self::Unsupported { .. }
            | Self::Encode { .. } => false,
        }
    }
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The network said no.
    #[error(transparent)]
    Io(io::Error),
    /// There is no agreement on how to encrypt, or a certificate is not trusted.
    #[error("{source}: {advice}")]
    Tls {
        /// What TLS said.
        source: io::Error,
        /// What to do about it.
        advice: &'static str,
    },
    /// It took longer than allowed.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    /// What came is no answer to ApiVersions.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A request of the handshake could not be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// There is no token to authenticate with.
    #[error("no token: {0}")]
    Token(io::Error),
    /// The broker's side of the authentication makes no sense, or it cannot prove itself.
    #[error(transparent)]
    Sasl(#[from] SaslError),
    /// The broker does not believe who we say we are.
    #[error("{mechanism}: authentication failed: {words}")]
    Denied {
        /// By which mechanism.
        mechanism: &'static str,
        /// What it said.
        words: String,
    },
    /// The broker refused the handshake.
    #[error("{api}: {code}")]
    Refused {
        /// The step.
        api: ApiKey,
        /// The answer.
        code: ErrorCode,
    },
}

impl From<io::Error> for OpenError {
    fn from(source: io::Error) -> Self {
        match advice(&source) {
            Some(advice) => Self::Tls { source, advice },
            None => Self::Io(source),
        }
    }
}

impl OpenError {
    /// True when another attempt may succeed.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            // A certificate that is not trusted stays so.
            Self::Io(error) => error.kind() != io::ErrorKind::InvalidData,
            Self::Timeout(_) | Self::Decode(_) | Self::Frame(_) | Self::Token(_) => true,
            Self::Tls { .. } | Self::Encode(_) | Self::Sasl(_) | Self::Denied { .. } => false,
            // The broker said no to our name, or does not speak with us at all.
            Self::Refused { code, .. } => code.is_retriable(),
        }
    }
}
