//! Translation: a request of the wire, the room that knows, a response of the wire. Shell.

#[cfg(test)]
mod admin_tests;
pub(crate) mod cluster;
pub(crate) mod configs;
pub(crate) mod fetch_session;
pub(crate) mod metadata;
pub(crate) mod serving;
pub(crate) mod topics;
