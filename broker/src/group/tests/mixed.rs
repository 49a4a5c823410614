//! Groups that change their protocol, and members of both in one group. KIP-848.

use super::consumer::{image, joins, of, owns, says, stays};
use super::*;
use crate::group::assignor::Assignment;
use crate::group::beat::Intent;
use crate::group::modern::{Epoch, slots};
use protocol::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolPartitions, ConsumerProtocolSubscription, decode,
    encode,
};
use protocol::ids::PartitionIndex;

/// Partitions of the topic `t`, as a classic member names them.
fn named(indices: &[i32]) -> Vec<ConsumerProtocolPartitions> {
    let all = ConsumerProtocolPartitions { topic: "t".to_owned(), partitions: indices.to_vec() };
    if indices.is_empty() { vec![] } else { vec![all] }
}

/// A classic member that wants `t` and owns `owned` of it.
fn classic(id: &str, owned: &[i32]) -> Join {
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["t".to_owned()],
        owned_partitions: named(owned),
        ..Default::default()
    };
    Join {
        protocols: vec![("cooperative-sticky".into(), encode(1, &subscription).unwrap())],
        requires_member_id: id.is_empty(),
        ..join(id, None)
    }
}

impl World {
    fn joins_classic(&mut self, join: Join) -> Joined {
        let token = self.ask(Request::Join(join));
        self.joined(token)
    }

    /// What a classic member of the generation may read of `t`.
    fn syncs(&mut self, id: &str, generation: i32) -> Result<Vec<i32>, ErrorCode> {
        let token = self.ask(Request::Sync(Sync {
            member: member(id, generation),
            protocol_type: Some("consumer".into()),
            protocol: Some("cooperative-sticky".into()),
            assignments: vec![],
        }));
        let Some(Reply::Synced(synced)) = self.answers.remove(&token) else { panic!() };
        synced.error.ok()?;
        let told: ConsumerProtocolAssignment = decode(synced.assignment).unwrap();
        Ok(told.assigned_partitions.into_iter().flat_map(|it| it.partitions).collect())
    }

    fn lives(&mut self, id: &str, generation: i32) -> ErrorCode {
        self.heartbeat(id, GenerationId(generation))
    }

    /// A classic group of one, which reads all four partitions of `t`.
    fn with_classic_member() -> (Self, Arc<str>, i32) {
        let mut world = Self::with_topics(&[("t", 1, 4)]);
        let id = world.joins_classic(classic("", &[])).member_id;
        let joined = world.joins_classic(classic(&id, &[]));
        let all = ConsumerProtocolAssignment {
            assigned_partitions: named(&[0, 1, 2, 3]),
            user_data: None,
        };
        world.ask(Request::Sync(Sync {
            member: member(&id, joined.generation.0),
            protocol_type: None,
            protocol: None,
            assignments: vec![(Arc::clone(&id), encode(1, &all).unwrap())],
        }));
        assert_eq!(world.lives(&id, joined.generation.0), ErrorCode::None);
        (world, id, joined.generation.0)
    }
}

#[test]
fn a_classic_group_becomes_a_consumer_group_and_everybody_keeps_reading() {
    let (mut world, id, generation) = World::with_classic_member();
    assert_eq!(world.commit(member(&id, generation), None, 5), ErrorCode::None);
    // What the classic member reads is not given to the new one before it is given up.
    assert_eq!(world.told(joins("a", &["t"])), (generation + 1, Some(Assignment::new())));
    assert_eq!(world.successor().group(), world.group());
    assert_eq!(world.lives(&id, generation), ErrorCode::RebalanceInProgress);
    assert_eq!(world.commit(member(&id, generation), None, 6), ErrorCode::None);
    let joined = world.joins_classic(classic(&id, &[0, 1, 2, 3]));
    assert_eq!((joined.error, joined.generation.0), (ErrorCode::None, generation));
    assert!(joined.members.is_empty(), "nobody leads");
    assert_eq!(world.syncs(&id, generation), Ok(vec![0, 1]));
    assert_eq!(world.told(stays("a", generation + 1)).1, None, "not yet given up");
    assert_eq!(world.lives(&id, generation), ErrorCode::RebalanceInProgress);
    let joined = world.joins_classic(classic(&id, &[0, 1]));
    assert_eq!(joined.generation.0, generation + 1);
    assert_eq!(world.syncs(&id, generation + 1), Ok(vec![0, 1]));
    assert_eq!(world.lives(&id, generation + 1), ErrorCode::None);
    assert_eq!(world.lives(&id, generation), ErrorCode::IllegalGeneration);
    assert_eq!(world.commit(member(&id, generation), None, 7), ErrorCode::IllegalGeneration);
    assert_eq!(world.told(stays("a", generation + 1)).1, Some(of(1, &[2, 3])));
    assert_eq!(world.state(), "Stable");
    assert_eq!(world.committed(true), Ok(Some(6)));
}

