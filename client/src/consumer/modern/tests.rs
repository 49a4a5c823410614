//! What a member of a coordinator's group asks, and what it makes of the answers. Pure.

use proptest::prelude::*;
use protocol::api::metadata::{MetadataResponse, MetadataResponsePartition, MetadataResponseTopic};
use protocol::rng::Rng;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(5);
const ORDERS: TopicId = TopicId([1; 16]);
const BILLS: TopicId = TopicId([2; 16]);

fn member(instance_id: Option<&str>) -> Modern {
    let settings = Settings {
        group_id: "billing".into(),
        instance_id: instance_id.map(str::to_owned),
        member_id: "me".to_owned(),
        rebalance_timeout: 60 * SECOND,
        assignor: Some("uniform".to_owned()),
        rack: "cellar".to_owned(),
        max_poll_interval: 300 * SECOND,
    };
    let backoff = Backoff::new(SECOND / 10, SECOND, Rng::new(1));
    let mut member = Modern::new(settings, backoff);
    member.subscribe(Duration::ZERO, ["orders".into()].into());
    member
}

fn cluster(topics: &[(&str, TopicId)]) -> Cluster {
    let topics = topics.iter().map(|&(name, topic_id)| MetadataResponseTopic {
        name: Some(name.to_owned()),
        topic_id,
        partitions: (0..4)
            .map(|partition_index| MetadataResponsePartition {
                partition_index,
                ..MetadataResponsePartition::default()
            })
            .collect(),
        ..MetadataResponseTopic::default()
    });
    let response = MetadataResponse { topics: topics.collect(), ..MetadataResponse::default() };
    let mut cluster = Cluster::default();
    cluster.update(Duration::ZERO, &response);
    cluster
}

fn known() -> Cluster {
    cluster(&[("orders", ORDERS), ("bills", BILLS)])
}

fn ask(member: &mut Modern, now: Duration) -> (Attempt, ConsumerGroupHeartbeatRequest) {
    let mut asks = Vec::new();
    member.plan(now, &mut asks);
    member.check();
    match asks.as_slice() {
        [Ask::Consumer(attempt, request)] => (*attempt, request.clone()),
        other => panic!("{other:?}"),
    }
}

/// At the time when there is something to ask.
fn ask_next(member: &mut Modern) -> (Attempt, ConsumerGroupHeartbeatRequest) {
    let at = member.wake_at().unwrap();
    ask(member, at)
}

fn silent(member: &mut Modern, now: Duration) {
    let mut asks = Vec::new();
    member.plan(now, &mut asks);
    member.check();
    assert!(asks.is_empty(), "{asks:?}");
}

