//! The groups of one partition of `__consumer_offsets`.
//!
//! Routes requests to their group and to the offsets, and turns what they decide into records and
//! replies. Offsets and consumer groups change by replay alone. Membership of a classic group is
//! decided by its core; its record tells the next coordinator, and when it is refused the round is
//! played again. A name has one group, of one protocol or the other.
//!
//! Invariant: a group that has neither members nor offsets is forgotten.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::{Offset, ProducerEpoch, ProducerId, TopicPartition};
use protocol::rng::Lot;
use protocol::time::{Now, Timestamp};

use super::beat::{BeatError, ConsumerSettings};
use super::classic;
use super::member::{JoinSettings, Out, assigned_bytes, joining_bytes};
use super::memory::{Memory, Share};
use super::modern::Modern;
use super::offsets::Offsets;
use super::record::{Committed, GroupMetadataValue, GroupRecord, group_record};
use super::{Description, GroupType, Join, Leave, Listing, Membership, Reply, Request, Synced};
use crate::config::BrokerConfig;
use crate::coordinator::{EndTxnMarker, KeyValue, Logged, Outcome, Records, Release, Shard, Token};
use crate::metadata::{Image, Topic};

mod consumer;
mod mixed;
mod offsets;

/// What bounds groups, from the broker's settings.
#[derive(Clone, Debug)]
pub struct Limits {
    /// What bounds a join.
    pub join: JoinSettings,
    /// What bounds consumer groups that have no settings of their own. KIP-848.
    pub consumer: ConsumerSettings,
    /// What the broker was started with; a group's own settings lie over it.
    pub broker: Arc<BrokerConfig>,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max: Duration,
    /// `offset.metadata.max.bytes`.
    pub metadata_bytes_max: usize,
    /// `offsets.retention.minutes`: counted from when a group became empty. KIP-211.
    pub retention: Duration,
    /// `offsets.retention.check.interval.ms`: how often expired offsets are looked for.
    pub retention_check: Duration,
    /// Groups in one shard; the next new one is refused.
    pub groups_max: usize,
    /// What all shards may keep; what would add to it is refused.
    pub memory: Memory,
}

/// A group of either protocol.
#[derive(Debug)]
enum Group {
    Classic(Box<classic::Group>),
    Consumer(Box<Modern>),
}

impl Group {
    /// Since when the group has had no members. `None`: it has some.
    fn empty_since(&self) -> Option<Timestamp> {
        match self {
            Self::Classic(group) => group.empty_since().map(|it| it.wall),
            Self::Consumer(modern) => modern.empty_since(),
        }
    }

    /// True when some member reads, or may read, the topic of this name.
    fn is_subscribed(&self, topic: &str) -> bool {
        match self {
            Self::Classic(group) => group.is_subscribed(topic),
            Self::Consumer(modern) => modern.group.is_subscribed(topic),
        }
    }

    /// What deletes the group.
    fn tombstones(&self, name: &Arc<str>) -> Vec<KeyValue> {
        match self {
            Self::Classic(_) => vec![group_record(name, None)],
            Self::Consumer(modern) => {
                modern.group.tombstones().iter().map(|it| it.record(name)).collect()
            }
        }
    }

    fn fresh(now: Now) -> Self {
        Self::Classic(Box::new(classic::Group::new(now)))
    }

    fn wake_at(&self) -> Option<Duration> {
        match self {
            Self::Classic(group) => group.wake_at(),
            Self::Consumer(modern) => modern.wake_at(),
        }
    }

    fn listing(&self, name: &Arc<str>) -> Listing {
        let group = Arc::clone(name);
        match self {
            Self::Classic(it) => {
                let (protocol_type, state) = (it.protocol_type(), it.state_name());
                Listing { group, protocol_type, state, kind: GroupType::Classic }
            }
            Self::Consumer(it) => {
                let (protocol_type, state) = ("consumer".into(), it.group.state_name());
                Listing { group, protocol_type, state, kind: GroupType::Consumer }
            }
        }
    }
}

