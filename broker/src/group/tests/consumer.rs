//! Groups of KIP-848, over their shard and its log.

use super::*;
use crate::group::assignor::Assignment;
use crate::group::beat::{Beat, BeatError, Beaten, Intent, Sight};
use crate::group::modern::{ConsumerGroup, Epoch, slots};
use crate::group::reconcile::has;
use crate::metadata::{
    AccessControlEntryRecord, ConfigRecord, Delta, Image, PartitionRecord, Record, Resource,
    TopicRecord,
};
use protocol::ids::{PartitionIndex, TopicId};

/// What the coordinator knows of topics: name, a number that its id is made of, partitions.
pub(super) fn image(topics: &[(&str, u8, i32)]) -> Arc<Image> {
    let mut image = Image::empty("test");
    let mut delta = Delta::default();
    for (name, number, count) in topics {
        let topic_id = TopicId([*number; 16]);
        let topic: Record = TopicRecord { name: (*name).to_owned(), topic_id }.into();
        image.apply(&topic, &mut delta).unwrap();
        for partition_id in 0..*count {
            let partition = PartitionRecord {
                partition_id,
                topic_id,
                replicas: vec![1],
                isr: vec![1],
                leader: 1,
                ..PartitionRecord::default()
            };
            image.apply(&partition.into(), &mut delta).unwrap();
        }
    }
    Arc::new(image)
}

/// Partitions of the topic whose id is made of `number`.
pub(super) fn of(number: u8, indices: &[i32]) -> Assignment {
    let indices: BTreeSet<_> = indices.iter().map(|it| PartitionIndex(*it)).collect();
    let all = Assignment::from([(TopicId([number; 16]), indices)]);
    all.into_iter().filter(|(_, it)| !it.is_empty()).collect()
}

pub(super) fn joins(member: &str, topics: &[&str]) -> Beat {
    Beat {
        group: "g".into(),
        member_id: member.into(),
        intent: Intent::Join,
        instance_id: None,
        rack_id: None,
        rebalance_timeout: Some(REBALANCE),
        topics: Some(topics.iter().map(|it| Arc::from(*it)).collect()),
        pattern: None,
        sight: Sight::ALL,
        assignor: None,
        owned: Some(Assignment::new()),
        client_id: "c".into(),
        client_host: "/h".into(),
    }
}

pub(super) fn says(member: &str, intent: Intent, owned: Option<Assignment>) -> Beat {
    Beat { intent, rebalance_timeout: None, topics: None, owned, ..joins(member, &[]) }
}

pub(super) fn stays(member: &str, epoch: i32) -> Beat {
    says(member, Intent::Stay(Epoch(epoch)), None)
}

pub(super) fn owns(member: &str, epoch: i32, owned: Assignment) -> Beat {
    says(member, Intent::Stay(Epoch(epoch)), Some(owned))
}

fn instance(name: &str, beat: Beat) -> Beat {
    Beat { instance_id: Some(name.into()), ..beat }
}

impl World {
    pub(super) fn with_topics(topics: &[(&str, u8, i32)]) -> Self {
        let mut world = Self::new(Duration::ZERO);
        world.follow(image(topics));
        world
    }

    pub(super) fn follow(&mut self, image: Arc<Image>) {
        let mut outcomes = Vec::new();
        self.shard.follow(image, &mut outcomes);
        self.settle(outcomes);
    }

    pub(super) fn beat(&mut self, beat: Beat) -> Result<Beaten, BeatError> {
        let token = self.ask(Request::ConsumerHeartbeat(Box::new(beat)));
        match self.answers.remove(&token) {
            Some(Reply::ConsumerHeartbeat(beaten)) => beaten,
            other => panic!("{other:?}"),
        }
    }

    /// Epoch, and what may be read now if that was said.
    pub(super) fn told(&mut self, beat: Beat) -> (i32, Option<Assignment>) {
        let beaten = self.beat(beat).unwrap();
        (beaten.epoch.0, beaten.assignment)
    }

    pub(super) fn refused(&mut self, beat: Beat) -> ErrorCode {
        self.beat(beat).unwrap_err().code()
    }

    pub(super) fn group(&self) -> &ConsumerGroup {
        self.shard.consumer_group("g").unwrap()
    }

