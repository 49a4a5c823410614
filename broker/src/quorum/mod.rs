//! Agreeing on the metadata log: an adapter around openraft, nothing clever.
//!
//! A proposal is a batch of encoded records, opaque here; it is answered when it is committed *and*
//! applied, so that whoever proposed sees its own change. Votes and entries are on disk before
//! openraft hears of it; a full disk is waited out, any other disk error ends this node's part in
//! the quorum. A fresh directory bootstraps itself: its node becomes the only voter.
//!
//! | file of the directory | what it holds |
//! |---|---|
//! | `log` | votes, entries, truncations and purges in the order in which they happened |
//! | `snapshot` | the records whose fold is the Image as of some entry |
//!
//! Shell.

mod log_file;
mod log_store;
mod network;
mod record;
mod shell;
mod state_machine;
#[cfg(test)]
mod tests;

use openraft::impls::{EmptyNode, TokioRuntime};

pub use log_file::LogFileError;
use record::{Applied, Proposal};
pub use shell::{
    ProposeError, QuorumConfig, QuorumFacts, QuorumHandle, QuorumReplica, StartError, start,
};

openraft::declare_raft_types!(
    /// What openraft is told of us.
    pub(crate) Types:
        D = Proposal,
        R = Applied,
        Node = EmptyNode,
        // The only chance in consensus is the election timeout: seeded, so that runs repeat.
        AsyncRuntime = openraft::rt::deterministic_rng::DeterministicRng<TokioRuntime>,
);

type LogId = openraft::type_config::alias::LogIdOf<Types>;
type Vote = openraft::type_config::alias::VoteOf<Types>;
type Entry = openraft::type_config::alias::EntryOf<Types>;
type Membership = openraft::type_config::alias::StoredMembershipOf<Types>;
type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;
