use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use protocol::error_code::ErrorCode;
use protocol::ids::{
    CoordinatorEpoch, GenerationId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicPartition,
};
use protocol::time::{Now, Timestamp};

use super::assignor::Assignor;
use super::beat::ConsumerSettings;
use super::member::{JoinSettings, assigned_bytes, kept, told_bytes};
use super::memory::{Memory, OFFSET_BYTES};
use super::*;
use crate::config::GroupMigration;
use crate::coordinator::{EndTxnMarker, KeyValue, Logged, Outcome, Release, Shard, Token};
use crate::limits::{
    GROUP_ASSIGNMENT_BYTES_MAX, GROUP_METADATA_BYTES_MAX, MEMBER_METADATA_BYTES_MAX,
    MEMBER_PROTOCOLS_MAX,
};

mod consumer;
mod mixed;

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);

/// The heartbeats of consumer groups are every 5 s, their sessions 45 s.
fn consumer_settings() -> ConsumerSettings {
    ConsumerSettings {
        session_timeout: Duration::from_secs(45),
        heartbeat_interval: Duration::from_secs(5),
        members_max: 5,
        assignors: vec![Assignor::Uniform, Assignor::Range],
        migration: GroupMigration::Bidirectional,
    }
}

/// A shard with its log: outcomes are appended, replayed and answered at once.
struct World {
    shard: GroupShard,
    now: Now,
    tokens: u64,
    log: Vec<Logged>,
    answers: BTreeMap<Token, Reply>,
    refusing: bool,
}

impl World {
    fn new(initial_delay: Duration) -> Self {
        Self::bounded(initial_delay, Memory::new(usize::MAX))
    }

    fn bounded(initial_delay: Duration, memory: Memory) -> Self {
        let limits = Limits {
            join: JoinSettings { members_max: 100, initial_delay },
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(1800),
            metadata_bytes_max: 16,
            retention: Duration::from_secs(3600),
            consumer: consumer_settings(),
            broker: Arc::default(),
            retention_check: Duration::from_secs(600),
            groups_max: 10,
            memory,
        };
        let now = Now { monotonic: Duration::ZERO, wall: Timestamp(1_000_000) };
        let mut world = Self {
            shard: GroupShard::new(limits, 7),
            now,
            tokens: 0,
            log: Vec::new(),
            answers: BTreeMap::new(),
            refusing: false,
        };
        world.load();
        world
    }

    fn load(&mut self) {
        let mut outcomes = Vec::new();
        for record in &self.log {
            self.shard.replay(self.now, record);
        }
        self.shard.loaded(self.now, &mut outcomes);
        self.settle(outcomes);
    }

    fn settle(&mut self, outcomes: Vec<Outcome<GroupShard>>) {
        for Outcome { records, releases } in outcomes {
            let mut releases = releases;
            if let Some(records) = records {
                if self.refusing {
                    let code = ErrorCode::CoordinatorNotAvailable;
                    releases = self.shard.refused(self.now, code, releases);
                } else {
                    for entry in records.entries {
                        self.append(entry, records.producer);
                    }
                }
            }
            for release in releases {
                let Release::Reply(token, reply) = release;
                assert!(self.answers.insert(token, reply).is_none(), "answered once");
            }
        }
        self.shard.check();
    }

    fn append(&mut self, entry: KeyValue, producer: Option<(ProducerId, ProducerEpoch)>) {
        let offset = Offset(i64::try_from(self.log.len()).unwrap());
        let record = Logged { offset, timestamp: self.now.wall, entry, producer };
        self.shard.replay(self.now, &record);
        self.log.push(record);
    }

    fn ask(&mut self, request: Request) -> Token {
        self.tokens += 1;
        let token = Token(self.tokens);
        let mut outcomes = Vec::new();
        self.shard.handle(self.now, token, request, &mut outcomes);
        self.settle(outcomes);
        token
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now.monotonic + time;
        while let Some(due) = self.shard.wake_at().filter(|due| *due <= until) {
            self.advance(due.saturating_sub(self.now.monotonic));
            let mut outcomes = Vec::new();
            self.shard.tick(self.now, &mut outcomes);
            self.settle(outcomes);
        }
        self.advance(until - self.now.monotonic);
    }

    fn advance(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.wall = self.now.wall.plus(time);
    }

    fn join(&mut self, member_id: &str) -> Token {
        self.ask(Request::Join(join(member_id, None)))
    }

    fn joined(&self, token: Token) -> Joined {
        match self.answers.get(&token) {
            Some(Reply::Joined(joined)) => (**joined).clone(),
            other => panic!("{token:?} should be joined, is {other:?}"),
        }
    }