/// The groups of one partition.
#[derive(Debug)]
pub struct GroupShard {
    limits: Limits,
    /// Whence member ids are drawn: who knows one of them must not know the others.
    ids: Lot,
    /// What is known of topics.
    image: Arc<Image>,
    is_loading: bool,
    groups: BTreeMap<Arc<str>, Group>,
    /// When a group has something to do: in order, and by group. A shard has many groups, and is
    /// asked after every request when it is due.
    wakes: BTreeSet<(Duration, Arc<str>)>,
    wake_of: BTreeMap<Arc<str>, Duration>,
    offsets: Offsets,
    /// What all of it takes.
    share: Share,
    expiry_at: Duration,
}

impl GroupShard {
    /// An empty shard, about to be loaded. `seed` draws member ids.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            share: Share::new(limits.memory.clone()),
            limits,
            ids: Lot::of_seed(seed),
            image: Arc::new(Image::empty("")),
            is_loading: true,
            groups: BTreeMap::new(),
            wakes: BTreeSet::new(),
            wake_of: BTreeMap::new(),
            offsets: Offsets::default(),
            expiry_at: Duration::ZERO,
        }
    }

    fn join(&mut self, now: Now, token: Token, join: Join) -> Outcome<Self> {
        let group = Arc::clone(&join.group);
        let limits = &self.limits;
        let range = limits.session_timeout_min..=limits.session_timeout_max;
        let found = self.groups.get(&group);
        let mut before = Vec::new();
        let error = if group.is_empty() {
            ErrorCode::InvalidGroupId
        } else if !range.contains(&join.session_timeout) {
            ErrorCode::InvalidSessionTimeout
        } else if !self.may_join(&join) {
            ErrorCode::CoordinatorNotAvailable
        } else {
            match found {
                Some(Group::Classic(_)) => ErrorCode::None,
                Some(Group::Consumer(it)) if !it.group.is_empty() => {
                    return self.join_consumers(now, token, join);
                }
                Some(_) | None if !join.member_id.is_empty() => ErrorCode::UnknownMemberId,
                Some(found @ Group::Consumer(_)) => {
                    before = found.tombstones(&group);
                    self.groups.insert(Arc::clone(&group), Group::fresh(now));
                    ErrorCode::None
                }
                None if limits.groups_max <= self.groups.len() => {
                    ErrorCode::CoordinatorNotAvailable
                }
                None => {
                    self.groups.insert(Arc::clone(&group), Group::fresh(now));
                    ErrorCode::None
                }
            }
        };
        if !error.is_ok() {
            let joined = super::Joined { error, member_id: join.member_id, ..Default::default() };
            return Outcome::reply(token, Reply::Joined(Box::new(joined)));
        }
        let mut out = Out::default();
        let Some(Group::Classic(found)) = self.groups.get_mut(&group) else {
            unreachable!("inserted when it was missing");
        };
        found.join(now, token, join, &self.limits.join, &mut self.ids, &mut out);
        let mut outcome = self.outcome(now, &group, out);
        if !before.is_empty() {
            // It was an empty consumer group: its records go before what the new one writes.
            let entries = outcome.records.take().map(|it| it.entries).unwrap_or_default();
            before.extend(entries);
            outcome.records = Some(Records::own(before));
        }
        outcome
    }

    /// False when there is no memory for what `join` would add.
    fn may_join(&self, join: &Join) -> bool {
        let bytes = joining_bytes(join);
        let before = || match self.groups.get(&join.group) {
            Some(Group::Classic(found)) => found.bytes_before(join),
            Some(Group::Consumer(found)) => {
                found.group.bytes_before(&join.member_id, join.instance_id.as_ref())
            }
            None => 0,
        };
        self.share.has_room(bytes) || bytes <= before()
    }

    /// Notes what `group` takes, if it is one of the classic protocol, or gone. What consumer groups take
    /// is noted with what changes it.
    fn charge(&mut self, group: &Arc<str>) {
        match self.groups.get(group) {
            Some(Group::Classic(found)) => self.share.set(group, found.bytes()),
            Some(Group::Consumer(_)) => {}
            None => self.share.set(group, 0),
        }
    }

    /// Something happened to `group`: when it is due may be another time now.
    fn reschedule(&mut self, group: &Arc<str>) {
        let due = self.groups.get(group).and_then(Group::wake_at);
        let before = match due {
            Some(due) => self.wake_of.insert(Arc::clone(group), due),
            None => self.wake_of.remove(group),
        };
        if before != due {
            if let Some(before) = before {
                self.wakes.remove(&(before, Arc::clone(group)));
            }
            self.wakes.extend(due.map(|due| (due, Arc::clone(group))));
        }
    }

    fn reschedule_all(&mut self) {
        let groups: Vec<_> = self.groups.keys().cloned().collect();
        groups.iter().for_each(|group| self.reschedule(group));
    }

    fn classic(&mut self, group: &str) -> Option<&mut classic::Group> {
        match self.groups.get_mut(group) {
            Some(Group::Classic(found)) => Some(found),
            Some(Group::Consumer(_)) | None => None,
        }
    }

    /// What a group's step asks for, as records and replies.
    fn outcome(&mut self, now: Now, group: &Arc<str>, out: Out) -> Outcome<Self> {
        let found = self.classic(group).filter(|_| out.write);
        let entry = found.map(|it| {
            it.writes();
            group_record(group, Some(&it.metadata(now)))
        });
        let records = entry.map(|it| Records::own(vec![it]));
        let reply = |(token, reply)| Release::Reply(token, reply);
        Outcome { records, releases: out.replies.into_iter().map(reply).collect() }
    }

    fn sync(&mut self, now: Now, token: Token, sync: super::Sync) -> Outcome<Self> {
        let group = Arc::clone(&sync.member.group);
        if let Some(Group::Consumer(_)) = self.groups.get(&group) {
            return self.sync_consumers(now, token, &sync);
        }
        if self.classic(&group).is_none() {
            let is_named = !group.is_empty();
            let error =
                if is_named { ErrorCode::UnknownMemberId } else { ErrorCode::InvalidGroupId };
            let synced = Synced { error, ..Synced::default() };
            return Outcome::reply(token, Reply::Synced(synced));
        }
        let bytes = assigned_bytes(&sync.assignments);
        if 0 < bytes && !self.share.has_room(bytes) {
            let error = ErrorCode::CoordinatorNotAvailable;
            return Outcome::reply(token, Reply::Synced(Synced { error, ..Synced::default() }));
        }
        let Some(found) = self.classic(&group) else { unreachable!("it was found above") };
        let mut out = Out::default();
        found.sync(now, token, sync, &mut out);
        self.outcome(now, &group, out)
    }

    fn leave(&mut self, now: Now, token: Token, leave: &Leave) -> Outcome<Self> {
        if let Some(Group::Consumer(_)) = self.groups.get(&leave.group) {
            return self.leave_consumers(now, token, leave);
        }
        let Some(found) = self.classic(&leave.group) else {
            let codes = vec![ErrorCode::UnknownMemberId; leave.members.len()];
            return Outcome::reply(token, Reply::Left(codes));
        };
        let mut out = Out::default();
        let codes = found.leave(now, leave, &mut out);
        out.replies.push((token, Reply::Left(codes)));
        self.outcome(now, &leave.group, out)
    }

    fn describe(&self, group: &Arc<str>) -> Description {
        let unknown = || Description::refused(ErrorCode::GroupIdNotFound);
        let simple = || Description { error: ErrorCode::None, state: "Empty", ..unknown() };
        match self.groups.get(group) {
            Some(Group::Classic(found)) => found.describe(),
            None if self.offsets.has(group) => simple(),
            Some(Group::Consumer(_)) | None => unknown(),
        }
    }

    fn list(&self) -> Vec<Listing> {
        let simple = |group: &Arc<str>| Listing {
            group: Arc::clone(group),
            protocol_type: "".into(),
            state: "Empty",
            kind: GroupType::Classic,
        };
        let committed = self.offsets.groups().map(|group| (Arc::clone(group), simple(group)));
        let mut listed: BTreeMap<Arc<str>, Listing> = committed.collect();
        listed.extend(self.groups.iter().map(|(group, it)| (Arc::clone(group), it.listing(group))));
        listed.into_values().collect()
    }

    fn heartbeat(&mut self, now: Now, from: &Membership) -> ErrorCode {
        match self.groups.get_mut(&from.group) {
            Some(Group::Classic(found)) => found.heartbeat(now, from),
            Some(Group::Consumer(modern)) => Self::heartbeat_of_classic(now, modern, from),
            None if from.group.is_empty() => ErrorCode::InvalidGroupId,
            None => ErrorCode::UnknownMemberId,
        }
    }

    fn replay_classic(
        &mut self,
        now: Now,
        group: &Arc<str>,
        metadata: Option<&GroupMetadataValue>,
    ) {
        let is_loading = self.is_loading;
        match (self.classic(group), metadata) {
            (Some(_), None) => {
                self.groups.remove(group);
            }
            (None, None) => {}
            // While serving, the core itself decided what this record says.
            (Some(found), Some(_)) if !is_loading => found.was_written(),
            (_, Some(metadata)) => {
                let mut restored = classic::Group::restored(metadata, now);
                if !is_loading {
                    // It was a consumer group until now: everybody is to join.
                    restored.restart(now);
                }
                self.groups.insert(Arc::clone(group), Group::Classic(Box::new(restored)));
            }
        }
        self.charge(group);
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
        self.share.set_offsets(self.offsets.bytes());
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
        let group = request.group().cloned();
        // Other requests change nothing that a group keeps, or by replay.
        let changes = matches!(request, Request::Join(_) | Request::Sync(_) | Request::Leave(_));
        let outcome = match request {
            Request::Join(join) => self.join(now, token, join),
            Request::Sync(sync) => self.sync(now, token, sync),
            Request::Heartbeat(from) => {
                Outcome::reply(token, Reply::Heartbeat(self.heartbeat(now, &from)))
            }
            Request::ConsumerHeartbeat(beat) => self.consumer_heartbeat(now, token, *beat),
            Request::Leave(leave) => self.leave(now, token, &leave),
            Request::Commit(commit) => self.commit(now, token, commit),
            Request::Fetch(fetch) => Outcome::reply(token, self.fetch(&fetch)),
            Request::Describe(group) => {
                Outcome::reply(token, Reply::Described(Box::new(self.describe(&group))))
            }
            Request::DescribeConsumer(group) => {
                Outcome::reply(token, Reply::DescribedConsumer(self.describe_consumer(&group)))
            }
            Request::DeleteOffsets(group, partitions) => {
                self.delete_offsets(token, &group, &partitions)
            }
            Request::List => Outcome::reply(token, Reply::Listed(self.list())),
            Request::Delete(group) => self.delete(token, &group),
        };
        if let Some(group) = group {
            self.reschedule(&group);
            if changes {
                self.charge(&group);
            }
        }
        outcomes.push(outcome);
    }

    fn replay(&mut self, now: Now, record: &Logged) {
        let group = match GroupRecord::read(&record.entry) {
            Ok(GroupRecord::Offset { group, partition, committed }) => {
                return self.replay_offset(&group, partition, committed, record.producer);
            }
            Ok(GroupRecord::Classic { group, metadata }) => {
                self.replay_classic(now, &group, metadata.as_ref());
                group
            }
            Ok(GroupRecord::Consumer { group, change }) => {
                self.replay_consumer(now, record.timestamp, &group, &change);
                group
            }
            Ok(GroupRecord::Unknown) => return,
            Err(reason) => {
                tracing::warn!(offset = record.offset.0, reason, "group record skipped");
                return;
            }
        };
        if !self.is_loading {
            self.reschedule(&group);
        }
    }

    fn replay_marker(&mut self, _: Now, marker: EndTxnMarker, _: Offset) {
        self.offsets.end(marker.producer_id, marker.commit);
        self.share.set_offsets(self.offsets.bytes());
    }

    fn follow(&mut self, image: Arc<Image>, outcomes: &mut Vec<Outcome<Self>>) {
        let before = std::mem::replace(&mut self.image, image);
        if self.is_loading || self.image.shares_topics(&before) {
            return;
        }
        let is_gone = |it: &&Arc<Topic>| self.image.topic_by_id(it.id).is_none();
        let gone: BTreeSet<_> = before.topics().filter(is_gone).map(|it| &*it.name).collect();
        if !gone.is_empty() {
            outcomes.push(self.forget_topics(|name| gone.contains(name)));
        }
    }

    fn loaded(&mut self, now: Now, _: &mut Vec<Outcome<Self>>) {
        self.is_loading = false;
        self.expiry_at = now.monotonic + self.limits.retention_check;
        let session_timeout = self.limits.consumer.session_timeout;
        for group in self.groups.values_mut() {
            if let Group::Consumer(modern) = group {
                modern.loaded(now, session_timeout);
            }
        }
        self.reschedule_all();
    }

    fn tick(&mut self, now: Now, outcomes: &mut Vec<Outcome<Self>>) {
        let is_due = |(at, _): &&(Duration, Arc<str>)| *at <= now.monotonic;
        let due: Vec<_> = self.wakes.iter().take_while(is_due).cloned().collect();
        for (_, group) in due {
            if let Some(classic) = self.classic(&group) {
                let mut out = Out::default();
                classic.tick(now, &mut out);
                outcomes.push(self.outcome(now, &group, out));
                self.charge(&group);
            } else {
                outcomes.push(self.give_up(now, &group));
            }
            self.reschedule(&group);
        }
        if self.expiry_at <= now.monotonic {
            self.expiry_at = now.monotonic + self.limits.retention_check;
            self.expire(now, outcomes);
        }
    }

    fn wake_at(&self) -> Option<Duration> {
        let first = self.wakes.first().map(|(at, _)| *at);
        first.into_iter().chain([self.expiry_at]).min()
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
            match group {
                Group::Classic(classic) => classic.write_refused(now, &mut out),
                // What it would have changed is looked for again.
                Group::Consumer(modern) => modern.seen = None,
            }
        }
        self.reschedule_all();
        refused.extend(out.replies.into_iter().map(|(token, reply)| Release::Reply(token, reply)));
        refused
    }

    #[cfg(any(test, feature = "check"))]
    fn check(&self) {
        for (name, group) in &self.groups {
            match group {
                Group::Classic(classic) => classic.check(),
                Group::Consumer(modern) => modern.group.check(),
            }
            assert_eq!(self.wake_of.get(name).copied(), group.wake_at(), "{name}");
        }
        let by_group = self.wake_of.iter().map(|(group, at)| (*at, Arc::clone(group)));
        assert_eq!(self.wakes, by_group.collect());
        self.offsets.check();
        let mut bytes = self.offsets.bytes();
        for (name, group) in &self.groups {
            let own = match group {
                Group::Classic(classic) => classic.bytes(),
                Group::Consumer(modern) => modern.group.bytes(),
            };
            assert_eq!(self.share.of(name), own, "{name}");
            bytes += own;
        }
        assert_eq!(self.share.bytes(), bytes);
    }
}

