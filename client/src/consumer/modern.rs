//! Membership in a group whose coordinator assigns: KIP-848's protocol, `group.protocol=consumer`.
//!
//! One question does everything: a heartbeat joins, tells what has changed, and is answered with
//! the partitions that the member may read from now on. What the answer takes away is told to the
//! caller first, who may still commit; once given up, the next heartbeat says so, and only then
//! does the coordinator give it to another. Members keep all that is not taken from them.
//!
//! | phase | meaning | next |
//! |---|---|---|
//! | `Idle` | not subscribed | `Joining` by subscribing |
//! | `Joining` | no member: a heartbeat with epoch 0 makes it one, once nothing is owned any more | `Member` |
//! | `Member` | follows what the coordinator assigns | `Joining` when it is not known any more, or its caller does not poll |
//! | `Refused` | the coordinator will have no more of it | `Joining` by subscribing anew |
//!
//! Invariants: it owns nothing that its newest assignment does not have, unless its caller has yet
//! to give that up; it joins owning nothing; one heartbeat is under way at a time, so that a full
//! report follows every answer that was lost. Topics go by id, and an assigned topic whose name is
//! not known yet waits while Metadata is asked for it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use protocol::api::consumer_group::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatAssignment,
    HeartbeatTopicPartitions,
};
use protocol::error_code::ErrorCode;
use protocol::ids::{GenerationId, TopicId, TopicPartition};

use super::classic::{Ask, Attempt, millis};
use super::error::ConsumeError;
use super::group::{Revoked, Revoking, Tell};
use crate::backoff::Backoff;
use crate::cluster::Cluster;
use crate::error::RequestError;
use crate::group_offsets::GroupMetadata;

/// The epoch with which a member joins.
const JOIN: i32 = 0;
/// The epoch with which it leaves.
const LEAVE: i32 = -1;
/// The epoch with which a static member leaves for a while. KIP-345.
const LEAVE_FOR_A_WHILE: i32 = -2;

/// What the settings say of a member.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) group_id: Arc<str>,
    pub(super) instance_id: Option<String>,
    /// Chosen by the client, for as long as it lives. KIP-1082.
    pub(super) member_id: String,
    pub(super) rebalance_timeout: Duration,
    pub(super) assignor: Option<String>,
    pub(super) rack: String,
    pub(super) max_poll_interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Joining,
    Member,
    Refused,
}

/// What a member wants to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Subscription {
    topics: BTreeSet<Arc<str>>,
    /// Topics whose whole name matches, as the coordinator understands it.
    regex: Option<String>,
}

/// Partitions, and the id of each one's topic: a topic that was made anew is another.
type Owned = BTreeMap<TopicPartition, TopicId>;

/// What the coordinator was told, to tell it only of changes.
#[derive(Clone, Debug)]
struct Told {
    subscription: Subscription,
    owned: Owned,
}

/// A member, or who wants to be one.
#[derive(Debug)]
pub(super) struct Modern {
    settings: Settings,
    phase: Phase,
    subscription: Subscription,
    member_id: String,
    epoch: i32,
    /// What the coordinator wants it to have.
    target: BTreeMap<TopicId, BTreeSet<i32>>,
    /// That, as far as the names of its topics are known.
    desired: Owned,
    /// Topics of the target that have no name yet.
    nameless: BTreeSet<TopicId>,
    /// The caller has yet to hear of the target.
    is_news: bool,
    /// What the caller was told that it has.
    owned: Owned,
    /// Others may own it already.
    is_lost: bool,
    revoking: Option<Revoking>,
    told: Option<Told>,
    attempt: Attempt,
    is_heartbeating: bool,
    heartbeat_at: Duration,
    interval: Duration,
    /// After a failure, nothing is asked before then.
    not_before: Duration,
    backoff: Backoff,
    polled_at: Duration,
    /// The caller did not poll for too long, and has not since.
    is_overdue: bool,
    identity: GroupMetadata,
}

