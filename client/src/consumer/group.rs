//! What `poll` must tell of a group before it returns more records.
//!
//! Between two generations an eager member gives up all it owns, a cooperative one only what the
//! new assignment takes from it (KIP-429). Either way the caller is told first, may still commit,
//! and says with its next call that it is done; only then are the partitions given up and the
//! group joined again. What was lost already is told the same way, and cannot be committed.
//! Pure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::{GenerationId, TopicPartition};

use super::classic::{Ask, Change, Member};
use super::error::ConsumeError;
use crate::cluster::Cluster;
use crate::config::Assignor;
use crate::group_offsets::GroupMetadata;

/// Partitions to give up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Which; never empty.
    pub partitions: BTreeSet<TopicPartition>,
    /// True when others may own them already: commits would be refused.
    pub lost: bool,
}

#[derive(Debug)]
pub(super) struct Revoking {
    pub(super) revoked: Revoked,
    pub(super) is_told: bool,
}

/// What to tell the caller.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tell {
    Revoked(Revoked),
    Assigned(BTreeSet<TopicPartition>),
}

/// A group that this consumer is, or wants to be, a member of.
#[derive(Debug)]
pub(super) struct Group {
    member: Member,
    is_cooperative: bool,
    max_poll_interval: Duration,
    polled_at: Duration,
    /// The caller did not poll for too long, and has not since.
    is_overdue: bool,
    /// What the caller was told that it has.
    owned: BTreeSet<TopicPartition>,
    /// Others may own it already.
    is_lost: bool,
    revoking: Option<Revoking>,
    /// What to tell once nothing is left to revoke: the partitions to add.
    assigning: Option<BTreeSet<TopicPartition>>,
    /// Once that is told, the member joins again: it gave up partitions for others to have.
    must_rejoin: bool,
    /// Who the member is as far as the caller was told. It is never forgotten: with that of a
    /// member that was replaced, commits are refused, as they must be; without one they were not.
    identity: GroupMetadata,
}

impl Group {
    pub(super) fn new(member: Member, assignor: Assignor, max_poll_interval: Duration) -> Self {
        let identity = GroupMetadata { generation: GenerationId(-1), ..member.metadata() };
        Self {
            member,
            is_cooperative: assignor == Assignor::CooperativeSticky,
            max_poll_interval,
            polled_at: Duration::ZERO,
            is_overdue: false,
            owned: BTreeSet::new(),
            is_lost: false,
            revoking: None,
            assigning: None,
            must_rejoin: false,
            identity,
        }
    }