    /// A new member, through the dance for its id.
    fn enter(&mut self) -> (Arc<str>, Token) {
        let first = self.join("");
        let id = self.joined(first).member_id;
        let token = self.join(&id);
        (id, token)
    }

    fn sync(&mut self, joined: &Joined) -> Token {
        let assign = |(id, _, _): &(Arc<str>, Option<Arc<str>>, Bytes)| {
            (Arc::clone(id), Bytes::from(format!("{id}@{}", joined.generation)))
        };
        self.ask(Request::Sync(Sync {
            member: member(&joined.member_id, joined.generation.0),
            protocol_type: None,
            protocol: None,
            assignments: joined.members.iter().map(assign).collect(),
        }))
    }

    fn synced(&self, token: Token) -> Result<String, ErrorCode> {
        match &self.answers[&token] {
            Reply::Synced(synced) if synced.error.is_ok() => {
                Ok(String::from_utf8(synced.assignment.to_vec()).unwrap())
            }
            Reply::Synced(synced) => Err(synced.error),
            other => panic!("{token:?} should be synced, is {other:?}"),
        }
    }

    fn heartbeat(&mut self, id: &str, generation: GenerationId) -> ErrorCode {
        let token = self.ask(Request::Heartbeat(member(id, generation.0)));
        match self.answers[&token] {
            Reply::Heartbeat(code) => code,
            ref other => panic!("{other:?}"),
        }
    }

    fn commit(&mut self, from: Membership, producer: Option<i64>, offset: i64) -> ErrorCode {
        let committed = Committed {
            offset: Offset(offset),
            leader_epoch: LeaderEpoch::NONE,
            metadata: "".into(),
            at: self.now.wall,
        };
        let producer = producer.map(|id| (ProducerId(id), ProducerEpoch(0)));
        let offsets = vec![(TopicPartition::new("t", 0), committed)];
        let token = self.ask(Request::Commit(Commit {
            member: from,
            producer,
            guard: None,
            speaks_epochs: true,
            offsets,
        }));
        match &self.answers[&token] {
            Reply::Committed(codes) => codes[0],
            other => panic!("{other:?}"),
        }
    }

    fn committed(&mut self, require_stable: bool) -> Result<Option<i64>, ErrorCode> {
        let partitions = Some(vec![TopicPartition::new("t", 0)]);
        let fetch = Fetch { group: "g".into(), member: None, partitions, require_stable };
        let token = self.ask(Request::Fetch(fetch));
        match &self.answers[&token] {
            Reply::Fetched(Ok(found)) => {
                found[0].1.clone().map(|it| it.map(|committed| committed.offset.0))
            }
            other => panic!("{other:?}"),
        }
    }

    /// A group of `count` members, stable.
    fn stable(&mut self, count: usize) -> Vec<Joined> {
        let entered: Vec<_> = (0..count).map(|_| self.enter()).collect();
        let mut tokens: BTreeMap<Arc<str>, Token> = entered.into_iter().collect();
        for _ in 0..count {
            for (id, token) in &mut tokens {
                if self.answers.contains_key(token) {
                    *token = self.tokens_of(id);
                }
            }
        }
        let joined: Vec<_> = tokens.values().map(|token| self.joined(*token)).collect();
        let leader = joined.iter().position(|it| !it.members.is_empty()).unwrap();
        self.sync(&joined[leader]);
        for it in joined.iter().filter(|it| it.members.is_empty()) {
            let token = self.sync(it);
            assert!(self.synced(token).is_ok());
        }
        joined
    }

    /// Rejoins, so that a round with everybody can close.
    fn tokens_of(&mut self, id: &str) -> Token {
        self.join(id)
    }
}

fn join(member_id: &str, instance_id: Option<&str>) -> Join {
    Join {
        group: "g".into(),
        member_id: member_id.into(),
        instance_id: instance_id.map(Into::into),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"topics"))],
        requires_member_id: true,
        can_skip_assignment: false,
    }
}

fn member(id: &str, generation: i32) -> Membership {
    Membership {
        group: "g".into(),
        generation: GenerationId(generation),
        member_id: id.into(),
        instance_id: None,
    }
}

fn anonymous() -> Membership {
    member("", -1)
}

