//! One consumer group of KIP-848: what its records add up to.
//!
//! The group's epoch rises whenever members, subscriptions or topics change; a target is then made
//! for that epoch; each member walks to the target on its own, giving partitions up first, and its
//! own epoch reaches the target's when nothing is left to give up. [`ConsumerGroup`] is the fold of
//! the group's [`Change`]s and nothing else, so a coordinator that replays them holds the same
//! group; timers live in [`Modern`] beside it.
//!
//! | state | means |
//! |---|---|
//! | Empty | no members |
//! | Assigning | the group's epoch has no target yet |
//! | Reconciling | some member has not reached its target |
//! | Stable | all have |
//!
//! Invariants: member epoch ≤ target epoch ≤ group epoch, and none goes back; a partition is held,
//! assigned or to be given up, by one member; static ids name members.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::error_code::ErrorCode;
use protocol::ids::{PartitionIndex, TopicId};
use protocol::time::{Now, Timestamp};

use super::assignor::Assignment;
use super::consumer_record::Change;
use super::member::told_bytes;
use super::memory::ENTRY_BYTES;
use crate::metadata::Image;

/// 64: what the name of a topic takes in a subscription, beside its length.
const TOPIC_BYTES: usize = 64;

/// About what a member takes that tells these names and wants these topics.
pub(super) fn member_bytes<'a>(
    names: impl Iterator<Item = &'a Arc<str>>,
    topics: impl IntoIterator<Item = &'a Arc<str>>,
) -> usize {
    let names: usize = names.map(|it| it.len()).sum();
    let topics: usize = topics.into_iter().map(|it| TOPIC_BYTES + it.len()).sum();
    ENTRY_BYTES + names + topics
}

/// A point in a consumer group's life. The group's, its target's and its members' epochs are all
/// points on the same line; below 0 stands a member that left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub i32);

impl Epoch {
    /// Of a member that joins.
    pub const JOIN: Self = Self(0);
    /// Of a member that leaves.
    pub const LEAVE: Self = Self(-1);
    /// Of a static member that leaves and will come back.
    pub const LEAVE_STATIC: Self = Self(-2);

    /// The one after this.
    ///
    /// # Panics
    /// After two billion of them: at a thousand a second that is 24 days of nothing but change, and
    /// going on would let a stale member in.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a group's epoch does not run out"))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition by its topic's id.
pub type Slot = (TopicId, PartitionIndex);

/// How far a member is on its way to its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// It has all that its target gave it.
    #[default]
    Stable,
    /// It must give partitions up before it may go on.
    Unrevoked,
    /// It waits for partitions that others have yet to give up.
    Unreleased,
    /// A newer broker left it in a state that we do not know.
    Unknown,
}

impl MemberState {
    /// The state of this number in the log.
    #[must_use]
    pub fn from_log(number: i8) -> Self {
        match number {
            0 => Self::Stable,
            1 => Self::Unrevoked,
            2 => Self::Unreleased,
            _ => Self::Unknown,
        }
    }

    /// The number in the log.
    #[must_use]
    pub fn to_log(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::Unrevoked => 1,
            Self::Unreleased => 2,
            Self::Unknown => 127,
        }
    }
}

/// A member as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Its static id. KIP-345.
    pub instance_id: Option<Arc<str>>,
    /// Its rack.
    pub rack_id: Option<Arc<str>>,
    /// Its client id.
    pub client_id: Arc<str>,
    /// Where it connected from.
    pub client_host: Arc<str>,
    /// The topics that it wants.
    pub topics: BTreeSet<Arc<str>>,
    /// The expression whose topics it wants.
    pub pattern: Option<Arc<str>>,
    /// How long it may take to give partitions up.
    pub rebalance_timeout: Duration,
    /// The assignor that it prefers.
    pub assignor: Option<Arc<str>>,
    /// Set when it speaks the classic protocol.
    pub classic: Option<ClassicPart>,
}

impl Subscriber {
    /// About what a member takes that describes itself so.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let told = [&self.instance_id, &self.rack_id, &self.pattern, &self.assignor];
        let told = told.into_iter().flatten().chain([&self.client_id, &self.client_host]);
        let classic = self.classic.as_ref().map_or(0, |it| told_bytes(&it.protocols));
        member_bytes(told, &self.topics) + classic
    }

    /// True when both want the same topics.
    #[must_use]
    pub fn wants_the_same(&self, other: &Self) -> bool {
        self.topics == other.topics && self.pattern == other.pattern
    }
}

/// What a member of the classic protocol has beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicPart {
    /// How long it may be silent.
    pub session_timeout: Duration,
    /// What it told for each protocol that it supports, by preference.
    pub protocols: Vec<(Arc<str>, Bytes)>,
}