impl Modern {
    pub(super) fn new(settings: Settings, backoff: Backoff) -> Self {
        let identity = GroupMetadata {
            instance_id: settings.instance_id.clone(),
            ..GroupMetadata::simple(&*settings.group_id)
        };
        Self {
            member_id: settings.member_id.clone(),
            settings,
            phase: Phase::Idle,
            subscription: Subscription::default(),
            epoch: JOIN,
            target: BTreeMap::new(),
            desired: Owned::new(),
            nameless: BTreeSet::new(),
            is_news: false,
            owned: Owned::new(),
            is_lost: false,
            revoking: None,
            told: None,
            attempt: 0,
            is_heartbeating: false,
            heartbeat_at: Duration::ZERO,
            interval: Duration::ZERO,
            not_before: Duration::ZERO,
            backoff,
            polled_at: Duration::ZERO,
            is_overdue: false,
            identity,
        }
    }

    /// Who it is, as commits need it. Once it is no member any more it stays who it was: with that
    /// commits are refused, as they must be; without they were not.
    pub(super) fn identity(&self) -> &GroupMetadata {
        &self.identity
    }

    /// From now on the caller commits without being a member.
    pub(super) fn become_simple(&mut self) {
        self.identity = GroupMetadata::simple(self.identity.group_id.clone());
    }