#[test]
fn a_new_member_is_given_an_id_and_comes_again() {
    let mut world = World::new(Duration::ZERO);
    let token = world.join("");
    let refused = world.joined(token);
    assert_eq!(refused.error, ErrorCode::MemberIdRequired);
    let token = world.join(&refused.member_id);
    let joined = world.joined(token);
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, GenerationId(1)));
    assert_eq!(joined.leader, joined.member_id);
    let token = world.join("an id that nobody gave");
    assert_eq!(world.joined(token).error, ErrorCode::UnknownMemberId);
}

#[test]
fn what_members_tell_is_bounded_one_by_one_and_together() {
    let mut world = World::new(Duration::ZERO);
    let mut enter = |bytes: usize| {
        let metadata = Bytes::from(vec![b'm'; bytes]);
        let protocols = vec![("range".into(), metadata)];
        let join = Join { requires_member_id: false, protocols, ..join("", None) };
        let token = world.ask(Request::Join(join));
        world.answers.get(&token).map(|reply| match reply {
            Reply::Joined(joined) => joined.error,
            other => panic!("a join is answered as one: {other:?}"),
        })
    };
    assert_eq!(enter(MEMBER_METADATA_BYTES_MAX), Some(ErrorCode::GroupMaxSizeReached));
    let most = MEMBER_METADATA_BYTES_MAX - told_bytes(&[("range".into(), Bytes::new())]);
    assert_eq!(enter(most), Some(ErrorCode::None));
    // They wait for the first to come again.
    for _ in 1..GROUP_METADATA_BYTES_MAX / MEMBER_METADATA_BYTES_MAX {
        assert_eq!(enter(most), None);
    }
    assert_eq!(enter(0), Some(ErrorCode::GroupMaxSizeReached));
}

#[test]
fn a_member_offers_a_few_protocols_at_most() {
    let mut world = World::new(Duration::ZERO);
    let mut enter = |count: usize| {
        let protocols = (0..count).map(|it| (it.to_string().into(), Bytes::new())).collect();
        let join = Join { requires_member_id: false, protocols, ..join("", None) };
        let token = world.ask(Request::Join(join));
        match world.answers.get(&token) {
            Some(Reply::Joined(joined)) => joined.error,
            other => panic!("a join is answered as one: {other:?}"),
        }
    };
    assert_eq!(enter(MEMBER_PROTOCOLS_MAX + 1), ErrorCode::GroupMaxSizeReached);
    assert_eq!(enter(MEMBER_PROTOCOLS_MAX), ErrorCode::None);
}

#[test]
fn what_a_leader_assigns_is_bounded() {
    let mut world = World::new(Duration::ZERO);
    let (_, token) = world.enter();
    let joined = world.joined(token);
    let member_id = Arc::clone(&joined.member_id);
    let mut assign = |bytes: usize| {
        let token = world.ask(Request::Sync(Sync {
            member: member(&member_id, joined.generation.0),
            protocol_type: None,
            protocol: None,
            assignments: vec![(Arc::clone(&member_id), Bytes::from(vec![b'a'; bytes]))],
        }));
        world.synced(token).map(|it| it.len())
    };
    let refused = Err(ErrorCode::GroupMaxSizeReached);
    let most = GROUP_ASSIGNMENT_BYTES_MAX - assigned_bytes(&[(joined.member_id, Bytes::new())]);
    assert_eq!(assign(most + 1), refused);
    assert_eq!(assign(most), Ok(most));
}

#[test]
fn what_all_groups_keep_is_bounded_and_deleting_some_makes_room() {
    let memory = Memory::new(11_000);
    let mut world = World::bounded(Duration::ZERO, memory.clone());
    let join_group = |world: &mut World, group: &str, id: &str| {
        let protocols = vec![("range".into(), Bytes::from(vec![b'm'; 4000]))];
        let join = Join { requires_member_id: false, protocols, ..join(id, None) };
        let token = world.ask(Request::Join(Join { group: group.into(), ..join }));
        match &world.answers[&token] {
            Reply::Joined(joined) => (joined.error, Arc::clone(&joined.member_id)),
            other => panic!("a join is answered as one: {other:?}"),
        }
    };
    let (full, fine) = (ErrorCode::CoordinatorNotAvailable, ErrorCode::None);
    let (told, first) = join_group(&mut world, "a", "");
    assert_eq!(told, fine);
    let (told, second) = join_group(&mut world, "b", "");
    assert_eq!(told, fine);
    assert_eq!(join_group(&mut world, "c", "").0, full);
    assert_eq!(join_group(&mut world, "a", &first).0, fine, "it adds nothing");
    let members = vec![(second, None)];
    world.ask(Request::Leave(Leave { group: "b".into(), members }));
    world.ask(Request::Delete("b".into()));
    assert_eq!(join_group(&mut world, "c", "").0, fine);
    drop(world);
    assert_eq!(memory.used(), 0, "another leader keeps it now");
}

