//! What to do next, and what `poll` returns: positions, fetches, group and commits together.
//!
//! The shell asks for effects, carries them out in any order, and hands back what came of each.
//! Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use protocol::api::consumer_group::ConsumerGroupHeartbeatResponse;
use protocol::api::fetch::FetchResponse;
use protocol::api::group::{HeartbeatResponse, JoinGroupResponse, SyncGroupResponse};
use protocol::api::offsets::{ListOffsetsResponse, OffsetForLeaderEpochResponse};
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, LeaderEpoch, TopicPartition};

use super::classic::{Ask, Attempt};
use super::committer::{Committer, Offsets};
use super::error::ConsumeError;
use super::fetcher::{Fetch, Fetcher};
use super::group::{Group, Revoked, Tell};
use super::membership::Membership;
use super::positions::{Doubt, Position, Positions, Reset, Ticket};
use super::wire;
use crate::backoff::Backoff;
use crate::cluster::{Cluster, Leader};
use crate::error::RequestError;
use crate::group_offsets::GroupMetadata;
use crate::offsets;
use crate::router::Topics;

/// Errors that wait for a `poll`; further ones are dropped: what persists is met again.
const ERRORS_MAX: usize = 16;

/// What the shell must do.
#[derive(Debug)]
pub(super) enum Effect {
    Refresh(Topics),
    Fetch(Fetch),
    FetchCommitted(BTreeMap<TopicPartition, Ticket>),
    List {
        broker: BrokerId,
        resets: Vec<(Reset, LeaderEpoch)>,
    },
    /// Of one broker.
    Validate(Vec<Doubt>),
    Ask(Ask),
    Commit {
        identity: GroupMetadata,
        offsets: Offsets,
    },
}

/// Who decides which partitions the consumer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Nobody,
    Caller,
    Group,
}

/// What `poll` found.
#[derive(Debug)]
pub(super) enum Found {
    Told(Tell),
    Batches(Vec<super::FetchedBatch>),
    /// Positions moved over what is not to be seen.
    Moved,
    Failed(ConsumeError),
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) positions: Positions,
    fetcher: Fetcher,
    pub(super) group: Option<Membership>,
    pub(super) committer: Committer,
    mode: Mode,
    errors: VecDeque<ConsumeError>,
    /// What the caller's calls led to, for the next plan.
    effects: Vec<Effect>,
    metadata_max_age: Duration,
    is_refreshing: bool,
    refresh_not_before: Duration,
    refresh_backoff: Backoff,
    wants_refresh: bool,
    /// The last refresh asked for topics by their ids.
    refreshes_ids: bool,
}

impl Core {
    pub(super) fn new(
        positions: Positions,
        fetcher: Fetcher,
        group: Option<Membership>,
        committer: Committer,
        metadata_max_age: Duration,
        refresh_backoff: Backoff,
    ) -> Self {
        Self {
            positions,
            fetcher,
            group,
            committer,
            mode: Mode::Nobody,
            errors: VecDeque::new(),
            effects: Vec::new(),
            metadata_max_age,
            is_refreshing: false,
            refresh_not_before: Duration::ZERO,
            refresh_backoff,
            wants_refresh: false,
            refreshes_ids: false,
        }
    }

    /// The caller decides: exactly these. What stays keeps its position.
    pub(super) fn assign(&mut self, partitions: &BTreeSet<TopicPartition>) {
        self.leave("assigned by hand");
        if let Some(group) = &mut self.group {
            group.become_simple();
        }
        self.mode = Mode::Caller;
        self.positions.retain(|it| partitions.contains(it));
        self.positions.add(partitions);
        self.errors.extend(self.positions.start_by_policy());
    }

    /// The group decides, among partitions of these topics. False: there is no group.
    pub(super) fn subscribe(&mut self, now: Duration, topics: BTreeSet<Arc<str>>) -> bool {
        let Some(group) = &mut self.group else { return false };
        if self.mode != Mode::Group {
            self.positions.retain(|_| false);
        }
        self.mode = Mode::Group;
        group.subscribe(now, topics);
        true
    }