/// Where a member stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Current {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its epoch before: a member that missed an answer still sends it.
    pub previous_epoch: Epoch,
    /// How far it is.
    pub state: MemberState,
    /// What it may read.
    pub assigned: Assignment,
    /// What it must give up.
    pub revoking: Assignment,
}

impl Current {
    fn held(&self) -> impl Iterator<Item = Slot> {
        slots(&self.assigned).chain(slots(&self.revoking))
    }
}

/// What an expression matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The topics.
    pub topics: BTreeSet<Arc<str>>,
    /// Which end of the metadata log was looked at.
    pub version: i64,
    /// When.
    pub at: Timestamp,
}

/// The partitions of `assignment`, in order.
pub fn slots(assignment: &Assignment) -> impl Iterator<Item = Slot> {
    assignment.iter().flat_map(|(topic, indices)| indices.iter().map(|index| (*topic, *index)))
}

/// A member: it is one once it has described itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Member {
    pub(super) subscriber: Option<Arc<Subscriber>>,
    pub(super) current: Arc<Current>,
    pub(super) target: Arc<Assignment>,
}

/// The fold of a consumer group's records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConsumerGroup {
    pub(super) epoch: Epoch,
    /// Over the topics subscribed to, as they were when the epoch was raised last.
    pub(super) hash: i64,
    /// When the epoch was raised last.
    pub(super) epoch_at: Timestamp,
    pub(super) target_epoch: Epoch,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    pub(super) patterns: BTreeMap<Arc<str>, Arc<Resolved>>,
    /// Which member holds a static id. Follows from `members`.
    pub(super) instances: BTreeMap<Arc<str>, Arc<str>>,
    /// Who holds a partition. Follows from `members`.
    pub(super) holders: BTreeMap<Slot, Arc<str>>,
}

impl ConsumerGroup {
    /// About what the group takes that its members told.
    #[must_use]
    pub fn bytes(&self) -> usize {
        ENTRY_BYTES + self.subscribers().map(|(id, _, it)| id.len() + it.bytes()).sum::<usize>()
    }

    /// What of [`bytes`](Self::bytes) is the member's of this id.
    #[must_use]
    pub fn bytes_of(&self, id: &str) -> usize {
        self.member(id).map_or(0, |(_, it)| id.len() + it.bytes())
    }

    /// What of [`bytes`](Self::bytes) is the member's that holds the static id, or else has this id; 0
    /// for a new one.
    #[must_use]
    pub fn bytes_before(&self, id: &Arc<str>, instance: Option<&Arc<str>>) -> usize {
        let holder = instance.and_then(|it| self.instances.get(it));
        self.bytes_of(holder.unwrap_or(id))
    }

    /// Takes in a change that was written at `at`.
    pub fn apply(&mut self, change: &Change, at: Timestamp) {
        match change {
            Change::Epoch(Some((epoch, hash))) => {
                (self.epoch, self.hash, self.epoch_at) = (*epoch, *hash, at);
            }
            // The room forgets the group altogether.
            Change::Epoch(None) => {}
            Change::TargetEpoch(epoch) => self.target_epoch = epoch.unwrap_or_default(),
            Change::Member(id, subscriber) => self.describe_member(id, subscriber.as_ref()),
            Change::Target(id, target) => {
                let target = target.clone().unwrap_or_default();
                if target.is_empty() && !self.members.contains_key(id) {
                    return;
                }
                self.members.entry(Arc::clone(id)).or_default().target = target;
            }
            Change::Current(id, current) => self.place_member(id, current.as_ref()),
            Change::Pattern(pattern, Some(resolved)) => {
                self.patterns.insert(Arc::clone(pattern), Arc::clone(resolved));
            }
            Change::Pattern(pattern, None) => {
                self.patterns.remove(pattern);
            }
        }
    }

    fn describe_member(&mut self, id: &Arc<str>, subscriber: Option<&Arc<Subscriber>>) {
        let before = self.members.get(id).and_then(|it| it.subscriber.clone());
        if let Some(instance) = before.as_ref().and_then(|it| it.instance_id.as_ref())
            && self.instances.get(instance) == Some(id)
        {
            self.instances.remove(instance);
        }
        let Some(subscriber) = subscriber else {
            self.place_member(id, None);
            self.members.remove(id);
            return;
        };
        if let Some(instance) = &subscriber.instance_id {
            self.instances.insert(Arc::clone(instance), Arc::clone(id));
        }
        let member = self.members.entry(Arc::clone(id)).or_default();
        member.subscriber = Some(Arc::clone(subscriber));
    }

