//! What a member asks, and what it makes of the answers. Pure.

use protocol::api::group::JoinGroupResponseMember;
use protocol::api::metadata::{MetadataResponse, MetadataResponsePartition, MetadataResponseTopic};
use protocol::rng::Rng;

use super::*;

const INTERVAL: Duration = Duration::from_secs(3);

fn member(instance_id: Option<&str>) -> Member {
    let settings = Settings {
        group_id: "billing".into(),
        instance_id: instance_id.map(str::to_owned),
        session_timeout: Duration::from_secs(45),
        rebalance_timeout: Duration::from_secs(300),
        heartbeat_interval: INTERVAL,
        assignor: Assignor::Range,
        rack: String::new(),
    };
    let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), Rng::new(1));
    let mut member = Member::new(settings, backoff);
    member.subscribe(["orders".into()].into());
    member
}

fn cluster(partition_count: i32) -> Cluster {
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        ..MetadataResponsePartition::default()
    };
    let topic = MetadataResponseTopic {
        name: Some("orders".to_owned()),
        partitions: (0..partition_count).map(partition).collect(),
        ..MetadataResponseTopic::default()
    };
    let mut cluster = Cluster::default();
    let response = MetadataResponse { topics: vec![topic], ..MetadataResponse::default() };
    cluster.update(Duration::ZERO, &response);
    cluster
}

fn plan(member: &mut Member, now: Duration) -> Vec<Ask> {
    let mut asks = Vec::new();
    member.plan(now, true, &BTreeSet::new(), &cluster(4), &mut asks);
    asks
}

fn join(member: &mut Member, now: Duration) -> (Attempt, JoinGroupRequest) {
    match plan(member, now).as_slice() {
        [Ask::Join(attempt, request)] => (*attempt, request.clone()),
        other => panic!("{other:?}"),
    }
}

fn joined(leader: &str, members: Vec<JoinGroupResponseMember>) -> JoinGroupResponse {
    JoinGroupResponse {
        generation_id: 7,
        protocol_name: Some("range".to_owned()),
        leader: leader.to_owned(),
        member_id: "me".to_owned(),
        members,
        ..JoinGroupResponse::default()
    }
}

fn refused(code: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse { error_code: code.to_wire(), ..JoinGroupResponse::default() }
}

fn assignment(indexes: &[i32]) -> SyncGroupResponse {
    let partitions = indexes.iter().map(|it| TopicPartition::new("orders", *it)).collect();
    let assignment =
        ConsumerProtocolAssignment { assigned_partitions: by_topic(&partitions), user_data: None };
    let assignment = consumer_protocol::encode(0, &assignment).unwrap();
    SyncGroupResponse { assignment, ..SyncGroupResponse::default() }
}

/// A follower in generation 7 that owns partition 1.
fn stable(instance_id: Option<&str>) -> Member {
    let mut member = member(instance_id);
    let (attempt, _) = join(&mut member, Duration::ZERO);
    let (_, sync) = member.on_join(Duration::ZERO, attempt, Ok(joined("other", Vec::new())));
    let Some(Ask::Sync(attempt, _)) = sync else { panic!("{sync:?}") };
    let change = member.on_sync(Duration::ZERO, attempt, Ok(assignment(&[1])));
    assert!(matches!(change, Change::Assigned(it) if it.len() == 1));
    member
}

fn heartbeat(member: &mut Member, now: Duration, code: ErrorCode) -> Change {
    let asks = plan(member, now);
    let [Ask::Heartbeat(attempt, request)] = asks.as_slice() else { panic!("{asks:?}") };
    assert_eq!((request.generation_id, request.member_id.as_str()), (7, "me"));
    let answer = HeartbeatResponse { error_code: code.to_wire(), ..HeartbeatResponse::default() };
    member.on_heartbeat(now, *attempt, Ok(answer))
}

#[test]
fn a_newcomer_joins_again_at_once_with_the_member_id_it_is_given() {
    let mut member = member(None);
    let (attempt, request) = join(&mut member, Duration::ZERO);
    assert_eq!(request.member_id, "");
    let given =
        JoinGroupResponse { member_id: "given".to_owned(), ..refused(ErrorCode::MemberIdRequired) };
    let (change, _) = member.on_join(Duration::ZERO, attempt, Ok(given));
    assert!(matches!(change, Change::Nothing));
    assert_eq!(join(&mut member, Duration::ZERO).1.member_id, "given");
}

#[test]
fn the_leader_assigns_to_all_members_and_the_followers_to_none() {
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["orders".to_owned()],
        ..ConsumerProtocolSubscription::default()
    };
    let of = |id: &str| JoinGroupResponseMember {
        member_id: id.to_owned(),
        metadata: consumer_protocol::encode(1, &subscription).unwrap(),
        ..JoinGroupResponseMember::default()
    };
    let mut member = member(None);
    let (attempt, _) = join(&mut member, Duration::ZERO);
    let answer = joined("me", vec![of("me"), of("other")]);
    let (_, sync) = member.on_join(Duration::ZERO, attempt, Ok(answer));
    assert!(sync.is_none(), "it waits to know the topics");
    let mut asks = Vec::new();
    member.plan(Duration::ZERO, false, &BTreeSet::new(), &Cluster::default(), &mut asks);
    assert!(asks.is_empty());
    let asks = plan(&mut member, Duration::ZERO);
    let [Ask::Sync(_, request)] = asks.as_slice() else { panic!("{asks:?}") };
    let given: Vec<_> = request
        .assignments
        .iter()
        .map(|it| {
            let assignment: ConsumerProtocolAssignment =
                consumer_protocol::decode(it.assignment.clone()).unwrap();
            (it.member_id.as_str(), assignment.assigned_partitions[0].partitions.clone())
        })
        .collect();
    assert_eq!(given, [("me", vec![0, 1]), ("other", vec![2, 3])]);
}