    /// The topics that it wants, and those that it has or is about to have.
    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        let assigned = self.desired.keys().chain(self.owned.keys());
        let assigned = assigned.map(|it| Arc::clone(&it.topic));
        self.subscription.topics.iter().cloned().chain(assigned).collect()
    }

    pub(super) fn subscription(&self) -> &BTreeSet<Arc<str>> {
        &self.subscription.topics
    }

    /// Topics that were assigned and whose names must be asked for.
    pub(super) fn nameless(&self) -> &BTreeSet<TopicId> {
        &self.nameless
    }

    pub(super) fn subscribe(&mut self, now: Duration, topics: BTreeSet<Arc<str>>) {
        self.want(now, Subscription { topics, regex: None });
    }

    /// Wants the topics whose whole name matches.
    pub(super) fn subscribe_regex(&mut self, now: Duration, regex: String) {
        self.want(now, Subscription { topics: BTreeSet::new(), regex: Some(regex) });
    }

    fn want(&mut self, now: Duration, subscription: Subscription) {
        self.polled_at = now;
        self.subscription = subscription;
        match self.phase {
            Phase::Idle | Phase::Refused => {
                self.not_before = Duration::ZERO;
                self.join_anew();
            }
            Phase::Joining | Phase::Member => {}
        }
    }

    /// Leaves, giving up everything at once.
    pub(super) fn unsubscribe(&mut self) -> Option<Ask> {
        let leave = self.leave();
        self.step(Phase::Idle);
        self.forget_target();
        self.owned = Owned::new();
        self.is_lost = false;
        self.revoking = None;
        leave
    }

    /// What to tell the coordinator, if it may take us for a member.
    fn leave(&self) -> Option<Ask> {
        let may_be_member = match self.phase {
            Phase::Member => true,
            Phase::Joining => self.is_heartbeating,
            Phase::Idle | Phase::Refused => false,
        };
        may_be_member.then(|| {
            let is_static = self.settings.instance_id.is_some();
            let member_epoch = if is_static { LEAVE_FOR_A_WHILE } else { LEAVE };
            Ask::ConsumerLeave(ConsumerGroupHeartbeatRequest {
                instance_id: self.settings.instance_id.clone(),
                member_epoch,
                ..self.request()
            })
        })
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
        self.owned.retain(|it, _| !revoked.partitions.contains(it));
        self.settle();
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
        if self.phase != Phase::Member {
            return None;
        }
        let mut added = BTreeSet::new();
        for (partition, id) in &self.desired {
            if !self.owned.contains_key(partition) {
                self.owned.insert(partition.clone(), *id);
                added.insert(partition.clone());
            }
        }
        let is_complete = self.is_news && self.nameless.is_empty();
        self.is_news &= !is_complete;
        (is_complete || !added.is_empty()).then_some(Tell::Assigned(added))
    }

    /// Decides what must be given up: what the newest assignment does not have, and everything
    /// once the coordinator does not know us any more.
    fn settle(&mut self) {
        self.is_lost &= !self.owned.is_empty();
        if self.revoking.as_ref().is_some_and(|it| it.is_told) {
            return;
        }
        let is_gone = |(partition, id): &(&TopicPartition, &TopicId)| {
            self.is_lost || self.desired.get(*partition) != Some(id)
        };
        let gone = self.owned.iter().filter(is_gone);
        let partitions: BTreeSet<_> = gone.map(|(partition, _)| partition.clone()).collect();
        let revoked = Revoked { partitions, lost: self.is_lost };
        self.revoking =
            (!revoked.partitions.is_empty()).then_some(Revoking { revoked, is_told: false });
    }

    /// Names the topics of the target that have become known.
    pub(super) fn resolve(&mut self, cluster: &Cluster) {
        self.desired = Owned::new();
        self.nameless = BTreeSet::new();
        for (&id, indexes) in &self.target {
            let Some(name) = cluster.name_of(id) else {
                self.nameless.insert(id);
                // What we own already has its name.
                let kept = self
                    .owned
                    .iter()
                    .filter(|(it, of)| **of == id && indexes.contains(&it.partition.0));
                self.desired.extend(kept.map(|(it, id)| (it.clone(), *id)));
                continue;
            };
            let partitions = indexes.iter().map(|it| TopicPartition::new(Arc::clone(name), *it));
            self.desired.extend(partitions.map(|it| (it, id)));
        }
        self.settle();
    }

    /// What to ask the coordinator now.
    pub(super) fn plan(&mut self, now: Duration, asks: &mut Vec<Ask>) {
        if self.phase == Phase::Member
            && now >= self.polled_at.saturating_add(self.settings.max_poll_interval)
        {
            tracing::warn!(
                group_id = %self.settings.group_id, interval = ?self.settings.max_poll_interval,
                "no poll within max.poll.interval.ms: leaving the group"
            );
            asks.extend(self.leave());
            self.is_overdue = true;
            self.lose();
        }
        self.settle();
        if !self.is_heartbeating && self.due_at().is_some_and(|at| at <= now) {
            asks.push(self.heartbeat(now));
        }
    }

    /// When `plan` has something to ask if nothing else happens.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        let overdue_at = self.polled_at.saturating_add(self.settings.max_poll_interval);
        let overdue_at = (self.phase == Phase::Member).then_some(overdue_at);
        let due_at = self.due_at().filter(|_| !self.is_heartbeating);
        due_at.into_iter().chain(overdue_at).min()
    }

    /// When the next heartbeat is due.
    fn due_at(&self) -> Option<Duration> {
        match self.phase {
            Phase::Idle | Phase::Refused => None,
            Phase::Joining => {
                (self.owned.is_empty() && !self.is_overdue).then_some(self.not_before)
            }
            // What has changed is told at once: others wait for what this member gave up.
            Phase::Member if self.has_news() => Some(self.not_before),
            Phase::Member => Some(self.heartbeat_at.max(self.not_before)),
        }
    }

    fn has_news(&self) -> bool {
        self.told
            .as_ref()
            .is_none_or(|told| told.subscription != self.subscription || told.owned != self.owned)
    }

    fn heartbeat(&mut self, now: Duration) -> Ask {
        let told = self
            .told
            .replace(Told { subscription: self.subscription.clone(), owned: self.owned.clone() });
        let told = told.filter(|_| self.epoch != JOIN);
        let is_full = told.is_none();
        let mut request = ConsumerGroupHeartbeatRequest {
            // A static member is known by its name in every heartbeat.
            instance_id: self.settings.instance_id.clone(),
            ..self.request()
        };
        if is_full {
            let rack = &self.settings.rack;
            request.rack_id = (!rack.is_empty()).then(|| rack.clone());
            request.rebalance_timeout_ms = millis(self.settings.rebalance_timeout);
            request.server_assignor.clone_from(&self.settings.assignor);
        }
        let subscription = told.as_ref().map(|it| &it.subscription);
        if subscription.is_none_or(|it| it.topics != self.subscription.topics) {
            let topics = self.subscription.topics.iter().map(ToString::to_string);
            request.subscribed_topic_names = Some(topics.collect());
        }
        let old_regex = subscription.and_then(|it| it.regex.as_ref());
        if old_regex != self.subscription.regex.as_ref() {
            // Empty: no longer any.
            request.subscribed_topic_regex =
                Some(self.subscription.regex.clone().unwrap_or_default());
        }
        if told.is_none_or(|it| it.owned != self.owned) {
            request.topic_partitions = Some(by_id(&self.owned));
        }
        self.is_heartbeating = true;
        self.heartbeat_at = now.saturating_add(self.interval);
        Ask::Consumer(self.attempt, request)
    }

    fn request(&self) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: self.settings.group_id.to_string(),
            member_id: self.member_id.clone(),
            member_epoch: self.epoch,
            ..ConsumerGroupHeartbeatRequest::default()
        }
    }

    /// Takes in the answer to a heartbeat.
    pub(super) fn on_heartbeat(
        &mut self,
        now: Duration,
        attempt: Attempt,
        answer: Result<ConsumerGroupHeartbeatResponse, RequestError>,
        cluster: &Cluster,
    ) -> Option<ConsumeError> {
        if attempt != self.attempt {
            return None;
        }
        self.is_heartbeating = false;
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                // It may have been heard or not: the next one tells everything.
                self.told = None;
                if !error.is_retriable() {
                    return Some(self.refuse(error.into()));
                }
                tracing::debug!(group_id = %self.settings.group_id, %error, "no heartbeat");
                self.not_before = now + self.backoff.next_wait();
                return None;
            }
        };
        match ErrorCode::from_wire(response.error_code) {
            ErrorCode::None => {
                self.accept(now, response, cluster);
                None
            }
            code => self.on_code(now, code, response.error_message),
        }
    }

    fn accept(&mut self, now: Duration, told: ConsumerGroupHeartbeatResponse, cluster: &Cluster) {
        self.backoff.reset();
        self.not_before = Duration::ZERO;
        if let Some(member_id) = told.member_id {
            self.member_id = member_id;
        }
        if self.phase == Phase::Joining {
            tracing::info!(
                group_id = %self.settings.group_id, member_id = %self.member_id,
                member_epoch = told.member_epoch, "joined"
            );
            self.phase = Phase::Member;
        }
        self.epoch = told.member_epoch;
        // All that it owns it has by this epoch, too.
        self.identity = GroupMetadata {
            group_id: self.settings.group_id.to_string(),
            generation: GenerationId(self.epoch),
            member_id: self.member_id.clone(),
            instance_id: self.settings.instance_id.clone(),
        };
        self.interval =
            Duration::from_millis(u64::try_from(told.heartbeat_interval_ms).unwrap_or(0));
        self.heartbeat_at = now.saturating_add(self.interval);
        if let Some(HeartbeatAssignment { topic_partitions }) = told.assignment {
            let of =
                |it: HeartbeatTopicPartitions| (it.topic_id, it.partitions.into_iter().collect());
            self.target = topic_partitions.into_iter().map(of).collect();
            self.is_news = true;
            self.resolve(cluster);
        }
    }

    fn on_code(
        &mut self,
        now: Duration,
        code: ErrorCode,
        message: Option<String>,
    ) -> Option<ConsumeError> {
        self.told = None;
        match code {
            ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch => {
                tracing::info!(group_id = %self.settings.group_id, %code, "joining anew");
                self.lose();
                None
            }
            // Those that it may read it goes on reading; the caller hears of the others.
            ErrorCode::TopicAuthorizationFailed => {
                self.not_before = now + self.backoff.next_wait();
                Some(self.refusal(code, message))
            }
            code if code.is_retriable() => {
                self.not_before = now + self.backoff.next_wait();
                None
            }
            code => {
                let error = self.refusal(code, message);
                Some(self.refuse(error))
            }
        }
    }

    fn refusal(&self, code: ErrorCode, message: Option<String>) -> ConsumeError {
        let group_id = Arc::clone(&self.settings.group_id);
        if let Some(message) = message {
            tracing::warn!(%group_id, %code, message, "the coordinator refuses");
        }
        ConsumeError::GroupRefused { group_id, code }
    }

    /// Takes in that a commit under `identity` was refused.
    pub(super) fn on_commit_refused(
        &mut self,
        now: Duration,
        identity: &GroupMetadata,
        code: ErrorCode,
    ) -> Option<ConsumeError> {
        // A member that has moved on since knows better.
        let is_present = self.identity == *identity && self.phase == Phase::Member;
        if !is_present {
            return None;
        }
        match code {
            // The next heartbeat brings the epoch that is the newest by now.
            ErrorCode::StaleMemberEpoch | ErrorCode::RebalanceInProgress => {
                self.heartbeat_at = now;
                None
            }
            code => self.on_code(now, code, None),
        }
    }

    /// True while it goes on being the member of `identity`, perhaps under a newer epoch.
    pub(super) fn may_outgrow(&self, identity: &GroupMetadata) -> bool {
        self.phase == Phase::Member && !self.is_lost && self.member_id == identity.member_id
    }

    /// No member any more, be it that others have what it owned.
    fn lose(&mut self) {
        self.is_lost = true;
        self.join_anew();
        self.settle();
    }

    fn join_anew(&mut self) {
        self.step(Phase::Joining);
        self.forget_target();
        self.epoch = JOIN;
    }

    fn refuse(&mut self, error: ConsumeError) -> ConsumeError {
        self.step(Phase::Refused);
        self.forget_target();
        self.epoch = JOIN;
        self.is_lost = true;
        self.settle();
        error
    }

    fn forget_target(&mut self) {
        self.target = BTreeMap::new();
        self.desired = Owned::new();
        self.nameless = BTreeSet::new();
        self.is_news = false;
    }

    /// Answers to what was asked before do not count.
    fn step(&mut self, phase: Phase) {
        self.phase = phase;
        self.attempt += 1;
        self.is_heartbeating = false;
        self.told = None;
    }

    /// Asserts the invariants that the header states.
    #[cfg(test)]
    fn check(&self) {
        let revoking = self.revoking.as_ref().map(|it| &it.revoked.partitions);
        // What is taken away while the caller gives something else up comes next.
        let is_busy = self.revoking.as_ref().is_some_and(|it| it.is_told);
        for (partition, id) in &self.owned {
            let is_desired = !self.is_lost && self.desired.get(partition) == Some(id);
            let is_going = revoking.is_some_and(|it| it.contains(partition));
            assert!(is_desired || is_going || is_busy, "{partition} is owned without right");
        }
        if let Some(Revoking { revoked, .. }) = &self.revoking {
            assert!(!revoked.partitions.is_empty());
            assert!(revoked.partitions.iter().all(|it| self.owned.contains_key(it)));
        }
        if self.phase == Phase::Joining {
            assert!(self.owned.is_empty() || !self.is_heartbeating, "it joins owning nothing");
        }
    }
}

fn by_id(owned: &Owned) -> Vec<HeartbeatTopicPartitions> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for (partition, id) in owned {
        topics.entry(*id).or_default().push(partition.partition.0);
    }
    let one = |(topic_id, partitions)| HeartbeatTopicPartitions { topic_id, partitions };
    topics.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests;