fn told(epoch: i32, assigned: Option<&[(TopicId, &[i32])]>) -> ConsumerGroupHeartbeatResponse {
    let one = |&(topic_id, partitions): &(TopicId, &[i32])| HeartbeatTopicPartitions {
        topic_id,
        partitions: partitions.to_vec(),
    };
    ConsumerGroupHeartbeatResponse {
        member_id: Some("me".to_owned()),
        member_epoch: epoch,
        heartbeat_interval_ms: 5_000,
        assignment: assigned
            .map(|it| HeartbeatAssignment { topic_partitions: it.iter().map(one).collect() }),
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

fn refused(code: ErrorCode) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code: code.to_wire(),
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

fn answer(
    member: &mut Modern,
    now: Duration,
    attempt: Attempt,
    answer: ConsumerGroupHeartbeatResponse,
) -> Option<ConsumeError> {
    let error = member.on_heartbeat(now, attempt, Ok(answer), &known());
    member.check();
    error
}

fn assigned(member: &mut Modern) -> Vec<String> {
    match member.tell() {
        Some(Tell::Assigned(added)) => added.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

fn revoked(member: &mut Modern) -> (Vec<String>, bool) {
    match member.tell() {
        Some(Tell::Revoked(it)) => {
            (it.partitions.iter().map(ToString::to_string).collect(), it.lost)
        }
        other => panic!("{other:?}"),
    }
}

/// A member with epoch 3 that owns orders-0 and orders-1, and has said so.
fn stable(instance_id: Option<&str>) -> Modern {
    let mut member = member(instance_id);
    let (attempt, _) = ask(&mut member, Duration::ZERO);
    answer(&mut member, Duration::ZERO, attempt, told(3, Some(&[(ORDERS, &[0, 1])])));
    assert_eq!(assigned(&mut member), ["orders-0", "orders-1"]);
    let (attempt, request) = ask(&mut member, Duration::ZERO);
    assert_eq!(request.topic_partitions.unwrap()[0].partitions, [0, 1]);
    answer(&mut member, Duration::ZERO, attempt, told(3, None));
    member
}

#[test]
fn it_joins_with_epoch_0_telling_everything_and_then_only_what_changes() {
    let mut member = member(None);
    let (attempt, request) = ask(&mut member, Duration::ZERO);
    assert_eq!((request.member_epoch, &*request.member_id), (0, "me"));
    assert_eq!(request.subscribed_topic_names, Some(vec!["orders".to_owned()]));
    assert_eq!(request.topic_partitions, Some(Vec::new()));
    assert_eq!(request.rebalance_timeout_ms, 60_000);
    assert_eq!(request.server_assignor.as_deref(), Some("uniform"));
    assert_eq!(request.rack_id.as_deref(), Some("cellar"));
    silent(&mut member, INTERVAL);
    answer(&mut member, Duration::ZERO, attempt, told(1, Some(&[])));
    assert_eq!(assigned(&mut member), Vec::<String>::new());
    silent(&mut member, INTERVAL / 2);
    let (_, request) = ask(&mut member, INTERVAL);
    assert_eq!(request.member_epoch, 1);
    assert_eq!(request.subscribed_topic_names, None);
    assert_eq!(request.topic_partitions, None);
    assert_eq!(request.rebalance_timeout_ms, -1);
    assert_eq!(request.server_assignor, None);
}

#[test]
fn what_is_taken_away_is_kept_until_the_caller_gave_it_up_and_the_rest_is_never_touched() {
    let mut member = stable(None);
    let (attempt, _) = ask(&mut member, INTERVAL);
    answer(&mut member, INTERVAL, attempt, told(3, Some(&[(ORDERS, &[0])])));
    assert_eq!(revoked(&mut member), (vec!["orders-1".to_owned()], false));
    assert!(member.tell().is_none(), "told once");
    // Heartbeats go on, and say nothing of it.
    let (attempt, request) = ask(&mut member, 2 * INTERVAL);
    assert_eq!(request.topic_partitions, None);
    answer(&mut member, 2 * INTERVAL, attempt, told(3, None));
    member.revoked().unwrap();
    let (attempt, request) = ask(&mut member, 2 * INTERVAL);
    assert_eq!(request.topic_partitions.unwrap()[0].partitions, [0]);
    answer(&mut member, 2 * INTERVAL, attempt, told(4, None));
    assert_eq!(member.identity().generation, GenerationId(4));
    assert_eq!(assigned(&mut member), Vec::<String>::new());
    silent(&mut member, 2 * INTERVAL);
}

#[test]
fn a_newer_assignment_replaces_one_that_the_caller_has_not_heard_of() {
    let mut member = stable(None);
    let (attempt, _) = ask(&mut member, INTERVAL);
    answer(&mut member, INTERVAL, attempt, told(3, Some(&[(ORDERS, &[0])])));
    let (attempt, _) = ask(&mut member, 2 * INTERVAL);
    answer(&mut member, 2 * INTERVAL, attempt, told(5, Some(&[(ORDERS, &[0, 1, 2])])));
    assert_eq!(assigned(&mut member), ["orders-2"], "nothing was given up");
}

#[test]
fn a_member_that_is_fenced_gives_everything_up_before_it_joins_anew() {
    for code in [ErrorCode::UnknownMemberId, ErrorCode::FencedMemberEpoch] {
        let mut member = stable(None);
        let (attempt, _) = ask(&mut member, INTERVAL);
        assert!(answer(&mut member, INTERVAL, attempt, refused(code)).is_none());
        silent(&mut member, 2 * INTERVAL);
        let before = member.identity().clone();
        assert_eq!(before.generation, GenerationId(3), "commits must be refused");
        let all = vec!["orders-0".to_owned(), "orders-1".to_owned()];
        assert_eq!(revoked(&mut member), (all, true));
        silent(&mut member, 2 * INTERVAL);
        member.revoked().unwrap();
        let (_, request) = ask(&mut member, 2 * INTERVAL);
        assert_eq!((request.member_epoch, &*request.member_id), (0, "me"));
        assert_eq!(request.topic_partitions, Some(Vec::new()));
    }
}

#[test]
fn after_a_lost_answer_everything_is_told_again() {
    let mut member = stable(None);
    let (attempt, _) = ask(&mut member, INTERVAL);
    let lost = RequestError::NoLeader { subject: "coordinator".to_owned() };
    assert!(member.on_heartbeat(INTERVAL, attempt, Err(lost), &known()).is_none());
    silent(&mut member, INTERVAL);
    let (_, request) = ask_next(&mut member);
    assert_eq!(request.member_epoch, 3);
    assert_eq!(request.subscribed_topic_names, Some(vec!["orders".to_owned()]));
    assert_eq!(request.topic_partitions.unwrap()[0].partitions, [0, 1]);
    assert_eq!(request.rebalance_timeout_ms, 60_000);
}

#[test]
fn a_coordinator_that_moves_or_loads_costs_a_wait_and_nothing_else() {
    for code in [ErrorCode::NotCoordinator, ErrorCode::CoordinatorLoadInProgress] {
        let mut member = stable(None);
        let (attempt, _) = ask(&mut member, INTERVAL);
        assert!(answer(&mut member, INTERVAL, attempt, refused(code)).is_none());
        assert!(member.tell().is_none());
        let (_, request) = ask_next(&mut member);
        assert_eq!(request.member_epoch, 3);
    }
}

#[test]
fn a_refusal_for_good_is_told_and_ends_only_with_a_new_subscription() {
    for code in [ErrorCode::FencedInstanceId, ErrorCode::UnreleasedInstanceId] {
        let mut member = stable(Some("till-1"));
        let (attempt, _) = ask(&mut member, INTERVAL);
        let error = answer(&mut member, INTERVAL, attempt, refused(code)).unwrap();
        assert!(matches!(error, ConsumeError::GroupRefused { code: it, .. } if it == code));
        assert!(revoked(&mut member).1, "what it owned is lost");
        member.revoked().unwrap();
        silent(&mut member, 100 * INTERVAL);
        member.subscribe(100 * INTERVAL, ["orders".into()].into());
        assert_eq!(ask(&mut member, 100 * INTERVAL).1.member_epoch, 0);
    }
}

#[test]
fn a_topic_without_a_name_waits_until_metadata_tells_it() {
    let mut member = member(None);
    let (attempt, _) = ask(&mut member, Duration::ZERO);
    let response = told(1, Some(&[(ORDERS, &[0]), (BILLS, &[1])]));
    let some = cluster(&[("orders", ORDERS)]);
    member.on_heartbeat(Duration::ZERO, attempt, Ok(response), &some);
    assert_eq!(*member.nameless(), BTreeSet::from([BILLS]));
    assert_eq!(assigned(&mut member), ["orders-0"]);
    assert!(member.tell().is_none());
    member.resolve(&known());
    assert!(member.nameless().is_empty());
    assert_eq!(assigned(&mut member), ["bills-1"]);
}

#[test]
fn a_topic_that_was_made_anew_is_another() {
    let mut member = stable(None);
    let (attempt, _) = ask(&mut member, INTERVAL);
    let response = told(4, Some(&[(TopicId([9; 16]), &[0])]));
    let renewed = cluster(&[("orders", TopicId([9; 16]))]);
    member.on_heartbeat(INTERVAL, attempt, Ok(response), &renewed);
    assert_eq!(revoked(&mut member).0, ["orders-0", "orders-1"]);
    member.revoked().unwrap();
    assert_eq!(assigned(&mut member), ["orders-0"]);
}

#[test]
fn a_caller_that_does_not_poll_leaves_and_comes_back_with_its_next_poll() {
    for (instance_id, epoch) in [(None, -1), (Some("till-1"), -2)] {
        let mut member = stable(instance_id);
        let mut asks = Vec::new();
        member.plan(300 * SECOND, &mut asks);
        let [Ask::ConsumerLeave(request)] = asks.as_slice() else { panic!("{asks:?}") };
        assert_eq!(request.member_epoch, epoch);
        assert_eq!(request.instance_id.as_deref(), instance_id);
        assert!(revoked(&mut member).1);
        silent(&mut member, 400 * SECOND);
        assert!(member.polled(500 * SECOND));
        member.revoked().unwrap();
        assert_eq!(ask(&mut member, 500 * SECOND).1.member_epoch, 0);
    }
}

#[test]
fn leaving_is_told_once_there_may_be_a_member() {
    assert!(member(None).unsubscribe().is_none());
    let mut joining = member(None);
    ask(&mut joining, Duration::ZERO);
    assert!(matches!(joining.unsubscribe(), Some(Ask::ConsumerLeave(it)) if it.member_epoch == -1));
    let leave = stable(Some("till-1")).unsubscribe();
    assert!(matches!(leave, Some(Ask::ConsumerLeave(it)) if it.member_epoch == -2));
}

#[test]
fn a_regular_expression_is_told_and_taken_back() {
    let mut member = stable(None);
    member.subscribe_regex(INTERVAL, "ord.*".to_owned());
    let (attempt, request) = ask(&mut member, INTERVAL);
    assert_eq!(request.subscribed_topic_names, Some(Vec::new()));
    assert_eq!(request.subscribed_topic_regex.as_deref(), Some("ord.*"));
    answer(&mut member, INTERVAL, attempt, told(4, None));
    member.subscribe(INTERVAL, ["orders".into()].into());
    let (_, request) = ask(&mut member, INTERVAL);
    assert_eq!(request.subscribed_topic_regex.as_deref(), Some(""));
    assert_eq!(request.subscribed_topic_names, Some(vec!["orders".to_owned()]));
}

#[test]
fn a_stale_commit_brings_the_next_heartbeat_forward() {
    let mut member = stable(None);
    let identity = member.identity().clone();
    let refused = member.on_commit_refused(SECOND, &identity, ErrorCode::StaleMemberEpoch);
    assert!(refused.is_none());
    assert_eq!(ask(&mut member, SECOND).1.member_epoch, 3);
    let fenced = member.on_commit_refused(SECOND, &identity, ErrorCode::UnknownMemberId);
    assert!(fenced.is_none());
    assert!(revoked(&mut member).1);
}

/// What may happen to a member, in any order.
#[derive(Clone, Debug)]
enum Step {
    Wait(u32),
    Answer { epoch_grows: bool, assignment: Option<Vec<(bool, i32)>> },
    Fail(u8),
    Late,
    Poll,
    Tell,
    GiveUp,
    Subscribe(bool),
    Unsubscribe,
    Learn,
}

fn step() -> impl Strategy<Value = Step> {
    let partitions = prop::collection::vec((any::<bool>(), 0..4_i32), 0..5);
    prop_oneof![
        2 => (0..20_u32).prop_map(Step::Wait),
        6 => (any::<bool>(), prop::option::weighted(0.7, partitions))
            .prop_map(|(epoch_grows, assignment)| Step::Answer { epoch_grows, assignment }),
        1 => (0..6_u8).prop_map(Step::Fail),
        1 => Just(Step::Late),
        2 => Just(Step::Poll),
        4 => Just(Step::Tell),
        4 => Just(Step::GiveUp),
        1 => any::<bool>().prop_map(Step::Subscribe),
        1 => Just(Step::Unsubscribe),
        1 => Just(Step::Learn),
    ]
}

/// A member, and what its caller and its coordinator know of it.
struct World {
    member: Modern,
    cluster: Cluster,
    now: Duration,
    under_way: Option<Attempt>,
    past: Vec<Attempt>,
    epoch: i32,
    /// What the caller believes to own, by what it was told alone.
    believed: BTreeSet<TopicPartition>,
    told: Option<Revoked>,
}

impl World {
    fn new() -> Self {
        Self {
            member: member(None),
            cluster: cluster(&[("orders", ORDERS)]),
            now: Duration::ZERO,
            under_way: None,
            past: Vec::new(),
            epoch: 0,
            believed: BTreeSet::new(),
            told: None,
        }
    }

    /// All that a heartbeat says is what the caller believes, and it joins owning nothing.
    fn plan(&mut self) {
        let mut asks = Vec::new();
        self.member.plan(self.now, &mut asks);
        for ask in asks {
            match ask {
                Ask::Consumer(attempt, request) => {
                    assert!(self.under_way.is_none(), "one at a time");
                    if let Some(said) = &request.topic_partitions {
                        let count: usize = said.iter().map(|it| it.partitions.len()).sum();
                        assert_eq!(count, self.believed.len());
                    }
                    if request.member_epoch == 0 {
                        assert!(self.believed.is_empty());
                        assert_eq!(request.topic_partitions, Some(Vec::new()));
                    }
                    self.under_way = Some(attempt);
                }
                Ask::ConsumerLeave(_) => self.past.extend(self.under_way.take()),
                other => panic!("{other:?}"),
            }
        }
    }

    fn answer(&mut self, attempt: Attempt, response: ConsumerGroupHeartbeatResponse) {
        self.member.on_heartbeat(self.now, attempt, Ok(response), &self.cluster);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Wait(seconds) => self.now += seconds * SECOND,
            Step::Answer { epoch_grows, assignment } => {
                let Some(attempt) = self.under_way.take() else { return };
                self.epoch += i32::from(epoch_grows);
                let mut by_id: BTreeMap<TopicId, BTreeSet<i32>> = BTreeMap::new();
                for (is_orders, index) in assignment.iter().flatten() {
                    let id = if *is_orders { ORDERS } else { BILLS };
                    by_id.entry(id).or_default().insert(*index);
                }
                let by_id: Vec<(TopicId, Vec<i32>)> =
                    by_id.into_iter().map(|(id, of)| (id, of.into_iter().collect())).collect();
                let by_id: Vec<_> = by_id.iter().map(|(id, of)| (*id, of.as_slice())).collect();
                let assigned = assignment.is_some().then_some(by_id.as_slice());
                self.answer(attempt, told(self.epoch.max(1), assigned));
            }
            Step::Fail(which) => {
                let Some(attempt) = self.under_way.take() else { return };
                let codes = [
                    ErrorCode::UnknownMemberId,
                    ErrorCode::FencedMemberEpoch,
                    ErrorCode::NotCoordinator,
                    ErrorCode::FencedInstanceId,
                    ErrorCode::TopicAuthorizationFailed,
                    ErrorCode::CoordinatorLoadInProgress,
                ];
                self.answer(attempt, refused(codes[usize::from(which)]));
            }
            Step::Late => {
                let Some(attempt) = self.past.pop() else { return };
                self.answer(attempt, told(99, Some(&[(ORDERS, &[0, 1, 2, 3])])));
                assert_ne!(self.member.identity().generation, GenerationId(99));
            }
            Step::Poll => {
                self.member.polled(self.now);
            }
            Step::Tell => self.tell(),
            Step::GiveUp => {
                let told = self.told.take();
                assert_eq!(self.member.revoked(), told);
                for partition in told.into_iter().flat_map(|it| it.partitions) {
                    assert!(self.believed.remove(&partition));
                }
            }
            Step::Subscribe(both) => {
                let topics: &[&str] = if both { &["orders", "bills"] } else { &["orders"] };
                let topics = topics.iter().map(|&it| it.into()).collect();
                self.member.subscribe(self.now, topics);
            }
            Step::Unsubscribe => {
                self.past.extend(self.under_way.take());
                self.member.unsubscribe();
                self.believed = BTreeSet::new();
                self.told = None;
            }
            Step::Learn => {
                self.cluster = known();
                self.member.resolve(&self.cluster);
            }
        }
        // A phase that was left takes its question with it.
        if self.under_way.is_some() && !self.member.is_heartbeating {
            self.past.extend(self.under_way.take());
        }
    }

    fn tell(&mut self) {
        match self.member.tell() {
            Some(Tell::Revoked(revoked)) => {
                assert!(self.told.is_none(), "one after the other");
                assert!(revoked.partitions.is_subset(&self.believed));
                self.told = Some(revoked);
            }
            Some(Tell::Assigned(added)) => {
                assert!(self.told.is_none(), "first it gives up");
                assert!(added.is_disjoint(&self.believed));
                self.believed.extend(added);
            }
            None => {}
        }
    }
}

proptest! {
    /// Whatever the coordinator answers, and whenever the caller polls: the caller is told of
    /// each change exactly once, gives up before it is given, and the coordinator hears only of
    /// what the caller knows of.
    #[test]
    fn no_partition_is_ever_owned_without_right_or_without_the_caller(
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.plan();
            world.member.check();
            let owned: BTreeSet<_> = world.member.owned.keys().cloned().collect();
            assert_eq!(owned, world.believed);
        }
        // Left in peace, everybody agrees.
        for _ in 0..4 {
            world.take(Step::Wait(400));
            world.take(Step::Poll);
            world.plan();
            let attempt = world.under_way.take();
            if let Some(attempt) = attempt {
                world.answer(attempt, told(100, Some(&[(ORDERS, &[2])])));
            }
            for _ in 0..3 {
                world.take(Step::Tell);
                world.take(Step::GiveUp);
            }
            world.member.check();
        }
        if world.member.phase == Phase::Member {
            prop_assert_eq!(world.believed, BTreeSet::from([TopicPartition::new("orders", 2)]));
        }
    }
}
