//! A classic group as others see it: in the log, in a listing, and by its own invariants.
//!
//! Pure.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::consumer_protocol::{ConsumerProtocolSubscription, decode};
use protocol::error_code::ErrorCode;
use protocol::ids::GenerationId;
use protocol::time::Now;

use super::classic::Group;
use super::member::{Member, Out, State};
use super::memory::ENTRY_BYTES;
use super::mixed::{CONSUMER, Moving, understand};
use super::record::{GroupMetadataValue, MemberMetadata};
use super::{DescribedMember, Description, Join};
use crate::metadata::Image;

impl Group {
    /// The group as the last coordinator left it: stable, its members given a session to be heard.
    #[must_use]
    pub fn restored(value: &GroupMetadataValue, now: Now) -> Self {
        let mut group = Self::new(now);
        group.generation = GenerationId(value.generation);
        group.protocol_type = Some(value.protocol_type.as_str().into());
        group.protocol = value.protocol.as_deref().map(Into::into);
        group.leader = value.leader.as_deref().map(Into::into);
        let millis = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        for member in &value.members {
            let id: Arc<str> = member.member_id.as_str().into();
            let instance_id: Option<Arc<str>> = member.group_instance_id.as_deref().map(Into::into);
            if let Some(instance) = &instance_id {
                group.instances.insert(Arc::clone(instance), Arc::clone(&id));
            }
            let session_timeout = millis(member.session_timeout);
            let protocol = group.protocol.clone().unwrap_or_default();
            let restored = Member {
                instance_id,
                client_id: member.client_id.as_str().into(),
                client_host: member.client_host.as_str().into(),
                session_timeout,
                rebalance_timeout: millis(member.rebalance_timeout),
                protocols: vec![(protocol, member.subscription.clone())],
                assignment: member.assignment.clone(),
                joining: None,
                syncing: None,
                has_synced: true,
                expires: now.monotonic + session_timeout,
            };
            group.members.insert(id, restored);
        }
        if !group.members.is_empty() {
            group.state = State::Stable;
            group.empty_since = None;
        }
        group
    }

    /// What the next coordinator must know.
    #[must_use]
    pub fn metadata(&self, now: Now) -> GroupMetadataValue {
        let millis = |it: Duration| i32::try_from(it.as_millis()).unwrap_or(i32::MAX);
        let member = |(id, member): (&Arc<str>, &Member)| MemberMetadata {
            member_id: id.to_string(),
            group_instance_id: member.instance_id.as_deref().map(Into::into),
            client_id: member.client_id.to_string(),
            client_host: member.client_host.to_string(),
            rebalance_timeout: millis(member.rebalance_timeout),
            session_timeout: millis(member.session_timeout),
            subscription: member.subscription(self.protocol.as_ref()),
            assignment: member.assignment.clone(),
        };
        GroupMetadataValue {
            protocol_type: self.protocol_type.as_deref().unwrap_or_default().to_owned(),
            generation: self.generation.0,
            protocol: self.protocol.as_deref().map(Into::into),
            leader: self.leader.as_deref().map(Into::into),
            current_state_timestamp: now.wall.0,
            members: self.members.iter().map(member).collect(),
        }
    }

    /// Since when the group has had no members. KIP-211.
    #[must_use]
    pub fn empty_since(&self) -> Option<Now> {
        let is_empty = self.state == State::Empty && self.promised.is_empty();
        self.empty_since.filter(|_| is_empty)
    }