    fn place_member(&mut self, id: &Arc<str>, current: Option<&Arc<Current>>) {
        if current.is_none() && !self.members.contains_key(id) {
            return;
        }
        let member = self.members.entry(Arc::clone(id)).or_default();
        for slot in member.current.held() {
            if self.holders.get(&slot) == Some(id) {
                self.holders.remove(&slot);
            }
        }
        member.current = current.cloned().unwrap_or_default();
        for slot in member.current.held() {
            self.holders.insert(slot, Arc::clone(id));
        }
    }

    /// The log was read to its end: what only half of a member is left of is nobody.
    pub fn prune(&mut self) {
        let nobodies = self.members.iter().filter(|(_, it)| it.subscriber.is_none());
        let nobodies: Vec<_> = nobodies.map(|(id, _)| Arc::clone(id)).collect();
        for id in nobodies {
            self.place_member(&id, None);
            self.members.remove(&id);
        }
    }

    /// The members with what each told of itself.
    pub fn subscribers(&self) -> impl Iterator<Item = (&Arc<str>, &Member, &Arc<Subscriber>)> {
        self.members.iter().filter_map(|(id, it)| Some((id, it, it.subscriber.as_ref()?)))
    }

    /// The member of this id, and what it told of itself.
    #[must_use]
    pub fn member(&self, id: &str) -> Option<(&Member, &Arc<Subscriber>)> {
        let member = self.members.get(id)?;
        Some((member, member.subscriber.as_ref()?))
    }

    /// True when nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscribers().next().is_none()
    }

    /// True when some member subscribes to the topic of this name.
    #[must_use]
    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.subscribers().any(|(_, _, it)| self.topics_of(it).any(|name| &**name == topic))
    }

    /// The names of the topics that `subscriber` wants, whether they exist or not.
    pub fn topics_of<'a>(
        &'a self,
        subscriber: &'a Subscriber,
    ) -> impl Iterator<Item = &'a Arc<str>> {
        let pattern = subscriber.pattern.as_ref().and_then(|it| self.patterns.get(it));
        subscriber.topics.iter().chain(pattern.into_iter().flat_map(|it| &it.topics))
    }

    /// The state's name, as Kafka spells it.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        let has_arrived = |member: &Member| {
            member.current.state == MemberState::Stable && member.current.epoch == self.target_epoch
        };
        if self.is_empty() {
            "Empty"
        } else if self.target_epoch < self.epoch {
            "Assigning"
        } else if self.subscribers().all(|(_, member, _)| has_arrived(member)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// Whether who names itself `id` in `epoch` may read or write offsets.
    ///
    /// # Errors
    /// `UnknownMemberId`; or that the epoch is not the member's: `StaleMemberEpoch`, for a member of
    /// the classic protocol `IllegalGeneration`.
    pub fn known(&self, id: &str, epoch: Epoch) -> Result<(), ErrorCode> {
        let (member, subscriber) = self.member(id).ok_or(ErrorCode::UnknownMemberId)?;
        if member.current.epoch == epoch {
            return Ok(());
        }
        Err(match subscriber.classic {
            Some(_) => ErrorCode::IllegalGeneration,
            None => ErrorCode::StaleMemberEpoch,
        })
    }

    /// What deletes the group, which has no members.
    #[must_use]
    pub fn tombstones(&self) -> Vec<Change> {
        let members = self.members.keys().flat_map(|id| {
            [
                Change::Current(Arc::clone(id), None),
                Change::Target(Arc::clone(id), None),
                Change::Member(Arc::clone(id), None),
            ]
        });
        let patterns = self.patterns.keys().map(|it| Change::Pattern(Arc::clone(it), None));
        let group = [Change::TargetEpoch(None), Change::Epoch(None)];
        members.chain(patterns).chain(group).collect()
    }

    /// Asserts the invariants.
    #[cfg(any(test, feature = "check"))]
    pub fn check(&self) {
        assert!(self.target_epoch <= self.epoch);
        let mut holders: BTreeMap<Slot, Arc<str>> = BTreeMap::new();
        for (id, member) in &self.members {
            assert!(member.current.epoch <= self.target_epoch, "{id} is ahead of its target");
            for slot in member.current.held() {
                assert!(holders.insert(slot, Arc::clone(id)).is_none(), "{slot:?} has two holders");
            }
        }
        assert_eq!(holders, self.holders);
        let named = |(instance, id): (&Arc<str>, &Arc<str>)| {
            self.member(id).is_some_and(|(_, it)| it.instance_id.as_ref() == Some(instance))
        };
        assert!(self.instances.iter().all(named));
        let mut targets = BTreeSet::new();
        for member in self.members.values() {
            assert!(slots(&member.target).all(|slot| targets.insert(slot)), "two targets");
        }
    }
}

/// When a member is given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Timers {
    /// It was not heard of.
    pub(super) session: Duration,
    /// It did not give up in time what it held in this epoch; or, of the classic protocol, it did
    /// not join or sync in time.
    pub(super) rebalance: Option<(Epoch, Duration)>,
}

