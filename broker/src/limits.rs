//! Every bound on a queue, cache, loop or buffer that is not a setting, with its arithmetic.
//!
//! Each constant says what happens when it is reached. Pure.

/// Requests that wait for the controller. More are answered with a retriable error at once.
pub const CONTROLLER_REQUESTS_MAX: usize = 256;

/// Changes of metadata that wait for one subscriber. When it is that far behind, the metadata log
/// waits for it.
pub const METADATA_UPDATES_MAX: usize = 64;

/// Subscribers of metadata that wait to be welcomed. More wait for their turn.
pub const METADATA_SUBSCRIBERS_WAITING_MAX: usize = 16;