    /// The state's name, as Kafka spells it.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::Preparing { .. } => "PreparingRebalance",
            State::Completing { .. } => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }

    /// What kind of members; empty before the first.
    #[must_use]
    pub fn protocol_type(&self) -> Arc<str> {
        self.protocol_type.clone().unwrap_or_default()
    }

    /// True when the group has no members, or members of the kind that subscribe to topics.
    #[must_use]
    pub fn is_empty_or_of_consumers(&self) -> bool {
        self.members.is_empty() || self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// True when some member subscribes to the topic of this name, or may: what a member says
    /// may be of a kind that we do not understand.
    #[must_use]
    pub fn is_subscribed(&self, topic: &str) -> bool {
        let told = self.members.values().flat_map(|it| &it.protocols);
        let mut subscriptions =
            told.map(|(_, told)| decode::<ConsumerProtocolSubscription>(told.clone()));
        let is_other = self.protocol_type.as_deref() != Some(CONSUMER);
        subscriptions
            .any(|it| is_other || it.map_or(true, |it| it.topics.iter().any(|it| it == topic)))
    }

    /// Its members as a consumer group takes them in; `None` when they are no consumers.
    #[must_use]
    pub fn moving(&self, image: &Image) -> Option<Vec<Moving>> {
        let one = |(id, member): (&Arc<str>, &Member)| {
            let join = Join {
                group: Arc::default(),
                member_id: Arc::clone(id),
                instance_id: member.instance_id.clone(),
                client_id: Arc::clone(&member.client_id),
                client_host: Arc::clone(&member.client_host),
                session_timeout: member.session_timeout,
                rebalance_timeout: member.rebalance_timeout,
                protocol_type: self.protocol_type(),
                protocols: member.protocols.clone(),
                requires_member_id: false,
                can_skip_assignment: false,
            };
            let told = understand(&join, image)?;
            let (member_id, assignment) = (Arc::clone(id), member.assignment.clone());
            Some(Moving { member_id, told, assignment })
        };
        self.members.iter().map(one).collect()
    }

    /// About what the group takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let members: usize = self.members.iter().map(|(id, it)| it.bytes(id)).sum();
        let promised: usize = self.promised.keys().map(|id| ENTRY_BYTES + id.len()).sum();
        ENTRY_BYTES + members + promised
    }

    /// About what the member takes whose place `join` takes; 0 for a new one.
    #[must_use]
    pub fn bytes_before(&self, join: &Join) -> usize {
        let holder = join.instance_id.as_ref().and_then(|it| self.instances.get(it));
        let id = holder.unwrap_or(&join.member_id);
        self.members.get(id).map_or(0, |it| it.bytes(id))
    }

    /// The generation.
    #[must_use]
    pub fn generation(&self) -> GenerationId {
        self.generation
    }

    /// The group becomes another: who waits is to ask again.
    pub fn dissolve(&mut self, out: &mut Out) {
        for (id, member) in &mut self.members {
            if let Some(token) = member.joining.take() {
                out.join_refused(token, ErrorCode::RebalanceInProgress, Arc::clone(id));
            }
            if let Some(token) = member.syncing.take() {
                out.sync_refused(token, ErrorCode::RebalanceInProgress);
            }
        }
    }

    /// The group, for people.
    #[must_use]
    pub fn describe(&self) -> Description {
        // What is being assigned anew is nobody's to show.
        let is_stable = self.state == State::Stable;
        let member = |(id, member): (&Arc<str>, &Member)| DescribedMember {
            member_id: Arc::clone(id),
            instance_id: member.instance_id.clone(),
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            subscription: member.subscription(self.protocol.as_ref()),
            assignment: if is_stable { member.assignment.clone() } else { Bytes::new() },
        };
        Description {
            error: ErrorCode::None,
            state: self.state_name(),
            protocol_type: self.protocol_type(),
            protocol: self.protocol.clone().unwrap_or_default(),
            members: self.members.iter().map(member).collect(),
        }
    }

    /// Asserts the invariants.
    #[cfg(any(test, feature = "check"))]
    pub fn check(&self) {
        let waits = |it: &Member| it.joining.is_some() || it.syncing.is_some();
        match self.state {
            State::Empty => assert!(self.members.is_empty()),
            State::Stable => assert!(!self.members.values().any(waits)),
            State::Preparing { .. } => {
                assert!(self.members.values().all(|it| it.syncing.is_none()));
            }
            State::Completing { .. } => {
                assert!(self.members.values().all(|it| it.joining.is_none()));
            }
        }
        assert!(self.instances.values().all(|id| self.members.contains_key(id)));
        assert!(self.leader.as_ref().is_none_or(|it| {
            self.members.contains_key(it) || matches!(self.state, State::Preparing { .. })
        }));
    }
}
