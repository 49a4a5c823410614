//! One classic group: its members, its generation, the round under way.
//!
//! Every method takes the time and appends to [`Out`] what to say and whether membership must be
//! written. What is written is a fact for the next coordinator (the last completed round); who
//! waits and the timers live here alone. Deadlines are on the monotonic clock. See the table of
//! states in the room's door.
//!
//! Invariants: in `Stable`, nobody waits; a waiting member is a member; static ids name members.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::error_code::ErrorCode;
use protocol::ids::GenerationId;
use protocol::mutant::{Mutant, is_active};
use protocol::rng::Lot;
use protocol::time::Now;

use super::member::{JoinSettings, Member, Out, State, assigned_bytes, kept, told_bytes};
use super::{Join, Joined, Leave, Membership, Sync, Synced};
use crate::coordinator::Token;
use crate::limits::{
    GROUP_ASSIGNMENT_BYTES_MAX, GROUP_METADATA_BYTES_MAX, MEMBER_METADATA_BYTES_MAX,
    MEMBER_PROTOCOLS_MAX,
};

/// A classic group.
#[derive(Debug)]
pub struct Group {
    pub(super) state: State,
    pub(super) generation: GenerationId,
    pub(super) protocol_type: Option<Arc<str>>,
    pub(super) protocol: Option<Arc<str>>,
    pub(super) leader: Option<Arc<str>>,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    /// Ids that were given out and not yet used, and when they lapse. KIP-394.
    pub(super) promised: BTreeMap<Arc<str>, Duration>,
    /// Which member holds a static id. KIP-345.
    pub(super) instances: BTreeMap<Arc<str>, Arc<str>>,
    /// Since when there has been no member.
    pub(super) empty_since: Option<Now>,
    /// Its membership was decided and its record is not yet in the log.
    pub(super) is_unwritten: bool,
}