#[test]
fn a_classic_member_joins_a_consumer_group_and_leaves_it() {
    let mut world = World::with_topics(&[("t", 1, 2)]);
    world.told(joins("a", &["t"]));
    let first = world.joins_classic(classic("", &[]));
    assert_eq!(first.error, ErrorCode::MemberIdRequired);
    let id = first.member_id;
    let joined = world.joins_classic(classic(&id, &[]));
    assert_eq!((joined.error, joined.generation.0), (ErrorCode::None, 2));
    assert_eq!(world.syncs(&id, 2), Ok(vec![]), "all is still read by the other");
    assert_eq!(world.lives(&id, 2), ErrorCode::None);
    world.told(stays("a", 1));
    world.told(owns("a", 1, of(1, &[0])));
    assert_eq!(world.lives(&id, 2), ErrorCode::RebalanceInProgress, "it can have more");
    world.joins_classic(classic(&id, &[]));
    assert_eq!(world.syncs(&id, 2), Ok(vec![1]));
    let connect = Join { protocol_type: "connect".into(), ..classic("x", &[]) };
    assert_eq!(world.joins_classic(connect).error, ErrorCode::InconsistentGroupProtocol);
    let mut other = classic("x", &[]);
    other.protocols[0].0 = "range".into();
    assert_eq!(world.joins_classic(other).error, ErrorCode::InconsistentGroupProtocol);
    let ghost = world.ask(Request::Leave(Leave {
        group: "g".into(),
        members: vec![("a".into(), None), (id, None)],
    }));
    let codes = vec![ErrorCode::UnknownMemberId, ErrorCode::None];
    assert_eq!(world.answers[&ghost], Reply::Left(codes), "`a` does not leave this way");
    assert_eq!(world.told(stays("a", 2)), (3, Some(of(1, &[0, 1]))));
}

#[test]
fn a_classic_member_that_does_not_come_again_in_time_is_put_out() {
    let (mut world, id, generation) = World::with_classic_member();
    world.told(joins("a", &["t"]));
    for _ in 0..12 {
        // It lives, and does not listen.
        assert_eq!(world.lives(&id, generation), ErrorCode::RebalanceInProgress);
        world.told(stays("a", generation + 1));
        world.pass(Duration::from_secs(5));
    }
    assert_eq!(world.lives(&id, generation), ErrorCode::UnknownMemberId);
    assert_eq!(world.told(stays("a", generation + 1)).1, Some(of(1, &[0, 1, 2, 3])));
}

#[test]
fn a_group_that_only_classic_members_are_left_in_is_theirs_again() {
    let (mut world, id, generation) = World::with_classic_member();
    world.told(joins("a", &["t"]));
    world.joins_classic(classic(&id, &[0, 1, 2, 3]));
    world.syncs(&id, generation).unwrap();
    world.told(says("a", Intent::Leave, None));
    assert!(world.shard.consumer_group("g").is_none());
    assert_eq!(world.lives(&id, generation), ErrorCode::IllegalGeneration);
    let mut next = world.successor();
    assert!(next.shard.consumer_group("g").is_none());
    next.pass(Duration::from_secs(1));
    let joined = world.joins_classic(classic(&id, &[]));
    assert_eq!(joined.error, ErrorCode::None);
    assert!(generation < joined.generation.0);
    assert_eq!((joined.members.len(), &joined.leader), (1, &id));
}

