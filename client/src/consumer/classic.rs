//! Membership in a classic group: join, sync, heartbeat, leave.
//!
//! | phase | meaning | next |
//! |---|---|---|
//! | `Idle` | not subscribed | `Outside` by subscribing |
//! | `Outside` | no member, or no longer one | `Joining` |
//! | `Preparing` | a member whose group rebalances, and that has yet to give up partitions | `Joining` |
//! | `Joining` | JoinGroup is under way | `Assigning` as leader, `Syncing` as follower |
//! | `Assigning` | leader, waits to know the topics of all members | `Syncing` |
//! | `Syncing` | SyncGroup is under way | `Stable` |
//! | `Stable` | owns what it was assigned | `Preparing`, `Outside` |
//! | `Refused` | the coordinator will have no more of it | `Outside` by subscribing anew |
//!
//! A newcomer is refused once and given its member id, with which it joins again (KIP-394). A
//! member with an instance id does not leave, so that it may come back unnoticed (KIP-345).
//! Answers to what was asked before the phase changed are told by their attempt, and do not count.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::api::consumer_group::ConsumerGroupHeartbeatRequest;
use protocol::api::group::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupRequestProtocol,
    JoinGroupResponse, LeaveGroupRequest, MemberIdentity, SyncGroupRequest,
    SyncGroupRequestAssignment, SyncGroupResponse,
};
use protocol::consumer_protocol::{
    self, ConsumerProtocolAssignment, ConsumerProtocolPartitions, ConsumerProtocolSubscription,
};
use protocol::error_code::ErrorCode;
use protocol::ids::{GenerationId, TopicPartition};

use super::assignor::{self, Subscriber};
use super::error::ConsumeError;
use crate::backoff::Backoff;
use crate::cluster::Cluster;
use crate::config::Assignor;
use crate::error::RequestError;
use crate::group_offsets::GroupMetadata;

/// What kind of group consumers form.
const PROTOCOL_TYPE: &str = "consumer";

/// 3: the newest version of subscriptions and assignments; older members read it as theirs.
const CONSUMER_PROTOCOL_VERSION: i16 = 3;

/// What the settings say of a member.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) group_id: Arc<str>,
    pub(super) instance_id: Option<String>,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) heartbeat_interval: Duration,
    pub(super) assignor: Assignor,
    pub(super) rack: String,
}

/// Which question an answer belongs to.
pub(super) type Attempt = u64;

/// What to ask the coordinator.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Join(Attempt, JoinGroupRequest),
    Sync(Attempt, SyncGroupRequest),
    Heartbeat(Attempt, HeartbeatRequest),
    Leave(LeaveGroupRequest),
    /// The one question of KIP-848's protocol.
    Consumer(Attempt, ConsumerGroupHeartbeatRequest),
    ConsumerLeave(ConsumerGroupHeartbeatRequest),
}

/// What an answer means for what the member owns.
#[derive(Debug)]
pub(super) enum Change {
    /// Nothing, or nothing yet.
    Nothing,
    /// Others may own it already.
    Lost,
    /// This is what it owns from now on.
    Assigned(BTreeSet<TopicPartition>),
    /// It is no member, and will not be.
    Refused(ConsumeError),
}

#[derive(Debug)]
enum Phase {
    Idle,
    Outside,
    Preparing,
    Joining,
    Assigning { members: Vec<Subscriber> },
    Syncing,
    Stable,
    Refused,
}

/// A member of a classic group, or who wants to be one.
#[derive(Debug)]
pub(super) struct Member {
    settings: Settings,
    topics: BTreeSet<Arc<str>>,
    phase: Phase,
    member_id: String,
    generation: GenerationId,
    /// The protocol that the coordinator chose.
    protocol: String,
    /// What the leader knew of topics when it assigned; it joins again when one has changed.
    /// Empty for followers.
    counts: BTreeMap<Arc<str>, u32>,
    attempt: Attempt,
    not_before: Duration,
    backoff: Backoff,
    heartbeat_at: Duration,
    is_heartbeating: bool,
}