    /// The group decides, among partitions of the topics whose whole name matches. False: there is
    /// no group whose coordinator can.
    pub(super) fn subscribe_regex(&mut self, now: Duration, regex: String) -> bool {
        let Some(Membership::Modern(member)) = &mut self.group else { return false };
        member.subscribe_regex(now, regex);
        if self.mode != Mode::Group {
            self.positions.retain(|_| false);
        }
        self.mode = Mode::Group;
        true
    }

    /// Nobody decides: nothing is left.
    pub(super) fn unsubscribe(&mut self) {
        self.leave("unsubscribed");
        self.mode = Mode::Nobody;
        self.positions.retain(|_| false);
        self.committer.retain(|_| false);
    }

    fn leave(&mut self, reason: &str) {
        if self.mode == Mode::Group {
            let group = self.group.as_mut().expect("the mode says so");
            self.effects.extend(group.unsubscribe(reason).map(Effect::Ask));
            self.positions.retain(|_| false);
        }
    }

    /// What to tell the coordinator when the consumer ends.
    pub(super) fn close(&mut self) -> Option<Ask> {
        self.mode = Mode::Nobody;
        self.group.as_mut().and_then(|it| it.unsubscribe("closed"))
    }

    pub(super) fn identity(&self) -> Option<&GroupMetadata> {
        self.group.as_ref().map(Membership::identity)
    }

    /// The caller is alive, and has processed what earlier polls returned. True: there is
    /// something new to do.
    pub(super) fn polled(&mut self, now: Duration) -> bool {
        let Some(group) = &mut self.group else { return false };
        let was_overdue = group.polled(now);
        let Some(offsets) = self.committer.on_poll(now, &self.positions) else {
            return was_overdue;
        };
        let identity = group.identity().clone();
        self.effects.push(Effect::Commit { identity, offsets });
        true
    }

    /// The caller waits in `poll`.
    pub(super) fn alive(&mut self, now: Duration) {
        if let Some(group) = &mut self.group {
            group.polled(now);
        }
    }

    /// The caller has given up what it was told to. True: there was something.
    pub(super) fn revoked(&mut self) -> bool {
        let revoked = self.group.as_mut().and_then(Membership::revoked);
        let Some(Revoked { partitions, .. }) = revoked else { return false };
        self.positions.retain(|it| !partitions.contains(it));
        self.committer.retain(|it| !partitions.contains(it));
        true
    }

    /// What `poll` returns, if there is anything.
    pub(super) fn find(&mut self, now: Duration) -> Option<Found> {
        if let Some(tell) = self.group.as_mut().and_then(Membership::tell) {
            if let Tell::Assigned(added) = &tell {
                self.positions.add(added);
            }
            return Some(Found::Told(tell));
        }
        while let Some(error) = self.errors.pop_front() {
            // Who has sought since has had no need to be asked.
            let is_settled = error.asks_to_seek().is_some_and(|it| !self.positions.is_stuck(it));
            if !is_settled {
                return Some(Found::Failed(error));
            }
        }
        let taken = self.fetcher.take(now, &mut self.positions);
        if !taken.batches.is_empty() {
            return Some(Found::Batches(taken.batches));
        }
        if let Some(failure) = taken.failure {
            return Some(Found::Failed(failure));
        }
        taken.has_moved.then_some(Found::Moved)
    }