#[test]
fn a_group_does_not_change_under_its_members_when_the_settings_say_so() {
    for (migration, may_upgrade) in
        [(GroupMigration::Disabled, false), (GroupMigration::Downgrade, false)]
    {
        let (mut world, id, generation) = World::with_classic_member();
        let mut limits = next_limits(&world);
        limits.consumer.migration = migration;
        world.shard = GroupShard::new(limits, 3);
        world.load();
        world.follow(image(&[("t", 1, 4)]));
        assert_eq!(world.beat(joins("a", &["t"])).is_ok(), may_upgrade, "{migration:?}");
        assert_eq!(world.refused(joins("a", &["t"])), ErrorCode::GroupIdNotFound);
        assert_eq!(world.lives(&id, generation), ErrorCode::None);
    }
    let (mut world, id, generation) = World::with_classic_member();
    let mut limits = next_limits(&world);
    limits.consumer.migration = GroupMigration::Upgrade;
    world.shard = GroupShard::new(limits, 3);
    world.load();
    world.follow(image(&[("t", 1, 4)]));
    world.told(joins("a", &["t"]));
    world.told(says("a", Intent::Leave, None));
    assert_eq!(world.lives(&id, generation), ErrorCode::RebalanceInProgress);
    assert_eq!(world.state(), "Assigning");
}

#[test]
fn a_group_whose_members_are_no_consumers_does_not_become_a_consumer_group() {
    let mut world = World::with_topics(&[("t", 1, 1)]);
    let connect =
        Join { protocol_type: "connect".into(), requires_member_id: false, ..join("", None) };
    world.ask(Request::Join(connect));
    assert_eq!(world.refused(joins("a", &["t"])), ErrorCode::GroupIdNotFound);
}

#[test]
fn a_static_member_takes_its_place_over_in_the_new_protocol() {
    let mut world = World::with_topics(&[("t", 1, 2)]);
    world.told(joins("other", &["t"]));
    let instance = |join: Join| Join { instance_id: Some("i".into()), ..join };
    let joined = world.joins_classic(instance(classic("", &[])));
    assert_eq!(joined.error, ErrorCode::None);
    world.told(stays("other", 1));
    world.told(owns("other", 1, of(1, &[0])));
    let old = joined.member_id;
    world.joins_classic(instance(classic(&old, &[])));
    assert_eq!(world.syncs(&old, 2), Ok(vec![1]));
    let mut successor = joins("new", &["t"]);
    successor.instance_id = Some("i".into());
    assert_eq!(world.told(successor), (2, Some(of(1, &[1]))));
    assert_eq!(world.lives(&old, 2), ErrorCode::UnknownMemberId);
}

/// A client of either protocol; `m0` is always of the new one, so that the group stays one.
#[derive(Clone, Debug, Default)]
struct Client {
    epoch: i32,
    owned: BTreeSet<i32>,
    given: BTreeSet<i32>,
    is_member: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Go(usize),
    GiveUp(usize),
    Leave(usize),
    Pass(u64),
    Partitions(i32),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0_usize..5).prop_map(Step::Go),
        6 => (0_usize..5).prop_map(Step::GiveUp),
        1 => (1_usize..5).prop_map(Step::Leave),
        2 => (1_u64..8).prop_map(Step::Pass),
        1 => (1_i32..8).prop_map(Step::Partitions),
    ]
}

struct Play {
    world: World,
    clients: Vec<Client>,
}

fn indices(assignment: &Assignment) -> BTreeSet<i32> {
    slots(assignment).map(|(_, index)| index.0).collect()
}

impl Play {
    fn name(who: usize) -> String {
        format!("m{who}")
    }