    pub(super) fn identity(&self) -> &GroupMetadata {
        &self.identity
    }

    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        self.member.topics()
    }

    pub(super) fn subscription(&self) -> &BTreeSet<Arc<str>> {
        self.member.subscription()
    }

    pub(super) fn subscribe(&mut self, now: Duration, topics: BTreeSet<Arc<str>>) {
        self.polled_at = now;
        self.member.subscribe(topics);
    }

    /// Leaves, giving up everything at once.
    pub(super) fn unsubscribe(&mut self, reason: &str) -> Option<Ask> {
        self.owned = BTreeSet::new();
        self.is_lost = false;
        self.revoking = None;
        self.assigning = None;
        self.must_rejoin = false;
        self.member.leave(true, reason)
    }

    /// From now on the caller commits without being a member.
    pub(super) fn become_simple(&mut self) {
        self.identity = GroupMetadata::simple(self.identity.group_id.clone());
    }

    /// The caller is alive. True: it was not taken to be.
    pub(super) fn polled(&mut self, now: Duration) -> bool {
        self.polled_at = now;
        std::mem::take(&mut self.is_overdue)
    }

    /// What the caller was told to give up and has yet to say that it has.
    pub(super) fn told_to_revoke(&self) -> Option<&Revoked> {
        self.revoking.as_ref().filter(|it| it.is_told).map(|it| &it.revoked)
    }

    /// The caller has given up what it was told to.
    pub(super) fn revoked(&mut self) -> Option<Revoked> {
        let Revoking { revoked, .. } = self.revoking.take_if(|it| it.is_told)?;
        self.owned.retain(|it| !revoked.partitions.contains(it));
        if self.owned.is_empty() {
            self.is_lost = false;
        }
        // What this member let go of finds its new owner only when all join once more.
        self.must_rejoin = self.assigning.is_some();
        Some(revoked)
    }

    /// What to tell the caller next, if anything. It counts as told.
    pub(super) fn tell(&mut self) -> Option<Tell> {
        self.settle();
        if let Some(revoking) = &mut self.revoking {
            if revoking.is_told {
                return None;
            }
            revoking.is_told = true;
            return Some(Tell::Revoked(revoking.revoked.clone()));
        }
        let added = self.assigning.take()?;
        self.owned.extend(added.iter().cloned());
        self.identity = self.member.metadata();
        if std::mem::take(&mut self.must_rejoin) {
            self.member.rejoin();
        }
        Some(Tell::Assigned(added))
    }

    /// What to ask the coordinator now.
    pub(super) fn plan(&mut self, now: Duration, cluster: &Cluster, asks: &mut Vec<Ask>) {
        if self.member.is_active() && now >= self.polled_at.saturating_add(self.max_poll_interval) {
            tracing::warn!(
                group_id = %self.identity.group_id, interval = ?self.max_poll_interval,
                "no poll within max.poll.interval.ms: leaving the group"
            );
            self.is_overdue = true;
            self.is_lost = true;
            asks.extend(self.member.leave(false, "no poll within max.poll.interval.ms"));
        }
        self.settle();
        let may_join = !self.is_overdue
            && self.revoking.is_none()
            && (self.owned.is_empty() || self.is_cooperative);
        self.member.plan(now, may_join, &self.owned, cluster, asks);
    }

    pub(super) fn wake_at(&self) -> Option<Duration> {
        let overdue_at = self.polled_at.saturating_add(self.max_poll_interval);
        let overdue_at = self.member.is_active().then_some(overdue_at);
        self.member.wake_at().into_iter().chain(overdue_at).min()
    }

    pub(super) fn member(&mut self) -> &mut Member {
        &mut self.member
    }

    /// Takes in what an answer of the coordinator means.
    pub(super) fn on(&mut self, change: Change) -> Option<ConsumeError> {
        match change {
            Change::Nothing => {}
            Change::Lost => self.is_lost = true,
            Change::Assigned(all) => self.assigned(all),
            Change::Refused(error) => {
                self.is_lost = true;
                self.settle();
                return Some(error);
            }
        }
        self.settle();
        None
    }

    /// Takes in that a commit under `identity` was refused.
    pub(super) fn on_commit_refused(
        &mut self,
        now: Duration,
        identity: &GroupMetadata,
        code: ErrorCode,
    ) -> Option<ConsumeError> {
        // A member that has moved on since knows better.
        if !self.member.is(identity) || !self.member.is_active() {
            return None;
        }
        let change = self.member.on_commit_refused(now, code);
        self.on(change)
    }

    fn assigned(&mut self, all: BTreeSet<TopicPartition>) {
        assert!(self.is_cooperative || self.owned.is_empty(), "eager members join with nothing");
        assert!(self.revoking.is_none());
        let gone: BTreeSet<_> = self.owned.difference(&all).cloned().collect();
        self.assigning = Some(all.difference(&self.owned).cloned().collect());
        if !self.owned.is_empty() {
            // What stays is committed under the new generation from now on.
            self.identity = self.member.metadata();
        }
        if !gone.is_empty() {
            let revoked = Revoked { partitions: gone, lost: false };
            self.revoking = Some(Revoking { revoked, is_told: false });
        }
    }

    /// Decides what must be revoked before the member may join again.
    fn settle(&mut self) {
        if self.is_lost && self.owned.is_empty() {
            self.is_lost = false;
        }
        if !self.member.wants_to_join() && !self.is_lost {
            return;
        }
        // An assignment of a generation that is over already.
        if self.is_lost || self.revoking.is_none() {
            self.assigning = None;
            self.must_rejoin = false;
        }
        let partitions: BTreeSet<_> = if self.is_lost || !self.is_cooperative {
            self.owned.clone()
        } else {
            let topics = self.member.subscription();
            self.owned.iter().filter(|it| !topics.contains(&it.topic)).cloned().collect()
        };
        let is_told = self.revoking.as_ref().is_some_and(|it| it.is_told);
        if !is_told && !partitions.is_empty() {
            let lost = self.is_lost;
            let revoked = Revoked { partitions, lost };
            self.revoking = Some(Revoking { revoked, is_told: false });
        }
    }
}
