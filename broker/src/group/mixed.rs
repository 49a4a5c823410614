//! Members of the classic protocol in a consumer group, while its members change from one protocol
//! to the other. KIP-848.
//!
//! To such a member its epoch is the generation. Joining is its heartbeat that says all; syncing
//! fetches what it may read; a heartbeat tells it to join again when the group has moved on, when
//! it must give partitions up, or when it can have more. Nobody leads: the coordinator assigns.
//!
//! A whole group changes as well: a classic group whose members are consumers becomes a consumer
//! group when the first member of the new protocol joins, and one that only classic members are
//! left in becomes a classic group again.
//!
//! Pure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolPartitions, ConsumerProtocolSubscription, decode,
    encode,
};
use protocol::error_code::ErrorCode;
use protocol::ids::{GenerationId, PartitionIndex};
use protocol::message::Versioned;

use super::assignor::Assignment;
use super::beat::{ConsumerSettings, Sight};
use super::consumer_record::Change;
use super::heartbeat::Draft;
use super::modern::{ClassicPart, ConsumerGroup, Current, Epoch, MemberState, Subscriber, slots};
use super::reconcile::has;
use super::record::{GroupMetadataValue, MemberMetadata};
use super::{Join, Joined, Membership, Sync, Synced};
use crate::metadata::Image;

/// The protocol type of consumers.
pub const CONSUMER: &str = "consumer";

/// What a member of the classic protocol says of itself, understood.
#[derive(Clone, Debug)]
pub struct Told {
    subscriber: Subscriber,
    owned: Assignment,
}

/// Understands what `join` says; `None` when it is no consumer.
#[must_use]
pub fn understand(join: &Join, image: &Image) -> Option<Told> {
    let (_, first) = join.protocols.first().filter(|_| &*join.protocol_type == CONSUMER)?;
    let said = decode::<ConsumerProtocolSubscription>(first.clone()).ok()?;
    let subscriber = Subscriber {
        instance_id: join.instance_id.clone(),
        rack_id: said.rack_id.map(Into::into),
        client_id: Arc::clone(&join.client_id),
        client_host: Arc::clone(&join.client_host),
        topics: said.topics.into_iter().map(Into::into).collect(),
        pattern: None,
        rebalance_timeout: join.rebalance_timeout,
        assignor: None,
        classic: Some(ClassicPart {
            session_timeout: join.session_timeout,
            protocols: join.protocols.clone(),
        }),
    };
    Some(Told { subscriber, owned: by_id(&said.owned_partitions, image) })
}

/// The partitions of topics that exist, by their ids.
fn by_id(partitions: &[ConsumerProtocolPartitions], image: &Image) -> Assignment {
    let mut assignment = Assignment::new();
    for topic in partitions.iter().filter(|it| !it.partitions.is_empty()) {
        if let Some(known) = image.topic(&topic.topic) {
            let indices = topic.partitions.iter().copied().map(PartitionIndex);
            assignment.entry(known.id).or_default().extend(indices);
        }
    }
    assignment
}

/// An assignment as classic members read it, in the version in which they speak.
fn by_name(assignment: &Assignment, subscription: &Bytes, image: &Image) -> Bytes {
    let topics = assignment.iter().filter_map(|(id, indices)| {
        let topic = image.topic_by_id(*id)?;
        let partitions = indices.iter().map(|it| it.0).collect();
        Some(ConsumerProtocolPartitions { topic: topic.name.to_string(), partitions })
    });
    let told =
        ConsumerProtocolAssignment { assigned_partitions: topics.collect(), user_data: None };
    let spoken = subscription.first_chunk().copied().map_or(0, i16::from_be_bytes);
    let versions = ConsumerProtocolAssignment::VERSIONS;
    let version = spoken.clamp(*versions.start(), *versions.end());
    encode(version, &told).expect("names of topics are bounded")
}

impl ConsumerGroup {
    fn classic_part(&self, id: &str) -> Option<&ClassicPart> {
        self.member(id)?.1.classic.as_ref()
    }

    /// True when every member but those of the consumer protocol supports one of `protocols`.
    fn supports(&self, except: &str, protocols: &[(Arc<str>, Bytes)]) -> bool {
        let others = || {
            let members = self.subscribers().filter(|(id, _, _)| &***id != except);
            members.filter_map(|(_, _, it)| it.classic.as_ref())
        };
        let everybody = |name: &Arc<str>| {
            others().all(|it| it.protocols.iter().any(|(theirs, _)| theirs == name))
        };
        protocols.iter().any(|(name, _)| everybody(name))
    }