    fn step(&mut self, step: &Step) {
        match *step {
            // Those with odd numbers speak the classic protocol.
            Step::Go(who) if who % 2 == 1 => self.go_classic(who),
            Step::Go(who) => self.go(who),
            Step::GiveUp(who) => {
                let client = &mut self.clients[who];
                client.owned.clone_from(&client.given);
            }
            Step::Leave(who) => {
                let name = Self::name(who);
                if who % 2 == 1 {
                    let members = vec![(name.into(), None)];
                    self.world.ask(Request::Leave(Leave { group: "g".into(), members }));
                } else {
                    let _ = self.world.beat(says(&name, Intent::Leave, None));
                }
                self.clients[who] = Client::default();
            }
            Step::Pass(seconds) => self.world.pass(Duration::from_secs(seconds)),
            Step::Partitions(count) => self.world.follow(image(&[("t", 1, count)])),
        }
        self.check();
    }

    fn go(&mut self, who: usize) {
        let client = &mut self.clients[who];
        let owned: Vec<i32> = client.owned.iter().copied().collect();
        let beat = if client.is_member {
            owns(&Self::name(who), client.epoch, of(1, &owned))
        } else {
            joins(&Self::name(who), &["t"])
        };
        match self.world.beat(beat) {
            Err(_) => *client = Client::default(),
            Ok(beaten) => {
                client.is_member = true;
                client.epoch = beaten.epoch.0;
                if let Some(assignment) = beaten.assignment {
                    client.given = indices(&assignment);
                }
                if client.owned.is_subset(&client.given) {
                    client.owned.clone_from(&client.given);
                }
            }
        }
    }

    fn go_classic(&mut self, who: usize) {
        let name = Self::name(who);
        let client = self.clients[who].clone();
        if client.is_member {
            match self.world.lives(&name, client.epoch) {
                ErrorCode::None => return,
                ErrorCode::RebalanceInProgress => {}
                _ => {
                    self.clients[who] = Client::default();
                    return;
                }
            }
        }
        let owned: Vec<i32> = client.owned.iter().copied().collect();
        let mut join = classic(&name, &owned);
        join.requires_member_id = false;
        let joined = self.world.joins_classic(join);
        let synced = joined.error.ok().and_then(|()| self.world.syncs(&name, joined.generation.0));
        let client = &mut self.clients[who];
        match synced {
            Ok(assignment) => {
                client.is_member = true;
                client.epoch = joined.generation.0;
                client.given = assignment.into_iter().collect();
                if client.owned.is_subset(&client.given) {
                    client.owned.clone_from(&client.given);
                }
            }
            Err(ErrorCode::RebalanceInProgress) => {}
            Err(_) => *client = Client::default(),
        }
    }

    fn check(&self) {
        let Some(group) = self.world.shard.consumer_group("g") else { return };
        let mut readers = BTreeMap::new();
        for (who, client) in self.clients.iter().enumerate() {
            if group.member(&Self::name(who)).is_some() {
                for index in &client.owned {
                    assert_eq!(readers.insert(*index, who), None, "{index} is read by {who}, too");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn members_of_both_protocols_never_read_the_same_and_all_arrive(
        steps in proptest::collection::vec(any_step(), 1..80),
    ) {
        let mut world = World::with_topics(&[("t", 1, 4)]);
        world.told(joins("m0", &["t"]));
        let mut play = Play { world, clients: vec![Client::default(); 5] };
        for step in &steps {
            play.step(step);
            // It is there all the time, lest the group become a classic one.
            play.step(&Step::Go(0));
        }
        let next = play.world.successor();
        let (next, ours) = (next.shard.consumer_group("g"), play.world.shard.consumer_group("g"));
        prop_assert_eq!(next, ours);
        for _ in 0..20 {
            for who in 0..5 {
                play.step(&Step::GiveUp(who));
                play.step(&Step::Go(who));
            }
        }
        let group = play.world.group();
        prop_assert_eq!(group.state_name(), "Stable");
        prop_assert!(group.members.values().all(|it| it.current.epoch > Epoch(0)));
        for (who, client) in play.clients.iter().enumerate() {
            let target = group.member(&Play::name(who)).map(|(it, _)| indices(&it.target));
            prop_assert_eq!(Some(&client.owned), target.as_ref(), "{}", who);
        }
        let all: BTreeSet<PartitionIndex> =
            group.holders.keys().map(|(_, index)| *index).collect();
        prop_assert_eq!(all.len(), play.clients.iter().map(|it| it.owned.len()).sum::<usize>());
    }
}