    /// Everything to do now.
    pub(super) fn plan(&mut self, now: Duration, cluster: &Cluster) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.effects);
        if self.mode == Mode::Group {
            let group = self.group.as_mut().expect("the mode says so");
            let mut asks = Vec::new();
            group.plan(now, cluster, &mut asks);
            effects.extend(asks.into_iter().map(Effect::Ask));
        }
        let asked = self.positions.ask_committed(now);
        if self.group.is_some() && !asked.is_empty() {
            effects.push(Effect::FetchCommitted(asked));
        }
        let mut lacks_leader = self.plan_resets(now, cluster, &mut effects);
        let planned = self.fetcher.plan(now, &mut self.positions, cluster);
        lacks_leader |= planned.lacks_leader;
        effects.extend(planned.fetches.into_iter().map(Effect::Fetch));
        let mut by_broker: BTreeMap<BrokerId, Vec<Doubt>> = BTreeMap::new();
        for doubt in planned.doubts {
            by_broker.entry(doubt.leader.broker).or_default().push(doubt);
        }
        effects.extend(by_broker.into_values().map(Effect::Validate));
        self.plan_refresh(now, lacks_leader, cluster, &mut effects);
        effects
    }

    /// True when some partition has no leader.
    fn plan_resets(&mut self, now: Duration, cluster: &Cluster, effects: &mut Vec<Effect>) -> bool {
        let (asked, lacks_leader) = self.positions.ask_resets(now, |it| cluster.leader(it));
        let mut by_broker: BTreeMap<BrokerId, Vec<(Reset, LeaderEpoch)>> = BTreeMap::new();
        for (reset, leader) in asked {
            by_broker.entry(leader.broker).or_default().push((reset, leader.leader_epoch));
        }
        let lists = by_broker.into_iter().map(|(broker, resets)| Effect::List { broker, resets });
        effects.extend(lists);
        lacks_leader
    }

    fn topics(&self) -> BTreeSet<Arc<str>> {
        let assigned = self.positions.partitions().map(|it| Arc::clone(&it.topic));
        let of_group = self.group.as_ref().map(Membership::topics).unwrap_or_default();
        assigned.chain(of_group).collect()
    }

    fn plan_refresh(
        &mut self,
        now: Duration,
        lacks_leader: bool,
        cluster: &Cluster,
        effects: &mut Vec<Effect>,
    ) {
        let topics = self.topics();
        let nameless = self.group.as_ref().map(Membership::nameless).unwrap_or_default();
        let is_unknown = |it: &Arc<str>| cluster.topic(it).is_some_and(|it| !it.error.is_ok());
        let by_name = lacks_leader
            || topics.iter().any(is_unknown)
            || cluster.needs_update(now, self.metadata_max_age, &topics);
        self.wants_refresh = by_name || !nameless.is_empty();
        if !self.wants_refresh {
            self.refresh_backoff.reset();
        } else if !self.is_refreshing && self.refresh_not_before <= now {
            self.is_refreshing = true;
            // A request asks for names or for ids, not for both: take turns.
            let is_turn_of_names = by_name && self.refreshes_ids;
            self.refreshes_ids = !nameless.is_empty() && !is_turn_of_names;
            let topics =
                if self.refreshes_ids { Topics::WithIds(nameless) } else { Topics::These(topics) };
            effects.push(Effect::Refresh(topics));
        }
    }

    /// When `plan` has something to do if nothing else happens.
    pub(super) fn wake_at(&self, now: Duration) -> Option<Duration> {
        let refresh_at =
            (self.wants_refresh && !self.is_refreshing).then_some(self.refresh_not_before);
        let group_at = match self.mode {
            Mode::Group => self.group.as_ref().and_then(Membership::wake_at),
            Mode::Nobody | Mode::Caller => None,
        };
        let partition_at = self.positions.wake_at(now);
        // What is overdue waits for something else than time, and must not hide what does not.
        let all = refresh_at.into_iter().chain(group_at).chain(partition_at);
        all.filter(|&it| it > now).min()
    }

    fn fail(&mut self, error: ConsumeError) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push_back(error);
        }
    }

    /// Metadata came, or did not.
    pub(super) fn on_refreshed(
        &mut self,
        now: Duration,
        refreshed: Result<(), RequestError>,
        cluster: &Cluster,
    ) {
        self.is_refreshing = false;
        // Also after success: when it did not help, the next one is asked for only after a while.
        self.refresh_not_before = now + self.refresh_backoff.next_wait();
        match refreshed {
            Ok(()) => {
                self.positions.hear_of(&self.topics(), cluster);
                if let Some(group) = &mut self.group {
                    group.resolve(cluster);
                }
                for topic in self.topics() {
                    let code = cluster.topic(&topic).map(|it| it.error).unwrap_or_default();
                    if !code.is_ok() && !code.is_retriable() {
                        self.fail(ConsumeError::TopicRefused { topic, code });
                    }
                }
            }
            Err(error) if error.is_retriable() => tracing::debug!(%error, "metadata not refreshed"),
            Err(error) => self.fail(error.into()),
        }
    }

    /// A fetch was answered; `None`: it was not. What it says of leaders comes back, with whether
    /// Metadata must be asked for.
    pub(super) fn on_fetched(
        &mut self,
        now: Duration,
        fetch: Fetch,
        response: Option<FetchResponse>,
    ) -> (Vec<(TopicPartition, Leader)>, bool) {
        let Some(response) = response else {
            self.fetcher.lost(now, &fetch, &mut self.positions);
            return (Vec::new(), true);
        };
        let landed = self.fetcher.land(now, fetch, response, &mut self.positions);
        landed.errors.into_iter().for_each(|it| self.fail(it));
        (landed.leaders, landed.is_stale)
    }

    /// The coordinator said what is committed, or did not.
    pub(super) fn on_committed(
        &mut self,
        now: Duration,
        asked: &BTreeMap<TopicPartition, Ticket>,
        answer: Result<Offsets, RequestError>,
    ) {
        match answer {
            Ok(committed) => {
                for (partition, &ticket) in asked {
                    let position = committed
                        .get(partition)
                        .map(|it| Position { offset: it.offset, leader_epoch: it.leader_epoch });
                    if let Err(error) = self.positions.committed(partition, ticket, position) {
                        self.fail(error);
                    }
                }
                self.committer.on_committed(committed);
            }
            Err(error) => {
                for (partition, &ticket) in asked {
                    self.positions.failed(now, partition, ticket);
                }
                if !error.is_retriable() {
                    self.fail(error.into());
                }
            }
        }
    }

    /// A leader said where partitions begin or end; `None`: it did not. True: Metadata must be
    /// asked for.
    pub(super) fn on_listed(
        &mut self,
        now: Duration,
        resets: &[(Reset, LeaderEpoch)],
        response: Option<ListOffsetsResponse>,
    ) -> bool {
        let mut is_stale = response.is_none();
        let mut answers = BTreeMap::new();
        for topic in response.map(|it| it.topics).unwrap_or_default() {
            for it in topic.partitions {
                answers.insert(TopicPartition::new(topic.name.as_str(), it.partition_index), it);
            }
        }
        for (reset @ Reset { partition, ticket, .. }, _) in resets {
            let listed = answers.get(partition).map(|it| offsets::listed(partition, it));
            match listed {
                Some(Ok(listed)) => match listed.offset {
                    Some(offset) => {
                        let at = Position { offset, leader_epoch: listed.leader_epoch };
                        self.positions.found(partition, *ticket, at);
                    }
                    None => self.positions.found_none(reset),
                },
                Some(Err(error)) => {
                    is_stale = true;
                    self.positions.failed(now, partition, *ticket);
                    if let Some(code) = error.error_code().filter(|it| !it.is_retriable()) {
                        let partition = partition.clone();
                        self.fail(ConsumeError::PartitionRefused { partition, code });
                    }
                }
                None => self.positions.failed(now, partition, *ticket),
            }
        }
        is_stale
    }

    /// A leader said where histories end in its log; `None`: it did not. True: Metadata must be
    /// asked for.
    pub(super) fn on_validated(
        &mut self,
        now: Duration,
        doubts: &[Doubt],
        answer: Option<OffsetForLeaderEpochResponse>,
    ) -> bool {
        let mut is_stale = answer.is_none();
        let answers = answer.map(wire::ends_of_epochs).unwrap_or_default();
        for doubt in doubts {
            let Doubt { partition, ticket, .. } = doubt;
            match answers.get(partition) {
                Some(Ok(end)) => {
                    if let Err(error) = self.positions.settle_doubt(doubt, *end) {
                        self.fail(error);
                    }
                }
                Some(Err(code)) => {
                    self.positions.failed(now, partition, *ticket);
                    is_stale |= code.is_retriable();
                    if !code.is_retriable() {
                        let (partition, code) = (partition.clone(), *code);
                        self.fail(ConsumeError::PartitionRefused { partition, code });
                    }
                }
                None => self.positions.failed(now, partition, *ticket),
            }
        }
        is_stale
    }

    /// The leader cannot be asked about histories: its log is taken as it is.
    pub(super) fn on_not_comparable(&mut self, doubts: &[Doubt]) {
        for doubt in doubts {
            let is_within = Some(doubt.next);
            let settled = self.positions.settle_doubt(doubt, is_within);
            settled.expect("a position is within a history that reaches to it");
        }
    }

    fn with_group<T>(&mut self, on: impl FnOnce(&mut Group) -> T) -> T {
        match self.group.as_mut().expect("only a group's member asks its coordinator") {
            Membership::Classic(group) => on(group),
            Membership::Modern(_) => unreachable!("it asks nothing of the classic protocol"),
        }
    }

    pub(super) fn on_consumer_heartbeat(
        &mut self,
        now: Duration,
        attempt: Attempt,
        answer: Result<ConsumerGroupHeartbeatResponse, RequestError>,
        cluster: &Cluster,
    ) {
        let error = match self.group.as_mut().expect("only a group's member asks its coordinator") {
            Membership::Modern(member) => member.on_heartbeat(now, attempt, answer, cluster),
            Membership::Classic(_) => unreachable!("it has other heartbeats"),
        };
        error.into_iter().for_each(|it| self.fail(it));
    }

    pub(super) fn on_joined(
        &mut self,
        now: Duration,
        attempt: Attempt,
        answer: Result<JoinGroupResponse, RequestError>,
    ) {
        let (error, sync) = self.with_group(|group| {
            let (change, sync) = group.member().on_join(now, attempt, answer);
            (group.on(change), sync)
        });
        self.effects.extend(sync.map(Effect::Ask));
        error.into_iter().for_each(|it| self.fail(it));
    }

    pub(super) fn on_synced(
        &mut self,
        now: Duration,
        attempt: Attempt,
        answer: Result<SyncGroupResponse, RequestError>,
    ) {
        let error = self.with_group(|group| {
            let change = group.member().on_sync(now, attempt, answer);
            group.on(change)
        });
        error.into_iter().for_each(|it| self.fail(it));
    }

    pub(super) fn on_heartbeat(
        &mut self,
        now: Duration,
        attempt: Attempt,
        answer: Result<HeartbeatResponse, RequestError>,
    ) {
        let error = self.with_group(|group| {
            let change = group.member().on_heartbeat(now, attempt, answer);
            group.on(change)
        });
        error.into_iter().for_each(|it| self.fail(it));
    }

    /// A commit under `identity` was refused with `code`.
    pub(super) fn on_commit_refused(
        &mut self,
        now: Duration,
        identity: &GroupMetadata,
        code: ErrorCode,
    ) {
        let group = self.group.as_mut().expect("only with a group there are commits");
        let error = group.on_commit_refused(now, identity, code);
        error.into_iter().for_each(|it| self.fail(it));
    }

    /// A commit by the interval ended.
    pub(super) fn on_auto_committed(
        &mut self,
        now: Duration,
        identity: &GroupMetadata,
        offsets: Offsets,
        committed: Result<(), RequestError>,
    ) {
        let refused = committed.as_ref().err().and_then(RequestError::error_code);
        if let Err(error) = &committed {
            tracing::warn!(group_id = %identity.group_id, %error, "offsets are not committed");
        }
        self.committer.on_end(committed.is_ok().then_some(offsets));
        if let Some(code) = refused.filter(|it| super::commits::is_about_membership(*it)) {
            self.on_commit_refused(now, identity, code);
        }
    }
}