    /// The member that `from` names, if it is one and speaks the classic protocol.
    fn known_classic(&self, from: &Membership) -> Result<(&Current, &ClassicPart), ErrorCode> {
        if let Some(instance) = &from.instance_id {
            match self.instances.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if *holder != from.member_id => {
                    return Err(ErrorCode::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        let (member, _) = self.member(&from.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        let classic = self.classic_part(&from.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if member.current.epoch != Epoch(from.generation.0) {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok((&member.current, classic))
    }

    /// Whether a classic member must join again.
    ///
    /// # Errors
    /// The code for its heartbeat.
    pub fn classic_heartbeat(&self, from: &Membership) -> Result<(), ErrorCode> {
        let (current, _) = self.known_classic(from)?;
        let can_have_more = || {
            let target = &self.members[&from.member_id].target;
            let lacks = |slot: &_| !has(&current.assigned, slot);
            slots(target).filter(lacks).all(|slot| !self.holders.contains_key(&slot))
        };
        let must_rejoin = current.epoch < self.epoch
            || current.state == MemberState::Unrevoked
            || (current.state == MemberState::Unreleased && can_have_more());
        if must_rejoin { Err(ErrorCode::RebalanceInProgress) } else { Ok(()) }
    }

    /// What a classic member may read.
    ///
    /// # Errors
    /// The code for its SyncGroup.
    pub fn classic_sync(&self, sync: &Sync, image: &Image) -> Result<Synced, ErrorCode> {
        let (current, classic) = self.known_classic(&sync.member)?;
        let told = |it: &Arc<str>| classic.protocols.iter().find(|(name, _)| name == it);
        let other_type = sync.protocol_type.as_deref().is_some_and(|it| it != CONSUMER);
        let chosen = match &sync.protocol {
            Some(name) => told(name),
            None => classic.protocols.first(),
        };
        let (name, subscription) =
            chosen.filter(|_| !other_type).ok_or(ErrorCode::InconsistentGroupProtocol)?;
        // One that has partitions to give up fetches first what it may keep.
        if current.epoch < self.epoch && current.state != MemberState::Unrevoked {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(Synced {
            error: ErrorCode::None,
            protocol_type: Some(CONSUMER.into()),
            protocol: Some(Arc::clone(name)),
            assignment: by_name(&current.assigned, subscription, image),
        })
    }

    /// Those of `members` that leave: their ids, or why not. Who names a static id alone is a tool.
    pub fn classic_leavers(
        &self,
        members: &[(Arc<str>, Option<Arc<str>>)],
    ) -> Vec<Result<Arc<str>, ErrorCode>> {
        let one = |(id, instance): &(Arc<str>, Option<Arc<str>>)| {
            let holder = instance.as_ref().map(|it| self.instances.get(it));
            let id = match holder {
                Some(None) => return Err(ErrorCode::UnknownMemberId),
                Some(Some(holder)) if !id.is_empty() && holder != id => {
                    return Err(ErrorCode::FencedInstanceId);
                }
                Some(Some(holder)) => holder,
                None => id,
            };
            self.classic_part(id).ok_or(ErrorCode::UnknownMemberId)?;
            Ok(Arc::clone(id))
        };
        members.iter().map(one).collect()
    }

    /// The same group with the classic protocol, when no member speaks another.
    #[must_use]
    pub fn downgraded(&self, image: &Image) -> Option<GroupMetadataValue> {
        let all =
            || self.subscribers().map(|(id, member, it)| (id, member, it, it.classic.as_ref()));
        let (leader, _, _, first) = all().next()?;
        if all().any(|(_, _, _, classic)| classic.is_none()) {
            return None;
        }
        let shared = first?.protocols.iter().find(|it| self.supports("", std::slice::from_ref(it)));
        let protocol = &shared?.0;
        let millis = |it: Duration| i32::try_from(it.as_millis()).unwrap_or(i32::MAX);
        let mut members = Vec::new();
        for (id, member, subscriber, classic) in all() {
            let classic = classic?;
            let told = classic.protocols.iter().find(|(name, _)| name == protocol)?;
            members.push(MemberMetadata {
                member_id: id.to_string(),
                group_instance_id: subscriber.instance_id.as_deref().map(Into::into),
                client_id: subscriber.client_id.to_string(),
                client_host: subscriber.client_host.to_string(),
                rebalance_timeout: millis(subscriber.rebalance_timeout),
                session_timeout: millis(classic.session_timeout),
                subscription: told.1.clone(),
                assignment: by_name(&member.current.assigned, &told.1, image),
            });
        }
        Some(GroupMetadataValue {
            protocol_type: CONSUMER.to_owned(),
            generation: self.epoch.0,
            protocol: Some(protocol.to_string()),
            leader: Some(leader.to_string()),
            current_state_timestamp: self.epoch_at.0,
            members,
        })
    }
}

/// A member of a classic group that becomes a consumer group.
#[derive(Clone, Debug)]
pub struct Moving {
    /// Its member id.
    pub member_id: Arc<str>,
    /// What it told of itself.
    pub told: Told,
    /// What its leader gave it; what it says it owns counts, too.
    pub assignment: Bytes,
}

impl Draft<'_> {
    /// A classic member joins. Who is new here, or replaces another, comes under the id `given`.
    ///
    /// # Errors
    /// The code for its JoinGroup.
    pub fn classic_join(
        &mut self,
        settings: &ConsumerSettings,
        join: &Join,
        given: &Arc<str>,
        topics_changed: bool,
    ) -> Result<Joined, ErrorCode> {
        let told = understand(join, self.image).ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let holder = join.instance_id.as_ref().and_then(|it| self.group.instances.get(it)).cloned();
        let id = if join.member_id.is_empty() { given } else { &join.member_id };
        let known = holder.as_ref().unwrap_or(id);
        if !self.group.supports(known, &join.protocols) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match &holder {
            Some(holder) if holder == id => {}
            Some(_) if !join.member_id.is_empty() => return Err(ErrorCode::FencedInstanceId),
            Some(holder) => self.take_over(holder, id, Epoch::JOIN),
            None if self.group.member(id).is_some() => {}
            None if settings.members_max <= self.group.subscribers().count() => {
                return Err(ErrorCode::GroupMaxSizeReached);
            }
            None if join.member_id.is_empty()
                && join.requires_member_id
                && join.instance_id.is_none() =>
            {
                return Err(ErrorCode::MemberIdRequired);
            }
            None => {}
        }
        let before = self.group.member(id).map(|(_, it)| Arc::clone(it));
        // It names what it wants: there is no expression to look up.
        let (told_of_it, sight) = (told.subscriber, &Sight::ALL);
        let updated = self.update(settings, id, before, told_of_it, topics_changed, sight);
        updated.map_err(|error| error.code())?;
        let current = self.reconcile(id, Some(&told.owned)).map_err(|error| error.code())?;
        Ok(Joined {
            error: ErrorCode::None,
            generation: GenerationId(current.epoch.0),
            protocol_type: Some(CONSUMER.into()),
            protocol: join.protocols.first().map(|(name, _)| Arc::clone(name)),
            leader: Arc::default(),
            member_id: Arc::clone(id),
            skip_assignment: false,
            members: Vec::new(),
        })
    }

    /// The members of a classic group come in as they stand; a partition that two of them claim
    /// stays with the first.
    pub fn move_in(&mut self, generation: GenerationId, members: Vec<Moving>) {
        let epoch = Epoch(generation.0);
        let mut taken = BTreeSet::new();
        let mut places = Vec::new();
        for moving in members {
            let given = decode::<ConsumerProtocolAssignment>(moving.assignment);
            let given = given.map(|it| by_id(&it.assigned_partitions, self.image));
            let mut assigned = Assignment::new();
            let given = given.unwrap_or_default();
            for slot in slots(&given).chain(slots(&moving.told.owned)) {
                if taken.insert(slot) {
                    assigned.entry(slot.0).or_default().insert(slot.1);
                }
            }
            let subscriber = Arc::new(moving.told.subscriber);
            self.write(&Change::Member(Arc::clone(&moving.member_id), Some(subscriber)));
            places.push((moving.member_id, assigned));
        }
        self.write(&Change::Epoch(Some((epoch, 0))));
        for (id, assigned) in &places {
            self.write(&Change::Target(Arc::clone(id), Some(Arc::new(assigned.clone()))));
        }
        self.write(&Change::TargetEpoch(Some(epoch)));
        for (id, assigned) in places {
            let current = Current { epoch, previous_epoch: epoch, assigned, ..Current::default() };
            self.write(&Change::Current(id, Some(Arc::new(current))));
        }
    }
}