#[test]
fn a_leader_joins_again_when_a_topic_grew() {
    let subscription =
        ConsumerProtocolSubscription { topics: vec!["orders".to_owned()], ..Default::default() };
    let me = JoinGroupResponseMember {
        member_id: "me".to_owned(),
        metadata: consumer_protocol::encode(1, &subscription).unwrap(),
        ..JoinGroupResponseMember::default()
    };
    let mut member = member(None);
    let (attempt, _) = join(&mut member, Duration::ZERO);
    drop(member.on_join(Duration::ZERO, attempt, Ok(joined("me", vec![me]))));
    let asks = plan(&mut member, Duration::ZERO);
    let [Ask::Sync(attempt, _)] = asks.as_slice() else { panic!("{asks:?}") };
    drop(member.on_sync(Duration::ZERO, *attempt, Ok(assignment(&[0, 1, 2, 3]))));
    assert!(plan(&mut member, Duration::ZERO).is_empty());
    let mut asks = Vec::new();
    member.plan(Duration::ZERO, false, &BTreeSet::new(), &cluster(5), &mut asks);
    assert!(member.wants_to_join());
}

#[test]
fn heartbeats_go_on_while_it_prepares_to_join_again() {
    let mut member = stable(None);
    assert!(plan(&mut member, INTERVAL / 2).is_empty());
    let change = heartbeat(&mut member, INTERVAL, ErrorCode::RebalanceInProgress);
    assert!(matches!(change, Change::Nothing));
    assert!(member.wants_to_join());
    let mut asks = Vec::new();
    member.plan(2 * INTERVAL, false, &BTreeSet::new(), &cluster(4), &mut asks);
    assert!(matches!(asks.as_slice(), [Ask::Heartbeat(..)]), "{asks:?}");
    let (_, request) = join(&mut member, 2 * INTERVAL);
    assert_eq!(request.member_id, "me");
}

#[test]
fn a_member_that_is_not_known_any_more_has_lost_what_it_owned() {
    for (code, member_id) in
        [(ErrorCode::UnknownMemberId, ""), (ErrorCode::IllegalGeneration, "me")]
    {
        let mut member = stable(None);
        let change = heartbeat(&mut member, INTERVAL, code);
        assert!(matches!(change, Change::Lost), "{code}");
        assert_eq!(join(&mut member, INTERVAL).1.member_id, member_id);
    }
}

#[test]
fn a_fenced_instance_does_not_come_back_by_itself() {
    let mut member = stable(Some("till-1"));
    let change = heartbeat(&mut member, INTERVAL, ErrorCode::FencedInstanceId);
    let Change::Refused(ConsumeError::GroupRefused { code, .. }) = change else {
        panic!("{change:?}");
    };
    assert_eq!(code, ErrorCode::FencedInstanceId);
    assert!(plan(&mut member, 100 * INTERVAL).is_empty());
    member.subscribe(["orders".into()].into());
    join(&mut member, 100 * INTERVAL);
}

#[test]
fn a_coordinator_that_moves_or_loads_costs_a_wait_and_nothing_else() {
    for code in [ErrorCode::NotCoordinator, ErrorCode::CoordinatorLoadInProgress] {
        let mut member = stable(None);
        let change = heartbeat(&mut member, INTERVAL, code);
        assert!(matches!(change, Change::Nothing));
        assert!(!member.wants_to_join());
        let again_at = member.wake_at().unwrap();
        assert!(again_at < INTERVAL * 2, "sooner than usual");
        assert!(matches!(heartbeat(&mut member, again_at, ErrorCode::None), Change::Nothing));
    }
}

#[test]
fn an_answer_to_a_question_of_the_past_does_not_count() {
    let mut member = member(None);
    let (attempt, _) = join(&mut member, Duration::ZERO);
    member.subscribe(["others".into()].into());
    let (_, sync) = member.on_join(Duration::ZERO, attempt, Ok(joined("other", Vec::new())));
    assert!(sync.is_none());
    let (_, request) = join(&mut member, Duration::ZERO);
    let subscription: ConsumerProtocolSubscription =
        consumer_protocol::decode(request.protocols[0].metadata.clone()).unwrap();
    assert_eq!(subscription.topics, ["others"]);
}

#[test]
fn a_dynamic_member_leaves_and_a_static_one_may_come_back() {
    let leave = stable(None).leave(true, "closed");
    assert!(matches!(leave, Some(Ask::Leave(it)) if it.member_id == "me"));
    assert!(stable(Some("till-1")).leave(true, "closed").is_none());
}