/// A consumer group with its timers, which no log holds.
#[derive(Debug, Default)]
pub struct Modern {
    pub(super) group: ConsumerGroup,
    pub(super) timers: BTreeMap<Arc<str>, Timers>,
    /// The metadata that the group has taken in.
    pub(super) seen: Option<Arc<Image>>,
    /// Expressions that were not looked up since. Each is one of the group's, or was.
    pub(super) behind: BTreeSet<Arc<str>>,
}

impl Modern {
    /// Since when the group has had no members. `None`: it has some.
    #[must_use]
    pub fn empty_since(&self) -> Option<Timestamp> {
        self.group.is_empty().then_some(self.group.epoch_at)
    }

    /// True when the group has not taken in topics and access control lists as they are in `image`;
    /// all its expressions are then to be looked up again.
    pub(super) fn is_behind(&mut self, image: &Image) -> bool {
        let is_known = self.seen.as_ref().is_some_and(|seen| {
            seen.shares_topics(image) && std::ptr::eq(seen.acls(), image.acls())
        });
        if !is_known {
            self.behind = self.group.patterns.keys().cloned().collect();
        }
        !is_known
    }

    /// The log was read to its end: everybody has a session to be heard of.
    pub fn loaded(&mut self, now: Now, session_timeout: Duration) {
        self.group.prune();
        let timers = self.group.subscribers().map(|(id, member, subscriber)| {
            let session =
                subscriber.classic.as_ref().map_or(session_timeout, |it| it.session_timeout);
            let current = &member.current;
            let waits = current.state == MemberState::Unrevoked;
            let until = now.monotonic + subscriber.rebalance_timeout;
            let rebalance = waits.then_some((current.epoch, until));
            (Arc::clone(id), Timers { session: now.monotonic + session, rebalance })
        });
        self.timers = timers.collect();
    }

    /// Those whose time is up at `now`; timers of members that are gone are dropped.
    pub fn overdue(&mut self, now: Now) -> Vec<Arc<str>> {
        let group = &self.group;
        self.timers.retain(|id, _| group.member(id).is_some());
        let is_late = |(id, timers): &(&Arc<str>, &Timers)| {
            let (member, _) = group.member(id).expect("the others were dropped");
            let is_slow = timers
                .rebalance
                .is_some_and(|(epoch, at)| epoch == member.current.epoch && at <= now.monotonic);
            timers.session <= now.monotonic || is_slow
        };
        self.timers.iter().filter(is_late).map(|(id, _)| Arc::clone(id)).collect()
    }

    /// When [`Modern::overdue`] has something to say.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        let both = |it: &Timers| it.rebalance.map_or(it.session, |(_, at)| at.min(it.session));
        self.timers.values().map(both).min()
    }

    /// Where the member `id` stands was written: when it must give partitions up, its time runs.
    pub(super) fn time_revocation(&mut self, now: Now, id: &Arc<str>) {
        let Some((member, subscriber)) = self.group.member(id) else { return };
        // One of the classic protocol has just joined, and is to sync.
        let waits = member.current.state == MemberState::Unrevoked || subscriber.classic.is_some();
        let until = now.monotonic + subscriber.rebalance_timeout;
        let rebalance = waits.then_some((member.current.epoch, until));
        self.timers.entry(Arc::clone(id)).or_default().rebalance = rebalance;
    }

    /// The members' time is up at `until` instead.
    pub(super) fn postpone(&mut self, members: &[Arc<str>], until: Duration) {
        for id in members {
            if let Some(timers) = self.timers.get_mut(id) {
                timers.session = timers.session.max(until);
                timers.rebalance = timers.rebalance.map(|(epoch, at)| (epoch, at.max(until)));
            }
        }
    }

    /// A classic member was heard of. `due`, if told: by when it must have come again, in which
    /// epoch.
    pub(super) fn is_heard(
        &mut self,
        now: Now,
        id: &Arc<str>,
        due: Option<Option<(Epoch, Duration)>>,
    ) {
        let classic = self.group.member(id).and_then(|(_, it)| it.classic.as_ref());
        if let (Some(classic), Some(timers)) = (classic, self.timers.get_mut(id)) {
            timers.session = now.monotonic + classic.session_timeout;
            timers.rebalance = due.unwrap_or(timers.rebalance);
        }
    }

    /// A classic member was told to join again: its time runs from the first time on.
    pub(super) fn must_rejoin(&mut self, now: Now, id: &Arc<str>) {
        let Some((member, subscriber)) = self.group.member(id) else { return };
        if let Some(timers) = self.timers.get_mut(id) {
            let until = now.monotonic + subscriber.rebalance_timeout;
            timers.rebalance = timers.rebalance.or(Some((member.current.epoch, until)));
        }
    }
}