impl Member {
    pub(super) fn new(settings: Settings, backoff: Backoff) -> Self {
        Self {
            settings,
            topics: BTreeSet::new(),
            phase: Phase::Idle,
            member_id: String::new(),
            generation: GenerationId(-1),
            protocol: String::new(),
            counts: BTreeMap::new(),
            attempt: 0,
            not_before: Duration::ZERO,
            backoff,
            heartbeat_at: Duration::ZERO,
            is_heartbeating: false,
        }
    }

    /// Wants partitions of these topics, and joins, or joins again if they are others than before.
    pub(super) fn subscribe(&mut self, topics: BTreeSet<Arc<str>>) {
        let is_new = self.topics != topics;
        self.topics = topics;
        match self.phase {
            Phase::Idle | Phase::Refused => self.step(Phase::Outside),
            Phase::Joining | Phase::Assigning { .. } | Phase::Syncing | Phase::Stable if is_new => {
                self.rejoin();
            }
            Phase::Outside
            | Phase::Preparing
            | Phase::Joining
            | Phase::Assigning { .. }
            | Phase::Syncing
            | Phase::Stable => {}
        }
    }

    /// Wants to join again, for what it owns has changed.
    pub(super) fn rejoin(&mut self) {
        match self.phase {
            Phase::Idle | Phase::Outside | Phase::Preparing | Phase::Refused => {}
            // Nobody but the coordinator knows yet whether there is a generation to belong to.
            Phase::Joining => self.step(Phase::Outside),
            Phase::Assigning { .. } | Phase::Syncing | Phase::Stable => {
                self.step(Phase::Preparing);
            }
        }
    }

    /// Leaves the group, for good or until `plan` lets it join again. What to tell the
    /// coordinator: nothing when it is no member, or one that may come back.
    pub(super) fn leave(&mut self, is_over: bool, reason: &str) -> Option<Ask> {
        let is_member = !self.member_id.is_empty() && self.settings.instance_id.is_none();
        let leave = is_member.then(|| {
            let member = MemberIdentity {
                member_id: self.member_id.clone(),
                group_instance_id: None,
                reason: Some(reason.to_owned()),
            };
            Ask::Leave(LeaveGroupRequest {
                group_id: self.settings.group_id.to_string(),
                member_id: self.member_id.clone(),
                members: vec![member],
            })
        });
        self.forget(true);
        self.step(if is_over { Phase::Idle } else { Phase::Outside });
        if is_over {
            self.topics = BTreeSet::new();
        }
        leave
    }

    /// True for one that is, or may be, a member.
    pub(super) fn is_active(&self) -> bool {
        !matches!(self.phase, Phase::Idle | Phase::Outside | Phase::Refused)
    }

    /// True when it will join as soon as it owns nothing that stands in the way.
    pub(super) fn wants_to_join(&self) -> bool {
        matches!(self.phase, Phase::Outside | Phase::Preparing)
    }

    pub(super) fn metadata(&self) -> GroupMetadata {
        GroupMetadata {
            group_id: self.settings.group_id.to_string(),
            generation: self.generation,
            member_id: self.member_id.clone(),
            instance_id: self.settings.instance_id.clone(),
        }
    }

    /// True when `identity` is who this member is.
    pub(super) fn is(&self, identity: &GroupMetadata) -> bool {
        self.member_id == identity.member_id && self.generation == identity.generation
    }