#[test]
fn offsets_that_no_memory_is_left_for_are_refused_and_known_ones_go_on() {
    let mut world = World::bounded(Duration::ZERO, Memory::new(2 * OFFSET_BYTES + 20));
    let commit = |world: &mut World, partition: i32| {
        let committed = Committed {
            offset: Offset(7),
            leader_epoch: LeaderEpoch::NONE,
            metadata: "".into(),
            at: world.now.wall,
        };
        let token = world.ask(Request::Commit(Commit {
            member: member("", -1),
            producer: None,
            guard: None,
            speaks_epochs: true,
            offsets: vec![(TopicPartition::new("t", partition), committed)],
        }));
        match &world.answers[&token] {
            Reply::Committed(codes) => codes[0],
            other => panic!("{other:?}"),
        }
    };
    let (full, fine) = (ErrorCode::CoordinatorNotAvailable, ErrorCode::None);
    let told: Vec<_> = [0, 1, 2, 0, 1].map(|it| commit(&mut world, it)).into();
    assert_eq!(told, [fine, fine, full, fine, fine]);
    world.ask(Request::DeleteOffsets("g".into(), vec![TopicPartition::new("t", 0)]));
    assert_eq!([commit(&mut world, 2), commit(&mut world, 0)], [fine, full]);
}

#[test]
fn what_a_member_told_keeps_nothing_else_of_its_request() {
    let frame = Bytes::from(vec![b'm'; 1 << 10]);
    let told = vec![("range".into(), frame.slice(0..4))];
    let own = kept(&told);
    assert_eq!(own, told);
    assert_ne!(own[0].1.as_ptr(), told[0].1.as_ptr());
}

#[test]
fn the_leader_s_assignment_reaches_everybody_and_nobody_before() {
    let mut world = World::new(Duration::from_secs(3));
    let (_, first) = world.enter();
    let (_, second) = world.enter();
    world.pass(Duration::from_secs(4));
    let (first, second) = (world.joined(first), world.joined(second));
    assert_eq!(first.generation, second.generation);
    let (leader, follower) =
        if first.members.is_empty() { (second, first) } else { (first, second) };
    assert_eq!(leader.members.len(), 2);
    let waiting = world.sync(&follower);
    assert!(!world.answers.contains_key(&waiting));
    let own = world.sync(&leader);
    assert_eq!(world.synced(own).unwrap(), format!("{}@1", leader.member_id));
    assert_eq!(world.synced(waiting).unwrap(), format!("{}@1", follower.member_id));
}

