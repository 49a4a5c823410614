//! The groups of one partition of `__consumer_offsets`.
//!
//! Routes requests to their group and to the offsets, and turns what they decide into records and
//! replies. Offsets change by replay alone. Membership is decided by the classic core; its record
//! tells the next coordinator, and when it is refused the round is played again.
//!
//! Invariant: a group that has neither members nor offsets is forgotten.
//!
//! Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::{Offset, ProducerEpoch, ProducerId, TopicPartition};
use protocol::rng::Rng;
use protocol::time::{Now, Timestamp};

use super::classic::Group;
use super::member::{JoinSettings, Out};
use super::offsets::Offsets;
use super::record::{Committed, GroupRecord, group_record, offset_record};
use super::{Commit, Description, Fetch, Join, Leave, Listing, Reply, Request, Synced};
use crate::coordinator::{EndTxnMarker, KeyValue, Logged, Outcome, Records, Release, Shard, Token};

/// How often expired offsets are looked for: Kafka's `offsets.retention.check.interval.ms`.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(600);

/// What bounds groups, from the broker's settings.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What bounds a join.
    pub join: JoinSettings,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max: Duration,
    /// `offset.metadata.max.bytes`.
    pub metadata_bytes_max: usize,
    /// `offsets.retention.minutes`: counted from when a group became empty. KIP-211.
    pub retention: Duration,
    /// Groups in one shard; the next new one is refused.
    pub groups_max: usize,
}

/// The groups of one partition.
#[derive(Debug)]
pub struct GroupShard {
    limits: Limits,
    rng: Rng,
    is_loading: bool,
    groups: BTreeMap<Arc<str>, Group>,
    offsets: Offsets,
    expiry_at: Duration,
}