    /// Topics about which it must know: its own, and as leader those of all.
    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        let mut topics = self.topics.clone();
        topics.extend(self.counts.keys().cloned());
        if let Phase::Assigning { members } = &self.phase {
            topics.extend(members.iter().flat_map(|it| it.topics.iter().cloned()));
        }
        topics
    }

    pub(super) fn subscription(&self) -> &BTreeSet<Arc<str>> {
        &self.topics
    }

    /// What to ask the coordinator now. It joins only if `may_join`, claiming `owned`.
    pub(super) fn plan(
        &mut self,
        now: Duration,
        may_join: bool,
        owned: &BTreeSet<TopicPartition>,
        cluster: &Cluster,
        asks: &mut Vec<Ask>,
    ) {
        if self.is_leader_outdated(cluster) {
            tracing::debug!(group_id = %self.settings.group_id, "topics have changed");
            self.rejoin();
        }
        if self.wants_to_join() && may_join && self.not_before <= now {
            self.step(Phase::Joining);
            asks.push(Ask::Join(self.attempt, self.join_request(owned)));
        }
        if let Some(sync) = self.assign(cluster) {
            asks.push(Ask::Sync(self.attempt, sync));
        }
        if self.is_heartbeat_due() && self.heartbeat_at <= now {
            self.is_heartbeating = true;
            self.heartbeat_at = now + self.settings.heartbeat_interval;
            let request = HeartbeatRequest {
                group_id: self.settings.group_id.to_string(),
                generation_id: self.generation.0,
                member_id: self.member_id.clone(),
                group_instance_id: self.settings.instance_id.clone(),
            };
            asks.push(Ask::Heartbeat(self.attempt, request));
        }
    }

    /// When `plan` has something to ask if nothing else happens.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        let join_at = self.wants_to_join().then_some(self.not_before);
        let heartbeat_at = self.is_heartbeat_due().then_some(self.heartbeat_at);
        join_at.into_iter().chain(heartbeat_at).min()
    }

    fn is_heartbeat_due(&self) -> bool {
        let is_member = match self.phase {
            Phase::Preparing | Phase::Assigning { .. } | Phase::Syncing | Phase::Stable => true,
            Phase::Idle | Phase::Outside | Phase::Joining | Phase::Refused => false,
        };
        is_member && !self.is_heartbeating
    }

    fn step(&mut self, phase: Phase) {
        self.phase = phase;
        self.attempt += 1;
        self.is_heartbeating = false;
    }

    fn forget(&mut self, with_member_id: bool) {
        self.generation = GenerationId(-1);
        self.counts = BTreeMap::new();
        if with_member_id {
            self.member_id = String::new();
        }
    }

    fn join_request(&self, owned: &BTreeSet<TopicPartition>) -> JoinGroupRequest {
        let rack = &self.settings.rack;
        let subscription = ConsumerProtocolSubscription {
            topics: self.topics.iter().map(ToString::to_string).collect(),
            user_data: None,
            owned_partitions: by_topic(owned),
            generation_id: self.generation.0,
            rack_id: (!rack.is_empty()).then(|| rack.clone()),
        };
        let protocol = JoinGroupRequestProtocol {
            name: self.settings.assignor.name().to_owned(),
            metadata: consumer_protocol::encode(CONSUMER_PROTOCOL_VERSION, &subscription)
                .expect("topics that brokers know fit the wire"),
        };
        JoinGroupRequest {
            group_id: self.settings.group_id.to_string(),
            session_timeout_ms: millis(self.settings.session_timeout),
            rebalance_timeout_ms: millis(self.settings.rebalance_timeout),
            member_id: self.member_id.clone(),
            group_instance_id: self.settings.instance_id.clone(),
            protocol_type: PROTOCOL_TYPE.to_owned(),
            protocols: vec![protocol],
            reason: None,
        }
    }

    fn sync_request(&self, assignments: Vec<SyncGroupRequestAssignment>) -> SyncGroupRequest {
        SyncGroupRequest {
            group_id: self.settings.group_id.to_string(),
            generation_id: self.generation.0,
            member_id: self.member_id.clone(),
            group_instance_id: self.settings.instance_id.clone(),
            protocol_type: Some(PROTOCOL_TYPE.to_owned()),
            protocol_name: Some(self.protocol.clone()),
            assignments,
        }
    }

    /// Takes in the answer to JoinGroup.
    pub(super) fn on_join(
        &mut self,
        now: Duration,
        attempt: Attempt,
        answer: Result<JoinGroupResponse, RequestError>,
    ) -> (Change, Option<Ask>) {
        if attempt != self.attempt {
            return (Change::Nothing, None);
        }
        let response = match answer {
            Ok(response) => response,
            Err(error) => return (self.on_failure(now, error), None),
        };
        let code = ErrorCode::from_wire(response.error_code);
        if code == ErrorCode::MemberIdRequired {
            self.member_id = response.member_id;
            self.step(Phase::Outside);
            return (Change::Nothing, None);
        }
        if !code.is_ok() {
            return (self.on_code(now, code), None);
        }
        self.backoff.reset();
        self.member_id = response.member_id;
        self.generation = GenerationId(response.generation_id);
        self.protocol = response.protocol_name.unwrap_or_default();
        self.heartbeat_at = now + self.settings.heartbeat_interval;
        self.counts = BTreeMap::new();
        let is_leader = response.leader == self.member_id && !response.skip_assignment;
        tracing::info!(
            group_id = %self.settings.group_id, member_id = %self.member_id,
            generation = self.generation.0, is_leader, "joined"
        );
        if is_leader {
            let members = response
                .members
                .into_iter()
                .map(|it| subscriber(it.member_id, it.group_instance_id, it.metadata));
            self.step(Phase::Assigning { members: members.collect() });
            return (Change::Nothing, None);
        }
        self.step(Phase::Syncing);
        let sync = Ask::Sync(self.attempt, self.sync_request(Vec::new()));
        (Change::Nothing, Some(sync))
    }

    /// As leader, once the topics of all members are known: what to tell the coordinator.
    fn assign(&mut self, cluster: &Cluster) -> Option<SyncGroupRequest> {
        let Phase::Assigning { members } = &self.phase else { return None };
        let topics: BTreeSet<_> = members.iter().flat_map(|it| &it.topics).collect();
        let counts: Option<BTreeMap<Arc<str>, u32>> = topics
            .into_iter()
            .map(|it| {
                let topic = cluster.topic(it)?;
                Some((Arc::clone(it), topic.partition_count()))
            })
            .collect();
        let counts = counts?;
        let assignor = self.settings.assignor;
        let assignments = assignor::assign(assignor, members, &counts).into_iter().map(
            |(member_id, partitions)| {
                let assignment = ConsumerProtocolAssignment {
                    assigned_partitions: by_topic(&partitions),
                    user_data: None,
                };
                let assignment = consumer_protocol::encode(CONSUMER_PROTOCOL_VERSION, &assignment)
                    .expect("topics that brokers know fit the wire");
                SyncGroupRequestAssignment { member_id, assignment }
            },
        );
        let assignments = assignments.collect();
        self.counts = counts;
        self.step(Phase::Syncing);
        Some(self.sync_request(assignments))
    }

    /// True when a topic has other partitions than those that the leader assigned. A topic that
    /// is gone, or not known at the moment, is no reason: its partitions disturb nobody.
    fn is_leader_outdated(&self, cluster: &Cluster) -> bool {
        matches!(self.phase, Phase::Stable)
            && self.counts.iter().any(|(topic, count)| {
                let now = cluster.topic(topic).map_or(0, crate::cluster::Topic::partition_count);
                now > 0 && now != *count
            })
    }

    /// Takes in the answer to SyncGroup.
    pub(super) fn on_sync(
        &mut self,
        now: Duration,
        attempt: Attempt,
        answer: Result<SyncGroupResponse, RequestError>,
    ) -> Change {
        if attempt != self.attempt {
            return Change::Nothing;
        }
        let response = match answer {
            Ok(response) => response,
            Err(error) => return self.on_failure(now, error),
        };
        let code = ErrorCode::from_wire(response.error_code);
        if !code.is_ok() {
            return self.on_code(now, code);
        }
        let assignment = match response.assignment {
            nothing if nothing.is_empty() => Ok(ConsumerProtocolAssignment::default()),
            assignment => consumer_protocol::decode(assignment),
        };
        match assignment {
            Ok(assignment) => {
                self.backoff.reset();
                self.step(Phase::Stable);
                Change::Assigned(partitions(assignment.assigned_partitions).collect())
            }
            Err(source) => {
                self.step(Phase::Refused);
                let group_id = Arc::clone(&self.settings.group_id);
                Change::Refused(ConsumeError::Assignment { group_id, source })
            }
        }
    }

    /// Takes in the answer to Heartbeat.
    pub(super) fn on_heartbeat(
        &mut self,
        now: Duration,
        attempt: Attempt,
        answer: Result<HeartbeatResponse, RequestError>,
    ) -> Change {
        if attempt != self.attempt {
            return Change::Nothing;
        }
        self.is_heartbeating = false;
        let code = match answer {
            Ok(response) => ErrorCode::from_wire(response.error_code),
            Err(error) if error.is_retriable() => {
                tracing::debug!(group_id = %self.settings.group_id, %error, "no heartbeat");
                ErrorCode::CoordinatorNotAvailable
            }
            Err(error) => return self.refuse(error.into()),
        };
        match code {
            ErrorCode::None => {
                self.backoff.reset();
                Change::Nothing
            }
            // Being asked to join again is no news to one that is about to.
            ErrorCode::RebalanceInProgress => {
                if matches!(self.phase, Phase::Stable) {
                    self.step(Phase::Preparing);
                }
                Change::Nothing
            }
            code if code.is_retriable() => {
                self.heartbeat_at = self.heartbeat_at.min(now + self.backoff.next_wait());
                Change::Nothing
            }
            code => self.on_code(now, code),
        }
    }

    /// Takes in that a commit was refused.
    pub(super) fn on_commit_refused(&mut self, now: Duration, code: ErrorCode) -> Change {
        match code {
            ErrorCode::RebalanceInProgress => {
                if matches!(self.phase, Phase::Stable) {
                    self.step(Phase::Preparing);
                }
                Change::Nothing
            }
            code => self.on_code(now, code),
        }
    }

    /// A join or sync had no answer: try again, as whoever the coordinator takes us for.
    fn on_failure(&mut self, now: Duration, error: RequestError) -> Change {
        if !error.is_retriable() {
            return self.refuse(error.into());
        }
        tracing::debug!(group_id = %self.settings.group_id, %error, "joining again");
        self.not_before = now + self.backoff.next_wait();
        self.step(Phase::Outside);
        Change::Nothing
    }

    fn on_code(&mut self, now: Duration, code: ErrorCode) -> Change {
        match code {
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => {
                self.forget(code == ErrorCode::UnknownMemberId);
                self.step(Phase::Outside);
                Change::Lost
            }
            ErrorCode::RebalanceInProgress => {
                self.step(Phase::Outside);
                Change::Nothing
            }
            code if code.is_retriable() => {
                self.not_before = now + self.backoff.next_wait();
                self.step(Phase::Outside);
                Change::Nothing
            }
            code => {
                let group_id = Arc::clone(&self.settings.group_id);
                self.refuse(ConsumeError::GroupRefused { group_id, code })
            }
        }
    }

    fn refuse(&mut self, error: ConsumeError) -> Change {
        self.forget(true);
        self.step(Phase::Refused);
        Change::Refused(error)
    }
}