impl Group {
    /// A group that nobody has joined.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self {
            state: State::Empty,
            generation: GenerationId(0),
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            promised: BTreeMap::new(),
            instances: BTreeMap::new(),
            empty_since: Some(now),
            is_unwritten: false,
        }
    }

    /// Takes part in a round, or starts one. Answered when the round closes, unless refused.
    pub fn join(
        &mut self,
        now: Now,
        token: Token,
        join: Join,
        settings: &JoinSettings,
        ids: &mut Lot,
        out: &mut Out,
    ) {
        if let Err(error) = self.admit(&join, settings) {
            return out.join_refused(token, error, join.member_id);
        }
        if !join.member_id.is_empty() {
            return self.rejoin(now, token, join, settings, out);
        }
        let held = join.instance_id.as_ref().and_then(|it| self.instances.get(it)).cloned();
        let prefix = join.instance_id.as_ref().unwrap_or(&join.client_id);
        let given: Arc<str> = format!("{prefix}-{}", protocol::ids::TopicId(ids.next_id())).into();
        match held {
            Some(held) => self.replace(now, token, &held, given, join, settings, out),
            None if join.requires_member_id && join.instance_id.is_none() => {
                self.promised.insert(Arc::clone(&given), now.monotonic + join.session_timeout);
                out.join_refused(token, ErrorCode::MemberIdRequired, given);
            }
            None => self.enter(now, token, given, &join, settings, out),
        }
    }

    fn admit(&self, join: &Join, settings: &JoinSettings) -> Result<(), ErrorCode> {
        let is_known = self.members.contains_key(&join.member_id)
            || self.promised.contains_key(&join.member_id);
        if !is_known && settings.members_max <= self.members.len() + self.promised.len() {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let is_many = MEMBER_PROTOCOLS_MAX < join.protocols.len();
        let own_bytes = told_bytes(&join.protocols);
        let others = || self.members.iter().filter(|(id, _)| **id != join.member_id);
        let bytes = others().map(|(_, it)| told_bytes(&it.protocols)).sum::<usize>() + own_bytes;
        if is_many || MEMBER_METADATA_BYTES_MAX < own_bytes || GROUP_METADATA_BYTES_MAX < bytes {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        if others().next().is_none() {
            return Ok(());
        }
        if self.protocol_type.as_ref() != Some(&join.protocol_type) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let shared = join.protocols.iter().any(|(name, _)| {
            others().all(|(_, other)| other.protocols.iter().any(|(theirs, _)| theirs == name))
        });
        if shared { Ok(()) } else { Err(ErrorCode::InconsistentGroupProtocol) }
    }

    fn rejoin(
        &mut self,
        now: Now,
        token: Token,
        join: Join,
        settings: &JoinSettings,
        out: &mut Out,
    ) {
        let id = Arc::clone(&join.member_id);
        if self.promised.remove(&id).is_some() {
            return self.enter(now, token, id, &join, settings, out);
        }
        if let Err(error) = self.known(&id, join.instance_id.as_ref()) {
            return out.join_refused(token, error, id);
        }
        let is_leader = self.leader.as_ref() == Some(&id);
        let member = self.members.get_mut(&id).expect("known() found it");
        let is_same = member.protocols == join.protocols;
        member.is_alive(now);
        match self.state {
            State::Empty => out.join_refused(token, ErrorCode::UnknownMemberId, id),
            // It missed our answer: here it is again.
            State::Completing { .. } if is_same => {
                let joined = self.joined(&id, is_leader);
                out.joined(token, joined);
            }
            State::Stable if is_same && !is_leader => {
                let joined = self.joined(&id, false);
                out.joined(token, joined);
            }
            State::Completing { .. } | State::Stable | State::Preparing { .. } => {
                self.update(&id, &join);
                self.wait(now, token, &id, settings, out);
            }
        }
    }

    /// A new member: it joins the round under way or starts one.
    fn enter(
        &mut self,
        now: Now,
        token: Token,
        id: Arc<str>,
        join: &Join,
        settings: &JoinSettings,
        out: &mut Out,
    ) {
        if let Some(instance) = &join.instance_id {
            self.instances.insert(Arc::clone(instance), Arc::clone(&id));
        }
        self.protocol_type = Some(Arc::clone(&join.protocol_type));
        self.members.insert(Arc::clone(&id), Member::of(join, now));
        if let State::Preparing { deadline, first: Some(limit) } = &mut self.state {
            // Members that start together come one after another: wait a little for the next.
            *deadline = (now.monotonic + settings.initial_delay).min(*limit);
        }
        self.wait(now, token, &id, settings, out);
    }

    /// A static member came back under a new member id: the old one is fenced. Unless the group's
    /// protocol becomes another, the assignment stands and nobody rejoins. KIP-345.
    #[expect(clippy::too_many_arguments, reason = "a join in all its parts, and what it replaces")]
    fn replace(
        &mut self,
        now: Now,
        token: Token,
        held: &Arc<str>,
        given: Arc<str>,
        join: Join,
        settings: &JoinSettings,
        out: &mut Out,
    ) {
        let mut member = self.members.remove(held).expect("static ids name members");
        if let Some(waiting) = member.joining.take() {
            out.join_refused(waiting, ErrorCode::FencedInstanceId, Arc::clone(held));
        }
        if let Some(waiting) = member.syncing.take() {
            out.sync_refused(waiting, ErrorCode::FencedInstanceId);
        }
        member.is_alive(now);
        self.members.insert(Arc::clone(&given), member);
        let instance = join.instance_id.clone().expect("only static members are replaced");
        self.instances.insert(instance, Arc::clone(&given));
        let was_leader = self.leader.as_ref() == Some(held);
        if was_leader {
            self.leader = Some(Arc::clone(&given));
        }
        self.update(&given, &join);
        // What it subscribes to is not compared: a member that starts again does not know the
        // generation that its last subscription named.
        let is_same = self.protocol.as_ref() == Some(&self.vote());
        if self.state == State::Stable && is_same && (!was_leader || join.can_skip_assignment) {
            out.write = true;
            let mut joined = self.joined(&given, was_leader);
            joined.skip_assignment = was_leader;
            return out.joined(token, joined);
        }
        self.wait(now, token, &given, settings, out);
    }

    fn update(&mut self, id: &Arc<str>, join: &Join) {
        let member = self.members.get_mut(id).expect("the caller looked it up");
        member.protocols = kept(&join.protocols);
        member.session_timeout = join.session_timeout;
        member.rebalance_timeout = join.rebalance_timeout;
        member.client_id = Arc::clone(&join.client_id);
        member.client_host = Arc::clone(&join.client_host);
    }

    /// `id` waits for the round to close; opens one if none is open.
    fn wait(
        &mut self,
        now: Now,
        token: Token,
        id: &Arc<str>,
        settings: &JoinSettings,
        out: &mut Out,
    ) {
        let member = self.members.get_mut(id).expect("the caller looked it up");
        if let Some(before) = member.joining.replace(token) {
            // The same member joined twice: the older question gets an answer that makes it ask
            // anew, lest a client wait for ever.
            out.join_refused(before, ErrorCode::RebalanceInProgress, Arc::clone(id));
        }
        self.open_round(now, settings.initial_delay, out);
        self.close_round_if_all_joined(now, out);
    }

    fn open_round(&mut self, now: Now, initial_delay: Duration, out: &mut Out) {
        let limit = now.monotonic + self.rebalance_timeout();
        self.state = match self.state {
            State::Preparing { .. } => return,
            State::Empty if !initial_delay.is_zero() => {
                let deadline = (now.monotonic + initial_delay).min(limit);
                State::Preparing { deadline, first: Some(limit) }
            }
            State::Empty | State::Completing { .. } | State::Stable => {
                State::Preparing { deadline: limit, first: None }
            }
        };
        for member in self.members.values_mut() {
            member.has_synced = false;
            if let Some(token) = member.syncing.take() {
                out.sync_refused(token, ErrorCode::RebalanceInProgress);
                member.is_alive(now);
            }
        }
    }

    fn rebalance_timeout(&self) -> Duration {
        let longest = self.members.values().map(|it| it.rebalance_timeout).max();
        longest.unwrap_or(Duration::ZERO)
    }

    fn close_round_if_all_joined(&mut self, now: Now, out: &mut Out) {
        let all = self.members.values().all(|it| it.joining.is_some()) && self.promised.is_empty();
        if matches!(self.state, State::Preparing { first: None, .. }) && all {
            self.close_round(now, out);
        }
    }

    /// Whoever has joined is in; the others are out.
    fn close_round(&mut self, now: Now, out: &mut Out) {
        self.members.retain(|_, it| it.joining.is_some());
        let members = &self.members;
        self.instances.retain(|_, id| members.contains_key(id));
        self.generation = GenerationId(self.generation.0.wrapping_add(1).max(1));
        if self.members.is_empty() {
            self.become_empty(now, out);
            return;
        }
        self.protocol = Some(self.vote());
        let stays = self.leader.take().filter(|it| self.members.contains_key(it));
        let first = || self.members.keys().next().cloned();
        self.leader = stays.or_else(first);
        self.state = State::Completing { deadline: now.monotonic + self.rebalance_timeout() };
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id, self.leader.as_ref() == Some(&id));
            let member = self.members.get_mut(&id).expect("just listed");
            member.is_alive(now);
            member.assignment = Bytes::new();
            let token = member.joining.take().expect("the others were removed");
            out.joined(token, joined);
        }
    }

    fn become_empty(&mut self, now: Now, out: &mut Out) {
        self.state = State::Empty;
        self.protocol = None;
        self.leader = None;
        self.empty_since = Some(now);
        out.write = true;
    }

    /// Of the protocols that all support, the one that most prefer; ties go to the first member's.
    fn vote(&self) -> Arc<str> {
        let everybody = |name: &Arc<str>| {
            self.members.values().all(|it| it.protocols.iter().any(|(theirs, _)| theirs == name))
        };
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member.protocols.iter().map(|(name, _)| name).find(|it| everybody(it));
            *votes.entry(choice.expect("admit() keeps a shared protocol")).or_default() += 1;
        }
        let most = votes.values().max().copied().expect("a round that closes has members");
        let winner = votes.into_iter().find(|(_, count)| *count == most);
        Arc::clone(winner.expect("the largest is among them").0)
    }

    fn joined(&self, id: &Arc<str>, is_leader: bool) -> Joined {
        let describe = |(id, member): (&Arc<str>, &Member)| {
            let subscription = member.subscription(self.protocol.as_ref());
            (Arc::clone(id), member.instance_id.clone(), subscription)
        };
        Joined {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: Arc::clone(id),
            skip_assignment: false,
            members: if is_leader { self.members.iter().map(describe).collect() } else { vec![] },
        }
    }

    /// Asks for one's assignment. Answered when the leader has assigned.
    pub fn sync(&mut self, now: Now, token: Token, sync: Sync, out: &mut Out) {
        if let Err(error) = self.may_sync(&sync) {
            return out.sync_refused(token, error);
        }
        let id = &sync.member.member_id;
        let member = self.members.get_mut(id).expect("may_sync() found it");
        match self.state {
            State::Empty => out.sync_refused(token, ErrorCode::UnknownMemberId),
            State::Preparing { .. } => out.sync_refused(token, ErrorCode::RebalanceInProgress),
            State::Stable => {
                member.is_alive(now);
                let synced = self.synced(id);
                out.synced(token, synced);
            }
            State::Completing { .. }
                if self.leader.as_ref() == Some(id)
                    && GROUP_ASSIGNMENT_BYTES_MAX < assigned_bytes(&sync.assignments) =>
            {
                out.sync_refused(token, ErrorCode::GroupMaxSizeReached);
            }
            State::Completing { .. } => {
                member.has_synced = true;
                if let Some(before) = member.syncing.replace(token) {
                    out.sync_refused(before, ErrorCode::RebalanceInProgress);
                }
                if self.leader.as_ref() == Some(id) {
                    self.assign(now, sync.assignments, out);
                }
            }
        }
    }

    fn may_sync(&self, sync: &Sync) -> Result<(), ErrorCode> {
        self.known(&sync.member.member_id, sync.member.instance_id.as_ref())?;
        if sync.member.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |told: &Option<Arc<str>>, ours: &Option<Arc<str>>| {
            told.is_some() && ours.is_some() && told != ours
        };
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// The leader has spoken: the group is stable, and everybody who waits learns its part.
    fn assign(&mut self, now: Now, assignments: Vec<(Arc<str>, Bytes)>, out: &mut Out) {
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                // With bytes of its own, as a part keeps all of the request that it came in.
                member.assignment = Bytes::copy_from_slice(&assignment);
            }
        }
        self.state = State::Stable;
        self.empty_since = None;
        out.write = true;
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let synced = self.synced(&id);
            let member = self.members.get_mut(&id).expect("just listed");
            member.is_alive(now);
            if let Some(token) = member.syncing.take() {
                out.synced(token, synced);
            }
        }
    }

    fn synced(&self, id: &Arc<str>) -> Synced {
        Synced {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members[id].assignment.clone(),
        }
    }

    /// The record of its membership is on its way into the log.
    pub fn writes(&mut self) {
        self.is_unwritten = true;
    }

    /// The record of its membership is in the log.
    pub fn was_written(&mut self) {
        self.is_unwritten = false;
    }

    /// The log refused a record: if it was this group's, everybody must try again.
    pub fn write_refused(&mut self, now: Now, out: &mut Out) {
        if std::mem::take(&mut self.is_unwritten) && self.state == State::Stable {
            self.open_round(now, Duration::ZERO, out);
        }
    }

    /// Opens a round, for a group that nobody waits in: it was of another protocol until now.
    pub fn restart(&mut self, now: Now) {
        let mut out = Out::default();
        self.open_round(now, Duration::ZERO, &mut out);
        assert!(out.replies.is_empty(), "nobody waits in a restored group");
    }

    /// A sign of life; says whether the member must rejoin.
    pub fn heartbeat(&mut self, now: Now, from: &Membership) -> ErrorCode {
        if let Err(error) = self.known(&from.member_id, from.instance_id.as_ref()) {
            return error;
        }
        if from.generation != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        self.members.get_mut(&from.member_id).expect("known() found it").is_alive(now);
        match self.state {
            State::Empty => ErrorCode::UnknownMemberId,
            State::Preparing { .. } => ErrorCode::RebalanceInProgress,
            State::Completing { .. } | State::Stable => ErrorCode::None,
        }
    }

    /// Removes the members named; one code each.
    pub fn leave(&mut self, now: Now, leave: &Leave, out: &mut Out) -> Vec<ErrorCode> {
        let before = self.members.len();
        let mut one = |id: &Arc<str>, instance: &Option<Arc<str>>| {
            if self.promised.remove(id).is_some() {
                return ErrorCode::None;
            }
            let by_instance = instance.as_ref().and_then(|it| self.instances.get(it)).cloned();
            let id = if id.is_empty() { by_instance.unwrap_or_default() } else { Arc::clone(id) };
            if let Err(error) = self.known(&id, instance.as_ref()) {
                return error;
            }
            self.remove(&id, out);
            ErrorCode::None
        };
        let codes = leave.members.iter().map(|(id, instance)| one(id, instance)).collect();
        self.after_removal(now, before - self.members.len(), out);
        codes
    }

    fn remove(&mut self, id: &Arc<str>, out: &mut Out) {
        let Some(member) = self.members.remove(id) else { return };
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        if let Some(token) = member.joining {
            out.join_refused(token, ErrorCode::UnknownMemberId, Arc::clone(id));
        }
        if let Some(token) = member.syncing {
            out.sync_refused(token, ErrorCode::UnknownMemberId);
        }
        self.leader = self.leader.take().filter(|leader| leader != id);
    }

    /// Partitions of those who left need new owners: what was agreed no longer holds.
    fn after_removal(&mut self, now: Now, count: usize, out: &mut Out) {
        if 0 < count && matches!(self.state, State::Stable | State::Completing { .. }) {
            self.open_round(now, Duration::ZERO, out);
        }
        self.close_round_if_all_joined(now, out);
    }

    fn known(&self, id: &Arc<str>, instance: Option<&Arc<str>>) -> Result<(), ErrorCode> {
        if let Some(holder) = instance.map(|it| self.instances.get(it)) {
            return match holder {
                None => Err(ErrorCode::UnknownMemberId),
                Some(holder) if holder != id => Err(ErrorCode::FencedInstanceId),
                Some(_) => Ok(()),
            };
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether `from` may commit offsets now. `is_transactional` commits are checked by who they
    /// come from alone, not by the state of the round: their transaction fences them. KIP-447.
    ///
    /// # Errors
    /// The code for every partition of the commit.
    pub fn may_commit(
        &mut self,
        now: Now,
        from: &Membership,
        is_transactional: bool,
    ) -> Result<(), ErrorCode> {
        // Tools and simple consumers, which may have made up a member id without joining.
        if from.generation.0 < 0 && self.members.is_empty() {
            return Ok(());
        }
        let is_anonymous = from.member_id.is_empty() && from.generation.0 < 0;
        if is_anonymous && from.instance_id.is_none() {
            // Transactions of clients that tell no membership.
            return if is_transactional { Ok(()) } else { Err(ErrorCode::UnknownMemberId) };
        }
        self.known(&from.member_id, from.instance_id.as_ref())?;
        if from.generation != self.generation && !is_active(Mutant::TakeStaleCommits) {
            return Err(ErrorCode::IllegalGeneration);
        }
        if is_transactional {
            return Ok(());
        }
        self.members.get_mut(&from.member_id).expect("known() found it").is_alive(now);
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::Completing { .. } => Err(ErrorCode::RebalanceInProgress),
            State::Preparing { .. } | State::Stable => Ok(()),
        }
    }

    /// Does what is due: closes rounds, removes the silent.
    pub fn tick(&mut self, now: Now, out: &mut Out) {
        self.promised.retain(|_, lapses| now.monotonic < *lapses);
        let silent = |(id, member): (&Arc<str>, &Member)| {
            let waits = member.joining.is_some() || member.syncing.is_some();
            (!waits && member.expires <= now.monotonic).then(|| Arc::clone(id))
        };
        let mut gone: BTreeSet<_> = self.members.iter().filter_map(silent).collect();
        if let State::Completing { deadline } = self.state
            && deadline <= now.monotonic
        {
            let late = self.members.iter().filter(|(_, it)| !it.has_synced);
            gone.extend(late.map(|(id, _)| Arc::clone(id)));
            // The leader's sync assigns, so that somebody is late as long as the round is open.
            assert!(!gone.is_empty());
        }
        for id in &gone {
            self.remove(id, out);
        }
        self.after_removal(now, gone.len(), out);
        if let State::Preparing { deadline, .. } = self.state
            && deadline <= now.monotonic
        {
            self.promised.clear();
            self.close_round(now, out);
        }
    }

    /// When [`Group::tick`] is due.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        let round = match self.state {
            State::Preparing { deadline, .. } | State::Completing { deadline } => Some(deadline),
            State::Empty | State::Stable => None,
        };
        let waits = |it: &&Member| it.joining.is_none() && it.syncing.is_none();
        let silent = self.members.values().filter(waits).map(|it| it.expires);
        silent.chain(self.promised.values().copied()).chain(round).min()
    }
}