impl GroupShard {
    /// An empty shard, about to be loaded. `seed` draws member ids.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            rng: Rng::new(seed),
            is_loading: true,
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            expiry_at: Duration::ZERO,
        }
    }

    fn join(&mut self, now: Now, token: Token, join: Join) -> Outcome<Self> {
        let group = Arc::clone(&join.group);
        let limits = self.limits;
        let range = limits.session_timeout_min..=limits.session_timeout_max;
        let error = if group.is_empty() {
            ErrorCode::InvalidGroupId
        } else if !range.contains(&join.session_timeout) {
            ErrorCode::InvalidSessionTimeout
        } else if self.groups.contains_key(&group) {
            ErrorCode::None
        } else if !join.member_id.is_empty() {
            ErrorCode::UnknownMemberId
        } else if limits.groups_max <= self.groups.len() {
            ErrorCode::CoordinatorNotAvailable
        } else {
            self.groups.insert(Arc::clone(&group), Group::new(now));
            ErrorCode::None
        };
        if !error.is_ok() {
            let joined = super::Joined { error, member_id: join.member_id, ..Default::default() };
            return Outcome::reply(token, Reply::Joined(Box::new(joined)));
        }
        let mut out = Out::default();
        let found = self.groups.get_mut(&group).expect("inserted when it was missing");
        found.join(now, token, join, &limits.join, &mut self.rng, &mut out);
        self.outcome(now, &group, out)
    }

    /// What a group's step asks for, as records and replies.
    fn outcome(&mut self, now: Now, group: &Arc<str>, out: Out) -> Outcome<Self> {
        let found = self.groups.get_mut(group).filter(|_| out.write);
        let entry = found.map(|it| {
            it.writes();
            group_record(group, Some(&it.metadata(now)))
        });
        let records = entry.map(|it| Records { entries: vec![it], producer: None });
        let reply = |(token, reply)| Release::Reply(token, reply);
        Outcome { records, releases: out.replies.into_iter().map(reply).collect() }
    }

    fn sync(&mut self, now: Now, token: Token, sync: super::Sync) -> Outcome<Self> {
        let group = Arc::clone(&sync.member.group);
        let Some(found) = self.groups.get_mut(&group) else {
            let synced = Synced { error: ErrorCode::UnknownMemberId, ..Synced::default() };
            return Outcome::reply(token, Reply::Synced(synced));
        };
        let mut out = Out::default();
        found.sync(now, token, sync, &mut out);
        self.outcome(now, &group, out)
    }

    fn leave(&mut self, now: Now, token: Token, leave: &Leave) -> Outcome<Self> {
        let Some(found) = self.groups.get_mut(&leave.group) else {
            let codes = vec![ErrorCode::UnknownMemberId; leave.members.len()];
            return Outcome::reply(token, Reply::Left(codes));
        };
        let mut out = Out::default();
        let codes = found.leave(now, leave, &mut out);
        out.replies.push((token, Reply::Left(codes)));
        self.outcome(now, &leave.group, out)
    }

    fn commit(&mut self, now: Now, token: Token, commit: Commit) -> Outcome<Self> {
        let group = &commit.member.group;
        let all = |code| vec![code; commit.offsets.len()];
        if let Err(code) = self.may_commit(now, &commit) {
            return Outcome::reply(token, Reply::Committed(all(code)));
        }
        let judge = |committed: &Committed| {
            if self.limits.metadata_bytes_max < committed.metadata.len() {
                ErrorCode::OffsetMetadataTooLarge
            } else {
                ErrorCode::None
            }
        };
        let codes: Vec<_> = commit.offsets.iter().map(|(_, it)| judge(it)).collect();
        let fit = commit.offsets.iter().zip(&codes).filter(|(_, code)| code.is_ok());
        let entries = fit.map(|((at, it), _)| offset_record(group, at, Some(it))).collect();
        let records = Some(Records { entries, producer: commit.producer });
        Outcome { records, releases: vec![Release::Reply(token, Reply::Committed(codes))] }
    }

    fn may_commit(&mut self, now: Now, commit: &Commit) -> Result<(), ErrorCode> {
        let member = &commit.member;
        if member.group.is_empty() && commit.producer.is_some() {
            return Err(ErrorCode::InvalidGroupId);
        }
        if let Some(group) = self.groups.get_mut(&member.group) {
            return group.may_commit(now, member, commit.producer.is_some());
        }
        if 0 <= member.generation.0 || !member.member_id.is_empty() {
            return Err(ErrorCode::IllegalGeneration);
        }
        if self.limits.groups_max <= self.groups.len() {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        Ok(())
    }

    fn fetch(&self, fetch: &Fetch) -> Reply {
        let group = &fetch.group;
        let asked: Vec<TopicPartition> = match &fetch.partitions {
            Some(partitions) => partitions.clone(),
            None => self.offsets.all(group).map(|(at, _)| at.clone()).collect(),
        };
        let answer = |at: TopicPartition| {
            let unstable = fetch.require_stable && self.offsets.is_unstable(group, &at);
            let committed = self.offsets.committed(group, &at).cloned();
            let found = if unstable { Err(ErrorCode::UnstableOffsetCommit) } else { Ok(committed) };
            (at, found)
        };
        Reply::Fetched(Ok(asked.into_iter().map(answer).collect()))
    }

    fn describe(&self, group: &Arc<str>) -> Description {
        let unknown = || Description::refused(ErrorCode::GroupIdNotFound);
        let simple = || Description { error: ErrorCode::None, state: "Empty", ..unknown() };
        match self.groups.get(group) {
            Some(found) => found.describe(),
            None if self.offsets.has(group) => simple(),
            None => unknown(),
        }
    }

    fn list(&self) -> Vec<Listing> {
        let mut listed: BTreeMap<Arc<str>, Listing> = BTreeMap::new();
        for group in self.offsets.groups() {
            let listing =
                Listing { group: Arc::clone(group), protocol_type: "".into(), state: "Empty" };
            listed.insert(Arc::clone(group), listing);
        }
        for (group, found) in &self.groups {
            let protocol_type = found.protocol_type();
            let state = found.state_name();
            let listing = Listing { group: Arc::clone(group), protocol_type, state };
            listed.insert(Arc::clone(group), listing);
        }
        listed.into_values().collect()
    }

    fn delete(&self, token: Token, group: &Arc<str>) -> Outcome<Self> {
        let refuse = |code| Outcome::reply(token, Reply::Deleted(code));
        match self.groups.get(group) {
            Some(found) if found.empty_since().is_none() => {
                return refuse(ErrorCode::NonEmptyGroup);
            }
            None if !self.offsets.has(group) => return refuse(ErrorCode::GroupIdNotFound),
            Some(_) | None => {}
        }
        let gone = |(at, _): (&TopicPartition, &Committed)| offset_record(group, at, None);
        let mut entries: Vec<KeyValue> = self.offsets.all(group).map(gone).collect();
        entries.push(group_record(group, None));
        Outcome::write(entries, token, Reply::Deleted(ErrorCode::None))
    }

    /// Deletes what a group committed long ago and no longer needs, and groups that are empty.
    fn expire(&self, now: Now, outcomes: &mut Vec<Outcome<Self>>) {
        let retention = i64::try_from(self.limits.retention.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp(now.wall.0.saturating_sub(retention));
        let mut entries = Vec::new();
        for group in self.offsets.groups() {
            let since = self.groups.get(group).map(Group::empty_since);
            let rests = match since {
                None => true,
                Some(None) => false,
                Some(Some(since)) => since.wall < before,
            };
            if rests {
                let old = self.offsets.older_than(group, before);
                entries.extend(old.iter().map(|at| offset_record(group, at, None)));
            }
        }
        for (group, found) in &self.groups {
            if found.empty_since().is_some() && !self.offsets.has(group) {
                entries.push(group_record(group, None));
            }
        }
        if !entries.is_empty() {
            let records = Some(Records { entries, producer: None });
            outcomes.push(Outcome { records, releases: Vec::new() });
        }
    }

    fn replay_offset(
        &mut self,
        group: &Arc<str>,
        at: TopicPartition,
        committed: Option<Committed>,
        producer: Option<(ProducerId, ProducerEpoch)>,
    ) {
        match (producer, committed) {
            (Some((id, _)), Some(committed)) => self.offsets.stage(id, group, at, committed),
            (_, committed) => self.offsets.commit(group, at, committed),
        }
    }
}

impl Shard for GroupShard {
    type Request = Request;
    type Reply = Reply;
    type Effect = std::convert::Infallible;

    fn handle(
        &mut self,
        now: Now,
        token: Token,
        request: Request,
        outcomes: &mut Vec<Outcome<Self>>,
    ) {
        let outcome = match request {
            Request::Join(join) => self.join(now, token, join),
            Request::Sync(sync) => self.sync(now, token, sync),
            Request::Heartbeat(from) => {
                let group = self.groups.get_mut(&from.group);
                let beat = |group: &mut Group| group.heartbeat(now, &from);
                let code = group.map_or(ErrorCode::UnknownMemberId, beat);
                Outcome::reply(token, Reply::Heartbeat(code))
            }
            Request::Leave(leave) => self.leave(now, token, &leave),
            Request::Commit(commit) => self.commit(now, token, commit),
            Request::Fetch(fetch) => Outcome::reply(token, self.fetch(&fetch)),
            Request::Describe(group) => {
                Outcome::reply(token, Reply::Described(Box::new(self.describe(&group))))
            }
            Request::List => Outcome::reply(token, Reply::Listed(self.list())),
            Request::Delete(group) => self.delete(token, &group),
        };
        outcomes.push(outcome);
    }

    fn replay(&mut self, now: Now, record: &Logged) {
        match GroupRecord::read(&record.entry) {
            Ok(GroupRecord::Offset { group, partition, committed }) => {
                self.replay_offset(&group, partition, committed, record.producer);
            }
            Ok(GroupRecord::Classic { group, metadata: None }) => {
                self.groups.remove(&group);
            }
            Ok(GroupRecord::Classic { group, metadata: Some(metadata) }) => {
                // While serving, the core itself decided what this record says.
                if self.is_loading {
                    self.groups.insert(group, Group::restored(&metadata, now));
                } else if let Some(found) = self.groups.get_mut(&group) {
                    found.was_written();
                }
            }
            Ok(GroupRecord::Unknown) => {}
            Err(reason) => {
                tracing::warn!(offset = record.offset.0, reason, "group record skipped");
            }
        }
    }

    fn replay_marker(&mut self, _: Now, marker: EndTxnMarker, _: Offset) {
        self.offsets.end(marker.producer_id, marker.commit);
    }

    fn loaded(&mut self, now: Now, _: &mut Vec<Outcome<Self>>) {
        self.is_loading = false;
        self.expiry_at = now.monotonic + EXPIRY_INTERVAL;
    }

    fn tick(&mut self, now: Now, outcomes: &mut Vec<Outcome<Self>>) {
        let due: Vec<_> = self
            .groups
            .iter()
            .filter(|(_, it)| it.wake_at().is_some_and(|at| at <= now.monotonic))
            .map(|(group, _)| Arc::clone(group))
            .collect();
        for group in due {
            let mut out = Out::default();
            self.groups.get_mut(&group).expect("just listed").tick(now, &mut out);
            outcomes.push(self.outcome(now, &group, out));
        }
        if self.expiry_at <= now.monotonic {
            self.expiry_at = now.monotonic + EXPIRY_INTERVAL;
            self.expire(now, outcomes);
        }
    }

    fn wake_at(&self) -> Option<Duration> {
        let groups = self.groups.values().filter_map(Group::wake_at);
        groups.chain([self.expiry_at]).min()
    }

    fn refused(
        &mut self,
        now: Now,
        error: ErrorCode,
        releases: Vec<Release<Self>>,
    ) -> Vec<Release<Self>> {
        let mut out = Out::default();
        let mut refused = Vec::new();
        for release in releases {
            let Release::Reply(token, reply) = release;
            refused.push(Release::Reply(token, refuse(reply, error)));
        }
        for group in self.groups.values_mut() {
            group.write_refused(now, &mut out);
        }
        refused.extend(out.replies.into_iter().map(|(token, reply)| Release::Reply(token, reply)));
        refused
    }

    #[cfg(any(test, feature = "check"))]
    fn check(&self) {
        self.groups.values().for_each(Group::check);
        self.offsets.check();
    }
}

/// The same kind of reply, refusing with `error`.
fn refuse(reply: Reply, error: ErrorCode) -> Reply {
    match reply {
        Reply::Joined(joined) => Reply::Joined(Box::new(super::Joined { error, ..*joined })),
        Reply::Synced(_) => Reply::Synced(Synced { error, ..Synced::default() }),
        Reply::Heartbeat(_) => Reply::Heartbeat(error),
        Reply::Left(codes) => Reply::Left(codes),
        Reply::Committed(codes) => Reply::Committed(vec![error; codes.len()]),
        Reply::Fetched(_) => Reply::Fetched(Err(error)),
        Reply::Described(description) => {
            Reply::Described(Box::new(Description { error, ..*description }))
        }
        Reply::Listed(listed) => Reply::Listed(listed),
        Reply::Deleted(_) => Reply::Deleted(error),
    }
}