/// A member as it describes itself. One whose words cannot be read wants nothing.
fn subscriber(member_id: String, instance_id: Option<String>, metadata: Bytes) -> Subscriber {
    let told: ConsumerProtocolSubscription = consumer_protocol::decode(metadata)
        .inspect_err(|error| tracing::warn!(%member_id, %error, "unreadable subscription"))
        .unwrap_or_default();
    Subscriber {
        member_id,
        instance_id,
        topics: told.topics.into_iter().map(Into::into).collect(),
        owned: partitions(told.owned_partitions).collect(),
        generation: told.generation_id,
    }
}

fn partitions(topics: Vec<ConsumerProtocolPartitions>) -> impl Iterator<Item = TopicPartition> {
    topics.into_iter().flat_map(|it| {
        let topic: Arc<str> = it.topic.into();
        it.partitions.into_iter().map(move |index| TopicPartition::new(Arc::clone(&topic), index))
    })
}

fn by_topic(partitions: &BTreeSet<TopicPartition>) -> Vec<ConsumerProtocolPartitions> {
    let by_topic = crate::group_offsets::by_topic(partitions.iter().map(|it| (it, ())));
    let one = |(topic, indexes): (String, Vec<(i32, ())>)| ConsumerProtocolPartitions {
        topic,
        partitions: indexes.into_iter().map(|(index, ())| index).collect(),
    };
    by_topic.into_iter().map(one).collect()
}

pub(super) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