/// The same kind of reply, refusing with `error`.
fn refuse(reply: Reply, error: ErrorCode) -> Reply {
    match reply {
        Reply::Joined(joined) => Reply::Joined(Box::new(super::Joined { error, ..*joined })),
        Reply::Synced(_) => Reply::Synced(Synced { error, ..Synced::default() }),
        Reply::Heartbeat(_) => Reply::Heartbeat(error),
        Reply::ConsumerHeartbeat(Ok(beaten)) => {
            let member = beaten.member_id;
            Reply::ConsumerHeartbeat(Err(BeatError::NotWritten { member, code: error }))
        }
        Reply::ConsumerHeartbeat(Err(refused)) => Reply::ConsumerHeartbeat(Err(refused)),
        Reply::Left(codes) => Reply::Left(codes),
        Reply::Committed(codes) => Reply::Committed(vec![error; codes.len()]),
        Reply::Fetched(_) => Reply::Fetched(Err(error)),
        Reply::Described(description) => {
            Reply::Described(Box::new(Description { error, ..*description }))
        }
        Reply::DeletedOffsets(_) => Reply::DeletedOffsets(Err(error)),
        Reply::DescribedConsumer(_) => Reply::DescribedConsumer(Err(error)),
        Reply::Listed(listed) => Reply::Listed(listed),
        Reply::Deleted(_) => Reply::Deleted(error),
    }
}
