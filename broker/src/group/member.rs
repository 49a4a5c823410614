//! A member of a classic group, where its group stands, and what a step says.
//!
//! Deadlines are on the monotonic clock.
//!
//! Pure.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::error_code::ErrorCode;
use protocol::ids::GenerationId;
use protocol::time::Now;

use super::memory::ENTRY_BYTES;
use super::{Join, Joined, Reply, Synced};
use crate::coordinator::Token;

/// How long a member that joined for the first time may wait for its first round: longer than any
/// sensible rebalance timeout, so that only a vanished client is removed by it.
const NEW_MEMBER_TIMEOUT: Duration = Duration::from_secs(300);

/// What a step wants done.
#[derive(Debug, Default)]
pub struct Out {
    /// Answers.
    pub replies: Vec<(Token, Reply)>,
    /// Membership changed in a way that the next coordinator must know.
    pub write: bool,
}

impl Out {
    pub(super) fn joined(&mut self, token: Token, joined: Joined) {
        self.replies.push((token, Reply::Joined(Box::new(joined))));
    }

    pub(super) fn join_refused(&mut self, token: Token, error: ErrorCode, member_id: Arc<str>) {
        let generation = GenerationId(-1);
        self.joined(token, Joined { error, generation, member_id, ..Joined::default() });
    }

    pub(super) fn synced(&mut self, token: Token, synced: Synced) {
        self.replies.push((token, Reply::Synced(synced)));
    }

    pub(super) fn sync_refused(&mut self, token: Token, error: ErrorCode) {
        self.synced(token, Synced { error, ..Synced::default() });
    }
}

/// Where a group stands in its round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Empty,
    /// A round is open until `deadline`. A first round stays open for its delay even when all have
    /// joined, so that members that start together share it; `first` says until when at most.
    Preparing {
        deadline: Duration,
        first: Option<Duration>,
    },
    /// The round is closed; members that have not synced by `deadline` are removed.
    Completing {
        deadline: Duration,
    },
    Stable,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) instance_id: Option<Arc<str>>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocols: Vec<(Arc<str>, Bytes)>,
    pub(super) assignment: Bytes,
    /// It waits for the round to close.
    pub(super) joining: Option<Token>,
    /// It waits for the leader's assignment.
    pub(super) syncing: Option<Token>,
    /// It has synced in this generation: silence in `Completing` is not held against it.
    pub(super) has_synced: bool,
    /// Removed then, unless it waits for us.
    pub(super) expires: Duration,
}

impl Member {
    pub(super) fn of(join: &Join, now: Now) -> Self {
        Self {
            instance_id: join.instance_id.clone(),
            client_id: Arc::clone(&join.client_id),
            client_host: Arc::clone(&join.client_host),
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: kept(&join.protocols),
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            has_synced: false,
            expires: now.monotonic + NEW_MEMBER_TIMEOUT,
        }
    }

    pub(super) fn is_alive(&mut self, now: Now) {
        self.expires = now.monotonic + self.session_timeout;
    }

    /// About what it takes under the id `id`.
    pub(super) fn bytes(&self, id: &str) -> usize {
        let instance = self.instance_id.as_deref().unwrap_or_default();
        let named = [id, instance, &*self.client_id, &*self.client_host];
        let names: usize = named.into_iter().map(str::len).sum();
        ENTRY_BYTES + names + told_bytes(&self.protocols) + self.assignment.len()
    }

    pub(super) fn subscription(&self, protocol: Option<&Arc<str>>) -> Bytes {
        let chosen = self.protocols.iter().find(|(name, _)| Some(name) == protocol);
        chosen.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }
}

/// Protocols as they outlive their request: with bytes of their own, as a part keeps all of the
/// request that it came in.
pub(super) fn kept(protocols: &[(Arc<str>, Bytes)]) -> Vec<(Arc<str>, Bytes)> {
    let kept =
        |(name, metadata): &(Arc<str>, Bytes)| (Arc::clone(name), Bytes::copy_from_slice(metadata));
    protocols.iter().map(kept).collect()
}

/// 112: about what a protocol takes besides its name and metadata.
const PROTOCOL_BYTES: usize = 112;

/// About what these protocols of a member take, in bytes.
pub(super) fn told_bytes(protocols: &[(Arc<str>, Bytes)]) -> usize {
    protocols.iter().map(|(name, metadata)| PROTOCOL_BYTES + name.len() + metadata.len()).sum()
}

/// What a leader assigns, in bytes.
pub(super) fn assigned_bytes(assignments: &[(Arc<str>, Bytes)]) -> usize {
    assignments.iter().map(|(id, assignment)| PROTOCOL_BYTES + id.len() + assignment.len()).sum()
}

/// About what a member takes that joins so.
pub(super) fn joining_bytes(join: &Join) -> usize {
    let instance = join.instance_id.as_deref().unwrap_or_default();
    let named = [&*join.member_id, instance, &*join.client_id, &*join.client_host];
    let names: usize = named.into_iter().map(str::len).sum();
    ENTRY_BYTES + names + told_bytes(&join.protocols)
}

/// What bounds a join.
#[derive(Clone, Copy, Debug)]
pub struct JoinSettings {
    /// `group.max.size`: the next member is refused.
    pub members_max: usize,
    /// `group.initial.rebalance.delay.ms`: how long a first round waits for more members.
    pub initial_delay: Duration,
}
