//! What is asked, by what it is about; in an order, as answers depend on what was done before.
//!
//! Shell.

#![expect(clippy::too_many_lines, reason = "a script is read from its top to its end")]

mod cluster;
mod consumers;
mod groups;
mod offsets;
mod reading;
mod records;
mod security;
mod settings;
mod topics;
mod transactions;
mod versions;

use super::script::Script;

/// Asks all of it.
pub(super) fn all(script: &mut Script) -> anyhow::Result<()> {
    versions::handshake(script)?;
    topics::creation(script)?;
    topics::description(script)?;
    topics::growth(script)?;
    topics::deletion(script)?;
    versions::unknown(script)?;
    records::producing(script)?;
    reading::fetching(script)?;
    reading::looking(script)?;
    groups::finding(script)?;
    groups::classic(script)?;
    offsets::offsets(script)?;
    consumers::consumers(script)?;
    transactions::initialising(script)?;
    transactions::explicit(script)?;
    transactions::implicit(script)?;
    reading::directories(script)?;
    settings::describing(script)?;
    settings::altering(script)?;
    cluster::quotas(script)?;
    cluster::leaders(script)?;
    security::authentication(script)?;
    security::permissions(script)?;
    cluster::quorum(script)
}
