//! Every bound on a queue, cache, loop or buffer that is not a setting, with its arithmetic.
//!
//! Each constant says what happens when it is reached. Pure.

/// Requests that wait for the controller. More are answered with a retriable error at once.
pub const CONTROLLER_REQUESTS_MAX: usize = 256;
