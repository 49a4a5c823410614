//! Translation: a request of the wire, the room that knows, a response of the wire. Shell.

pub(crate) mod fetch_session;
pub(crate) mod serving;