    pub(super) fn state(&self) -> &'static str {
        self.group().state_name()
    }

    /// Another coordinator, which has read the log.
    pub(super) fn successor(&self) -> Self {
        let mut next = Self::new(Duration::ZERO);
        next.now = self.now;
        next.log.clone_from(&self.log);
        next.shard = GroupShard::new(next_limits(self), 8);
        next.load();
        next
    }

    pub(super) fn ask_code(&mut self, request: Request) -> ErrorCode {
        let token = self.ask(request);
        match &self.answers[&token] {
            Reply::Deleted(code) | Reply::Heartbeat(code) => *code,
            Reply::Joined(joined) => joined.error,
            Reply::Described(description) => description.error,
            Reply::DescribedConsumer(found) => found.as_ref().err().copied().unwrap_or_default(),
            Reply::Fetched(found) => found.as_ref().err().copied().unwrap_or_default(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_first_member_gets_all_and_the_second_what_the_first_has_given_up() {
    let mut world = World::with_topics(&[("t", 1, 4)]);
    assert_eq!(world.told(joins("a", &["t"])), (1, Some(of(1, &[0, 1, 2, 3]))));
    assert_eq!(world.state(), "Stable");
    assert_eq!(world.told(stays("a", 1)), (1, None), "nothing is new");
    // Its target is held by the first: it enters the epoch and waits.
    assert_eq!(world.told(joins("b", &["t"])), (2, Some(Assignment::new())));
    assert_eq!(world.state(), "Reconciling");
    assert_eq!(world.told(stays("a", 1)), (1, Some(of(1, &[0, 1]))));
    assert_eq!(world.told(stays("b", 2)), (2, None));
    // Still closing what it reads: it says nothing of what it owns.
    assert_eq!(world.told(stays("a", 1)), (1, None));
    assert_eq!(world.told(owns("a", 1, of(1, &[0, 1, 2]))), (1, None));
    assert_eq!(world.told(owns("a", 1, of(1, &[0, 1]))), (2, None));
    assert_eq!(world.told(stays("b", 2)), (2, Some(of(1, &[2, 3]))));
    assert_eq!(world.state(), "Stable");
}

#[test]
fn a_member_that_no_memory_is_left_for_is_refused_and_known_ones_go_on() {
    let mut world = World::bounded(Duration::ZERO, Memory::new(1200));
    world.follow(image(&[("t", 1, 4)]));
    let full = ErrorCode::CoordinatorNotAvailable;
    assert_eq!(world.told(joins("a", &["t"])).0, 1);
    assert_eq!(world.refused(joins("b", &["t"])), full);
    assert_eq!(world.told(joins("a", &["t"])).0, 1, "it adds nothing");
    let more = ["t", "a topic that is not there", "another of them"];
    assert_eq!(world.refused(joins("a", &more)), full);
    assert_eq!(world.told(stays("a", 1)).0, 1);
    world.told(says("a", Intent::Leave, None));
    assert_eq!(world.told(joins("b", &["t"])).1, Some(of(1, &[0, 1, 2, 3])));
}

#[test]
fn a_heartbeat_that_changes_nothing_writes_nothing() {
    let mut world = World::with_topics(&[("t", 1, 4)]);
    world.told(joins("a", &["t"]));
    let written = world.log.len();
    for _ in 0..10 {
        world.told(stays("a", 1));
    }
    assert_eq!(world.log.len(), written);
}

#[test]
fn a_member_whose_epoch_is_another_is_fenced_and_may_join_again() {
    let mut world = World::with_topics(&[("t", 1, 2)]);
    assert_eq!(world.refused(stays("a", 1)), ErrorCode::UnknownMemberId, "no such group");
    world.told(joins("a", &["t"]));
    assert_eq!(world.refused(stays("b", 1)), ErrorCode::UnknownMemberId);
    assert_eq!(world.refused(stays("a", 7)), ErrorCode::FencedMemberEpoch);
    world.told(joins("b", &["t"]));
    world.told(stays("a", 1));
    world.told(owns("a", 1, of(1, &[0])));
    assert_eq!(world.refused(stays("a", 1)), ErrorCode::FencedMemberEpoch, "says not what it owns");
    assert_eq!(world.refused(owns("a", 1, of(1, &[1]))), ErrorCode::FencedMemberEpoch);
    // The answer to its last heartbeat was lost: it comes in the epoch before.
    assert_eq!(world.told(owns("a", 1, of(1, &[0]))).0, 2);
    assert_eq!(world.told(joins("a", &["t"])), (2, Some(of(1, &[0]))));
}

#[test]
fn topics_that_come_grow_and_go_raise_the_epoch_at_the_next_heartbeat() {
    let mut world = World::with_topics(&[("t", 1, 1)]);
    assert_eq!(world.told(joins("a", &["t", "u"])), (1, Some(of(1, &[0]))));
    world.follow(image(&[("t", 1, 2)]));
    assert_eq!(world.told(stays("a", 1)), (2, Some(of(1, &[0, 1]))));
    world.follow(image(&[("t", 1, 2), ("other", 9, 5)]));
    assert_eq!(world.told(stays("a", 2)), (2, None), "a topic that nobody wants");
    world.follow(image(&[("t", 1, 2), ("u", 2, 1)]));
    let both: Assignment = of(1, &[0, 1]).into_iter().chain(of(2, &[0])).collect();
    assert_eq!(world.told(stays("a", 2)), (3, Some(both)));
    // Made anew: what was read of the old one must be given up first.
    world.follow(image(&[("t", 1, 2), ("u", 3, 1)]));
    assert_eq!(world.told(stays("a", 3)), (3, Some(of(1, &[0, 1]))));
    let both: Assignment = of(1, &[0, 1]).into_iter().chain(of(3, &[0])).collect();
    assert_eq!(world.told(owns("a", 3, of(1, &[0, 1]))), (4, Some(both)));
}

#[test]
fn an_expression_follows_the_topics_that_it_matches() {
    let mut world = World::with_topics(&[("orders-1", 1, 1), ("__consumer_offsets", 9, 3)]);
    let mut join = joins("a", &[]);
    join.pattern = Some(".*".into());
    assert_eq!(world.told(join.clone()), (1, Some(of(1, &[0]))));
    world.follow(image(&[("orders-1", 1, 1), ("orders-2", 2, 1)]));
    let both: Assignment = of(1, &[0]).into_iter().chain(of(2, &[0])).collect();
    assert_eq!(world.told(stays("a", 1)), (2, Some(both)));
    assert_eq!(world.successor().group(), world.group());
    let mut narrower = stays("a", 2);
    narrower.pattern = Some("orders-2".into());
    assert_eq!(world.told(narrower), (2, Some(of(2, &[0]))));
    assert_eq!(world.told(owns("a", 2, of(2, &[0]))), (3, None));
    assert_eq!(world.group().patterns.len(), 1, "the old expression is forgotten");
    let mut none = stays("a", 3);
    none.pattern = Some("".into());
    assert_eq!(world.told(none), (3, Some(Assignment::new())));
    assert!(world.group().patterns.is_empty());
    let written = world.log.len();
    let mut broken = joins("b", &[]);
    broken.pattern = Some("(".into());
    assert_eq!(world.refused(broken), ErrorCode::InvalidRegularExpression);
    assert_eq!(world.log.len(), written);
}

/// Subscribes to all of which it may know: what is not among `hidden`.
fn matches_all(member: &str, hidden: &'static [&'static str]) -> Beat {
    let sight = Sight::of(|_, name| !hidden.contains(&name));
    Beat {
        pattern: Some(".*".into()),
        topics: Some(BTreeSet::new()),
        ..sees(sight, joins(member, &[]))
    }
}

fn sees(sight: Sight, beat: Beat) -> Beat {
    Beat { sight, ..beat }
}

fn without(hidden: &'static str) -> Sight {
    Sight::of(move |_, name| name != hidden)
}

#[test]
fn an_expression_matches_no_topic_of_which_its_member_may_not_know() {
    let mut world = World::with_topics(&[("open", 1, 1), ("secret", 2, 1)]);
    assert_eq!(world.told(matches_all("a", &["secret"])), (1, Some(of(1, &[0]))));
    assert_eq!(world.told(sees(without("secret"), stays("a", 1))), (1, None));
    world.follow(image(&[("open", 1, 2), ("secret", 2, 2), ("secret-2", 3, 1)]));
    let hides = || Sight::of(|_, name| !name.starts_with("secret"));
    assert_eq!(world.told(sees(hides(), stays("a", 1))), (2, Some(of(1, &[0, 1]))));
    let known: Vec<_> = world.group().patterns.values().flat_map(|it| &it.topics).collect();
    assert_eq!(known, [&Arc::from("open")], "nor does the log hold others");
    assert_eq!(world.successor().group(), world.group());
}

#[test]
fn a_topic_of_which_a_member_may_no_longer_know_is_given_up_and_comes_back_with_the_right_to_it() {
    let both = || of(1, &[0]).into_iter().chain(of(2, &[0])).collect::<Assignment>();
    let topics = image(&[("open", 1, 1), ("secret", 2, 1)]);
    let mut world = World::with_topics(&[]);
    world.follow(Arc::clone(&topics));
    assert_eq!(world.told(matches_all("a", &[])), (1, Some(both())));
    let hides = || without("secret");
    assert_eq!(world.told(sees(hides(), stays("a", 1))), (1, Some(of(1, &[0]))));
    assert_eq!(world.told(sees(hides(), owns("a", 1, of(1, &[0])))), (2, None));
    assert_eq!(world.told(stays("a", 2)), (2, None), "nothing is looked up without a reason");
    let mut listed = (*topics).clone();
    listed.apply(&entry().into(), &mut Delta::default()).unwrap();
    world.follow(Arc::new(listed));
    assert_eq!(world.told(stays("a", 2)), (3, Some(both())));
}

/// Of a list that is not asked here: that it is another is what counts.
fn entry() -> AccessControlEntryRecord {
    AccessControlEntryRecord {
        id: TopicId([9; 16]),
        resource_type: 2,
        resource_name: "secret".to_owned(),
        pattern_type: 3,
        principal: "User:a".to_owned(),
        host: "*".to_owned(),
        operation: 8,
        permission_type: 3,
    }
}

#[test]
fn members_with_the_same_expression_are_left_with_what_all_of_them_may_know() {
    let mut world = World::with_topics(&[("a", 1, 2), ("b", 2, 2), ("c", 3, 2)]);
    world.told(matches_all("m", &["a"]));
    world.told(sees(without("a"), stays("m", 1)));
    let (_, told) = world.told(matches_all("n", &["b"]));
    let ids: BTreeSet<_> = told.unwrap().into_keys().collect();
    assert!(!ids.contains(&TopicId([2; 16])), "{ids:?}");
    let names: BTreeSet<_> =
        world.group().patterns.values().flat_map(|it| &it.topics).cloned().collect();
    assert_eq!(names, BTreeSet::from(["c".into()]));
    let epoch = world.group().epoch;
    for (member, hidden) in [("m", "a"), ("n", "b"), ("m", "a"), ("n", "b")] {
        let (current, _) = world.group().member(member).unwrap();
        let (at, owned) = (current.current.epoch.0, current.current.assigned.clone());
        world.told(sees(without(hidden), owns(member, at, owned)));
        world.group().check();
    }
    assert_eq!(world.group().epoch, epoch, "they do not chase one another");
    assert_eq!(world.state(), "Stable");
}

#[test]
fn an_expression_is_looked_up_by_its_own_members_alone() {
    let mut world = World::with_topics(&[("a", 1, 1), ("b", 2, 1)]);
    for (member, hidden) in [("a", "b"), ("b", "a")] {
        let pattern = Some(format!("{member}.*").into());
        world.told(sees(without(hidden), Beat { pattern, ..joins(member, &[]) }));
    }
    world.follow(image(&[("a", 1, 1), ("a-2", 3, 1), ("b", 2, 1), ("b-2", 4, 1)]));
    for (member, other) in [("a", "b"), ("b", "a")] {
        let epoch = world.group().member(member).unwrap().0.current.epoch.0;
        let hides = Sight::of(move |_, name| !name.starts_with(other));
        world.told(sees(hides, stays(member, epoch)));
    }
    let names = |pattern: &str| -> Vec<String> {
        world.group().patterns[pattern].topics.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        (names("a.*"), names("b.*")),
        (vec!["a".to_owned(), "a-2".to_owned()], vec!["b".to_owned(), "b-2".to_owned()],)
    );
}

#[test]
fn a_group_s_own_settings_stand_over_the_broker_s() {
    let mut world = World::with_topics(&[("t", 1, 2)]);
    assert_eq!(world.beat(joins("a", &["t"])).unwrap().interval, Duration::from_secs(5));
    world.told(joins("b", &["t"]));
    let mut topics = (*image(&[("t", 1, 2)])).clone();
    for (name, value) in
        [("consumer.heartbeat.interval.ms", "9000"), ("consumer.session.timeout.ms", "60000")]
    {
        let setting = ConfigRecord {
            resource_type: Resource::GROUP,
            resource_name: "g".to_owned(),
            name: name.to_owned(),
            value: Some(value.to_owned()),
        };
        topics.apply(&setting.into(), &mut Delta::default()).unwrap();
    }
    world.follow(Arc::new(topics));
    assert_eq!(world.beat(stays("b", 2)).unwrap().interval, Duration::from_secs(9));
    world.pass(Duration::from_secs(50));
    assert!(world.beat(stays("b", 2)).is_ok(), "it has a minute");
    assert_eq!(world.refused(stays("a", 1)), ErrorCode::UnknownMemberId, "the other had less");
}

#[test]
fn a_silent_member_loses_its_partitions_when_its_session_ends() {
    let mut world = World::with_topics(&[("t", 1, 2)]);
    world.told(joins("a", &["t"]));
    world.told(joins("b", &["t"]));
    world.pass(Duration::from_secs(44));
    assert_eq!(world.told(stays("b", 2)), (2, None));
    world.pass(Duration::from_secs(2));
    assert_eq!(world.told(stays("b", 2)), (3, Some(of(1, &[0, 1]))));
    assert_eq!(world.refused(stays("a", 1)), ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_that_does_not_give_up_in_time_is_put_out_though_it_lives() {
    let mut world = World::with_topics(&[("t", 1, 2)]);
    world.told(joins("a", &["t"]));
    world.told(joins("b", &["t"]));
    world.told(stays("a", 1));
    for _ in 0..7 {
        world.pass(Duration::from_secs(8));
        world.told(stays("a", 1));
        world.told(stays("b", 2));
    }
    world.pass(Duration::from_secs(8));
    assert_eq!(world.refused(stays("a", 1)), ErrorCode::UnknownMemberId);
    assert_eq!(world.told(stays("b", 2)), (3, Some(of(1, &[0, 1]))));
}

#[test]
fn a_member_that_leaves_frees_its_partitions_at_once() {
    let mut world = World::with_topics(&[("t", 1, 2)]);
    world.told(joins("a", &["t"]));
    world.told(joins("b", &["t"]));
    assert_eq!(world.told(says("a", Intent::Leave, None)), (-1, None));
    assert_eq!(world.told(stays("b", 2)), (3, Some(of(1, &[0, 1]))));
    assert_eq!(world.refused(says("a", Intent::Leave, None)), ErrorCode::UnknownMemberId);
    world.told(says("b", Intent::Leave, None));
    assert_eq!(world.state(), "Empty");
}

#[test]
fn a_static_member_that_comes_back_takes_its_place_and_nobody_notices() {
    let mut world = World::with_topics(&[("t", 1, 2)]);
    world.told(instance("i", joins("a", &["t"])));
    world.told(joins("b", &["t"]));
    world.told(stays("a", 1));
    world.told(owns("a", 1, of(1, &[0])));
    world.told(stays("b", 2));
    let successor = || instance("i", joins("a2", &["t"]));
    assert_eq!(world.refused(successor()), ErrorCode::UnreleasedInstanceId);
    assert_eq!(world.told(instance("i", says("a", Intent::LeaveForNow, None))), (-2, None));
    // Nobody gets what is kept for it.
    assert_eq!(world.told(stays("b", 2)), (2, None));
    assert_eq!(world.told(successor()), (2, Some(of(1, &[0]))));
    assert_eq!(world.refused(instance("i", stays("a", 2))), ErrorCode::FencedInstanceId);
    assert_eq!(world.told(stays("b", 2)), (2, None));
    assert_eq!(world.refused(instance("j", stays("b", 2))), ErrorCode::UnknownMemberId);
    // Who does not come back is given up after its session.
    world.told(instance("i", says("a2", Intent::LeaveForNow, None)));
    world.pass(Duration::from_secs(40));
    world.told(stays("b", 2));
    world.pass(Duration::from_secs(6));
    assert_eq!(world.told(stays("b", 2)), (3, Some(of(1, &[0, 1]))));
}

#[test]
fn assignors_are_by_preference_and_only_what_is_offered() {
    let mut world = World::with_topics(&[("t", 1, 3), ("u", 2, 3)]);
    let prefers = |assignor: &str, beat: Beat| Beat { assignor: Some(assignor.into()), ..beat };
    let unknown = prefers("sticky", joins("a", &["t"]));
    assert_eq!(world.refused(unknown), ErrorCode::UnsupportedAssignor);
    world.told(prefers("range", joins("a", &["t", "u"])));
    world.told(prefers("range", joins("b", &["t", "u"])));
    let target = |world: &World, id: &str| (*world.group().members[id].target).clone();
    let first: Assignment = of(1, &[0, 1]).into_iter().chain(of(2, &[0, 1])).collect();
    assert_eq!(target(&world, "a"), first);
    for id in ["c", "d", "e"] {
        world.told(joins(id, &["t", "u"]));
    }
    let full = world.refused(joins("f", &["t"]));
    assert_eq!(full, ErrorCode::GroupMaxSizeReached);
    assert!(world.beat(joins("e", &["t"])).is_ok(), "it is in already");
}

#[test]
fn a_heartbeat_that_could_not_be_written_has_changed_nothing() {
    let mut world = World::with_topics(&[("t", 1, 2)]);
    world.told(joins("a", &["t"]));
    world.refusing = true;
    assert_eq!(world.refused(joins("b", &["t"])), ErrorCode::CoordinatorNotAvailable);
    world.follow(image(&[("t", 1, 3)]));
    assert_eq!(world.refused(stays("a", 1)), ErrorCode::CoordinatorNotAvailable);
    world.pass(Duration::from_secs(50));
    world.refusing = false;
    // The silent member is put out as soon as that can be written.
    world.pass(Duration::from_secs(2));
    assert_eq!(world.refused(stays("a", 1)), ErrorCode::UnknownMemberId);
    assert_eq!(world.told(joins("b", &["t"])), (3, Some(of(1, &[0, 1, 2]))));
}

#[test]
fn who_may_commit_to_a_consumer_group_and_read_its_offsets_follows_from_the_epoch() {
    let mut world = World::with_topics(&[("t", 1, 1)]);
    assert_eq!(world.commit(member("a", 1), None, 9), ErrorCode::GroupIdNotFound);
    assert_eq!(world.commit(member("a", 1), Some(9), 9), ErrorCode::IllegalGeneration);
    world.told(joins("a", &["t"]));
    assert_eq!(world.commit(member("a", 1), None, 1), ErrorCode::None);
    assert_eq!(world.commit(member("a", 0), None, 2), ErrorCode::StaleMemberEpoch);
    assert_eq!(world.commit(member("a", 2), None, 3), ErrorCode::StaleMemberEpoch);
    assert_eq!(world.commit(member("b", 1), None, 4), ErrorCode::UnknownMemberId);
    assert_eq!(world.commit(anonymous(), None, 5), ErrorCode::UnknownMemberId);
    // Transactions may tell nobody; when they tell, it must be true. KIP-447.
    assert_eq!(world.commit(anonymous(), Some(9), 6), ErrorCode::None);
    assert_eq!(world.commit(member("a", 0), Some(9), 7), ErrorCode::IllegalGeneration);
    assert_eq!(world.commit(member("b", 1), Some(9), 8), ErrorCode::UnknownMemberId);
    assert_eq!(world.committed(false), Ok(Some(1)));
    let mut ask = |who: Option<(&str, i32)>| {
        let member = who.map(|(id, epoch)| (Arc::from(id), Epoch(epoch)));
        let fetch = Fetch { group: "g".into(), member, partitions: None, require_stable: false };
        world.ask_code(Request::Fetch(fetch))
    };
    assert_eq!(ask(None), ErrorCode::None);
    assert_eq!(ask(Some(("a", 1))), ErrorCode::None);
    assert_eq!(ask(Some(("a", 0))), ErrorCode::StaleMemberEpoch);
    assert_eq!(ask(Some(("b", 1))), ErrorCode::UnknownMemberId);
    world.told(says("a", Intent::Leave, None));
    assert_eq!(world.commit(anonymous(), None, 10), ErrorCode::None, "tools, once it is empty");
}

#[test]
fn a_version_that_knows_no_epochs_cannot_commit_for_a_member_of_a_consumer_group() {
    let mut world = World::with_topics(&[("t", 1, 1)]);
    world.told(joins("a", &["t"]));
    let offsets = vec![(TopicPartition::new("t", 0), committed_at(1))];
    let member = member("a", 1);
    let commit = Commit { member, producer: None, guard: None, speaks_epochs: false, offsets };
    let token = world.ask(Request::Commit(commit));
    assert_eq!(world.answers[&token], Reply::Committed(vec![ErrorCode::UnsupportedVersion]));
}

fn committed_at(offset: i64) -> Committed {
    Committed {
        offset: Offset(offset),
        leader_epoch: LeaderEpoch::NONE,
        metadata: "".into(),
        at: Timestamp(0),
    }
}

#[test]
fn an_empty_group_changes_its_protocol_and_one_with_members_does_not() {
    let mut world = World::with_topics(&[("t", 1, 1)]);
    let stable = world.stable(1).remove(0);
    assert_eq!(
        world.commit(member(&stable.member_id, stable.generation.0), None, 5),
        ErrorCode::None
    );
    assert_eq!(world.refused(joins("a", &["t"])), ErrorCode::GroupIdNotFound, "no subscriptions");
    let members = vec![(Arc::clone(&stable.member_id), None)];
    world.ask(Request::Leave(Leave { group: "g".into(), members }));
    assert_eq!(world.told(joins("a", &["t"])), (1, Some(of(1, &[0]))));
    assert_eq!(world.committed(true), Ok(Some(5)), "offsets stay");
    let refused = world.ask_code(Request::Join(join("", None)));
    assert_eq!(refused, ErrorCode::InconsistentGroupProtocol);
    assert_eq!(world.successor().group(), world.group());
    world.told(says("a", Intent::Leave, None));
    let joined = world.stable(1).remove(0);
    assert_eq!(joined.error, ErrorCode::None);
    let mut next = world.successor();
    assert_eq!(next.heartbeat(&joined.member_id, joined.generation), ErrorCode::None);
    assert!(next.shard.consumer_group("g").is_none());
    assert_eq!(next.committed(true), Ok(Some(5)));
}

#[test]
fn a_consumer_group_is_described_and_listed_as_one_and_unknown_to_the_classic_api() {
    let mut world = World::with_topics(&[("t", 1, 2)]);
    assert_eq!(world.ask_code(Request::DescribeConsumer("g".into())), ErrorCode::GroupIdNotFound);
    world.told(instance("i", joins("a", &["t"])));
    assert_eq!(world.ask_code(Request::Describe("g".into())), ErrorCode::GroupIdNotFound);
    let token = world.ask(Request::DescribeConsumer("g".into()));
    let Reply::DescribedConsumer(Ok(found)) = &world.answers[&token] else { panic!() };
    assert_eq!((found.state, found.epoch, found.target_epoch), ("Stable", Epoch(1), Epoch(1)));
    assert_eq!(found.assignor, "uniform");
    let only = &found.members[0];
    assert_eq!((&*only.member_id, only.epoch), ("a", Epoch(1)));
    assert_eq!(only.assignment, only.target);
    assert_eq!(&*only.assignment[0].1, "t");
    let token = world.ask(Request::List);
    let listing = Listing {
        group: "g".into(),
        protocol_type: "consumer".into(),
        state: "Stable",
        kind: GroupType::Consumer,
    };
    assert_eq!(world.answers[&token], Reply::Listed(vec![listing]));
}

#[test]
fn a_consumer_group_without_members_can_be_deleted_and_leaves_nothing() {
    let mut world = World::with_topics(&[("t", 1, 1)]);
    world.told(joins("a", &["t"]));
    assert_eq!(world.commit(member("a", 1), None, 5), ErrorCode::None);
    assert_eq!(world.ask_code(Request::Delete("g".into())), ErrorCode::NonEmptyGroup);
    world.told(says("a", Intent::Leave, None));
    assert_eq!(world.ask_code(Request::Delete("g".into())), ErrorCode::None);
    assert_eq!(world.ask_code(Request::Delete("g".into())), ErrorCode::GroupIdNotFound);
    let last: BTreeMap<_, _> =
        world.log.iter().map(|it| (it.entry.key.clone(), it.entry.value.is_some())).collect();
    assert!(last.values().all(|has_value| !has_value), "compaction leaves nothing");
}

#[test]
fn offsets_of_topics_that_are_read_are_not_deleted_and_the_others_are() {
    let mut world = World::with_topics(&[("t", 1, 1), ("u", 2, 1)]);
    let delete = |world: &mut World, topics: &[&str]| {
        let partitions = topics.iter().map(|it| TopicPartition::new(*it, 0)).collect();
        let token = world.ask(Request::DeleteOffsets("g".into(), partitions));
        match world.answers.remove(&token) {
            Some(Reply::DeletedOffsets(deleted)) => deleted,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(delete(&mut world, &["t"]), Err(ErrorCode::GroupIdNotFound));
    assert_eq!(world.commit(anonymous(), None, 5), ErrorCode::None);
    world.told(joins("a", &["t"]));
    let refused = vec![ErrorCode::GroupSubscribedToTopic, ErrorCode::None];
    assert_eq!(delete(&mut world, &["t", "u"]), Ok(refused));
    assert_eq!(world.committed(true), Ok(Some(5)));
    let mut other = stays("a", 1);
    other.topics = Some(BTreeSet::from(["u".into()]));
    world.told(other);
    assert_eq!(delete(&mut world, &["t"]), Ok(vec![ErrorCode::None]));
    assert_eq!(world.committed(true), Ok(None));
}

#[test]
fn offsets_of_a_classic_group_are_deleted_by_what_its_members_subscribe_to() {
    let mut world = World::new(Duration::ZERO);
    assert_eq!(world.commit(anonymous(), None, 5), ErrorCode::None);
    let mut subscribed = join("", None);
    let subscription = protocol::consumer_protocol::ConsumerProtocolSubscription {
        topics: vec!["t".to_owned()],
        ..Default::default()
    };
    let told = protocol::consumer_protocol::encode(1, &subscription).unwrap();
    subscribed.protocols = vec![("range".into(), told)];
    subscribed.requires_member_id = false;
    world.ask(Request::Join(subscribed));
    let mut delete = |topic: &str| {
        let partitions = vec![TopicPartition::new(topic, 0)];
        let token = world.ask(Request::DeleteOffsets("g".into(), partitions));
        world.answers[&token].clone()
    };
    let refused = vec![ErrorCode::GroupSubscribedToTopic];
    assert_eq!(delete("t"), Reply::DeletedOffsets(Ok(refused)));
    assert_eq!(delete("u"), Reply::DeletedOffsets(Ok(vec![ErrorCode::None])));
}

#[test]
fn offsets_of_a_group_of_another_kind_are_not_deleted_while_it_has_members() {
    let mut world = World::new(Duration::ZERO);
    let connect =
        Join { protocol_type: "connect".into(), requires_member_id: false, ..join("", None) };
    world.ask(Request::Join(connect));
    let partitions = vec![TopicPartition::new("t", 0)];
    let token = world.ask(Request::DeleteOffsets("g".into(), partitions));
    assert_eq!(world.answers[&token], Reply::DeletedOffsets(Err(ErrorCode::NonEmptyGroup)));
}

#[test]
fn offsets_of_a_consumer_group_expire_once_nobody_reads_their_topic() {
    let mut world = World::with_topics(&[("t", 1, 1)]);
    world.told(joins("a", &["t"]));
    assert_eq!(world.commit(member("a", 1), None, 5), ErrorCode::None);
    let mut epoch = 1;
    for _ in 0..300 {
        world.pass(Duration::from_secs(40));
        epoch = world.told(stays("a", epoch)).0;
    }
    assert_eq!(world.committed(true), Ok(Some(5)), "its topic is subscribed to");
    world.told(says("a", Intent::Leave, None));
    world.pass(Duration::from_secs(3000));
    assert_eq!(world.committed(true), Ok(Some(5)), "the group has not been empty for long");
    world.pass(Duration::from_secs(2000));
    assert_eq!(world.committed(true), Ok(None));
    world.pass(Duration::from_secs(700));
    assert!(world.shard.consumer_group("g").is_none(), "neither members nor offsets");
}

#[test]
fn a_topic_that_is_made_anew_is_not_read_from_where_its_forerunner_was_left() {
    let mut world = World::with_topics(&[("t", 1, 1), ("u", 2, 1)]);
    assert_eq!(world.commit(anonymous(), None, 5), ErrorCode::None);
    world.follow(image(&[("t", 1, 3)]));
    assert_eq!(world.committed(true), Ok(Some(5)));
    world.follow(image(&[("t", 3, 1)]));
    assert_eq!(world.committed(true), Ok(None));
    assert_eq!(world.successor().committed(true), Ok(None));
}

#[test]
fn deleting_a_group_forgets_what_an_open_transaction_holds_for_it() {
    let mut world = World::new(Duration::ZERO);
    assert_eq!(world.commit(anonymous(), Some(9), 5), ErrorCode::None);
    assert_eq!(world.ask_code(Request::Delete("g".into())), ErrorCode::None);
    let marker = EndTxnMarker {
        producer_id: ProducerId(9),
        producer_epoch: ProducerEpoch(0),
        coordinator_epoch: CoordinatorEpoch(0),
        commit: true,
        transaction_version: 1,
    };
    world.shard.replay_marker(world.now, marker, Offset(99));
    assert_eq!(world.committed(true), Ok(None));
}

/// A client as the protocol asks for: it gives up before it says so, and takes what it is given.
#[derive(Clone, Debug, Default)]
struct Client {
    epoch: i32,
    /// What it reads.
    owned: Assignment,
    /// What it was last given; it reads that at once, or when it has given the rest up.
    given: Assignment,
    topics: BTreeSet<Arc<str>>,
    /// An answer was lost: it says all again, so that it is told all again.
    says_all: bool,
    is_member: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Join(usize, u8),
    Beat(usize),
    LostBeat(usize),
    GiveUp(usize),
    Subscribe(usize, u8),
    Leave(usize),
    Pass(u64),
    Topics(i32, i32),
    Crash,
}

fn any_step() -> impl Strategy<Value = Step> {
    let who = 0_usize..4;
    prop_oneof![
        3 => (who.clone(), 0_u8..4).prop_map(|(who, what)| Step::Join(who, what)),
        9 => who.clone().prop_map(Step::Beat),
        2 => who.clone().prop_map(Step::LostBeat),
        6 => who.clone().prop_map(Step::GiveUp),
        1 => (who.clone(), 0_u8..4).prop_map(|(who, what)| Step::Subscribe(who, what)),
        1 => who.prop_map(Step::Leave),
        2 => (1_u64..30).prop_map(Step::Pass),
        1 => (0_i32..5, 0_i32..5).prop_map(|(t, u)| Step::Topics(t, u)),
        1 => Just(Step::Crash),
    ]
}

/// Clients and their coordinator.
struct Play {
    world: World,
    clients: Vec<Client>,
    topics: Arc<Image>,
    epochs: (Epoch, Epoch),
}

fn subscription(what: u8) -> BTreeSet<Arc<str>> {
    let names: &[&str] = [&["t"][..], &["u"], &["t", "u"], &[]][usize::from(what)];
    names.iter().map(|it| Arc::from(*it)).collect()
}

impl Play {
    fn new() -> Self {
        let topics = image(&[("t", 1, 3), ("u", 2, 2)]);
        let world = World::with_topics(&[("t", 1, 3), ("u", 2, 2)]);
        Self { world, clients: vec![Client::default(); 4], topics, epochs: Default::default() }
    }

    fn name(who: usize) -> String {
        format!("m{who}")
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Join(who, what) if !self.clients[who].is_member => {
                let mut join = joins(&Self::name(who), &[]);
                join.topics = Some(subscription(what));
                self.exchange(who, join, true);
            }
            Step::Join(..) => {}
            Step::Beat(who) => self.heartbeat(who, None, true),
            Step::LostBeat(who) => self.heartbeat(who, None, false),
            Step::Subscribe(who, what) => self.heartbeat(who, Some(subscription(what)), true),
            Step::GiveUp(who) => {
                let client = &mut self.clients[who];
                client.owned = client.given.clone();
            }
            Step::Leave(who) => {
                if self.clients[who].is_member {
                    let _ = self.world.beat(says(&Self::name(who), Intent::Leave, None));
                    self.clients[who] = Client::default();
                }
            }
            Step::Pass(seconds) => self.world.pass(Duration::from_secs(seconds)),
            Step::Topics(t, u) => {
                self.topics = image(&[("t", 1, 3 + t), ("u", if u == 4 { 7 } else { 2 }, 2)]);
                self.world.follow(Arc::clone(&self.topics));
            }
            Step::Crash => {
                let topics = Arc::clone(&self.topics);
                let answers = std::mem::take(&mut self.world.answers);
                let before = self.world.shard.consumer_group("g").cloned();
                self.world = World { answers, ..self.world.successor() };
                self.world.follow(topics);
                assert_eq!(self.world.shard.consumer_group("g"), before.as_ref());
            }
        }
        self.check();
    }

    fn heartbeat(&mut self, who: usize, topics: Option<BTreeSet<Arc<str>>>, arrives: bool) {
        let client = &self.clients[who];
        if !client.is_member {
            return;
        }
        let mut beat = owns(&Self::name(who), client.epoch, client.owned.clone());
        beat.topics = topics;
        if client.says_all {
            beat.topics = beat.topics.or_else(|| Some(client.topics.clone()));
            beat.rebalance_timeout = Some(REBALANCE);
        }
        self.exchange(who, beat, arrives);
    }

    fn exchange(&mut self, who: usize, beat: Beat, arrives: bool) {
        let is_join = beat.intent == Intent::Join;
        let topics = beat.topics.clone();
        let answer = self.world.beat(beat);
        let client = &mut self.clients[who];
        client.topics = topics.unwrap_or_else(|| client.topics.clone());
        match answer {
            Err(_) => *client = Client::default(),
            Ok(_) if !arrives => client.says_all = true,
            Ok(beaten) => {
                client.says_all = false;
                assert!(is_join || client.epoch <= beaten.epoch.0, "an epoch went back");
                client.is_member = true;
                client.epoch = beaten.epoch.0;
                client.given = beaten.assignment.unwrap_or_else(|| client.given.clone());
                if slots(&client.owned).all(|slot| has(&client.given, &slot)) {
                    client.owned = client.given.clone();
                }
            }
        }
    }

    fn check(&mut self) {
        let Some(group) = self.world.shard.consumer_group("g") else {
            self.epochs = Default::default();
            return;
        };
        assert!(self.epochs.0 <= group.epoch);
        assert!(self.epochs.1 <= group.target_epoch);
        self.epochs = (group.epoch, group.target_epoch);
        let mut readers = BTreeMap::new();
        for (who, client) in self.clients.iter().enumerate() {
            // Who was put out reads on until it hears of it; its commits are refused.
            if group.member(&Self::name(who)).is_some() {
                for slot in slots(&client.owned) {
                    let other = readers.insert(slot, who);
                    assert_eq!(other, None, "{slot:?} is read by {who}, too");
                }
            }
        }
    }

    /// Left alone, everybody reaches the target.
    fn settle(&mut self) {
        for _ in 0..20 {
            for who in 0..self.clients.len() {
                self.step(&Step::Beat(who));
                self.step(&Step::GiveUp(who));
            }
        }
        let Some(group) = self.world.shard.consumer_group("g") else { return };
        if group.subscribers().any(|(id, _, _)| {
            let who = self.clients.iter().enumerate().find(|(who, _)| Self::name(*who) == **id);
            who.is_some_and(|(_, client)| !client.is_member)
        }) {
            // One that believes it is out is still in: its session would have to end first.
            return;
        }
        if !group.is_empty() {
            assert_eq!(group.state_name(), "Stable");
        }
        for (id, member, _) in group.subscribers() {
            let (_, client) =
                self.clients.iter().enumerate().find(|(who, _)| Self::name(*who) == **id).unwrap();
            assert_eq!(client.owned, *member.target, "{id}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_partition_has_one_reader_everybody_arrives_and_the_log_is_the_group(
        steps in proptest::collection::vec(any_step(), 1..80),
    ) {
        let mut play = Play::new();
        for step in &steps {
            play.step(step);
        }
        let next = play.world.successor();
        let (next, ours) = (next.shard.consumer_group("g"), play.world.shard.consumer_group("g"));
        prop_assert_eq!(next, ours);
        play.settle();
    }
}