#[test]
fn a_third_member_makes_the_others_rejoin_and_the_silent_one_is_left_behind() {
    let mut world = World::new(Duration::ZERO);
    let stable = world.stable(1).remove(0);
    let (newcomer, waiting) = world.enter();
    assert_eq!(
        world.heartbeat(&stable.member_id, stable.generation),
        ErrorCode::RebalanceInProgress
    );
    assert!(!world.answers.contains_key(&waiting));
    // It never rejoins: its session ends, and the round closes without it.
    world.pass(SESSION + Duration::from_secs(1));
    let joined = world.joined(waiting);
    assert_eq!(joined.generation.0, stable.generation.0 + 1);
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.leader, newcomer);
    assert_eq!(world.heartbeat(&stable.member_id, stable.generation), ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_that_never_syncs_is_removed_when_the_round_s_time_is_up() {
    let mut world = World::new(Duration::from_secs(3));
    let (_, first) = world.enter();
    let (_, second) = world.enter();
    world.pass(Duration::from_secs(4));
    let (first, second) = (world.joined(first), world.joined(second));
    let (leader, follower) =
        if first.members.is_empty() { (second, first) } else { (first, second) };
    let waiting = world.sync(&follower);
    for _ in 0..7 {
        // The leader lives, and never assigns.
        world.heartbeat(&leader.member_id, leader.generation);
        world.pass(SESSION - Duration::from_secs(1));
    }
    assert_eq!(world.synced(waiting), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(world.heartbeat(&leader.member_id, leader.generation), ErrorCode::UnknownMemberId);
}

#[test]
fn a_static_member_that_restarts_keeps_its_assignment_and_fences_its_old_self() {
    let mut world = World::new(Duration::ZERO);
    let first = world.stable(1).remove(0);
    let token = world.ask(Request::Join(join("", Some("i-1"))));
    let again = world.join(&first.member_id);
    let (leader, old) = (world.joined(again), world.joined(token));
    world.sync(&leader);
    let held = world.sync(&old);
    let assignment = world.synced(held).unwrap();
    // It owns nothing and knows of no generation, and says so.
    let protocols = vec![("range".into(), Bytes::from_static(b"the same topics"))];
    let token = world.ask(Request::Join(Join { protocols, ..join("", Some("i-1")) }));
    let new = world.joined(token);
    assert_eq!((new.error, new.generation), (ErrorCode::None, old.generation));
    assert_ne!(new.member_id, old.member_id);
    let mut fenced = member(&old.member_id, old.generation.0);
    fenced.instance_id = Some("i-1".into());
    let token = world.ask(Request::Heartbeat(fenced));
    assert_eq!(world.answers[&token], Reply::Heartbeat(ErrorCode::FencedInstanceId));
    let held = world.sync(&new);
    assert_eq!(world.synced(held).unwrap(), assignment);
}

#[test]
fn members_that_share_no_protocol_cannot_be_in_one_group() {
    let mut world = World::new(Duration::ZERO);
    world.stable(1);
    let other = Join { protocols: vec![("sticky".into(), Bytes::new())], ..join("", None) };
    let token = world.ask(Request::Join(other));
    assert_eq!(world.joined(token).error, ErrorCode::InconsistentGroupProtocol);
    let other = Join { protocol_type: "connect".into(), ..join("", None) };
    let token = world.ask(Request::Join(other));
    assert_eq!(world.joined(token).error, ErrorCode::InconsistentGroupProtocol);
}

/// librdkafka's consumers that assign themselves make up an id with `group.protocol=consumer`.
#[test]
fn who_never_joined_may_commit_under_any_name_while_nobody_is_in_the_group() {
    let mut world = World::new(Duration::ZERO);
    assert_eq!(world.commit(member("made up", -1), None, 1), ErrorCode::None);
    let stable = world.stable(1).remove(0);
    assert_eq!(world.commit(member("made up", -1), None, 2), ErrorCode::UnknownMemberId);
    let members = vec![(stable.member_id, None)];
    world.ask(Request::Leave(Leave { group: "g".into(), members }));
    assert_eq!(world.commit(member("made up", -1), None, 3), ErrorCode::None);
    assert_eq!(world.committed(false), Ok(Some(3)));
}

#[test]
fn who_may_commit_follows_from_the_generation() {
    let mut world = World::new(Duration::ZERO);
    assert_eq!(world.commit(anonymous(), None, 1), ErrorCode::None);
    assert_eq!(world.commit(member("ghost", 3), None, 2), ErrorCode::UnknownMemberId);
    let stable = world.stable(1).remove(0);
    assert_eq!(world.commit(anonymous(), None, 3), ErrorCode::UnknownMemberId);
    let id = &stable.member_id;
    let stale = member(id, stable.generation.0 - 1);
    assert_eq!(world.commit(stale, None, 4), ErrorCode::IllegalGeneration);
    assert_eq!(world.commit(member(id, stable.generation.0), None, 5), ErrorCode::None);
    world.enter();
    // The generation is raised when the round closes: until then the old one may commit.
    assert_eq!(world.commit(member(id, stable.generation.0), None, 6), ErrorCode::None);
    let again = world.join(id);
    let joined = world.joined(again);
    let early = world.commit(member(id, joined.generation.0), None, 7);
    assert_eq!(early, ErrorCode::RebalanceInProgress);
    assert_eq!(world.committed(false), Ok(Some(6)));
}

#[test]
fn an_offset_in_a_transaction_is_unstable_until_its_marker() {
    let mut world = World::new(Duration::ZERO);
    assert_eq!(world.commit(anonymous(), None, 1), ErrorCode::None);
    assert_eq!(world.commit(anonymous(), Some(9), 5), ErrorCode::None);
    assert_eq!(world.committed(false), Ok(Some(1)));
    assert_eq!(world.committed(true), Err(ErrorCode::UnstableOffsetCommit));
    let marker = EndTxnMarker {
        producer_id: ProducerId(9),
        producer_epoch: ProducerEpoch(1),
        coordinator_epoch: CoordinatorEpoch(0),
        commit: true,
        transaction_version: 2,
    };
    world.shard.replay_marker(world.now, marker, Offset(99));
    assert_eq!(world.committed(true), Ok(Some(5)));
}

/// KIP-447: one producer may commit for whatever its consumer was given, so the group must fence it.
#[test]
fn a_transaction_of_a_member_that_was_left_behind_commits_no_offsets() {
    let mut world = World::new(Duration::ZERO);
    let stable = world.stable(1).remove(0);
    let (id, generation) = (Arc::clone(&stable.member_id), stable.generation.0);
    assert_eq!(world.commit(member(&id, generation), Some(9), 5), ErrorCode::None);
    let stale = member(&id, generation - 1);
    assert_eq!(world.commit(stale, Some(9), 6), ErrorCode::IllegalGeneration);
    assert_eq!(world.commit(member("gone", generation), Some(9), 7), ErrorCode::UnknownMemberId);
    // While the group is between two rounds, a transaction of the last one may still end.
    world.enter();
    assert_eq!(world.commit(member(&id, generation), Some(9), 8), ErrorCode::None);
    let again = world.join(&id);
    let joined = world.joined(again);
    assert_ne!(joined.generation.0, generation);
    assert_eq!(world.commit(member(&id, generation), Some(9), 9), ErrorCode::IllegalGeneration);
}

#[test]
fn who_asks_for_all_offsets_is_told_of_those_that_are_pending_alone() {
    let mut world = World::new(Duration::ZERO);
    assert_eq!(world.commit(anonymous(), Some(9), 5), ErrorCode::None);
    let mut all = |require_stable| {
        let fetch = Fetch { group: "g".into(), member: None, partitions: None, require_stable };
        let token = world.ask(Request::Fetch(fetch));
        world.answers.remove(&token).unwrap()
    };
    assert_eq!(all(false), Reply::Fetched(Ok(vec![])));
    let at = TopicPartition::new("t", 0);
    let unstable = vec![(at, Err(ErrorCode::UnstableOffsetCommit))];
    assert_eq!(all(true), Reply::Fetched(Ok(unstable)));
}

#[test]
fn a_group_without_a_name_is_none() {
    let mut world = World::new(Duration::ZERO);
    let nobody = || Membership { group: "".into(), ..member("m", 1) };
    let token = world.ask(Request::Heartbeat(nobody()));
    assert_eq!(world.answers[&token], Reply::Heartbeat(ErrorCode::InvalidGroupId));
    let token = world.ask(Request::Sync(Sync {
        member: nobody(),
        protocol_type: None,
        protocol: None,
        assignments: vec![],
    }));
    assert_eq!(world.synced(token), Err(ErrorCode::InvalidGroupId));
    let token = world.ask(Request::Delete("".into()));
    assert_eq!(world.answers[&token], Reply::Deleted(ErrorCode::GroupIdNotFound));
}

#[test]
fn the_next_coordinator_waits_for_the_marker_of_a_transaction_that_the_last_one_saw() {
    for commit in [true, false] {
        let mut world = World::new(Duration::ZERO);
        assert_eq!(world.commit(anonymous(), None, 1), ErrorCode::None);
        assert_eq!(world.commit(anonymous(), Some(9), 5), ErrorCode::None);
        let mut next = World::new(Duration::ZERO);
        next.shard = GroupShard::new(next_limits(&world), 8);
        next.log = world.log;
        next.load();
        assert_eq!(next.committed(true), Err(ErrorCode::UnstableOffsetCommit));
        let marker = EndTxnMarker {
            producer_id: ProducerId(9),
            producer_epoch: ProducerEpoch(1),
            coordinator_epoch: CoordinatorEpoch(0),
            commit,
            transaction_version: 2,
        };
        next.shard.replay_marker(next.now, marker, Offset(99));
        assert_eq!(next.committed(true), Ok(Some(if commit { 5 } else { 1 })));
    }
}

#[test]
fn what_a_transaction_committed_counts_from_its_marker_on_whatever_was_committed_meanwhile() {
    let mut world = World::new(Duration::ZERO);
    assert_eq!(world.commit(anonymous(), Some(9), 5), ErrorCode::None);
    assert_eq!(world.commit(anonymous(), None, 8), ErrorCode::None);
    assert_eq!(world.committed(false), Ok(Some(8)));
    let marker = EndTxnMarker {
        producer_id: ProducerId(9),
        producer_epoch: ProducerEpoch(0),
        coordinator_epoch: CoordinatorEpoch(0),
        commit: true,
        transaction_version: 1,
    };
    world.shard.replay_marker(world.now, marker, Offset(99));
    assert_eq!(world.committed(true), Ok(Some(5)));
}

#[test]
fn metadata_that_is_too_long_is_refused_and_the_other_offsets_are_committed() {
    let mut world = World::new(Duration::ZERO);
    let committed = |metadata: &str| Committed {
        offset: Offset(3),
        leader_epoch: LeaderEpoch::NONE,
        metadata: metadata.into(),
        at: Timestamp(0),
    };
    let offsets = vec![
        (TopicPartition::new("t", 1), committed(&"x".repeat(17))),
        (TopicPartition::new("t", 0), committed(&"x".repeat(16))),
    ];
    let member = anonymous();
    let commit = Commit { member, producer: None, guard: None, speaks_epochs: false, offsets };
    let token = world.ask(Request::Commit(commit));
    let codes = vec![ErrorCode::OffsetMetadataTooLarge, ErrorCode::None];
    assert_eq!(world.answers[&token], Reply::Committed(codes));
    assert_eq!(world.committed(true), Ok(Some(3)));
}

#[test]
fn the_next_coordinator_knows_the_group_and_its_offsets() {
    let mut world = World::new(Duration::ZERO);
    let stable = world.stable(1).remove(0);
    let id = Arc::clone(&stable.member_id);
    assert_eq!(world.commit(member(&id, stable.generation.0), None, 5), ErrorCode::None);
    let mut next = World::new(Duration::ZERO);
    next.shard = GroupShard::new(next_limits(&world), 8);
    next.log = world.log;
    next.load();
    assert_eq!(next.heartbeat(&id, stable.generation), ErrorCode::None);
    assert_eq!(next.committed(true), Ok(Some(5)));
    // Who does not show up is given up after its session.
    next.pass(SESSION + Duration::from_secs(1));
    assert_eq!(next.heartbeat(&id, stable.generation), ErrorCode::UnknownMemberId);
}

fn next_limits(_: &World) -> Limits {
    Limits {
        join: JoinSettings { members_max: 100, initial_delay: Duration::ZERO },
        session_timeout_min: Duration::from_secs(6),
        session_timeout_max: Duration::from_secs(1800),
        metadata_bytes_max: 16,
        retention: Duration::from_secs(3600),
        consumer: consumer_settings(),
        broker: Arc::default(),
        retention_check: Duration::from_secs(600),
        groups_max: 10,
        memory: Memory::new(usize::MAX),
    }
}

#[test]
fn an_assignment_that_could_not_be_written_is_not_handed_out() {
    let mut world = World::new(Duration::ZERO);
    let (_, token) = world.enter();
    let joined = world.joined(token);
    world.refusing = true;
    let token = world.sync(&joined);
    assert_eq!(world.synced(token), Err(ErrorCode::CoordinatorNotAvailable));
    world.refusing = false;
    let generation = joined.generation;
    let told = world.heartbeat(&joined.member_id, generation);
    assert_eq!(told, ErrorCode::RebalanceInProgress);
}

#[test]
fn offsets_of_an_empty_group_expire_after_the_retention_and_not_before() {
    let mut world = World::new(Duration::ZERO);
    assert_eq!(world.commit(anonymous(), None, 5), ErrorCode::None);
    world.pass(Duration::from_secs(3000));
    assert_eq!(world.committed(true), Ok(Some(5)));
    world.pass(Duration::from_secs(2000));
    assert_eq!(world.committed(true), Ok(None));
}

/// KIP-211: from when the group became empty, however old the commit is.
#[test]
fn offsets_of_a_group_outlive_its_last_member_by_the_retention() {
    let mut world = World::new(Duration::ZERO);
    let stable = world.stable(1).remove(0);
    let (id, generation) = (Arc::clone(&stable.member_id), stable.generation);
    assert_eq!(world.commit(member(&id, generation.0), None, 5), ErrorCode::None);
    for _ in 0..1000 {
        assert_eq!(world.heartbeat(&id, generation), ErrorCode::None);
        world.pass(SESSION - Duration::from_secs(1));
    }
    assert_eq!(world.committed(true), Ok(Some(5)), "9000 s after the commit");
    let members = vec![(id, None)];
    world.ask(Request::Leave(Leave { group: "g".into(), members }));
    world.pass(Duration::from_secs(3000));
    assert_eq!(world.committed(true), Ok(Some(5)));
    world.pass(Duration::from_secs(1300));
    assert_eq!(world.committed(true), Ok(None));
}

#[test]
fn a_static_leader_that_restarts_is_told_to_leave_the_assignment_as_it_is() {
    for can_skip in [true, false] {
        let mut world = World::new(Duration::ZERO);
        let entering = Join { can_skip_assignment: can_skip, ..join("", Some("i-1")) };
        let token = world.ask(Request::Join(entering.clone()));
        let first = world.joined(token);
        let held = world.sync(&first);
        let assignment = world.synced(held).unwrap();
        let token = world.ask(Request::Join(entering));
        let again = world.joined(token);
        assert_eq!((again.error, again.skip_assignment), (ErrorCode::None, can_skip));
        assert_eq!(again.generation == first.generation, can_skip, "or a round begins");
        if can_skip {
            let held = world.sync(&Joined { members: vec![], ..again });
            assert_eq!(world.synced(held).unwrap(), assignment);
        }
    }
}

#[test]
fn a_group_with_members_cannot_be_deleted_and_an_empty_one_can() {
    let mut world = World::new(Duration::ZERO);
    let stable = world.stable(1).remove(0);
    let token = world.ask(Request::Delete("g".into()));
    assert_eq!(world.answers[&token], Reply::Deleted(ErrorCode::NonEmptyGroup));
    let members = vec![(Arc::clone(&stable.member_id), None)];
    let token = world.ask(Request::Leave(Leave { group: "g".into(), members }));
    assert_eq!(world.answers[&token], Reply::Left(vec![ErrorCode::None]));
    let token = world.ask(Request::Delete("g".into()));
    assert_eq!(world.answers[&token], Reply::Deleted(ErrorCode::None));
    let token = world.ask(Request::Delete("g".into()));
    assert_eq!(world.answers[&token], Reply::Deleted(ErrorCode::GroupIdNotFound));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever members do, everybody who asks is answered in the end, and those of one generation
    /// agree on its leader.
    #[test]
    fn every_question_is_answered_and_a_generation_has_one_leader(
        steps in proptest::collection::vec((0_u8..8, 0_usize..5, 0_u64..20), 1..80),
    ) {
        let mut world = World::new(Duration::from_secs(1));
        let mut ids: Vec<Arc<str>> = Vec::new();
        let mut asked: BTreeSet<Token> = BTreeSet::new();
        let mut generations: BTreeMap<Arc<str>, GenerationId> = BTreeMap::new();
        for (what, who, time) in steps {
            let id = ids.get(who).cloned().unwrap_or_default();
            let generation = generations.get(&id).copied().unwrap_or(GenerationId(-1));
            let token = match what {
                0 | 1 => world.join(&id),
                2 => world.ask(Request::Join(join("", Some(["i", "j"][who % 2])))),
                3 | 4 => {
                    let joined = Joined { member_id: id, generation, ..Joined::default() };
                    world.sync(&joined)
                }
                5 => world.ask(Request::Heartbeat(member(&id, generation.0))),
                6 => {
                    let members = vec![(id, None)];
                    world.ask(Request::Leave(Leave { group: "g".into(), members }))
                }
                _ => {
                    world.pass(Duration::from_secs(time));
                    continue;
                }
            };
            asked.insert(token);
            for reply in world.answers.values() {
                if let Reply::Joined(joined) = reply {
                    if !joined.member_id.is_empty() && !ids.contains(&joined.member_id) {
                        ids.push(Arc::clone(&joined.member_id));
                    }
                    if joined.error.is_ok() {
                        generations.insert(Arc::clone(&joined.member_id), joined.generation);
                    }
                }
            }
        }
        // What the last completed round agreed on is what the next coordinator knows.
        let describe = |world: &mut World| {
            let token = world.ask(Request::Describe("g".into()));
            world.answers.remove(&token)
        };
        let mut next = World::new(Duration::from_secs(1));
        next.now = world.now;
        next.log.clone_from(&world.log);
        next.shard = GroupShard::new(next_limits(&world), 8);
        next.load();
        let (ours, theirs) = (describe(&mut world), describe(&mut next));
        if let Some(Reply::Described(description)) = &ours
            && description.state == "Stable"
        {
            prop_assert_eq!(&ours, &theirs);
        }
        world.pass(Duration::from_secs(600));
        let silent: Vec<_> = asked.iter().filter(|it| !world.answers.contains_key(it)).collect();
        prop_assert!(silent.is_empty(), "not answered: {silent:?}");
        let mut leaders: BTreeMap<GenerationId, BTreeSet<Arc<str>>> = BTreeMap::new();
        for reply in world.answers.values() {
            if let Reply::Joined(joined) = reply
                && joined.error.is_ok()
                && !joined.members.is_empty()
            {
                leaders.entry(joined.generation).or_default().insert(Arc::clone(&joined.leader));
            }
        }
        // A static leader that was replaced within its generation is known by both its ids.
        prop_assert!(leaders.values().all(|it| it.len() <= 2), "{leaders:?}");
    }
}
