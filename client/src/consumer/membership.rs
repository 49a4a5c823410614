//! The member that a consumer with a `group.id` can be, by `group.protocol`: of a classic group,
//! whose leader assigns, or of one whose coordinator does (KIP-848). What a consumer asks of
//! either is here; what only one of them has goes to it directly. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::TopicId;

use super::classic::Ask;
use super::error::ConsumeError;
use super::group::{Group, Revoked, Tell};
use super::modern::Modern;
use crate::cluster::Cluster;
use crate::group_offsets::GroupMetadata;

/// A member, or who wants to be one.
#[derive(Debug)]
pub(super) enum Membership {
    Classic(Box<Group>),
    Modern(Box<Modern>),
}

impl Membership {
    pub(super) fn identity(&self) -> &GroupMetadata {
        match self {
            Self::Classic(it) => it.identity(),
            Self::Modern(it) => it.identity(),
        }
    }

    pub(super) fn become_simple(&mut self) {
        match self {
            Self::Classic(it) => it.become_simple(),
            Self::Modern(it) => it.become_simple(),
        }
    }

    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        match self {
            Self::Classic(it) => it.topics(),
            Self::Modern(it) => it.topics(),
        }
    }

    /// Topics of which only the id is known.
    pub(super) fn nameless(&self) -> BTreeSet<TopicId> {
        match self {
            Self::Classic(_) => BTreeSet::new(),
            Self::Modern(it) => it.nameless().clone(),
        }
    }

    /// Metadata came.
    pub(super) fn resolve(&mut self, cluster: &Cluster) {
        match self {
            Self::Classic(_) => {}
            Self::Modern(it) => it.resolve(cluster),
        }
    }

    pub(super) fn subscription(&self) -> &BTreeSet<Arc<str>> {
        match self {
            Self::Classic(it) => it.subscription(),
            Self::Modern(it) => it.subscription(),
        }
    }

    pub(super) fn subscribe(&mut self, now: Duration, topics: BTreeSet<Arc<str>>) {
        match self {
            Self::Classic(it) => it.subscribe(now, topics),
            Self::Modern(it) => it.subscribe(now, topics),
        }
    }

    pub(super) fn unsubscribe(&mut self, reason: &str) -> Option<Ask> {
        match self {
            Self::Classic(it) => it.unsubscribe(reason),
            Self::Modern(it) => it.unsubscribe(),
        }
    }

    pub(super) fn polled(&mut self, now: Duration) -> bool {
        match self {
            Self::Classic(it) => it.polled(now),
            Self::Modern(it) => it.polled(now),
        }
    }

    pub(super) fn told_to_revoke(&self) -> Option<&Revoked> {
        match self {
            Self::Classic(it) => it.told_to_revoke(),
            Self::Modern(it) => it.told_to_revoke(),
        }
    }

    pub(super) fn revoked(&mut self) -> Option<Revoked> {
        match self {
            Self::Classic(it) => it.revoked(),
            Self::Modern(it) => it.revoked(),
        }
    }

    pub(super) fn tell(&mut self) -> Option<Tell> {
        match self {
            Self::Classic(it) => it.tell(),
            Self::Modern(it) => it.tell(),
        }
    }

    pub(super) fn plan(&mut self, now: Duration, cluster: &Cluster, asks: &mut Vec<Ask>) {
        match self {
            Self::Classic(it) => it.plan(now, cluster, asks),
            Self::Modern(it) => it.plan(now, asks),
        }
    }

    pub(super) fn wake_at(&self) -> Option<Duration> {
        match self {
            Self::Classic(it) => it.wake_at(),
            Self::Modern(it) => it.wake_at(),
        }
    }

    pub(super) fn on_commit_refused(
        &mut self,
        now: Duration,
        identity: &GroupMetadata,
        code: ErrorCode,
    ) -> Option<ConsumeError> {
        match self {
            Self::Classic(it) => it.on_commit_refused(now, identity, code),
            Self::Modern(it) => it.on_commit_refused(now, identity, code),
        }
    }
}
