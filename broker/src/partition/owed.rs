//! What those are told who wait for a position of the log. Pure.

use protocol::ids::Offset;

use super::core::{Answer, Effect, Token};
use super::{AppendError, Appended};

/// What an appender is told once its records are as safe as it asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owed {
    Append { token: Token, appended: Appended },
    Marker { token: Token, end: Offset },
}

impl Owed {
    /// A marker that was refused at once.
    pub(super) fn marker_refused(token: Token, error: AppendError) -> Effect {
        Effect::Reply { token, answer: Answer::Marker(Err(error)) }
    }

    pub(super) fn token(self) -> Token {
        match self {
            Self::Append { token, .. } | Self::Marker { token, .. } => token,
        }
    }

    pub(super) fn fulfilled(self) -> Effect {
        match self {
            Self::Append { token, appended } => {
                Effect::Reply { token, answer: Answer::Append(Ok(appended)) }
            }
            Self::Marker { token, end } => Effect::Reply { token, answer: Answer::Marker(Ok(end)) },
        }
    }

    pub(super) fn refused(self, error: AppendError) -> Effect {
        match self {
            Self::Append { token, .. } => {
                Effect::Reply { token, answer: Answer::Append(Err(error)) }
            }
            Self::Marker { token, .. } => {
                Effect::Reply { token, answer: Answer::Marker(Err(error)) }
            }
        }
    }
}
